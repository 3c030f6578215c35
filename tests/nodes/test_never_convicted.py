"""An honest validator is never convicted, whatever crashes and whoever lies; a liar always is.

Every test of nodes checks that at its end (``signedkit``). Here are those that try hardest.
"""

from __future__ import annotations

import asyncio

import chainkit
import pytest
from cluster import running
from signedkit import Signed
from test_lying_sequencer import Stage, _votes
from test_lying_validator import signed, tell

from taxledger.ledger.fork import verify_fork_of
from taxledger.ledger.governance import member_set
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.store import MemoryStore


class Remembering(MemoryStore):
    """Keeps what the disk held after each write, with all that was signed until the next one: any of it may have left
    before the crash.
    """

    def __init__(self, watched: Signed) -> None:
        super().__init__()
        self.watched = watched
        self.moments: list[dict[bytes, bytes]] = [{}]
        self.signed: list[dict[bytes, set[bytes]]] = []

    def write(self, batch, *, sync: bool = True) -> None:  # type: ignore[no-untyped-def]
        self.note()
        super().write(batch, sync=sync)
        self.moments.append(dict(self._content))

    def note(self) -> None:
        """What is signed by now goes with the moment before."""
        self.signed.append({key: set(messages) for key, messages in self.watched.messages.items()})


NODE_2 = [chainkit.signer(2, use).public_key for use in ("vote", "cosign")]


async def _story(stage: Stage, numbers: tuple[int, ...]) -> None:
    """Two blocks proposed and decided by a sequencer that is still honest."""
    liar = stage.liar
    for day in (1, 2):
        block = liar.execute(stage.cluster.through(day))
        answers = [await liar.propose(number, block) for number in numbers]
        votes = [(1, liar.vote(block)), *_votes(block, *answers)]
        for number in numbers:
            await liar.decide(number, block, votes)
        await liar_follows(stage, block, votes)


async def liar_follows(stage: Stage, block, votes) -> None:  # type: ignore[no-untyped-def]
    stage.liar.application.chain.commit(block, votes)
    stage.liar.application.validators = stage.liar.application._next_validators()


async def _moments(watched: Signed) -> int:
    async with Stage() as stage:
        store = await remembered(stage, watched)
        await _story(stage, (2, 3, 4))
        return len(store.moments)


async def remembered(stage: Stage, watched: Signed) -> Remembering:
    """Node 2, its disk watched from the beginning."""
    node = stage.node(2)
    await node.stop()
    node.store = Remembering(watched)
    node.fresh = frozenset({"vote", "cosign"})
    await node.start()
    return node.store


async def test_a_crash_at_any_write_frees_nobody_to_sign_otherwise(honest_signatures: Signed) -> None:
    """Node 2 loses all that was not on its disk at one moment; then the sequencer tries every other history."""
    points = await _moments(honest_signatures)
    assert points > 4
    for point in range(points):
        # A network of its own: keys are the same, so what its nodes sign is kept apart.
        honest_signatures.renew()
        async with Stage() as stage:
            store = await remembered(stage, honest_signatures)
            await _story(stage, (2, 3, 4))
            assert len(store.moments) == points
            node = stage.node(2)
            await node.stop()
            store.note()
            for key in NODE_2:
                honest_signatures.messages[key] = store.signed[point].get(key, set())
            node.store = MemoryStore(store.moments[point])
            if point == 0:  # nothing written: the birth token is there, too
                node.fresh = frozenset({"vote", "cosign"})
            await node.start()
            await _other_histories(stage)
            assert honest_signatures.check() > 0


async def _other_histories(stage: Stage) -> None:
    """Proposals and decisions that would have to be another block, at every height that node 2 could take."""
    for day in (11, 12, 13):
        liar = type(stage.liar)(stage.cluster)
        chain = stage.node(2).chain
        for height in range(1, chain.tip.height + 1):
            stored = chain.block(height)
            block = liar.application.deliver(chain.header(height).time_ms, stored.transactions)
            liar.application.chain.commit(block, chain.votes(height))
        other = liar.execute(stage.cluster.through(day))
        answers = [await liar.propose(number, other) for number in (2, 3, 4)]
        votes = [(1, liar.vote(other)), *_votes(other, *answers)]
        for number in (2, 3, 4):
            await liar.decide(number, other, votes)
            await liar.decide(number, other, [*votes, *votes])
        application = stage.node(2).replica.application
        await stage.node(2).replica.run(application.renew_cosign)


