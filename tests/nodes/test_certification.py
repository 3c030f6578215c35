"""Counting co-signatures: what makes a block certified, how old an answer is, and what a lie leaves behind."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import chainkit
import pytest
from cluster import Cluster, running

from taxledger.ledger.chain import Chain
from taxledger.ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigner_name,
    decode_note,
    encode_note,
    sign_checkpoint,
)
from taxledger.ledger.errors import InputError, VerificationError
from taxledger.ledger.fork import verify_fork
from taxledger.ledger.genesis import Genesis
from taxledger.ledger.governance import member_set
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.policy import Policy, decode_policy, encode_policy, verify_checkpoint
from taxledger.ledger.store import MemoryStore
from taxledger.nodes.application import Application, CosignMessage, Keys, decode_cosign, encode_cosign
from taxledger.nodes.replica import Replica

HOUR_S = 3_600
AGE_MS_MAX = 600_000


def policy_of(cluster: Cluster) -> Policy:
    origin = cluster.nodes[1].replica.application.origin
    return decode_policy(
        encode_policy(
            origin=origin,
            log_keys=[chainkit.signer(n, "log").public_key for n in range(1, 5)],
            witnesses={f"v{n}": chainkit.signer(n, "cosign").public_key for n in range(1, 5)},
        )
    )


def note_of(checkpoint: Checkpoint, messages: list[CosignMessage]) -> bytes:
    log = chainkit.signer(1, "log")
    lines = [
        (
            cosigner_name("test.net", f"v{each.member}"),
            chainkit.signer(each.member, "cosign").public_key,
            each.time_s,
            each.signature,
        )
        for each in messages
    ]
    return encode_note(checkpoint, log.public_key, sign_checkpoint(log, checkpoint), lines)


def signed(cluster: Cluster, member: int, checkpoint: Checkpoint, time_s: int) -> bytes:
    signature = cosign(chainkit.signer(member, "cosign"), checkpoint, time_s)
    return encode_cosign(cluster.chain_id, member, checkpoint, time_s, signature)


async def test_a_liar_and_a_member_that_is_cut_off_cannot_make_an_old_state_look_fresh() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        cut_off, liar = cluster.nodes[4], 3
        old = cut_off.replica.certified.checkpoint
        before = [decode_cosign(raw, cluster.chain_id) for raw in cut_off.replica.certification.messages(1)]
        cluster.wire.down.add(4)
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2, 1, 2, 3))

        cluster.time_ms += HOUR_S * 1_000
        now_ms = cluster.now_ms()
        # The honest one that is cut off renews the newest tree it knows, the liar signs whatever helps.
        renewed = await cut_off.replica.run(cut_off.replica.application.renew_cosign)
        lie = signed(cluster, liar, old, now_ms // 1_000)
        await cut_off.replica.run(cut_off.replica.receive, [renewed, lie])
        served = list(cut_off.replica.certified.cosigns)
        assert [each.member for each in served[:2]] == [3, 4] or [each.member for each in served[:2]] == [
            4,
            3,
        ]

        everything = {(each.member, each.time_s): each for each in [*before, *served]}.values()
        policy = policy_of(cluster)
        for chosen in combinations(everything, 3):
            if len({each.member for each in chosen}) < 3:
                continue
            note = decode_note(note_of(old, sorted(chosen, key=lambda each: each.member)))
            with pytest.raises(VerificationError) as refused:
                verify_checkpoint(policy, note, now_ms=now_ms, age_ms_max=AGE_MS_MAX)
            assert refused.value.code == "checkpoint_stale"

        # The rest of the network is fresh: three honest heartbeats are enough.
        newest = cluster.nodes[1].replica.certified.checkpoint
        heartbeats = [signed(cluster, member, newest, now_ms // 1_000) for member in (1, 2, 3)]
        await cluster.nodes[1].replica.run(cluster.nodes[1].replica.receive, heartbeats)
        state = cluster.nodes[1].replica.certified
        fresh = decode_note(note_of(newest, list(state.cosigns)))
        assert verify_checkpoint(policy, fresh, now_ms=now_ms, age_ms_max=AGE_MS_MAX) < 2_000


async def test_the_age_served_is_that_of_the_qth_newest() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        replica = cluster.nodes[2].replica
        tree = replica.certified.checkpoint
        begin = cluster.now_ms() // 1_000
        cluster.time_ms += 40_000
        for member, later in ((1, 40), (2, 10), (3, 30), (4, 20)):
            await replica.run(replica.receive, [signed(cluster, member, tree, begin + later)])
        assert [each.member for each in replica.certified.cosigns] == [1, 3, 4]
        assert replica.certified.cosigned_time_ms == (begin + 20) * 1_000
        # An older one of the same member does not replace a newer one.
        await replica.run(replica.receive, [signed(cluster, 1, tree, begin + 5)])
        assert replica.certified.cosigns[0].time_s == begin + 40


async def test_a_clock_that_was_set_back_does_not_leave_signatures_from_the_future() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        replica = cluster.nodes[2].replica
        tree = replica.certified.checkpoint
        right_ms = cluster.now_ms()
        cluster.time_ms = right_ms + HOUR_S * 1_000
        wrong = await replica.run(replica.application.renew_cosign)
        await replica.run(replica.receive, [wrong])
        cluster.time_ms = right_ms + 2_000
        renewed = await replica.run(replica.application.renew_cosign)
        assert await replica.run(replica.receive, [renewed]) == []
        assert all(each.time_s <= right_ms // 1_000 + 2 for each in replica.certified.cosigns)
        assert replica.certified.checkpoint == tree


async def test_cosignatures_survive_a_restart() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        node = cluster.nodes[2]
        tree = node.replica.certified.checkpoint
        later = cluster.now_ms() // 1_000 + 20
        heartbeats = [signed(cluster, member, tree, later) for member in (1, 3, 4)]
        await node.replica.run(node.replica.receive, heartbeats)
        before = node.replica.certified
        await node.stop()
        await node.start()
        after = node.replica.certified
        assert (after.height, after.checkpoint, after.cosigns) == (1, tree, before.cosigns)


async def test_a_restart_knows_who_cosigns_a_block_from_before_a_change_of_validators() -> None:
    """Member 8 leaves with block 3. A node that starts again at block 2 still shows its co-signature."""
    network = chainkit.TestChain(genesis_of_five())
    leave = member_set(chainkit.validator(8, status=2), network.chain_id, [])
    propose = network.sign(encode_propose(leave), 1)
    proposal = chainkit.hashing.log_leaf(propose)[:16]
    network.add(propose, *(network.sign(encode_approve(proposal), member) for member in (2, 3, 4)))
    network.add()
    network.add()
    assert [len(block.executed.validators) for block in network.blocks] == [5, 5, 4]
    keys = Keys(member=6)
    store = MemoryStore()

    def open_node() -> Replica:
        application = Application(Chain(store, network.genesis_leaf), keys, lambda: chainkit.TIME_MS + 60_000)
        return Replica(application)

    replica = open_node()
    for height, block in enumerate(network.blocks, 1):
        executed = replica.application.deliver(block.executed.header.time_ms, block.executed.leaves)
        messages = [
            encode_cosign(network.chain_id, member, network.checkpoint(block.executed), time_s, signature)
            for member, time_s, signature in block.cosigns
        ]
        certified = messages if height < 3 else messages[:2]
        await replica.run(replica.commit, executed, block.votes, certified)
    before = replica.certified
    replica.close()
    after = open_node().certified
    assert before.height == after.height == 2
    assert sorted(after.validators) == sorted(before.validators) == [1, 2, 3, 4, 8]
    assert after.cosigns == before.cosigns


def genesis_of_five() -> Genesis:
    """Validators 1, 2, 3, 4 and 8."""
    four = chainkit.make_genesis()
    return replace(four, members=(*four.members, chainkit.validator(8)))


async def test_another_root_at_our_size_is_kept_as_fork_evidence() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        replica = cluster.nodes[2].replica
        tree = replica.certified.checkpoint
        other = Checkpoint(origin=tree.origin, size=tree.size, root=bytes(32))
        later = cluster.now_ms() // 1_000 + 100
        await replica.run(replica.receive, [signed(cluster, 3, tree, later - 100)])  # it may be here already
        problems = await replica.run(replica.receive, [signed(cluster, 3, other, later)])
        assert "v3 co-signed a tree of 2 leaves that is not ours" in problems[0]
        (fork,) = replica.certification.forks
        assert fork.convicts
        assert "v3 co-signed two different trees of 2 leaves" in fork.text
        assert verify_fork(fork.evidence, policy_of(cluster)) == ("v3",)
        assert all(each.root == tree.root for each in replica.certified.cosigns)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 2), (1, "vote"), (2, bytes(16)), (3, 0), (4, 0), (5, bytes(31)), (6, -1), (7, bytes(63)), (7, None)],
)
async def test_messages_of_another_shape_are_refused(at: int, value: object) -> None:
    from taxledger.ledger import canonical

    chain_id = bytes(range(16))
    good = [1, "cosign", chain_id, 1, 5, bytes(32), 7, bytes(64)]
    assert decode_cosign(canonical.encode(good), chain_id).size == 5
    bad = [*good[:at], value, *good[at + 1 :]]
    with pytest.raises(InputError):
        decode_cosign(canonical.encode(bad), chain_id)


async def test_cosignatures_of_a_clock_that_was_ahead_are_counted_when_the_time_has_come() -> None:
    """v2 and v4, who were ahead, have each other's and certify; nobody asked them for those of before again."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        for number in (2, 4):
            cluster.nodes[number].ahead_ms = HOUR_S * 1_000
        for day in range(1, 5):
            await cluster.submit(cluster.through(day))
            await cluster.until(lambda height=day + 1: height <= cluster.nodes[4].chain.tip.height)
        await cluster.until(cluster.certified(5, 2, 4))
        assert [cluster.nodes[number].chain.certified for number in (1, 3)] == [1, 1]
        cluster.nodes[2].ahead_ms = cluster.nodes[4].ahead_ms = 0
        await cluster.nodes[1].stop()  # what it has not counted, it has forgotten
        cluster.time_ms += HOUR_S * 1_000
        await cluster.nodes[1].start()
        await cluster.until(cluster.certified(5))


