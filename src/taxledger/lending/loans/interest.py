"""Interest by the day, exact until it is paid.

    interest = Σ principal × rate_ppm × days ÷ (day_count × 1,000,000)

The day of pay-out counts, the day of repayment does not: a day bears interest on what is owed at its end. Interest
bears no interest. A repayment covers interest first, then principal.

Invariants:

* What has accrued is an integer, the numerator over ``day_count × 1,000,000`` minor units: nothing is rounded but
  what a repayment settles, half up to the minor unit, once.
* A repayment that covers all accrued interest leaves none: what rounding gave or took is settled with it. One that
  does not covers interest alone, and the exact rest stays owed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.shapes import integer

__all__ = ["DAY_COUNTS", "ROUNDINGS", "Balance", "InterestTerms", "Movement", "Split", "balance_of"]

DAY_COUNTS = (360, 365)
ROUNDINGS = ("half_up",)
RATE_PPM_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestTerms:
    """Terms of interest: ``rate_ppm`` per year of ``day_count`` days; rounding half up."""

    rate_ppm: int
    day_count: int
    rounding: str = "half_up"

    def __post_init__(self) -> None:
        integer(self.rate_ppm, 0, RATE_PPM_MAX, "a rate in ppm")
        if self.day_count not in DAY_COUNTS:
            raise FormatError(f"expected a day count of 360 or 365, got {self.day_count!r:.20}")
        if self.rounding not in ROUNDINGS:
            raise FormatError(f"expected half_up, got {self.rounding!r:.20}")

    @property
    def denominator(self) -> int:
        return self.day_count * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What a repayment covered, in minor units."""

    interest: int
    principal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A pay-out (positive) or a repayment (negative), in minor units, on its value date."""

    day: date
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What is owed on a day.

    Attributes:
        terms: of interest.
        principal: minor units.
        accrued: unpaid interest up to and without ``day``, a numerator over ``terms.denominator``.
        day: of the last movement; None before the first.
    """

    terms: InterestTerms
    principal: int = 0
    accrued: int = 0
    day: date | None = None

    def at(self, day: date) -> Balance:
        """The balance on a later day, or the same.

        Raises:
            RefusedError: ``value_date_order``, an earlier day: what was settled is not computed anew.
        """
        if self.day is None:
            return Balance(terms=self.terms, day=day)
        days = (day - self.day).days
        if days < 0:
            raise RefusedError("value_date_order", f"expected a value date of {self.day} or later, got {day}")
        accrued = self.accrued + self.principal * self.terms.rate_ppm * days
        return Balance(terms=self.terms, principal=self.principal, accrued=accrued, day=day)

    @property
    def interest(self) -> int:
        """Interest that a repayment on ``day`` would have to cover: rounded half up, minor units."""
        denominator = self.terms.denominator
        return (2 * self.accrued + denominator) // (2 * denominator)

    @property
    def payoff(self) -> int:
        """What ends the loan if it is paid on ``day``, minor units."""
        return self.principal + self.interest

    def draw(self, day: date, amount: int) -> Balance:
        """The balance after a pay-out. Raises RefusedError as ``at``."""
        now = self.at(day)
        return Balance(terms=now.terms, principal=now.principal + amount, accrued=now.accrued, day=day)

    def repay(self, day: date, amount: int) -> tuple[Balance, Split]:
        """The balance after a repayment, and what it covered.

        Raises:
            RefusedError: ``value_date_order`` as ``at``; ``overpayment``: more than all that is owed on that day.
        """
        now = self.at(day)
        due = now.interest
        if amount > now.principal + due:
            raise RefusedError(
                "overpayment", f"expected at most {now.principal + due} minor units on {day}, got {amount}"
            )
        if amount < due:
            rest = now.accrued - amount * now.terms.denominator
            split = Split(interest=amount, principal=0)
            return Balance(terms=now.terms, principal=now.principal, accrued=rest, day=day), split
        split = Split(interest=due, principal=amount - due)
        return Balance(terms=now.terms, principal=now.principal - split.principal, day=day), split


def balance_of(terms: InterestTerms, movements: Iterable[Movement]) -> Balance:
    """The balance after all movements, in their order. Raises RefusedError as ``Balance.repay``."""
    balance = Balance(terms=terms)
    for each in movements:
        if each.amount >= 0:
            balance = balance.draw(each.day, each.amount)
        else:
            balance, _ = balance.repay(each.day, -each.amount)
    return balance
