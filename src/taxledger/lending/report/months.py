"""Sums of facts by month, as plots need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date

from taxledger.lending.facts import Coverage, Fact
from taxledger.lending.features.windows import day_of, month_span, window

__all__ = ["by_month", "last_months", "months_of", "number", "recent", "word"]

_MONTHS_MAX = 24


def number(fact: Fact, name: str) -> int:
    """A field that counts, 0 where it is absent."""
    value = fact.fields.get(name)
    return value if type(value) is int else 0


def word(fact: Fact, name: str) -> str:
    """A field that is text, empty where it is absent."""
    value = fact.fields.get(name)
    return value if type(value) is str else ""


def last_months(end: str, count: int) -> list[str]:
    """``count`` months, the last of which is ``end`` (``YYYY-MM``)."""
    last = int(end[:4]) * 12 + int(end[5:]) - 1
    return [f"{each // 12:04}-{each % 12 + 1:02}" for each in range(last - count + 1, last + 1) if each >= 12]


def months_of(coverage: Coverage, as_of: date, most: int = _MONTHS_MAX) -> list[str]:
    """The months to draw: of those asked, the newest up to the decision date's."""
    end = min(coverage.to_period, f"{as_of:%Y-%m}")
    return [each for each in last_months(end, most) if each >= coverage.from_period]


def recent(facts: Iterable[Fact], field: str, as_of: date, months: int = 12) -> list[Fact]:
    """The facts whose day, or last day of their month, lies in (as-of less so many months, as-of]."""
    days = window(as_of, months)
    dated = ((each, word(each, field)) for each in facts)
    return [each for each, when in dated if when and _day(when) in days]


def _day(when: str) -> int:
    return month_span(when).upto if len(when) == 7 else day_of(when)


def by_month(
    facts: Iterable[Fact],
    months: Sequence[str],
    field: str,
    amount: Callable[[Fact], int],
    until: str = "9999",
) -> list[int]:
    """Sums by month of a date or month field, up to a day (``YYYY-MM-DD``) inclusive."""
    at = {month: place for place, month in enumerate(months)}
    sums = [0] * len(months)
    for each in facts:
        when = word(each, field)
        if when[:7] in at and when <= until:
            sums[at[when[:7]]] += amount(each)
    return sums
