"""Interest against a slow model that charges every single day, in fractions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.lending.loans.interest import Balance, InterestTerms, Movement, balance_of

START = date(2024, 1, 1)


@dataclass
class SlowLoan:
    """Day by day: what is owed at a day's end bears that day's interest."""

    rate_ppm: int
    day_count: int
    principal: int = 0
    interest: Fraction = Fraction(0)

    def end_day(self) -> None:
        self.interest += Fraction(self.principal * self.rate_ppm, self.day_count * 1_000_000)

    def due(self) -> int:
        down = self.interest.numerator // self.interest.denominator
        return down + (self.interest - down >= Fraction(1, 2))

    def repay(self, amount: int) -> tuple[int, int]:
        due = self.due()
        if amount < due:
            self.interest -= amount
            return amount, 0
        self.interest = Fraction(0)
        self.principal -= amount - due
        return due, amount - due


terms = st.builds(InterestTerms, rate_ppm=st.integers(0, 1_000_000), day_count=st.sampled_from([360, 365]))
moves = st.lists(
    st.tuples(
        st.integers(0, 400), st.sampled_from(["draw", "part", "interest", "payoff"]), st.integers(1, 10**12)
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(terms=terms, moves=moves, rest=st.integers(0, 400))
def test_as_the_slow_model(terms: InterestTerms, moves: list[tuple[int, str, int]], rest: int) -> None:
    fast, slow, day = Balance(terms=terms), SlowLoan(terms.rate_ppm, terms.day_count), START
    for days, what, amount in moves:
        for _ in range(days):
            slow.end_day()
        day += timedelta(days=days)
        assert fast.at(day).payoff == slow.principal + slow.due()
        if what == "draw":
            fast, slow.principal = fast.draw(day, amount), slow.principal + amount
            continue
        payoff = fast.at(day).payoff
        paid = {"part": min(amount, payoff), "interest": min(slow.due(), payoff), "payoff": payoff}[what]
        if paid:
            fast, split = fast.repay(day, paid)
            assert (split.interest, split.principal) == slow.repay(paid)
    for _ in range(rest):
        slow.end_day()
    last = fast.at(day + timedelta(days=rest))
    assert (last.principal, Fraction(last.accrued, terms.denominator)) == (slow.principal, slow.interest)


@pytest.mark.parametrize(
    ("amount", "rate_ppm", "day_count", "days", "interest"),
    [
        (6_000_000, 45_000, 360, 10, 7_500),
        (6_000_000, 45_000, 360, 0, 0),  # paid out and repaid on one day
        (6_000_000, 43_500, 365, 1, 715),  # 715.068…
        (100, 1_000_000, 360, 1, 0),  # 0.277…
        (180, 1_000_000, 360, 1, 1),  # exactly one half goes up
        (179, 1_000_000, 360, 1, 0),
        (540, 1_000_000, 360, 1, 2),  # 1.5
        (10**15, 0, 365, 400, 0),
    ],
)
def test_by_hand(amount: int, rate_ppm: int, day_count: int, days: int, interest: int) -> None:
    balance = Balance(terms=InterestTerms(rate_ppm=rate_ppm, day_count=day_count)).draw(START, amount)
    assert balance.at(START + timedelta(days=days)).interest == interest


def test_rounded_once_per_repayment_and_not_per_draw() -> None:
    """Three draws with 0.4 of interest each owe 1.2, which is 1 and not 0."""
    terms = InterestTerms(rate_ppm=1_000_000, day_count=360)
    draws = [Movement(day=START, amount=144)] * 3
    assert balance_of(terms, draws).at(START + timedelta(days=1)).interest == 1


def test_what_a_repayment_covers_first() -> None:
    terms = InterestTerms(rate_ppm=45_000, day_count=360)
    balance = Balance(terms=terms).draw(START, 6_000_000)
    day = START + timedelta(days=7)  # 5,250
    balance, split = balance.repay(day, 1_000)
    assert (split.interest, split.principal, balance.interest) == (1_000, 0, 4_250)
    balance, split = balance.repay(day + timedelta(days=1), 5_000_000)  # 4,250 + 750
    assert (split.interest, split.principal, balance.principal) == (5_000, 4_995_000, 1_005_000)
    assert balance.accrued == 0


def test_the_worked_example_of_the_documents() -> None:
    balance = Balance(terms=InterestTerms(rate_ppm=45_000, day_count=360))
    balance = balance.draw(date(2024, 3, 1), 6_000_000).draw(date(2024, 3, 11), 3_000_000)
    splits = []
    for day, amount in (
        (date(2024, 3, 31), 3_030_000),
        (date(2024, 4, 7), 1_000),
        (date(2024, 4, 8), 6_005_000),
    ):
        balance, split = balance.repay(day, amount)
        splits.append((split.interest, split.principal))
    assert splits == [(30_000, 3_000_000), (1_000, 0), (5_000, 6_000_000)]
    assert (balance.principal, balance.accrued) == (0, 0)


def test_refusals() -> None:
    balance = Balance(terms=InterestTerms(rate_ppm=45_000, day_count=360)).draw(START, 100)
    for code, day, amount in (
        ("overpayment", START, 101),
        ("value_date_order", START - timedelta(days=1), 1),
    ):
        with pytest.raises(RefusedError) as refused:
            balance.repay(day, amount)
        assert refused.value.code == code
    for wrong in (
        {"rate_ppm": -1, "day_count": 360},
        {"rate_ppm": 1_000_001, "day_count": 360},
        {"rate_ppm": True, "day_count": 360},
        {"rate_ppm": 1, "day_count": 366},
        {"rate_ppm": 1, "day_count": 360, "rounding": "half_even"},
    ):
        with pytest.raises(FormatError):
            InterestTerms(**wrong)  # type: ignore[arg-type]
