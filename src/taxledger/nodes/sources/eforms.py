"""Procurement awards from eForms contract award notices (UBL 2.3 ``ContractAwardNotice`` with the EU's extension).

An award is a tender of a lot's result whose winner is selected. It is known by notice, contract and lot, so that a
later notice of a change to the contract, which names all three, is about the same record, and corrects it. A change
to a notice of another form can't be matched, and is refused.

Source: eForms SDK (Regulation (EU) 2019/1780): BT-142 winner chosen, BT-145 and BT-1451 dates of the contract and of
the decision, BT-720 value of the tender, BT-195 and following for what is not published yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger.schemas import Value
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.awards import (
    NO_AWARD,
    PENDING,
    SCHEMA,
    UNSUCCESSFUL,
    WITHHELD,
    Winner,
    award_rows,
    party_code,
    tidy_text,
    winner_of,
)
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow
from taxledger.nodes.sources.xmlreader import Element, ElementError, read_xml

__all__ = ["FORMAT", "EformsSource"]

_UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
_EU = "http://data.europa.eu/p27/eforms-"
_ROOT = f"{_UBL}ContractAwardNotice-2"
_PREFIXES = {
    "": _ROOT,
    "cac": f"{_UBL}CommonAggregateComponents-2",
    "cbc": f"{_UBL}CommonBasicComponents-2",
    "ext": f"{_UBL}CommonExtensionComponents-2",
    "efac": f"{_EU}ubl-extension-aggregate-components/1",
    "efbc": f"{_EU}ubl-extension-basic-components/1",
    "efext": f"{_EU}ubl-extensions/1",
}
_EXTENSION = "ext:UBLExtensions/ext:UBLExtension/ext:ExtensionContent/efext:EformsExtension"
_SELECTED, _OPEN = "selec-w", "open-nw"
_NO_DATE = "2000-01-01"
"""What stands in the award date that UBL insists on, where eForms has none."""
_WINNER_FIELDS = ("win-cho", "win-nam", "ten-par", "org-nam")
_VALUE_FIELDS = ("win-ten-val", "val-ten")
_NOTICE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]{2}")
_MODIFIED = CellError(
    "award_modified",
    "an award; this is a change to one of another form, which has to be amended by hand",
    "中标结果；这是对另一格式公告中合同的变更，须手工更正原记录",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notice:
    """What all awards of a notice share.

    Attributes:
        number: of the notice that first said the awards.
        result: the ``NoticeResult``.
        organisations: by their id in the notice.
        contract: the one that the notice changes, as the first notice calls it, or None.
    """

    number: str
    root: Element
    result: Element
    organisations: dict[str, Element]
    contract: str | None


class EformsSource:
    """The ``eforms`` source.

    Attributes:
        schema: ``procurement_award``.
    """

    def __init__(self, subject: str | None = None) -> None:
        """With a ``subject``, awards of any other winner are rejected."""
        self.schema = SCHEMA
        self._subject = subject

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """Every award, and every lot without one. Raises FormatError when it is no such notice."""
        root = read_xml(path, _PREFIXES)
        n = 0
        try:
            for row in self._rows(root):
                n += 1
                yield row
        except ElementError as error:
            n += 1
            yield error.bad_row()
        if not n:
            yield NO_AWARD.row(root.line, root.path, "")

    def _rows(self, root: Element) -> Iterator[SourceRow | BadRow]:
        notice = _notice(root)
        if notice is None:
            return
        # A notice of changes has no results of lots: each tender it has is one that won.
        if notice.contract is not None:
            for tender in notice.result.find_all("efac:LotTender"):
                yield from self._award(notice, tender, tender)
            return
        for result in notice.result.find_all("efac:LotResult"):
            code = result.text_or_none("cbc:TenderResultCode") or ""
            if code != _SELECTED:
                yield (PENDING if code == _OPEN else UNSUCCESSFUL).row(result.line, result.path, code)
            elif _withheld(result, _WINNER_FIELDS):
                yield WITHHELD.row(result.line, result.path, "win-cho")
            else:
                yield from self._tenders(notice, result)

    def _tenders(self, notice: _Notice, result: Element) -> Iterator[SourceRow | BadRow]:
        tenders = {each.text("cbc:ID"): each for each in notice.result.find_all("efac:LotTender")}
        names = [each.text("cbc:ID") for each in result.find_all("efac:LotTender")]
        if not names:
            missing = CellError("winner_missing", "a tender that won", "中标的投标")
            yield missing.row(result.line, result.path, "")
        for name in names:
            tender = tenders.get(name)
            if tender is None:
                unknown = CellError("value_unknown", "a tender of the notice", "公告中的投标")
                yield unknown.row(result.line, result.path, name)
            else:
                yield from self._award(notice, tender, result)

    def _award(self, notice: _Notice, tender: Element, result: Element) -> Iterator[SourceRow | BadRow]:
        try:
            if _withheld(tender, _WINNER_FIELDS):
                raise WITHHELD
            named, winners = _fields(notice, tender, result), _winners(notice, tender)
        except ElementError as error:
            yield error.bad_row()
        except CellError as error:
            yield error.row(tender.line, tender.path, "")
        else:
            changes = notice.contract is not None
            yield from award_rows(tender.line, tender.path, winners, named, self._subject, replaces=changes)


def _notice(root: Element) -> _Notice | None:
    """The parts of a notice; None where it has no result."""
    own = f"{root.text('cbc:ID')}-{root.text_or_none('cbc:VersionID') or '01'}"
    extension = root.one(_EXTENSION)
    changes = extension.find_all("efac:ContractModification")
    result = extension.find("efac:NoticeResult")
    number, contract = own, None
    if changes:
        change = changes[0]
        changed = change.text("efbc:ChangedNoticeIdentifier")
        if len(changes) > 1:
            raise change.error("element_repeated", "one change to a contract", "一项合同变更")
        if not _is_notice_id(changed):
            raise ElementError(_MODIFIED, change.line, change.path, changed)
        number, contract = changed, change.text("efbc:ModifiedContractIdentifier")
    if result is None:
        return None
    organisations = {
        each.text("efac:Company/cac:PartyIdentification/cbc:ID"): each.one("efac:Company")
        for each in extension.find_all("efac:Organizations/efac:Organization")
    }
    return _Notice(number=number, root=root, result=result, organisations=organisations, contract=contract)


def _is_notice_id(text: str) -> bool:
    return bool(_NOTICE_ID.fullmatch(text.lower()))


def _withheld(element: Element, fields: tuple[str, ...]) -> bool:
    """Whether one of these fields is said to be published later, or never."""
    found = element.find_all("efac:FieldsPrivacy/efbc:FieldIdentifierCode")
    return any(each.value in fields for each in found)


def _fields(notice: _Notice, tender: Element, result: Element) -> dict[str, Value]:
    """The fields of an award without its winners. Raises ElementError and CellError."""
    name = tender.text("cbc:ID")
    contract = next(
        (
            each
            for each in notice.result.find_all("efac:SettledContract")
            if name in [one.value for one in each.find_all("efac:LotTender/cbc:ID")]
        ),
        None,
    )
    lot = tender.text_or_none("efac:TenderLot/cbc:ID") or result.text_or_none("efac:TenderLot/cbc:ID")
    key = notice.contract or (contract.text("cbc:ID") if contract is not None else name)
    buyer = _buyer(notice)
    currency, amount = _amount(tender)
    return {
        "register": "eforms",
        "number": f"{notice.number}/{key}/{lot or 'LOT-0000'}",
        "contract": _text(contract, "efac:ContractReference/cbc:ID"),
        "lot": lot,
        "buyer": _text(buyer, "cac:PartyName/cbc:Name"),
        "buyer_id": party_code(_country(buyer), _company_id(buyer) or "") if buyer is not None else None,
        "buyer_public": True,
        "title": _text(contract, "cbc:Title") or _title(notice.root, lot),
        "awarded": _awarded(notice.root, contract),
        "state": "active",
        "currency": currency,
        "amount": amount,
    }


def _awarded(root: Element, contract: Element | None) -> str:
    """The day of the decision, else of the contract, else what the notice says for all, else its own day."""
    if contract is not None:
        # AwardDate: the winner was decided; IssueDate: the contract was concluded.
        found = contract.date_or_none("cbc:AwardDate") or contract.date_or_none("cbc:IssueDate")
        if found is not None:
            return found
    found = root.date_or_none("cac:TenderResult/cbc:AwardDate")
    return found if found is not None and found != _NO_DATE else root.date("cbc:IssueDate")


def _amount(tender: Element) -> tuple[str | None, int | None]:
    path = "cac:LegalMonetaryTotal/cbc:PayableAmount"
    if tender.find(path) is None or _withheld(tender, _VALUE_FIELDS):
        return None, None
    currency = tender.read(f"{path}/@currencyID", cells.parse_currency)
    return currency, tender.amount(path, currency)


def _winners(notice: _Notice, tender: Element) -> list[Winner]:
    wanted = tender.text("efac:TenderingParty/cbc:ID")
    parties = [
        each
        for each in notice.result.find_all("efac:TenderingParty")
        if each.text_or_none("cbc:ID") == wanted
    ]
    winners = []
    for party in parties:
        for each in party.find_all("efac:Tenderer/cbc:ID"):
            company = notice.organisations.get(each.value)
            if company is None:
                raise each.error("value_unknown", "an organisation of the notice", "公告中的机构")
            winners.append(
                winner_of(
                    scheme="ted",
                    publisher="ted",
                    name=_text(company, "cac:PartyName/cbc:Name"),
                    country=_country(company),
                    identifier=_company_id(company),
                )
            )
    if not winners:
        raise tender.error("winner_missing", "a winner's identifier or name", "中标人的标识或名称", wanted)
    return winners


def _buyer(notice: _Notice) -> Element | None:
    """The first buyer: several buy together."""
    found = notice.root.first("cac:ContractingParty/cac:Party/cac:PartyIdentification/cbc:ID")
    return notice.organisations.get(found.value) if found is not None else None


def _title(root: Element, lot: str | None) -> str | None:
    for each in root.find_all("cac:ProcurementProjectLot"):
        if lot is not None and each.text_or_none("cbc:ID") == lot:
            found = _text(each, "cac:ProcurementProject/cbc:Name")
            if found is not None:
                return found
    return _text(root, "cac:ProcurementProject/cbc:Name")


def _company_id(company: Element) -> str | None:
    return _text(company, "cac:PartyLegalEntity/cbc:CompanyID")


def _country(company: Element) -> str:
    return _text(company, "cac:PostalAddress/cac:Country/cbc:IdentificationCode") or ""


def _text(element: Element | None, path: str) -> str | None:
    """The first text at a path: names stand once for each language."""
    found = element.first(path) if element is not None else None
    if found is None:
        return None
    try:
        return tidy_text(found.value)
    except CellError as error:
        raise ElementError(error, found.line, found.path, found.value) from None


def _looks(look: Look) -> bool:
    return look.root is not None and (look.root.namespace, look.root.name) == (_ROOT, "ContractAwardNotice")


FORMAT = Format(
    name="eforms",
    title="eForms contract award notices (XML)",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EformsSource(options.subject),
)
