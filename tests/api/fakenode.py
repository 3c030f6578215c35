"""A NodeReader over the test chain: real blocks, proofs and notes, no node. And an application around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import chainkit

from taxledger.api.app import create_app
from taxledger.api.auth import SCOPES, ApiKey, KeyRing, create_key
from taxledger.api.reader import (
    CertifiedBlock,
    NodeStatus,
    Receipt,
    RecordChange,
    StateAnswer,
    TransactionAnswer,
)
from taxledger.api.requests import ApiSettings
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.operations import AmendChange, RevokeChange, encode_amend, encode_revoke
from taxledger.ledger.policy import Policy, decode_policy, encode_policy, quorum
from taxledger.ledger.query import Query
from taxledger.ledger.rules import decode_result
from taxledger.ledger.statekeys import record_key
from taxledger.ledger.tiles import tile_of, tile_width_at
from taxledger.ledger.transaction import decode_transaction

FAST = ApiSettings(submit_timeout_s=1.0, keepalive_s=0.05, send_timeout_s=2.0, streams_max=4)


def make_chain() -> chainkit.TestChain:
    """A chain of now, so that its certificates are fresh."""
    return chainkit.TestChain(chainkit.make_genesis(time_ms=int(time.time() - 120) * 1_000))


def record(rid: int, tag: int = 1, month: int = 3) -> bytes:
    """The map key of a record of ``chainkit.group``."""
    return record_key(
        chainkit.ISSUER, chainkit.INVOICE, tag.to_bytes(16, "big"), month, rid.to_bytes(16, "big")
    )


def amend(key: bytes, version: int, status: int = 2, reason: int = 2) -> bytes:
    change = AmendChange(
        key=key, version=version, status=status, schema=1, commitment=bytes(32), fingerprint=None,
        reason=reason, reason_digest=bytes(32),
    )  # fmt: skip
    return encode_amend(chainkit.INVOICE, [change])


def revoke(key: bytes, version: int) -> bytes:
    return encode_revoke(
        chainkit.INVOICE, [RevokeChange(key=key, version=version, reason=4, reason_digest=None)]
    )


class FakeNode:
    """Implements NodeReader. ``certified`` says how many of the chain's blocks are shown."""

    def __init__(self, chain: chainkit.TestChain) -> None:
        self.chain = chain
        self.certified = len(chain.blocks)
        self.number = 1
        self.ready = True
        self.stopping = False
        self.submitted: list[bytes] = []
        self.dossiers: list[Query] = []
        self.evidence = b"evidence"
        self.changes: list[RecordChange] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._news = asyncio.Condition()

    async def grow(self, *transactions: bytes) -> None:
        self.chain.add(*transactions)
        await self.certify()

    async def certify(self) -> None:
        self.certified = len(self.chain.blocks)
        async with self._news:
            self._news.notify_all()

    def _block(self) -> chainkit.Block:
        if self.failure is not None:
            raise self.failure
        if not self.certified:
            raise UnavailableError("no block is certified yet")
        return self.chain.blocks[self.certified - 1]

    def _get_node(self, level: int, index: int) -> bytes:
        return self.chain.log_nodes[level, index]

    def note(self) -> bytes:
        return self.chain.note(self._block(), quorum(len(self.chain.genesis.validators)))

    async def status(self) -> NodeStatus:
        block = self._block()
        header = block.executed.header
        return NodeStatus(
            member="v1", number=self.number, role="sequencer", network=self.chain.genesis.network,
            chain_id=self.chain.chain_id.hex(), engine="embedded", height=header.height, size=header.size,
            log_root=block.executed.tip.frontier.root, state_root=header.state_root,
            certified_time_ms=header.time_ms, cosigned_time_ms=header.time_ms + 1_000, writes="ok",
            reason=None, uncertified_blocks=len(self.chain.blocks) - self.certified, ready=self.ready,
        )  # fmt: skip

    async def checkpoint(self) -> bytes:
        return self.note()

    async def policy(self) -> bytes:
        return policy_bytes(self.chain)

    async def policy_links(self, trusted: bytes, engine: str | None = None) -> bytes:
        if trusted != policy_of(self.chain).validators_hash:
            raise RefusedError("policy_unknown", "no such set here")
        return b"links"

    def _find(self, id: bytes) -> TransactionAnswer | None:
        for block in self.chain.blocks[: self.certified]:
            executed = block.executed
            if id in executed.leaf_hashes:
                offset = executed.leaf_hashes.index(id)
                result = decode_result(executed.results[offset])
                index = executed.header.first_index + offset
                receipt = Receipt(
                    id=id, state="certified", code=result.code, name=result.name,
                    first_refused=result.first_refused, height=executed.header.height, index=index,
                    certified_time_ms=executed.header.time_ms, checkpoint=self.note(),
                )  # fmt: skip
                size = self._block().executed.header.size
                return TransactionAnswer(
                    receipt=receipt,
                    raw=executed.leaves[offset],
                    inclusion=prove_inclusion(self._get_node, index, size),
                )
        return None

    async def transaction(self, id: bytes) -> TransactionAnswer | None:
        self._block()
        return self._find(id)

    async def state(self, prefixes: Sequence[bytes], *, entries_max: int) -> StateAnswer:
        proof = self.chain.view.prove(prefixes)
        if sum(map(len, proof.entries.values())) > entries_max:
            raise RefusedError("answer_too_large", f"more than {entries_max} keys")
        executed = self._block().executed
        return StateAnswer(
            checkpoint=self.note(),
            header=executed.header_leaf,
            inclusion=prove_inclusion(self._get_node, executed.header.index, executed.header.size),
            proof=proof.proof,
            entries=proof.entries,
        )

    async def submit(self, raw: bytes, *, wait: str, timeout_s: float) -> Receipt:
        self._block()
        decode_transaction(raw)
        self.submitted.append(raw)
        await self.gate.wait()
        if wait == "none":
            return Receipt(id=log_leaf(raw), state="pending")
        found = self._find(log_leaf(raw))
        if found is None:
            await self.grow(raw)
            found = self._find(log_leaf(raw))
        if found is None:
            raise RefusedError("transaction_expired", "it does not count")
        return found.receipt

    async def dossier(self, query: Query) -> bytes:
        if self.failure is not None:
            raise self.failure
        self.dossiers.append(query)
        return self.evidence

    async def history(self, key: bytes) -> Sequence[RecordChange]:
        return self.changes

    async def tile(self, level: int, index: int, width: int) -> bytes | None:
        if tile_width_at(level, index, self._block().executed.header.size) < width:
            return None
        return tile_of(self._get_node, level, index, width)

    async def block(self, height: int) -> CertifiedBlock | None:
        if height > self.certified:
            return None
        executed = self.chain.blocks[height - 1].executed
        return CertifiedBlock(
            height=height, time_ms=executed.header.time_ms, leaves=executed.leaves, results=executed.results
        )

    async def wait_certified(self, height: int, timeout_s: float) -> int:
        if self.stopping:
            raise UnavailableError("the node is stopping")
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: self.certified >= height)
        except TimeoutError:
            pass
        return self.certified

    async def export(self) -> AsyncIterator[bytes]:
        yield b"taxledger/1/arc\n"
        if self.failure is not None:
            raise self.failure
        yield b"frames"


def policy_bytes(chain: chainkit.TestChain) -> bytes:
    validators = chain.genesis.validators
    return encode_policy(
        origin=chain.origin,
        log_keys=[member.log_key for member in validators],
        witnesses={member.name: member.cosign_key for member in validators},
    )


def policy_of(chain: chainkit.TestChain) -> Policy:
    return decode_policy(policy_bytes(chain))


class Keys:
    """One token for each scope, and the ring that knows them."""

    def __init__(self) -> None:
        rows: dict[str, tuple[str, ApiKey]] = {scope: create_key([scope]) for scope in SCOPES}
        rows["all"] = create_key(SCOPES)
        self.tokens = {name: token for name, (token, _) in rows.items()}
        self.ring = KeyRing(key for _, key in rows.values())

    def header(self, name: str = "all") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}


def make_app(node: FakeNode, keys: Keys, **more: Any) -> Any:
    return create_app(node, keys.ring, settings=more.pop("settings", FAST), **more)
