"""The embedded engine: what holds in a healthy network, with members down, lost messages, crashes and a
lying sequencer.
"""

from __future__ import annotations

import asyncio

import pytest
from cluster import Cluster, running
from signedkit import Signed

from taxledger.ledger.errors import RefusedError
from taxledger.ledger.store import MemoryStore
from taxledger.nodes.ordering.embedded import sequencer as sequencer_module
from taxledger.nodes.ordering.embedded.sequencer import Sequencer


async def test_a_network_certifies_its_first_block_by_itself() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        cluster.check_agreement()


async def test_a_transaction_is_certified_at_every_node() -> None:
    async with running() as cluster:
        raw = cluster.through(1)
        await cluster.until(cluster.certified(1))
        await cluster.submit(raw)
        await cluster.until(cluster.certified(2))
        assert {node.chain.block(2).transactions for node in cluster.nodes.values()} == {(raw,)}
        assert len({node.chain.view.root for node in cluster.nodes.values()}) == 1


async def test_one_of_four_down_does_not_stop_writes_and_it_catches_up() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.nodes[3].stop()
        for day in range(1, 31):
            await cluster.submit(cluster.through(day))
            await cluster.until(lambda day=day: cluster.nodes[1].chain.certified > day)
        await cluster.nodes[3].start()
        await cluster.until(cluster.certified(31))
        cluster.check_agreement()


async def test_two_of_four_down_writes_wait_with_a_reason_and_resume() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.nodes[3].stop()
        await cluster.nodes[4].stop()
        await cluster.submit(cluster.through(1))
        engine = cluster.nodes[1].engine
        assert isinstance(engine, Sequencer)
        await cluster.until(lambda: engine.writes is not None)
        assert engine.writes == "2 of 4 validators answer, 3 are needed; silent: v3, v4"
        assert cluster.nodes[1].chain.tip.height == 1
        await cluster.nodes[4].start()
        await cluster.until(cluster.certified(2, 1, 2, 4))
        assert engine.writes is None


@pytest.mark.parametrize("seed", range(6))
async def test_lost_messages_and_crashes_never_fork(seed: int) -> None:
    print(f"seed {seed}")
    async with running(seed=seed) as cluster:
        await cluster.until(cluster.certified(1))
        cluster.wire.loss = 0.2
        chance = cluster.wire.random
        for day in range(1, 16):
            if chance.random() < 0.3:
                number = chance.randint(1, 4)
                await cluster.nodes[number].stop()
                await asyncio.sleep(0.02)
                await cluster.nodes[number].start()
            await cluster.submit(cluster.through(day))
            if chance.random() < 0.5:
                height = cluster.nodes[1].chain.tip.height
                await cluster.until(lambda height=height: cluster.nodes[1].chain.tip.height >= height)
        cluster.wire.loss = 0.0
        last = cluster.through(400)
        await cluster.submit(last)
        await cluster.until(
            lambda: all(
                node.chain.certified == node.chain.tip.height and node.chain.is_logged(_id(last))
                for node in cluster.nodes.values()
            )
        )
        cluster.check_agreement()


def _id(raw: bytes) -> bytes:
    from taxledger.ledger.hashing import log_leaf

    return log_leaf(raw)


async def test_a_sequencer_killed_at_each_of_its_writes_votes_once_and_goes_on(
    honest_signatures: Signed,
) -> None:
    """The store of the sequencer fails before, or right after, its n-th write of a round."""
    for point in range(1, 5):
        for after in (False, True):
            async with running() as cluster:
                await cluster.until(cluster.certified(1))
                await _crash_sequencer(cluster, point, after=after)
            honest_signatures.renew()


async def _crash_sequencer(cluster: Cluster, point: int, *, after: bool) -> None:
    node = cluster.nodes[1]
    plain = node.store.write
    count = 0

    def failing(batch, *, sync=True):
        nonlocal count
        count += 1
        if count == point:
            if after:
                plain(batch, sync=sync)
            cluster.wire.down.add(1)
            raise ConnectionAbortedError  # the process is dead from here on
        if count > point:
            raise ConnectionAbortedError
        plain(batch, sync=sync)

    def not_exiting(function, *arguments):
        return function(*arguments)

    node.store.write = failing
    node.replica._guarded = not_exiting
    with_transaction = cluster.through(1)
    try:
        await cluster.submit(with_transaction)
        await asyncio.wait([node._task], timeout=2.0)
    except ConnectionAbortedError:
        pass
    votes_before = [
        message for sender, _, verb, message in cluster.wire.seen if sender == 1 and verb == "step"
    ]
    node._task.cancel()
    await asyncio.gather(node._task, return_exceptions=True)
    node._task = None
    node.store.write = plain
    await node.stop()
    cluster.wire.down.clear()
    await node.start()
    engine = node.engine
    assert isinstance(engine, Sequencer)
    if not node.chain.is_logged(_id(with_transaction)):
        await cluster.submit(with_transaction)
    await cluster.until(lambda: node.chain.is_logged(_id(with_transaction)))
    await cluster.until(cluster.certified(node.chain.tip.height))
    cluster.check_agreement()
    proposed = {}
    for message in votes_before + [m for s, _, verb, m in cluster.wire.seen if s == 1 and verb == "step"]:
        if message[5] is not None:
            height, header_hash = message[5][0], message[5][3]
            assert proposed.setdefault(height, header_hash) == header_hash, "two proposals for one height"


async def test_a_transaction_that_has_counted_does_not_expire() -> None:
    """Its sender asks again when it is old: it has its leaf, and to call it expired would have it sent anew."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        raw = cluster.through(1)
        await cluster.submit(raw)
        await cluster.until(cluster.certified(2))
        cluster.time_ms += 2 * 3_600_000
        with pytest.raises(RefusedError, match="already_logged"):
            await cluster.submit(raw)


async def test_a_sequencer_whose_clock_is_ahead_says_why_nothing_is_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequencer_module, "_UNDECIDED_AFTER_S", 0.2)
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        engine = cluster.nodes[1].engine
        application = cluster.nodes[1].replica.application
        monkeypatch.setattr(application, "now_ms", lambda: cluster.now_ms() + 60_000)
        await cluster.submit(cluster.through(1))
        await cluster.until(lambda: engine.writes is not None)
        assert engine.writes.startswith("a block waits for its votes; v2: time_ahead: ")
        cluster.time_ms += 60_000
        await cluster.until(cluster.certified(2))
        assert engine.writes is None


async def test_a_sequencer_that_lost_its_store_votes_for_nothing_before_it_has_heard_the_others() -> None:
    """It voted at these heights before: a vote of now would contradict that one."""
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2))
        await cluster.nodes[1].stop()
        cluster.nodes[1].store = MemoryStore()
        cluster.wire.down = {2, 3, 4}
        await cluster.nodes[1].start()
        await cluster.submit(cluster.through(2))
        await asyncio.sleep(0.5)
        assert cluster.nodes[1].chain.voted(1) is None
        cluster.wire.down = set()
        engine = cluster.nodes[1].engine
        await cluster.until(lambda: "old copy" in (engine.writes or ""))
        assert cluster.nodes[1].chain.voted(1) is None


async def test_info_says_where_an_engine_goes_on_after_a_restart() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        node = cluster.nodes[2]
        before = node.replica.application.info()
        assert (before.height, before.size) == (1, 2)
        assert before.root == node.replica.certified.checkpoint.root
        await node.stop()
        await node.start()
        assert node.replica.application.info() == before
