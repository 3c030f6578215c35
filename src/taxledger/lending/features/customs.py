"""Features of customs declarations: each belongs to the day it was declared; a cancelled one is voided."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import Basis, Compute, Feature, Unit, define, ratio_ppm, total
from taxledger.lending.features.records import derive, integer, is_read, make_table, records_of, text
from taxledger.lending.features.windows import EVER, Table, Window, count_months, day_of, window

__all__ = ["CUSTOMS"]

KIND = KINDS["customs_declaration"]


class Declaration(NamedTuple):
    """What features read of a declaration; ``cleared``: at the as-of date, None: not known."""

    day: int
    direction: str
    rejected: bool
    cleared: bool | None
    value: int | None


class _Tables(NamedTuple):
    counted: Table[Declaration]
    cancelled: Table[Declaration]


def _tables(facts: Facts, basis: Basis) -> _Tables | None:
    return derive(facts, ("customs", basis.as_of, basis.currency), lambda: _make_tables(facts, basis))


def _make_tables(facts: Facts, basis: Basis) -> _Tables | None:
    records = records_of(facts, KIND)
    if records is None:
        return None
    found = [each for each in records.facts if text(each, "currency") in (None, basis.currency)]
    read = partial(_read, as_of=basis.as_of.isoformat())
    return _Tables(
        counted=make_table((each for each in found if each.status is not Status.VOIDED), read),
        cancelled=make_table((each for each in found if each.status is Status.VOIDED), read),
    )


def _read(fact: Fact, *, as_of: str) -> Declaration | None:
    declared, direction, state = text(fact, "declared"), text(fact, "direction"), text(fact, "state")
    if declared is None or direction is None or state is None or text(fact, "currency") is None:
        return None
    day = text(fact, "cleared")
    cleared: bool | None = state == "cleared" and (day is None or day <= as_of)
    if state == "cleared" and not is_read(fact, "cleared"):
        cleared = None
    return Declaration(
        day=day_of(declared),
        direction=direction,
        rejected=state == "rejected",
        cleared=cleared,
        value=integer(fact, "value"),
    )


def _rows(facts: Facts, basis: Basis, days: Window) -> Sequence[Declaration] | None:
    tables = _tables(facts, basis)
    return tables.counted.within(days) if tables else None


def _cleared(facts: Facts, basis: Basis, direction: str) -> list[Declaration] | None:
    """The cleared declarations of a direction, last 12 months; None where it is not known of one."""
    rows = _rows(facts, basis, window(basis.as_of, 12))
    if rows is None or any(each.direction == direction and each.cleared is None for each in rows):
        return None
    return [each for each in rows if each.direction == direction and each.cleared]


def _cleared_value(direction: str) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        rows = _cleared(facts, basis, direction)
        return None if rows is None else total(each.value for each in rows)

    return compute


def _declared_exports(facts: Facts, basis: Basis) -> int | None:
    rows = _rows(facts, basis, window(basis.as_of, 12))
    if rows is None:
        return None
    return total(each.value for each in rows if each.direction == "export" and not each.rejected)


def _export_months(facts: Facts, basis: Basis) -> int | None:
    rows = _cleared(facts, basis, "export")
    return None if rows is None else count_months((each.day for each in rows), window(basis.as_of, 12))


def _first_declaration_days(facts: Facts, basis: Basis) -> int | None:
    upto = basis.as_of.toordinal()
    tables = _tables(facts, basis)
    days = [each.day for each in tables.counted.rows if not each.rejected] if tables else []
    if tables is None or not days or days[0] > upto:
        return None
    # One that can't be read may be earlier.
    earlier = tables.counted.within(Window(EVER.after, days[0]))
    return None if earlier is None else upto - days[0]


def _cancelled_ratio(facts: Facts, basis: Basis) -> int | None:
    tables, days = _tables(facts, basis), window(basis.as_of, 12)
    counted, cancelled = (
        (tables.counted.within(days), tables.cancelled.within(days)) if tables else (None, None)
    )
    if counted is None or cancelled is None:
        return None
    return ratio_ppm(len(cancelled), len(counted) + len(cancelled))


_feature = partial(define, (KIND,))

CUSTOMS: tuple[Feature, ...] = (
    _feature(
        "first_declaration_days",
        Unit.DAYS,
        24,
        ("Days since the first customs declaration", "距首次报关天数"),
        "as-of − day of the first declaration known that was not rejected; none: undefined",
        _first_declaration_days,
    ),
    *(
        _feature(
            f"{direction}s_cleared_12m",
            Unit.MONEY,
            12,
            (f"Cleared {direction}s, last 12 months", f"近12个月已放行{chinese}额"),
            f"Σ value of {direction} declarations cleared by as-of",
            _cleared_value(direction),
        )
        for direction, chinese in (("export", "出口"), ("import", "进口"))
    ),
    _feature(
        "exports_declared_12m",
        Unit.MONEY,
        12,
        ("Declared exports, last 12 months", "近12个月申报出口额"),
        "Σ value of export declarations not rejected",
        _declared_exports,
    ),
    _feature(
        "export_months_12m",
        Unit.MONTHS,
        12,
        ("Months with cleared exports, last 12", "近12个月有已放行出口的月数"),
        "distinct calendar months of export declarations cleared by as-of; the parts of months at the window's "
        "two ends are one month",
        _export_months,
    ),
    _feature(
        "declarations_cancelled_ratio_12m",
        Unit.PPM,
        12,
        ("Cancelled among customs declarations", "近12个月撤销报关单占比"),
        "voided ÷ (counted + voided) declarations; none: undefined",
        _cancelled_ratio,
    ),
)
