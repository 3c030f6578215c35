"""VAT invoices from the CSV files of CUMCM 2020, problem C: one enterprise and one direction a file.

Columns by their names, wherever they stand: 企业代号, 发票号码, 开票日期, 销方单位代号 (purchases name the
sellers) or 购方单位代号 (sales name the buyers), 金额, 税额, 价税合计, 发票状态. An unnamed index column is
allowed, any other column is an error. With or without byte order mark; plain or gzip.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import KINDS, Row, Schema
from taxledger.nodes.sources.cells import drop_leading_zeros, parse_date, parse_money, parse_text, strip_cell
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow, open_text

__all__ = ["FORMAT", "CumcmSource"]

_ENTERPRISE, _NUMBER, _DATE = "企业代号", "发票号码", "开票日期"
_NET, _TAX, _GROSS, _STATUS = "金额", "税额", "价税合计", "发票状态"
_DIRECTIONS = {"销方单位代号": "purchase", "购方单位代号": "sale"}
_STATUSES = {"有效发票": int(Status.VALID), "作废发票": int(Status.VOIDED)}
_COLUMNS_MAX = 64


class CumcmSource:
    """The ``cumcm`` source.

    Attributes:
        schema: ``vat_invoice``.
    """

    def __init__(self, subject: str | None = None) -> None:
        """With a ``subject``, rows of any other enterprise are rejected."""
        self.schema: Schema = next(each for each in BUILTIN if each.kind == KINDS["vat_invoice"])
        self._subject = subject
        self._subjects: dict[str, str] = {}

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every invoice of the file. Raises FormatError when it is no such file."""
        try:
            with open_text(path) as text:
                reader = csv.reader(text)
                header = [strip_cell(cell) for cell in next(reader, [])]
                columns, direction = _columns(path, header)
                for cells in reader:
                    if any(map(strip_cell, cells)):
                        yield self._row(reader.line_num, cells, header, columns, direction)
        except csv.Error as error:
            raise FormatError(f"{path}: line {reader.line_num}: not CSV: {error}") from error
        except (OSError, EOFError) as error:
            raise FormatError(f"{path}: can't be read to its end: {error}") from error

    def _row(
        self, line: int, cells: list[str], header: list[str], columns: tuple[int, ...], direction: str
    ) -> SourceRow | BadRow:
        if len(cells) != len(header):
            n = len(header)
            error = CellError("columns_differ", f"{n} columns, as the header", f"{n} 列，与表头一致")
            return error.row(line, "", f"{len(cells)}")
        at = columns[0]
        try:
            subject = self._enterprise(strip_cell(cells[at]))
            at = columns[1]
            number = drop_leading_zeros(strip_cell(cells[at]))
            at = columns[2]
            date = parse_date(strip_cell(cells[at]))
            at = columns[3]
            counterparty = parse_text(strip_cell(cells[at]))
            at = columns[4]
            net = parse_money(strip_cell(cells[at]))
            at = columns[5]
            tax = parse_money(strip_cell(cells[at]))
            at = columns[6]
            gross = parse_money(strip_cell(cells[at]))
            at = columns[7]
            status = _status(strip_cell(cells[at]))
        except CellError as error:
            return error.row(line, header[at], cells[at])
        values: Row = (
            direction, None, number, date, counterparty, "CNY", net, tax, gross, None, None, None
        )  # fmt: skip
        return SourceRow(line, subject, status, values)

    def _enterprise(self, cell: str) -> str:
        known = self._subjects.get(cell)
        if known is not None:
            return known
        try:
            subject = parse_subject(f"cumcm:{cell}")
        except FormatError:
            raise CellError("subject_malformed", "an enterprise like E14", "企业代号，例如 E14") from None
        if self._subject is not None and subject != self._subject:
            raise CellError(
                "subject_differs", f"the subject asked, {self._subject}", f"指定的主体 {self._subject}"
            )
        self._subjects[cell] = subject
        return subject


def _status(cell: str) -> int:
    status = _STATUSES.get(cell)
    if status is None:
        raise CellError("status_unknown", " or ".join(_STATUSES), " 或 ".join(_STATUSES))
    return status


def _columns(path: Path, header: list[str]) -> tuple[tuple[int, ...], str]:
    """(positions of the eight columns, direction)."""
    parties = [name for name in header if name in _DIRECTIONS]
    party = parties[0] if len(parties) == 1 else "购方单位代号 | 销方单位代号"
    wanted = (_ENTERPRISE, _NUMBER, _DATE, party, _NET, _TAX, _GROSS, _STATUS)
    missing = [name for name in wanted if header.count(name) != 1]
    unknown = [name for name in header if name and name not in wanted]
    if missing or unknown or len(header) > _COLUMNS_MAX:
        wrong = f"{missing[0]} not once" if missing else f"unknown column {unknown[0]!r:.40}"
        raise FormatError(
            f"{path}: line 1: expected the columns {', '.join(wanted)} (UTF-8), got {wrong} "
            f"/ 第 1 行表头应包含以上各列"
        )
    return tuple(header.index(name) for name in wanted), _DIRECTIONS[party]


def _looks(look: Look) -> bool:
    header = look.lines[0] if look.lines else ()
    return _ENTERPRISE in header and _NUMBER in header and any(name in header for name in _DIRECTIONS)


FORMAT = Format(
    name="cumcm",
    title="VAT invoices of CUMCM 2020, problem C (CSV)",
    schema=CumcmSource().schema,
    looks=_looks,
    open=lambda options: CumcmSource(options.subject),
)
