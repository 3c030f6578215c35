"""What a feature is: a number that a verified set of records has on a date (docs/features.md defines each).

Invariants:

* A feature is a pure function of ``Facts`` and ``Basis``: integers only, the same on every machine, whatever the
  order of the records.
* None means that the number is not defined: nothing to divide by, no record, or a record that may matter and
  can't be read (erased, a field absent or not opened by the consent). Never a guess.
* Another way to compute is another version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from taxledger.lending.facts import Facts

__all__ = ["PPM", "Basis", "Compute", "Feature", "Unit", "all_of", "define", "ratio_ppm", "total"]

PPM = 1_000_000


class Unit(StrEnum):
    """What a feature's number counts."""

    MONEY = "money"
    """Minor units of the basis' currency."""
    MONTHS = "months"
    DAYS = "days"
    COUNT = "count"
    PPM = "ppm"
    GRADE = "grade"
    """A = 5, B = 4, M = 3, C = 2, D = 1."""
    FLAG = "flag"
    """0 or 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """On what features are computed, beside the records.

    Attributes:
        as_of: the decision date; records after it do not exist.
        currency: of all amounts; records of another are left out.
        security: keys (37 bytes) of the records offered as security.
        pledged_ppm: fingerprint → ppm of it in open pledges, as verified; absent: proved free.
    """

    as_of: date
    currency: str = "CNY"
    security: tuple[bytes, ...] = ()
    pledged_ppm: Mapping[bytes, int] = field(default_factory=dict)


Compute = Callable[[Facts, Basis], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature.

    Attributes:
        id: as product files name it; a window of n months ends in ``_nm``.
        version: from 1.
        unit: of its number.
        kinds: of the records it reads, ascending.
        months: of evidence that it needs, back from the as-of date.
        title, title_zh: what an officer reads.
        rule: its definition in one line.
        compute: the number, or None where it is not defined.
    """

    id: str
    version: int = 1
    unit: Unit
    kinds: tuple[int, ...]
    months: int
    title: str
    title_zh: str
    rule: str
    compute: Compute


def define(
    kinds: tuple[int, ...],
    id: str,
    unit: Unit,
    months: int,
    titles: tuple[str, str],
    rule: str,
    compute: Compute,
) -> Feature:
    """Version 1 of a feature; ``titles`` in English and Chinese."""
    title, title_zh = titles
    return Feature(
        id=id,
        unit=unit,
        kinds=tuple(sorted(kinds)),
        months=months,
        title=title,
        title_zh=title_zh,
        rule=rule,
        compute=compute,
    )


def total(values: Iterable[int | None] | None) -> int | None:
    """The sum; None where there are no values, or one of them is not known."""
    if values is None:
        return None
    result = 0
    for value in values:
        if value is None:
            return None
        result += value
    return result


def all_of(flags: Iterable[bool | None]) -> int | None:
    """1 where every flag is true, 0 where one is false, else None: a flag that is not known can't mend a false one."""
    result: int | None = 1
    for flag in flags:
        if flag is None:
            result = None
        elif not flag:
            return 0
    return result


def ratio_ppm(part: int | None, whole: int | None) -> int | None:
    """``part ÷ whole`` in ppm, rounded down (towards minus infinity: −1/3 is −333,334).

    None where one is not known or the whole is not positive.
    """
    if part is None or whole is None or whole <= 0:
        return None
    return part * PPM // whole
