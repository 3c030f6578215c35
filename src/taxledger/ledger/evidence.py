"""Evidence: one self-contained file that proves the answer to a query (docs/protocol.md §10).

This module knows its shape and how it is put together; ``verify.py`` decides whether to believe it.

Invariants:

* ``encode_evidence(decode_evidence(data)) == data``.
* Records are columns (all key ends, all map values, all secrets), so that framing costs next to nothing.
* ``assemble`` reads one view of the map: key, value and proof are of the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import (
    EncodingError,
    FormatError,
    InputError,
    LimitError,
    UnavailableError,
    VerificationError,
)
from taxledger.ledger.query import Query, record_prefixes, single_keys
from taxledger.ledger.records import (
    RecordValue,
    Status,
    decode_record_value,
    decode_record_values,
    tag_of,
)
from taxledger.ledger.schemas import Value, is_date
from taxledger.ledger.statekeys import RECORD_KEY_BYTES, schema_key, tag_key_key

__all__ = [
    "Evidence",
    "Opener",
    "RecordGroup",
    "assemble",
    "decode_evidence",
    "encode_evidence",
]

Opened = tuple[bytes, Sequence[Value]]
Opener = Callable[[list[tuple[bytes, RecordValue]]], Sequence[Opened | None]]
"""For (map key, value) pairs: record secret (32 bytes) and row of each, None where the custodian has none."""

NO_SECRET = bytes(32)
"""Stands where an erased record has no secret any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordGroup:
    """The records below one record prefix; the four tuples have one length, at least 1.

    Attributes:
        prefix: 20 or 21 bytes.
        ends: the rest of every map key.
        values: every map value, as bytes and decoded.
        secrets: 32 bytes each.
        rows: field values in schema order, None for an erased record.
    """

    prefix: bytes
    ends: tuple[bytes, ...]
    values: tuple[tuple[bytes, RecordValue], ...]
    secrets: tuple[bytes, ...]
    rows: tuple[Sequence[Any] | None, ...]


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


def _group_as_list(group: RecordGroup) -> list[Any]:
    values = b"".join([raw for raw, _value in group.values])
    return [group.prefix, b"".join(group.ends), values, None, b"".join(group.secrets), list(group.rows)]


