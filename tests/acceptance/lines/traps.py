"""What the real invoices do that a careless reader gets wrong, each on attested data, with its figures."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..borrowing import AS_OF, add_unrated, application, apply_all, rated_network
from ..networks import cumcm_files, sums_of
from ..salesrules import Books, differences, earlier, fen, read_books
from ..stage import Finding, Line, Stage, check
from ..totals import Invoice, Totals, read_invoices

_STOPPED = "E155"
"""Sold in 19 of 24 months, never more than a month without, and then nothing for five months."""
_GAP_MAX, _MONTHS_MIN = 90, 18
_REPEATED = {"E22", "E61", "E160"}
_UNEQUAL = {"E13": "purchase", "E27": "sale"}
_SPACED, _DUPLICATES, _WARNED = 7, 5_411, 2
_RATE_CHANGED = date(2018, 5, 1)
"""From then on 16 %, no longer 17 %."""
_YEARS = ("2016-01", "2020-12")


def run(stage: Stage) -> Iterator[Finding]:
    net, (rated, *_) = rated_network(stage)
    unrated = add_unrated(stage)
    files = cumcm_files(stage)
    found = Totals()
    invoices = read_invoices(files, found)
    books = read_books(files)
    warnings = _warnings(stage)
    spaced = _spaced(files)
    late = Counter(each[0] for each, void in invoices.items() if not void and _late_at_17(each))
    subjects = sorted({_STOPPED, *_REPEATED, *_UNEQUAL, *spaced, *(each for each, _ in late.most_common(2))})
    wanted = [application(f"cumcm:{each}", "invoice") for each in subjects]
    became = {
        each["subject"].removeprefix("cumcm:"): each for each in apply_all(stage, net, "traps-out", wanted)
    }
    wrong = [one for name, each in became.items() for one in differences(each, books[name])]
    yield check(
        "the enterprises of these traps, decided on attested data",
        f"{', '.join(became)}: "
        + ("; ".join(wrong[:3]) or "all sums and values as the files alone give them"),
        not wrong,
    )
    answers = net.ask_many([(f"cumcm:{each}", *_YEARS) for each in subjects])
    totals = {name: each["totals"] for name, each in zip(subjects, answers, strict=True)}
    yield from _edge_gap(became[_STOPPED]["decision"], books)
    yield _voids(spaced, invoices, totals)
    yield _red_letters(invoices, warnings)
    yield _duplicates((rated, unrated), found, totals, invoices)
    yield _late_rates(late, (rated, unrated))
    yield _unequal(invoices, warnings, became)


def _warnings(stage: Stage) -> Counter[tuple[str, str]]:
    """How often each code stands in the reports of the uploads, by enterprise."""
    found: Counter[tuple[str, str]] = Counter()
    for name in ("rated-report.csv", "unrated-report.csv"):
        with (stage.work / name).open(encoding="utf-8-sig", newline="") as text:
            for row in csv.DictReader(text):
                if row["line"].isdigit():  # the second line says what the columns are, in Chinese
                    found[row["code"], Path(row["file"]).name.partition(".")[0]] += 1
    return found


# --- one by one ------------------------------------------------------------------------------------


def _edge_gap(decision: dict[str, Any], books: dict[str, Books]) -> Iterator[Finding]:
    as_of = date.fromisoformat(AS_OF)
    start, trapped = earlier(as_of, 24), 0
    for each in books.values():
        days = [sale.day for sale in each.sales if start < sale.day <= as_of]
        months = len({(day.year, day.month) for day in days})
        between = max([(b - a).days for a, b in pairwise(days)], default=0)
        edge = (as_of - days[-1]).days if days else 0
        trapped += months >= _MONTHS_MIN and between <= _GAP_MAX < edge
    yield check("edge gap", f"{trapped} of {len(books)} enterprises pass but for the gap up to as-of")
    days = [sale.day for sale in books[_STOPPED].sales if start < sale.day <= as_of]
    between = max((b - a).days for a, b in pairwise(days))
    edge = (as_of - days[-1]).days
    rules = {each["id"]: each for each in decision["rules"]}
    months, gap = rules["months_with_sales"], rules["longest_gap"]
    yield check(
        f"edge gap, {_STOPPED}",
        f"sold in {months['value']} of 24 months ({months['verdict']}), never {between + 1} days without, the last "
        f"time on {days[-1]}: gap {gap['value']} days ({gap['verdict']})",
        (months["verdict"], gap["verdict"], gap["value"]) == ("pass", "refuse", edge)
        and between <= _GAP_MAX
        and earlier(as_of, 5) >= days[-1],
    )


def _spaced(files: list[Path]) -> Counter[str]:
    """Rows by enterprise whose status is a voided one with a blank before it."""
    found: Counter[str] = Counter()
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
            found.update(row["企业代号"] for row in csv.DictReader(text) if row["发票状态"] == " 作废发票")
    return found


def _voids(
    spaced: Counter[str], invoices: dict[Invoice, bool], totals: dict[str, list[dict[str, Any]]]
) -> Finding:
    """A blank that were not stripped would leave them valid, or refuse them."""
    wrong = []
    for name in spaced:
        own = Counter(void for each, void in invoices.items() if each[0] == name)
        got = [0, 0]
        for row in totals[name]:
            got[row["status"] == "voided"] += row["count"]
        if got != [own[False], own[True]]:
            wrong.append(f"{name}: {got}, expected {own}")
    shown = ", ".join(f"{count} of {name}" for name, count in spaced.items())
    return check(
        "voided with a blank before the word",
        f"{spaced.total()} rows ({shown}), all of 0.00: attested as voided, no sale"
        + "".join(f"; {each}" for each in wrong),
        not wrong and spaced.total() == _SPACED,
    )


def _red_letters(invoices: dict[Invoice, bool], warnings: Counter[tuple[str, str]]) -> Finding:
    """Those without an original are as negative as the others: the sums above agree only so."""
    red = [each for each, void in invoices.items() if not void and each[-1][0] < 0]
    alone = Counter({name: count for (code, name), count in warnings.items() if code == "original_not_found"})
    total = sum((each[-1][0] for each in red), Decimal(0))
    most = ", ".join(f"{count:,} of {name}" for name, count in alone.most_common(3))
    return check(
        "red letters",
        f"{len(red):,}, {total:,.2f} net, counted negative; {alone.total():,} without an original "
        f"({most}) are attested with a warning",
        alone.total() > 1_000 and set(alone) <= {each[0] for each in red},
    )


def _duplicates(
    said: tuple[dict[str, Any], ...],
    found: Totals,
    totals: dict[str, list[dict[str, Any]]],
    invoices: dict[Invoice, bool],
) -> Finding:
    by_enterprise: Counter[str] = Counter()
    for upload in said:
        for each in upload["files"]:
            by_enterprise[Path(each["file"]).name.partition(".")[0]] += each["duplicates"]
    repeated = {name: count for name, count in by_enterprise.items() if count}
    wrong = []
    for name in repeated:
        for direction in ("sale", "purchase"):
            own = [
                each[-1] for each, void in invoices.items() if not void and each[::2][:2] == (name, direction)
            ]
            expected = (len(own), *(sum(fen(each[at]) for each in own) for at in range(3)))
            if sums_of(totals[name], direction) != expected:
                wrong.append(f"{name} {direction}")
    return check(
        "rows that stand twice",
        f"{sum(repeated.values()):,} ({', '.join(f'{count:,} of {name}' for name, count in repeated.items())}), "
        f"each invoice counted once" + "".join(f"; not {each}" for each in wrong),
        not wrong and sum(repeated.values()) == found.duplicate_rows == _DUPLICATES and set(repeated) == _REPEATED,
    )  # fmt: skip


def _late_at_17(invoice: Invoice) -> bool:
    """Tax of 17 %, to the fen, after the rate was no more."""
    _, year, _, _, month, day, _, (net, tax, _) = invoice
    exact = (net * 17 / 100).quantize(Decimal("0.01"))
    return date(year, month, day) >= _RATE_CHANGED and abs(net) >= 10 and abs(tax - exact) <= Decimal("0.01")


def _late_rates(late: Counter[str], said: tuple[dict[str, Any], ...]) -> Finding:
    rejected = sum(each["rejected"] for each in said)
    most = ", ".join(f"{count} of {name}" for name, count in late.most_common(2))
    return check(
        "17 % since May 2018",
        f"{late.total()} invoices of {len(late)} enterprises ({most}): attested and counted; {rejected} rows of "
        f"{sum(each['rows'] for each in said):,} rejected",
        not rejected and late.total() > 0,
    )


def _unequal(
    invoices: dict[Invoice, bool], warnings: Counter[tuple[str, str]], became: dict[str, dict[str, Any]]
) -> Finding:
    own = {each[0]: each for each in invoices if each[-1][0] + each[-1][1] != each[-1][2]}
    warned = {name: count for (code, name), count in warnings.items() if code == "amounts_differ"}
    shown, kept = [], True
    for name, each in sorted(own.items()):
        net, tax, gross = each[-1]
        month = f"{each[1]}-{each[4]:02}"
        kept = kept and month in became[name]["months"][each[2]]
        shown.append(f"{name} {month} {net} + {tax} ≠ {gross}")
    return check(
        "net + tax ≠ gross",
        f"{'; '.join(shown)}: attested as they stand, {sum(warned.values())} warnings",
        kept and warned == dict.fromkeys(_UNEQUAL, 1) == dict.fromkeys(own, 1) and len(own) == _WARNED,
    )


LINE = Line(
    name="traps",
    title="edge gap, blanks, red letters, duplicates, old rates, sums that differ: on attested data",
    run=run,
)
