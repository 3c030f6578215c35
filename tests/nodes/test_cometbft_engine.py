"""The node under every legal sequence of the engine's calls, with a crash at each point: the same ledger comes out.

For each engine block of a short history, all ways through its height are tried, each from the state that the height
before left; as every one of them ends in the same bytes on the disk, all sequences of heights do.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import chainkit
import pytest
from enginekit import FaultyStore, Net, ServedNode
from fakeengine import Block, Disk, EngineStopped, FakeEngine

from taxledger.ledger.governance import member_set
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.nodes.application import decode_cosign
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.blocks import is_cosign
from taxledger.nodes.ordering.cometbft.statesync import Markers

OWN = 2


@dataclass(frozen=True)
class Step:
    """A decided engine block, and the clock when it was: ``others`` are proposals that were not decided."""

    block: Block
    others: tuple[Block, ...]
    candidates: tuple[bytes, ...]
    now_ms: int


def history() -> tuple[Net, list[Step]]:
    """Ten blocks: first, co-signatures only, transactions, a change of the validators."""
    net, steps = Net(), list[Step]()
    app_hash = net.ledgers[0].chain.tip.frontier.root

    def decide(*candidates: bytes) -> None:
        nonlocal app_hash
        now_ms, time_ns = net.now_ms, net.engine_ns
        # The proposer's transactions are made before anything is decided.
        proposal = net.propose(*candidates)
        other = net.ledgers[0].blocks.prepare(time_ns, [net.through(len(steps) + 10)], 5_000_000)
        done = net.decide(*candidates)[0]
        block = Block(height=net.height, time_ns=time_ns, txs=tuple(proposal), app_hash=app_hash)
        assert other != proposal
        others = (replace(block, txs=tuple(other)), replace(block, txs=(b"junk",)))
        steps.append(Step(block, others, candidates, now_ms))
        if all(is_cosign(raw) for raw in proposal) and net.height > 1 and done.executed is None:
            assert done.app_hash == app_hash
        app_hash = done.app_hash

    decide(), decide()
    decide(net.through(1)), decide()
    decide(net.through(2), net.through(3))
    chain_id = chainkit.hashing.sha256(net.genesis)[:16]
    signers = [chainkit.signer(9, use) for use in ("transaction", "vote", "log", "cosign")]
    propose = net.transaction(encode_propose(member_set(chainkit.validator(9), chain_id, signers)), member=1)
    decide(propose)
    accept = encode_approve(chainkit.hashing.log_leaf(propose)[:16])
    decide(*(net.transaction(accept, member=each) for each in (2, 3)))
    decide(), decide(), decide()
    return net, steps


class Run:
    """One member's node and its engine, and the way both go."""

    def __init__(self, net: Net, folder: Path, store: FaultyStore | None = None, disk: Disk | None = None):
        self.net = net
        self.node = ServedNode(net, OWN, folder, store=store)
        self.disk = disk or self.node.disk()
        self.engine = FakeEngine(self.node.socket, self.disk)

    async def start(self) -> None:
        await self.node.start()
        await self.engine.start()

    async def stop(self) -> None:
        await self.engine.close()
        await self.node.stop()

    async def crash(self, who: str) -> None:
        """``engine``, ``node`` or ``both``: an engine stops in any case when its application does."""
        await self.engine.close()
        if who != "engine":
            await self.node.stop()
            await self.node.start()
        self.engine = FakeEngine(self.node.socket, self.disk)
        if who != "handshake":
            await self.engine.start()

    async def go_on(self, step: Step) -> None:
        """After a crash: the height is decided unless it was."""
        if len(self.disk.blocks) < step.block.height:
            assert await self.engine.process(step.block)
            await self.engine.decide(step.block)


Rounds = Callable[[FakeEngine, Step], Awaitable[None]]
Way = Callable[[Run, Step], Awaitable[None]]


async def replayed(_engine: FakeEngine, _step: Step) -> None:
    pass


async def one_round(engine: FakeEngine, step: Step) -> None:
    assert await engine.process(step.block)


