"""What members' nodes tell each other beside their engines: who is there, how far, and the co-signatures one lacks.

    hello    [1, "hello", decided, certified, time_ms]   answered alike
    cosigns  [1, "cosigns", above]                       answered with [1, "cosigns", [message …]]

The engine notices a peer that fell silent after a minute or more; an answer's freshness can't wait for that. Nothing
here is believed beyond "it said so": co-signatures are verified, heights count only where more than f say the same,
and of the clocks the one in the middle, which at least one honest member shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError, InputError, TaxledgerError
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica

__all__ = ["Peering"]

_EVERY_S = 2.0
_SILENT_AFTER_S = 6.0
_ON_ITS_WAY_S = 3.0
_ASK_MS = 2_000
_COSIGNS_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    at: float
    certified: int
    ahead_ms: int
    """Of our clock then; in it is the time that the message took."""


class Peering:
    """Lives on the event loop.

    Args:
        peers: clients of the other members' nodes, by number; may grow.
    """

    def __init__(self, replica: Replica, peers: Mapping[int, PeerClient]) -> None:
        self._replica = replica
        self._peers = peers
        self._said: dict[int, _Said] = {}
        self._loop = asyncio.get_running_loop()
        self._warm = False
        self._level_at: float | None = None  # when we last had all that the others said they have

    # --- messages -------------------------------------------------------------------------------

    def _own(self) -> list[Any]:
        chain = self._replica.application.chain
        return [1, "hello", chain.tip.height, chain.certified, self._replica.application.now_ms()]

    def _note(self, member: int, message: Any) -> None:
        if (
            type(message) is not list
            or [type(each) for each in message] != [int, str, int, int, int]
            or message[:2] != [1, "hello"]
        ):
            raise FormatError('expected [1, "hello", decided, certified, time_ms]')
        ahead_ms = message[4] - self._replica.application.now_ms()
        self._said[member] = _Said(at=self._loop.time(), certified=message[3], ahead_ms=ahead_ms)

    async def on_hello(self, member: int, message: Any) -> Any:
        """Peer verb ``hello``."""
        self._note(member, message)
        return self._own()

    async def on_cosigns(self, _member: int, message: Any) -> Any:
        """Peer verb ``cosigns``."""
        if type(message) is not list or len(message) != 3 or type(message[2]) is not int or message[2] < 0:
            raise InputError('expected [1, "cosigns", above]')
        known = await self._replica.run(self._replica.certification.known, message[2])
        return [1, "cosigns", known]

    async def ask_cosigns(self) -> None:
        """Ask everybody for what would certify our next blocks, and count it."""
        above = self._replica.application.chain.certified
        await asyncio.gather(*(self._ask_cosigns(peer, above) for peer in list(self._peers.values())))

    async def _ask_cosigns(self, peer: PeerClient, above: int) -> None:
        with contextlib.suppress(TaxledgerError):
            data = await peer.call(
                "cosigns", [1, "cosigns", above], timeout_ms=_ASK_MS, answer_bytes_max=_COSIGNS_BYTES_MAX
            )
            value = canonical.decode(data, bytes_max=_COSIGNS_BYTES_MAX)
            if type(value) is list and len(value) == 3 and type(value[2]) is list:
                known = [raw for raw in value[2] if type(raw) is bytes]
                await self._replica.run(self._replica.receive, known)

    async def run(self) -> None:
        """Say hello to everybody, for ever; ask for co-signatures where others have certified more."""
        while True:
            await asyncio.gather(*(self._greet(peer) for peer in list(self._peers.values())))
            self._warm = True
            # Asking whether we are behind takes note of when we were not.
            if self.is_behind or self._others_certified() > self._replica.certified.height:
                await self.ask_cosigns()
            await asyncio.sleep(_EVERY_S)

    async def _greet(self, peer: PeerClient) -> None:
        with contextlib.suppress(TaxledgerError):
            data = await peer.call("hello", self._own(), timeout_ms=_ASK_MS, answer_bytes_max=256)
            self._note(peer.number, canonical.decode(data, bytes_max=256))

    # --- what follows ---------------------------------------------------------------------------

    def _heard(self) -> dict[int, _Said]:
        """Validators heard of late, without ourselves."""
        validators, end = self._replica.application.validators, self._loop.time() - _SILENT_AFTER_S
        return {
            number: said for number, said in self._said.items() if said.at >= end and number in validators
        }

    def _others_certified(self) -> int:
        """A height that an honest validator has certified: more than f say at least this."""
        validators = self._replica.application.validators
        liars_max = (len(validators) - 1) // 3
        heights = sorted((said.certified for said in self._heard().values()), reverse=True)
        return heights[liars_max] if len(heights) > liars_max else 0

    @property
    def silent(self) -> list[str]:
        """Names of the validators that we don't hear, without ourselves."""
        application, heard = self._replica.application, self._heard()
        return [
            each.name
            for number, each in application.validators.items()
            if number not in heard and number != application.keys.member
        ]

    @property
    def hears_quorum(self) -> bool:
        """Whether as many validators answer, with ourselves, as it takes to decide."""
        return len(self._replica.application.validators) - len(self.silent) >= self._replica.quorum

    @property
    def problem(self) -> str | None:
        """Why nothing can be written here, as far as the others tell: too few answer, or our clock is wrong."""
        application, silent = self._replica.application, self.silent
        if self._warm and not self.hears_quorum:
            count = len(application.validators)
            return (
                f"{count - len(silent)} of {count} validators answer, "
                f"{self._replica.quorum} are needed; silent: {', '.join(silent)}"
            )
        off_ms = self._behind_ms()
        if abs(off_ms) <= limits.proposal_ahead_ms_max:
            return None
        return (
            f"this node's clock is {abs(off_ms) // 1_000} s {'behind' if off_ms > 0 else 'ahead of'} the others': "
            "set it right; until then the others count none of its co-signatures, or it none of theirs"
        )

    def _behind_ms(self) -> int:
        """How far our clock is behind the others', below 0 ahead: the middle of what is heard, if that is enough
        that liars alone can't make it up.
        """
        ahead = [said.ahead_ms for said in self._heard().values()]
        liars_max = (len(self._replica.application.validators) - 1) // 3
        return statistics.median_low(ahead) if len(ahead) > 2 * liars_max else 0

    @property
    def is_behind(self) -> bool:
        """Whether others have certified what we have not, and have had it for longer than a block is on its way.

        After a start nothing is on its way: one block that we lack, with a revocation in it perhaps, is one too many.
        """
        now = self._loop.time()
        if self._others_certified() <= self._replica.certified.height:
            if self._warm and self.hears_quorum:
                self._level_at = now
            return False
        return self._level_at is None or now - self._level_at > _ON_ITS_WAY_S

    @property
    def is_warm(self) -> bool:
        """Whether everybody was asked once."""
        return self._warm
