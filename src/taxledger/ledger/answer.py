"""The answer that verified evidence gives, and how it is shown (docs/protocol.md §10).

Invariants:

* Only ``verify.verify_evidence`` makes an ``Answer``; ``show_evidence`` shows an unverified file and
  says so.
* Amounts of different currencies are never added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.checkpoint import SignedCheckpoint, decode_note
from taxledger.ledger.errors import FormatError
from taxledger.ledger.evidence import Evidence, decode_evidence
from taxledger.ledger.header import Header, decode_header
from taxledger.ledger.members import Member
from taxledger.ledger.query import Query, record_prefixes
from taxledger.ledger.records import Status, tag_of
from taxledger.ledger.schemas import Schema, Value, decode_schema, is_date, kind_name
from taxledger.ledger.statekeys import attested_through_key, split_record_key

__all__ = ["Answer", "AnsweredRecord", "show_decoded", "show_evidence", "totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRecord:
    """One record at its present version.

    Attributes:
        kind: number of the kind.
        year: of its period.
        month: 1–12, 13–16 for a quarter, 0 for the whole year.
        status: what it is now.
        version: from 1.
        key: its key in the state map, 37 bytes.
        height: of the block that wrote this version.
        fingerprint: 16 bytes by which the same fact collides wherever it is filed; None where the kind has none.
        schema: what its fields mean.
        values: one per field of the schema, None where absent or closed; None as a whole for an erased record.
        opened: positions of the fields that were opened; None where all were.
    """

    kind: int
    year: int
    month: int
    status: Status
    version: int
    key: bytes
    height: int
    fingerprint: bytes | None = None
    schema: Schema
    values: Sequence[Value] | None
    opened: tuple[int, ...] | None = None

    @property
    def closed(self) -> tuple[str, ...]:
        """Names of the fields that stay digests."""
        if self.opened is None:
            return ()
        return tuple(each.name for at, each in enumerate(self.schema.fields) if at not in self.opened)

    @property
    def file_row(self) -> Sequence[Value] | None:
        """The values as the evidence holds them: of the opened fields only."""
        if self.values is None or self.opened is None:
            return self.values
        return [self.values[position] for position in self.opened]

    @property
    def period(self) -> str:
        """``YYYY-MM``, ``YYYY-Qn`` or ``YYYY``."""
        if self.month == 0:
            return f"{self.year:04}"
        return f"{self.year:04}-{self.month:02}" if self.month <= 12 else f"{self.year:04}-Q{self.month - 12}"

    @property
    def fields(self) -> dict[str, Value] | None:
        """The fields that are present, by name; None for an erased record."""
        return None if self.values is None else self.schema.named(self.values)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "key": self.key.hex(),
            "kind": kind_name(self.kind),
            "period": self.period,
            "status": self.status.name.lower(),
            "version": self.version,
            "height": self.height,
            "schema": self.schema.number,
            "fields": self.fields,
            **({"closed": list(self.closed)} if self.opened is not None else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What verified evidence says.

    Attributes:
        query: what was asked.
        checkpoint: the checkpoint it stands on, with the co-signatures that were counted.
        header: of the block right below it.
        age_ms: now less the oldest of the co-signatures counted.
        records: by kind, year, month and key.
        through: kind -> date up to which the issuer says that it attested everything, None if it never did.
        issuer: the member asked about as the ledger has it, None if it has no such member.
        keyed_years: the years asked in which the issuer has a tag key; in any other it attested nothing at all.
        file_bytes: size of the evidence.
        column_bytes: of these, map keys, map values and secrets of the records.
    """

    query: Query
    checkpoint: SignedCheckpoint
    header: Header
    age_ms: int
    records: tuple[AnsweredRecord, ...]
    through: Mapping[int, str | None]
    issuer: Member | None
    keyed_years: frozenset[int]
    file_bytes: int
    column_bytes: int

    @property
    def size(self) -> int:
        """Of the log at the checkpoint."""
        return self.checkpoint.checkpoint.size

    @property
    def height(self) -> int:
        """Of the block that the answer is of."""
        return self.header.height

    def complete(self, kind: int) -> bool:
        """Whether the issuer has attested this kind through the last day asked, and in each year asked has begun to."""
        date = self.through[kind]
        begun = self.keyed_years.issuperset(self.query.years)
        return begun and date is not None and date >= _last_day(self.query.to_period)

    @property
    def erased(self) -> int:
        """How many of the records are erased. They are in ``records``, so that nobody takes them for absent, and
        count towards completeness; what they said is in no sum.
        """
        return _erased(self.records)

    @property
    def record_bytes(self) -> int:
        """Size of the content: canonical msgpack of ``[kind, period, {name: value}]`` of every record."""
        return sum(
            len(canonical.encode([record.kind, record.period, record.fields])) for record in self.records
        )

    @property
    def proof_bytes(self) -> int:
        """What proving costs: the file less every record's fields, secret, map key and map value."""
        rows = sum(len(canonical.encode(record.file_row)) for record in self.records)
        return self.file_bytes - self.column_bytes - rows

    def as_dict(self) -> dict[str, Any]:
        """For JSON: query, checkpoint, records, totals."""
        shown = _shown(self.query, self.checkpoint, self.header, self.records, self.through)
        return {"verified": True, "age_ms": self.age_ms, **shown}


