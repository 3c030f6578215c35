"""A network in one process, for tests of the engine: real ledgers, real engines, no sockets.

Messages travel as canonical bytes, as between real nodes. Faults are injected where a network or a disk
would have them: a node that is down, a link that loses messages, a peer that plays by other rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import chainkit

from taxledger.ledger import canonical
from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InputError, RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.genesis import Genesis, encode_genesis
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.transaction import sign_transaction
from taxledger.nodes.application import Application, KeyFinder, Keys
from taxledger.nodes.ordering.embedded.follower import Follower
from taxledger.nodes.ordering.embedded.sequencer import Sequencer
from taxledger.nodes.replica import Replica

Handler = Callable[[int, Any], Awaitable[Any]]


class Wire:
    """The network between the nodes.

    Attributes:
        down: numbers of nodes that answer nobody.
        loss: share of messages lost, half of them after they were delivered (the answer is lost).
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.down: set[int] = set()
        self.loss = 0.0
        self.handlers: dict[int, dict[str, Handler]] = {}
        self.seen: list[tuple[int, int, str, Any]] = []

    async def call(self, sender: int, receiver: int, verb: str, message: Any) -> bytes:
        await asyncio.sleep(0)
        handler = self.handlers.get(receiver, {}).get(verb)
        if handler is None or {sender, receiver} & self.down or self._lost():
            raise UnavailableError(f"{receiver} does not answer")
        value = canonical.decode(canonical.encode(message))
        self.seen.append((sender, receiver, verb, value))
        task = asyncio.ensure_future(handler(sender, value))
        await asyncio.wait([task])
        if task.cancelled() or isinstance(task.exception(), RuntimeError):
            raise UnavailableError(f"{receiver} was stopped while it worked on the answer")
        answer = task.result()
        if {sender, receiver} & self.down or self._lost():
            raise UnavailableError(f"{receiver} does not answer")
        return answer if type(answer) is bytes else canonical.encode(answer)

    def _lost(self) -> bool:
        return self.loss > 0 and self.random.random() < self.loss / 2


class LocalPeer:
    """In the place of ``PeerClient``."""

    def __init__(self, wire: Wire, sender: int, number: int) -> None:
        self.number, self.name, self._sender, self._wire = number, f"v{number}", sender, wire

    async def call(self, verb: str, message: Any, **_limits: Any) -> bytes:
        try:
            return await self._wire.call(self._sender, self.number, verb, message)
        except RefusedError as error:
            raise RefusedError(error.code, str(error)) from error
        except UnavailableError:
            raise
        except InputError as error:
            raise RefusedError("malformed", str(error)) from error
        except TaxledgerError as error:
            raise RefusedError(getattr(error, "code", "refused"), str(error)) from error


class LocalNode:
    """One validator: store, ledger, engine. ``stop`` and ``start`` keep the store, as a crash keeps the
    disk.
    """

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster, self.number = cluster, number
        self.store = MemoryStore()
        self.signers = {use: chainkit.signer(number, use) for use in ("vote", "log", "cosign")}
        self.fresh = frozenset({"vote", "cosign"})  # the birth tokens of its keys
        self.ahead_ms = 0  # of its clock, of the others'
        self.finder: KeyFinder | None = None
        self.engine: Sequencer | Follower | None = None
        self.replica: Replica | None = None
        self.halted: str | None = None
        self.dropped: dict[bytes, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        number, wire = self.number, self.cluster.wire
        chain = Chain(self.store, self.cluster.genesis_leaf)
        application = Application(
            chain,
            Keys(member=number, **self.signers, fresh=self.fresh),
            lambda: self.cluster.now_ms() + self.ahead_ms,
            self.finder,
        )
        self.fresh = frozenset()
        self.replica = Replica(application)
        self.halted = None
        self.replica.on_halt = self._halt
        peers = [
            LocalPeer(wire, number, other) for other in range(1, self.cluster.size + 1) if other != number
        ]
        handlers: dict[str, Handler] = {}
        if number == 1:
            self.engine = Sequencer(self.replica, peers, self.dropped.__setitem__)
        else:
            self.engine = Follower(self.replica, sequencer=peers[0], others=peers[1:])
            handlers |= {"step": self.engine.on_step, "journal": self.engine.on_journal}
        wire.handlers[number] = self.engine.handlers() | handlers | {"votes": self.engine.on_votes}
        self._task = asyncio.create_task(self.engine.run(), name=f"engine {number}")

    def _halt(self, reason: str) -> None:
        self.halted = reason

    async def stop(self) -> None:
        """As a crash: what is not in the store is gone."""
        self.cluster.wire.handlers.pop(self.number, None)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self.replica is not None:
            self.replica.close()
        self.engine = self.replica = self._task = None

    @property
    def chain(self) -> Chain:
        assert self.replica is not None
        return self.replica.application.chain


class Cluster:
    """Nodes 1 … size, of which 1 is the sequencer."""

    def __init__(self, *, seed: int = 1, size: int = 4, genesis: Genesis | None = None) -> None:
        self.size = size
        self.genesis_leaf = encode_genesis(genesis or chainkit.make_genesis(size))
        self.chain_id = chainkit.hashing.sha256(self.genesis_leaf)[:16]
        self.wire = Wire(seed)
        self.nodes = {number: LocalNode(self, number) for number in range(1, size + 1)}
        self.time_ms = chainkit.TIME_MS + 1_000

    def now_ms(self) -> int:
        self.time_ms += 1
        return self.time_ms

    def transaction(self, payload: bytes, member: int = chainkit.ISSUER) -> bytes:
        iat_s = self.time_ms // 1000
        return sign_transaction(
            chainkit.signer(member),
            member=member,
            chain_id=self.chain_id,
            iat_s=iat_s,
            exp_s=iat_s + 3_000,
            payload=payload,
        )

    def through(self, day: int) -> bytes:
        """A small transaction that counts once: it moves *attested through* forward."""
        return self.transaction(
            chainkit.attest(through=f"20{day // 336 + 26}-{day // 28 % 12 + 1:02d}-{day % 28 + 1:02d}")
        )

    async def submit(self, raw: bytes) -> None:
        engine = self.nodes[1].engine
        assert isinstance(engine, Sequencer)
        await engine.submit(raw)

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
        """Wait for a state; the timeout is only there to end a failing test."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():  # noqa: ASYNC110 — any state of any node, there is no one event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            facts = {
                number: (node.chain.tip.height, node.chain.certified, node.engine.writes)
                for number, node in self.nodes.items()
                if node.engine is not None
            }
            raise AssertionError(f"never came: {facts}") from None

    def certified(self, height: int, *numbers: int) -> Callable[[], bool]:
        return lambda: all(self.nodes[n].chain.certified >= height for n in numbers or self.nodes)

    def check_agreement(self) -> None:
        """No two nodes have different blocks at one height, decided or certified."""
        chains = [node.chain for node in self.nodes.values() if node.engine is not None]
        for height in range(1, max(chain.tip.height for chain in chains) + 1):
            headers = {chain.header_leaf(height) for chain in chains if chain.tip.height >= height}
            assert len(headers) == 1, f"two blocks at height {height}"


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Cluster]:
    cluster = Cluster(**options)
    for node in cluster.nodes.values():
        await node.start()
    try:
        yield cluster
    finally:
        for node in cluster.nodes.values():
            await node.stop()
