"""Watching loans that are paid out: what happens to a borrower's records becomes alerts (docs/lending.md)."""

from __future__ import annotations

from taxledger.lending.watch.alerts import Alert
from taxledger.lending.watch.enrolling import watched_loan
from taxledger.lending.watch.store import WatchStore
from taxledger.lending.watch.watched import WatchedLoan, WatchedPledge, watched_of
from taxledger.lending.watch.watcher import Watcher
from taxledger.lending.watch.webhooks import Courier

__all__ = [
    "Alert",
    "Courier",
    "WatchStore",
    "WatchedLoan",
    "WatchedPledge",
    "Watcher",
    "watched_loan",
    "watched_of",
]
