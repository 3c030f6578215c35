"""What those who read loans need of the store."""

from __future__ import annotations

from typing import Protocol

from taxledger.lending.loans.events import Event

__all__ = ["LoanRecords"]


class LoanRecords(Protocol):
    """What is needed of ``loans.store.LoanStore``."""

    def events(self, loan: str) -> tuple[Event, ...]: ...

    def file(self, loan: str, digest: bytes) -> bytes: ...