async def test_blocks_of_when_clocks_were_ahead_are_certified_below_one_of_the_right_time() -> None:
    """Nobody may sign the old trees anew, and nothing later would be certified for an hour."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        for number in (2, 4):
            cluster.nodes[number].ahead_ms = HOUR_S * 1_000
        for day in range(1, 4):
            await cluster.submit(cluster.through(day))
            await cluster.until(lambda height=day + 1: cluster.nodes[4].chain.certified >= height)
        for number in (2, 4):
            cluster.nodes[number].ahead_ms = 0
        sequencer = cluster.nodes[1]
        for number in (2, 4):  # one of them makes a quorum with v1 and v3, as of now
            assert sequencer.chain.certified == 1
            own = cluster.nodes[number].replica
            message = await own.run(own.application.renew_cosign)
            await sequencer.replica.run(sequencer.replica.receive, [message])
            if sequencer.chain.certified == 4:
                break
        now_s = cluster.now_ms() // 1_000
        assert all(each.time_s <= now_s for each in sequencer.replica.certified.cosigns)
        await cluster.submit(cluster.through(9))
        await cluster.until(cluster.certified(5))
        for node in cluster.nodes.values():
            assert all(each.time_s <= now_s + HOUR_S / 2 for each in node.replica.certified.cosigns)
