"""The watch and its webhooks, running inside the service: three threads beside those that go on with loans.

Whatever ends them, nothing is lost: a block of events is done with, and a delivery made, only when that is durable
(``watch/store.py``). So the threads may die with the process at any point.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import structlog

from taxledger.api.events import Event, EventId
from taxledger.ledger.errors import InvariantError, TaxledgerError
from taxledger.lending.watch import Courier, Watcher
from taxledger.lending.watch.ports import Events

__all__ = ["Minder"]

_AGAIN_S = 10.0
_ENROLLED_S = 60.0
_DAY_S = 86_400.0
_log = structlog.get_logger("taxledger.lending")


class Minder:
    """Follows the node's events, looks at everything once a day, delivers alerts.

    Args:
        watcher: of the loans that are paid out.
        courier: of alerts; closed by ``stop``.
        events: of the lender's own node.
        begin: where to begin where nothing was watched yet.
        on_invariant: ends the process.
        again_s: before going on after trouble.
    """

    def __init__(
        self,
        watcher: Watcher,
        courier: Courier,
        events: Events,
        *,
        begin: Callable[[], EventId | None],
        on_invariant: Callable[[InvariantError], None],
        again_s: float = _AGAIN_S,
    ) -> None:
        self._watcher, self._courier, self._events = watcher, courier, events
        self._on_invariant, self._again_s = on_invariant, again_s
        self._stop = threading.Event()
        self._listening = False
        self._day_s: float | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, pause_s), name=name, daemon=True)
            for name, work, pause_s in (
                ("watch", lambda: watcher.run(self, begin()), again_s),
                ("watch-daily", self._look, _ENROLLED_S),
                ("webhooks", self._deliver, 0.0),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = 2.0) -> None:
        """End the threads. One that waits for the node's next event ends with the process: nothing is half done."""
        self._stop.set()
        end = time.monotonic() + grace_s
        for thread in self._threads:
            if thread.is_alive() and not (thread is self._threads[0] and self._listening):
                thread.join(max(0.0, end - time.monotonic()))
        self._courier.close()

    def events(self, after: EventId | None = None) -> Iterator[Event]:
        """The node's events, until ``stop``."""
        self._listening = True
        try:
            for event in self._events.events(after):
                self._listening = False
                if self._stop.is_set():
                    return
                yield event
                self._listening = True
        finally:
            self._listening = False

    def _deliver(self) -> None:
        self._courier.run(self._stop)

    def _look(self) -> None:
        """Loans that were paid out a moment ago are looked at by the minute, everything once a day."""
        self._watcher.check_enrolled()
        now_s = time.monotonic()
        if self._day_s is None or now_s - self._day_s >= _DAY_S:
            self._watcher.check_lateness()
            self._watcher.check_all()
            self._day_s = now_s

    def _repeat(self, work: Callable[[], None], pause_s: float) -> None:
        name = threading.current_thread().name
        while not self._stop.is_set():
            wait_s = pause_s
            try:
                work()
            except InvariantError as error:
                _log.critical("invariant broken", thread=name)
                self._on_invariant(error)
                return
            except Exception as error:
                if self._stop.is_set():
                    return
                # A message may quote what a node or a receiver said: type and code have to do.
                level = _log.warning if isinstance(error, TaxledgerError) else _log.error
                level(
                    "thread failed",
                    thread=name,
                    error=type(error).__name__,
                    code=getattr(error, "code", None),
                )
                wait_s = max(pause_s, self._again_s)
            self._stop.wait(wait_s)
