"""Open uses: each is certified before anything leaves, and closed when its recipient is done, gone, or may no longer.

Every open use is closed in the end, also after a crash: what may have left by then stands in the close.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from taxledger.ledger.consentoperations import ConsentUseClose, UseOutcome
from taxledger.ledger.consentstate import ConsentStatus, consent_of
from taxledger.ledger.disclosure import digest_of_pieces
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.operations import encode_consent
from taxledger.nodes.custodian.custody import CustodyBook, Use, close_place, use_place
from taxledger.nodes.logs import get_logger
from taxledger.nodes.own import require_accepted
from taxledger.nodes.replica import Replica

__all__ = ["OpenUses"]

PIECES_KEPT_MS = 3_600_000
"""Local: how long the same bytes can be sent again after a use has ended."""
_FORGET_EACH_MS = 60_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class OpenUses:
    """Lives on the event loop.

    Args:
        book: keeps uses; ``replica`` the certified state.
        idle_ms: a use that nobody goes on with is closed after this.

    Attributes:
        recovered: set once what a crash left is certified or dropped; until then nothing may be served.
    """

    def __init__(
        self, book: CustodyBook, replica: Replica, *, idle_ms: int, now_ms: Callable[[], int] = _now_ms
    ) -> None:
        self.recovered = asyncio.Event()
        self._book = book
        self._replica = replica
        self._idle_ms = idle_ms
        self._now_ms = now_ms
        self._asked_ms: dict[tuple[bytes, int], int] = {}
        self._locks: dict[tuple[bytes, int], asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = get_logger("disclosure")

    def touch(self, consent: bytes, sequence: int) -> None:
        """Its recipient has just asked for more of an open use."""
        self._asked_ms[consent, sequence] = self._now_ms()

    def sending(self, consent: bytes, sequence: int) -> asyncio.Lock:
        """Held while a piece of a use may leave, and while its close is made: one sees what the other did."""
        return self._locks.setdefault((consent, sequence), asyncio.Lock())

    async def certify(self, use: Use) -> None:
        """Returns when ``consent.use`` is certified at this node.

        Raises:
            RefusedError: the ledger refused it, by the rule's name; the use is dropped, and nothing has left.
        """
        sent = await self._book.transactions.bring(use_place(use.consent, use.sequence))
        if sent.code:
            await asyncio.to_thread(self._book.drop_use, use.consent, use.sequence)
            self._asked_ms.pop((use.consent, use.sequence), None)
            require_accepted(sent.code)
        if not await asyncio.to_thread(self._book.has_ended, use.consent, use.sequence):
            self._asked_ms.setdefault((use.consent, use.sequence), self._now_ms())

    def close_soon(self, consent: bytes, sequence: int) -> None:
        """Close a use without waiting for it."""
        self._start(self._close(consent, sequence))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("a use could not be closed", exc_info=task.exception())

    async def _close(self, consent: bytes, sequence: int) -> None:
        """Say on the ledger what may have left; the same however often it is called."""
        async with self.sending(consent, sequence):
            if not await asyncio.to_thread(self._book.has_ended, consent, sequence):
                use = await asyncio.to_thread(self._book.use, consent, sequence)
                if use is None:
                    return
                signed = self._book.transactions.sign(encode_consent(_close_of(use)))
                await asyncio.to_thread(self._book.close, consent, sequence, signed, self._now_ms())
            self._asked_ms.pop((consent, sequence), None)
        await self._book.transactions.bring(close_place(consent, sequence))
        self._locks.pop((consent, sequence), None)

    # --- upkeep ---------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """What a crash left: each planned use is certified or dropped; then it waits for its recipient again."""
        for consent, sequence in await asyncio.to_thread(self._book.open_uses):
            use = await asyncio.to_thread(self._book.use, consent, sequence)
            if use is None:
                continue
            try:
                await self.certify(use)
            except RefusedError as error:
                self._log.warning("planned use dropped", consent=consent.hex(), code=error.code)
        for place in await asyncio.to_thread(self._book.transactions.unsettled, b"close"):
            await self._book.transactions.bring(place)

    async def run(self) -> None:
        """Recover, then close what is withheld or abandoned, for ever."""
        await self._recover()
        self.recovered.set()
        forgot_ms = 0
        while True:
            await self._replica.news(1.0)
            now_ms = self._now_ms()
            for (consent, sequence), asked_ms in list(self._asked_ms.items()):
                if now_ms - asked_ms > self._idle_ms or self._has_stopped(consent):
                    self._asked_ms.pop((consent, sequence), None)
                    self.close_soon(consent, sequence)
            if now_ms - forgot_ms > _FORGET_EACH_MS:
                forgot_ms = now_ms
                await asyncio.to_thread(self._book.forget_pieces, now_ms - PIECES_KEPT_MS)

    def _has_stopped(self, consent: bytes) -> bool:
        value = consent_of(self._replica.certified.view, consent)
        return value is not None and value.status != ConsentStatus.ACTIVE

    async def stop(self) -> None:
        """Ends its tasks; what they had begun is durable and goes on at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _close_of(use: Use) -> ConsentUseClose:
    left = use.may_have_left
    if left == 0:
        outcome, digest = UseOutcome.NONE, None
    else:
        outcome = UseOutcome.COMPLETE if left == len(use.hashes) else UseOutcome.PARTIAL
        digest = digest_of_pieces("use_close", use.salt, use.hashes[:left])
    return ConsentUseClose(
        consent=use.consent,
        sequence=use.sequence,
        outcome=outcome,
        digest=digest,
        count=sum(use.counts[:left]),
    )
