"""Procurement awards from contract award notices of Tenders Electronic Daily: form F03 of the TED schema R2.0.9.

A notice stands in one file, sometimes in several languages. Its awards are those of the first form with
``CATEGORY="ORIGINAL"``; a second original form is the same notice in another language, and its awards are rejected
as said already. Contracting authorities under directive 2014/24/EU alone publish this form: buyers are public.

``VAL_TOTAL`` is the amount. Where only a range of tenders is published, the award has no amount.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.awards import (
    NO_AWARD,
    SCHEMA,
    UNSUCCESSFUL,
    Winner,
    award_rows,
    party_code,
    tidy_text,
    winner_of,
)
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow
from taxledger.nodes.sources.xmlreader import Element, ElementError, read_root, read_xml

__all__ = ["FORMAT", "TedSource"]

_NAMESPACES = (
    "http://publications.europa.eu/resource/schema/ted/R2.0.9/publication",
    "http://formex.publications.europa.eu/ted/schema/export/R2.0.9.S01.E01",
)
_FORM = "F03_2014"
_REPEATED = CellError(
    "award_repeated",
    "each award once; this form repeats the notice in another language",
    "每项中标结果只出现一次；该表格以另一种语言重复同一公告",
)


class TedSource:
    """The ``ted`` source.

    Attributes:
        schema: ``procurement_award``.
    """

    def __init__(self, subject: str | None = None) -> None:
        """With a ``subject``, awards of any other winner are rejected."""
        self.schema = SCHEMA
        self._subject = subject

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every award and every lot without one. Raises FormatError when it is no such notice."""
        root = read_xml(path, {"": read_root(path).namespace})
        originals = [
            each
            for section in root.find_all("FORM_SECTION")
            for each in section.children
            if each.attributes.get("CATEGORY") == "ORIGINAL"
        ]
        if not originals or any(each.name != _FORM for each in originals):
            found = ", ".join(each.name for each in originals) or "none"
            raise FormatError(
                f"{path}: expected an original form {_FORM} (contract award notice), got {found}"
            )
        notice = root.attributes.get("DOC_ID", "")
        if not tidy_text(notice):
            raise FormatError(f"{path}: expected the notice's number in TED_EXPORT/@DOC_ID, got none")
        n = 0
        for form in originals:
            for award in form.find_all("AWARD_CONTRACT"):
                n += 1
                if form is not originals[0]:
                    yield _REPEATED.row(award.line, award.path, award.attributes.get("ITEM", ""))
                else:
                    yield from self._award(notice, form, award, n)
        if not n:
            yield NO_AWARD.row(originals[0].line, originals[0].path, "")

    def _award(self, notice: str, form: Element, award: Element, at: int) -> Iterator[SourceRow | BadRow]:
        try:
            contract = award.find("AWARDED_CONTRACT")
            if contract is None:
                reason = award.first("NO_AWARDED_CONTRACT")
                found = reason.children[0].name if reason is not None and reason.children else ""
                yield UNSUCCESSFUL.row(award.line, award.path, found)
                return
            buyer = form.one("CONTRACTING_BODY/ADDRESS_CONTRACTING_BODY")
            currency, amount = _amount(contract)
            item = award.attributes.get("ITEM", "") or str(at)
            title = _text(award, "TITLE") or _text(form, "OBJECT_CONTRACT/TITLE")
            named = {
                "register": "ted",
                "number": f"{notice}/{item}",
                "contract": _text(award, "CONTRACT_NO"),
                "lot": _text(award, "LOT_NO"),
                "buyer": _text(buyer, "OFFICIALNAME"),
                "buyer_id": party_code(_country(buyer), _text(buyer, "NATIONALID") or ""),
                "buyer_public": True,
                "title": title,
                "awarded": contract.date("DATE_CONCLUSION_CONTRACT"),
                "state": "active",
                "currency": currency,
                "amount": amount,
            }
            winners = _winners(contract)
        except ElementError as error:
            yield error.bad_row()
            return
        except CellError as error:
            yield error.row(award.line, award.path, "")
            return
        yield from award_rows(award.line, award.path, winners, named, self._subject)


def _winners(contract: Element) -> list[Winner]:
    found = []
    for each in [*contract.find_all("CONTRACTOR"), *contract.find_all("CONTRACTORS/CONTRACTOR")]:
        party = each.one("ADDRESS_CONTRACTOR")
        found.append(
            winner_of(
                scheme="ted",
                publisher="ted",
                name=_text(party, "OFFICIALNAME"),
                country=_country(party),
                identifier=_text(party, "NATIONALID"),
            )
        )
    if not found:
        raise CellError("winner_missing", "a winner's identifier or name", "中标人的标识或名称")
    return found


def _amount(contract: Element) -> tuple[str | None, int | None]:
    """(currency, amount in minor units) of ``VAL_TOTAL``, which stands in ``VALUES`` since 2017."""
    for path in ("VALUES/VAL_TOTAL", "VAL_TOTAL"):
        if contract.find(path) is not None:
            currency = contract.text(f"{path}/@CURRENCY")
            return currency, contract.amount(path, currency)
    return None, None


def _country(party: Element) -> str:
    return party.text_or_none("COUNTRY/@VALUE") or ""


def _text(element: Element, path: str) -> str | None:
    """All characters at a path and below, as people read them."""
    found = element.first(path)
    if found is None:
        return None
    try:
        return tidy_text(" ".join(each.value for each in found.walk() if each.value))
    except CellError as error:
        raise ElementError(error, found.line, found.path, found.value) from None


def _looks(look: Look) -> bool:
    return look.root is not None and look.root.name == "TED_EXPORT" and look.root.namespace in _NAMESPACES


FORMAT = Format(
    name="ted",
    title="contract award notices of TED, form F03 (XML)",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: TedSource(options.subject),
)
