"""What became of an upload: per file the counts, the control totals, each row that was rejected or is odd.

Invariant: accepted + amended + duplicates + rejected = rows read, for every file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.records import Status
from taxledger.ledger.schemas import Row, Schema
from taxledger.nodes.sources.rows import BadRow

__all__ = ["FileOutcome", "UploadOutcome", "join_outcomes", "write_report"]

_HEADER = ("file", "line", "result", "code", "column", "found", "expected", "expected_zh")
_HEADER_ZH = ("文件", "行", "结果", "代码", "列", "实际内容", "应为（英文）", "应为")
_RESULTS_ZH = {"rejected": "拒绝", "warning": "警告"}


@dataclass(slots=True, kw_only=True)
class FileOutcome:
    """One file of an upload.

    Attributes:
        file: its path as given.
        rows: rows of data read.
        accepted, amended, duplicates, rejected: what became of them; they add up to ``rows``.
        rejections: one for every rejected row, with line and reason.
        warnings: rows that were attested although they are odd.
        totals: by (direction, or "" for kinds without one; status; currency, or ""): the number of rows that
            could be read, and the sum of each money field in minor units. By the rows' own status, duplicates
            included, so that they can be held against the bookkeeping the file came from.
        kind: of its records, by name.
        format: by which they were read, as ``--source`` names it.
        error: why reading stopped, or None when the file was read to its end.
    """

    file: str
    rows: int = 0
    accepted: int = 0
    amended: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejections: list[BadRow] = field(default_factory=list)
    warnings: list[BadRow] = field(default_factory=list)
    totals: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    money: tuple[str, ...] = ()
    kind: str = ""
    format: str = ""
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        return {
            "file": self.file,
            "kind": self.kind or None,
            "format": self.format or None,
            "rows": self.rows,
            "accepted": self.accepted,
            "amended": self.amended,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "warnings": len(self.warnings),
            "totals": self.control_totals(),
            "error": self.error,
        }

    def control_totals(self) -> list[dict[str, Any]]:
        """``totals`` as a list of ``{direction, status, currency, count, …}`` with the kind's money fields."""
        return [
            {
                "direction": direction or None,
                "status": Status(status).name.lower(),
                "currency": currency or None,
                "count": sums[0],
                **dict(zip(self.money, sums[1:], strict=True)),
            }
            for (direction, status, currency), sums in sorted(self.totals.items())
        ]


class Totaller:
    """Adds rows of one schema to a file's control totals."""

    def __init__(self, schema: Schema) -> None:
        self.money = tuple(each.name for each in schema.fields if each.type == "money")
        self._at = tuple(schema.position[name] for name in self.money)
        self.kind = schema.name
        self._direction = schema.position.get("direction")
        self._currency = schema.position.get("currency")

    def add(self, outcome: FileOutcome, status: int, values: Row) -> None:
        """Counts one row under its own status."""
        direction = "" if self._direction is None else str(values[self._direction] or "")
        currency = "" if self._currency is None else str(values[self._currency] or "")
        key = (direction, status, currency)
        sums = outcome.totals.get(key)
        if sums is None:
            sums = outcome.totals[key] = [0] * (1 + len(self._at))
        sums[0] += 1
        for number, at in enumerate(self._at, 1):
            value = values[at]
            if type(value) is int:
                sums[number] += value


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOutcome:
    """A whole upload.

    Attributes:
        files: in the order given.
        transactions: transactions of this upload that are certified with code 0.
        refused: (operation, code) of those that the ledger refused; their rows count as rejected.
        resumed: transactions of an earlier, interrupted upload that were brought to their end first.
        resumed_refused: how many of those the ledger refused; their rows come again in this upload if its
            files hold them.
        through: the date up to which this upload made the issuer's word complete, or None.
        notes: what concerns no single row, in English.
        dry_run: nothing was written or submitted.
        batches: numbers of the batches (``batches.py``), one for each kind of record; none of a dry run.
    """

    files: Sequence[FileOutcome]
    transactions: int
    refused: Sequence[tuple[str, int]]
    resumed: int
    resumed_refused: int
    through: str | None
    notes: Sequence[str]
    dry_run: bool
    batches: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Every file was read to its end, and no row was rejected."""
        return not any(each.error or each.rejected for each in self.files)

    def sum(self, name: str) -> int:
        """The sum over all files of ``rows``, ``accepted``, ``amended``, ``duplicates`` or ``rejected``."""
        return sum(int(getattr(each, name)) for each in self.files)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: plain values only."""
        counts = ("rows", "accepted", "amended", "duplicates", "rejected")
        return {
            "files": [each.as_dict() for each in self.files],
            **{name: self.sum(name) for name in counts},
            "warnings": sum(len(each.warnings) for each in self.files),
            "transactions": self.transactions,
            "refused": [{"operation": operation, "code": code} for operation, code in self.refused],
            "resumed": self.resumed,
            "resumed_refused": self.resumed_refused,
            "through": self.through,
            "notes": list(self.notes),
            "dry_run": self.dry_run,
            "batches": list(self.batches),
        }


def join_outcomes(
    outcomes: Sequence[UploadOutcome],
    unknown: Mapping[str, str],
    *,
    order: Sequence[str],
    notes: Sequence[str] = (),
    dry_run: bool = False,
) -> UploadOutcome:
    """Several uploads as one: of files of several kinds, and of files that no upload could read.

    Args:
        outcomes: of uploads of different files.
        unknown: reason by file.
        order: of all files.
        notes: to be added.
        dry_run: whether all of them were.
    """
    files = {each.file: each for outcome in outcomes for each in outcome.files}
    files |= {file: FileOutcome(file=file, error=reason) for file, reason in unknown.items()}
    return UploadOutcome(
        files=[files[each] for each in order],
        transactions=sum(each.transactions for each in outcomes),
        refused=[pair for each in outcomes for pair in each.refused],
        resumed=sum(each.resumed for each in outcomes),
        resumed_refused=sum(each.resumed_refused for each in outcomes),
        through=next((each.through for each in outcomes if each.through), None),
        notes=[*(text for each in outcomes for text in each.notes), *notes],
        dry_run=dry_run,
        batches=tuple(number for each in outcomes for number in each.batches),
    )


def write_report(path: Path, files: Iterable[FileOutcome]) -> None:
    """The rejected rows and warnings of all files as CSV, one line for each.

    UTF-8 with byte order mark, as spreadsheets want it; two header rows, English and Chinese.

    Raises:
        UnavailableError: the file can't be written.
    """
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(_HEADER)
            writer.writerow(_HEADER_ZH)
            for each in files:
                if each.error is not None:
                    row = (each.file, "", "rejected", "file_unreadable", "", "", each.error, "可读取的文件")
                    writer.writerow(_plain(row))
                for result, problems in (("rejected", each.rejections), ("warning", each.warnings)):
                    shown = f"{result} {_RESULTS_ZH[result]}"
                    for bad in sorted(problems, key=lambda bad: bad.line):
                        where = (each.file, str(bad.line), shown, bad.code, bad.column)
                        writer.writerow(_plain((*where, bad.found, bad.expected, bad.expected_zh)))
    except OSError as error:
        raise UnavailableError(f"{path}: can't be written: {error.strerror or error}") from error


def _plain(cells: tuple[str, ...]) -> list[str]:
    """No cell of a hostile file may become a formula in a spreadsheet: = + @ or tab in front gets a quote.

    A minus stays where a number follows, for amounts.
    """
    return [
        f"'{each}"
        if each[:1] in ("=", "+", "@", "\t", "\r") or (each[:1] == "-" and not each[1:2].isdigit())
        else each
        for each in cells
    ]
