"""Records of any kind from CSV and xlsx tables, through a column mapping.

A number cell of a sheet is read as the spreadsheet shows it, with 15 significant digits: what lies behind
them is noise of its binary arithmetic. For the same reason a long number (an invoice number of 20 digits)
that was typed into a number cell is refused: its last digits are lost already.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import parse_subject
from taxledger.ledger.schemas import Field, Schema, Value
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.mapping import Mapping, required_fields
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow, open_text

__all__ = ["TableSource"]

_EXACT_DIGITS = 15
_CACHE_MAX = 100_000
_XLSX_DATE = "YYYY-M-D"

Parse = Callable[[str], Value]


class TableSource:
    """The ``csv`` source.

    Attributes:
        schema: the mapping's.
    """

    def __init__(self, mapping: Mapping, subject: str | None = None) -> None:
        """
        Args:
            mapping: see ``mapping.py``.
            subject: of all rows, in its one form; where the mapping names a column too, other rows are
            rejected.

        Raises:
            FormatError: neither names a subject, or a constant does not fit its field.
        """
        if mapping.subject_column is None and subject is None:
            raise FormatError(
                "expected a subject: [subject] column in the mapping, or one given with the files"
            )
        self.schema: Schema = mapping.schema
        self._mapping = mapping
        self._subject = subject
        self._subjects: dict[str, str] = {}
        self._required = required_fields(mapping.schema)
        self._parsers = {each.name: _parser(each, mapping) for each in mapping.schema.fields}
        self._constants: dict[str, Value] = {}
        for name, text in mapping.constants.items():
            try:
                self._constants[name] = self._parsers[name](cells.strip_cell(text))
            except CellError as error:
                raise FormatError(
                    f"[constants] {name}: expected {error.expected}, got {text!r:.40}"
                ) from error

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every row of the table that is not blank. Raises FormatError when it is no such table."""
        type_ = self._mapping.type or ("xlsx" if path.suffix.lower() in (".xlsx", ".xlsm") else "csv")
        table = _xlsx_rows(path, self._mapping) if type_ == "xlsx" else _csv_rows(path, self._mapping)
        header: list[str] | None = None
        columns: dict[str, int] = {}
        for line, row in table:
            if line < self._mapping.header_row:
                continue
            if header is None:
                header = [cells.strip_cell(_shown(cell)) for cell in row]
                columns = self._columns(path, line, header)
            elif any(cells.strip_cell(_shown(cell)) for cell in row):
                yield self._row(line, row, header, columns)
        if header is None:
            raise FormatError(
                f"{path}: expected the column names in row {self._mapping.header_row}, got fewer rows"
            )

    def _columns(self, path: Path, line: int, header: list[str]) -> dict[str, int]:
        """Position by column name, for the columns that the mapping uses."""
        mapping = self._mapping
        wanted = [*mapping.columns.values(), mapping.subject_column, mapping.status_column]
        positions = {}
        for name in wanted:
            if name is None:
                continue
            if header.count(name) != 1:
                seen = ", ".join(each for each in header if each)[:200]
                times = "twice or more" if name in header else "not there"
                raise FormatError(
                    f"{path}: line {line}: expected a column {name!r}, got it {times}; the header is "
                    f"{seen!r} (is encoding {mapping.encoding} right?)"
                )
            positions[name] = header.index(name)
        return positions

    # --- a row ------------------------------------------------------------------------------

    def _row(
        self, line: int, row: Sequence[Any], header: list[str], columns: dict[str, int]
    ) -> SourceRow | BadRow:
        if len(row) < len(header) or any(cells.strip_cell(_shown(cell)) for cell in row[len(header) :]):
            n = len(header)
            error = CellError("columns_differ", f"{n} columns, as the header", f"{n} 列，与表头一致")
            return error.row(line, "", str(len(row)))
        mapping, column = self._mapping, ""
        try:
            named = dict(self._constants)
            for field, column in mapping.columns.items():
                named[field] = self._value(field, row[columns[column]])
            column = mapping.subject_column or ""
            subject = self._subject_of(_shown(row[columns[column]]) if column else "")
            column = mapping.status_column or ""
            status = self._status_of(_shown(row[columns[column]]) if column else "")
        except CellError as error:
            return error.row(line, column, _shown(row[columns[column]]) if column else "")
        values = tuple(named.get(each.name) for each in self.schema.fields)
        return SourceRow(line, subject, status, values)

    def _value(self, field: str, cell: Any) -> Value:
        mapping = self._mapping
        text = cells.strip_cell(_shown(cell))
        translated = mapping.values.get(field, {}).get(text)
        if translated is not None:
            text = translated
        if not text or text in mapping.blanks:
            if field in self._required:
                raise CellError("value_missing", "a value", "非空值")
            return None
        is_number = type(cell) is int or type(cell) is float
        if is_number and translated is None:
            if abs(cell) >= 10**_EXACT_DIGITS:
                raise CellError(
                    "number_rounded",
                    f"a text cell: a spreadsheet keeps {_EXACT_DIGITS} digits of a number",
                    f"文本格式单元格：电子表格的数值只保留 {_EXACT_DIGITS} 位有效数字",
                )
            text = _localised(text, mapping)
        if field in mapping.drop_leading_zeros:
            return cells.drop_leading_zeros(text)
        return self._parsers[field](text)

    def _subject_of(self, cell: str) -> str:
        if self._mapping.subject_column is None:
            assert self._subject is not None
            return self._subject
        text = cells.strip_cell(cell)
        known = self._subjects.get(text)
        if known is None:
            scheme = self._mapping.subject_scheme
            try:
                known = parse_subject(f"{scheme}:{text}" if scheme else text)
            except FormatError as error:
                raise CellError("subject_malformed", str(error), "有效的主体标识（校验位正确）") from None
            if len(self._subjects) < _CACHE_MAX:
                self._subjects[text] = known
        if self._subject is not None and known != self._subject:
            raise CellError(
                "subject_differs", f"the subject asked, {self._subject}", f"指定的主体 {self._subject}"
            )
        return known

    def _status_of(self, cell: str) -> int:
        mapping = self._mapping
        text = cells.strip_cell(cell)
        status = mapping.status_values.get(text)
        if status is None and not text:
            status = mapping.status_default
        if status is None:
            allowed = list(mapping.status_values)
            raise CellError("status_unknown", " or ".join(allowed), " 或 ".join(allowed))
        return status


