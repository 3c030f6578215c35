"""Putting evidence together: one view of the map, the records opened as far as they may be (docs/protocol.md §10).

Invariant: ``assemble`` reads one view, so keys, values and proof are of the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from taxledger.ledger import limits
from taxledger.ledger.errors import LimitError, UnavailableError, check
from taxledger.ledger.evidence import Evidence, Opening, RecordGroup
from taxledger.ledger.query import Query, record_prefixes, single_keys
from taxledger.ledger.records import (
    ABSENT_DIGEST,
    RecordValue,
    Status,
    decode_record_value,
    field_digest,
    field_salt,
    tag_of,
)
from taxledger.ledger.schemas import Schema, Value, decode_schema
from taxledger.ledger.statekeys import schema_key, tag_key_key

__all__ = ["Opener", "ProvingMap", "Scope", "assemble", "everything"]

Opened = tuple[bytes, Sequence[Value]]
Opener = Callable[[list[tuple[bytes, RecordValue]]], Sequence[Opened | None]]
"""For (map key, value) pairs: record secret (32 bytes) and row of each, None where the custodian has none."""

Scope = Callable[[Schema], tuple[int, ...] | None]
"""Positions of the fields that may be opened in records of a schema; None for all."""

Pairs = list[tuple[bytes, bytes, RecordValue]]
"""(map key, its value's bytes, the same decoded)."""


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


def everything(schema: Schema) -> tuple[int, ...] | None:
    """The scope of who may see all fields."""
    return None


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
    scope: Scope = everything,
) -> Evidence:
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
        scope: which fields are opened; the others stay digests.

    Raises:
        UnavailableError: a σ of a year with a tag key is missing, or a record can't be opened.
        LimitError: more records than a verifier would read.
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
    listed: dict[bytes, Pairs] = {}
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
    documents = {each: schema_document(*each) for each in sorted(named) if schema_key(*each) in present}
    opening = _Openings({each: decode_schema(document) for each, document in documents.items()}, scope)
    opened = iter(_open([(key, value) for pairs in listed.values() for key, _raw, value in pairs], opener))
    return Evidence(
        query=query,
        checkpoint=checkpoint,
        header=header,
        inclusion=tuple(inclusion),
        entries=present,
        schemas=tuple(documents.values()),
        tags=tags,
        groups=tuple(_group(prefix, pairs, opened, opening) for prefix, pairs in listed.items()),
        proof=proven.proof,
    )


class _Openings:
    """What is opened of each schema's records."""

    def __init__(self, schemas: Mapping[tuple[int, int], Schema], scope: Scope) -> None:
        self.schemas = schemas
        self._limited = scope is not everything
        self._positions = {each: scope(schema) for each, schema in schemas.items()}

    def of(self, kind: int, numbers: Sequence[int]) -> dict[int, Opening] | None:
        """schema -> opening of a group's records; None where all fields of all of them are open."""
        # What a scope says of a schema that is not there is unknown, so then nothing is opened.
        known = not self._limited or all((kind, number) in self.schemas for number in numbers)
        if known and all(self._positions.get((kind, number)) is None for number in numbers):
            return None
        found = {}
        for number in numbers:
            if (kind, number) not in self.schemas:
                raise UnavailableError(f"schema {number} of kind {kind} is not registered")
            fields = len(self.schemas[kind, number].fields)
            positions = self._positions[kind, number]
            found[number] = Opening(
                fields=fields, positions=tuple(range(fields)) if positions is None else positions
            )
        return found


def _open(
    pairs: list[tuple[bytes, RecordValue]], opener: Opener
) -> list[tuple[bytes, Sequence[Value] | None]]:
    """(secret, row) of every record; erased ones are not asked for."""
    asked = [pair for pair in pairs if pair[1].status is not Status.ERASED]
    answers = iter(opener(asked) if asked else ())
    opened: list[tuple[bytes, Sequence[Value] | None]] = []
    for key, value in pairs:
        if value.status is Status.ERASED:
            opened.append((b"", None))
            continue
        answer = next(answers, None)
        if answer is None:
            raise UnavailableError(f"no secret for record {key.hex()} version {value.version}")
        opened.append((answer[0], list(answer[1])))
    return opened


def _group(
    prefix: bytes,
    pairs: Pairs,
    opened: Iterator[tuple[bytes, Sequence[Value] | None]],
    openings: _Openings,
) -> RecordGroup:
    opening = openings.of(prefix[3], sorted({value.schema for _key, _raw, value in pairs}))
    secrets: list[bytes] = []
    rows: list[Sequence[Value] | None] = []
    for _key, _raw, value in pairs:
        secret, row = next(opened)
        if opening is None:
            secrets.append(secret or bytes(32))
            rows.append(row)
            continue
        part = opening[value.schema]
        if row is None:
            secrets.append(bytes(part.secret_bytes))
            rows.append(None)
        else:
            secrets.append(partial_secret(openings.schemas[prefix[3], value.schema], part, secret, row))
            rows.append([row[position] for position in part.positions])
    return RecordGroup(
        prefix=prefix,
        ends=tuple(key[len(prefix) :] for key, _raw, _value in pairs),
        values=tuple((raw, value) for _key, raw, value in pairs),
        opened=opening,
        secrets=tuple(secrets),
        rows=tuple(rows),
    )


def partial_secret(schema: Schema, opening: Opening, secret: bytes, row: Sequence[Value]) -> bytes:
    """Salts of the opened fields, then digests of the others; an absent field's salt or digest is zeros."""
    check(len(row) == opening.fields, "a row has one value for every field")
    salts, digests = [], []
    for position, (packed_name, value) in enumerate(zip(schema.packed_names, row, strict=True)):
        salt = field_salt(secret, position)
        if position in opening.positions:
            salts.append(bytes(16) if value is None else salt)
        else:
            digests.append(ABSENT_DIGEST if value is None else field_digest(salt, packed_name, value))
    return b"".join(salts) + b"".join(digests)
