"""Ledgers and nodes under an engine, for tests: four with a perfect engine, or one behind its real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import chainkit
from fakeengine import Disk

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.genesis import encode_genesis
from taxledger.ledger.store import Batch, MemoryStore
from taxledger.ledger.transaction import sign_transaction
from taxledger.nodes.application import Application, Keys
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.blocks import Blocks, Finalized
from taxledger.nodes.ordering.cometbft.engine import CometBft
from taxledger.nodes.ordering.cometbft.settings import chain_name
from taxledger.nodes.replica import Replica

ROOM = 5_000_000


class Ledger:
    """One member's ledger; ``restart`` keeps the store."""

    def __init__(self, net: Net, number: int) -> None:
        self.net, self.number, self.store = net, number, MemoryStore()
        self.ahead_ms = 0  # of its clock, of the others'
        self.replica: Replica | None = None
        self.start()

    def start(self) -> None:
        keys = {use: chainkit.signer(self.number, use) for use in ("vote", "log", "cosign")}
        keys["fresh"] = frozenset({"cosign"}) if self.replica is None else frozenset()
        application = Application(
            Chain(self.store, self.net.genesis),
            Keys(member=self.number, **keys),
            lambda: self.net.now_ms + self.ahead_ms,
        )
        self.replica = Replica(application)
        self.blocks = Blocks(self.replica)

    @property
    def chain(self) -> Chain:
        return self.replica.application.chain


class Net:
    """Four ledgers and the engine's height; the proposer goes round."""

    def __init__(self) -> None:
        self.genesis = encode_genesis(chainkit.make_genesis(engine="cometbft"))
        self.now_ms = chainkit.TIME_MS + 1_000
        self.engine_ns = chainkit.TIME_MS * 1_000_000
        self.height = 0
        self.ledgers = [Ledger(self, number) for number in range(1, 5)]

    def transaction(self, payload: bytes, member: int = chainkit.ISSUER) -> bytes:
        iat_s = self.now_ms // 1_000
        chain_id = chainkit.hashing.sha256(self.genesis)[:16]
        signer = chainkit.signer(member)
        return sign_transaction(
            signer, member=member, chain_id=chain_id, iat_s=iat_s, exp_s=iat_s + 3_000, payload=payload
        )

    def through(self, day: int) -> bytes:
        return self.transaction(chainkit.attest(through=f"2026-01-{day:02d}"))

    def propose(self, *candidates: bytes) -> list[bytes]:
        proposer = self.ledgers[self.height % 4]
        proposal = proposer.blocks.prepare(self.engine_ns, candidates, ROOM)
        assert [each.blocks.refusal(self.engine_ns, proposal) for each in self.ledgers] == [None] * 4
        return proposal

    def decide(self, *candidates: bytes, deliver: bool = True) -> list[Finalized]:
        """One engine block; afterwards the co-signatures that it released are delivered to all."""
        proposal = self.propose(*candidates)
        self.height += 1
        done = []
        for each in self.ledgers:
            each.blocks.finalize(self.height, self.engine_ns, proposal)
            done.append(each.blocks.commit())
        assert len({each.app_hash for each in done}) == 1
        assert len({each.counted for each in done}) == 1
        self.engine_ns = self.now_ms * 1_000_000  # the votes for this block are of now
        self.now_ms += 50
        if deliver:
            for each in self.ledgers:
                assert each.replica.receive([one.own for one in done if one.own is not None]) == []
        return done


class FaultyStore(MemoryStore):
    """Fails as a disk does: ``fail`` = (write to fail at, counted from 1, and whether it persisted)."""

    fail: tuple[int, bool] | None = None

    def write(self, batch: Batch, *, sync: bool = True) -> None:
        if self.fail is None:
            return super().write(batch, sync=sync)
        left, persists = self.fail
        if left > 1:
            self.fail = (left - 1, persists)
            return super().write(batch, sync=sync)
        if persists:
            super().write(batch, sync=sync)
        self.fail = None
        raise UnavailableError("the disk is gone")


class FakeRpc:
    """In the place of the engine's RPC: what is broadcast goes where the test says."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.take: Callable[[bytes], Awaitable[None]] | None = None

    async def broadcast(self, raw: bytes) -> None:
        self.taken.append(raw)
        if self.take is not None:
            await self.take(raw)

    async def close(self) -> None:
        return None


class ServedNode:
    """One member's node, for a fake engine to dial. ``stop`` and ``start`` keep the store, as a crash does."""

    def __init__(
        self, net: Net, number: int, folder: Path, *, store: FaultyStore | None = None, peers: Any = None
    ) -> None:
        self.net, self.number, self.folder, self.peers = net, number, folder, peers or {}
        self.is_new = store is None
        self.store = FaultyStore() if store is None else store
        self.released: list[bytes] = []
        self.broken: list[BaseException] = []
        self.dropped: dict[bytes, str] = {}
        self.rpc = FakeRpc()
        self.on_release: Callable[[bytes], Awaitable[None]] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "abci.sock"

    @property
    def chain(self) -> Chain:
        return self.replica.application.chain

    async def start(self, *, runs: bool = False) -> None:
        """Serve the engine; ``runs``: with everything the node does by itself, too."""
        keys: dict[str, Any] = {use: chainkit.signer(self.number, use) for use in ("vote", "log", "cosign")}
        fresh = frozenset({"cosign"}) if self.is_new else frozenset()
        self.is_new = False
        application = Application(
            Chain(self.store, self.net.genesis),
            Keys(member=self.number, **keys, fresh=fresh),
            lambda: self.net.now_ms,
        )
        self.replica = Replica(application)
        self.engine = CometBft(
            self.replica,
            folder=self.folder,
            peers=self.peers,
            on_dropped=self.dropped.__setitem__,
            on_release=self._release,
            on_broken=self.broken.append,
        )
        await self.engine.rpc.close()
        self.engine.rpc = self.rpc  # type: ignore[assignment]
        if runs:
            self._task = asyncio.create_task(self.engine.run())
            while not self.socket.exists():  # noqa: ASYNC110 — a file, there is no event
                await asyncio.sleep(0)
        else:
            await self.engine._server.start()

    async def _release(self, message: bytes) -> None:
        """What leaves is durable, and of a block that more than two thirds agreed on."""
        assert message in self.store._content.values()
        self.released.append(message)
        if self.on_release is not None:
            await self.on_release(message)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.engine._background.stop()
        await self.engine._server.stop()
        self.replica.close()

    def disk(self) -> Disk:
        """Of a new engine."""
        updates = [
            abci.ValidatorUpdate(pub_key=chainkit.signer(number, "vote").public_key, power=1)
            for number in range(1, 5)
        ]
        chain_id = chainkit.hashing.sha256(self.net.genesis)[:16]
        return Disk(chain_id=chain_name(chain_id), validators=tuple(updates))
