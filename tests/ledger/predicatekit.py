"""A second implementation of the formulas of docs/predicates.md: slow, obvious, from plain rows, sharing no code.

An invoice is {"direction", "date", "currency", "net" (yuan, as text), "status"}, a rating {"year", "grade",
"status"}, arrears {"category", "opened", "closed", "status"}; a status is a word of the record's life.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

PlainRow = Mapping[str, Any]
COUNTS = ("valid", "reversed")


def years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)


def plain_net_sales(invoices: Iterable[PlainRow], as_of: str) -> Decimal:
    """Yuan, of the twelve months that end with the as-of date."""
    last = date.fromisoformat(as_of)
    total = Decimal(0)
    for row in invoices:
        day = date.fromisoformat(row["date"])
        is_sale = row["direction"] == "sale" and row["currency"] == "CNY"
        if is_sale and row["status"] in COUNTS and years_before(last, 1) < day <= last:
            total += Decimal(row["net"])
    return total


def plain_grade(ratings: Iterable[PlainRow], as_of: str) -> str | None:
    """The newest grade of the as-of date's year and the two before."""
    last = date.fromisoformat(as_of).year
    found = {row["year"]: row["grade"] for row in ratings if row["status"] in COUNTS}
    for year in (last, last - 1, last - 2):
        if year in found:
            return str(found[year])
    return None


def plain_open_arrears(arrears: Iterable[PlainRow], as_of: str) -> int:
    """How many arrears opened within three years stand open at the end of the as-of date."""
    last = date.fromisoformat(as_of)
    still_open = 0
    for row in arrears:
        opened = date.fromisoformat(row["opened"])
        closed = None if row["closed"] is None else date.fromisoformat(row["closed"])
        if (
            row["category"] == "arrears"
            and row["status"] in COUNTS
            and years_before(last, 3) < opened <= last
        ):
            still_open += closed is None or closed > last
    return still_open
