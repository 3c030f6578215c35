"""Import declarations from the table that IBS and the Korea Customs Service published (CSV): one a row.

The table names no currency, so the record has none, and ``value`` is in hundredths of whatever it is. Prices were
printed from binary fractions: ``86125.20000000001`` is read as the amount of two decimal places that it stands
for, and only where no other is as near. What the publishers say of fraud is not part of a declaration.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import Schema
from taxledger.nodes.sources.cells import parse_iso_date, parse_money, parse_text, strip_cell
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow, open_text

__all__ = ["FORMAT", "KrCustomsSource", "parse_price"]

_NUMBER, _DATE, _IMPORTER, _SELLER = "Declaration ID", "Date", "Importer ID", "Seller ID"
_TYPE, _ORIGIN, _GOODS, _PRICE = "Import Type", "Country of Origin", "HS6 Code", "Item Price"
_COLUMNS = (_NUMBER, _DATE, _IMPORTER, _SELLER, _TYPE, _ORIGIN, _GOODS, _PRICE)
_CODE = re.compile(r"[0-9A-Z]{1,16}")
_PLAIN = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,17})?")
_CENT = Decimal("0.01")
_NOISE_PLACES = 6
"""From so many decimal places on, a price is what a program printed of a binary fraction."""
_NOISE_DIGITS = 14
"""A binary fraction of 64 bits has 15 to 17 digits: beyond these two prices can't be told apart."""


def parse_price(text: str) -> int:
    """A price in hundredths: ``4897.0999999999985`` is 489710.

    Raises:
        CellError: not a price, zero or negative, or neither of two decimal places nor next to one that is.
    """
    if text.startswith("-"):
        raise CellError("price_not_positive", "a price above 0", "大于 0 的价格")
    if not _PLAIN.fullmatch(text):
        raise CellError("money_malformed", "an amount like 1234.56", "金额，例如 1234.56")
    if len(text.rstrip("0").partition(".")[2]) > _NOISE_PLACES:
        exact = Decimal(text)
        rounded = exact.quantize(_CENT, ROUND_HALF_EVEN)
        if abs(exact - rounded).scaleb(_NOISE_DIGITS) > exact:
            raise CellError("money_inexact", "an amount of two decimal places", "两位小数的金额")
        text = str(rounded)
    value = parse_money(text)
    if value <= 0:
        raise CellError("price_not_positive", "a price above 0", "大于 0 的价格")
    return value


class KrCustomsSource:
    """The ``kr-customs`` source.

    Attributes:
        schema: ``customs_declaration``.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["customs_declaration"])
        self._subject = options.subject

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every declaration of the file. Raises FormatError when it is no such table."""
        try:
            with open_text(path) as text:
                reader = csv.reader(text)
                header = [strip_cell(cell) for cell in next(reader, [])]
                missing = [name for name in _COLUMNS if header.count(name) != 1]
                if missing:
                    raise FormatError(f"{path}: line 1: expected the column {missing[0]!r} once")
                at = {name: header.index(name) for name in _COLUMNS}
                for cells in reader:
                    if any(map(strip_cell, cells)):
                        yield self._row(reader.line_num, cells, len(header), at)
        except csv.Error as error:
            raise FormatError(f"{path}: line {reader.line_num}: not CSV: {error}") from error
        except (OSError, EOFError) as error:
            raise FormatError(f"{path}: can't be read to its end: {error}") from error

    def _row(self, line: int, cells: list[str], width: int, at: dict[str, int]) -> SourceRow | BadRow:
        if len(cells) != width:
            error = CellError("columns_differ", f"{width} columns, as the header", f"{width} 列，与表头一致")
            return error.row(line, "", f"{len(cells)}")
        row = {name: strip_cell(cells[position]) for name, position in at.items()}
        column = _IMPORTER
        try:
            subject = self._owner(row[_IMPORTER])
            column = _NUMBER
            number = _code(row[_NUMBER])
            column = _DATE
            declared = parse_iso_date(row[_DATE])
            column = _PRICE
            value = parse_price(row[_PRICE])
            column = _TYPE
            named = {"procedure": parse_text(row[_TYPE])}
            column = _ORIGIN
            named["country"] = parse_text(row[_ORIGIN])
            column = _GOODS
            named["goods"] = parse_text(row[_GOODS])
            column = _SELLER
            seller = parse_text(row[_SELLER]) if row[_SELLER] else None
        except CellError as error:
            return error.row(line, column, row[column])
        values = self.schema.row(
            {
                "direction": "import",
                "number": number,
                "declared": declared,
                "state": "declared",
                "counterparty": seller,
                "value": value,
                **named,
            }
        )
        return SourceRow(line, subject, int(Status.VALID), values)

    def _owner(self, cell: str) -> str:
        subject = parse_subject(f"name:kr-customs:{_code(cell)}")
        if self._subject is not None and subject != self._subject:
            raise CellError(
                "subject_differs", f"the subject asked, {self._subject}", f"指定的主体 {self._subject}"
            )
        return subject


def _code(cell: str) -> str:
    if not _CODE.fullmatch(cell):
        raise CellError("number_malformed", "1 to 16 digits and capital letters", "1 至 16 位数字和大写字母")
    return cell


def _looks(look: Look) -> bool:
    return bool(look.lines) and set(_COLUMNS) <= set(look.lines[0])


FORMAT = Format(
    name="kr-customs",
    title="import declarations of the Korea Customs Service's table (CSV)",
    schema=newest(KINDS["customs_declaration"]),
    looks=_looks,
    open=KrCustomsSource,
)
