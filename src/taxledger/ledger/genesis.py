"""Leaf 0: what a network starts from, and what its state map then holds (docs/protocol.md §2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from taxledger.ledger import canonical, limits, statekeys
from taxledger.ledger.checkpoint import make_origin
from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.members import Member, encode_member, member_entry, parse_entry
from taxledger.ledger.schemas import decode_schema

__all__ = [
    "SUITE",
    "Genesis",
    "chain_id",
    "check_parameter",
    "decode_genesis",
    "encode_genesis",
    "genesis_writes",
    "origin_of",
]

SUITE = 1
"""SHA-256 and Ed25519."""

_NETWORK = re.compile(r"[a-z][a-z0-9.-]{0,62}")
_ENGINE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_PARAMETER = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """What the members agreed on before the first block.

    Attributes:
        network: name of the network, ``[a-z][a-z0-9.-]{0,62}``.
        engine: the ordering engine, like ``embedded``; a node never falls back to another.
        time_ms: blocks come after it.
        members: ascending by number, at least one active validator.
        schemas: schema documents, each of another kind and number.
        parameters: (name, integer), ascending by name.
        suite: 1.
    """

    network: str
    engine: str
    time_ms: int
    members: tuple[Member, ...]
    schemas: tuple[bytes, ...]
    parameters: tuple[tuple[str, int], ...] = ()
    suite: int = SUITE

    @property
    def validators(self) -> tuple[Member, ...]:
        """Those of the first block, ascending by number."""
        return tuple(member for member in self.members if member.is_validator)


def chain_id(leaf: bytes) -> bytes:
    """``SHA256(leaf 0)[:16]``: what every transaction and header of this ledger names."""
    return sha256(leaf)[:16]


def origin_of(genesis: Genesis, leaf: bytes) -> str:
    """The checkpoint origin ``<network>/<chain_id hex>/<engine>``."""
    return make_origin(genesis.network, chain_id(leaf), genesis.engine)


def check_parameter(name: Any, value: Any) -> None:
    """Raises FormatError unless this can be a parameter of the network."""
    if type(name) is not str or not _PARAMETER.fullmatch(name):
        raise FormatError(f"expected a parameter name [a-z][a-z0-9_.-]{{0,62}}, got {name!r:.80}")
    if type(value) is not int or not -limits.integer_max <= value <= limits.integer_max:
        raise FormatError(f"parameter {name}: expected an integer of 63 bits, got {value!r:.40}")


def encode_genesis(genesis: Genesis) -> bytes:
    """Leaf 0.

    Raises:
        FormatError, LimitError: a genesis with which no network could start; the message says why.
    """
    leaf = canonical.encode(
        [
            1,
            "genesis",
            genesis.network,
            genesis.engine,
            genesis.time_ms,
            [[member.number, member_entry(member)] for member in genesis.members],
            [genesis.suite, genesis.schemas, genesis.parameters],
        ]
    )
    decode_genesis(leaf)
    return leaf


def _array(value: Any, what: str, *, length: int | None = None) -> list[Any]:
    if type(value) is not list or length not in (None, len(value)):
        size = "" if length is None else f" of {length} elements"
        raise FormatError(f"genesis: expected {what} as an array{size}")
    return value


def decode_genesis(leaf: bytes) -> Genesis:
    """The genesis of leaf 0.

    Raises:
        LimitError, EncodingError: longer than a leaf, or not canonical.
        FormatError: not of the shape of §2, or a network that could not start.
    """
    value = _array(canonical.decode(leaf, bytes_max=limits.leaf_bytes_max), "it", length=7)
    version, what, network, engine, time_ms, members, extras = value
    if type(version) is not int or [version, what] != [1, "genesis"]:
        raise FormatError("genesis: expected [1, 'genesis', …]")
    if type(network) is not str or not _NETWORK.fullmatch(network):
        raise FormatError(f"genesis: expected a network name [a-z][a-z0-9.-]{{0,62}}, got {network!r:.80}")
    if type(engine) is not str or not _ENGINE.fullmatch(engine):
        raise FormatError(f"genesis: expected an engine [a-z][a-z0-9-]{{0,31}}, got {engine!r:.60}")
    if type(time_ms) is not int or not 0 <= time_ms <= limits.integer_max:
        raise FormatError(f"genesis: expected time_ms, got {time_ms!r:.40}")
    suite, schemas, parameters = _array(extras, "extras", length=3)
    if type(suite) is not int or suite != SUITE:
        raise FormatError(f"genesis: expected suite {SUITE}, got {suite!r:.40}")
    return Genesis(
        network=network,
        engine=engine,
        time_ms=time_ms,
        members=_decode_members(members),
        schemas=_decode_schemas(schemas),
        parameters=_decode_parameters(parameters),
        suite=suite,
    )


def _decode_members(value: Any) -> tuple[Member, ...]:
    members = [parse_entry(*_array(pair, "a member", length=2)) for pair in _array(value, "members")]
    numbers = [member.number for member in members]
    if any(left >= right for left, right in pairwise(numbers)):
        raise FormatError("genesis: expected members strictly ascending by number")
    if len(members) > limits.members_max:
        raise FormatError(f"genesis: expected at most {limits.members_max} members, got {len(members)}")
    if any(member.height for member in members):
        raise FormatError("genesis: expected height 0 in every member's entry")
    if len({member.name for member in members}) != len(members):
        raise FormatError("genesis: expected different names")
    keys = [key for member in members for _purpose, key in member.signing_keys()]
    if len(set(keys)) != len(keys):
        raise FormatError("genesis: expected no key twice")
    if not 1 <= sum(member.is_validator for member in members) <= limits.validators_max:
        raise FormatError(f"genesis: expected 1 to {limits.validators_max} active validators")
    return tuple(members)


def _decode_schemas(value: Any) -> tuple[bytes, ...]:
    documents = _array(value, "schemas")
    if any(type(document) is not bytes for document in documents):
        raise FormatError("genesis: expected schema documents as bin")
    schemas = [decode_schema(document) for document in documents]
    if len({(schema.kind, schema.number) for schema in schemas}) != len(schemas):
        raise FormatError("genesis: expected no schema twice")
    return tuple(documents)


def _decode_parameters(value: Any) -> tuple[tuple[str, int], ...]:
    pairs = [_array(pair, "a parameter", length=2) for pair in _array(value, "parameters")]
    for name, integer in pairs:
        check_parameter(name, integer)
    if any(left[0] >= right[0] for left, right in pairwise(pairs)):
        raise FormatError("genesis: expected parameters strictly ascending by name")
    return tuple((name, integer) for name, integer in pairs)


def genesis_writes(genesis: Genesis) -> dict[bytes, bytes]:
    """What the state map holds at height 0."""
    writes = {statekeys.member_key(member.number): encode_member(member) for member in genesis.members}
    for document in genesis.schemas:
        schema = decode_schema(document)
        writes[statekeys.schema_key(schema.kind, schema.number)] = canonical.encode([sha256(document), 0])
    for name, integer in genesis.parameters:
        writes[statekeys.parameter_key(name)] = canonical.encode([integer, 0])
    return writes
