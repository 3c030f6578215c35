"""What the service needs of a lender's desk (``lending.desk.LendingDesk``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from taxledger.lending.loans.life import LoanEngine
from taxledger.lending.loans.loan import Loan
from taxledger.lending.loans.ports import Application, Clock
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.products.keeper import ProductKeeper
from taxledger.lending.watch import WatchStore

__all__ = ["Desk"]


class Desk(Protocol):
    """May be used by several threads; every method may be called again after a crash."""

    @property
    def engine(self) -> LoanEngine: ...
    @property
    def store(self) -> LoanStore: ...
    @property
    def watch(self) -> WatchStore: ...
    @property
    def keeper(self) -> ProductKeeper: ...
    @property
    def clock(self) -> Clock: ...

    def apply(self, application: Application, artefact: bytes) -> Loan:
        """Record an application with its consent; nothing is asked of anybody yet."""
        ...

    def advance(self, id: str, *, on_step: Callable[[Loan], None] | None = None) -> Loan:
        """All that waits for nobody outside."""
        ...

    def report(self, id: str, *, language: Literal["zh", "en"], pdf: bool) -> bytes:
        """The officer's report. Raises RefusedError ``loan_undecided``, ``loan_unknown``."""
        ...

    def archive(self, id: str) -> bytes:
        """The loan's archive, sealed. Raises RefusedError ``loan_unknown``."""
        ...
