"""A sequencer that lies: it holds the sequencer's keys and plays against three honest validators.

It may send anything to anybody. What must hold whatever it does: no height gets two decisions or two certificates, no
honest validator votes twice at a height or co-signs two inconsistent trees, and a split that can't be decided any more
is named with evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import chainkit
import pytest
from cluster import Cluster, LocalNode, Wire

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InputError, RefusedError
from taxledger.ledger.execute import Executed
from taxledger.ledger.fork import verify_fork_of
from taxledger.ledger.header import vote_message
from taxledger.ledger.store import MemoryStore
from taxledger.nodes.application import Application, Keys, decode_cosign
from taxledger.nodes.ordering.embedded import follower as follower_module
from taxledger.nodes.ordering.embedded.follower import Follower
from taxledger.nodes.ordering.embedded.messages import (
    Answer,
    DecidedBlock,
    Proposal,
    SignedVote,
    Step,
    decode_answer,
    encode_step,
)


class Liar:
    """The sequencer's keys and a ledger of its own to compute headers with."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        signers = {use: chainkit.signer(1, use) for use in ("vote", "log", "cosign")}
        self.application = Application(
            Chain(MemoryStore(), cluster.genesis_leaf),
            Keys(member=1, **signers, fresh=frozenset({"vote", "cosign"})),
            cluster.now_ms,
        )

    @property
    def chain(self) -> Chain:
        return self.application.chain

    def execute(self, *transactions: bytes, time_ms: int | None = None) -> Executed:
        return self.application.deliver(time_ms or self.cluster.now_ms(), transactions)

    def vote(self, executed: Executed) -> bytes:
        """Signed without any journal: it votes for whatever it likes."""
        message = vote_message(self.chain.chain_id, executed.header.height, executed.tip.header_hash)
        return chainkit.signer(1, "vote").sign(message)

    def proposal(self, executed: Executed) -> Proposal:
        return Proposal(
            height=executed.header.height,
            time_ms=executed.header.time_ms,
            transactions=tuple(executed.leaves),
            header_hash=executed.tip.header_hash,
            signature=self.vote(executed),
        )

    async def send(self, number: int, step: Step) -> Answer:
        data = await self.cluster.wire.call(1, number, "step", encode_step(step, self.chain.chain_id))
        return decode_answer(data, number)

    async def propose(self, number: int, executed: Executed) -> Answer:
        return await self.send(
            number, Step(status=None, blocks=(), proposal=self.proposal(executed), cosigns=(), certified=0)
        )

    async def decide(self, number: int, executed: Executed, votes: Sequence[tuple[int, bytes]]) -> Answer:
        block = DecidedBlock(
            height=executed.header.height,
            time_ms=executed.header.time_ms,
            transactions=tuple(executed.leaves),
            header_hash=executed.tip.header_hash,
            votes=tuple(votes),
            cosigns=(),
        )
        return await self.send(
            number, Step(status=None, blocks=(block,), proposal=None, cosigns=(), certified=0)
        )


class Stage:
    """Three honest followers and a liar."""

    async def __aenter__(self) -> Stage:
        self.cluster = Cluster()
        for number in (2, 3, 4):
            await self.cluster.nodes[number].start()
        self.cluster.wire.handlers[1] = {}
        self.liar = Liar(self.cluster)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for number in (2, 3, 4):
            await self.cluster.nodes[number].stop()

    def node(self, number: int) -> LocalNode:
        return self.cluster.nodes[number]


def _votes(executed: Executed, *answers: Answer) -> list[tuple[int, bytes]]:
    return [
        (answer.vote.member, answer.vote.signature)
        for answer in answers
        if answer.vote is not None and answer.vote.header_hash == executed.tip.header_hash
    ]


