"""What a payload can say, typed (docs/protocol.md §3). Shapes only: ``rules.py`` has the rules.

Invariant: ``decode_operation`` returns only what is canonical, has the shape of its operation, ascends where
it must and keeps the limits (rule 1). The ``encode_*`` functions run it over their own result, so a member
learns of a malformed payload before it signs one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits, statekeys
from taxledger.ledger import consentoperations as consents
from taxledger.ledger import pledgeoperations as pledges
from taxledger.ledger.crypto import TAG_KEY_BYTES
from taxledger.ledger.errors import FormatError
from taxledger.ledger.shapes import array, ascending, fixed_bytes, integer, is_ascii, items, optional_bytes
from taxledger.ledger.tagkeys import TAG_KEY_PROOF_BYTES

__all__ = [
    "ENTRY_BYTES",
    "Amend",
    "AmendChange",
    "Approve",
    "Attest",
    "AttestGroup",
    "DataErased",
    "Erase",
    "Operation",
    "Propose",
    "Revoke",
    "RevokeChange",
    "TagKey",
    "decode_operation",
    "encode_amend",
    "encode_approve",
    "encode_attest",
    "encode_consent",
    "encode_data_erased",
    "encode_erase",
    "encode_pledge",
    "encode_propose",
    "encode_revoke",
    "encode_tag_key",
]

ENTRY_BYTES = 64
"""``rid16 ‖ commitment32 ‖ fingerprint16``."""

_VERSION = 1
_VERSION_MAX = 2**32 - 2
"""Of a version that is replaced: the next one still is a u32."""
_REASON_MAX = 5
_TEXT_BYTES_MAX = 32
_NO_FINGERPRINT = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestGroup:
    """New records of one tag, month, schema and status.

    Attributes:
        tag: 16 bytes.
        month: 0 the year, 1–12, 13–16 a quarter.
        schema: number of the schema.
        status: 1, 2 or 3.
        entries: n × 64 bytes, ascending by their first 16.
    """

    tag: bytes
    month: int
    schema: int
    status: int
    entries: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """New records of one kind and year; may move *attested through* forward.

    Attributes:
        kind, year: of all records in it.
        through: ``YYYY-MM-DD`` up to which the signer has now attested everything of the kind, or None.
        groups: ascending by (tag, month, schema, status).
    """

    kind: int
    year: int
    through: str | None
    groups: tuple[AttestGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendChange:
    """A record's next version.

    Attributes:
        key: 37 bytes, the record's key in the state map.
        version: the one replaced.
        status, schema, commitment, fingerprint: of the next version.
        reason: 1 correction, 2 voided by the parties, 3 reversed by a red letter, 4 attested in error,
            5 other.
        reason_digest: 32 bytes, or None.
    """

    key: bytes
    version: int
    status: int
    schema: int
    commitment: bytes
    fingerprint: bytes | None
    reason: int
    reason_digest: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amend:
    """Next versions of records of one kind, ascending by key."""

    kind: int
    changes: tuple[AmendChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeChange:
    """A record that was attested in error. Version and commitment stay, so that it can still be opened."""

    key: bytes
    version: int
    reason: int
    reason_digest: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Revoked records of one kind, ascending by key."""

    kind: int
    changes: tuple[RevokeChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagKey:
    """The signer's RSA tag key for a year: a modulus of 384 bytes and a proof of 3,072."""

    year: int
    modulus: bytes
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """A change of the network itself; ``change`` is the decoded array, read by ``governance.py``."""

    change: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """A validator's approval; ``proposal`` is the first 16 bytes of the proposing transaction's id."""

    proposal: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Erase:
    """Records of one kind whose fields and secrets their custodian destroyed, ascending by key."""

    kind: int
    changes: tuple[RevokeChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataErased:
    """The signer destroyed what was disclosed to it. ``digest`` (32 bytes, salted) says what, to whom it is opened:
    the consent is not named, or the ledger would tell its recipient.
    """

    digest: bytes
    count: int


_OwnOperation = Attest | Amend | Revoke | Erase | TagKey | Propose | Approve | DataErased
Operation = _OwnOperation | consents.ConsentOperation | pledges.PledgeOperation


# --- reading --------------------------------------------------------------------------------


def decode_operation(payload: bytes) -> Operation:
    """The operation of a payload: rule 1, ``payload_malformed``.

    Raises:
        LimitError, EncodingError: longer than a leaf, or not canonical.
        FormatError: not of the shape of an operation; the message says what was expected.
    """
    value = canonical.decode(payload, bytes_max=limits.leaf_bytes_max)
    if type(value) is not list or len(value) < 2 or type(value[0]) is not int or value[0] != _VERSION:
        raise FormatError("payload: expected an array [1, operation, …]")
    if type(value[1]) is not str or value[1] not in _READERS:
        raise FormatError(f"payload: expected an operation of {', '.join(_READERS)}, got {value[1]!r:.60}")
    length, read = _READERS[value[1]]
    if len(value) != length:
        raise FormatError(f"{value[1]}: expected {length} elements, got {len(value)}")
    return read(*value[2:])


def _read_attest(kind: Any, year: Any, through: Any, groups: Any) -> Attest:
    integer(kind, 1, 255, "kind")
    integer(year, 0, 65_535, "year")
    if through is not None and (
        type(through) is not str or not through.isascii() or len(through) > _TEXT_BYTES_MAX
    ):
        raise FormatError("expected through as a short ASCII text or nil")
    least = 1 if through is None else 0
    read = tuple(_read_group(each) for each in array(groups, least, limits.attest_groups_max, "groups"))
    ascending([(each.tag, each.month, each.schema, each.status) for each in read], "groups")
    entries = sum(len(each.entries) for each in read) // ENTRY_BYTES
    if entries > limits.attest_entries_max:
        raise FormatError(f"expected at most {limits.attest_entries_max} entries, got {entries}")
    return Attest(kind=kind, year=year, through=through, groups=read)


def _read_group(value: Any) -> AttestGroup:
    tag, month, schema, status, entries = items(value, 5, "a group")
    if type(entries) is not bytes or not entries or len(entries) % ENTRY_BYTES:
        raise FormatError(f"expected entries as one bin of n × {ENTRY_BYTES} bytes, n at least 1")
    ascending([entries[at : at + 16] for at in range(0, len(entries), ENTRY_BYTES)], "the rids of a group")
    return AttestGroup(
        tag=fixed_bytes(tag, 16, "a tag"),
        month=integer(month, 0, 16, "month"),
        schema=integer(schema, 1, 255, "schema"),
        status=integer(status, 0, 255, "status"),
        entries=entries,
    )


def _read_amend(kind: Any, changes: Any) -> Amend:
    integer(kind, 1, 255, "kind")
    read = tuple(_read_amend_change(each) for each in array(changes, 1, limits.amend_changes_max, "changes"))
    ascending([each.key for each in read], "changes")
    return Amend(kind=kind, changes=read)


def _read_amend_change(value: Any) -> AmendChange:
    key, version, status, schema, commitment, fingerprint, reason, digest = items(value, 8, "a change")
    if fingerprint == _NO_FINGERPRINT:
        raise FormatError("expected nil for no fingerprint, got 16 zero bytes")
    return AmendChange(
        key=fixed_bytes(key, statekeys.RECORD_KEY_BYTES, "a record key"),
        version=integer(version, 1, _VERSION_MAX, "version"),
        status=integer(status, 0, 255, "status"),
        schema=integer(schema, 1, 255, "schema"),
        commitment=fixed_bytes(commitment, 32, "a commitment"),
        fingerprint=optional_bytes(fingerprint, 16, "a fingerprint"),
        reason=integer(reason, 1, _REASON_MAX, "reason"),
        reason_digest=optional_bytes(digest, 32, "a reason digest"),
    )


def _read_revoke(kind: Any, changes: Any) -> Revoke:
    integer(kind, 1, 255, "kind")
    read = tuple(_read_revoke_change(each) for each in array(changes, 1, limits.amend_changes_max, "changes"))
    ascending([each.key for each in read], "changes")
    return Revoke(kind=kind, changes=read)


def _read_revoke_change(value: Any) -> RevokeChange:
    key, version, reason, digest = items(value, 4, "a change")
    return RevokeChange(
        key=fixed_bytes(key, statekeys.RECORD_KEY_BYTES, "a record key"),
        version=integer(version, 1, _VERSION_MAX + 1, "version"),
        reason=integer(reason, 1, _REASON_MAX, "reason"),
        reason_digest=optional_bytes(digest, 32, "a reason digest"),
    )


def _read_data_erased(digest: Any, count: Any) -> DataErased:
    return DataErased(
        digest=fixed_bytes(digest, 32, "a digest"),
        count=integer(count, 0, limits.evidence_records_max, "count"),
    )


def _read_tag_key(year: Any, modulus: Any, proof: Any) -> TagKey:
    return TagKey(
        year=integer(year, 0, 65_535, "year"),
        modulus=fixed_bytes(modulus, TAG_KEY_BYTES, "a modulus"),
        proof=fixed_bytes(proof, TAG_KEY_PROOF_BYTES, "a proof"),
    )


def _read_propose(change: Any) -> Propose:
    if not is_ascii(change):
        raise FormatError("expected ASCII texts in a change")
    return Propose(change=array(change, 1, 8, "elements of a change"))


def _read_approve(proposal: Any) -> Approve:
    return Approve(proposal=fixed_bytes(proposal, 16, "a proposal"))


_READERS: dict[str, tuple[int, Callable[..., Operation]]] = {
    "attest": (6, _read_attest),
    "amend": (4, _read_amend),
    "revoke": (4, _read_revoke),
    "erase": (4, lambda kind, changes: Erase(kind=kind, changes=_read_revoke(kind, changes).changes)),
    "data.erased": (4, _read_data_erased),
    "tag_key": (5, _read_tag_key),
    "member.propose": (3, _read_propose),
    "member.approve": (3, _read_approve),
    **consents.READERS,
    **pledges.READERS,
}


# --- writing --------------------------------------------------------------------------------


def _payload(*items: Any) -> bytes:
    payload = canonical.encode([_VERSION, *items])
    decode_operation(payload)
    return payload


def encode_attest(kind: int, year: int, through: str | None, groups: Sequence[AttestGroup]) -> bytes:
    """The payload that attests new records; groups and entries come sorted.

    Raises:
        FormatError, LimitError: what ``decode_operation`` would refuse (so do all ``encode_*``).
    """
    rows = [[each.tag, each.month, each.schema, each.status, each.entries] for each in groups]
    return _payload("attest", kind, year, through, rows)


def encode_amend(kind: int, changes: Sequence[AmendChange]) -> bytes:
    """The payload that replaces versions of records; changes come sorted by key."""
    rows = [
        [
            each.key,
            each.version,
            each.status,
            each.schema,
            each.commitment,
            each.fingerprint,
            each.reason,
            each.reason_digest,
        ]
        for each in changes
    ]
    return _payload("amend", kind, rows)


def encode_revoke(kind: int, changes: Sequence[RevokeChange]) -> bytes:
    """The payload that revokes records; changes come sorted by key."""
    rows = [[each.key, each.version, each.reason, each.reason_digest] for each in changes]
    return _payload("revoke", kind, rows)


def encode_erase(kind: int, changes: Sequence[RevokeChange]) -> bytes:
    """The payload that says that records are erased; changes come sorted by key."""
    rows = [[each.key, each.version, each.reason, each.reason_digest] for each in changes]
    return _payload("erase", kind, rows)


def encode_data_erased(digest: bytes, count: int) -> bytes:
    """The payload by which a recipient says that it destroyed ``count`` records it was shown."""
    return _payload("data.erased", digest, count)


def encode_consent(operation: consents.ConsentOperation) -> bytes:
    """The payload of any operation about a consent."""
    return _payload(*consents.as_items(operation))


def encode_pledge(operation: pledges.PledgeOperation) -> bytes:
    """The payload of any operation about a pledge."""
    return _payload(*pledges.as_items(operation))


def encode_tag_key(year: int, modulus: bytes, proof: bytes) -> bytes:
    """The payload that publishes a tag key; ``proof`` is that of ``tagkeys.prove_tag_key``."""
    return _payload("tag_key", year, modulus, proof)


def encode_propose(change: Sequence[Any]) -> bytes:
    """The payload that proposes a change (``governance.py`` makes changes)."""
    return _payload("member.propose", list(change))


def encode_approve(proposal: bytes) -> bytes:
    """The payload that approves a proposal, named by the first 16 bytes of its transaction's id."""
    return _payload("member.approve", proposal)
