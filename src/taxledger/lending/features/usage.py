"""Features of electricity: a month's record belongs to the month's last day, all meters together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import Basis, Compute, Feature, Unit, define, ratio_ppm, total
from taxledger.lending.features.records import derive, integer, make_table, records_of, text
from taxledger.lending.features.windows import EVER, Table, Window, month_span, window

__all__ = ["USAGE"]

KIND = KINDS["utility_usage"]


class Usage(NamedTuple):
    """One meter's month; None: absent or not opened, of amounts also where no currency is stated."""

    day: int
    usage_wh: int | None
    amount: int | None
    arrears: int | None


def _table(facts: Facts, basis: Basis) -> Table[Usage] | None:
    return derive(facts, ("usage", basis.currency), lambda: _make_table(facts, basis.currency))


def _make_table(facts: Facts, currency: str) -> Table[Usage] | None:
    records = records_of(facts, KIND)
    if records is None:
        return None
    return make_table(
        (
            each
            for each in records.facts
            if each.status is not Status.VOIDED
            and text(each, "utility") in (None, "electricity")
            and text(each, "currency") in (None, currency)
        ),
        _read,
    )


def _read(fact: Fact) -> Usage | None:
    month = text(fact, "month")
    if month is None or text(fact, "utility") is None:
        return None
    priced = text(fact, "currency") is not None
    return Usage(
        month_span(month).upto,
        integer(fact, "usage_wh"),
        integer(fact, "amount") if priced else None,
        integer(fact, "arrears") if priced else None,
    )


def _rows(facts: Facts, basis: Basis, days: Window) -> Sequence[Usage] | None:
    table = _table(facts, basis)
    return table.within(days) if table else None


def _usage(facts: Facts, basis: Basis, *, skip: int = 0) -> int | None:
    rows = _rows(facts, basis, window(basis.as_of, 12, skip=skip))
    return None if rows is None else total(each.usage_wh for each in rows)


def _months(facts: Facts, basis: Basis) -> int | None:
    rows = _rows(facts, basis, window(basis.as_of, 12))
    return None if rows is None else len({each.day for each in rows})


def _spend(facts: Facts, basis: Basis) -> int | None:
    rows = _rows(facts, basis, window(basis.as_of, 12))
    return None if rows is None else total(each.amount for each in rows)


def _arrears(facts: Facts, basis: Basis) -> int | None:
    rows = _rows(facts, basis, Window(EVER.after, basis.as_of.toordinal()))
    return None if rows is None else total(each.arrears for each in rows)


def _change(*, fall: bool) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        last, before = _usage(facts, basis), _usage(facts, basis, skip=12)
        if last is None or before is None:
            return None
        return ratio_ppm(max(before - last, 0) if fall else last - before, before)

    return compute


_feature = partial(define, (KIND,))

USAGE: tuple[Feature, ...] = (
    _feature(
        "usage_months_12m",
        Unit.MONTHS,
        12,
        ("Months with electricity records, last 12", "近12个月有用电记录的月数"),
        "distinct months with a record",
        _months,
    ),
    _feature(
        "usage_spend_12m",
        Unit.MONEY,
        12,
        ("Spent on electricity, last 12 months", "近12个月电费"),
        "Σ amount",
        _spend,
    ),
    _feature(
        "usage_wh_12m",
        Unit.COUNT,
        12,
        ("Electricity used, last 12 months (Wh)", "近12个月用电量（瓦时）"),
        "Σ usage_wh",
        lambda facts, basis: _usage(facts, basis),
    ),
    _feature(
        "usage_fall_12m",
        Unit.PPM,
        24,
        ("Fall of electricity used, last 12 months against the 12 before", "近12个月用电量同比降幅"),
        "(usage_wh of the 12 months before − of the last 12) ÷ of those before, 0 if it rose; those 0: undefined",
        _change(fall=True),
    ),
    _feature(
        "usage_yoy_12m_ppm",
        Unit.PPM,
        24,
        ("Change of electricity used, last 12 months against the 12 before", "近12个月用电量同比变动"),
        "(usage_wh of the last 12 months − of the 12 before) ÷ of those before; those 0: undefined",
        _change(fall=False),
    ),
    _feature(
        "usage_arrears",
        Unit.MONEY,
        24,
        ("Unpaid electricity past its day", "电费欠费"),
        "Σ arrears of all months known up to as-of",
        _arrears,
    ),
)
