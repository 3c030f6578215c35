"""Members: who may sign, attest, vote and co-sign, as their entries in the map say (docs/protocol.md §7).

Invariants:

* A ``Member`` is only ever a valid one: whatever decodes can be used without further checks.
* A validator has all three node keys, nobody else has any; no key of a member serves two purposes.
* Who validates is a function of the state map alone: active members of role validator, ascending by number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

from taxledger.ledger import canonical, checkpoint, crypto, limits, statekeys
from taxledger.ledger.errors import FormatError, check

__all__ = [
    "Member",
    "MemberRole",
    "MemberStatus",
    "StateReader",
    "cosign_vkey",
    "decode_member",
    "encode_member",
    "is_member_number",
    "member_entry",
    "member_of",
    "members_of",
    "parse_entry",
    "validators_hash_of",
    "validators_of",
]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NAMES_TAKEN = ("none", "validators")
"""Words of the policy file: no policy could name a validator that is called so."""
_ENTRY_BYTES_MAX = 1_024


class MemberStatus:
    """What ``Member.status`` may be."""

    ACTIVE = 1
    SUSPENDED = 2
    REMOVED = 3


class MemberRole:
    """What ``Member.role`` may be."""

    VALIDATOR = 1
    OBSERVER = 2
    CLIENT = 3


class StateReader(Protocol):
    """What rules read of the state map: a ``MapView``, or one with a block's own writes on top."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs whose key begins with ``prefix``, ascending."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An organisation on the ledger.

    Attributes:
        number: 1 … 65,535.
        name: ``[a-z][a-z0-9-]{0,31}``, unique.
        status: 1 active, 2 suspended, 3 removed.
        role: 1 validator, 2 observer, 3 client (no node).
        kinds: the kinds it may issue, ascending.
        transaction_key: Ed25519, 32 bytes, signs its transactions.
        vote_key: Ed25519 key of its votes; None unless a validator, as the next two.
        log_key: Ed25519 key with which it signs checkpoints as the log.
        cosign_key: Ed25519 key of its co-signatures.
        tls_ca_hash: SHA-256 of its TLS authority certificate (DER), or None.
        hpke_key: X25519 key to which disclosures to it are sealed, or None.
        height: of the block from which this entry holds; 0 in the genesis and in proposals.
    """

    number: int
    name: str
    status: int
    role: int
    kinds: tuple[int, ...]
    transaction_key: bytes
    vote_key: bytes | None = None
    log_key: bytes | None = None
    cosign_key: bytes | None = None
    tls_ca_hash: bytes | None = None
    hpke_key: bytes | None = None
    height: int = 0

    @property
    def is_active(self) -> bool:
        return self.status == MemberStatus.ACTIVE

    @property
    def is_validator(self) -> bool:
        """It votes and co-signs now: a suspended validator does not."""
        return self.role == MemberRole.VALIDATOR and self.is_active

    def signing_keys(self) -> tuple[tuple[str, bytes], ...]:
        """(purpose, key) of every Ed25519 key it has."""
        named = (
            ("transaction_key", self.transaction_key),
            ("vote_key", self.vote_key),
            ("log_key", self.log_key),
            ("cosign_key", self.cosign_key),
        )
        return tuple((purpose, key) for purpose, key in named if key is not None)


def is_member_number(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 65_535


def member_entry(member: Member) -> list[Any]:
    """``[1, name, status, role, kinds, … , height]``, the array of §7."""
    return [
        1,
        member.name,
        member.status,
        member.role,
        list(member.kinds),
        member.transaction_key,
        member.vote_key,
        member.log_key,
        member.cosign_key,
        member.tls_ca_hash,
        member.hpke_key,
        member.height,
    ]


def encode_member(member: Member) -> bytes:
    """The bytes that stand in the state map."""
    return canonical.encode(member_entry(member))


def _check_bytes(value: Any, what: str) -> None:
    if value is not None and (type(value) is not bytes or len(value) != 32):
        raise FormatError(f"member: expected {what} of 32 bytes or nil")


def _check_keys(role: int, transaction_key: Any, node_keys: list[Any]) -> None:
    keys = [transaction_key]
    if role == MemberRole.VALIDATOR:
        keys += node_keys
    elif node_keys != [None, None, None]:
        raise FormatError("member: expected no vote, log and co-signing key, it is no validator")
    for key in keys:
        crypto.check_public_key(key)
    if len(set(keys)) != len(keys):
        raise FormatError("member: expected a different key for every purpose")


def _check_kinds(kinds: Any) -> None:
    if type(kinds) is not list or len(kinds) > 255:
        raise FormatError("member: expected an array of kinds")
    if any(type(kind) is not int or not 1 <= kind <= 255 for kind in kinds):
        raise FormatError("member: expected kinds 1 to 255")
    if any(left >= right for left, right in pairwise(kinds)):
        raise FormatError("member: expected kinds strictly ascending")


def parse_entry(number: Any, entry: Any) -> Member:
    """The member of a decoded entry.

    Raises:
        FormatError: what does not fit §7.
    """
    if not is_member_number(number):
        raise FormatError(f"expected a member number 1 to 65535, got {number!r:.40}")
    if type(entry) is not list or len(entry) != 12 or type(entry[0]) is not int or entry[0] != 1:
        raise FormatError("member: expected an array [1, name, …] of 12 elements")
    _, name, status, role, kinds, transaction_key, vote_key, log_key, cosign_key, tls, hpke, height = entry
    if type(name) is not str or not _NAME.fullmatch(name) or name in _NAMES_TAKEN:
        raise FormatError(f"member: expected a name [a-z][a-z0-9-]{{0,31}}, got {name!r:.60}")
    for value, what in ((status, "status"), (role, "role")):
        if type(value) is not int or not 1 <= value <= 3:
            raise FormatError(f"member: expected {what} 1 to 3, got {value!r:.40}")
    if type(height) is not int or not 0 <= height <= limits.integer_max:
        raise FormatError(f"member: expected a height, got {height!r:.40}")
    _check_kinds(kinds)
    _check_keys(role, transaction_key, [vote_key, log_key, cosign_key])
    _check_bytes(tls, "the hash of a TLS authority")
    _check_bytes(hpke, "an HPKE key")
    return Member(
        number=number,
        name=name,
        status=status,
        role=role,
        kinds=tuple(kinds),
        transaction_key=transaction_key,
        vote_key=vote_key,
        log_key=log_key,
        cosign_key=cosign_key,
        tls_ca_hash=tls,
        hpke_key=hpke,
        height=height,
    )


@lru_cache(maxsize=4_096)
def decode_member(number: int, data: bytes) -> Member:
    """The member of an entry's bytes. Cached: every transaction asks for its signer.

    Raises:
        LimitError, EncodingError: too long or not canonical.
        FormatError: what does not fit §7.
    """
    return parse_entry(number, canonical.decode(data, bytes_max=_ENTRY_BYTES_MAX))


def member_of(state: StateReader, number: int) -> Member | None:
    """A member by its number, or None where there is none."""
    if not is_member_number(number):
        return None
    found = state.get(statekeys.member_key(number))
    return None if found is None else decode_member(number, found)


def members_of(state: StateReader) -> list[Member]:
    """Every member, ascending by number, whatever its status."""
    return [decode_member(int.from_bytes(key[1:], "big"), value) for key, value in state.scan(b"\x06")]


def validators_of(state: StateReader) -> list[Member]:
    """The active validators, ascending by number."""
    return [member for member in members_of(state) if member.is_validator]


def cosign_vkey(network: str, member: Member) -> str:
    """The verifier key of a validator's co-signatures."""
    check(member.cosign_key is not None, f"member {member.number} is no validator and has no co-signing key")
    key = member.cosign_key or b""
    name = checkpoint.cosigner_name(network, member.name)
    return checkpoint.vkey(name, checkpoint.COSIGNATURE_TYPE, key)


def validators_hash_of(network: str, validators: Iterable[Member]) -> bytes:
    """``H("validators", msgpack(sorted vkeys))`` of a set of validators: 32 bytes."""
    return checkpoint.validators_hash(cosign_vkey(network, member) for member in validators)
