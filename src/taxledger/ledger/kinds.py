"""The kinds of record that have a name (docs/protocol.md §5)."""

from __future__ import annotations

import re

from taxledger.ledger.errors import FormatError

__all__ = ["KINDS", "KIND_NAMES", "kind_name", "parse_kind"]

KINDS: dict[str, int] = {
    "business_registration": 1,
    "tax_filing": 2,
    "tax_credit_rating": 3,
    "tax_arrears": 4,
    "vat_invoice": 5,
    "procurement_award": 6,
    "engineering_contract": 7,
    "utility_usage": 8,
    "customs_declaration": 9,
    "technology_qualification": 10,
    "credit_summary": 11,
    "predicate": 12,
}
"""Number of every kind with a name; a network may use others, which then are shown by their number."""

KIND_NAMES: dict[int, str] = {number: name for name, number in KINDS.items()}

_DIGITS = re.compile(r"[0-9]+")


def kind_name(kind: int) -> str:
    """The name of a kind, or its number in decimal where it has none."""
    return KIND_NAMES.get(kind, str(kind))


def parse_kind(text: str) -> int:
    """The number of a kind from its name or its decimal number.

    Raises:
        FormatError: neither.
    """
    if text in KINDS:
        return KINDS[text]
    if _DIGITS.fullmatch(text) and not text.startswith("0") and len(text) <= 3 and int(text) <= 255:
        return int(text)
    raise FormatError(f"expected a kind, one of {', '.join(KINDS)}, or its number 1–255, got {text!r}")
