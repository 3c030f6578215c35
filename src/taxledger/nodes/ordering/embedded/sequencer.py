"""The sequencer of the embedded engine: cuts batches, collects votes, commits what a quorum decided.

One height at a time. In each round:

1. execute the batch in memory; 2. journal batch and own vote (durable); 3. propose it to the validators;
4. q votes decide; 5. commit (durable), release the own co-signature; 6. the decision travels with the next
step.

After a restart the journalled batch of the undecided height is proposed again, whatever else is waiting;
without a journal entry the validators are asked first what they have voted for. So no height can be decided
twice differently by an honest sequencer, and a lying one is stopped by the followers. What a single validator
says of itself is checked, or believed of more than f of them only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.chain import Vote
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError
from taxledger.ledger.execute import Executed
from taxledger.nodes.certification import Fork
from taxledger.nodes.ordering.embedded.decided import on_block
from taxledger.nodes.ordering.embedded.links import Link
from taxledger.nodes.ordering.embedded.messages import (
    Answer,
    Proposal,
    SignedVote,
    decode_journal,
    encode_votes,
)
from taxledger.nodes.ordering.embedded.votebook import VoteBook
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica

__all__ = ["Sequencer"]

_QUEUE_MAX = 4_096
_QUEUE_BYTES_MAX = 64 * 1024 * 1024
_UNDECIDED_AFTER_S = 3.0


class Sequencer:
    """See the module text.

    Args:
        replica: this node's ledger.
        peers: clients of all other members with a node.
        on_dropped: called with the id of a queued transaction that can't count any more, and why.
    """

    def __init__(
        self,
        replica: Replica,
        peers: Sequence[PeerClient],
        on_dropped: Callable[[bytes, str], None],
    ) -> None:
        self.replica = replica
        self.proposal: Proposal | None = None
        self.book = VoteBook(replica.application)
        self.links = [Link(self, peer) for peer in peers]
        self.on_timing: Callable[[str, float], None] = lambda _what, _seconds: None
        self._on_dropped = on_dropped
        self._queue: dict[bytes, bytes] = {}  # id → transaction, in order of arrival
        self._queue_bytes = 0
        self._proposed_at: float | None = None  # by the loop's clock, while a proposal is undecided
        self._work = asyncio.Event()
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._group: asyncio.TaskGroup | None = None

    def add_peer(self, peer: PeerClient) -> None:
        """Bring a member's node up to date that came later."""
        link = Link(self, peer)
        self.links.append(link)
        if self._group is not None:
            self._group.create_task(link.run(), name=f"link {peer.name}")

    # --- submission ---------------------------------------------------------------------------

    async def submit(self, raw: bytes) -> None:
        """Queue a transaction; the same bytes again join the first.

        Raises:
            InputError, RefusedError: it can't count.
            UnavailableError: the queue is full.
        """
        transaction = await self.replica.run(self.replica.application.check, raw)
        if transaction.id in self._queue:
            return
        if len(self._queue) >= _QUEUE_MAX or self._queue_bytes + len(raw) > _QUEUE_BYTES_MAX:
            raise UnavailableError(f"the queue is full: {len(self._queue)} transactions wait")
        self._queue[transaction.id] = raw
        self._queue_bytes += len(raw)
        self._work.set()

    @property
    def queued(self) -> int:
        return len(self._queue)

    def _forget(self, transaction_id: bytes) -> None:
        raw = self._queue.pop(transaction_id, None)
        if raw is not None:
            self._queue_bytes -= len(raw)

    def _cut(self) -> list[bytes]:
        """The next batch: oldest first, within a block's limits."""
        batch: list[bytes] = []
        size = 0
        for raw in self._queue.values():
            if len(batch) == limits.block_transactions_max or size + len(raw) > limits.block_bytes_max:
                break
            batch.append(raw)
            size += len(raw)
        return batch

    # --- rounds -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Order transactions, for ever."""
        # A link that ends by an unexpected error ends the engine, and the node with it: never half a network.
        async with asyncio.TaskGroup() as group:
            self._group = group
            for link in self.links:
                group.create_task(link.run(), name=f"link {link.peer.name}")
            await self._order()

    async def _order(self) -> None:
        await self._hear_quorum()
        while not self._may_propose():
            self._moved.clear()
            await self._moved.wait()
        await self._wait_for_window()
        await self._resume()
        chain = self.replica.application.chain
        while True:
            await self._wait_for_window()
            batch = self._cut()
            if batch or chain.tip.height == 0 or chain.change_pending():
                await self._round(batch)
            else:
                self._work.clear()
                await self._work.wait()

    async def _hear_quorum(self) -> None:
        """Wait until as many validators as decide a block have said where they stand.

        A sequencer that lost its store can't know that it has voted already; those that decided with it do.
        """
        while True:
            self._moved.clear()
            if self._answering() >= self.replica.quorum:
                return
            await self._moved.wait()

    def _answering(self) -> int:
        """Validators whose last answer came, with ourselves."""
        validators = self.replica.application.validators
        return len(validators) - sum(link.peer.number in validators and not link.up for link in self.links)

    async def _resume(self) -> None:
        """Propose again what was journalled, here or at a validator, for the height after the tip."""
        application = self.replica.application
        height = application.chain.tip.height + 1
        voted = await self.replica.run(application.chain.voted, height)
        if voted is None:
            await self._orient()
            voted = await self._voted_elsewhere(height)
        if voted is None:
            return
        executed = await self._execute(voted)
        if executed is None:
            raise RefusedError(
                "diverged", f"the journalled batch of height {height} gives another header now"
            )
        await self._decide(executed, list(voted.transactions))

    def _may_propose(self) -> bool:
        """A proposal carries our own vote: without the journal of its key we can't know what it has voted for."""
        application = self.replica.application
        return application.can_vote or not application.is_validator

    async def _orient(self) -> None:
        """Wait until a quorum has said where it stands: what we don't know to be decided we may have voted for,
        before our store was lost. Without a quorum nothing could be decided anyway.
        """
        while True:
            self._moved.clear()
            application = self.replica.application
            heard = {link.peer.number for link in self.links if link.decided is not None}
            if (
                len((heard | {application.keys.member}) & application.validators.keys())
                >= self.replica.quorum
            ):
                return
            await self._moved.wait()

    async def _execute(self, voted: Vote) -> Executed | None:
        """The block of a journalled vote; None where its batch does not give the header voted for."""
        with contextlib.suppress(InputError):
            executed = await self.replica.run(
                self.replica.application.deliver, voted.time_ms, voted.transactions
            )
            if executed.tip.header_hash == voted.header_hash:
                return executed
        return None

    async def _voted_elsewhere(self, height: int) -> Vote | None:
        """The batch that most validators say they have voted for: matters only where our own journal was lost.

        A liar may say anything here. What does not execute to its header, or that no honest validator would
        vote for now, is ignored; of the rest our vote for one is as good as for another.
        """
        application = self.replica.application
        asked = [link.peer for link in self.links if link.peer.number in application.validators]
        said = await asyncio.gather(*(self._ask_journal(peer, height) for peer in asked))
        found = [vote for vote in said if vote is not None]
        support = Counter(vote.header_hash for vote in found)
        for vote in sorted(found, key=lambda vote: -support[vote.header_hash]):
            if vote.time_ms > application.now_ms() + limits.proposal_ahead_ms_max:
                continue
            if await self._execute(vote) is not None:
                return vote
        return None

    async def _ask_journal(self, peer: PeerClient, height: int) -> Vote | None:
        with contextlib.suppress(UnavailableError, RefusedError, InputError):
            vote = decode_journal(await peer.call("journal", [1, "journal", height], timeout_ms=2_000))
            if vote is not None and vote.height == height:
                return vote
        return None

    async def _wait_for_window(self) -> None:
        """Past the limit of uncertified blocks, and below the height of a peer, nothing new is proposed."""
        chain = self.replica.application.chain
        while self._ahead() or chain.tip.height - chain.certified >= limits.uncertified_blocks_max:
            await self.replica.news(1.0)

    async def _round(self, batch: list[bytes]) -> None:
        application = self.replica.application
        time_ms = max(application.now_ms(), application.chain.tip.time_ms + 1)
        executed = await self.replica.run(application.deliver, time_ms, batch)
        for transaction_id, reason in executed.skipped:
            self._forget(transaction_id)
            self._on_dropped(transaction_id, reason)
        if batch and not executed.leaves and application.chain.tip.height > 0:
            return
        await self._decide(executed, list(executed.leaves))

    async def _decide(self, executed: Executed, transactions: list[bytes]) -> None:
        """Steps 2 to 5 of a round."""
        begin = self._proposed_at = self._loop.time()
        await self.replica.run(self._propose, executed, transactions)
        self._notify()
        while True:
            self._moved.clear()
            votes = await self.replica.run(self.book.decision, executed.tip.header_hash)
            if votes is not None:
                break
            await self._moved.wait()
        decided = self._loop.time()
        self.on_timing("vote", decided - begin)
        await self.replica.run(self.replica.commit, executed, votes)
        self.on_timing("commit", self._loop.time() - decided)
        self.proposal = self._proposed_at = None
        for leaf_hash in executed.leaf_hashes:
            self._forget(leaf_hash)
        self._notify()

    def _propose(self, executed: Executed, transactions: list[bytes]) -> None:
        """On the ledger thread. The vote is durable before the proposal exists that carries it."""
        application = self.replica.application
        header = executed.header
        signature = application.vote(executed, transactions)
        self.book.add(
            SignedVote(
                member=application.keys.member,
                height=header.height,
                header_hash=executed.tip.header_hash,
                signature=signature,
            )
        )
        self.proposal = Proposal(
            height=header.height,
            time_ms=header.time_ms,
            transactions=tuple(transactions),
            header_hash=executed.tip.header_hash,
            signature=signature,
        )

    def take(self, answer: Answer) -> None:
        """On the ledger thread: what a peer answered to a step."""
        if answer.vote is not None:
            self.book.offer([answer.vote])
        self.replica.receive(answer.cosigns)

    # --- state --------------------------------------------------------------------------------

    @property
    def forks(self) -> Sequence[Fork]:
        """Contradictions among the votes seen."""
        return self.book.forks

    @property
    def current(self) -> bool:
        """The sequencer is never behind anybody."""
        return True

    @property
    def catching_up(self) -> bool:
        """See ``current``."""
        return False

    @property
    def hears(self) -> bool:
        """It calls the others: what it hears is up to itself."""
        return True

    def _ahead(self) -> list[str]:
        """Validators that say they know more decided blocks than we do, if one of them at least is no liar: only
        after our store was replaced by an older one.
        """
        validators = self.replica.application.validators
        tip = self.replica.application.chain.tip.height
        ahead = [
            link.peer.name
            for link in self.links
            if link.peer.number in validators and link.decided is not None and link.decided > tip
        ]
        return ahead if len(ahead) > (len(validators) - 1) // 3 else []

    def link_changed(self) -> None:
        """A peer answered or fell silent: rounds and links look again."""
        self._moved.set()
        self._notify()

    def _notify(self) -> None:
        for link in self.links:
            link.notify()

    @property
    def writes(self) -> str | None:
        """None while writes go on, else why they wait."""
        if self.forks and self.book.stuck():
            return f"halted: {self.forks[-1].text}"
        if self._ahead():
            return (
                f"{', '.join(self._ahead())} decided more blocks than this sequencer has: "
                "its store is an old copy; restore the newest one"
            )
        lost = self.replica.application.journal_lost
        if lost is not None and not self._may_propose():
            return lost
        validators = self.replica.application.validators
        silent = [link.peer.name for link in self.links if link.peer.number in validators and not link.up]
        answering = len(validators) - len(silent)
        if answering < self.replica.quorum:
            return (
                f"{answering} of {len(validators)} validators answer, {self.replica.quorum} are needed; "
                f"silent: {', '.join(silent)}"
            )
        if self._proposed_at is not None and self._loop.time() - self._proposed_at > _UNDECIDED_AFTER_S:
            said = [f"{link.peer.name}: {link.problem[:200]}" for link in self.links if link.problem]
            if said:
                return f"a block waits for its votes; {'; '.join(said)}"
        return None

    async def on_submit(self, _member: int, message: Any, wait: Callable[[bytes], Any]) -> Any:
        """Peer verb ``submit``: another member's node passes on a transaction."""
        if type(message) is not list or len(message) != 3 or message[:2] != [1, "submit"]:
            raise InputError('expected [1, "submit", transaction]')
        if type(message[2]) is not bytes:
            raise InputError("expected the transaction as bin")
        await wait(message[2])
        return [1, "submit"]

    def handlers(self) -> dict[str, Callable[[int, Any], Awaitable[Any]]]:
        """Peer verbs of this engine; the node adds ``submit``."""
        return {"votes": self.on_votes, "block": lambda _member, message: on_block(self.replica, message)}

    async def on_votes(self, _member: int, _message: Any) -> Any:
        """Peer verb ``votes``."""
        return await self.replica.run(
            lambda: encode_votes(self.replica.application.chain.tip.height, self.book.votes())
        )
