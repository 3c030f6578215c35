"""The Mexican list of taxpayers with presumed simulated operations (SAT, art. 69-B CFF) to records of arrears.

An operation of the authority that is opened and may be closed: ``audit``, opened on the day the presumption was
published, closed on the day it was refuted or a court lifted it; without ``closed`` while presumed or definitive.
The list accuses, and is old as soon as it is printed: the situation and **the day of the list** stand in
``authority``, so no record can be shown without them. A newer list replaces what an older one said.

Form: CSV in ISO 8859-1; a line "Información actualizada al D de MES de YYYY", a title, the header. Dates are
``D/M/YYYY``. A cell may hold several of them, of acts that were repeated: the latest counts.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import Row, Schema
from taxledger.nodes.sources.cells import parse_date, strip_cell
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow, open_text

__all__ = ["FORMAT", "Mx69bSource"]

_RFC, _SITUATION = "RFC", "Situación del contribuyente"
_OPENED = "Publicación página SAT presuntos"
_CLOSED = {
    "Presunto": (),
    "Definitivo": (),
    "Desvirtuado": ("Publicación página SAT desvirtuados", "Publicación DOF desvirtuados"),
    "Sentencia Favorable": (
        "Publicación página SAT sentencia favorable",
        "Publicación DOF sentencia favorable",
    ),
}
"""By situation, in the order of a procedure: the columns that say when it was closed, the first that is filled."""
_RANKS = {name: rank for rank, name in enumerate(_CLOSED)}
_TITLE = re.compile(r"Información actualizada al ([0-9]{1,2}) de ([a-z]+) de ([0-9]{4})", re.IGNORECASE)
_MONTHS = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio",
    "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre",
)  # fmt: skip
_DATE_FORMS = ("D/M/YYYY", "D-M-YYYY", "D/M/YY", "D-M-YY")
_SEPARATOR = re.compile(r"\s+-\s+|\s*//\s*|\s+y\s+")
_SAID = re.compile(r"SAT art\. 69-B CFF, list of ([0-9-]{10}): (.+)")
_LINES_MAX = 8


class Mx69bSource:
    """The ``mx-69b`` source.

    Attributes:
        schema: ``tax_arrears``.
        through_max: the day of the oldest list that was read.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["tax_arrears"])
        self.through_max: str | None = None
        self._subject = options.subject

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every line of the list. Raises FormatError when it is no such list."""
        try:
            with open_text(path, "iso-8859-1") as text:
                reader = csv.reader(text)
                published, header = _heading(path, reader)
                self.through_max = min(self.through_max or published, published)
                for cells in reader:
                    if any(map(strip_cell, cells)):
                        yield self._row(reader.line_num, cells, header, published)
        except csv.Error as error:
            raise FormatError(f"{path}: line {reader.line_num}: not CSV: {error}") from error
        except (OSError, EOFError) as error:
            raise FormatError(f"{path}: can't be read to its end: {error}") from error

    def _row(self, line: int, cells: list[str], header: list[str], published: str) -> SourceRow | BadRow:
        if len(cells) != len(header):
            n = len(header)
            error = CellError("columns_differ", f"{n} columns, as the header", f"{n} 列，与表头一致")
            return error.row(line, "", f"{len(cells)}")
        row = {name: strip_cell(cell) for name, cell in zip(header, cells, strict=True)}
        column = _RFC
        try:
            subject = self._owner(row[_RFC])
            column = _SITUATION
            situation = _situation(row[_SITUATION])
            column = _OPENED
            opened = _latest(row[_OPENED])
            column, closed = _closed(row, situation)
        except CellError as error:
            return error.row(line, column, row[column])
        values = self.schema.row(
            {
                "category": "audit",
                "number": f"69-B {opened}",
                "opened": opened,
                "closed": closed,
                "authority": f"SAT art. 69-B CFF, list of {published}: {situation}",
            }
        )
        corrects = partial(self._corrects, values, (published, _RANKS[situation]))
        return SourceRow(line, subject, int(Status.VALID), values, corrects)

    def _corrects(self, values: Row, said: tuple[str, int], stored: Row) -> Row | None:
        """A newer list replaces an older, and of one list the later situation the earlier."""
        match = _SAID.fullmatch(str(stored[self.schema.position["authority"]]))
        if match is None or match[2] not in _RANKS:
            return None
        if said <= (match[1], _RANKS[match[2]]):
            raise CellError(
                "content_outdated", f"a list after {match[1]}, which is attested", f"{match[1]} 之后的名单"
            )
        return values

    def _owner(self, cell: str) -> str:
        try:
            subject = parse_subject(f"mx-rfc:{cell}")
        except FormatError:
            raise CellError(
                "subject_malformed", "an RFC like AAA010101AAA", "RFC，例如 AAA010101AAA"
            ) from None
        if self._subject is not None and subject != self._subject:
            raise CellError(
                "subject_differs", f"the subject asked, {self._subject}", f"指定的主体 {self._subject}"
            )
        return subject


def _heading(path: Path, reader: Iterator[list[str]]) -> tuple[str, list[str]]:
    """(day of the list, header)."""
    published = None
    for _ in range(_LINES_MAX):
        cells = [strip_cell(cell) for cell in next(reader, [])]
        title = _TITLE.match(cells[0]) if cells else None
        if title is not None and title[2].lower() in _MONTHS:
            published = _day(path, title[1], _MONTHS.index(title[2].lower()) + 1, title[3])
        if _RFC in cells and _SITUATION in cells:
            wanted = (_RFC, _SITUATION, _OPENED, *(name for names in _CLOSED.values() for name in names))
            missing = [name for name in wanted if cells.count(name) != 1]
            if missing:
                raise FormatError(f"{path}: expected the column {missing[0]!r} once")
            if published is None:
                # Without its day a list could be taken for today's.
                raise FormatError(f"{path}: expected 'Información actualizada al …' above the header")
            return published, cells
    raise FormatError(f"{path}: expected the columns {_RFC}, {_SITUATION}, … in the first {_LINES_MAX} lines")


def _day(path: Path, day: str, month: int, year: str) -> str:
    try:
        return parse_date(f"{day}/{month}/{year}", _DATE_FORMS)
    except CellError:
        raise FormatError(f"{path}: expected the day of the list, got {day}/{month}/{year}") from None


def _situation(cell: str) -> str:
    if cell not in _CLOSED:
        raise CellError("value_unknown", " or ".join(_CLOSED), " 或 ".join(_CLOSED))
    return cell


def _latest(cell: str) -> str:
    """The latest of the dates in a cell."""
    if not cell:
        raise CellError("value_missing", "a date", "日期")
    return max(parse_date(strip_cell(each), _DATE_FORMS) for each in _SEPARATOR.split(cell))


def _closed(row: dict[str, str], situation: str) -> tuple[str, str | None]:
    """(column, date or None); the column is that of a cell that can't be read, before the error is raised."""
    names = _CLOSED[situation]
    if not names:
        return _SITUATION, None
    name = next((each for each in names if row[each]), names[0])
    try:
        return name, _latest(row[name])
    except CellError as error:
        raise CellError(error.code, f"{name}: {error.expected}", f"{name}：{error.expected_zh}") from None


def _looks(look: Look) -> bool:
    # The head of such a file may be decoded in another encoding.
    wanted = re.compile(r"Situaci.{1,2}n del contribuyente")
    return any(_RFC in line and any(map(wanted.fullmatch, line)) for line in look.lines)


FORMAT = Format(
    name="mx-69b",
    title="the list of art. 69-B of the Mexican tax authority (CSV)",
    schema=newest(KINDS["tax_arrears"]),
    looks=_looks,
    open=Mx69bSource,
)
