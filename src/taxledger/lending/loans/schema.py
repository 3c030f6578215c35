"""The tables of loans as they are now; how a database came to have them: ``migrations``.

    loans         one row a loan: where it is (compare-and-set on ``sequence``), and what lists show of it
    loan_events   what happened, append-only, hash-chained (``events.py``)
    loan_files    consent, evidence, decision: by SHA-256, in the same transaction as the event that names them

Money is BIGINT in minor units, instants BIGINT milliseconds, dates text ``YYYY-MM-DD``.
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["EVENTS", "FILES", "LOANS", "METADATA"]

METADATA = sa.MetaData()

LOANS = sa.Table(
    "loans",
    METADATA,
    sa.Column("id", sa.String(28), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("head", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("subject", sa.String(256), nullable=False),
    sa.Column("product", sa.String(64), nullable=False),
    sa.Column("opened_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String(3), nullable=True),
    sa.Column("line", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("principal", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("loans_state", "state"),
    sa.Index("loans_subject", "subject"),
)

EVENTS = sa.Table(
    "loan_events",
    METADATA,
    sa.Column("loan", sa.String(28), sa.ForeignKey("loans.id"), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("key", sa.String(160), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("previous", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("key", name="loan_events_key"),
)

FILES = sa.Table(
    "loan_files",
    METADATA,
    sa.Column("loan", sa.String(28), sa.ForeignKey("loans.id"), primary_key=True),
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
