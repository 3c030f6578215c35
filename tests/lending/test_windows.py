"""Windows, exhaustively: every day of eight years, and the day-by-day meaning of each function."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from taxledger.lending.features.windows import (
    EVER,
    Window,
    count_months,
    day_of,
    month_of,
    month_span,
    months_before,
    period_span,
    whole_months,
    window,
)

DAYS = [date(2015, 12, 1) + timedelta(days=n) for n in range(366 * 5)]


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        ("2020-03-31", 1, "2020-02-29"),
        ("2019-03-31", 1, "2019-02-28"),
        ("2020-02-29", 12, "2019-02-28"),
        ("2020-02-29", 24, "2018-02-28"),
        ("2020-02-29", 48, "2016-02-29"),
        ("2019-02-28", 12, "2018-02-28"),
        ("2020-01-15", 1, "2019-12-15"),
        ("2020-01-15", 13, "2018-12-15"),
        ("2019-12-31", -2, "2020-02-29"),
        ("2019-10-31", -1, "2019-11-30"),
        ("0001-02-01", 3, "0001-01-01"),
    ],
)
def test_months_before(day: str, months: int, expected: str) -> None:
    assert months_before(date.fromisoformat(day), months) == date.fromisoformat(expected)


@pytest.mark.parametrize("months", [1, 3, 6, 12, 24])
def test_every_window(months: int) -> None:
    """It ends on the as-of date, begins after a day of the right month, and is followed by the next without a gap."""
    for day in DAYS:
        after, upto = window(day, months)
        start = date.fromordinal(after)
        assert upto == day.toordinal()
        assert (day.year - start.year) * 12 + day.month - start.month == months
        assert start.day == day.day or (start.day < day.day and (start + timedelta(days=1)).day == 1)
        before = window(day, months, skip=months)
        assert before.upto == after
        assert before == (months_before(day, 2 * months).toordinal(), after)


@pytest.mark.parametrize("months", [1, 2, 12, 24])
def test_a_window_has_at_most_its_months(months: int) -> None:
    for day in DAYS[::3]:
        days = window(day, months)
        assert count_months(range(days.after + 1, days.upto + 1), days) == months, day


def test_whole_months() -> None:
    for first in DAYS[:400:7]:
        for last in DAYS[400:1200:11]:
            months = 0
            while months_before(first, -(months + 1)) <= last:
                months += 1
            assert whole_months(first, last) == months, (first, last)
        assert whole_months(first, first) == 0


def test_spans() -> None:
    def days(first: str, last: str) -> Window:
        return Window(day_of(first) - 1, day_of(last))

    assert month_span("2020-02") == days("2020-02-01", "2020-02-29")
    assert month_span("2020-01", 3) == days("2019-11-01", "2020-01-31")
    assert period_span("2019") == month_span("2019-12", 12) == days("2019-01-01", "2019-12-31")
    assert period_span("2019-Q1") == days("2019-01-01", "2019-03-31")
    assert period_span("2019-Q4") == days("2019-10-01", "2019-12-31")
    assert period_span("2019-06") == days("2019-06-01", "2019-06-30")
    assert period_span("") == EVER
    assert month_of(day_of("2019-12-31")) + 1 == month_of(day_of("2020-01-01")) == 2020 * 12
