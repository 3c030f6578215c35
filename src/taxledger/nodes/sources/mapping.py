"""The column-mapping file: how a table of some publisher becomes records of a kind (docs/sources.md).

A TOML file. Everything that it may say is here; a key that is not is an error, as is a mapping that could
never give a record.
"""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import SUBJECT_SCHEMES, Status
from taxledger.ledger.schemas import KINDS, Schema, parse_kind
from taxledger.nodes.sources.cells import DATE_FORMS, strip_cell

__all__ = ["Mapping", "decode_mapping", "load_mapping", "required_fields"]

_BYTES_MAX = 256 * 1024
_ENCODINGS = ("utf-8", "gb18030")
_TYPES = ("csv", "xlsx")
_RATES = ("fraction", "percent")
_STATUSES = {"valid": Status.VALID, "voided": Status.VOIDED, "reversed": Status.REVERSED}
_REQUIRED = {
    "vat_invoice": ("direction", "number", "date", "currency", "net", "tax", "gross"),
    "tax_filing": ("tax", "period", "currency"),
    "tax_credit_rating": ("year", "grade"),
    "tax_arrears": ("category", "opened"),
}
_TABLES = ("file", "forms", "subject", "status", "columns", "constants", "values")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A checked mapping.

    Attributes:
        schema: of the records.
        type: ``csv``, ``xlsx``, or None: by the file's name.
        encoding: ``utf-8`` or ``gb18030``; ``delimiter`` one character (CSV).
        sheet: name of the sheet, None for the first (xlsx).
        header_row: number of the row with the column names, from 1; rows above are skipped.
        dates: forms of ``cells.DATE_FORMS``, tried in order.
        decimal_point, thousands: one character each; ``thousands`` may be "".
        minor_digits: decimal places of the currency.
        rate: ``fraction`` (0.13) or ``percent`` (13); ``13%`` is read either way.
        subject_column, subject_scheme: where the subject stands; the scheme is put before it, "" where the
        cell
            has its own or is a bare credit code. A column of None: the caller names the subject.
        status_column, status_values: where the status stands, and status by cell text; ``status_default``
        where
            there is no column or nothing in the cell, None: a missing status is an error.
        columns: column by field; ``constants``: text by field, for all rows.
        values: by field, what to read in place of a cell's text.
        blanks: texts that mean "nothing".
        drop_leading_zeros: fields of digits whose leading zeros are dropped.
    """

    schema: Schema
    type: str | None
    encoding: str
    delimiter: str
    sheet: str | None
    header_row: int
    dates: tuple[str, ...]
    decimal_point: str
    thousands: str
    minor_digits: int
    rate: str
    subject_column: str | None
    subject_scheme: str
    status_column: str | None
    status_values: Table[str, int]
    status_default: int | None
    columns: Table[str, str]
    constants: Table[str, str]
    values: Table[str, Table[str, str]]
    blanks: frozenset[str]
    drop_leading_zeros: frozenset[str]


def required_fields(schema: Schema) -> frozenset[str]:
    """Fields that every row of a kind must have a value for."""
    return frozenset((*_REQUIRED.get(schema.name, ()), schema.period[1]))


def load_mapping(path: Path, schemas: Sequence[Schema] = BUILTIN) -> Mapping:
    """A mapping file.

    Raises:
        FormatError: it can't be read, or says something that is not allowed; the message names the place.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: can't be read: {error.strerror or error}") from error
    try:
        return decode_mapping(data, schemas)
    except FormatError as error:
        raise FormatError(f"mapping {path}: {error}") from error


