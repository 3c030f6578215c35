"""Open uses: each is certified before anything leaves, and closed when its recipient is done, gone, or may no longer.

Every open use is closed in the end, also after a crash: what may have left by then stands in the close.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from taxledger.ledger import limits
from taxledger.ledger.consentoperations import ConsentUseClose, UseOutcome
from taxledger.ledger.consentstate import UseState, consent_of, use_of
from taxledger.ledger.disclosure import digest_of_pieces
from taxledger.ledger.errors import RefusedError, TaxledgerError
from taxledger.ledger.operations import encode_consent
from taxledger.nodes.background import Background, Locks
from taxledger.nodes.custodian.custody import (
    CLOSES,
    CustodyBook,
    Use,
    close_place,
    place_of_close,
    use_place,
)
from taxledger.nodes.logs import get_logger
from taxledger.nodes.own import require_accepted
from taxledger.nodes.replica import Replica

__all__ = ["OpenUses"]

PIECES_KEPT_MS = 3_600_000
"""Local: how long the same bytes can be sent again after a use has ended."""
OPEN_MS_MAX = limits.answer_age_ms_default
"""Local: no use is open longer, however often its recipient asks: what it got is too old to verify by then."""
_FORGET_EACH_MS = 60_000

_Place = tuple[bytes, int]
"""Consent and number of a use."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Open:
    """When a use was opened, or found open, here; and when its recipient last asked for more."""

    opened_ms: int
    asked_ms: int


class OpenUses:
    """Lives on the event loop.

    Args:
        book: keeps uses; ``replica`` the certified state.
        background: what is begun goes on there.
        idle_ms: a use that nobody goes on with is closed after this.
    """

    def __init__(
        self,
        book: CustodyBook,
        replica: Replica,
        background: Background,
        *,
        idle_ms: int,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._book = book
        self._replica = replica
        self._background = background
        self._idle_ms = idle_ms
        self._now_ms = now_ms
        self._open: dict[_Place, _Open] = {}
        self._closing: set[_Place] = set()
        self._locks = Locks()
        self._log = get_logger("disclosure")

    def touch(self, consent: bytes, sequence: int) -> None:
        """The recipient has just asked for more of a use that is open."""
        now_ms = self._now_ms()
        self._open.setdefault((consent, sequence), _Open(now_ms, now_ms)).asked_ms = now_ms

    def sending(self, consent: bytes, sequence: int) -> AbstractAsyncContextManager[None]:
        """Held while a piece of a use may leave, and while its close is made: one sees what the other did."""
        return self._locks.hold((consent, sequence))

    async def certify(self, use: Use) -> None:
        """Returns when ``consent.use`` is certified at this node.

        Raises:
            RefusedError: the ledger refused it, by the rule's name; the use is dropped, and nothing has left.
        """
        place = (use.consent, use.sequence)
        sent = await self._book.transactions.bring(use_place(*place))
        if sent.code and not self._is_on_ledger(use):
            await asyncio.to_thread(self._book.drop_use, *place, sent.signed.id)
            self._open.pop(place, None)
            require_accepted(sent.code)
        if not await asyncio.to_thread(self._book.has_ended, *place):
            now_ms = self._now_ms()
            self._open.setdefault(place, _Open(now_ms, now_ms))

    def _is_on_ledger(self, use: Use) -> bool:
        """It can be refused and there: where it was signed anew, and the first one had counted nevertheless."""
        value = use_of(self._replica.certified.view, use.consent, use.sequence)
        return value is not None and value.planned_digest == digest_of_pieces("use", use.salt, use.hashes)

    # --- closing --------------------------------------------------------------------------------

    def close_soon(self, consent: bytes, sequence: int) -> None:
        """Close a use without waiting for it."""
        place = (consent, sequence)
        if place not in self._closing:
            self._closing.add(place)
            self._background.start(self._close_or_later(place))

    async def _close_or_later(self, place: _Place) -> None:
        try:
            await self._close(*place)
        except TaxledgerError as error:
            self._log.error("a use is not closed yet", consent=place[0].hex(), use=place[1], error=str(error))
            self.touch(*place)  # again when it was idle for as long once more
        finally:
            self._closing.discard(place)

    async def _close(self, consent: bytes, sequence: int) -> None:
        """Say on the ledger what may have left; the same however often it is called."""
        use = await asyncio.to_thread(self._book.use, consent, sequence)
        if use is None or not await self._is_certified(use):
            return
        async with self.sending(consent, sequence):
            if not await asyncio.to_thread(self._book.has_ended, consent, sequence):
                use = await asyncio.to_thread(self._book.use, consent, sequence) or use
                signed = self._book.transactions.sign(encode_consent(_close_of(use)))
                await asyncio.to_thread(self._book.close, consent, sequence, signed, self._now_ms())
            self._open.pop((consent, sequence), None)
        sent = await self._book.transactions.bring(close_place(consent, sequence))
        value = use_of(self._replica.certified.view, consent, sequence)
        if sent.code and (value is None or value.state == UseState.OPEN):
            self._log.error("the ledger refused a close", consent=consent.hex(), use=sequence, code=sent.code)

    async def _is_certified(self, use: Use) -> bool:
        """A close counts after its use only. False when the use is dropped: there is nothing to close."""
        try:
            await self.certify(use)
        except RefusedError:
            if await asyncio.to_thread(self._book.use, use.consent, use.sequence) is None:
                return False
            raise
        return True

    # --- upkeep ---------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """What a crash left: a planned use is certified or dropped, and waits for its recipient again; a close that
        was decided is brought to its end. None waits for another.
        """
        for consent, sequence in await asyncio.to_thread(self._book.open_uses):
            self.touch(consent, sequence)
            use = await asyncio.to_thread(self._book.use, consent, sequence)
            if use is not None:
                self._background.start(self._resume(use))
        for place in await asyncio.to_thread(self._book.transactions.unsettled, CLOSES):
            self.close_soon(*place_of_close(place))

    async def _resume(self, use: Use) -> None:
        try:
            await self.certify(use)
        except TaxledgerError as error:
            self._log.warning(
                "a planned use is not certified",
                consent=use.consent.hex(),
                use=use.sequence,
                error=str(error),
            )

    async def run(self) -> None:
        """Recover, then close what is withheld or abandoned, for ever."""
        await self._recover()
        forgot_ms = 0
        while True:
            await self._replica.news(1.0)
            now_ms = self._now_ms()
            for place, opened in list(self._open.items()):
                if self._is_over(place[0], opened, now_ms):
                    self._open.pop(place, None)
                    self.close_soon(*place)
            if now_ms - forgot_ms > _FORGET_EACH_MS:
                forgot_ms = now_ms
                await asyncio.to_thread(self._book.forget_pieces, now_ms - PIECES_KEPT_MS)

    def _is_over(self, consent: bytes, opened: _Open, now_ms: int) -> bool:
        if now_ms - opened.asked_ms > self._idle_ms or now_ms - opened.opened_ms > OPEN_MS_MAX:
            return True
        value = consent_of(self._replica.certified.view, consent)
        return value is not None and value.refusal(now_ms) not in (None, "consent_used_up")


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
