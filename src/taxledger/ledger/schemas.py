"""Schemas: the fields of a kind, what makes a record unique, where its period is read (docs/protocol.md §5).

Invariants:

* A ``Schema`` is only ever a valid one: the constructor checks everything the protocol asks for, so a
  document that decodes can be used without further checks, and ``encode_schema(decode_schema(d)) == d``.
* Field values travel as a row: one value per field, in schema order, ``None`` where a field is absent.
* Everything that names part of a schema on the ledger is ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError

__all__ = [
    "BUILTIN",
    "KINDS",
    "KIND_NAMES",
    "ROLE_CONTENT",
    "ROLE_PARTY",
    "Field",
    "Schema",
    "decode_schema",
    "encode_schema",
    "is_date",
    "is_month",
    "kind_name",
    "parse_kind",
]

Value = str | int | bool | None
Row = Sequence[Value]

ROLE_CONTENT = 0
ROLE_PARTY = 1

KINDS: dict[str, int] = {
    "business_registration": 1,
    "tax_filing": 2,
    "tax_credit_rating": 3,
    "tax_arrears": 4,
    "vat_invoice": 5,
    "procurement_award": 6,
    "engineering_contract": 7,
    "utility_usage": 8,
    "customs_declaration": 9,
    "technology_qualification": 10,
    "credit_summary": 11,
}
"""Number of every kind with a name; a network may use others, which then are shown by their number."""

KIND_NAMES: dict[int, str] = {number: name for name, number in KINDS.items()}

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PRINTABLE = re.compile(r"[!-~]{1,64}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_DIGITS = re.compile(r"[0-9]+")
_INTEGERS = ("integer", "money", "ppm")
_TYPES = ("text", "date", "month", "year", "boolean", *_INTEGERS)
_PERIOD_TYPES = {
    "month": ("date", "month"),
    "quarter": ("date", "month"),
    "year": ("date", "month", "year"),
}


def kind_name(kind: int) -> str:
    """The name of a kind, or its number in decimal where it has none."""
    return KIND_NAMES.get(kind, str(kind))


def parse_kind(text: str) -> int:
    """The number of a kind from its name or its decimal number.

    Raises:
        FormatError: neither.
    """
    if text in KINDS:
        return KINDS[text]
    if _DIGITS.fullmatch(text) and not text.startswith("0") and len(text) <= 3 and int(text) <= 255:
        return int(text)
    raise FormatError(f"expected a kind, one of {', '.join(KINDS)}, or its number 1–255, got {text!r}")


@lru_cache(maxsize=8192)
def is_date(text: str) -> bool:
    """Whether this is ``YYYY-MM-DD`` and a day of the calendar."""
    if not _DATE.fullmatch(text):
        return False
    try:
        date(int(text[:4]), int(text[5:7]), int(text[8:]))
    except ValueError:
        return False
    return True


def is_month(text: str) -> bool:
    """Whether this is ``YYYY-MM``, year 0001 or later."""
    return bool(_MONTH.fullmatch(text)) and not text.startswith("0000")


def _fits_text(value: Any) -> bool:
    if type(value) is not str or len(value) > limits.field_text_bytes_max:
        return False
    if value.isascii():
        return True
    try:
        return len(value.encode()) <= limits.field_text_bytes_max
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _fits_integer(value: Any) -> bool:
    return type(value) is int and -limits.integer_max <= value <= limits.integer_max


_FITS: dict[str, Callable[[Any], bool]] = {
    "text": _fits_text,
    "date": lambda value: type(value) is str and is_date(value),
    "month": lambda value: type(value) is str and is_month(value),
    "year": lambda value: type(value) is int and 1 <= value <= 9999,
    "boolean": lambda value: type(value) is bool,
    **dict.fromkeys(_INTEGERS, _fits_integer),
}


def _fits_of(type_: str | tuple[str, ...]) -> Callable[[Any], bool]:
    if isinstance(type_, str):
        return _FITS[type_]
    allowed = frozenset(type_)
    return lambda value: type(value) is str and value in allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a schema.

    Attributes:
        name: matches ``[a-z][a-z0-9_]{0,31}``.
        type: ``text``, ``date``, ``month``, ``year``, ``integer``, ``money``, ``ppm``, ``boolean``, or
            the tuple of the allowed texts.
        role: ``ROLE_CONTENT``, or ``ROLE_PARTY`` for a counterparty (left out of fingerprints).
    """

    name: str
    type: str | tuple[str, ...]
    role: int = ROLE_CONTENT

    def __post_init__(self) -> None:
        if type(self.name) is not str or not _NAME.fullmatch(self.name):
            raise FormatError(f"expected a field name [a-z][a-z0-9_]{{0,31}}, got {self.name!r}")
        if isinstance(self.type, tuple):
            texts = [text for text in self.type if type(text) is str and _PRINTABLE.fullmatch(text)]
            if not texts or len(texts) != len(self.type) or len(set(texts)) != len(texts):
                raise FormatError(f"field {self.name}: expected distinct ASCII texts, got {self.type!r}")
        elif self.type not in _TYPES:
            raise FormatError(f"field {self.name}: expected a type of {_TYPES}, got {self.type!r}")
        if type(self.role) is not int or self.role not in (ROLE_CONTENT, ROLE_PARTY):
            raise FormatError(f"field {self.name}: expected role 0 or 1, got {self.role!r}")


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
        if type(self.name) is not str or not _NAME.fullmatch(self.name):
            raise FormatError(f"expected a schema name [a-z][a-z0-9_]{{0,31}}, got {self.name!r}")
        if not 1 <= len(self.fields) <= limits.fields_max:
            raise FormatError(f"expected 1 to {limits.fields_max} fields, got {len(self.fields)}")
        position = {each.name: index for index, each in enumerate(self.fields)}
        if len(position) != len(self.fields):
            raise FormatError("expected distinct field names")
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "_fits", tuple(_fits_of(each.type) for each in self.fields))
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


