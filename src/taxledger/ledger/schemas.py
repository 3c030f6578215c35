"""Schemas: the fields of a kind, what makes a record unique, where its period is read (docs/protocol.md §5).

Invariants:

* A ``Schema`` is only ever a valid one: the constructor checks everything the protocol asks for, so a
  document that decodes can be used without further checks, and ``encode_schema(decode_schema(d)) == d``.
* Field values travel as a row: one value per field, in schema order, ``None`` where a field is absent.
* Everything that names part of a schema on the ledger is ASCII.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError
from taxledger.ledger.fields import (
    FIELD_NAME,
    ROLE_CONTENT,
    ROLE_PARTY,
    Field,
    Row,
    Value,
    fits_of,
    is_date,
    is_month,
)
from taxledger.ledger.kinds import KIND_NAMES, KINDS, kind_name, parse_kind

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "ROLE_CONTENT",
    "ROLE_PARTY",
    "Field",
    "Row",
    "Schema",
    "Value",
    "decode_schema",
    "encode_schema",
    "is_date",
    "is_month",
    "kind_name",
    "parse_kind",
]

_PERIOD_TYPES = {
    "month": ("date", "month"),
    "quarter": ("date", "month"),
    "year": ("date", "month", "year"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """One version of the fields of a kind.

    Attributes:
        kind: 1–255.
        number: of this schema among those of its kind, 1–255.
        name: for people, like ``vat_invoice``.
        fields: at least one, at most 64, with distinct names.
        unique: alternatives, each a tuple of (field, exact number of digits, or 0 for any value).
        fingerprint: None (never), () (always) or (field, value): which records have one.
        period: (``month`` | ``quarter`` | ``year``, field).
        position: index of every field by its name (derived).
        packed_names: msgpack of ``[name, …`` without the value, for commitments (derived).
    """

    kind: int
    number: int
    name: str
    fields: tuple[Field, ...]
    unique: tuple[tuple[tuple[str, int], ...], ...]
    fingerprint: tuple[()] | tuple[str, Value] | None
    period: tuple[str, str]
    position: Mapping[str, int] = field(init=False, repr=False, compare=False)
    packed_names: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _fits: tuple[Callable[[Any], bool], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for number in (self.kind, self.number):
            if type(number) is not int or not 1 <= number <= 255:
                raise FormatError(f"expected kind and schema 1–255, got {number!r}")
        if type(self.name) is not str or not FIELD_NAME.fullmatch(self.name):
            raise FormatError(f"expected a schema name [a-z][a-z0-9_]{{0,31}}, got {self.name!r}")
        if not 1 <= len(self.fields) <= limits.fields_max:
            raise FormatError(f"expected 1 to {limits.fields_max} fields, got {len(self.fields)}")
        position = {each.name: index for index, each in enumerate(self.fields)}
        if len(position) != len(self.fields):
            raise FormatError("expected distinct field names")
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "_fits", tuple(fits_of(each.type) for each in self.fields))
        packed = tuple(b"\x92" + canonical.encode(each.name) for each in self.fields)
        object.__setattr__(self, "packed_names", packed)
        self._check_unique()
        self._check_fingerprint()
        unit, name = self.period
        if unit not in _PERIOD_TYPES or self._field(name).type not in _PERIOD_TYPES[unit]:
            raise FormatError(f"expected a period [month|quarter|year, date field], got {self.period!r}")

    def _field(self, name: Any) -> Field:
        if type(name) is not str or name not in self.position:
            raise FormatError(f"expected a field of the schema, got {name!r}")
        return self.fields[self.position[name]]

    def _check_unique(self) -> None:
        for alternative in self.unique:
            names = [self._field(name).name for name, _digits in alternative]
            if not names or len(set(names)) != len(names):
                raise FormatError(f"expected distinct fields that are unique together, got {names!r}")
            for name, digits in alternative:
                if type(digits) is not int or not 0 <= digits <= limits.field_text_bytes_max:
                    raise FormatError(f"expected a number of digits, got {digits!r}")
                if digits and self._field(name).type != "text":
                    raise FormatError(f"expected digits of a text field, got field {name!r}")

    def _check_fingerprint(self) -> None:
        if not self.fingerprint:
            return
        name, value = self.fingerprint
        self._field(name)
        if value is None or not self._fits[self.position[name]](value):
            raise FormatError(
                f"expected a value of field {name!r} as the mark of a fingerprint, got {value!r}"
            )

    def check_fields(self, values: Row) -> None:
        """Returns when the row has one fitting value, or None, for every field, and its period can be read.

        Raises:
            FormatError: the first field that does not fit, with what was expected.
        """
        if len(values) != len(self.fields):
            raise FormatError(f"expected {len(self.fields)} field values, got {len(values)}")
        for fits, value, each in zip(self._fits, values, self.fields, strict=True):
            if value is not None and not fits(value):
                raise FormatError(f"field {each.name}: expected {each.type}, got {value!r:.80}")
        name = self.period[1]
        if values[self.position[name]] is None:
            raise FormatError(f"field {name}: expected a value, its period is read from it")

    def check_value(self, position: int, value: Value) -> None:
        """Raises FormatError unless the value of the field at a position fits; None (absent) does."""
        each = self.fields[position]
        if value is not None and not self._fits[position](value):
            raise FormatError(f"field {each.name}: expected {each.type}, got another value")

    def row(self, named: Mapping[str, Value]) -> tuple[Value, ...]:
        """Named values as a row; what is not named is absent.

        Raises:
            FormatError: a name that the schema does not have.
        """
        unknown = [name for name in named if name not in self.position]
        if unknown:
            raise FormatError(f"expected fields {list(self.position)}, got {unknown[0]!r}")
        return tuple(named.get(each.name) for each in self.fields)

    def named(self, values: Row) -> dict[str, Value]:
        """A row as ``{name: value}`` without the absent fields."""
        return {
            each.name: value for each, value in zip(self.fields, values, strict=True) if value is not None
        }


def encode_schema(schema: Schema) -> bytes:
    """The schema document: ``[1, "schema", kind, schema, name, fields, unique, fingerprint, period]``."""
    return canonical.encode(
        [
            1,
            "schema",
            schema.kind,
            schema.number,
            schema.name,
            [[each.name, each.type, each.role] for each in schema.fields],
            schema.unique,
            schema.fingerprint,
            schema.period,
        ]
    )


def _pairs(value: Any, what: str) -> tuple[tuple[Any, Any], ...]:
    if type(value) is not list or any(type(pair) is not list or len(pair) != 2 for pair in value):
        raise FormatError(f"schema: expected pairs in {what}")
    return tuple((pair[0], pair[1]) for pair in value)


def _decode_field(value: Any) -> Field:
    if type(value) is not list or len(value) != 3:
        raise FormatError("schema: expected fields [name, type, role]")
    name, type_, role = value
    if type(type_) is list:
        type_ = tuple(type_)
    elif type(type_) is not str:
        raise FormatError("schema: expected a field's type as text or array of texts")
    return Field(name=name, type=type_, role=role)


def decode_schema(document: bytes) -> Schema:
    """The schema of a document.

    Raises:
        LimitError: more than ``limits.schema_bytes_max``.
        EncodingError: not canonical.
        FormatError: not a schema, or one that contradicts itself.
    """
    value = canonical.decode(document, bytes_max=limits.schema_bytes_max)
    if type(value) is not list or len(value) != 9 or type(value[0]) is not int or value[:2] != [1, "schema"]:
        raise FormatError("expected a schema document [1, 'schema', …] of nine elements")
    kind, number, name, fields, unique, fingerprint, period = value[2:]
    if type(fields) is not list or type(unique) is not list:
        raise FormatError("schema: expected fields and unique as arrays")
    if fingerprint is not None and (type(fingerprint) is not list or len(fingerprint) not in (0, 2)):
        raise FormatError("schema: expected fingerprint nil, [] or [field, value]")
    if type(period) is not list or len(period) != 2 or any(type(text) is not str for text in period):
        raise FormatError("schema: expected period [unit, field]")
    return Schema(
        kind=kind,
        number=number,
        name=name,
        fields=tuple(_decode_field(each) for each in fields),
        unique=tuple(_pairs(alternative, "unique") for alternative in unique),
        fingerprint=None if fingerprint is None else tuple(fingerprint),
        period=(period[0], period[1]),
    )
