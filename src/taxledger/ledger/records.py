"""Records: periods, tags, identities, commitments and map values (docs/protocol.md §5, §6).

Invariants:

* Nothing here guesses: a subject, a row or a map value is in its one form, or a FormatError says what was
  expected.
* ``commit`` is a pure function of its arguments; ``tests/ledger/test_records.py`` recomputes it from the
  protocol's formula, field by field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import EncodingError, FormatError, check
from taxledger.ledger.hashing import domain, domain_hash, keyed_hash
from taxledger.ledger.schemas import ROLE_PARTY, Row, Schema, Value
from taxledger.ledger.subjects import SUBJECT_SCHEMES, check_subject, parse_subject, uscc_check_character

__all__ = [
    "ABSENT_DIGEST",
    "SUBJECT_SCHEMES",
    "RecordValue",
    "Status",
    "check_subject",
    "commit",
    "commit_digests",
    "decode_record_value",
    "decode_record_values",
    "encode_record_value",
    "field_digest",
    "field_salt",
    "fingerprint",
    "identity",
    "parse_subject",
    "record_id",
    "record_period",
    "record_value_parts",
    "rid_key",
    "tag_message",
    "tag_of",
    "uscc_check_character",
]

NO_FINGERPRINT = bytes(16)
"""How an attest entry says nil (§3)."""

_SALT = domain("salt")
_FIELD = domain("field")
_COMMITMENT = domain("commitment")
_SALT_OF = tuple(_SALT + index.to_bytes(2, "big") for index in range(limits.fields_max))
ABSENT_DIGEST = bytes(32)
"""Stands for the digest of a field that is absent."""
_XOR_36 = bytes(each ^ 0x36 for each in range(256))
_XOR_5C = bytes(each ^ 0x5C for each in range(256))
_PAD_36 = b"\x36" * 32
_PAD_5C = b"\x5c" * 32


class Status(IntEnum):
    """What a record is at its present version."""

    VALID = 1
    VOIDED = 2
    REVERSED = 3
    """Red-lettered in full. Still counts: the red letter is a negative record of its own."""
    REVOKED = 4
    """Attested in error."""
    ERASED = 5
    """The custodian destroyed fields and secret."""
    SUPERSEDED = 6
    """Derived from records of which one has changed since."""


# --- periods --------------------------------------------------------------------------------


def record_period(schema: Schema, values: Row) -> tuple[int, int]:
    """(year, month byte) of a row that fits its schema: month 1–12, quarter 13–16, 0 for the whole year."""
    unit, name = schema.period
    value = values[schema.position[name]]
    if type(value) is int:
        return value, 0
    if type(value) is not str:
        raise FormatError(f"field {name}: expected a value, its period is read from it")
    if unit == "year":
        return int(value[:4]), 0
    month = int(value[5:7])
    return int(value[:4]), month if unit == "month" else 13 + (month - 1) // 3


# --- tags, identities -----------------------------------------------------------------------


def tag_message(chain_id: bytes, subject: str, kind: int, year: int) -> bytes:
    """What the issuer's key of the year signs, and no one else can: msgpack ``["taxledger/tag/1", …]``."""
    return canonical.encode(["taxledger/tag/1", chain_id, subject, kind, year])


def tag_of(sigma: bytes) -> bytes:
    """``H("tag", σ)[:16]``: the pseudonym of one subject for one kind and year."""
    return domain_hash("tag", sigma)[:16]


def _is_digits(value: Value, digits: int) -> bool:
    return type(value) is str and len(value) == digits and value.isascii() and value.isdigit()


def _identity_names(schema: Schema, values: Row) -> set[str]:
    position = schema.position
    for alternative in schema.unique:
        if all(
            _is_digits(values[position[name]], digits) if digits else values[position[name]] is not None
            for name, digits in alternative
        ):
            return {name for name, _digits in alternative}
    return set(position)


def identity(schema: Schema, values: Row) -> list[tuple[str, Value]]:
    """(name, value) of the fields that make the record unique, in schema order; all where no key fits."""
    names = _identity_names(schema, values)
    return [
        (each.name, value) for each, value in zip(schema.fields, values, strict=True) if each.name in names
    ]


def rid_key(year_secret: bytes, seed: bytes) -> bytes:
    """``HMAC(year secret, "rid_key", seed)``, the key of the record ids of one tag and month; ``seed`` is 32
    bytes.
    """
    return keyed_hash(year_secret, "rid_key", seed)


def record_id(key: bytes, kind: int, tag: bytes, identified: list[tuple[str, Value]]) -> bytes:
    """``HMAC(rid key, "rid", msgpack([kind, tag, identity]))[:16]``."""
    return keyed_hash(key, "rid", canonical.encode([kind, tag, identified]))[:16]


def fingerprint(
    year_secret: bytes, schema: Schema, values: Row, identified: list[tuple[str, Value]]
) -> bytes | None:
    """``HMAC(year secret, "fingerprint", msgpack([kind, identity without parties]))[:16]``, or None.

    The same invoice filed under two enterprises gives the same one, whoever the counterparty is said to be.
    """
    if schema.fingerprint is None:
        return None
    if schema.fingerprint:
        name, value = schema.fingerprint
        if values[schema.position[name]] != value:
            return None
    position, fields = schema.position, schema.fields
    content = [pair for pair in identified if fields[position[pair[0]]].role != ROLE_PARTY]
    return keyed_hash(year_secret, "fingerprint", canonical.encode([schema.kind, content]))[:16]


# --- commitments ----------------------------------------------------------------------------


