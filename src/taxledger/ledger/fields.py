"""One field of a schema: its name, its type, and which values fit it (docs/protocol.md §5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError

__all__ = [
    "FIELD_NAME",
    "ROLE_CONTENT",
    "ROLE_PARTY",
    "Field",
    "Row",
    "Value",
    "fits_of",
    "is_date",
    "is_month",
]

Value = str | int | bool | None
Row = Sequence[Value]

ROLE_CONTENT = 0
ROLE_PARTY = 1

FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PRINTABLE = re.compile(r"[!-~]{1,64}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_INTEGERS = ("integer", "money", "ppm")
_TYPES = ("text", "date", "month", "year", "boolean", *_INTEGERS)


@lru_cache(maxsize=8192)
def is_date(text: str) -> bool:
    """Whether this is ``YYYY-MM-DD`` and a day of the calendar."""
    if not _DATE.fullmatch(text):
        return False
    try:
        date(int(text[:4]), int(text[5:7]), int(text[8:]))
    except ValueError:
        return False
    return True


def is_month(text: str) -> bool:
    """Whether this is ``YYYY-MM``, year 0001 or later."""
    return bool(_MONTH.fullmatch(text)) and not text.startswith("0000")


def _fits_text(value: Any) -> bool:
    if type(value) is not str or len(value) > limits.field_text_bytes_max:
        return False
    if value.isascii():
        return True
    try:
        return len(value.encode()) <= limits.field_text_bytes_max
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _fits_integer(value: Any) -> bool:
    return type(value) is int and -limits.integer_max <= value <= limits.integer_max


_FITS: dict[str, Callable[[Any], bool]] = {
    "text": _fits_text,
    "date": lambda value: type(value) is str and is_date(value),
    "month": lambda value: type(value) is str and is_month(value),
    "year": lambda value: type(value) is int and 1 <= value <= 9999,
    "boolean": lambda value: type(value) is bool,
    **dict.fromkeys(_INTEGERS, _fits_integer),
}


def fits_of(type_: str | tuple[str, ...]) -> Callable[[Any], bool]:
    """Whether a value that is present fits a type of ``Field``."""
    if isinstance(type_, str):
        return _FITS[type_]
    allowed = frozenset(type_)
    return lambda value: type(value) is str and value in allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a schema.

    Attributes:
        name: matches ``[a-z][a-z0-9_]{0,31}``.
        type: ``text``, ``date``, ``month``, ``year``, ``integer``, ``money``, ``ppm``, ``boolean``, or
            the tuple of the allowed texts.
        role: ``ROLE_CONTENT``, or ``ROLE_PARTY`` for a counterparty (left out of fingerprints).
    """

    name: str
    type: str | tuple[str, ...]
    role: int = ROLE_CONTENT

    def __post_init__(self) -> None:
        if type(self.name) is not str or not FIELD_NAME.fullmatch(self.name):
            raise FormatError(f"expected a field name [a-z][a-z0-9_]{{0,31}}, got {self.name!r}")
        if isinstance(self.type, tuple):
            texts = [text for text in self.type if type(text) is str and _PRINTABLE.fullmatch(text)]
            if not texts or len(texts) != len(self.type) or len(set(texts)) != len(texts):
                raise FormatError(f"field {self.name}: expected distinct ASCII texts, got {self.type!r}")
        elif self.type not in _TYPES:
            raise FormatError(f"field {self.name}: expected a type of {_TYPES}, got {self.type!r}")
        if type(self.role) is not int or self.role not in (ROLE_CONTENT, ROLE_PARTY):
            raise FormatError(f"field {self.name}: expected role 0 or 1, got {self.role!r}")
