"""Texts of issuers as they may be shown: an issuer's text is data, never an instruction to a page or a terminal.

Invariant: ``plain`` gives one line without control, format, surrogate, private-use or unassigned characters: what
could move a cursor, turn text around or hide in it stands there as its code point instead.
"""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["plain", "shorten", "width_of"]

_CHARACTERS_MAX = 160
_MARKS_MAX = 2
_SHOWN_AS_CODE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def plain(value: Any, characters_max: int = _CHARACTERS_MAX) -> str:
    """One printable line of any value, at most so many characters; the rest is shown as ``…``."""
    shown: list[str] = []
    marks = 0
    for character in str(value)[: characters_max + 1]:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category in _SHOWN_AS_CODE or marks > _MARKS_MAX:
            shown.append(f"[U+{ord(character):04X}]")
        else:
            shown.append(" " if category == "Zs" else character)
    return shorten("".join(shown), characters_max)


def shorten(text: str, characters_max: int) -> str:
    """The text, or its beginning and ``…``."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def width_of(text: str) -> int:
    """About how wide a text is, in hundredths of its font size: a wide character is 100, another 57."""
    return sum(100 if unicodedata.east_asian_width(each) in "WFA" else 57 for each in text)