async def own_proposal(engine: FakeEngine, step: Step) -> None:
    block = step.block
    proposal = await engine.prepare(block.height, block.time_ns, step.candidates)
    assert await engine.process(replace(block, txs=proposal))
    assert await engine.process(block)


async def other_rounds(engine: FakeEngine, step: Step) -> None:
    assert await engine.process(step.others[0])
    assert not await engine.process(step.others[1])
    assert await engine.process(step.block)


async def decided_late(engine: FakeEngine, step: Step) -> None:
    """A later round decides what an earlier one proposed, and it is not processed again."""
    block = step.block
    assert await engine.process(block)
    assert not await engine.process(step.others[1])
    assert await engine.process(step.others[0])
    await engine.prepare(block.height, block.time_ns, step.others[0].txs)


async def with_extensions(engine: FakeEngine, step: Step) -> None:
    block = step.block
    await engine.got_vote(block.height)
    proposal = await engine.prepare(block.height, block.time_ns, ())
    assert await engine.process(replace(block, txs=proposal))
    await engine.extend(block)
    await engine.got_vote(block.height)
    assert await engine.process(step.others[0])
    assert await engine.process(block)
    await engine.extend(block)


ROUNDS: list[Rounds] = [replayed, one_round, own_proposal, other_rounds, decided_late, with_extensions]
WHO = ("engine", "node")


async def decide(run: Run, step: Step) -> None:
    await run.engine.decide(step.block)


def crash_at(point: str, who: str) -> Way:
    async def way(run: Run, step: Step) -> None:
        block, engine = step.block, run.engine
        if point != "before the block is stored":
            engine.store(block)
        if point in ("after FinalizeBlock", "after two of them", "after Commit, unseen"):
            response = await engine.finalize(block)
            if point == "after two of them":
                assert await engine.finalize(block) == response
        if point == "after Commit, unseen":
            await engine.commit()
        await run.crash(who)
        await run.go_on(step)

    way.__name__ = f"{point}, {who}"
    return way


def crash_in_commit(write: int, *, persists: bool) -> Way:
    async def way(run: Run, step: Step) -> None:
        run.engine.store(step.block)
        await run.engine.finalize(step.block)
        run.node.store.fail = (write, persists)
        try:
            await run.engine.commit()
        except EngineStopped:
            assert len(run.node.broken) == 1
        run.node.broken.clear()
        run.node.store.fail = None
        await run.crash("node")
        # Co-signatures that stood in the block were counted or not; a node asks its peers for what it lacks.
        run.node.replica.receive([raw for raw in step.block.txs if is_cosign(raw)])

    way.__name__ = f"write {write} of Commit, {persists=}"
    return way


async def crash_twice(run: Run, step: Step) -> None:
    """In the replay after a crash, too."""
    run.engine.store(step.block)
    await run.engine.finalize(step.block)
    await run.crash("handshake")
    await run.engine.dial()
    await run.engine.query.ask(abci.InfoRequest(), abci.InfoResponse)
    if step.block.height == 1:
        await run.engine.init_chain()
    await run.engine.finalize(step.block)
    await run.crash("node")


POINTS = (
    "before the block is stored",
    "before FinalizeBlock",
    "after FinalizeBlock",
    "after two of them",
    "after Commit, unseen",
)
WAYS = [
    decide,
    *(crash_at(point, who) for point, who in itertools.product(POINTS, WHO)),
    *(crash_in_commit(write, persists=persists) for write in (1, 2) for persists in (False, True)),
    crash_twice,
]


