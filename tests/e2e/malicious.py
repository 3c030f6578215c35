"""What a member's node does that lies to its engine: patched into the real one, in its own process."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

from taxledger.ledger.checkpoint import Checkpoint
from taxledger.nodes.ordering.cometbft.blocks import Blocks, encode_time
from taxledger.nodes.ordering.cometbft.engine import CometBft

__all__ = ["lie"]


def lie() -> None:
    """Propose junk, accept everything, withhold co-signatures and send others in their place."""
    chance = random.Random(os.getpid())
    prepare = Blocks.prepare

    def prepare_junk(self: Blocks, time_ns: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]:
        application = self._application
        honest = prepare(self, time_ns, candidates, bytes_max)
        ahead = encode_time(application.chain.chain_id, application.now_ms() + 60_000)
        last = application.chain.leaf(application.chain.tip.frontier.size - 1)
        return chance.choice(
            [
                [chance.randbytes(chance.randrange(1, 60_000)) for _ in range(chance.randrange(1, 40))],
                [ahead, *honest[1:]],
                [*honest, *honest],
                [last],
                [bytes([0xD2, index % 256, index // 256]) for index in range(2_000)],
            ]
        )

    async def release_lies(self: CometBft, message: bytes) -> None:
        application = self.replica.application
        size = application.chain.tip.frontier.size
        other = Checkpoint(origin=application.origin, size=size, root=chance.randbytes(32))
        for raw in (chance.randbytes(150), message[:-1], application.make_cosign(other)):
            await self._on_release(raw)
            try:
                await self.rpc.broadcast(raw)
            except Exception:
                continue

    Blocks.prepare = prepare_junk  # type: ignore[method-assign]
    Blocks.refusal = lambda *_arguments: None  # type: ignore[method-assign]
    CometBft._released = release_lies  # type: ignore[method-assign]
