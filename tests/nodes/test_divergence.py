"""A node whose state is not that of the others stops itself before it signs; a node that is lied to does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import chainkit
import pytest
from cluster import Cluster, running
from test_lying_sequencer import Stage, _votes
from test_lying_validator import signed, tell

from taxledger.ledger.members import encode_member
from taxledger.ledger.statekeys import member_key
from taxledger.nodes.application import decode_cosign
from taxledger.nodes.forks.halting import HALTED_EXIT_STATUS, clear_halt, read_halt, write_halt
from taxledger.nodes.ordering.embedded import follower as follower_module

NO_ISSUER = chainkit.client(chainkit.ISSUER, "tax", role=2, kinds=())


def change_by_hand(cluster: Cluster, number: int, key: bytes, value: bytes) -> None:
    store = cluster.nodes[number].store
    assert store.get(b"m" + key) not in (None, value)
    store.write({b"m" + key: value})


def signed_by(cluster: Cluster, number: int) -> set[tuple[int, bytes]]:
    """(size, root) of every co-signature of a member that any node holds."""
    found = set()
    for node in cluster.nodes.values():
        for height in range(1, node.chain.tip.height + 1):
            for raw in node.replica.certification.messages(height):
                message = decode_cosign(raw, cluster.chain_id)
                if message.member == number:
                    found.add((message.size, message.root))
    return found


async def test_a_value_changed_by_hand_stops_that_node_before_it_signs() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2))
        # Here the issuer may issue nothing: what it sends is refused by another rule than elsewhere.
        change_by_hand(cluster, 3, member_key(chainkit.ISSUER), encode_member(NO_ISSUER))
        before = signed_by(cluster, 3)
        await cluster.submit(cluster.through(2))
        await cluster.until(cluster.certified(3, 1, 2, 4))
        await cluster.until(lambda: cluster.nodes[3].halted is not None)
        assert "diverged from the others before height 3" in cluster.nodes[3].halted
        assert "results_root" in cluster.nodes[3].halted
        await cluster.submit(cluster.through(3))
        await cluster.until(cluster.certified(4, 1, 2, 4))
        assert signed_by(cluster, 3) == before
        application = cluster.nodes[3].replica.application
        assert application.is_validator is False
        assert await cluster.nodes[3].replica.run(application.renew_cosign) is None
        assert not any(cluster.nodes[number].halted for number in (1, 2, 4))


async def test_more_contradictions_than_liars_stop_a_node() -> None:
    """Under whatever engine: its log is there, committed, and the others co-signed another one."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        size = cluster.nodes[2].replica.certified.checkpoint.size
        now_s = cluster.now_ms() // 1_000
        for member in (3, 4):
            assert cluster.nodes[2].halted is None
            await tell(cluster, 2, signed(cluster, size, bytes([7]) * 32, now_s, member))
        await cluster.until(lambda: cluster.nodes[2].halted is not None)
        text = cluster.nodes[2].halted
        for part in ("height 1", f"log size {size}", "v3 0707", "v4 0707"):
            assert part in text
        assert cluster.nodes[2].replica.application.renew_cosign() is None


async def test_one_liar_stops_nobody_however_much_it_signs() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        size = cluster.nodes[2].replica.certified.checkpoint.size
        now_s = cluster.now_ms() // 1_000
        for each in range(1, size + 40):
            lies = [signed(cluster, each, bytes([n + 1]) * 32, now_s + n) for n in range(3)]
            for number in (1, 2, 3):
                await tell(cluster, number, *lies)
        for day in (1, 2):
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(1 + day, 1, 2, 3))
        assert not any(cluster.nodes[number].halted for number in (1, 2, 3))


async def test_a_cosigner_that_left_contradicts_nobody() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        now_s = cluster.now_ms() // 1_000
        stranger = signed(cluster, 2, bytes([7]) * 32, now_s, chainkit.ISSUER)
        assert "signer_unknown" in (await tell(cluster, 2, stranger))[0]
        await tell(cluster, 2, signed(cluster, 2, bytes([7]) * 32, now_s, 4))
        assert cluster.nodes[2].halted is None


async def test_a_sequencer_that_sends_another_batch_than_was_decided_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the follower both look alike at first: q votes for a header that its own execution does not give."""
    async with Stage() as stage:
        liar, cluster = stage.liar, stage.cluster
        one, two = liar.execute(cluster.through(1)), liar.execute(cluster.through(2))
        answers = [await liar.propose(number, one) for number in (2, 3)]
        votes = [(1, liar.vote(one)), *_votes(one, *answers)]
        for number in (2, 3):
            assert (await liar.decide(number, one, votes)).decided == 1
        # The right votes, the wrong batch; then the right time with the wrong batch.
        for leaves in (two.leaves, []):
            answer = await liar.decide(4, replace(one, leaves=list(leaves)), votes)
            assert "diverged" in (answer.problem or "")
            engine = stage.node(4).engine
            await follower_module.ask_block(stage.node(4).replica, engine._others, engine._unlike)
            assert stage.node(4).halted is None
        assert (await liar.decide(4, one, votes)).decided == 1


async def test_who_lies_about_a_block_halts_nobody() -> None:
    """The block that a follower asks for comes from a liar: its bytes must be those that were decided."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2))
        chain = cluster.nodes[1].chain
        right = [1, "block", chain.header_leaf(2), list(chain.results(2))]
        header_hash = chainkit.hashing.log_leaf(right[2])
        for wrong in (
            None,
            [],
            [1, "block", chain.header_leaf(1), list(chain.results(1))],
            [1, "block", right[2], []],
            [1, "block", right[2] + b"\0", right[3]],
            [1, "block", None, None],
        ):

            async def answer(_member: int, _message: object, wrong: object = wrong) -> object:
                return wrong

            cluster.wire.handlers[2]["block"] = answer
            engine = cluster.nodes[3].engine
            unlike = follower_module.Unlike(3, header_hash, 1, (b"",))
            await follower_module.ask_block(cluster.nodes[3].replica, engine._others[:1], unlike)
            assert cluster.nodes[3].halted is None


def test_the_reason_stays_until_somebody_acts(tmp_path: Path) -> None:
    assert read_halt(tmp_path) is None
    assert "because" in write_halt(tmp_path, "because")
    assert "because" in write_halt(tmp_path, "of something later")
    assert "ledger check" in (read_halt(tmp_path) or "")
    (tmp_path / "halted.json").write_bytes(b"{")
    assert "cannot be read" in (read_halt(tmp_path) or "")
    assert clear_halt(tmp_path)
    assert not clear_halt(tmp_path)
    assert HALTED_EXIT_STATUS not in (0, 1, 2, 70)
