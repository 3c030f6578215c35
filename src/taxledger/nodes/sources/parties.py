"""Who stands on an invoice: the best identifier of a party as a subject, and its name where it has none.

Order: VAT number, legal registration, other identifiers (both with an ISO 6523 code), name. An identifier that does
not have the form of its scheme is passed over, because documents put anything there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import parse_subject

__all__ = ["PUBLISHER", "Party", "iso6523_subject", "make_party", "vat_subject"]

PUBLISHER = "einvoice"
"""Of ``name:einvoice:<name>``: a party that no document of any of these formats identifies."""

_PUNCTUATION = str.maketrans("", "", " .-/\u00a0")
_ICD = re.compile(r"0[0-9]{3}")
_NO_ORG_ICD = "0192"
_VAT_ICDS = {"0184": "DK", "0208": "BE", "0211": "IT"}
"""Registers whose numbers are the VAT numbers of their state, without or with its prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A party of an invoice.

    Attributes:
        subject: in its one form, or None where there is neither identifier nor name.
        identified: whether it comes from an identifier, not from the name alone.
        name: as written, blanks joined; None where there is none.
    """

    subject: str | None
    identified: bool
    name: str | None

    @property
    def counterparty(self) -> str | None:
        """How a record of the other side names this party: its subject, else its name alone."""
        return self.subject if self.identified else self.name


def _known(subject: str | None) -> str | None:
    if subject is None:
        return None
    try:
        return parse_subject(subject)
    except FormatError:
        return None


def make_party(candidates: Iterable[str | None], name: str | None) -> Party:
    """A party by the first candidate (``scheme:identifier``) that has the form of its scheme, else by its name."""
    shown = (" ".join(name.replace("\x7f", " ").split()) or None) if name else None
    subject = next((found for each in candidates if (found := _known(each)) is not None), None)
    if subject is not None:
        return Party(subject=subject, identified=True, name=shown)
    return Party(subject=_known(f"name:{PUBLISHER}:{shown}") if shown else None, identified=False, name=shown)


def vat_subject(number: str) -> str | None:
    """The subject of a VAT number with its country's prefix; None where it has none that is known.

    A country whose register gives the same enterprise a number of its own has a scheme of its own: Norway,
    the United Kingdom, Hungary. Anything else would give one enterprise two subjects.
    """
    text = number.upper().translate(_PUNCTUATION)
    norwegian = re.fullmatch(r"(?:NO)?([0-9]{9})MVA", text)
    if norwegian:
        return f"no-org:{norwegian[1]}"
    british = re.fullmatch(r"(?:GB|XI)([0-9]{9}(?:[0-9]{3})?)", text)
    if british:
        return f"gb-vrn:{british[1]}"
    hungarian = re.fullmatch(r"HU([0-9]{8})", text)
    if hungarian:
        return f"hu-tax:{hungarian[1]}"
    return _known(f"eu-vat:EL{text[2:]}" if text.startswith("GR") else f"eu-vat:{text}")


def iso6523_subject(code: str | None, identifier: str) -> str | None:
    """The subject of an identifier with the ISO 6523 code of its register, like 0088 for GLN; None without one."""
    if code is None or not _ICD.fullmatch(code):
        return None
    text = identifier.strip()
    if code == _NO_ORG_ICD:
        return f"no-org:{text}"
    prefix = _VAT_ICDS.get(code)
    if prefix is not None:
        return vat_subject(prefix + text.upper().removeprefix(prefix))
    return f"iso6523:{code}:{text}"