def decode_mapping(data: bytes, schemas: Sequence[Schema] = BUILTIN) -> Mapping:
    """A mapping from the bytes of its TOML. ``schemas``: the newest of each kind counts.

    Raises:
        FormatError: see ``load_mapping``.
    """
    if len(data) > _BYTES_MAX:
        raise FormatError(f"expected at most {_BYTES_MAX} bytes, got {len(data)}")
    try:
        document = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise FormatError(f"expected UTF-8, got other bytes at {error.start}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormatError(f"not TOML: {error}") from error
    _only(document, ("kind", *_TABLES), "the mapping")
    schema = _schema(document.get("kind"), schemas)
    file, forms = _table(document, "file"), _table(document, "forms")
    subject, status = _table(document, "subject"), _table(document, "status")
    _only(file, ("type", "encoding", "delimiter", "sheet", "header_row"), "[file]")
    _only(
        forms,
        ("dates", "decimal_point", "thousands", "minor_digits", "rate", "blanks", "drop_leading_zeros"),
        "[forms]",
    )
    _only(subject, ("column", "scheme"), "[subject]")
    _only(status, ("column", "values", "default"), "[status]")
    type_ = _text(file, "type", "")
    mapping = Mapping(
        schema=schema,
        type=_choice(type_, _TYPES, "file.type") if type_ else None,
        encoding=_encoding(_text(file, "encoding", "utf-8")),
        delimiter=_character(_text(file, "delimiter", ","), "file.delimiter"),
        sheet=_text(file, "sheet", "") or None,
        header_row=_integer(file, "header_row", 1, 1, 1_000),
        dates=tuple(
            _choice(each, tuple(DATE_FORMS), "forms.dates")
            for each in _texts(forms, "dates", ["YYYY-M-D", "YYYY/M/D"])
        ),
        decimal_point=_character(_text(forms, "decimal_point", "."), "forms.decimal_point"),
        thousands=_text(forms, "thousands", ""),
        minor_digits=_integer(forms, "minor_digits", 2, 0, 4),
        rate=_choice(_text(forms, "rate", "fraction"), _RATES, "forms.rate"),
        subject_column=_text(subject, "column", "") or None,
        subject_scheme=_scheme(_text(subject, "scheme", "")),
        status_column=_text(status, "column", "") or None,
        status_values={
            text: _status(name) for text, name in _text_table(status, "values", "status.values").items()
        },
        status_default=_status(_text(status, "default", "valid")) if status.get("default", 1) else None,
        columns=_fields(document, "columns", schema),
        constants=_constants(document, schema),
        values={
            field: _text_table(_table(document, "values"), field, f"values.{field}")
            for field in _known_fields(_table(document, "values"), "values", schema)
        },
        blanks=frozenset(_texts(forms, "blanks", [])),
        drop_leading_zeros=frozenset(
            _known_fields(
                dict.fromkeys(_texts(forms, "drop_leading_zeros", [])), "drop_leading_zeros", schema
            )
        ),
    )
    _check_together(mapping)
    return mapping


def _check_together(mapping: Mapping) -> None:
    both = sorted(set(mapping.columns) & set(mapping.constants))
    if both:
        raise FormatError(f"expected field {both[0]!r} in [columns] or in [constants], got it in both")
    missing = sorted(required_fields(mapping.schema) - set(mapping.columns) - set(mapping.constants))
    if missing:
        raise FormatError(
            f"a {mapping.schema.name} needs {', '.join(missing)}: expected each in [columns] or [constants]"
        )
    unmapped = sorted(set(mapping.values) - set(mapping.columns))
    if unmapped:
        raise FormatError(f"[values.{unmapped[0]}]: expected a field that [columns] names")
    if mapping.status_column is not None and not mapping.status_values:
        raise FormatError("[status]: expected values, the status of each text in the column")
    if len(mapping.thousands) > 1 or mapping.thousands == mapping.decimal_point:
        raise FormatError(
            f"forms.thousands: expected one character, not the decimal point, got {mapping.thousands!r}"
        )
    if not mapping.dates:
        raise FormatError("forms.dates: expected at least one form")


# --- parts ----------------------------------------------------------------------------------


def _only(table: Table[str, Any], allowed: Sequence[str], where: str) -> None:
    for name in table:
        if name not in allowed:
            raise FormatError(f"{where}: expected only {', '.join(allowed)}, got {name!r}")


def _table(document: Table[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name, {})
    if type(value) is not dict:
        raise FormatError(f"expected [{name}] to be a table, got {type(value).__name__}")
    return value


def _text(table: Table[str, Any], name: str, default: str) -> str:
    value = table.get(name, default)
    if type(value) is not str:
        raise FormatError(f"{name}: expected a text in quotes, got {value!r:.40}")
    return value


def _texts(table: Table[str, Any], name: str, default: list[str]) -> list[str]:
    value = table.get(name, default)
    if type(value) is not list or any(type(each) is not str for each in value):
        raise FormatError(f"{name}: expected an array of texts, got {value!r:.40}")
    return list(value)


def _integer(table: Table[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = table.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"{name}: expected an integer {low} to {high}, got {value!r:.40}")
    return value


def _text_table(table: Table[str, Any], name: str, where: str) -> dict[str, str]:
    value = table.get(name, {})
    if type(value) is not dict or any(type(each) is not str for each in value.values()):
        raise FormatError(f'{where}: expected a table of "text in the cell" = "what it means"')
    return {strip_cell(text): meaning for text, meaning in value.items()}


def _choice(value: str, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed:
        raise FormatError(f"{where}: expected one of {', '.join(allowed)}, got {value!r:.40}")
    return value


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        found = name
    # GB2312 and GBK are parts of GB18030.
    found = {"gb2312": "gb18030", "gbk": "gb18030", "utf-8-sig": "utf-8", "ascii": "utf-8"}.get(found, found)
    return _choice(found, _ENCODINGS, "file.encoding")


def _character(value: str, where: str) -> str:
    if len(value) != 1 or value in '"\r\n':
        raise FormatError(f"{where}: expected one character, got {value!r:.40}")
    return value


def _scheme(value: str) -> str:
    return _choice(value, tuple(SUBJECT_SCHEMES), "subject.scheme") if value else ""


def _status(name: str) -> int:
    return int(_STATUSES[_choice(name, tuple(_STATUSES), "status")])


def _schema(kind: Any, schemas: Sequence[Schema]) -> Schema:
    if type(kind) is not str:
        raise FormatError(f'expected kind = "…", got {kind!r:.40}')
    number = parse_kind(kind)
    # Answers to predicates are computed, not read.
    readable = [each for each in schemas if each.kind != KINDS["predicate"]]
    known = [each for each in readable if each.kind == number]
    if not known:
        names = ", ".join(sorted({each.name for each in readable}))
        raise FormatError(f"kind: expected one of {names}, got {kind!r}")
    return max(known, key=lambda each: each.number)


def _known_fields(table: Table[str, Any], where: str, schema: Schema) -> list[str]:
    for name in table:
        if name not in schema.position:
            raise FormatError(
                f"[{where}]: expected fields of {schema.name}: {', '.join(schema.position)}; got {name!r}"
            )
    return list(table)


def _fields(document: Table[str, Any], where: str, schema: Schema) -> dict[str, str]:
    table = _table(document, where)
    _known_fields(table, where, schema)
    return {field: strip_cell(_text(table, field, "")) for field in table}


def _constants(document: Table[str, Any], schema: Schema) -> dict[str, str]:
    table = _table(document, "constants")
    _known_fields(table, "constants", schema)
    for field, value in table.items():
        if type(value) not in (str, int, bool):
            raise FormatError(f"[constants] {field}: expected a text in quotes, got {value!r:.40}")
    return {
        field: str(value).lower() if type(value) is bool else str(value) for field, value in table.items()
    }
