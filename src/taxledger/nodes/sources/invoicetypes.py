"""UNTDID 1001: which codes of a document's type are invoices, and which of them take money back."""

from __future__ import annotations

from taxledger.nodes.sources.xmlreader import Element

__all__ = ["check_type", "is_credit"]

_CREDITS = {81, 83, 261, 262, 296, 308, 381, 396, 420, 458, 502, 503, 532}
_INVOICES = {
    *(
        71,
        80,
        82,
        84,
        102,
        130,
        202,
        203,
        204,
        211,
        218,
        219,
        295,
        326,
        331,
        380,
        *range(382, 391),
        393,
        394,
        395,
    ),
    *(456, 457, 527, 553, 575, 623, 633, 751, 780, 817, 870, 875, 876, 877, 935),
}
_PROFORMA = 325


def is_credit(code: str) -> bool:
    """Whether amounts of this type are stated positive and taken back."""
    return _number(code) in _CREDITS


def check_type(type_: Element) -> None:
    """Returns for a code of invoices or credit notes, and for the words that UBL 2.0 used.

    Raises:
        ElementError: another document's code, or that of an invoice that claims nothing.
    """
    number = _number(type_.value)
    if number == _PROFORMA:
        raise type_.error("not_an_invoice", "an invoice, not a proforma", "发票，而非形式发票")
    if number is not None and number not in _INVOICES | _CREDITS:
        raise type_.error(
            "type_unknown", "a code of UNTDID 1001 for invoices", "UNTDID 1001 中的发票类型代码"
        )


def _number(code: str) -> int | None:
    return int(code) if code.isascii() and code.isdigit() and len(code) < 5 else None
