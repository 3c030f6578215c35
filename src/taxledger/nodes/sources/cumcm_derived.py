"""What follows from the files of CUMCM 2020, problem C, besides invoices: monthly VAT filings, and grades.

``cumcm-filings`` derives a filing for every month from an enterprise's first invoice to its last: output tax is the
tax of its sales, input tax that of its purchases, payable the difference, and sales their net. Counted are valid
rows, negative ones as they are; a row that stands twice counts once, and one that also stands as void, not at all.

No enterprise filed these. By convention (docs/sources.md) ``number`` is ``derived``, and each is due, filed and paid
on the 15th of the month after; what is paid is what is payable, where that is above 0.

``cumcm-grades`` reads the sheet of enterprises with the lending bank's grade (信誉评级). It names no year:
``--dated`` does, else 2019. Whether an enterprise defaulted (是否违约) is what a lender wants to foretell, no field.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import Row, Schema
from taxledger.nodes.sources.cells import strip_cell
from taxledger.nodes.sources.cumcm import CumcmSource
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow, open_text

__all__ = ["FILINGS", "GRADES", "CumcmFilings", "CumcmGrades"]

_DERIVED = "derived"
_DAY_DUE = 15
_YEAR = 2019
_MONTHS_MAX = 600
_ENTERPRISE, _NAME, _GRADE = "企业代号", "企业名称", "信誉评级"
_GRADES = ("A", "B", "C", "D")
_DIRECTIONS = ("purchase", "sale")


@dataclass(slots=True)
class _Enterprise:
    """Attributes:
    invoices: status by fields: equal rows are one invoice, void where one of them is.
    unread: rows that could not be read: what its filings would be is not known.
    """

    invoices: dict[Row, int] = field(default_factory=dict)
    unread: int = 0


class CumcmFilings:
    """The ``cumcm-filings`` source. An enterprise's filings come with the first file that names it.

    Attributes:
        schema: ``tax_filing``.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["tax_filing"])
        self._invoices = CumcmSource(options.subject)
        self._enterprises: dict[str, _Enterprise] = {}
        self._first: dict[Path, list[str]] = {}
        self._bad: dict[Path, list[BadRow]] = {}
        self._errors: dict[Path, FormatError] = {}
        self._prepared: set[Path] = set()

    def prepare(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Reads every file once: a month's purchases and sales stand in different ones."""
        for path in paths:
            if path not in self._prepared:
                self._prepared.add(path)
                self._read(path)
        return paths

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """The filings of each enterprise that this file is the first of. Raises FormatError."""
        self.prepare([path])
        if path in self._errors:
            raise self._errors[path]
        yield from self._bad.get(path, ())
        line = 0
        for subject in self._first.get(path, ()):
            for row in self._filings(subject, self._enterprises[subject]):
                line += 1
                yield row._replace(line=line) if isinstance(row, SourceRow) else row

    def _read(self, path: Path) -> None:
        touched: set[str] = set()
        try:
            for row in self._invoices.rows(path):
                if isinstance(row, BadRow):
                    self._bad.setdefault(path, []).append(row)
                    continue
                if row.subject not in self._enterprises:
                    self._enterprises[row.subject] = _Enterprise()
                    self._first.setdefault(path, []).append(row.subject)
                enterprise = self._enterprises[row.subject]
                touched.add(row.subject)
                status = enterprise.invoices.get(row.values)
                enterprise.invoices[row.values] = row.status if status is None else max(status, row.status)
        except FormatError as error:
            self._errors[path] = error
        unread = len(self._bad.get(path, ())) + (path in self._errors)
        for subject in touched:
            self._enterprises[subject].unread += unread

    def _filings(self, subject: str, enterprise: _Enterprise) -> Iterator[SourceRow | BadRow]:
        at = newest(KINDS["vat_invoice"]).position
        direction, date, net, tax = at["direction"], at["date"], at["net"], at["tax"]
        missing = set(_DIRECTIONS) - {str(row[direction]) for row in enterprise.invoices}
        if missing or enterprise.unread:
            yield _incomplete(subject, enterprise, missing)
            return
        sums: dict[int, list[int]] = {}
        for row, status in enterprise.invoices.items():
            day, sale = str(row[date]), row[direction] == "sale"
            of_month = sums.setdefault(int(day[:4]) * 12 + int(day[5:7]) - 1, [0, 0, 0])
            if status == Status.VALID:
                of_month[0 if sale else 1] += _amount(row[tax])
                of_month[2] += _amount(row[net]) if sale else 0
        if max(sums) - min(sums) > _MONTHS_MAX:
            error = CellError(
                "period_malformed",
                f"invoices of at most {_MONTHS_MAX} months",
                f"不超过 {_MONTHS_MAX} 个月的发票",
            )
            yield error.row(1, _ENTERPRISE, subject)
            return
        for month in range(min(sums), max(sums) + 1):
            yield self._filing(subject, month, *sums.get(month, [0, 0, 0]))

    def _filing(self, subject: str, month: int, output: int, input_: int, sales: int) -> SourceRow:
        payable = output - input_
        due = f"{_month(month + 1)}-{_DAY_DUE}"
        values = self.schema.row(
            {
                "tax": "vat",
                "period": _month(month),
                "months": 1,
                "number": _DERIVED,
                "filed": due,
                "due": due,
                "currency": "CNY",
                "sales": sales,
                "output_tax": output,
                "input_tax": input_,
                "payable": payable,
                "paid": max(payable, 0),
                "paid_on": due if payable > 0 else None,
            }
        )
        return SourceRow(1, subject, int(Status.VALID), values)


def _amount(value: object) -> int:
    return value if type(value) is int else 0


def _month(number: int) -> str:
    return f"{number // 12:04}-{number % 12 + 1:02}"


def _incomplete(subject: str, enterprise: _Enterprise, missing: set[str]) -> BadRow:
    if missing:
        error = CellError(
            "side_missing",
            f"its purchases and its sales in one upload; there is no {sorted(missing)[0]}",
            "同一次上传中同时包含进项和销项文件",
        )
    else:
        error = CellError(
            "rows_unread",
            f"every row readable, or its sums are not known; {enterprise.unread:,} are not",
            "所有行均可读取，否则无法汇总",
        )
    return error.row(1, _ENTERPRISE, subject)


class CumcmGrades:
    """The ``cumcm-grades`` source.

    Attributes:
        schema: ``tax_credit_rating``.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["tax_credit_rating"])
        self._subject = options.subject
        self._year = int(options.dated[:4]) if options.dated is not None else _YEAR

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """The grade of every enterprise of the sheet. Raises FormatError when it has none."""
        try:
            with open_text(path) as text:
                reader = csv.reader(text)
                header = [strip_cell(cell) for cell in next(reader, [])]
                if header.count(_ENTERPRISE) != 1 or header.count(_GRADE) != 1:
                    raise FormatError(
                        f"{path}: line 1: expected the columns {_ENTERPRISE} and {_GRADE}, got "
                        f"{', '.join(header)!r:.80} / 第 1 行表头应包含以上各列"
                    )
                at = header.index(_ENTERPRISE), header.index(_GRADE)
                for cells in reader:
                    if any(map(strip_cell, cells)):
                        yield self._row(reader.line_num, cells, len(header), at)
        except csv.Error as error:
            raise FormatError(f"{path}: line {reader.line_num}: not CSV: {error}") from error
        except (OSError, EOFError) as error:
            raise FormatError(f"{path}: can't be read to its end: {error}") from error

    def _row(self, line: int, cells: list[str], width: int, at: tuple[int, int]) -> SourceRow | BadRow:
        if len(cells) != width:
            error = CellError("columns_differ", f"{width} columns, as the header", f"{width} 列，与表头一致")
            return error.row(line, "", f"{len(cells)}")
        enterprise, grade = (strip_cell(cells[position]) for position in at)
        try:
            subject = parse_subject(f"cumcm:{enterprise}")
        except FormatError:
            error = CellError("subject_malformed", "an enterprise like E14", "企业代号，例如 E14")
            return error.row(line, _ENTERPRISE, enterprise)
        if self._subject is not None and subject != self._subject:
            error = CellError(
                "subject_differs", f"the subject asked, {self._subject}", f"指定的主体 {self._subject}"
            )
            return error.row(line, _ENTERPRISE, enterprise)
        if grade not in _GRADES:
            error = CellError("value_unknown", " or ".join(_GRADES), " 或 ".join(_GRADES))
            return error.row(line, _GRADE, grade)
        values = self.schema.row({"year": self._year, "grade": grade, "authority": "CUMCM 2020 C"})
        return SourceRow(line, subject, int(Status.VALID), values)


def _looks_graded(look: Look) -> bool:
    return bool(look.lines) and {_ENTERPRISE, _NAME} <= set(look.lines[0])


FILINGS = Format(
    name="cumcm-filings",
    title="monthly VAT filings derived from the invoices of CUMCM 2020, problem C (CSV)",
    schema=newest(KINDS["tax_filing"]),
    looks=None,
    open=CumcmFilings,
)
GRADES = Format(
    name="cumcm-grades",
    title="grades of the enterprises of CUMCM 2020, problem C (CSV)",
    schema=newest(KINDS["tax_credit_rating"]),
    looks=_looks_graded,
    open=CumcmGrades,
)