def encode_evidence(evidence: Evidence) -> bytes:
    """The file.

    Raises:
        LimitError: larger than a verifier would read.
    """
    data = canonical.encode(
        [
            1,
            "evidence",
            evidence.query.as_list(),
            evidence.checkpoint,
            evidence.header,
            evidence.inclusion,
            [[key, value] for key, value in evidence.entries.items()],
            evidence.schemas,
            [[kind, year, sigma] for (kind, year), sigma in evidence.tags.items()],
            [_group_as_list(group) for group in evidence.groups],
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


def _decode_group(value: Any) -> RecordGroup:
    prefix, ends, values, opened, secrets, rows = _array(value, 6, "record group")
    _shape(type(prefix) is bytes and len(prefix) in (20, 21) and prefix[0] == 1, "a record prefix")
    _shape(opened is None, "every field opened (nil)")
    cut_ends = _cut(ends, RECORD_KEY_BYTES - len(prefix), "key ends")
    n = len(cut_ends)
    _shape(1 <= n <= limits.evidence_records_max, f"1 to {limits.evidence_records_max} records in a group")
    cut_secrets = _cut(secrets, 32, "secrets")
    _shape(len(cut_secrets) == n, f"{n} secrets")
    for row in _array(rows, n, "fields"):
        _shape(row is None or type(row) is list, "each record's fields as an array or nil")
    _shape(type(values) is bytes, "map values as bytes")
    return RecordGroup(
        prefix=prefix,
        ends=cut_ends,
        values=tuple(decode_record_values(values, n)),
        secrets=cut_secrets,
        rows=tuple(rows),
    )


def _decode(data: bytes) -> Evidence:
    items = canonical.decode(
        data, bytes_max=limits.evidence_bytes_max, containers_max=limits.evidence_containers_max
    )
    version, name, query, checkpoint, header, inclusion, *rest = _array(items, 11, "evidence")
    entries, schemas, tags, records, proof = rest
    _shape(type(version) is int and version == 1 and name == "evidence", "evidence of version 1")
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
        groups=tuple(_decode_group(group) for group in _array(records, None, "records")),
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
    try:
        return _decode(data)
    except EncodingError as error:
        raise VerificationError("not_canonical", str(error)) from error
    except InputError as error:
        raise VerificationError("malformed", str(error)) from error


# --- building -------------------------------------------------------------------------------


class ProvenEntries(Protocol):
    """A proof and what it proves: every prefix asked with the pairs below it."""

    @property
    def proof(self) -> bytes: ...

    @property
    def entries(self) -> Mapping[bytes, Sequence[tuple[bytes, bytes]]]: ...


class ProvingMap(Protocol):
    """What ``assemble`` needs of a view of the state map; ``statemap.MapView`` is one."""

    def get(self, key: bytes) -> bytes | None: ...

    def prove(self, prefixes: Sequence[bytes]) -> ProvenEntries: ...


def _open(
    pairs: list[tuple[bytes, RecordValue]], opener: Opener
) -> list[tuple[bytes, Sequence[Value] | None]]:
    """(secret, row) of every record; erased ones are not asked for."""
    asked = [pair for pair in pairs if pair[1].status is not Status.ERASED]
    answers = iter(opener(asked) if asked else ())
    opened: list[tuple[bytes, Sequence[Value] | None]] = []
    for key, value in pairs:
        if value.status is Status.ERASED:
            opened.append((NO_SECRET, None))
            continue
        answer = next(answers, None)
        if answer is None:
            raise UnavailableError(f"no secret for record {key.hex()} version {value.version}")
        opened.append((answer[0], list(answer[1])))
    return opened


def assemble(
    query: Query,
    *,
    view: ProvingMap,
    checkpoint: bytes,
    header: bytes,
    inclusion: Sequence[bytes],
    sigmas: Mapping[tuple[int, int], bytes],
    schema_document: Callable[[int, int], bytes],
    opener: Opener,
) -> bytes:
    """The evidence for a query.

    Args:
        query: what was asked.
        view: the state map as the header's ``state_root`` has it.
        checkpoint: a note with one log line and exactly q co-signatures.
        header: the header leaf, the last of the checkpoint's log.
        inclusion: its audit path.
        sigmas: (kind, year) -> σ; years without a tag key may be missing and are ignored if there.
        schema_document: (kind, schema) -> document.
        opener: gives secret and fields of records.

    Raises:
        UnavailableError: a σ of a year with a tag key is missing, or a record can't be opened.
        LimitError: more records or bytes than a verifier would read.
    """
    tags: dict[tuple[int, int], bytes] = {}
    keyed = [year for year in query.years if view.get(tag_key_key(query.issuer, year)) is not None]
    for kind in query.kinds:
        for year in keyed:
            if (kind, year) not in sigmas:
                raise UnavailableError(f"no tag signature for kind {kind} of {year}")
            tags[kind, year] = sigmas[kind, year]
    prefixes = record_prefixes(query, {key: tag_of(sigma) for key, sigma in tags.items()})
    # The schemas to prove are known only when the records are: the first walk finds them, the second proves.
    found = view.prove(list(prefixes)).entries if prefixes else {}
    listed: dict[bytes, list[tuple[bytes, bytes, RecordValue]]] = {}
    for prefix in prefixes:
        pairs = [(key, raw, decode_record_value(raw)) for key, raw in found[prefix]]
        if pairs:
            listed[prefix] = pairs
    n = sum(len(pairs) for pairs in listed.values())
    if n > limits.evidence_records_max:
        raise LimitError(f"expected at most {limits.evidence_records_max} records in the range, got {n}")
    named = {(prefix[3], value.schema) for prefix, pairs in listed.items() for _key, _raw, value in pairs}
    keys = single_keys(query, named)
    proven = view.prove([*prefixes, *keys])
    present = {key: value for key in keys for _key, value in proven.entries[key]}
    opened = iter(_open([(key, value) for pairs in listed.values() for key, _raw, value in pairs], opener))
    return encode_evidence(
        Evidence(
            query=query,
            checkpoint=checkpoint,
            header=header,
            inclusion=tuple(inclusion),
            entries=present,
            schemas=tuple(schema_document(*each) for each in sorted(named) if schema_key(*each) in present),
            tags=tags,
            groups=tuple(_group(prefix, pairs, opened) for prefix, pairs in listed.items()),
            proof=proven.proof,
        )
    )


def _group(prefix: bytes, pairs: list[tuple[bytes, bytes, RecordValue]], opened: Any) -> RecordGroup:
    here = [next(opened) for _pair in pairs]
    return RecordGroup(
        prefix=prefix,
        ends=tuple(key[len(prefix) :] for key, _raw, _value in pairs),
        values=tuple((raw, value) for _key, raw, value in pairs),
        secrets=tuple(secret for secret, _row in here),
        rows=tuple(row for _secret, row in here),
    )
