"""Evidence: one self-contained file that proves the answer to a query (docs/protocol.md §10).

This module knows its shape, ``assemble.py`` how it is put together; ``verify.py`` decides whether to believe it.

Invariants:

* ``encode_evidence(decode_evidence(data)) == data``.
* Records are columns (all key ends, all map values, all secrets), so that framing costs next to nothing.
* A *frame* is evidence without secrets and fields: those come in parts (``parts.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import (
    EncodingError,
    FormatError,
    InputError,
    LimitError,
    VerificationError,
)
from taxledger.ledger.query import Query
from taxledger.ledger.records import RecordValue, decode_record_values
from taxledger.ledger.schemas import is_date
from taxledger.ledger.statekeys import RECORD_KEY_BYTES

__all__ = [
    "Evidence",
    "Opening",
    "RecordGroup",
    "check_rows",
    "cut_secrets",
    "decode_evidence",
    "decode_frame",
    "decoding",
    "encode_evidence",
    "encode_frame",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Which fields of a schema are opened; the others stay digests.

    Attributes:
        fields: how many the schema has.
        positions: of the opened ones, ascending; maybe none.
    """

    fields: int
    positions: tuple[int, ...]

    @property
    def secret_bytes(self) -> int:
        """Of one record's salts and digests: ``salt16`` of each opened field, then ``digest32`` of each other."""
        return 16 * len(self.positions) + 32 * (self.fields - len(self.positions))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordGroup:
    """The records below one record prefix; the four tuples have one length, at least 1.

    Attributes:
        prefix: 20 or 21 bytes.
        ends: the rest of every map key.
        values: every map value, as bytes and decoded.
        opened: None where all fields are open, else schema -> what is opened of it.
        secrets: 32 bytes each; of records that are opened in part, see ``Opening.secret_bytes``. All zeros for
            an erased record. Empty in a frame, as ``rows``.
        rows: values of the opened fields in schema order, None for an erased record.
    """

    prefix: bytes
    ends: tuple[bytes, ...]
    values: tuple[tuple[bytes, RecordValue], ...]
    opened: Mapping[int, Opening] | None
    secrets: tuple[bytes, ...]
    rows: tuple[Sequence[Any] | None, ...]

    def secret_sizes(self) -> list[int]:
        """Bytes of every record's secret.

        Raises:
            FormatError: a record of a schema that ``opened`` does not name.
        """
        if self.opened is None:
            return [32] * len(self.ends)
        sizes = {schema: each.secret_bytes for schema, each in self.opened.items()}
        _shape(
            sizes.keys() == {value.schema for _raw, value in self.values},
            "exactly the schemas of the records",
        )
        return [sizes[value.schema] for _raw, value in self.values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A decoded file of evidence; nothing in it is verified.

    Attributes:
        query: what it claims to answer.
        checkpoint: the note's bytes.
        header: the header leaf.
        inclusion: audit path of the header, 32 bytes each.
        entries: single keys that are present, ascending, with their values.
        schemas: the documents of the listed schema keys, in their order.
        tags: (kind, year) -> σ.
        groups: ascending by prefix.
        proof: of the state map.
    """

    query: Query
    checkpoint: bytes
    header: bytes
    inclusion: tuple[bytes, ...]
    entries: Mapping[bytes, bytes]
    schemas: tuple[bytes, ...]
    tags: Mapping[tuple[int, int], bytes]
    groups: tuple[RecordGroup, ...]
    proof: bytes


# --- bytes ----------------------------------------------------------------------------------


def _opened_as_list(opened: Mapping[int, Opening] | None) -> list[Any] | None:
    if opened is None:
        return None
    return [[schema, each.fields, each.positions] for schema, each in opened.items()]


def _group_as_list(group: RecordGroup, *, framed: bool) -> list[Any]:
    values = b"".join([raw for raw, _value in group.values])
    shown = [group.prefix, b"".join(group.ends), values, _opened_as_list(group.opened)]
    return [*shown, None, None] if framed else [*shown, b"".join(group.secrets), list(group.rows)]


def encode_evidence(evidence: Evidence) -> bytes:
    """The file.

    Raises:
        LimitError: larger than a verifier would read.
    """
    return _encode(evidence, framed=False)


def encode_frame(evidence: Evidence) -> bytes:
    """The file without secrets and fields of records. Raises LimitError as ``encode_evidence``."""
    return _encode(evidence, framed=True)


def _encode(evidence: Evidence, *, framed: bool) -> bytes:
    data = canonical.encode(
        [
            1,
            "frame" if framed else "evidence",
            evidence.query.as_list(),
            evidence.checkpoint,
            evidence.header,
            evidence.inclusion,
            [[key, value] for key, value in evidence.entries.items()],
            evidence.schemas,
            [[kind, year, sigma] for (kind, year), sigma in evidence.tags.items()],
            [_group_as_list(group, framed=framed) for group in evidence.groups],
            evidence.proof,
        ]
    )
    if len(data) > limits.evidence_bytes_max:
        raise LimitError(f"expected evidence of at most {limits.evidence_bytes_max} bytes, got {len(data)}")
    return data


def _shape(condition: object, expected: str) -> None:
    if not condition:
        raise FormatError(f"expected {expected}")


def _array(value: Any, length: int | None, what: str) -> list[Any]:
    _shape(type(value) is list and length in (None, len(value)), f"{what} as an array of that length")
    return value  # type: ignore[no-any-return]


def _bins(value: Any, what: str, size: int | None = None) -> tuple[bytes, ...]:
    items = _array(value, None, what)
    _shape(
        all(type(item) is bytes and size in (None, len(item)) for item in items),
        f"{what} as byte strings of {size or 'any'} bytes",
    )
    return tuple(items)


def _ascending(items: Sequence[Any], what: str) -> None:
    _shape(all(a < b for a, b in pairwise(items)), f"{what} strictly ascending")


def _cut(joined: Any, size: int, what: str) -> tuple[bytes, ...]:
    _shape(type(joined) is bytes and len(joined) % size == 0, f"{what} of {size} bytes each")
    return tuple(joined[at : at + size] for at in range(0, len(joined), size))


def _decode_query(value: Any) -> Query:
    subject, issuer, kinds, from_period, to_period = _array(value, 5, "query")
    return Query(
        subject=subject,
        issuer=issuer,
        kinds=tuple(_array(kinds, None, "kinds")),
        from_period=from_period,
        to_period=to_period,
    )


def _check_entry(key: bytes, value: bytes) -> None:
    """What a verifier reads from a single key's value: numbers, dates and lengths are in range."""
    content = canonical.decode(value, bytes_max=limits.leaf_bytes_max)
    if key[:1] == b"\x06":
        _shape(type(content) is list, "a member's entry as an array")
        return
    first, height = _array(content, 2, "an entry's value")
    _shape(type(height) is int and 0 <= height <= limits.integer_max, "a height")
    if key[:1] == b"\x08":
        _shape(type(first) is bytes and len(first) == 32, "a schema's hash of 32 bytes")
    elif key[:1] == b"\x09":
        _shape(type(first) is str and is_date(first), "the date attested through")
    elif key[:1] == b"\x0a":
        _shape(type(first) is bytes and len(first) == 384, "a modulus of 384 bytes")


def _decode_entries(value: Any) -> dict[bytes, bytes]:
    pairs = [_bins(_array(pair, 2, "entry"), "entry") for pair in _array(value, None, "entries")]
    _ascending([pair[0] for pair in pairs], "entries")
    for key, content in pairs:
        _shape(
            key[:1] in (b"\x06", b"\x08", b"\x09", b"\x0a"), "entries of members, schemas, dates, tag keys"
        )
        _check_entry(key, content)
    return {pair[0]: pair[1] for pair in pairs}


def _decode_tags(value: Any) -> dict[tuple[int, int], bytes]:
    found: dict[tuple[int, int], bytes] = {}
    in_order: list[tuple[int, int]] = []
    for item in _array(value, None, "tags"):
        kind, year, sigma = _array(item, 3, "tag")
        _shape(type(kind) is int and type(year) is int and type(sigma) is bytes, "tags [kind, year, σ]")
        _shape(1 <= kind <= 255 and 0 <= year <= 65_535, "a kind and a year in range")
        found[kind, year] = sigma
        in_order.append((kind, year))
    _ascending(in_order, "tags")
    return found


def _decode_opened(value: Any) -> dict[int, Opening] | None:
    if value is None:
        return None
    found: dict[int, Opening] = {}
    in_order: list[int] = []
    for item in _array(value, None, "opened"):
        schema, fields, positions = _array(item, 3, "opened fields of a schema")
        _shape(type(schema) is int and 1 <= schema <= 255, "a schema 1 to 255")
        _shape(type(fields) is int and 1 <= fields <= limits.fields_max, "a number of fields")
        for position in _array(positions, None, "positions"):
            _shape(type(position) is int and 0 <= position < fields, "positions of fields")
        _ascending(positions, "positions")
        found[schema] = Opening(fields=fields, positions=tuple(positions))
        in_order.append(schema)
    _ascending(in_order, "schemas of opened fields")
    return found


def _decode_group(value: Any, *, framed: bool) -> RecordGroup:
    prefix, ends, values, opened, secrets, rows = _array(value, 6, "record group")
    _shape(type(prefix) is bytes and len(prefix) in (20, 21) and prefix[0] == 1, "a record prefix")
    cut_ends = _cut(ends, RECORD_KEY_BYTES - len(prefix), "key ends")
    n = len(cut_ends)
    _shape(1 <= n <= limits.evidence_records_max, f"1 to {limits.evidence_records_max} records in a group")
    _shape(type(values) is bytes, "map values as bytes")
    group = RecordGroup(
        prefix=prefix,
        ends=cut_ends,
        values=tuple(decode_record_values(values, n)),
        opened=_decode_opened(opened),
        secrets=(),
        rows=(),
    )
    sizes = group.secret_sizes()
    if framed:
        _shape(secrets is None and rows is None, "neither secrets nor fields in a frame")
        return group
    _shape(opened is None, "every field opened (nil): only a frame says otherwise")
    return replace(group, secrets=cut_secrets(secrets, sizes), rows=check_rows(rows, n))


def cut_secrets(joined: Any, sizes: Sequence[int]) -> tuple[bytes, ...]:
    """Joined secrets, each of its size. Raises FormatError."""
    _shape(type(joined) is bytes and len(joined) == sum(sizes), f"{len(sizes)} secrets")
    found, at = [], 0
    for size in sizes:
        found.append(joined[at : at + size])
        at += size
    return tuple(found)


def check_rows(rows: Any, n: int) -> tuple[list[Any] | None, ...]:
    """``n`` rows of fields. Raises FormatError."""
    for row in _array(rows, n, "fields"):
        _shape(row is None or type(row) is list, "each record's fields as an array or nil")
    return tuple(rows)


def _decode(data: bytes, *, framed: bool) -> Evidence:
    items = canonical.decode(
        data, bytes_max=limits.evidence_bytes_max, containers_max=limits.evidence_containers_max
    )
    version, name, query, checkpoint, header, inclusion, *rest = _array(items, 11, "evidence")
    entries, schemas, tags, records, proof = rest
    expected = "frame" if framed else "evidence"
    _shape(type(version) is int and version == 1 and name == expected, f"{expected} of version 1")
    for item in (checkpoint, header, proof):
        _shape(type(item) is bytes, "checkpoint, header and proof as bytes")
    decoded = Evidence(
        query=_decode_query(query),
        checkpoint=checkpoint,
        header=header,
        inclusion=_bins(inclusion, "inclusion", 32),
        entries=_decode_entries(entries),
        schemas=_bins(schemas, "schemas"),
        tags=_decode_tags(tags),
        groups=tuple(_decode_group(group, framed=framed) for group in _array(records, None, "records")),
        proof=proof,
    )
    _shape(
        len(decoded.schemas) == sum(key[:1] == b"\x08" for key in decoded.entries),
        "one document for each schema listed",
    )
    _ascending([group.prefix for group in decoded.groups], "record prefixes")
    n = sum(len(group.ends) for group in decoded.groups)
    _shape(n <= limits.evidence_records_max, f"at most {limits.evidence_records_max} records")
    return decoded


def decode_evidence(data: bytes) -> Evidence:
    """The content of a file, its shape checked and nothing else.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``.
    """
    with decoding():
        return _decode(data, framed=False)


def decode_frame(data: bytes) -> Evidence:
    """The content of a frame; errors as ``decode_evidence``."""
    with decoding():
        return _decode(data, framed=True)


@contextmanager
def decoding() -> Iterator[None]:
    """What can't be read as the two codes of a verifier that say so."""
    try:
        yield
    except EncodingError as error:
        raise VerificationError("not_canonical", str(error)) from error
    except InputError as error:
        raise VerificationError("malformed", str(error)) from error