def _last_day(period: str) -> str:
    return next(day for day in (f"{period}-{n}" for n in (31, 30, 29, 28)) if is_date(day))


def _erased(records: Iterable[AnsweredRecord]) -> int:
    return sum(record.status is Status.ERASED for record in records)


# --- totals ---------------------------------------------------------------------------------


_TOTAL_COLUMNS = ("kind", "direction", "status", "currency", "count")


def _totals(records: Iterable[AnsweredRecord]) -> list[dict[str, Any]]:
    rows: dict[tuple[int, str, int, str], dict[str, Any]] = {}
    for record in records:
        position = record.schema.position
        values: Sequence[Value] = record.values or [None] * len(position)
        direction = values[position["direction"]] if "direction" in position else None
        currency = values[position["currency"]] if "currency" in position else None
        key = (record.kind, str(direction or ""), int(record.status), str(currency or ""))
        money = [
            each.name
            for each in record.schema.fields
            if each.type == "money" and each.name not in _TOTAL_COLUMNS
        ]
        # A sum over amounts of which some were not shown, or in who knows which currency, would be wrong.
        closed = set(money if {"direction", "currency"} & set(record.closed) else record.closed)
        row = rows.setdefault(
            key,
            {
                **dict.fromkeys(money, 0),
                "kind": kind_name(record.kind),
                "direction": direction,
                "status": record.status.name.lower(),
                "currency": currency,
                "count": 0,
            },
        )
        row["count"] += 1
        for name in money:
            total = row.get(name, 0)
            hidden = total is None or name in closed or record.values is None
            row[name] = None if hidden else total + (values[position[name]] or 0)
    return [rows[key] for key in sorted(rows)]


def totals(answer: Answer) -> list[dict[str, Any]]:
    """Counts and sums by kind, direction, status and currency, ascending.

    Each is ``{kind, direction, status, currency, count}`` and the sum of every money field in minor units
    (``net``, ``tax`` and ``gross`` for invoices), None where a record does not show the
    field: it is closed, or erased. A red letter counts with its negative amounts, and the invoice that it
    reverses still counts.
    """
    return _totals(answer.records)


# --- showing --------------------------------------------------------------------------------