async def test_it_cannot_get_two_decisions_for_one_height() -> None:
    async with Stage() as stage:
        liar = stage.liar
        one, two = liar.execute(stage.cluster.through(1)), liar.execute(stage.cluster.through(2))
        first = [await liar.propose(number, one) for number in (2, 3)]
        second = [await liar.propose(number, two) for number in (3, 4)]
        for_one = [(1, liar.vote(one)), *_votes(one, *first, *second)]
        for_two = [(1, liar.vote(two)), *_votes(two, *first, *second)]
        assert [member for member, _ in for_one] == [1, 2, 3, 3]  # the third repeats its vote for the first
        assert [member for member, _ in for_two] == [1, 4]
        answer = await liar.decide(4, two, for_two)
        assert answer.decided == 0
        assert "quorum_missing" in (answer.problem or "")
        repeated = await liar.decide(4, two, [*for_two, for_two[-1]])
        assert "signer_repeated" in (repeated.problem or "")
        decided = [await liar.decide(number, one, for_one[:3]) for number in (2, 3, 4)]
        assert [answer.decided for answer in decided] == [1, 1, 1]
        headers = {stage.node(number).chain.header_leaf(1) for number in (2, 3, 4)}
        assert headers == {one.header_leaf}


async def test_votes_that_others_did_not_give_decide_nothing() -> None:
    async with Stage() as stage:
        liar = stage.liar
        block = liar.execute(stage.cluster.through(1))
        answer = await liar.propose(2, block)
        own = liar.vote(block)
        forged = [(1, own), *_votes(block, answer), (3, own)]
        refused = await liar.decide(4, block, forged)
        assert refused.decided == 0
        assert "signature_invalid" in (refused.problem or "")
        stranger = await liar.decide(4, block, [(1, own), *_votes(block, answer), (9, own)])
        assert "signer_unknown" in (stranger.problem or "")


async def test_an_honest_validator_cosigns_one_tree_only() -> None:
    """Whatever is proposed and decided in whatever order: all co-signatures of a validator lie on one log."""
    async with Stage() as stage:
        liar = stage.liar
        one, two = liar.execute(stage.cluster.through(1)), liar.execute(stage.cluster.through(2))
        answers = [await liar.propose(number, one) for number in (2, 3, 4)]
        votes = [(1, liar.vote(one)), *_votes(one, *answers)]
        cosigns: dict[int, set[tuple[int, bytes]]] = {number: set() for number in (2, 3, 4)}
        for executed in (two, one, two, one):
            for number in (2, 3, 4):
                answer = await liar.decide(number, executed, votes)
                for raw in answer.cosigns:
                    message = decode_cosign(raw, liar.chain.chain_id)
                    cosigns[number].add((message.size, message.root))
        tree = (one.tip.frontier.size, one.tip.frontier.root)
        assert cosigns == {2: {tree}, 3: {tree}, 4: {tree}}


async def test_a_crash_between_vote_and_decision_does_not_free_a_validator_to_vote_again() -> None:
    async with Stage() as stage:
        liar = stage.liar
        one, two = liar.execute(stage.cluster.through(1)), liar.execute(stage.cluster.through(2))
        before = await liar.propose(2, one)
        await stage.node(2).stop()
        await stage.node(2).start()
        after = await liar.propose(2, two)
        assert before.vote == after.vote
        assert "voted for another header" in (after.problem or "")


async def test_a_header_that_the_batch_does_not_give_gets_no_vote() -> None:
    async with Stage() as stage:
        liar = stage.liar
        one, two = liar.execute(stage.cluster.through(1)), liar.execute(stage.cluster.through(2))
        mixed = Proposal(
            height=1,
            time_ms=one.header.time_ms,
            transactions=tuple(two.leaves),
            header_hash=one.tip.header_hash,
            signature=liar.vote(one),
        )
        answer = await liar.send(2, Step(status=None, blocks=(), proposal=mixed, cosigns=(), certified=0))
        assert answer.vote is None
        assert "diverged" in (answer.problem or "")


async def test_a_block_from_the_future_gets_no_vote() -> None:
    async with Stage() as stage:
        ahead = stage.liar.execute(stage.cluster.through(1), time_ms=stage.cluster.now_ms() + 11_000)
        answer = await stage.liar.propose(2, ahead)
        assert answer.vote is None
        assert "time_ahead" in (answer.problem or "")


