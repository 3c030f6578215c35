"""A threshold as an officer writes it, and the integer that it means: by the unit of its feature.

money   "5,000.00"          minor units of the product's currency
ppm     "5 %" or "0.05"     parts per million
grade   "B"                 rank: A 5, B 4, M 3, C 2, D 1
flag    true                1
others  24                  itself
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError
from taxledger.lending.features.feature import Unit

__all__ = ["GRADES", "parse_factor", "parse_money", "parse_quantity", "show_quantity"]

GRADES = {"A": 5, "B": 4, "M": 3, "C": 2, "D": 1}
"""Rank of every tax credit grade. M is new or without a score: better than C, and no bad grade."""

_MINOR_DIGITS = 2
_AMOUNT = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(?:\.[0-9]{1,2})?")
_SHARE = re.compile(r"(-?[0-9]{1,9}(?:\.[0-9]{1,6})?) ?(%?)")


def parse_money(text: Any) -> int:
    """Minor units of an amount like ``5,000.00``. Raises FormatError."""
    if type(text) is not str or not _AMOUNT.fullmatch(text):
        raise FormatError(f'expected an amount in quotes like "5,000.00", got {text!r:.40}')
    return _whole(Decimal(text.replace(",", "")) * 10**_MINOR_DIGITS, text)


def parse_factor(text: Any) -> int:
    """Ppm of a share like ``10 %`` or a factor like ``5``. Raises FormatError."""
    match = _SHARE.fullmatch(text) if type(text) is str else None
    if match is None:
        raise FormatError(f'expected a share or factor in quotes like "10 %" or "5", got {text!r:.40}')
    return _whole(Decimal(match[1]) * (10_000 if match[2] else 1_000_000), text)


def _whole(value: Decimal, text: str) -> int:
    if value != value.to_integral_value():
        raise FormatError(f"expected no finer than a millionth, got {text!r:.40}")
    if abs(value) > limits.integer_max:
        raise FormatError(f"expected at most {limits.integer_max}, got {text!r:.40}")
    return int(value)


def parse_quantity(value: Any, unit: Unit) -> int:
    """The integer that a threshold means for a feature of this unit. Raises FormatError."""
    match unit:
        case Unit.MONEY:
            return parse_money(value)
        case Unit.PPM:
            return parse_factor(value)
        case Unit.GRADE:
            if type(value) is not str or value not in GRADES:
                raise FormatError(f"expected a grade of {', '.join(GRADES)}, got {value!r:.40}")
            return GRADES[value]
        case Unit.FLAG:
            if type(value) is not bool:
                raise FormatError(f"expected true or false, got {value!r:.40}")
            return int(value)
        case _:
            if type(value) is not int or abs(value) > limits.integer_max:
                raise FormatError(f"expected a whole number of {unit.value}, got {value!r:.40}")
            return value


def show_quantity(value: int | None, unit: Unit) -> str:
    """A value as people read it: ``5,000.00``, ``5.1 %``, ``B``, ``yes``, ``24``; ``–`` where it is undefined."""
    if value is None:
        return "–"
    match unit:
        case Unit.MONEY:
            sign, whole = "-" if value < 0 else "", abs(value)
            return f"{sign}{whole // 100:,}.{whole % 100:02}"
        case Unit.PPM:
            text = f"{Decimal(value) / 10_000:f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return f"{text} %"
        case Unit.GRADE:
            return next((grade for grade, rank in GRADES.items() if rank == value), str(value))
        case Unit.FLAG:
            return "yes" if value else "no"
        case _:
            return f"{value:,}"
