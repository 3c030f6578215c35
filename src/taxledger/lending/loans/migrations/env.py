"""What Alembic runs: all revisions in the one transaction that ``store.open_store`` began, DDL included."""

from __future__ import annotations

from alembic import context

from taxledger.lending.loans.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
    version_table="loans_revision",
)
context.run_migrations()
