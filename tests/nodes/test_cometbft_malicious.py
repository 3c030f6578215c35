"""One member of four plays by other rules: the other three go on, agree, and no certificate is forged.

Three honest nodes behind their real sockets, a fake engine each, and rounds as Tendermint has them: a block is decided
by three of four votes. Member 4 is only its keys, and what a test does with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import chainkit
import pytest
from cluster import LocalPeer, Wire
from enginekit import Net, ServedNode
from fakeengine import Block, FakeEngine

from taxledger.ledger import limits
from taxledger.ledger.checkpoint import Checkpoint, cosignature_message
from taxledger.ledger.errors import TaxledgerError
from taxledger.ledger.fork import verify_fork_of
from taxledger.ledger.hashing import log_leaf
from taxledger.nodes.application import decode_cosign, encode_cosign
from taxledger.nodes.ordering.cometbft import shares
from taxledger.nodes.ordering.cometbft.blocks import COSIGNS_MAX, encode_time

EVIL, HONEST = 4, (1, 2, 3)
ROUNDS_MAX = 4


class Evil:
    """Member 4. This one keeps silent in everything."""

    votes = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.chance = random.Random(4)
        self.chain_id = chainkit.hashing.sha256(cluster.net.genesis)[:16]

    def proposals(self, _block: Block) -> dict[int, Sequence[bytes]]:
        """What each honest member gets as the proposal of our round; who gets none waits in vain."""
        return {}

    async def act(self) -> None:
        """Between two heights."""

    def cosign(self, size: int, root: bytes, *, member: int = EVIL, ahead_s: int = 0) -> bytes:
        time_s = self.cluster.net.now_ms // 1000 + ahead_s
        checkpoint = Checkpoint(origin=self.cluster.nodes[1].replica.application.origin, size=size, root=root)
        signature = chainkit.signer(EVIL, "cosign").sign(cosignature_message(checkpoint, time_s))
        return encode_cosign(self.chain_id, member, checkpoint, time_s, signature)

    async def tell_all(self, verb: str, message: Any) -> None:
        for number in HONEST:
            with contextlib.suppress(TaxledgerError):
                await self.cluster.wire.call(EVIL, number, verb, message)

    def time(self, ahead_ms: int = 0) -> bytes:
        return encode_time(self.chain_id, self.cluster.net.now_ms + ahead_ms)

    def old_leaves(self) -> list[bytes]:
        return [raw for block in self.cluster.engines[1].disk.blocks for raw in block.txs]


class Cluster:
    def __init__(self, folder: Path, evil: type[Evil]) -> None:
        self.net, self.wire = Net(), Wire(1)
        self.nodes: dict[int, ServedNode] = {}
        self.engines: dict[int, FakeEngine] = {}
        self.mempools: dict[int, dict[bytes, None]] = {number: {} for number in HONEST}
        self.turn = 0
        for number in HONEST:
            home = folder / str(number)
            home.mkdir()
            others = [other for other in (*HONEST, EVIL) if other != number]
            peers = {other: LocalPeer(self.wire, number, other) for other in others}
            self.nodes[number] = ServedNode(self.net, number, home, peers=peers)
        self.evil = evil(self)
        self.day = 0

    async def start(self) -> None:
        for number, node in self.nodes.items():
            await node.start(runs=True)
            node.rpc.take = lambda raw: self.gossip(raw)
            node.on_release = lambda raw, number=number: self.spread(number, raw)
            self.wire.handlers[number] = {**node.engine.handlers(), "cosign": self._counter(node)}
            self.engines[number] = FakeEngine(node.socket, node.disk())
            await self.engines[number].start()

    async def stop(self) -> None:
        for number in HONEST:
            await self.engines[number].close()
            await self.nodes[number].stop()

    @staticmethod
    def _counter(node: ServedNode) -> Any:
        async def on_cosign(_member: int, message: Any) -> Any:
            await node.replica.run(node.replica.receive, [message] if type(message) is bytes else [])
            return [1, "ok"]

        return on_cosign

    async def spread(self, sender: int, raw: bytes) -> None:
        for number in HONEST:
            if number != sender:
                with contextlib.suppress(TaxledgerError):
                    await self.wire.call(sender, number, "cosign", raw)

    async def gossip(self, raw: bytes) -> int:
        """Into the mempool of whoever admits it; returns how many did."""
        took = 0
        for number, engine in self.engines.items():
            if (await engine.check_tx(raw)).code == 0:
                self.mempools[number][raw] = None
                took += 1
        return took

    # --- consensus ------------------------------------------------------------------------------

    async def height(self) -> Block:
        """One engine height; fails when no round of four decides it."""
        first = self.engines[1].disk
        template = Block(
            height=len(first.blocks) + 1, time_ns=self.net.engine_ns, txs=(), app_hash=first.app_hash
        )
        for _ in range(ROUNDS_MAX):
            proposer = self.turn % 4 + 1
            self.turn += 1
            if proposer == EVIL:
                proposals = {n: tuple(txs) for n, txs in self.evil.proposals(template).items()}
            else:
                txs = await self.engines[proposer].prepare(
                    template.height, template.time_ns, list(self.mempools[proposer])
                )
                proposals = dict.fromkeys(HONEST, txs)
            votes: dict[tuple[bytes, ...], int] = {}
            for number, txs in proposals.items():
                if await self.engines[number].process(replace(template, txs=txs)):
                    votes[txs] = votes.get(txs, 0) + 1
            for txs, count in votes.items():
                if count + int(self.evil.votes) >= 3:
                    return await self._decided(replace(template, txs=txs))
        raise AssertionError(f"height {template.height}: no round decided")

    async def _decided(self, block: Block) -> Block:
        for number, engine in self.engines.items():
            response = await engine.decide(block)
            assert not any(each.code for each in response.tx_results)  # honest members let nothing else pass
            for raw in block.txs:
                self.mempools[number].pop(raw, None)
            for raw in list(self.mempools[number]):
                if (await engine.check_tx(raw, again=True)).code:
                    del self.mempools[number][raw]
        assert len({engine.disk.app_hash for engine in self.engines.values()}) == 1
        self.net.engine_ns = self.net.now_ms * 1_000_000
        self.net.now_ms += 50
        await self.evil.act()
        return block

    async def write(self) -> bytes:
        """A transaction of the issuer, submitted at an honest node, until it is certified everywhere."""
        self.day += 1
        raw = self.net.through(self.day)
        await self.nodes[self.day % 3 + 1].engine.submit(raw)
        for _ in range(8):
            await self.height()
            if all(node.chain.is_logged(log_leaf(raw)) for node in self.nodes.values()):
                break
        else:
            raise AssertionError("the transaction never stood in a block")
        height = self.nodes[1].chain.tip.height
        for _ in range(4):
            await self.height()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while any(node.chain.certified < height for node in self.nodes.values()):  # noqa: ASYNC110
                        await asyncio.sleep(0.002)
                return raw
        raise AssertionError([(node.chain.tip.height, node.chain.certified) for node in self.nodes.values()])

    def check(self) -> None:
        """The honest agree, are whole, and every certificate has a quorum for the one root."""
        assert [node.broken for node in self.nodes.values()] == [[], [], []]
        chain = self.nodes[1].chain
        assert len({node.chain.tip.header_hash for node in self.nodes.values()}) == 1
        application = self.nodes[1].replica.application
        for height in range(1, chain.certified + 1):
            signed = chain.cosigns(height)
            assert len({member for member, _, _ in signed}) == len(signed) >= 3
            checkpoint = application.checkpoint(height)
            for member, time_s, signature in signed:
                key = chainkit.signer(member, "cosign").public_key
                application.signatures.verify(key, signature, cosignature_message(checkpoint, time_s))


@asynccontextmanager
async def against(evil: type[Evil], folder: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(folder, evil)
    await cluster.start()
    try:
        yield cluster
        cluster.check()
    finally:
        await cluster.stop()


class Garbage(Evil):
    """Proposals and messages that mean nothing, too much, or something else than they say."""

    votes = True

    def proposals(self, block: Block) -> dict[int, Sequence[bytes]]:
        raw = self.cluster.net.through(self.chance.randrange(20, 28))
        late = next(iter(self.cluster.engines[1].disk.blocks), block)
        txs: list[Sequence[bytes]] = [
            [self.chance.randbytes(100) for _ in range(20)],
            [raw],  # older than any block may be, once the network has rested
            [self.time(10_001), raw],
            [self.time(), self.time(), raw],
            [raw, self.time()],
            [encode_time(bytes(16), 0), raw],
            [self.time(), raw[:-1]],
            [self.time(), raw[:-1] + bytes([raw[-1] ^ 1])],
            [self.time(), b"\xd2" * (limits.leaf_bytes_max + 1)],
            [self.time(), *[b"\xd2" + bytes(60_000)] * 80],
            [self.time(), *(bytes([0xD2, index % 256, index // 256]) for index in range(600))],
            [b"\x98" + self.chance.randbytes(50)],
            [self.cosign(5, bytes(32), member=1)] * (COSIGNS_MAX + 1),
            [b""],
            [self.time(), raw, *late.txs[-1:]],
        ]
        return {number: self.chance.choice(txs) for number in HONEST}

    async def act(self) -> None:
        future = self.cosign(2**62, bytes(32))  # nobody can tell yet that it is a lie
        junk: list[Any] = [
            None,
            [],
            b"",
            self.chance.randbytes(150),
            [1, "cosign"],
            [1, "hello", 2**63 - 1, 2**63 - 1],
            [1, "hello", -1, 0],
            [1, "cosigns", -1],
            [1, "cosigns", 2**63 - 1],
            self.cosign(2, bytes(32), member=1),
            future,
            self.cosign(3, bytes(32), ahead_s=10**9),
            encode_cosign(
                self.chain_id, EVIL, Checkpoint(origin="", size=3, root=bytes(32)), 2**62, bytes(64)
            ),
        ]
        for verb in ("cosign", "hello", "cosigns", "nothing"):
            await self.tell_all(verb, self.chance.choice(junk))
        for raw in junk:
            if type(raw) is bytes and raw != future:
                assert await self.cluster.gossip(raw) == 0


class Repeats(Evil):
    """Everything once more: leaves that the log holds, transactions twice, co-signatures of long ago."""

    votes = True

    def proposals(self, block: Block) -> dict[int, Sequence[bytes]]:
        raw = self.cluster.net.through(27)
        old = [each for each in self.old_leaves() if each[:1] == b"\xd2"]
        cosigns = [each for each in self.old_leaves() if each[:1] == b"\x98"]
        choices = [[self.time(), *old[-1:]], [self.time(), raw, raw], [*cosigns, *cosigns]]
        return dict.fromkeys(HONEST, self.chance.choice(choices))

    async def act(self) -> None:
        for raw in self.old_leaves()[-6:]:
            await self.tell_all("cosign", raw)
            await self.cluster.gossip(raw)


class Equivocates(Evil):
    """Another proposal for each, a vote for all of them, and co-signatures of two trees of one size."""

    votes = True

    def proposals(self, block: Block) -> dict[int, Sequence[bytes]]:
        split = [[self.time(), self.cluster.net.through(20 + number)] for number in HONEST]
        if self.chance.random() < 0.5:
            split[2] = split[1]  # with its own vote a quorum, which the third learns of
        return dict(zip(HONEST, split, strict=True))

    async def act(self) -> None:
        tip = self.cluster.nodes[1].chain.tip
        size, root = tip.frontier.size, tip.frontier.root
        messages = [self.cosign(size, root), self.cosign(size, bytes(32)), self.cosign(size, b"\x01" * 32)]
        self.chance.shuffle(messages)
        for raw in messages:
            await self.tell_all("cosign", raw)


class Floods(Evil):
    """Fills the mempool with transactions that count, and with co-signatures of every second."""

    votes = False
    took: dict[int, int]

    async def act(self) -> None:
        height = len(self.cluster.engines[1].disk.blocks)
        if height > 4:
            return
        flood = [
            self.cluster.net.transaction(
                chainkit.attest(year=1990 + height, through=f"2020-01-{day:02d}"), EVIL
            )
            for day in range(1, 29)
        ]
        for raw in flood:
            await self.cluster.gossip(raw)
        tip = self.cluster.nodes[1].chain.tip.frontier
        for second in range(5):
            await self.cluster.gossip(self.cosign(tip.size, tip.root, ahead_s=second))


@pytest.mark.parametrize("evil", [Evil, Garbage, Repeats, Equivocates])
async def test_three_go_on_whatever_the_fourth_does(evil: type[Evil], tmp_path: Path) -> None:
    async with against(evil, tmp_path) as cluster:
        for _ in range(6):
            await cluster.write()


async def test_a_member_that_signs_two_trees_is_named_by_all(tmp_path: Path) -> None:
    async with against(Equivocates, tmp_path) as cluster:
        for _ in range(2):
            await cluster.write()
        for node in cluster.nodes.values():
            forks = node.replica.certification.forks
            assert {member for fork in forks for member in fork.members} == {EVIL}
            convicting = [fork.evidence for fork in forks if fork.convicts]
            assert convicting
            verify_fork_of(convicting[0], chainkit.validator(EVIL), cluster.evil.chain_id)


async def test_a_flood_of_one_member_leaves_room_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "_TRANSACTIONS_MAX", 20)
    monkeypatch.setattr(shares, "_COSIGNS_MAX", 3)
    async with against(Floods, tmp_path) as cluster:
        await cluster.height()
        for mempool in cluster.mempools.values():
            own = [raw for raw in mempool if raw[:1] == b"\xd2"]
            assert len(own) == 20
            assert len(mempool) - len(own) <= 3
        for _ in range(3):
            await cluster.write()
        for mempool in cluster.mempools.values():
            assert len(mempool) <= 23
        for number, node in cluster.nodes.items():  # nothing stays counted of what is gone
            held = node.engine._shares._counts.total()
            assert held == len(cluster.mempools[number])


async def test_co_signatures_that_nobody_made_fill_no_mempool(tmp_path: Path) -> None:
    async with against(Evil, tmp_path) as cluster:
        await cluster.write()
        await cluster.write()
        node = cluster.nodes[1]
        await node.engine.submit(cluster.net.through(27))
        while node.chain.certified == node.chain.tip.height:
            await cluster.height()
        assert 1 < node.chain.certified < node.chain.tip.height
        checkpoint = node.replica.application.checkpoint
        admitted = 0
        for height in (1, node.chain.certified, node.chain.tip.height):
            for member in (*range(1, 5), *range(5, 5_000, 500)):
                signature = cluster.evil.chance.randbytes(64)
                raw = encode_cosign(cluster.evil.chain_id, member, checkpoint(height), 1, signature)
                admitted += await cluster.gossip(raw)
        assert admitted == 0
        await cluster.write()


async def test_no_three_signatures_of_the_fourth_make_a_certificate(tmp_path: Path) -> None:
    async with against(Evil, tmp_path) as cluster:
        await cluster.height()
        chain = cluster.nodes[1].chain
        assert (chain.tip.height, chain.certified) == (1, 0)
        size, root = chain.tip.frontier.size, chain.tip.frontier.root
        forged = [cluster.evil.cosign(size, root, member=member) for member in (1, 2, 3, 4)]
        own = [cluster.evil.cosign(size, root, ahead_s=second) for second in range(5)]
        problems = cluster.nodes[1].replica.receive([*forged, *own])
        assert len(problems) == 3
        assert chain.certified == 0
        counted = cluster.nodes[1].replica.certification.messages(1)
        assert {decode_cosign(raw, chain.chain_id).member for raw in counted} == {EVIL}
