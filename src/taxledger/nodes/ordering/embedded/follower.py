"""A validator's (or observer's) side of the embedded engine: it trusts the sequencer for order and nothing
else.

What an honest follower keeps, whatever the sequencer sends:

* it executes every batch itself and votes only for the header that its own execution gave;
* one vote per height, journalled before it is sent; asked again, it repeats the same vote;
* it commits, and co-signs, only what a quorum of distinct validators has voted for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.execute import Executed
from taxledger.nodes.certification import Fork
from taxledger.nodes.ordering.embedded.decided import Unlike, ask_block, on_block
from taxledger.nodes.ordering.embedded.messages import (
    Answer,
    DecidedBlock,
    Proposal,
    SignedVote,
    Step,
    decode_step,
    decode_votes,
    encode_answer,
    encode_journal,
    encode_votes,
)
from taxledger.nodes.ordering.embedded.taking import execute_decided
from taxledger.nodes.ordering.embedded.votebook import VoteBook
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica

__all__ = ["Follower"]

_SILENT_AFTER_S = 6.0
_UNDECIDED_AFTER_S = 3.0


class Follower:
    """Answers the sequencer's steps. See the module text."""

    def __init__(self, replica: Replica, *, sequencer: PeerClient, others: Sequence[PeerClient]) -> None:
        self.replica = replica
        self.book = VoteBook(replica.application)
        self._sequencer = sequencer
        self._others = tuple(others)
        self._pending: Executed | None = None
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._heard_at: float | None = None
        self._undecided_since: float | None = None
        self._sequencer_status: str | None = None
        self._problem: str | None = None
        self._catching_up = True
        self._unlike: Unlike | None = None

    def add_peer(self, peer: PeerClient) -> None:
        """Ask a member's node for votes, too, that came later."""
        self._others = (*self._others, peer)

    # --- on the ledger thread ---------------------------------------------------------------

    def _step(self, step: Step) -> Answer:
        problem: str | None = None
        vote: SignedVote | None = None
        try:
            for block in step.blocks:
                self._take(block)
            self.replica.receive(step.cosigns)
            if step.proposal is not None:
                vote, problem = self._consider(step.proposal)
        except TaxledgerError as error:
            problem = str(error)
        chain = self.replica.application.chain
        self._problem = problem
        # A sequencer below us refused what we counted, as ahead of its clock, or lost it: own() has that no more.
        lacks = self.replica.certification.known(step.certified) if step.certified < chain.certified else ()
        return Answer(
            decided=chain.tip.height,
            certified=chain.certified,
            vote=vote,
            cosigns=tuple(dict.fromkeys([*self.replica.certification.own(), *lacks])),
            problem=None if problem is None else problem[:500],
        )

    def _take(self, block: DecidedBlock) -> None:
        """Commit a block that a quorum decided.

        Raises:
            RefusedError: not the next one, or its batch does not give the header that was decided.
            VerificationError: the votes don't decide it.
        """
        application = self.replica.application
        chain = application.chain
        if block.height <= chain.tip.height:
            self.replica.receive(block.cosigns)
            return
        try:
            executed = execute_decided(application, block, self._pending)
        except RefusedError as error:
            if error.code == "diverged":
                self._unlike = self._seen_unlike(block)
            raise
        self._pending = self._unlike = None
        self._undecided_since = None
        self.replica.commit(executed, block.votes, block.cosigns)

    def _seen_unlike(self, block: DecidedBlock) -> Unlike | None:
        """A decided block whose batch gives another header here."""
        voted = self.replica.application.chain.voted(block.height)
        if block.transactions is not None:
            return Unlike(block.height, block.header_hash, block.time_ms, tuple(block.transactions))
        if voted is None:
            return None
        return Unlike(block.height, block.header_hash, voted.time_ms, voted.transactions)

    def _consider(self, proposal: Proposal) -> tuple[SignedVote | None, str | None]:
        """(our vote for a proposal or the one we gave before, what is wrong)."""
        application = self.replica.application
        chain = application.chain
        if not application.can_vote:
            return None, None
        if proposal.height != chain.tip.height + 1:
            raise RefusedError(
                "behind", f"expected a proposal for {chain.tip.height + 1}, got {proposal.height}"
            )
        self.book.add(
            SignedVote(
                member=self._sequencer.number,
                height=proposal.height,
                header_hash=proposal.header_hash,
                signature=proposal.signature,
            )
        )
        voted = chain.voted(proposal.height)
        if voted is not None and voted.header_hash != proposal.header_hash:
            return self._signed(voted.height, voted.header_hash), (
                f"voted for another header of height {voted.height} before"
            )
        if voted is None and proposal.time_ms > application.now_ms() + limits.proposal_ahead_ms_max:
            raise RefusedError(
                "time_ahead", "the proposal's time is more than 10 s ahead of this node's clock"
            )
        if chain.tip.height - chain.certified >= limits.uncertified_blocks_max:
            raise RefusedError("uncertified", "too many blocks wait for their co-signatures")
        executed = self._pending
        if executed is None or executed.tip.header_hash != proposal.header_hash:
            executed = application.deliver(proposal.time_ms, proposal.transactions)
        if executed.tip.header_hash != proposal.header_hash:
            raise RefusedError(
                "diverged",
                f"executing the proposal of height {proposal.height} gives header "
                f"{executed.tip.header_hash.hex()}, its sequencer says {proposal.header_hash.hex()}",
            )
        self._pending = executed
        application.vote(executed, proposal.transactions)
        if self._undecided_since is None:
            self._undecided_since = self._loop.time()
        return self._signed(proposal.height, proposal.header_hash), None

    def _signed(self, height: int, header_hash: bytes) -> SignedVote:
        """Our vote, as the journal has it."""
        application = self.replica.application
        vote = SignedVote(
            member=application.keys.member,
            height=height,
            header_hash=header_hash,
            signature=application.sign_vote(height, header_hash),
        )
        self.book.add(vote)
        return vote

    def _votes(self) -> list[Any]:
        chain = self.replica.application.chain
        height = chain.tip.height + 1
        voted = chain.voted(height)
        if voted is not None and self.replica.application.can_vote:
            self._signed(height, voted.header_hash)
        return encode_votes(chain.tip.height, self.book.votes())

    # --- on the event loop --------------------------------------------------------------------

    async def on_step(self, member: int, message: Any) -> Any:
        """Peer verb ``step``."""
        if member != self._sequencer.number:
            raise RefusedError("not_sequencer", f"member {member} does not order transactions here")
        step = decode_step(message, self.replica.application.chain.chain_id)
        self._heard_at = self._loop.time()
        self._sequencer_status = step.status
        async with self._lock:
            answer = await self.replica.run(self._step, step)
        # The first step comes without blocks: the sequencer does not know yet where we stand.
        self._catching_up = self.replica.certified.height < step.certified
        return encode_answer(answer)

    async def on_votes(self, _member: int, _message: Any) -> Any:
        """Peer verb ``votes``: what this node has voted, and seen voted, for the next height."""
        return await self.replica.run(self._votes)

    async def on_journal(self, member: int, _message: Any) -> Any:
        """Peer verb ``journal``: the batch we voted for, for a sequencer that lost its own journal."""
        if member != self._sequencer.number:
            raise RefusedError("not_sequencer", f"member {member} does not order transactions here")
        chain = self.replica.application.chain
        return encode_journal(await self.replica.run(lambda: chain.voted(chain.tip.height + 1)))

    def handlers(self) -> dict[str, Callable[[int, Any], Awaitable[Any]]]:
        """Peer verbs of this engine."""
        return {
            "block": lambda _member, message: on_block(self.replica, message),
            "step": self.on_step,
            "votes": self.on_votes,
            "journal": self.on_journal,
        }

    async def submit(self, raw: bytes) -> None:
        """Pass a transaction on to the sequencer; returns when it is certified there.

        Raises:
            RefusedError, UnavailableError: as the sequencer says.
        """
        try:
            await self._sequencer.call("submit", [1, "submit", raw], timeout_ms=60_000)
        except RefusedError as error:
            if error.code.startswith("peer_"):  # that is about this node: the transaction was not looked at
                raise UnavailableError(f"the sequencer refuses this node: {error}") from error
            raise

    @property
    def forks(self) -> Sequence[Fork]:
        """Contradictions among the votes seen."""
        return self.book.forks

    @property
    def writes(self) -> str | None:
        """None while writes go on, else why they wait."""
        if self.book.stuck() and self.forks:
            return f"halted: {self.forks[-1].text}"
        if self._problem is not None and "diverged" in self._problem:
            return self._problem
        if not self.hears:
            return f"the sequencer {self._sequencer.name} is silent"
        return self._sequencer_status

    @property
    def current(self) -> bool:
        """Whether it hears the sequencer and lacks none of its blocks, as far as it knows."""
        return self._heard_at is not None and not self._catching_up

    @property
    def catching_up(self) -> bool:
        """Whether it hears the sequencer and is still being sent blocks that it lacks."""
        return self.hears and self._catching_up

    @property
    def hears(self) -> bool:
        """Whether the sequencer has sent anything of late."""
        return self._heard_at is not None and self._loop.time() - self._heard_at <= _SILENT_AFTER_S

    async def run(self) -> None:
        """While a vote of ours stays undecided, ask the others what they have voted for."""
        while True:
            await asyncio.sleep(1.0)
            if self._unlike is not None:
                await ask_block(self.replica, self._others, self._unlike)
            since = self._undecided_since
            if since is None or self._loop.time() - since < _UNDECIDED_AFTER_S:
                continue
            for peer in self._others:
                with contextlib.suppress(TaxledgerError):
                    data = await peer.call("votes", [1, "votes"], timeout_ms=2_000, answer_bytes_max=1 << 20)
                    _, votes = decode_votes(data)
                    await self.replica.run(self.book.offer, votes)