def _shown(cell: Any) -> str:
    """A cell as the text that its reader sees."""
    if type(cell) is str:
        return cell
    if cell is None:
        return ""
    if type(cell) is bool:
        return "true" if cell else "false"
    if type(cell) is float:
        return (
            f"{Decimal(f'{cell:.{_EXACT_DIGITS}g}'):f}" if cell == cell and abs(cell) < 1e300 else repr(cell)
        )
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(" ")
    return cell.isoformat() if isinstance(cell, date) else str(cell)


def _localised(text: str, mapping: Mapping) -> str:
    """The plain text of a number cell in the mapping's number form, so that one parser reads both."""
    return text.replace(".", mapping.decimal_point)


# --- fields ---------------------------------------------------------------------------------


def _parser(field: Field, mapping: Mapping) -> Parse:
    if isinstance(field.type, tuple):
        return partial(_one_of, field.type)
    dates = mapping.dates if _XLSX_DATE in mapping.dates else (*mapping.dates, _XLSX_DATE)
    parsers: dict[str, Parse] = {
        "text": cells.parse_text,
        "date": lambda text: cells.parse_date(text, dates),
        "month": lambda text: cells.parse_month(text, dates),
        "year": cells.parse_year,
        "boolean": cells.parse_boolean,
        "money": lambda text: cells.parse_money(_plain(text, mapping), mapping.minor_digits),
        "integer": lambda text: cells.parse_scaled(_plain(text, mapping), 0),
        "ppm": lambda text: _rate(text, mapping),
    }
    return parsers[field.type]


def _plain(text: str, mapping: Mapping) -> str:
    return cells.plain_number(text, decimal_point=mapping.decimal_point, thousands=mapping.thousands)


def _one_of(allowed: tuple[str, ...], text: str) -> str:
    if text not in allowed:
        raise CellError("value_unknown", " or ".join(allowed), " 或 ".join(allowed))
    return text


def _rate(text: str, mapping: Mapping) -> int:
    if text.endswith(("%", "％")):
        return cells.parse_scaled(_plain(cells.strip_cell(text[:-1]), mapping), 4)
    return cells.parse_scaled(_plain(text, mapping), 4 if mapping.rate == "percent" else 6)


# --- files ----------------------------------------------------------------------------------


def _csv_rows(path: Path, mapping: Mapping) -> Iterator[tuple[int, Sequence[Any]]]:
    line = 0
    try:
        with open_text(path, mapping.encoding) as text:
            reader = csv.reader(text, delimiter=mapping.delimiter)
            for row in reader:
                line += 1
                # Where a quoted cell spans lines, a row is known by its last line.
                line = max(line, reader.line_num)
                yield line, row
    except csv.Error as error:
        raise FormatError(f"{path}: line {line + 1}: not CSV: {error}") from error
    except (OSError, EOFError) as error:
        raise FormatError(f"{path}: can't be read to its end: {error}") from error


def _xlsx_rows(path: Path, mapping: Mapping) -> Iterator[tuple[int, Sequence[Any]]]:
    # Imported here: the verifier is installed without it, and only this function needs it.
    from openpyxl import load_workbook

    width = 0
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions that it does not show
            book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
            try:
                names = book.sheetnames
                if mapping.sheet is not None and mapping.sheet not in names:
                    raise FormatError(f"{path}: expected a sheet {mapping.sheet!r}, got {', '.join(names)}")
                sheet = book[mapping.sheet or names[0]]
                # Some programs write a wrong size, and rows beyond it would be left out.
                sheet.reset_dimensions()
                for line, row in enumerate(sheet.iter_rows(values_only=True), 1):
                    width = len(row) if line == mapping.header_row else width
                    yield line, tuple(row) + (None,) * (width - len(row))
            finally:
                book.close()
    except (FormatError, GeneratorExit):
        raise
    except Exception as error:  # openpyxl lets zip, XML and its own errors through, of many types
        raise FormatError(f"{path}: not a readable xlsx file: {type(error).__name__}: {error}") from error
