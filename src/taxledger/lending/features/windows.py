"""Calendar arithmetic of windows: days are numbers (``date.toordinal``), months count from year 0.

A window of n months is (as-of minus n calendar months, as-of]; where that month is shorter, its last day stands
for the day: 31 March minus 1 month is 28 or 29 February.
"""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = [
    "EVER",
    "Dated",
    "Table",
    "Window",
    "count_months",
    "day_of",
    "month_of",
    "month_span",
    "months_before",
    "period_span",
    "whole_months",
    "window",
]

_FIRST_DAY, _LAST_DAY = date.min.toordinal(), date.max.toordinal()


class Window(NamedTuple):
    """The days ``after < day <= upto``."""

    after: int
    upto: int

    def __contains__(self, day: object) -> bool:
        return type(day) is int and self.after < day <= self.upto


EVER = Window(_FIRST_DAY - 1, _LAST_DAY)
"""Where a record lies whose period is not known."""


def months_before(day: date, months: int) -> date:
    """The same day so many calendar months earlier (later, where negative); the last day of a shorter month.

    Nothing is before the first day of the calendar.
    """
    at = day.year * 12 + day.month - 1 - months
    year, month = at // 12, at % 12 + 1
    if year < date.min.year:
        return date.min
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def window(as_of: date, months: int, *, skip: int = 0) -> Window:
    """The window of so many months that ends ``skip`` months before the as-of date.

    Two that follow each other share no day and leave none out: both ends are counted from the as-of date.
    """
    return Window(
        months_before(as_of, months + skip).toordinal(),
        months_before(as_of, skip).toordinal(),
    )


def whole_months(first: date, last: date) -> int:
    """How many whole calendar months lie between two dates: the greatest n with ``first`` plus n months ≤ ``last``."""
    months = (last.year - first.year) * 12 + last.month - first.month
    return months if months_before(first, -months) <= last else months - 1


@lru_cache(maxsize=8192)
def day_of(text: str) -> int:
    """The number of the day ``YYYY-MM-DD``, as schemas have checked it."""
    return date(int(text[:4]), int(text[5:7]), int(text[8:])).toordinal()


@lru_cache(maxsize=8192)
def month_of(day: int) -> int:
    """The number of the month of a day: ``12 × year + month − 1``."""
    at = date.fromordinal(day)
    return at.year * 12 + at.month - 1


def count_months(days: Iterable[int], within: Window) -> int:
    """Distinct calendar months of days of a window of n months: at most n.

    Both ends of the window may cut a month, and the parts of the two lie n months apart: together they are one.
    """
    last = month_of(within.upto)
    cut = month_of(within.after) if within.after > 0 else -1
    return len({last if (month := month_of(day)) == cut else month for day in days})


@lru_cache(maxsize=1024)
def month_span(text: str, months: int = 1) -> Window:
    """The days of the so many months of which ``YYYY-MM`` is the last."""
    year, month = int(text[:4]), int(text[5:7])
    last = date(year, month, monthrange(year, month)[1])
    return Window(months_before(last.replace(day=1), months - 1).toordinal() - 1, last.toordinal())


@lru_cache(maxsize=1024)
def period_span(period: str) -> Window:
    """The days of a period as ``Fact.period`` names it; all days where it is empty."""
    if not period:
        return EVER
    if len(period) == 4:
        return month_span(f"{period}-12", 12)
    if period[5] == "Q":
        return month_span(f"{period[:5]}{int(period[6]) * 3:02}", 3)
    return month_span(period)


class Dated(Protocol):
    """A row of a table."""

    @property
    def day(self) -> int: ...


Row = TypeVar("Row", bound=Dated)


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """Rows ascending by day, and where others lie that can't be read.

    Attributes:
        rows: ascending by day, then by record key.
        days: of the rows.
        unread: spans of days, each of one record that can't be read.
    """

    rows: tuple[Row, ...]
    days: tuple[int, ...]
    unread: tuple[Window, ...]

    def within(self, window: Window) -> Sequence[Row] | None:
        """The rows of a window; None where a record that can't be read may lie in it."""
        if any(each.after < window.upto and window.after < each.upto for each in self.unread):
            return None
        return self.rows[bisect_right(self.days, window.after) : bisect_right(self.days, window.upto)]