def _fields(text: str) -> tuple[Field, ...]:
    """Fields from ``name:type …``; ``a|b`` is a choice, a trailing ``*`` marks a party."""
    fields = []
    for each in text.split():
        name, type_ = each.rstrip("*").split(":")
        choice = tuple(type_.split("|"))
        role = ROLE_PARTY if each.endswith("*") else ROLE_CONTENT
        fields.append(Field(name=name, type=choice if len(choice) > 1 else type_, role=role))
    return tuple(fields)


BUILTIN: tuple[Schema, ...] = (
    # `period` is the last month that a filing covers and `months` how many it covers; `corrects` names the
    # filing that this one replaces.
    Schema(
        kind=KINDS["tax_filing"],
        number=1,
        name="tax_filing",
        fields=_fields(
            "tax:text period:month months:integer number:text filed:date due:date currency:text sales:money "
            "output_tax:money input_tax:money payable:money paid:money corrects:text"
        ),
        unique=((("tax", 0), ("number", 0)), (("tax", 0), ("period", 0))),
        fingerprint=None,
        period=("month", "period"),
    ),
    Schema(
        kind=KINDS["tax_credit_rating"],
        number=1,
        name="tax_credit_rating",
        fields=_fields("year:year grade:A|B|M|C|D score:integer published:date authority:text"),
        unique=((("year", 0),),),
        fingerprint=None,
        period=("year", "year"),
    ),
    # `original` is the number of the invoice that a red letter reverses.
    Schema(
        kind=KINDS["vat_invoice"],
        number=1,
        name="vat_invoice",
        fields=_fields(
            "direction:sale|purchase code:text number:text date:date counterparty:text* currency:text "
            "net:money tax:money gross:money rate:ppm goods:text original:text"
        ),
        unique=((("number", 20),), (("code", 0), ("number", 0))),
        fingerprint=("direction", "sale"),
        period=("month", "date"),
    ),
)
"""The schemas that every new network starts with."""
