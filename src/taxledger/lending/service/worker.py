"""Going on with loans in the background: each in one thread at a time, resumable, tried again while trouble lasts.

Invariants:

* What is not done by the time the process ends is found again by ``start``: the queue is only a hint, the loans'
  own events say what there is to do.
* One loan is worked on by one thread of this process; among processes the store's hold decides.
* ``stop`` lets a running step end, and begins no other. A step that does not end in time dies with the process,
  and is gone on with from its intent (``loans/steps.py``).
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from taxledger.ledger.errors import InvariantError, TaxledgerError, UnavailableError
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.service.desk import Desk

__all__ = ["Worker"]

_PAUSES_S = (1, 2, 5, 10, 30, 60)
_SWEEP_S = 300
_log = structlog.get_logger("taxledger.lending")


class _Stopping(Exception):
    pass


class Worker:
    """Threads that advance loans.

    Args:
        desk: whose loans.
        threads: loans at once.
        on_invariant: ends the process: after a broken invariant, nothing it would still write can be trusted.
        pauses_s: before trying again, by the number of attempts that failed.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        on_invariant: Callable[[InvariantError], None],
        threads: int = 4,
        pauses_s: tuple[float, ...] = _PAUSES_S,
    ) -> None:
        self._desk, self._on_invariant, self._pauses_s = desk, on_invariant, pauses_s
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._running: set[str] = set()
        self._failed: dict[str, tuple[int, str]] = {}
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"loans-{number}", daemon=True)
            for number in range(threads)
        ]
        self._threads.append(threading.Thread(target=self._sweep, name="loans-sweep", daemon=True))

    def start(self) -> None:
        """Begin; what was cut off before is gone on with."""
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Begin no further step; wait for the running ones, but not longer."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        end = time.monotonic() + grace_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    # --- for the routes --------------------------------------------------------------------------

    def go_on(self, id: str) -> None:
        """Advance a loan soon. Asked while it is worked on, it is looked at once more afterwards."""
        self._schedule(id, 0.0)

    def busy(self, id: str) -> bool:
        """Whether it is worked on, or will be without anybody asking."""
        with self._changed:
            return id in self._running or id in self._due

    def trouble(self, id: str) -> str | None:
        """Code of what hindered the last attempt; None where nothing did."""
        with self._changed:
            found = self._failed.get(id)
        return None if found is None else found[1]

    @contextmanager
    def listening(self, id: str, listener: Callable[[], None]) -> Iterator[None]:
        """Have ``listener`` called, from a thread of this worker, after each step of a loan and when it rests."""
        with self._changed:
            self._listeners.setdefault(id, []).append(listener)
        try:
            yield
        finally:
            with self._changed:
                left = self._listeners[id]
                left.remove(listener)
                if not left:
                    del self._listeners[id]

    # --- the queue -----------------------------------------------------------------------------------

    def _schedule(self, id: str, pause_s: float) -> None:
        due = time.monotonic() + pause_s
        with self._changed:
            if self._due.get(id, due + 1) > due:
                self._due[id] = due
                heapq.heappush(self._heap, (due, id))
                self._changed.notify_all()

    def _take(self) -> str | None:
        """The next loan whose time has come; None at the end."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                waiting: list[tuple[float, str]] = []
                found = None
                while self._heap and self._heap[0][0] <= now and found is None:
                    due, id = heapq.heappop(self._heap)
                    if self._due.get(id) != due:
                        continue  # it was asked for earlier, or done with
                    if id in self._running:
                        waiting.append((due, id))
                        continue
                    found = id
                for each in waiting:
                    heapq.heappush(self._heap, each)
                if found is not None:
                    del self._due[found]
                    self._running.add(found)
                    return found
                # One that is worked on wakes us when it rests.
                next_due = min((due for due, id in self._heap if id not in self._running), default=None)
                self._changed.wait(None if next_due is None else max(0.0, next_due - now))
        return None

    def _work(self) -> None:
        while (id := self._take()) is not None:
            try:
                self._advance(id)
            finally:
                with self._changed:
                    self._running.discard(id)
                    self._changed.notify_all()
                self._tell(id)

    def _advance(self, id: str) -> None:
        try:
            self._desk.advance(id, on_step=self._on_step)
        except _Stopping:
            return
        except UnavailableError:
            self._again(id)
        except InvariantError as error:
            _log.critical("invariant broken", loan=id)
            self._on_invariant(error)
        except TaxledgerError as error:
            code = getattr(error, "code", type(error).__name__)
            _log.error("loan stopped", loan=id, code=code)
            with self._changed:
                self._failed[id] = (1, str(code))
        except Exception as error:
            # Its message may quote a record: the type has to do.
            _log.error("loan failed", loan=id, error=type(error).__name__)
            with self._changed:
                self._failed[id] = (1, "internal")
        else:
            with self._changed:
                self._failed.pop(id, None)

    def _again(self, id: str) -> None:
        with self._changed:
            attempts = self._failed.get(id, (0, ""))[0] + 1
            self._failed[id] = (attempts, "unavailable")
        pause_s = self._pauses_s[min(attempts, len(self._pauses_s)) - 1]
        _log.warning("loan waits", loan=id, attempts=attempts, pause_s=pause_s)
        self._schedule(id, pause_s)

    def _on_step(self, loan: Loan) -> None:
        _log.info("step", loan=loan.id, state=loan.state.value, sequence=loan.sequence)
        self._tell(loan.id)
        if self._stopping:
            raise _Stopping

    def _tell(self, id: str) -> None:
        with self._changed:
            listeners = list(self._listeners.get(id, ()))
        for each in listeners:
            each()

    # --- what nobody asks for -------------------------------------------------------------------------

    def _sweep(self) -> None:
        """At the start, and now and then: loans that were cut off, offers that ended, loans that nobody watches."""
        while True:
            try:
                for each in self._desk.store.list(active=True):
                    self.go_on(each.id)
                watched = {loan.loan for loan, _checked in self._desk.watch.loans()}
                for each in self._desk.store.list(state=State.PAID_OUT.value):
                    if each.id not in watched:
                        self.go_on(each.id)
            except TaxledgerError as error:
                _log.error("loans can't be listed", error=type(error).__name__)
            with self._changed:
                if self._changed.wait_for(lambda: self._stopping, _SWEEP_S):
                    return
