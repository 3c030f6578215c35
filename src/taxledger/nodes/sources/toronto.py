"""Procurement awards from the open data of the City of Toronto: the table of awarded contracts (CSV).

One row is one award to one supplier, known by its ``unique_id``. Amounts are read in every form that the table
uses (``AMOUNT`` and the examples in ``tests/nodes/test_sources_procurement.py``); a price for a unit is no
amount and is refused. An amount of 0 stands for itself: a supplier on a roster, of whom nothing was ordered yet.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.awards import SCHEMA, award_rows, tidy_text, winner_of
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow, open_text

__all__ = ["FORMAT", "TorontoSource", "parse_toronto_amount"]

_ID, _DOCUMENT, _SUPPLIER = "unique_id", "Document Number", "Successful Supplier"
_AMOUNT, _DATE, _DIVISION, _TITLE = (
    "Awarded Amount", "Award Date", "Division", "Solicitation Document Description",
)  # fmt: skip
_COLUMNS = (_ID, _DOCUMENT, _SUPPLIER, _AMOUNT, _DATE, _DIVISION, _TITLE)
_COLUMNS_MAX = 64

_WRITTEN = re.compile(r"\$?[ ]*((?:[0-9]{1,3}(?:,[0-9]{3}){1,7}|[0-9]{1,20})(?:\.[0-9]{1,20})?)[ ]*(?:CAD)?")
_UNIT_PRICE = re.compile(r".*[0-9][ ]*(?:/|per )[ ]*[A-Za-z].*")


def parse_toronto_amount(text: str) -> int:
    """``$ 1,060,625.00``, ``$330,000 CAD`` or ``13,423,845`` in cents.

    Raises:
        CellError: a price of a unit (``31.65/MT``), groups of other than three digits, another currency, part of a
            cent.
    """
    match = _WRITTEN.fullmatch(text)
    if match is not None:
        return cells.parse_amount(match[1].replace(",", ""), "CAD")
    if _UNIT_PRICE.fullmatch(text):
        raise CellError(
            "unit_price", "the amount of the award, not a price of a unit", "合同总金额，而非单价"
        )
    raise CellError("money_malformed", "an amount like $1,234.56", "金额，例如 $1,234.56")


class TorontoSource:
    """The ``ca-toronto`` source.

    Attributes:
        schema: ``procurement_award``.
    """

    def __init__(self, subject: str | None = None) -> None:
        """With a ``subject``, awards of any other supplier are rejected."""
        self.schema = SCHEMA
        self._subject = subject

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every row of the table that is not blank. Raises FormatError when it is no such table."""
        line = 0
        try:
            with open_text(path) as text:
                reader = csv.reader(text)
                header = [cells.strip_cell(cell) for cell in next(reader, [])]
                if len(header) > _COLUMNS_MAX or any(header.count(name) != 1 for name in _COLUMNS):
                    raise FormatError(f"{path}: line 1: expected the columns {', '.join(_COLUMNS)}")
                at = {name: header.index(name) for name in _COLUMNS}
                # Where a quoted cell spans lines, a row is known by its last line.
                for row in reader:
                    line = reader.line_num
                    if not any(map(cells.strip_cell, row)):
                        continue
                    if len(row) == len(header):
                        yield from self._row(line, {name: row[where] for name, where in at.items()})
                        continue
                    n = len(header)
                    error = CellError("columns_differ", f"{n} columns, as the header", f"{n} 列，与表头一致")
                    yield error.row(line, "", str(len(row)))
        except csv.Error as error:
            raise FormatError(f"{path}: line {line + 1}: not CSV: {error}") from error
        except (OSError, EOFError) as error:
            raise FormatError(f"{path}: can't be read to its end: {error}") from error

    def _row(self, line: int, row: dict[str, str]) -> Iterator[SourceRow | BadRow]:
        column = _ID
        try:
            number = cells.parse_text(cells.strip_cell(row[column]))
            column = _SUPPLIER
            winner = winner_of(scheme="ca-toronto", publisher="ca-toronto", name=row[column])
            column = _AMOUNT
            amount = parse_toronto_amount(cells.strip_cell(row[column]))
            column = _DATE
            awarded = cells.parse_iso_date(cells.strip_cell(row[column]))
            column = _DOCUMENT
            contract = tidy_text(row[column])
            column = _DIVISION
            division = tidy_text(row[column])
            column = _TITLE
            title = tidy_text(row[column])
        except CellError as error:
            yield error.row(line, column, row[column])
            return
        named = {
            "register": "ca-toronto",
            "number": number,
            "contract": contract,
            "buyer": f"City of Toronto, {division}" if division else "City of Toronto",
            "buyer_public": True,
            "title": title,
            "awarded": awarded,
            "state": "active",
            "currency": "CAD",
            "amount": amount,
        }
        yield from award_rows(line, "", [winner], named, self._subject)


def _looks(look: Look) -> bool:
    return bool(look.lines) and all(name in look.lines[0] for name in (_ID, _SUPPLIER, _AMOUNT, _DATE))


FORMAT = Format(
    name="ca-toronto",
    title="awarded contracts of the City of Toronto (CSV)",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: TorontoSource(options.subject),
)
