"""Features of how an enterprise files: late, overdue, nil, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from taxledger.lending.facts import Facts
from taxledger.lending.features.feature import Basis, Feature, Unit, define, total
from taxledger.lending.features.filings import KIND, SALES_TAX, Filing, filed_within, filings_of
from taxledger.lending.features.windows import Window, month_of, month_span, window

__all__ = ["CONDUCT"]


def _is_late(group: Sequence[Filing], as_of: int) -> bool | None:
    """Judged by the first filing of the period: a later correction is not late."""
    due, filed = _due(group), group[0].filed
    if due is None:
        return None
    return due < (as_of if filed is None else filed)


def _due(group: Sequence[Filing]) -> int | None:
    return next((each.due for each in group if each.due is not None), None)


def _late_filings(facts: Facts, basis: Basis) -> int | None:
    filings, days = filings_of(facts, basis), window(basis.as_of, 12)
    if filings is None or filings.effective.within(days) is None:
        return None
    flags = (_is_late(group, days.upto) for group in filings.groups if group[0].day in days)
    return total(None if flag is None else int(flag) for flag in flags)


def _overdue_filings(facts: Facts, basis: Basis) -> int | None:
    filings, upto = filings_of(facts, basis), basis.as_of.toordinal()
    if filings is None or any(each.after < upto for each in filings.effective.unread):
        return None
    standing: dict[tuple[str, str], list[Filing]] = {}
    for each in filings.effective.rows:
        standing.setdefault((each.tax, each.period), []).append(each)
    flags = [
        _is_overdue(standing.get((group[0].tax, group[0].period), []), _due_after(group, upto), upto)
        for group in filings.groups
    ]
    return total(None if flag is None else int(flag) for flag in flags)


def _due_after(group: Sequence[Filing], as_of: int) -> int | None:
    """The due day; of a period that has not ended and states none, some day not before its end."""
    due = _due(group)
    return group[0].day if due is None and group[0].day >= as_of else due


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
    found = filed_within(facts, basis, 6)
    rows = None if found is None else [each for each in found if each.tax == SALES_TAX]
    if rows is None or any(each.sales is None for each in rows):
        return None
    days = window(basis.as_of, 6)
    nil = _months_of(rows, days, lambda each: each.sales == 0)
    return len(nil - _months_of(rows, days, lambda each: each.sales != 0))


def _filed_months(facts: Facts, basis: Basis) -> int | None:
    rows = filed_within(facts, basis, 12)
    if rows is None:
        return None
    return len(_months_of(rows, window(basis.as_of, 12), lambda each: each.tax == SALES_TAX))


def _filings_12m(facts: Facts, basis: Basis) -> int | None:
    rows = filed_within(facts, basis, 12)
    return None if rows is None else len(rows)


# --- the list -------------------------------------------------------------------------------

_feature = partial(define, (KIND,))

CONDUCT: tuple[Feature, ...] = (
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
)
