"""A small network for tests: four validators, an issuer, a client; blocks executed, voted on and co-signed.

Everything is derived from fixed seeds, so two runs make the same bytes; only the RSA tag key is made once a
run (or comes from ``TAXLEDGER_TEST_TAG_KEY``, hex of its DER, for runs that must agree).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from taxledger.ledger import canonical, hashing
from taxledger.ledger.archive import ArchiveBlock, write_archive
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.checkpoint import (
    Checkpoint,
    CoSignature,
    cosign,
    cosigner_name,
    encode_note,
    sign_checkpoint,
)
from taxledger.ledger.crypto import Signer, TagSigner
from taxledger.ledger.execute import Executed, execute_block, genesis_tip, next_validators
from taxledger.ledger.genesis import Genesis, encode_genesis, origin_of
from taxledger.ledger.header import vote_message
from taxledger.ledger.members import Member
from taxledger.ledger.operations import AttestGroup, encode_attest, encode_tag_key
from taxledger.ledger.policy import Policy, decode_policy, encode_policy
from taxledger.ledger.rules import Result, decode_result
from taxledger.ledger.schemas import encode_schema
from taxledger.ledger.statemap import MapView
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.tagkeys import prove_tag_key
from taxledger.ledger.transaction import sign_transaction

TIME_MS = 1_767_225_600_000
ISSUER, CLIENT, SUSPENDED = 5, 6, 7
PURPOSES = ("transaction", "vote", "log", "cosign")
INVOICE = 5
FILING = 2


@cache
def signer(number: int, purpose: str = "transaction", generation: int = 0) -> Signer:
    return Signer(hashing.sha256(f"test key {number} {purpose} {generation}".encode()))


@cache
def tag_signer() -> TagSigner:
    fixed = os.environ.get("TAXLEDGER_TEST_TAG_KEY")
    return TagSigner(bytes.fromhex(fixed) if fixed else tag_key_der())


@cache
def tag_key_der() -> bytes:
    return TagSigner.generate_der()


def validator(number: int, **changes: object) -> Member:
    keys = {f"{purpose}_key": signer(number, purpose).public_key for purpose in PURPOSES}
    base = Member(number=number, name=f"v{number}", status=1, role=1, kinds=(), tls_ca_hash=bytes(32), **keys)
    return replace(base, **changes)


def client(number: int, name: str, **changes: object) -> Member:
    base = Member(
        number=number,
        name=name,
        status=1,
        role=3,
        kinds=(),
        transaction_key=signer(number).public_key,
    )
    return replace(base, **changes)


def make_genesis(validators: int = 4, **changes: object) -> Genesis:
    members = [validator(number) for number in range(1, validators + 1)]
    members.append(client(ISSUER, "tax", role=2, kinds=(FILING, INVOICE)))
    members.append(client(CLIENT, "bank"))
    members.append(client(SUSPENDED, "gone", status=2, kinds=(INVOICE,)))
    base = Genesis(
        network="test.net",
        engine="embedded",
        time_ms=TIME_MS,
        members=tuple(sorted(members, key=lambda member: member.number)),
        schemas=tuple(encode_schema(schema) for schema in BUILTIN),
        parameters=(("answer.age_s", 600),),
    )
    return replace(base, **changes)


def digest(*parts: object) -> bytes:
    return hashing.sha256(repr(parts).encode())


def entry(rid: int, *, fingerprint: bool = False) -> bytes:
    mark = digest("fingerprint", rid)[:16] if fingerprint else bytes(16)
    return rid.to_bytes(16, "big") + digest("commitment", rid) + mark


def group(*rids: int, tag: int = 1, month: int = 3, schema: int = 1, status: int = 1) -> AttestGroup:
    return AttestGroup(
        tag=tag.to_bytes(16, "big"),
        month=month,
        schema=schema,
        status=status,
        entries=b"".join(entry(rid, fingerprint=rid % 2 == 0) for rid in rids),
    )


def attest(*groups: AttestGroup, kind: int = INVOICE, year: int = 2025, through: str | None = None) -> bytes:
    return encode_attest(kind, year, through, groups)


def tag_key(chain_id: bytes, year: int = 2025, issuer: int = ISSUER) -> bytes:
    proof = prove_tag_key(tag_signer(), chain_id, issuer, year)
    return encode_tag_key(year, tag_signer().modulus, proof)


@dataclass(frozen=True)
class Block:
    executed: Executed
    votes: list[tuple[int, bytes]]
    cosigns: list[tuple[int, int, bytes]]


class TestChain:
    """A chain in memory, folded into its store block by block, as a node would."""

    __test__ = False

    def __init__(self, genesis: Genesis | None = None, signers: dict[tuple[int, str], Signer] | None = None):
        self.genesis = genesis or make_genesis()
        self.genesis_leaf = encode_genesis(self.genesis)
        self.tip, layer, self.log_nodes = genesis_tip(self.genesis_leaf)
        self.chain_id = self.tip.chain_id
        self.origin = origin_of(self.genesis, self.genesis_leaf)
        self.store = MemoryStore()
        self.store.write(layer.store_batch())
        self.view = MapView.open(self.store)
        self.logged: set[bytes] = set()
        self.blocks: list[Block] = []
        self.signers = dict(signers or {})
        self.time_ms = self.genesis.time_ms

    def signer(self, number: int, purpose: str) -> Signer:
        return self.signers.get((number, purpose)) or signer(number, purpose)

    def sign(self, payload: bytes, member: int = ISSUER, **changes: object) -> bytes:
        iat_s = self.time_ms // 1_000
        claims = {"chain_id": self.chain_id, "iat_s": iat_s, "exp_s": iat_s + 600, "member": member}
        signed_by = changes.pop("signer", None) or self.signer(member, "transaction")
        return sign_transaction(signed_by, payload=payload, **(claims | changes))

    def execute(self, *transactions: bytes, time_ms: int | None = None) -> Executed:
        """The next block, not kept."""
        return execute_block(
            self.tip,
            self.view,
            time_ms=self.time_ms + 1_000 if time_ms is None else time_ms,
            transactions=transactions,
            is_logged=self.logged.__contains__,
        )

    def at(self, time_ms: int) -> TestChain:
        """The chain itself; its next block has this time, and what is signed for it counts then."""
        self.time_ms = time_ms - 1_000
        return self

    def add(self, *transactions: bytes) -> Executed:
        """The next block, voted on, co-signed by all validators and kept."""
        validators = next_validators(self.tip, self.view)
        executed = self.execute(*transactions)
        assert executed.validators == validators
        self.time_ms += 1_000
        self.store.write(executed.layer.store_batch())
        self.view = MapView.open(self.store)
        self.tip = executed.tip
        self.logged.update(executed.leaf_hashes)
        self.log_nodes.update(executed.nodes)
        self.blocks.append(self._sign(executed, validators))
        return executed

    def _sign(self, executed: Executed, validators: Sequence[Member]) -> Block:
        message = vote_message(self.chain_id, executed.header.height, executed.tip.header_hash)
        checkpoint = self.checkpoint(executed)
        time_s = executed.header.time_ms // 1_000 + 1
        votes = [(each.number, self.signer(each.number, "vote").sign(message)) for each in validators]
        cosigns = [
            (each.number, time_s, cosign(self.signer(each.number, "cosign"), checkpoint, time_s))
            for each in validators
        ]
        return Block(executed, votes, cosigns)

    def checkpoint(self, executed: Executed) -> Checkpoint:
        frontier = executed.tip.frontier
        return Checkpoint(origin=self.origin, size=frontier.size, root=frontier.root)

    def note(self, block: Block, count: int | None = None) -> bytes:
        """The block's checkpoint, signed as the log by its first validator, co-signed by ``count``."""
        checkpoint = self.checkpoint(block.executed)
        validators = block.executed.validators
        log = self.signer(validators[0].number, "log")
        cosignatures = [
            CoSignature(
                cosigner_name(self.genesis.network, member.name),
                self.signer(member.number, "cosign").public_key,
                time_s,
                signature,
            )
            for member, (_, time_s, signature) in zip(validators, block.cosigns, strict=True)
        ]
        return encode_note(checkpoint, log.public_key, sign_checkpoint(log, checkpoint), cosignatures[:count])

    def archive_blocks(self) -> list[ArchiveBlock]:
        return [
            ArchiveBlock(
                height=block.executed.header.height,
                transactions=tuple(block.executed.leaves),
                header_leaf=block.executed.header_leaf,
                results=tuple(block.executed.results),
                votes=tuple(block.votes),
                cosigns=tuple(block.cosigns),
            )
            for block in self.blocks
        ]

    def archive(self) -> bytes:
        note = self.note(self.blocks[-1])
        blocks = self.archive_blocks()
        return b"".join(write_archive(self.genesis_leaf, blocks, height=len(blocks), note=note))

    def policy(self) -> Policy:
        """Of the last block's validators."""
        validators = self.blocks[-1].executed.validators
        data = encode_policy(
            origin=self.origin,
            log_keys=[member.log_key for member in validators],
            witnesses={member.name: member.cosign_key for member in validators},
        )
        return decode_policy(data)

    def results(self, *transactions: bytes) -> list[tuple[int, int | None]]:
        """(code, first refused entry) of each in the next block, which is kept; none may be skipped."""
        executed = self.add(*transactions)
        assert executed.skipped == []
        return [(result.code, result.first_refused) for result in map(decode_result, executed.results)]

    def result(self, payload: bytes, member: int = ISSUER) -> tuple[int, int | None]:
        return self.results(self.sign(payload, member))[0]


def decoded(results: Sequence[bytes]) -> list[Result]:
    return [decode_result(result) for result in results]


def value(view: MapView, key: bytes) -> list[object] | None:
    found = view.get(key)
    return None if found is None else canonical.decode(found)