def _shown(
    query: Query,
    note: SignedCheckpoint,
    header: Header,
    records: Sequence[AnsweredRecord],
    through: Mapping[int, str | None],
) -> dict[str, Any]:
    return {
        "query": {
            "subject": query.subject,
            "issuer": query.issuer,
            "kinds": [kind_name(kind) for kind in query.kinds],
            "from": query.from_period,
            "to": query.to_period,
        },
        "checkpoint": {
            "origin": note.checkpoint.origin,
            "size": note.checkpoint.size,
            "root": note.checkpoint.root.hex(),
            "height": header.height,
            "time_ms": header.time_ms,
            "cosigned": [{"name": line.name, "time_s": line.time_s} for line in note.cosign_lines],
        },
        "through": {kind_name(kind): date for kind, date in through.items()},
        "erased": _erased(records),
        "totals": _totals(records),
        "records": [record.as_dict() for record in records],
    }


def read_schemas(evidence: Evidence) -> dict[tuple[int, int], Schema]:
    """(kind, schema) -> the schema, of the documents listed.

    Raises:
        InputError: a document that is no schema.
    """
    keys = [key for key in evidence.entries if key[:1] == b"\x08"]
    return {
        (key[1], key[2]): decode_schema(document)
        for key, document in zip(keys, evidence.schemas, strict=True)
        if len(key) == 3
    }


def read_through(evidence: Evidence, query: Query) -> dict[int, str | None]:
    """Kind -> attested through, of the entries listed."""
    found: dict[int, str | None] = {}
    for kind in query.kinds:
        raw = evidence.entries.get(attested_through_key(query.issuer, kind))
        found[kind] = None if raw is None else canonical.decode(raw)[0]
    return found


def record_order(record: AnsweredRecord) -> tuple[int, int, int, bytes]:
    """The order in which records are shown: kind, year, month, key."""
    return record.kind, record.year, record.month, record.key


def column_bytes(evidence: Evidence) -> int:
    """Bytes of all map keys (their ends), map values and secrets."""
    return sum(
        sum(map(len, group.ends))
        + sum(map(len, group.secrets))
        + sum(len(raw) for raw, _value in group.values)
        for group in evidence.groups
    )


def show_evidence(data: bytes) -> dict[str, Any]:
    """What a file says, for JSON, with ``"verified": False``: nothing is checked but that it can be read.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``: it can't be read.
        InputError: its header, a schema or a record can't be read.
    """
    return show_decoded(decode_evidence(data))


def show_decoded(evidence: Evidence) -> dict[str, Any]:
    """``show_evidence`` of a file that is decoded."""
    query = evidence.query
    schemas = read_schemas(evidence)
    prefixes = record_prefixes(query, {key: tag_of(sigma) for key, sigma in evidence.tags.items()})
    records = []
    for group in evidence.groups:
        _kind, year = prefixes.get(group.prefix, (0, 0))
        for end, (_raw, value), row in zip(group.ends, group.values, group.rows, strict=True):
            _issuer, kind, _tag, month, _rid = split_record_key(group.prefix + end)
            schema = schemas.get((kind, value.schema))
            if schema is None:
                raise FormatError(f"expected the schema {value.schema} of kind {kind} in the file")
            opened = None if group.opened is None else group.opened[value.schema].positions
            records.append(
                AnsweredRecord(
                    kind=kind,
                    year=year,
                    month=month,
                    status=value.status,
                    version=value.version,
                    key=group.prefix + end,
                    height=value.height,
                    fingerprint=value.fingerprint,
                    schema=schema,
                    values=_unverified_values(schema, opened, row),
                    opened=opened,
                )
            )
    records.sort(key=record_order)
    note, header = decode_note(evidence.checkpoint), decode_header(evidence.header)
    return {"verified": False, **_shown(query, note, header, records, read_through(evidence, query))}


def _unverified_values(
    schema: Schema, opened: tuple[int, ...] | None, row: Sequence[Value] | None
) -> Sequence[Value] | None:
    if row is None:
        return None
    if opened is None:
        schema.check_fields(row)
        return row
    if len(row) != len(opened) or opened[-1:] >= (len(schema.fields),):
        raise FormatError("expected a value for each opened field of the schema")
    values: list[Value] = [None] * len(schema.fields)
    for position, value in zip(opened, row, strict=True):
        schema.check_value(position, value)
        values[position] = value
    return values