class Reference:
    """What the plainest run leaves after each height."""

    def __init__(self) -> None:
        self.net, self.steps = history()
        self.stores: list[dict[bytes, bytes] | None] = [None]
        self.disks: list[Disk] = []

    async def make(self, folder: Path) -> None:
        run = Run(self.net, folder)
        self.net.now_ms = self.steps[0].now_ms
        await run.start()
        self.disks.append(run.disk.copy())
        for step in self.steps:
            self.net.now_ms = step.now_ms
            await run.engine.decide(step.block)
            self.stores.append(dict(run.node.store._content))
            self.disks.append(run.disk.copy())
        assert run.node.chain.tip.header_hash == self.net.ledgers[0].chain.tip.header_hash
        assert run.node.chain.certified >= run.node.chain.tip.height - 2
        assert run.disk.app_hash == run.node.chain.tip.frontier.root
        await run.stop()

    def begin(self, height: int, folder: Path) -> Run:
        """A node and an engine that have committed the height before."""
        found = self.stores[height - 1]
        store = None if found is None else FaultyStore(found)
        return Run(self.net, folder, store, self.disks[height - 1].copy())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    async def body() -> Reference:
        made = Reference()
        await made.make(tmp_path_factory.mktemp("reference"))
        return made

    return asyncio.run(body())


async def through(run: Run, step: Step, rounds: Rounds, way: Way) -> None:
    run.net.now_ms = step.now_ms
    before = dict(run.node.store._content)
    await rounds(run.engine, step)
    assert run.node.store._content == before  # nothing is kept of what is not decided
    await way(run, step)
    assert not run.node.broken


async def try_ways(
    reference: Reference, height: int, folder: Path, pairs: Iterable[tuple[Rounds, Way]]
) -> None:
    step = reference.steps[height - 1]
    for number, (rounds, way) in enumerate(pairs):
        home = folder / str(number)
        home.mkdir()
        run = reference.begin(height, home)
        run.net.now_ms = step.now_ms
        await run.start()
        what = f"{rounds.__name__}, {way.__name__}"
        try:
            await through(run, step, rounds, way)
            assert run.disk.app_hash == reference.disks[height].app_hash, what
            assert run.disk.state_height == height, what
            assert run.node.store._content == reference.stores[height], what
        finally:
            await run.stop()


