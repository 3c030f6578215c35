"""One link keeps one peer up to date: whatever that peer lacks goes into the next step, and its answer says
what is left.

A link holds no queue. It compares what the peer last said of itself with the sequencer's ledger, so a
message that was lost, a peer that restarted and a peer that is new are all the same case.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError
from taxledger.nodes.ordering.embedded.messages import (
    Answer,
    DecidedBlock,
    Proposal,
    Step,
    decode_answer,
    encode_step,
)
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica

__all__ = ["Link"]

_PING_S = 2.0
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_STALLED_S = (0.1, 0.1, 0.2, 0.5)
"""Between steps to a peer that answers and does not move, as one whose clock is behind: each has the batch."""
_BLOCKS_BYTES_MAX = 6 * 1024 * 1024
_BLOCKS_MAX = limits.uncertified_blocks_max


class Desk(Protocol):
    """What a link needs of the sequencer whose line it is."""

    @property
    def replica(self) -> Replica: ...

    @property
    def proposal(self) -> Proposal | None:
        """What is to be voted on now."""

    @property
    def writes(self) -> str | None:
        """None while writes go on, else why they wait."""

    def take(self, answer: Answer) -> None:
        """On the ledger thread: count the votes and co-signatures of an answer."""

    def link_changed(self) -> None:
        """A peer answered or fell silent."""


class Link:
    """The sequencer's line to one peer.

    Attributes:
        decided, certified: what the peer last said of itself; None before its first answer.
        up: whether its last answer came.
        problem: what it complained of last.
    """

    def __init__(self, sequencer: Desk, peer: PeerClient) -> None:
        self.peer = peer
        self.decided: int | None = None
        self.certified = 0
        self.up = False
        self.problem: str | None = None
        self._sequencer = sequencer
        self._news = asyncio.Event()
        self._answered: bytes | None = None  # header hash of the proposal that the peer has answered
        self._told: str | None = None  # why writes wait, as the peer last heard it
        self._asked_at = 0.0  # when the last step was sent, by the loop's clock
        self._votes: dict[int, bytes] = {}  # height → header hash that the peer has voted for

    def notify(self) -> None:
        """There may be something to send."""
        self._news.set()

    def _due(self) -> bool:
        """Whether the peer lacks something that it can take now."""
        if self.decided is None:
            return True
        replica = self._sequencer.replica
        tip, certified = replica.application.chain.tip.height, replica.application.chain.certified
        proposal = self._sequencer.proposal
        return (
            self.decided < tip
            or self.certified < certified
            or self._told != self._sequencer.writes
            or (proposal is not None and proposal.header_hash != self._answered)
        )

    def _offer(self) -> tuple[int, int, bytes | None]:
        """What there is to send: a peer that did not move may move once this is another."""
        chain = self._sequencer.replica.application.chain
        proposal = self._sequencer.proposal
        return chain.tip.height, chain.certified, None if proposal is None else proposal.header_hash

    async def run(self) -> None:
        """Send, for ever: at once when there is news, otherwise a ping now and then."""
        failures = stalls = 0
        while True:
            await self._wait()
            before = (self.decided, self.certified, self._answered, self._offer())
            try:
                await self._exchange()
                failures = 0
            except (UnavailableError, RefusedError, InputError) as error:
                self.up = False
                self.decided = None
                self.problem = str(error)
                self._sequencer.link_changed()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
                continue
            if self._due() and before == (self.decided, self.certified, self._answered, self._offer()):
                # It took all we have and did not move: don't spin.
                await asyncio.sleep(_STALLED_S[min(stalls, len(_STALLED_S) - 1)])
                stalls += 1
            else:
                stalls = 0

    async def _wait(self) -> None:
        """Until something is due or it is time for a ping. News alone is no reason to send: the answer to
        each step is news for all links, and they would keep each other busy for ever.
        """
        loop = asyncio.get_running_loop()
        while not self._due():
            left_s = self._asked_at + _PING_S - loop.time()
            if left_s <= 0:
                return
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._news.wait()

    async def _exchange(self) -> None:
        sequencer = self._sequencer
        self._asked_at = asyncio.get_running_loop().time()
        step = await sequencer.replica.run(self._build)
        self._told = step.status
        data = await self.peer.call(
            "step",
            encode_step(step, sequencer.replica.application.chain.chain_id),
            answer_bytes_max=1 << 20,
        )
        answer = decode_answer(data, self.peer.number)
        if step.proposal is not None:
            self._answered = step.proposal.header_hash
        await self._take(answer)

    def _build(self) -> Step:
        """On the ledger thread: what this peer lacks, as far as it fits one message."""
        sequencer = self._sequencer
        replica = sequencer.replica
        chain = replica.application.chain
        blocks: list[DecidedBlock] = []
        proposal = sequencer.proposal
        reaches = chain.tip.height
        if self.decided is not None:
            used = 0
            reaches = self.decided
            for height in range(self.decided + 1, min(chain.tip.height, self.decided + _BLOCKS_MAX) + 1):
                block = self._block(height)
                size = sum(len(each) for each in block.transactions or ())
                if blocks and used + size > _BLOCKS_BYTES_MAX:
                    break
                used += size
                blocks.append(block)
                reaches = height
        with_proposal = (
            self.decided is not None
            and proposal is not None
            and reaches == proposal.height - 1
            and proposal.header_hash != self._answered
        )
        return Step(
            status=sequencer.writes,
            blocks=tuple(blocks),
            proposal=proposal if with_proposal else None,
            cosigns=tuple(replica.certification.known(self.certified)),
            certified=chain.certified,
        )

    def _block(self, height: int) -> DecidedBlock:
        replica = self._sequencer.replica
        chain = replica.application.chain
        header_hash = chain.header_hash(height)
        has_batch = self._votes.get(height) == header_hash
        return DecidedBlock(
            height=height,
            time_ms=chain.header(height).time_ms,
            transactions=None if has_batch else chain.block(height).transactions,
            header_hash=header_hash,
            votes=chain.votes(height),
            cosigns=tuple(replica.certification.messages(height)),
        )

    async def _take(self, answer: Answer) -> None:
        sequencer = self._sequencer
        self.decided, self.certified = answer.decided, answer.certified
        self.up = True
        self.problem = answer.problem
        if answer.vote is not None:
            self._votes = {answer.vote.height: answer.vote.header_hash}
        elif answer.problem is not None:
            self._votes = {}
            self._answered = None  # ask again once it is where it should be
        if answer.cosigns or answer.vote is not None:
            await sequencer.replica.run(sequencer.take, answer)
        sequencer.link_changed()
