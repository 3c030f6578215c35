"""Features of tax filings.

* A filing belongs to the last day of its period, and is there once it is filed: on or before the as-of date.
* A filing that names an earlier one of the same tax and period (``corrects``) replaces it: sums never hold both.
* Sales are read from VAT filings only: other taxes state the same sales again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    month_of,
    month_span,
    whole_months,
    window,
)

__all__ = ["FILINGS"]

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


class _Filings(NamedTuple):
    """Attributes:
    effective: filed and not replaced.
    groups: by tax and period every filing, also replaced and unfiled ones; the filed ones first, by day.
    first: day of the first that was filed.
    """

    effective: Table[Filing]
    groups: tuple[tuple[Filing, ...], ...]
    first: int | None


def _filings(facts: Facts, basis: Basis) -> _Filings | None:
    return derive(facts, ("filings", basis.as_of, basis.currency), lambda: _make_filings(facts, basis))


def _make_filings(facts: Facts, basis: Basis) -> _Filings | None:
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
    return _Filings(table_of(effective, unread), tuple(ordered), min(days, default=None))


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


def _within(facts: Facts, basis: Basis, months: int) -> Sequence[Filing] | None:
    filings = _filings(facts, basis)
    return filings.effective.within(window(basis.as_of, months)) if filings else None


# --- since when -----------------------------------------------------------------------------


def _first_filed(facts: Facts, basis: Basis) -> int | None:
    filings = _filings(facts, basis)
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
        rows = _within(facts, basis, months)
        return None if rows is None else total(each.paid for each in rows)

    return compute


def _of_sales(rows: Sequence[Filing] | None) -> list[Filing] | None:
    """The VAT filings; None where two of them cover a day without being of one period."""
    found = [each for each in rows or () if each.tax == SALES_TAX]
    spans = sorted({each.span for each in found})
    overlap = any(later.after < earlier.upto for earlier, later in pairwise(spans))
    return None if rows is None or overlap else found


def _filed_sales(facts: Facts, basis: Basis) -> int | None:
    rows = _of_sales(_within(facts, basis, 12))
    return None if rows is None else total(each.sales for each in rows)


def _sales_to_filed(facts: Facts, basis: Basis) -> int | None:
    """Both sides over the same days: those of the filings that lie in the window as a whole."""
    rows = _of_sales(_within(facts, basis, 12))
    if rows is None:
        return None
    whole = [each for each in rows if each.span.after >= window(basis.as_of, 12).after]
    invoiced = total(net_between(facts, basis, each) for each in sorted({each.span for each in whole}))
    return ratio_ppm(invoiced, total(each.sales for each in whole))


# --- conduct --------------------------------------------------------------------------------


def _is_late(group: Sequence[Filing], as_of: int) -> bool | None:
    """Judged by the first filing of the period: a later correction is not late."""
    due, filed = _due(group), group[0].filed
    if due is None:
        return None
    return due < (as_of if filed is None else filed)


def _due(group: Sequence[Filing]) -> int | None:
    return next((each.due for each in group if each.due is not None), None)


def _late_filings(facts: Facts, basis: Basis) -> int | None:
    filings, days = _filings(facts, basis), window(basis.as_of, 12)
    if filings is None or filings.effective.within(days) is None:
        return None
    flags = (_is_late(group, days.upto) for group in filings.groups if group[0].day in days)
    return total(None if flag is None else int(flag) for flag in flags)


def _overdue_filings(facts: Facts, basis: Basis) -> int | None:
    filings, upto = _filings(facts, basis), basis.as_of.toordinal()
    if filings is None or any(each.after < upto for each in filings.effective.unread):
        return None
    standing: dict[tuple[str, str], list[Filing]] = {}
    for each in filings.effective.rows:
        standing.setdefault((each.tax, each.period), []).append(each)
    flags = [
        _is_overdue(standing.get((group[0].tax, group[0].period), []), _due(group), upto)
        for group in filings.groups
    ]
    return total(None if flag is None else int(flag) for flag in flags)


def _is_overdue(filed: Sequence[Filing], due: int | None, as_of: int) -> bool | None:
    if due is not None and due >= as_of:
        return False
    payable, paid = total(each.payable for each in filed), total(each.paid for each in filed)
    owed = bool(not filed)
    if filed:
        if payable is None:
            return None
        if payable > 0 and paid is None:
            return None
        owed = payable > (paid or 0) and payable > 0
    return None if owed and due is None else owed


def _months_of(rows: Iterable[Filing], days: Window, keep: Callable[[Filing], bool]) -> set[int]:
    """The months of a window that filings cover; a month belongs to its last day."""
    months: set[int] = set()
    for each in rows:
        if keep(each):
            first, last = month_of(each.span.after + 1), month_of(each.span.upto)
            months.update(month for month in range(first, last + 1) if _last_day(month) in days)
    return months


def _last_day(month: int) -> int:
    return month_span(f"{month // 12:04}-{month % 12 + 1:02}").upto


def _nil_months(facts: Facts, basis: Basis) -> int | None:
    found = _within(facts, basis, 6)
    rows = None if found is None else [each for each in found if each.tax == SALES_TAX]
    if rows is None or any(each.sales is None for each in rows):
        return None
    days = window(basis.as_of, 6)
    nil = _months_of(rows, days, lambda each: each.sales == 0)
    return len(nil - _months_of(rows, days, lambda each: each.sales != 0))


def _filed_months(facts: Facts, basis: Basis) -> int | None:
    rows = _within(facts, basis, 12)
    if rows is None:
        return None
    return len(_months_of(rows, window(basis.as_of, 12), lambda each: each.tax == SALES_TAX))


def _filings_12m(facts: Facts, basis: Basis) -> int | None:
    rows = _within(facts, basis, 12)
    return None if rows is None else len(rows)


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
    _feature(
        "filed_months_12m",
        Unit.MONTHS,
        12,
        ("Months with a VAT filing, last 12", "近12个月已申报增值税的月数"),
        "distinct months of the window that VAT filings in effect cover",
        _filed_months,
    ),
    _feature(
        "late_filings_12m",
        Unit.COUNT,
        12,
        ("Late tax filings, last 12 months", "近12个月逾期申报次数"),
        "taxes and periods first filed after the due date, or not filed and due before as-of",
        _late_filings,
    ),
    _feature(
        "overdue_filings",
        Unit.COUNT,
        24,
        ("Tax filings overdue, unfiled or unpaid", "逾期未申报或未缴税期数"),
        "taxes and periods due before as-of that are not filed, or of whose payable (if positive) a part is unpaid",
        _overdue_filings,
    ),
    _feature(
        "nil_filings_6m",
        Unit.MONTHS,
        6,
        ("Months filed with nil sales, last 6", "近6个月零申报月数"),
        "distinct months of the window that VAT filings in effect cover, all of them with sales 0",
        _nil_months,
    ),
    _feature(
        "filings_12m",
        Unit.COUNT,
        12,
        ("Tax filings, last 12 months", "近12个月申报次数"),
        "filings in effect, all taxes",
        _filings_12m,
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