@pytest.mark.parametrize("height", [3, 9])
async def test_each_crash_and_each_kind_of_round_leaves_the_same(
    reference: Reference, height: int, tmp_path: Path
) -> None:
    await try_ways(reference, height, tmp_path, zip(itertools.cycle(ROUNDS), WAYS, strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("height", range(1, 11))
async def test_every_way_through_a_height_leaves_the_same(
    reference: Reference, height: int, tmp_path: Path
) -> None:
    await try_ways(reference, height, tmp_path, itertools.product(ROUNDS, WAYS))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
async def test_random_ways_through_all_heights(reference: Reference, seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    run = Run(reference.net, tmp_path)
    run.net.now_ms = reference.steps[0].now_ms
    await run.start()
    for step in reference.steps:
        await through(run, step, chance.choice(ROUNDS), chance.choice(WAYS))
        await run.engine.check_tx(chance.choice([*step.candidates, b"junk", *step.block.txs]))
        assert run.node.store._content == reference.stores[step.block.height]
    await run.stop()


@pytest.mark.parametrize("app_height", [0, 1, 4, 7])
async def test_an_application_left_behind_is_brought_up_by_replay(
    reference: Reference, app_height: int, tmp_path: Path
) -> None:
    run = reference.begin(app_height + 1, tmp_path)
    run.engine.disk = run.disk = reference.disks[-1].copy()
    run.net.now_ms = reference.steps[-1].now_ms
    await run.start()
    assert run.node.chain.engine_height() == 10
    assert run.disk.app_hash == run.node.chain.tip.frontier.root
    await run.stop()


async def test_a_co_signature_leaves_at_the_next_engine_height_and_no_earlier(
    reference: Reference, tmp_path: Path
) -> None:
    run = Run(reference.net, tmp_path)
    run.net.now_ms = reference.steps[0].now_ms
    await run.start()
    made_at: dict[int, int] = {}  # size of the log → engine height after which it is that large
    chain_id = chainkit.hashing.sha256(reference.net.genesis)[:16]
    for step in reference.steps:
        run.net.now_ms = step.now_ms
        run.engine.store(step.block)
        count = len(run.node.released)
        await run.engine.finalize(step.block)
        assert len(run.node.released) == count
        await run.engine.commit()
        run.engine._advance(step.block, run.disk.responses[step.block.height])
        await asyncio.sleep(0)
        for raw in run.node.released[count:]:
            assert made_at[decode_cosign(raw, chain_id).size] == step.block.height - 1
        made_at.setdefault(run.node.chain.tip.frontier.size, step.block.height)
    sizes = [decode_cosign(raw, chain_id).size for raw in run.node.released]
    assert sizes == list(made_at)[: len(sizes)]
    assert len(sizes) >= 5
    await run.stop()


async def test_a_block_of_junk_that_was_decided_has_a_result_for_each(
    reference: Reference, tmp_path: Path
) -> None:
    run = reference.begin(3, tmp_path)
    step = reference.steps[2]
    run.net.now_ms = step.now_ms
    await run.start()
    count = step.block.txs[-1]
    txs = (b"junk", b"", count, count, b"\x94", b"\x98", *step.block.txs, b"\xd2" * 70_000)
    response = await run.engine.decide(replace(step.block, txs=txs))
    assert [each.code for each in response.tx_results][:4] == [1, 1, 0, 1]
    assert len(response.tx_results) == len(txs)
    await run.stop()


async def test_an_application_that_the_engine_does_not_know_stops_it(
    reference: Reference, tmp_path: Path
) -> None:
    ahead = reference.begin(6, tmp_path)
    ahead.engine.disk = reference.disks[3].copy()
    with pytest.raises(EngineStopped, match="ahead of the block store"):
        await ahead.start()
    await ahead.stop()
    other = reference.begin(6, tmp_path)
    other.engine.disk = replace(reference.disks[5].copy(), app_hash=bytes(32))
    with pytest.raises(EngineStopped, match="does not match"):
        await other.start()
    await other.stop()


async def test_an_engine_of_another_chain_or_other_validators_is_refused(
    reference: Reference, tmp_path: Path
) -> None:
    for number, wrong in enumerate(("chain_id", "validators")):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = Run(reference.net, folder)
        value = "taxledger-00" if wrong == "chain_id" else run.disk.validators[:3]
        run.engine.disk = replace(run.disk, **{wrong: value})
        with pytest.raises(EngineStopped, match="InvariantError"):
            await run.start()
        assert len(run.node.broken) == 1
        await run.stop()


async def test_state_sync_takes_its_own_state_alone_and_goes_on(reference: Reference, tmp_path: Path) -> None:
    run = reference.begin(6, tmp_path)
    run.net.now_ms = reference.steps[5].now_ms
    await run.node.start()
    run.node.engine.snapshots = Markers(run.node.replica, SimpleNamespace(manifests=list))  # type: ignore[arg-type]
    own = (abci.Snapshot(height=5, format=1, chunks=1, hash=bytes(32)), reference.disks[5].app_hash)
    offers = [
        (replace(own[0], height=4), reference.disks[4].app_hash),
        (own[0], bytes(32)),
        (replace(own[0], format=2), own[1]),
        own,
    ]
    before = dict(run.node.store._content)
    words = await run.engine.state_sync(offers, reference.disks[5].copy())
    assert words == ["REJECT", "REJECT", "REJECT", "ACCEPT"]
    assert run.node.store._content == before
    for step in reference.steps[5:]:
        run.net.now_ms = step.now_ms
        assert await run.engine.process(step.block)
        await run.engine.decide(step.block)
    assert run.engine.disk.app_hash == reference.disks[10].app_hash
    assert run.node.store._content == reference.stores[10]
    await run.stop()


async def test_without_snapshots_state_sync_is_called_off(reference: Reference, tmp_path: Path) -> None:
    run = Run(reference.net, tmp_path)
    run.net.now_ms = reference.steps[0].now_ms
    await run.node.start()
    offers = [(abci.Snapshot(height=5, format=1, chunks=1), reference.disks[5].app_hash)]
    assert await run.engine.state_sync(offers, run.disk) == ["ABORT"]
    await run.crash("engine")
    await run.engine.decide(reference.steps[0].block)
    assert run.node.store._content == reference.stores[1]
    await run.stop()
