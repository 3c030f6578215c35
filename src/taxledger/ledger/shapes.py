"""Shapes of decoded msgpack: what a reader expects of a value, and the error when it is not that."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from taxledger.ledger.errors import FormatError

__all__ = ["array", "ascending", "fixed_bytes", "integer", "is_ascii", "items", "optional_bytes", "text"]


def integer(value: Any, low: int, high: int, what: str) -> int:
    """An integer within bounds (a bool is none)."""
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"expected {what} {low} to {high}, got {value!r:.40}")
    return value


def fixed_bytes(value: Any, size: int, what: str) -> bytes:
    """Exactly ``size`` bytes."""
    if type(value) is not bytes or len(value) != size:
        raise FormatError(f"expected {what} of {size} bytes, got {type(value).__name__}")
    return value


def optional_bytes(value: Any, size: int, what: str) -> bytes | None:
    """Exactly ``size`` bytes, or nil."""
    return None if value is None else fixed_bytes(value, size, what)


def text(value: Any, bytes_max: int, what: str) -> str:
    """Not empty, at most ``bytes_max`` bytes of UTF-8, without control characters."""
    try:
        size = len(value.encode()) if type(value) is str else 0
    except UnicodeEncodeError:  # a lone surrogate
        size = 0
    if not 0 < size <= bytes_max or any(ord(each) < 0x20 or ord(each) == 0x7F for each in value):
        raise FormatError(f"expected {what} as a text of 1 to {bytes_max} bytes")
    return str(value)


def array(value: Any, low: int, high: int, what: str) -> list[Any]:
    """An array of ``low`` to ``high`` elements."""
    if type(value) is not list or not low <= len(value) <= high:
        raise FormatError(f"expected {low} to {high} {what} in an array")
    return value


def items(value: Any, length: int, what: str) -> list[Any]:
    """An array of exactly ``length`` elements."""
    if type(value) is not list or len(value) != length:
        raise FormatError(f"expected {what} as an array of {length} elements")
    return value


def ascending(keys: Sequence[Any], what: str) -> None:
    """Strictly ascending, so none twice."""
    for left, right in pairwise(keys):
        if left >= right:
            raise FormatError(f"expected {what} strictly ascending")


def is_ascii(value: Any) -> bool:
    """Every text in a decoded value is ASCII; the nesting is limited by ``canonical``."""
    if type(value) is str:
        return value.isascii()
    if type(value) is list:
        return all(is_ascii(each) for each in value)
    return type(value) is not dict
