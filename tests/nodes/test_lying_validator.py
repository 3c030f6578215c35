"""One validator that lies to the others: it holds its own keys, and what it signs is true of nothing.

It may say anything on any verb. What must hold whatever it says: nobody stops, nobody's answers become
unusable, and the others go on writing.
"""

from __future__ import annotations

from typing import Any

import chainkit
import pytest
from cluster import Cluster, running

from taxledger.ledger import limits
from taxledger.ledger.checkpoint import Checkpoint, cosign
from taxledger.ledger.fork import verify_fork_of
from taxledger.nodes.application import encode_cosign
from taxledger.nodes.ordering.embedded.messages import Answer, encode_answer
from taxledger.nodes.ordering.embedded.sequencer import Sequencer

LIAR = 4


def signed(cluster: Cluster, size: int, root: bytes, time_s: int, member: int = LIAR) -> bytes:
    origin = cluster.nodes[1].replica.application.origin
    checkpoint = Checkpoint(origin=origin, size=size, root=root)
    signature = cosign(chainkit.signer(member, "cosign"), checkpoint, time_s)
    return encode_cosign(cluster.chain_id, member, checkpoint, time_s, signature)


async def tell(cluster: Cluster, number: int, *messages: bytes) -> list[str]:
    replica = cluster.nodes[number].replica
    return await replica.run(replica.receive, list(messages))


@pytest.mark.parametrize("leaves", [1, 2, 3])
async def test_a_false_tree_signed_ahead_of_time_stops_nobody(leaves: int) -> None:
    """It arrives before the block it contradicts: when the block comes, that must not end the engine."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        size = cluster.nodes[1].replica.certified.checkpoint.size
        lie = signed(cluster, size + leaves, bytes(32), cluster.now_ms() // 1_000)
        for number in (1, 2, 3):
            await tell(cluster, number, lie)
        for day in (1, 2):
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(1 + day, 1, 2, 3))
        assert not cluster.nodes[1]._task.done()
        # It co-signs the real tree as well, and everybody hears its heartbeat: that convicts it, whatever size the
        # lie has.
        await cluster.until(cluster.certified(3))
        liar = cluster.nodes[LIAR].replica
        renewed = await liar.run(liar.application.renew_cosign)
        for number in (1, 2, 3):
            await tell(cluster, number, renewed)
        for number in (1, 2, 3):
            forks = cluster.nodes[number].replica.certification.forks
            await cluster.until(lambda forks=forks: any(fork.convicts for fork in forks))
            assert {fork.members for fork in forks} == {(LIAR,)}
            evidence = next(fork.evidence for fork in forks if fork.convicts)
            verify_fork_of(evidence, chainkit.validator(LIAR), cluster.chain_id)


async def test_a_cosignature_from_the_future_is_not_served() -> None:
    """A verifier refuses a note with one: whoever is believed could make all answers of others unusable."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        tree = cluster.nodes[2].replica.certified.checkpoint
        now_ms = cluster.now_ms()
        ahead = signed(cluster, tree.size, tree.root, now_ms // 1_000 + 3_600)
        problems = await tell(cluster, 2, ahead)
        assert "ahead" in problems[0]
        assert all(
            each.time_s * 1_000 <= now_ms + limits.cosignature_ahead_ms_max
            for each in cluster.nodes[2].replica.certified.cosigns
        )
        # Once our own clock has come as far it counts like any other.
        cluster.time_ms += 3_600_000
        assert await tell(cluster, 2, ahead) == []
        assert cluster.nodes[2].replica.certified.cosigns[0].member == LIAR


async def test_evidence_against_a_member_is_kept_once_and_not_for_every_lie() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        for day in range(1, 6):
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(day + 1))
        size = cluster.nodes[2].replica.certified.checkpoint.size
        now_s = cluster.now_ms() // 1_000
        for each in range(2, size + 1):
            await tell(cluster, 2, *(signed(cluster, each, bytes([n] * 32), now_s + n) for n in range(4)))
        assert 1 <= len(cluster.nodes[2].replica.certification.forks) <= 2


async def test_a_member_that_claims_to_be_ahead_does_not_stop_writes() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))

        async def ahead(_member: int, _message: Any) -> Any:
            return encode_answer(Answer(decided=10**9, certified=10**9, vote=None, cosigns=(), problem=None))

        cluster.wire.handlers[LIAR]["step"] = ahead
        engine = cluster.nodes[1].engine
        assert isinstance(engine, Sequencer)
        await cluster.until(lambda: any((link.decided or 0) > 10**6 for link in engine.links))
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2, 1, 2, 3))
        assert engine.writes is None


FUTURE_MS = 10**9


@pytest.mark.parametrize("how", ["time", "header", "batch", "shape"])
async def test_a_false_journal_neither_stops_the_sequencer_nor_is_voted_for(how: str) -> None:
    """At its start the sequencer asks what the others have voted for; the first to answer is a liar."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.nodes[1].stop()
        other = cluster.nodes[2].replica.application
        time_ms = cluster.now_ms() + (FUTURE_MS if how == "time" else 0)
        executed = await cluster.nodes[2].replica.run(other.deliver, time_ms, [])
        header_hash = bytes(32) if how == "header" else executed.tip.header_hash
        batch = [b"x" * 65_535] * 100 if how == "batch" else []

        async def journal(_member: int, _message: Any) -> Any:
            if how == "shape":
                return [1, "journal", [2, "time", [], b""]]
            return [1, "journal", [2, time_ms, batch, header_hash]]

        cluster.wire.handlers[2]["journal"] = journal
        await cluster.nodes[1].start()
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2))
        assert not cluster.nodes[1]._task.done()
        assert cluster.nodes[1].chain.tip.time_ms < cluster.now_ms() + limits.proposal_ahead_ms_max


async def test_a_validator_that_caught_up_renews_the_newest_tree() -> None:
    """It was away when the newest block was certified. Its heartbeats must keep that tree fresh, or answers
    become stale while a quorum is alive.
    """
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.nodes[3].stop()
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2, 1, 2, 4))
        await cluster.nodes[3].start()
        await cluster.until(cluster.certified(2))
        cluster.time_ms += 3_600_000
        now_s = cluster.now_ms() // 1_000
        for number in (1, 2, 3):
            application = cluster.nodes[number].replica.application
            renewed = await cluster.nodes[number].replica.run(application.renew_cosign)
            assert await tell(cluster, 1, renewed) == []
        state = cluster.nodes[1].replica.certified
        assert state.cosigned_time_ms >= now_s * 1_000
