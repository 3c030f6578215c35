"""Work that goes on when whoever asked for it waits no longer, and locks by name.

A transaction waits while the network does. Who asked for it, a peer or a client, must not: it is told to ask again,
and then joins what is under way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from taxledger.ledger.errors import TaxledgerError, UnavailableError
from taxledger.nodes.logs import get_logger

__all__ = ["Background", "Locks"]

T = TypeVar("T")


class Background:
    """Lives on the event loop.

    Args:
        why: what writes wait for now, or None.
    """

    def __init__(self, why: Callable[[], str | None] = lambda: None) -> None:
        self._why = why
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log = get_logger("background")

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin it, and let it go on."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, TaxledgerError):
            self._log.error("failed", exc_info=error)

    async def within(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Its result, if it comes in time; it goes on in any case, also when the caller is cancelled.

        Raises:
            UnavailableError: not in time, and why; or the node is stopping. And what the work raises.
        """
        task = self.start(work)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            reason = self._why() or "it takes longer than usual"
            raise UnavailableError(f"not done within {seconds:.0f} s, and goes on, ask again: {reason}")
        if task.cancelled():
            raise UnavailableError("the node is stopping")
        return task.result()

    async def stop(self) -> None:
        """Ends what is under way. What has to survive this is durable, and goes on at the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Locks:
    """A lock for each name, kept only as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._wanted: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def hold(self, name: Hashable) -> AsyncIterator[None]:
        """One at a time for each name."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._wanted[name] += 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name], self._locks[name]
