"""What all records of one made-up enterprise share: its seed, months, size; and a row of a file."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random

from taxledger.ledger.schemas import Value
from taxledger.nodes.generating.profiles import Profile
from taxledger.nodes.generator import Trade

__all__ = ["GeneratedRow", "Setting", "day_after", "last_day", "shift_month"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedRow:
    """One row of a file.

    Attributes:
        kind: name of the kind.
        subject: whose record it is.
        fields: by name; absent ones are not there. Money in minor units.
        status: 1 valid, 2 voided.
        cells: what the file says in place of a field, by field.
        refused: the code of a row that can't be a record; "": it can.
    """

    kind: str
    subject: str
    fields: Mapping[str, Value]
    status: int = 1
    cells: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The enterprise that rows are made for.

    Attributes:
        seed: of everything.
        subject: ``uscc:`` and a credit code; ``name`` what it is called.
        trade: its line of business.
        profile: what is wrong with it.
        months: of which there are records, ``YYYY-MM``, ascending.
        base_fen: net sales of an average month.
    """

    seed: int
    subject: str
    name: str
    trade: Trade
    profile: Profile
    months: tuple[str, ...]
    base_fen: int

    def random(self, part: str) -> Random:
        """A source of numbers of its own for each part, so that no part moves another."""
        return Random(f"{self.seed}/{part}")  # noqa: S311 — made-up data has to be repeatable, not secret

    @property
    def through(self) -> str:
        """The last day of the last month."""
        return last_day(self.months[-1])

    def back(self, month: str) -> int:
        """How many months before the last one; 0 for it."""
        return _ordinal(self.months[-1]) - _ordinal(month)

    def row(self, kind: str, *, status: int = 1, **fields: Value) -> GeneratedRow:
        """A row of this enterprise; None is left out."""
        shown = {name: value for name, value in fields.items() if value is not None}
        return GeneratedRow(kind=kind, subject=self.subject, fields=shown, status=status)


def _ordinal(month: str) -> int:
    return int(month[:4]) * 12 + int(month[5:]) - 1


def shift_month(month: str, by: int) -> str:
    """The month that many later, or earlier."""
    at = _ordinal(month) + by
    return f"{at // 12:04}-{at % 12 + 1:02}"


def last_day(month: str) -> str:
    """``YYYY-MM-DD``."""
    return f"{month}-{calendar.monthrange(int(month[:4]), int(month[5:]))[1]}"


def day_after(day: str, days: int) -> str:
    """The day that many later, or earlier."""
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
