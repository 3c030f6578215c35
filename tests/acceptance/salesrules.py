"""What the invoice product measures, straight from the CUMCM files: the second opinion on decisions.

    python tests/acceptance/salesrules.py DATA/cumcm2020c 2020-02-29 [E14 …]

Standard library and ``totals.py`` only. A window of n months is (as-of minus n months, as-of]. Sales are the sales
invoices that are not void, each once; red letters are negative. Amounts are ``Decimal``; shares are in millionths,
rounded down.
"""

from __future__ import annotations

import json
import sys
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

if __package__:
    from .totals import Totals, data_files, read_invoices
else:
    from totals import Totals, data_files, read_invoices

Months = dict[str, dict[str, list[int]]]
"""By direction and month: count, net, tax, gross in fen."""


class Sale(NamedTuple):
    day: date
    net: Decimal
    buyer: str


class Books(NamedTuple):
    """An enterprise's invoices that count: sales by day, and the sums of every month."""

    sales: list[Sale]
    months: Months


def read_books(paths: Iterable[Path]) -> dict[str, Books]:
    """By enterprise."""
    found: dict[str, Books] = defaultdict(lambda: Books([], {"sale": {}, "purchase": {}}))
    for invoice, void in read_invoices(paths, Totals()).items():
        enterprise, year, direction, _number, month, day, party, amounts = invoice
        if void:
            continue
        books = found[enterprise]
        sums = books.months[direction].setdefault(f"{year}-{month:02}", [0, 0, 0, 0])
        for at, value in enumerate((1, *map(fen, amounts))):
            sums[at] += value
        if direction == "sale":
            books.sales.append(Sale(date(year, month, day), amounts[0], party))
    for books in found.values():
        books.sales.sort()
    return dict(found)


def fen(amount: Decimal) -> int:
    """Exactly."""
    scaled = amount * 100
    if scaled != int(scaled):
        raise ValueError(f"{amount} is no whole number of fen")
    return int(scaled)


def earlier(day: date, months: int) -> date:
    """So many months before; the last day of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def measure(books: Books, as_of: date, first: date) -> dict[str, int | None]:
    """The invoice product's values; ``first`` is the first day that the lender asks about."""

    def window(months: int, skip: int = 0) -> list[Sale]:
        after, upto = earlier(as_of, months + skip), earlier(as_of, skip)
        return [each for each in books.sales if after < each.day <= upto]

    def net(sales: list[Sale]) -> Decimal:
        return sum((each.net for each in sales), Decimal(0))

    def fall(months: int) -> int | None:
        last, before = net(window(months)), net(window(months, skip=months))
        return millionths(max(before - last, Decimal(0)), before)

    known = [each.day for each in books.sales if first <= each.day <= as_of]
    year, buyers = window(12), defaultdict(Decimal)
    for each in year:
        buyers[each.buyer] += each.net
    red = -sum((each.net for each in year if each.net < 0), Decimal(0))
    stops = [earlier(as_of, 24), *(each.day for each in window(24)), as_of]
    return {
        "first_sale_days": (as_of - known[0]).days if known else None,
        "sales_gap_days_24m": max((later - before).days for before, later in pairwise(stops)),
        "sales_months_24m": months_with(window(24), as_of, 24),
        "sales_months_3m": months_with(window(3), as_of, 3),
        "red_letter_ratio_amount_12m": millionths(red, net([each for each in year if each.net > 0])),
        "net_sales_fall_12m": fall(12),
        "net_sales_fall_6m": fall(6),
        "top5_share_12m": millionths(sum(sorted(buyers.values())[-5:], Decimal(0)), net(year)),
        "net_sales_12m": fen(net(year)),
    }


def differences(answered: Mapping[str, Any], books: Books) -> list[str]:
    """Where an application (as ``applications.py`` tells of it) is not what the files say: the sums of each month of
    its evidence, and each value of sales that it was decided upon.
    """
    decision, first = answered["decision"], answered["from"]
    who = f"{answered['subject']} {answered['product']}"
    own = {
        direction: {month: sums for month, sums in months.items() if first <= month <= decision["as_of"][:7]}
        for direction, months in books.months.items()
    }
    found = [] if answered["months"] == own else [f"{who}: sums of months"]
    expected = measure(books, date.fromisoformat(decision["as_of"]), date.fromisoformat(f"{first}-01"))
    for each in decision["features"]:
        if each["id"] in expected and each["value"] != expected[each["id"]]:
            found.append(f"{who}: {each['id']} expected {expected[each['id']]}, got {each['value']}")
    return found


def millionths(part: Decimal, whole: Decimal) -> int | None:
    """Rounded down; None where there is nothing to divide by."""
    return fen(part) * 1_000_000 // fen(whole) if whole > 0 else None


def months_with(sales: list[Sale], as_of: date, months: int) -> int:
    """Calendar months with a sale; where the window cuts a month at both ends, its two parts are one."""
    cut = earlier(as_of, months)
    named = {(each.day.year, each.day.month) for each in sales}
    if (cut.year, cut.month) in named:
        named = (named - {(cut.year, cut.month)}) | {(as_of.year, as_of.month)}
    return len(named)


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    as_of = date.fromisoformat(arguments[1])
    first = earlier(as_of, 24) + timedelta(days=1)
    chosen: Mapping[str, Books] = {
        name: books
        for name, books in read_books(data_files(Path(arguments[0]))).items()
        if name in (arguments[2:] or (name,))
    }
    found = {name: measure(books, as_of, first.replace(day=1)) for name, books in chosen.items()}
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