@pytest.mark.parametrize("seed", range(3))
async def test_crashes_losses_clocks_and_heartbeats(seed: int, honest_signatures: Signed) -> None:
    print(f"seed {seed}")
    async with running(seed=seed) as cluster:
        await cluster.until(cluster.certified(1))
        cluster.wire.loss, chance = 0.2, cluster.wire.random
        for day in range(1, 20):
            number = chance.randint(1, 4)
            if chance.random() < 0.3:
                await cluster.nodes[number].stop()
                await asyncio.sleep(0.01)
                await cluster.nodes[number].start()
            height = cluster.nodes[1].chain.tip.height
            await cluster.submit(cluster.through(day))
            await cluster.until(lambda height=height: cluster.nodes[1].chain.tip.height > height)
            replica = cluster.nodes[chance.randint(1, 4)].replica
            right_ms = cluster.time_ms
            cluster.time_ms += chance.choice((-20_000, 0, 15_000))
            renewed = await replica.run(replica.application.renew_cosign)
            cluster.time_ms = max(right_ms, cluster.time_ms - 15_000)
            if renewed is not None:
                for other in cluster.nodes.values():
                    await other.replica.run(other.replica.receive, [renewed])
        cluster.wire.loss = 0.0
        cluster.time_ms += 120_000
        height = cluster.nodes[1].chain.tip.height
        await cluster.until(cluster.certified(height))
        assert honest_signatures.check() > 100
        for node in cluster.nodes.values():
            assert node.replica.certification.forks == []
            assert node.halted is None


async def test_a_rotation_of_keys_convicts_nobody(honest_signatures: Signed) -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        keys = {use: chainkit.signer(3, use, 1) for use in ("vote", "cosign")}
        entry = chainkit.validator(3, **{f"{use}_key": key.public_key for use, key in keys.items()})
        change = member_set(entry, cluster.chain_id, list(keys.values()))
        propose = cluster.transaction(encode_propose(change), 1)
        await cluster.submit(propose)
        await cluster.until(cluster.certified(2))
        proposal = chainkit.hashing.log_leaf(propose)[:16]
        for member in (2, 4):
            await cluster.submit(cluster.transaction(encode_approve(proposal), member))
        await cluster.until(lambda: cluster.nodes[1].chain.certified >= 4)
        node = cluster.nodes[3]
        await node.stop()
        node.signers = {**node.signers, **keys}
        node.fresh = frozenset({"vote", "cosign"})
        await node.start()
        height = cluster.nodes[1].chain.tip.height
        for day in (1, 2):
            await cluster.submit(cluster.through(day))
            height += 1
            await cluster.until(lambda height=height: cluster.nodes[1].chain.certified >= height)
        await cluster.until(lambda: keys["cosign"].public_key in honest_signatures.messages)
        assert all(not node.replica.certification.forks for node in cluster.nodes.values())


@pytest.mark.parametrize("shift", [0, -1, -2, 1, 3])
async def test_a_liar_is_convicted_by_what_two_honest_nodes_hold(shift: int) -> None:
    """To one node it signs the real tree, to another a made-up one, of any size near it; one of them tells the other.
    The real log need only come as far as the lie.
    """
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.nodes[4].stop()  # its keys are the liar's from here on
        for day in (1, 2, 3):
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(day + 1, 1, 2, 3))
        size = cluster.nodes[1].replica.certified.checkpoint.size
        now_s = cluster.now_ms() // 1_000
        lie = signed(cluster, size + shift, bytes([9]) * 32, now_s)
        await tell(cluster, 2, lie)
        for day in (4, 5):
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(day + 1, 1, 2, 3))
        tree = cluster.nodes[1].replica.certified.checkpoint
        real = signed(cluster, tree.size, tree.root, now_s)
        await tell(cluster, 1, real)
        await tell(cluster, 2, real)  # what one node holds, the other learns
        forks = cluster.nodes[2].replica.certification.forks
        evidence = [fork.evidence for fork in forks if fork.convicts]
        assert len(evidence) == 1
        verify_fork_of(evidence[0], chainkit.validator(4), cluster.chain_id)
        assert not any(fork.convicts for fork in cluster.nodes[1].replica.certification.forks)


def test_the_check_finds_what_it_should() -> None:
    watched = Signed()
    vote = b"taxledger/vote/1" + bytes(16) + (7).to_bytes(8, "big")
    watched.messages = {b"key": {vote + bytes(32), vote + bytes([1]) * 32}}
    with pytest.raises(AssertionError, match="two votes"):
        watched.check()
    for engine in ("embedded", "cometbft"):
        texts = {
            f"cosignature/v1\ntime {n}\nnet/{'0' * 32}/{name}\n5\n{root}\n".encode()
            for n, name, root in ((1, "embedded", "AAAA"), (2, engine, "BBBB"))
        }
        watched.messages = {b"key": texts}
        with pytest.raises(AssertionError, match="two trees"):
            watched.check()
