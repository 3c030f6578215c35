"""Features of sales invoices: since when, how steadily and how much an enterprise sells.

Sales are the sales invoices that count (valid or reversed) of the basis' currency; a red letter is a negative one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import Basis, Compute, Feature, Unit, define, ratio_ppm, total
from taxledger.lending.features.records import derive, integer, make_table, records_of, text
from taxledger.lending.features.windows import (
    EVER,
    Table,
    Window,
    count_months,
    day_of,
    window,
)

__all__ = [
    "ACTIVITY",
    "Invoice",
    "InvoiceTables",
    "invoice_feature",
    "net_between",
    "nets_of",
    "sales_between",
    "tables_of",
]

KIND = KINDS["vat_invoice"]


class Invoice(NamedTuple):
    """What features read of an invoice; None: absent or not opened."""

    day: int
    net: int | None
    counterparty: str | None


class InvoiceTables(NamedTuple):
    sales: Table[Invoice]
    voided_sales: Table[Invoice]
    purchases: Table[Invoice]


def tables_of(facts: Facts, basis: Basis) -> InvoiceTables | None:
    return derive(facts, ("invoices", basis.currency), lambda: _make_tables(facts, basis.currency))


def _make_tables(facts: Facts, currency: str) -> InvoiceTables | None:
    records = records_of(facts, KIND)
    if records is None:
        return None
    counted: dict[str, list[Fact]] = {"sale": [], "purchase": []}
    voided: list[Fact] = []
    for fact in records.facts:
        # Of an invoice whose direction or currency can't be read, it is not known where it belongs.
        if text(fact, "currency") not in (None, currency):
            continue
        direction = text(fact, "direction")
        if fact.status is not Status.VOIDED:
            for each in counted if direction is None else (direction,):
                counted[each].append(fact)
        elif direction != "purchase":
            voided.append(fact)
    return InvoiceTables(
        sales=make_table(counted["sale"], _read),
        voided_sales=make_table(voided, _read),
        purchases=make_table(counted["purchase"], _read),
    )


def _read(fact: Fact) -> Invoice | None:
    date = text(fact, "date")
    if date is None or text(fact, "direction") is None or text(fact, "currency") is None:
        return None
    return Invoice(day_of(date), integer(fact, "net"), text(fact, "counterparty"))


def sales_table(facts: Facts, basis: Basis) -> Table[Invoice] | None:
    """Sales; None where invoices were not asked."""
    tables = tables_of(facts, basis)
    return tables and tables.sales


def sales_between(facts: Facts, basis: Basis, days: Window) -> Sequence[Invoice] | None:
    table = sales_table(facts, basis)
    return table.within(days) if table else None


def nets_of(rows: Iterable[Invoice] | None) -> Iterable[int | None] | None:
    return None if rows is None else (each.net for each in rows)


def net_between(facts: Facts, basis: Basis, days: Window) -> int | None:
    """Net sales of a window."""
    return total(nets_of(sales_between(facts, basis, days)))


# --- activity -------------------------------------------------------------------------------


def _first_sale_days(facts: Facts, basis: Basis) -> int | None:
    table, upto = sales_table(facts, basis), basis.as_of.toordinal()
    if table is None or not table.days or table.days[0] > upto:
        return None
    first = table.days[0]
    # One that can't be read may be earlier.
    return upto - first if table.within(Window(EVER.after, first)) is not None else None


def _gap_days(months: int) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        days = window(basis.as_of, months)
        rows = sales_between(facts, basis, days)
        if rows is None:
            return None
        # The window's ends are part of it: an enterprise that stopped selling has a gap up to the as-of date.
        return max(
            later - earlier
            for earlier, later in pairwise((days.after, *(each.day for each in rows), days.upto))
        )

    return compute


def _sales_months(months: int) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        days = window(basis.as_of, months)
        rows = sales_between(facts, basis, days)
        return None if rows is None else count_months((each.day for each in rows), days)

    return compute


# --- amounts --------------------------------------------------------------------------------


def _net_sales(months: int) -> Compute:
    return lambda facts, basis: net_between(facts, basis, window(basis.as_of, months))


def _last_and_before(facts: Facts, basis: Basis, months: int) -> tuple[int | None, int | None]:
    """Net sales of the last so many months, and of as many before them."""
    return (
        net_between(facts, basis, window(basis.as_of, months)),
        net_between(facts, basis, window(basis.as_of, months, skip=months)),
    )


def _change(months: int, *, fall: bool) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        last, before = _last_and_before(facts, basis, months)
        if last is None or before is None:
            return None
        return ratio_ppm(max(before - last, 0) if fall else last - before, before)

    return compute


def _last3_share(facts: Facts, basis: Basis) -> int | None:
    return ratio_ppm(
        net_between(facts, basis, window(basis.as_of, 3)), net_between(facts, basis, window(basis.as_of, 12))
    )


# --- the list -------------------------------------------------------------------------------


invoice_feature = partial(define, (KIND,))


def _activity() -> Iterable[Feature]:
    yield invoice_feature(
        "first_sale_days",
        Unit.DAYS,
        24,
        ("Days since the first sales invoice", "距首张销项发票天数"),
        "as-of − day of the first sale known; no sale: undefined",
        _first_sale_days,
    )
    for months in (12, 24):
        yield invoice_feature(
            f"sales_gap_days_{months}m",
            Unit.DAYS,
            months,
            (f"Longest gap without a sale, last {months} months", f"近{months}个月最长无销项间隔天数"),
            "longest of: window's start → first sale, sale → next sale, last sale → as-of; no sale: the whole window",
            _gap_days(months),
        )
    for months in (3, 12, 24):
        yield invoice_feature(
            f"sales_months_{months}m",
            Unit.MONTHS,
            months,
            (f"Months with sales, last {months}", f"近{months}个月有销项的月数"),
            "distinct calendar months with a sale; the parts of months at the window's two ends are one month",
            _sales_months(months),
        )


def _amounts() -> Iterable[Feature]:
    for months in (3, 6, 12, 24):
        yield invoice_feature(
            f"net_sales_{months}m",
            Unit.MONEY,
            months,
            (f"Net sales, last {months} months", f"近{months}个月不含税销售额"),
            "Σ net of sales, red letters negative",
            _net_sales(months),
        )
    yield invoice_feature(
        "net_sales_yoy_12m_ppm",
        Unit.PPM,
        24,
        ("Change of net sales, last 12 months against the 12 before", "近12个月销售额同比变动"),
        "(last 12 months − the 12 before) ÷ the 12 before; those not positive: undefined",
        _change(12, fall=False),
    )
    for months in (6, 12):
        yield invoice_feature(
            f"net_sales_fall_{months}m",
            Unit.PPM,
            2 * months,
            (
                f"Fall of net sales, last {months} months against the {months} before",
                f"近{months}个月销售额较前{months}个月降幅",
            ),
            f"(the {months} months before − last {months}) ÷ those before, 0 if it rose; those not positive: undefined",
            _change(months, fall=True),
        )
    yield invoice_feature(
        "sales_last3_share_12m",
        Unit.PPM,
        12,
        ("Share of the last 3 months in net sales of 12", "近3个月销售额占近12个月比重"),
        "net sales of 3 months ÷ of 12; those not positive: undefined",
        _last3_share,
    )


ACTIVITY: tuple[Feature, ...] = (*_activity(), *_amounts())
