"""Features of tax filings.

* A filing belongs to the last day of its period, and is there once it is filed: on or before the as-of date.
* A filing that names an earlier one of the same tax and period (``corrects``) replaces it: sums never hold both.
* Sales are read from VAT filings only: other taxes state the same sales again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import Basis, Compute, Feature, Unit, define, ratio_ppm, total
from taxledger.lending.features.invoices import net_between
from taxledger.lending.features.records import derive, integer, is_read, records_of, span_of, table_of, text
from taxledger.lending.features.windows import (
    Table,
    Window,
    day_of,
    month_span,
    whole_months,
    window,
)

__all__ = ["FILINGS", "KIND", "SALES_TAX", "Filing", "filed_within", "filings_of"]

KIND = KINDS["tax_filing"]
SALES_TAX = "vat"
MONTHS_MAX = 120
_NEEDED = ("tax", "period", "months", "number", "filed", "corrects")
"""Without these it is not known whether two filings are one."""


class Filing(NamedTuple):
    """What features read of a filing; None: absent or not opened.

    Attributes:
        day: last of its period.
        span: the days that it covers.
        filed: day; None: not filed by the as-of date.
        due: day; None: not known.
        paid: by the as-of date.
    """

    day: int
    span: Window
    tax: str
    period: str
    number: str | None
    corrects: str | None
    filed: int | None
    due: int | None
    sales: int | None
    payable: int | None
    paid: int | None


class Filings(NamedTuple):
    """Attributes:
    effective: filed and not replaced.
    groups: by tax and period every filing, also replaced and unfiled ones; the filed ones first, by day.
    first: day of the first that was filed.
    """

    effective: Table[Filing]
    groups: tuple[tuple[Filing, ...], ...]
    first: int | None


def filings_of(facts: Facts, basis: Basis) -> Filings | None:
    return derive(facts, ("filings", basis.as_of, basis.currency), lambda: _make_filings(facts, basis))


def _make_filings(facts: Facts, basis: Basis) -> Filings | None:
    records = records_of(facts, KIND)
    if records is None:
        return None
    groups: dict[tuple[str, str], list[tuple[bytes, Filing]]] = {}
    unread: list[Window] = []
    for fact in records.facts:
        if fact.status is Status.VOIDED or text(fact, "currency") not in (None, basis.currency):
            continue
        filing = _read(fact, basis.as_of.toordinal())
        if filing is None:
            unread.append(span_of(fact))
        else:
            groups.setdefault((filing.tax, filing.period), []).append((fact.key, filing))
    effective: list[tuple[bytes, Filing]] = []
    ordered = []
    for _, group in sorted(groups.items()):
        filed = [each for each in group if each[1].filed is not None]
        standing = [each for each in filed if not _is_replaced(each, filed)]
        if filed and not standing:
            # They replace each other: which one holds is not known.
            unread.extend(each.span for _key, each in filed)
        effective += standing
        ordered.append(tuple(each for _key, each in sorted(group, key=_by_day_filed)))
    days = [each.filed for group in ordered for each in group if each.filed is not None]
    return Filings(table_of(effective, unread), tuple(ordered), min(days, default=None))


def _by_day_filed(each: tuple[bytes, Filing]) -> tuple[bool, int, bytes]:
    return each[1].filed is None, each[1].filed or 0, each[0]


def _is_replaced(one: tuple[bytes, Filing], group: Sequence[tuple[bytes, Filing]]) -> bool:
    key, filing = one
    return filing.number is not None and any(
        other != key and each.corrects == filing.number and (each.filed or 0) >= (filing.filed or 0)
        for other, each in group
    )


def _read(fact: Fact, as_of: int) -> Filing | None:
    tax, period = text(fact, "tax"), text(fact, "period")
    months = fact.fields.get("months", 1)
    if not is_read(fact, *_NEEDED) or tax is None or period is None:
        return None
    if type(months) is not int or not 1 <= months <= MONTHS_MAX:
        return None
    filed = _day(fact, "filed")
    span = month_span(period, months)
    # Of amounts without a currency it is not known what they are.
    amount = partial(integer, fact) if text(fact, "currency") is not None else lambda name: None
    paid_on = _day(fact, "paid_on")
    paid = amount("paid") if is_read(fact, "paid_on") else None
    return Filing(
        day=span.upto,
        span=span,
        tax=tax,
        period=period,
        number=text(fact, "number"),
        corrects=text(fact, "corrects"),
        filed=filed if filed is not None and filed <= as_of else None,
        due=_day(fact, "due"),
        sales=amount("sales"),
        payable=amount("payable"),
        paid=0 if paid_on is not None and paid_on > as_of else paid,
    )


def _day(fact: Fact, name: str) -> int | None:
    value = text(fact, name)
    return None if value is None else day_of(value)


def filed_within(facts: Facts, basis: Basis, months: int) -> Sequence[Filing] | None:
    filings = filings_of(facts, basis)
    return filings.effective.within(window(basis.as_of, months)) if filings else None


# --- since when -----------------------------------------------------------------------------


def _first_filed(facts: Facts, basis: Basis) -> int | None:
    filings = filings_of(facts, basis)
    if filings is None or filings.first is None:
        return None
    # One that can't be read may have been filed before, if its period began before.
    if any(each.after < filings.first for each in filings.effective.unread):
        return None
    return filings.first


def _first_filing_days(facts: Facts, basis: Basis) -> int | None:
    first = _first_filed(facts, basis)
    return None if first is None else basis.as_of.toordinal() - first


def _first_filing_months(facts: Facts, basis: Basis) -> int | None:
    first = _first_filed(facts, basis)
    return None if first is None else whole_months(date.fromordinal(first), basis.as_of)


# --- amounts --------------------------------------------------------------------------------


def _tax_paid(months: int) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        rows = filed_within(facts, basis, months)
        return None if rows is None else total(each.paid for each in rows)

    return compute


def _of_sales(rows: Sequence[Filing] | None) -> list[Filing] | None:
    """The VAT filings; None where two of them cover a day without being of one period."""
    found = [each for each in rows or () if each.tax == SALES_TAX]
    spans = sorted({each.span for each in found})
    overlap = any(later.after < earlier.upto for earlier, later in pairwise(spans))
    return None if rows is None or overlap else found


def _filed_sales(facts: Facts, basis: Basis) -> int | None:
    rows = _of_sales(filed_within(facts, basis, 12))
    return None if rows is None else total(each.sales for each in rows)


def _sales_to_filed(facts: Facts, basis: Basis) -> int | None:
    """Both sides over the same days: those of the filings that lie in the window as a whole."""
    rows = _of_sales(filed_within(facts, basis, 12))
    if rows is None:
        return None
    whole = [each for each in rows if each.span.after >= window(basis.as_of, 12).after]
    invoiced = total(net_between(facts, basis, each) for each in sorted({each.span for each in whole}))
    return ratio_ppm(invoiced, total(each.sales for each in whole))


# --- the list -------------------------------------------------------------------------------

_feature = partial(define, (KIND,))

FILINGS: tuple[Feature, ...] = (
    _feature(
        "first_filing_days",
        Unit.DAYS,
        36,
        ("Days since the first tax filing", "距首次申报天数"),
        "as-of − day of the first filing known; none: undefined",
        _first_filing_days,
    ),
    _feature(
        "first_filing_months",
        Unit.MONTHS,
        36,
        ("Months since the first tax filing", "距首次申报月数"),
        "whole calendar months from the day of the first filing known to as-of; none: undefined",
        _first_filing_months,
    ),
    *(
        _feature(
            f"tax_paid_{months}m",
            Unit.MONEY,
            months,
            (f"Tax paid, last {months} months", f"近{months}个月已缴税额"),
            "Σ paid by as-of of filings in effect, all taxes",
            _tax_paid(months),
        )
        for months in (12, 24)
    ),
    _feature(
        "filed_sales_12m",
        Unit.MONEY,
        12,
        ("Filed sales, last 12 months", "近12个月申报销售额"),
        "Σ sales of VAT filings in effect; two that overlap: undefined",
        _filed_sales,
    ),
    define(
        (KIND, KINDS["vat_invoice"]),
        "sales_to_filed_12m",
        Unit.PPM,
        12,
        ("Invoiced sales against filed sales", "开票销售额与申报销售额之比"),
        "net sales of the days that VAT filings cover ÷ their sales, of filings wholly in the window; "
        "those not positive: undefined",
        _sales_to_filed,
    ),
)