def commit(schema: Schema, chain_id: bytes, key: bytes, version: int, secret: bytes, values: Row) -> bytes:
    """The 32-byte commitment to a row under a record secret (32 bytes), bound to chain, map key and version.

    With ``salt_i = HMAC(secret, "salt", u16be(i))[:16]`` and ``digest_i = H("field", salt_i ‖ msgpack([name,
    value]))``, 32 zero bytes for an absent field, it is ``H("commitment", chain_id ‖ key ‖ u32be(version) ‖
    digest_0 ‖ digest_1 ‖ …)``.
    """
    # The formulas of hashing.py unrolled, because this runs for every field attested: domain strings are
    # joined beforehand, and HMAC (RFC 2104) is keyed once per record instead of once per field.
    check(
        len(secret) == 32 and len(chain_id) == 16, "a commitment needs a secret of 32, a chain id of 16 bytes"
    )
    encode = canonical.encode
    inner_keyed = sha256(secret.translate(_XOR_36) + _PAD_36)
    outer_keyed = sha256(secret.translate(_XOR_5C) + _PAD_5C)
    parts = [_COMMITMENT, chain_id, key, version.to_bytes(4, "big")]
    for salt, name, value in zip(_SALT_OF, schema.packed_names, values, strict=False):
        if value is None:
            parts.append(ABSENT_DIGEST)
            continue
        inner = inner_keyed.copy()
        inner.update(salt)
        outer = outer_keyed.copy()
        outer.update(inner.digest())
        parts.append(sha256(_FIELD + outer.digest()[:16] + name + encode(value)).digest())
    return sha256(b"".join(parts)).digest()


def field_salt(secret: bytes, position: int) -> bytes:
    """``HMAC(record secret, "salt", u16be(position))[:16]``."""
    return keyed_hash(secret, "salt", position.to_bytes(2, "big"))[:16]


def field_digest(salt: bytes, packed_name: bytes, value: Value) -> bytes:
    """``H("field", salt ‖ msgpack([name, value]))``; ``packed_name`` is that of ``Schema.packed_names``."""
    return sha256(_FIELD + salt + packed_name + canonical.encode(value)).digest()


def commit_digests(chain_id: bytes, key: bytes, version: int, digests: Sequence[bytes]) -> bytes:
    """The commitment from all its fields' digests: what a verifier does that was shown only some fields."""
    return sha256(b"".join((_COMMITMENT, chain_id, key, version.to_bytes(4, "big"), *digests))).digest()


# --- values in the state map ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordValue:
    """What the state map holds under a record's key.

    Attributes:
        status: 1–6.
        version: from 1, below 2^32.
        schema: number of the schema of the record's kind.
        commitment: 32 bytes.
        fingerprint: 16 bytes or None.
        height: of the block that wrote this version.
    """

    status: Status
    version: int
    schema: int
    commitment: bytes
    fingerprint: bytes | None
    height: int


def record_value_parts(status: int, version: int, schema: int, height: int) -> tuple[bytes, bytes]:
    """(before, after): a value is ``before ‖ commitment ‖ packed fingerprint ‖ after``.

    The packed fingerprint is ``C0`` for nil, else ``C4 10 ‖ fingerprint``. A block writes thousands of values
    that differ in nothing else.
    """
    encode = canonical.encode
    before = b"\x96" + encode(int(status)) + encode(version) + encode(schema) + b"\xc4\x20"
    return before, encode(height)


def encode_record_value(value: RecordValue) -> bytes:
    """``[status, version, schema, commitment32, fingerprint16|nil, height]``."""
    before, after = record_value_parts(value.status, value.version, value.schema, value.height)
    marked = b"\xc0" if value.fingerprint is None else b"\xc4\x10" + value.fingerprint
    return before + value.commitment + marked + after


def _record_value(value: object) -> RecordValue:
    if type(value) is not list or len(value) != 6:
        raise FormatError("expected a record value of six elements")
    status, version, schema, commitment, mark, height = value
    for number, low, high in (
        (status, 1, 6),
        (version, 1, 2**32 - 1),
        (schema, 1, 255),
        (height, 0, 2**63 - 1),
    ):
        if type(number) is not int or not low <= number <= high:
            raise FormatError(f"record value: expected an integer {low} to {high}, got {number!r:.40}")
    if type(commitment) is not bytes or len(commitment) != 32:
        raise FormatError("record value: expected a commitment of 32 bytes")
    if mark is not None and (type(mark) is not bytes or len(mark) != 16):
        raise FormatError("record value: expected a fingerprint of 16 bytes or nil")
    return RecordValue(
        status=Status(status),
        version=version,
        schema=schema,
        commitment=commitment,
        fingerprint=mark,
        height=height,
    )


def decode_record_value(data: bytes) -> RecordValue:
    """Raises EncodingError (not canonical) or FormatError (other shape)."""
    return _record_value(canonical.decode(data, bytes_max=128))


def decode_record_values(data: bytes, n: int) -> list[tuple[bytes, RecordValue]]:
    """The n values that stand joined in ``data``, each with its own bytes.

    Raises:
        EncodingError: not canonical, or cut.
        FormatError: another shape or number.
    """
    found: list[tuple[bytes, RecordValue]] = []
    for value in canonical.decode_stream(data):
        decoded = _record_value(value)
        # decode_stream has compared: encoding again gives exactly the bytes that stood there.
        found.append((encode_record_value(decoded), decoded))
        if len(found) > n:
            break
    if len(found) != n:
        raise FormatError(f"expected {n} record values, got {'more' if len(found) > n else len(found)}")
    if sum(len(raw) for raw, _value in found) != len(data):
        raise EncodingError("record values: not in their one form")
    return found