async def test_only_the_sequencer_may_send_steps() -> None:
    async with Stage() as stage:
        block = stage.liar.execute(stage.cluster.through(1))
        step = Step(status=None, blocks=(), proposal=stage.liar.proposal(block), cosigns=(), certified=0)
        with pytest.raises(RefusedError, match="not_sequencer"):
            await stage.cluster.wire.call(3, 2, "step", encode_step(step, stage.liar.chain.chain_id))


async def test_a_split_halts_with_evidence_that_names_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "_UNDECIDED_AFTER_S", 0.0)
    async with Stage() as stage:
        liar = stage.liar
        one, two = liar.execute(stage.cluster.through(1)), liar.execute(stage.cluster.through(2))
        await liar.propose(2, one)
        for number in (3, 4):
            await liar.propose(number, two)
        # Its own votes went to both sides, each follower has seen one of them; then it falls silent.
        followers: list[Follower] = []
        for number in (2, 3, 4):
            engine = stage.node(number).engine
            assert isinstance(engine, Follower)
            followers.append(engine)
        await stage.cluster.until(lambda: all(engine.forks for engine in followers))
        for engine in followers:
            fork = engine.forks[-1]
            assert fork.members == (1,), "the sequencer voted for two headers: it alone is convicted"
            assert "voted for two headers: v1" in fork.text
            assert fork.convicts
            verify_fork_of(fork.evidence, chainkit.validator(1), liar.chain.chain_id)


async def test_a_split_of_honest_votes_stops_writes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """2–2: the liar's own vote counts on one side only, nobody voted twice, and no header can win."""
    monkeypatch.setattr(follower_module, "_UNDECIDED_AFTER_S", 0.0)
    async with Stage() as stage:
        liar = stage.liar
        one, two = liar.execute(stage.cluster.through(1)), liar.execute(stage.cluster.through(2))
        await liar.propose(2, one)
        engine = stage.node(2).engine
        assert isinstance(engine, Follower)
        for number in (3, 4):
            await liar.propose(number, two)
        # Two headers, two votes each, everybody known: votes of 1 for ``two`` are never shown to anybody.
        for number in (2, 3, 4):
            other = stage.node(number).engine
            assert isinstance(other, Follower)
            other.book._votes.pop(1, None)
        honest = SignedVote(member=1, height=1, header_hash=one.tip.header_hash, signature=liar.vote(one))
        await stage.node(2).replica.run(engine.book.offer, [honest])
        await stage.cluster.until(lambda: bool(engine.forks))
        assert engine.book.stuck()
        assert engine.writes is not None
        assert engine.writes.startswith("halted: votes for height 1 are split: ")
        assert not any(fork.convicts for fork in engine.forks), "nobody voted twice"
        for names in ("v1, v2", "v3, v4"):
            assert names in engine.writes


async def test_garbage_in_every_field_is_refused_and_changes_nothing() -> None:
    async with Stage() as stage:
        liar = stage.liar
        good = encode_step(
            Step(status=None, blocks=(), proposal=liar.proposal(liar.execute()), cosigns=(), certified=0),
            liar.chain.chain_id,
        )
        junk: list[Any] = [None, -1, 2**63, "x", b"", b"\xff" * 65, [], [[]], {"a": 1}]
        for at in range(len(good)):
            for value in junk:
                await _refused_or_idle(stage.cluster.wire, [*good[:at], value, *good[at + 1 :]])
        proposal = good[5]
        for at in range(len(proposal)):
            for value in junk:
                bad = [*proposal[:at], value, *proposal[at + 1 :]]
                await _refused_or_idle(stage.cluster.wire, [*good[:5], bad, good[6]])
        assert stage.node(2).chain.tip.height == 0


async def _refused_or_idle(wire: Wire, message: Any) -> None:
    """Bad shapes are refused; what is well formed by chance may be answered, but never with a decision."""
    try:
        data = await wire.call(1, 2, "step", message)
    except (InputError, RefusedError):
        return
    assert decode_answer(data, 2).decided == 0
    await asyncio.sleep(0)
