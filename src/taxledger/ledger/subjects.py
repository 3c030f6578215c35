"""Subjects: the enterprises that records are about, each in its one form ``scheme:identifier`` (docs/protocol.md §5).

One table lists every scheme. Two forms of one enterprise would be two subjects, and evidence about one of them complete
without the other: so a scheme takes blanks and marks away, and leaves to another scheme what that one names.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError

__all__ = ["SUBJECT_SCHEMES", "check_subject", "parse_subject", "uscc_check_character"]

_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC = re.compile(r"[0-9A-HJ-NPQRTUWXY]{18}")
_SUBJECT = re.compile(r"([a-z][a-z0-9-]{0,31}):([^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?)")


def uscc_check_character(first_17: str) -> str:
    """The 18th character of a unified social credit code (GB 32100-2015): weights ``3^i mod 31``."""
    total = sum(_USCC_ALPHABET.index(each) * pow(3, index, 31) for index, each in enumerate(first_17))
    return _USCC_ALPHABET[-total % 31]


def _uscc(text: str) -> str:
    code = text.upper()
    if not _USCC.fullmatch(code):
        raise FormatError(f"expected a credit code of 18 characters 0-9A-HJ-NPQRTUWXY, got {text!r}")
    expected = uscc_check_character(code[:17])
    if code[17] != expected:
        raise FormatError(f"credit code {code}: expected check character {expected}, got {code[17]}")
    return code


def _form(pattern: str, what: str, *, drop: str = "", upper: bool = True) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        identifier = "".join(each for each in text if each not in drop)
        identifier = identifier.upper() if upper and identifier.isascii() else identifier
        if not compiled.fullmatch(identifier):
            raise FormatError(f"expected {what}, got {text!r}")
        return identifier

    return parse


def _name(text: str) -> str:
    publisher, _, name = text.partition(":")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", publisher) or not name.strip():
        raise FormatError(f"expected name:<publisher>:<name>, got 'name:{text}'")
    return f"{publisher}:{' '.join(name.split())}"


def _hu_tax(text: str) -> str:
    # The last three digits say how it is taxed and where: they change, the enterprise does not.
    return _hu_digits(text)[:8]


_hu_digits = _form(r"[0-9]{8}(?:[1-5][0-9]{2})?", "a tax number of 8 or 11 digits", drop=" -")


def _gb_vrn(text: str) -> str:
    return _vrn_digits(text.strip().upper().removeprefix("GB"))


_vrn_digits = _form(r"[0-9]{9}(?:[0-9]{3})?", "a VAT number of 9 or 12 digits", drop=" ")

_any_identifier = _form(r"[!-~]+(?: [!-~]+)*", "an identifier of printable ASCII", upper=False)

SUBJECT_SCHEMES: dict[str, Callable[[str], str]] = {
    "uscc": _uscc,
    "cn-tin": _form(r"[0-9A-Z]{15}|[0-9A-Z]{17,20}", "a taxpayer number of 15 or 17–20 characters"),
    "cumcm": _form(r"E[1-9][0-9]{0,5}", "an enterprise of CUMCM 2020 C like E14"),
    "no-org": _form(r"[0-9]{9}", "an organisation number of 9 digits", drop=" "),
    "mx-rfc": _form(r"[A-ZÑ&]{3,4}[0-9]{6}[A-Z0-9]{3}", "an RFC like AAA010101AAA", drop=" -"),
    "gb-vrn": _gb_vrn,
    "eori": _form(r"[A-Z]{2}[0-9A-Z]{1,15}", "an EORI like GB123456789000", drop=" "),
    "hu-tax": _hu_tax,
    "eu-vat": _form(
        r"(?:AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|HR|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK)[0-9A-Z+*]{2,13}",
        "a VAT number with the prefix of its state, like DE123456789 (Hungary: hu-tax, XI: gb-vrn)",
        drop=" .-/",
    ),
    "iso6523": _form(
        r"(?!0184|0192|0208|0211)0[0-9]{3}:[!-~]{1,50}",
        "the ISO 6523 code of a register and a number in it, like 0088:4012345000009; not 0192 (no-org), nor "
        "0184, 0208, 0211 (eu-vat)",
        drop=" ",
    ),
    "kr-brn": _form(r"[0-9]{10}", "a business number of 10 digits", drop=" -"),
    "ca-toronto": _any_identifier,
    "ted": _any_identifier,
    "ocds": _any_identifier,
    "name": _name,
}
"""Parser of the identifier of every known scheme: returns it in its one form or raises FormatError."""


def check_subject(subject: str) -> None:
    """Raises FormatError unless this is ``scheme:identifier``, at most 256 bytes, without control characters.

    The scheme need not be a known one: what a subject means is agreed by issuer and bank, not by the ledger.
    """
    try:
        size = len(subject.encode()) if type(subject) is str else 0
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= limits.subject_bytes_max or not _SUBJECT.fullmatch(subject):
        # Who it is stays out of messages: they reach logs and answers.
        raise FormatError(f"expected a subject scheme:identifier, got {size} bytes in another form")


def parse_subject(text: str) -> str:
    """The one form of a subject as a person or a source writes it; a bare credit code gets its scheme.

    Raises:
        FormatError: unknown scheme, or an identifier that does not fit it (a wrong check character, say).
    """
    stripped = text.strip()
    if _USCC.fullmatch(stripped.upper()):
        stripped = f"uscc:{stripped}"
    scheme, colon, identifier = stripped.partition(":")
    parse = SUBJECT_SCHEMES.get(scheme.strip().lower())
    if not colon or parse is None:
        raise FormatError(
            f"expected a credit code of 18 characters, or <scheme>:<identifier> with a scheme of "
            f"{', '.join(SUBJECT_SCHEMES)}, got {text!r:.80}"
        )
    subject = f"{scheme.strip().lower()}:{parse(identifier.strip())}"
    check_subject(subject)
    return subject
