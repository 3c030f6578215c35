"""What lists of loans show of money, so that they need not read every event: currency, line, principal.

Existing loans get theirs from their events. The shapes of bodies are written out here as they were at this
revision: what the code calls them later is none of this file's business.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from taxledger.ledger import canonical

revision = "r0002"
down_revision = "r0001"


def upgrade() -> None:
    op.add_column("loans", sa.Column("currency", sa.String(3), nullable=True))
    for name in ("line", "principal"):
        op.add_column("loans", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("loans_subject", "loans", ["subject"])
    connection = op.get_bind()
    for loan in connection.execute(sa.text("SELECT id FROM loans ORDER BY id")).scalars().all():
        money = _money(connection, loan)
        connection.execute(
            sa.text(
                "UPDATE loans SET currency = :currency, line = :line, principal = :principal WHERE id = :id"
            ),
            {"id": loan, **money},
        )


def _money(connection: sa.Connection, loan: str) -> dict[str, Any]:
    money: dict[str, Any] = {"currency": None, "line": 0, "principal": 0}
    ordered = 0
    found = connection.execute(
        sa.text("SELECT kind, body FROM loan_events WHERE loan = :loan ORDER BY sequence"), {"loan": loan}
    )
    for kind, body in found:
        value = canonical.decode(bytes(body))
        if kind == "accepted":  # [1, contract, lender key]; a contract holds [1, offer, acceptance, when]
            _, offer, acceptance, _ = canonical.decode(canonical.decode(value[1])[2])
            terms = canonical.decode(offer)
            currency, limit = terms[7]
            revolving = terms[9][1]
            amount = canonical.decode(canonical.decode(acceptance)[2])[2]
            money |= {"currency": currency, "line": limit if revolving else amount}
        elif kind == "draw_ordered":  # [1, number, amount, value date, order]
            ordered = value[2]
        elif kind == "paid":
            money["principal"] += ordered
        elif kind == "repaid":  # [1, reference, amount, value date, interest, principal]
            money["principal"] -= value[5]
    return money
