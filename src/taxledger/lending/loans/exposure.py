"""One line of a product for each enterprise: what it is lent by its sales or taxes, it is lent once.

A decision knows evidence, not the lender's other loans. Without this an enterprise that applies twice is offered the
whole limit twice, and may accept both. Where a product lends against the records that are pledged, the ledger keeps
them from being lent against twice, and an enterprise may have several loans.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from taxledger.ledger.errors import RefusedError
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.store import LoanStore

__all__ = ["hold_only_line"]

_OPEN = (State.ACCEPTED, State.PLEDGED, State.PAID_OUT)


@contextmanager
def hold_only_line(store: LoanStore, loan: Loan) -> Iterator[None]:
    """Hold the enterprise's lines until the block ends; of two loans that are accepted at once, one is refused.

    Whoever holds an enterprise waits for no loan, so two that hold a loan each can't wait for each other.

    Raises:
        RefusedError: ``line_open``: it has another loan of the product. Which one is not said: whoever accepts may
            be a platform that does not know of it.
    """
    application = loan.application
    with store.hold_subject(application.subject):
        for state in _OPEN:
            for other in store.list(state=state.value, subject=application.subject):
                if other.id != loan.id and other.product == application.product:
                    raise RefusedError(
                        "line_open",
                        f"{loan.id}: the enterprise has another open loan of product {application.product}",
                    )
        yield
