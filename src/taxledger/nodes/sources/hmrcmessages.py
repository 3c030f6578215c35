"""The messages between a trader and HMRC's customs declaration service: what each file is, and what it states."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import parse_subject
from taxledger.nodes.sources.cells import parse_text
from taxledger.nodes.sources.wcodeclaration import Declaration, read_date, read_declaration, wco
from taxledger.nodes.sources.xmlreader import Element, Root, read_xml

__all__ = [
    "ACCEPTED",
    "AMENDMENT",
    "CANCELLATION",
    "CANCELLED",
    "CLEARED",
    "DECLARATION",
    "NOTIFICATION",
    "OTHER",
    "REJECTED",
    "TAX",
    "Message",
    "read_message",
    "root_looks",
]

DECLARATION, AMENDMENT, CANCELLATION, NOTIFICATION, OTHER = (
    "declaration", "amendment", "cancellation", "notification", "other",
)  # fmt: skip
"""Kinds of message."""

ACCEPTED, REJECTED, CLEARED, CANCELLED, TAX = "01", "03", "09", "10", "13"
"""Codes of the notifications that say something of a declaration's record."""

_NOTIFICATIONS = {
    "02": "receipt", "05": "control", "06": "documents wanted", "07": "result of an amendment",
    "08": "release before clearance", "11": "answer to a request", "14": "payment due", "15": "reminder of payment",
    "16": "exit of goods", "17": "reminder of the goods' report",
}  # fmt: skip
"""By code: those that do not."""

_ORIGINAL, _ADDITIONAL = "9", "13"
_METADATA = "urn:wco:datamodel:WCO:DocumentMetaData-DMS:2"
_HMRC = ("http://gov.uk/customs/", "http://uk/gov/hmrc/mdg/")
_REPORT = "DeclarationVersionResponse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One file.

    Attributes:
        line: of the element that it is told from.
        name: of the document, for messages.
        kind: see ``DECLARATION`` and the others.
        code: of a notification.
        reference: the trader's (LRN).
        mrn: that of customs, or "".
        type_code: of the declaration, like ``IMA``; import or export.
        date: of acceptance or issue, as the declaration or notification of acceptance states it.
        issued: day on which a notification was issued.
        stated: parts of the declaration that it states.
        currency, duty, tax: of a notification of tax, in minor units.
        submitter: subject of who sent a cancellation.
        refusal: (code, expected, in Chinese) of what says nothing of a record.
    """

    line: int
    name: str
    kind: str
    code: str = ""
    reference: str = ""
    mrn: str = ""
    type_code: str = ""
    date: str | None = None
    issued: str | None = None
    stated: Declaration = field(default_factory=Declaration)
    currency: str | None = None
    duty: int = 0
    tax: int = 0
    submitter: str | None = None
    refusal: tuple[str, str, str] | None = None

    @property
    def imported(self) -> bool:
        """Whether goods come in."""
        return self.type_code.startswith("IM")


def root_looks(root: Root) -> bool:
    """Whether a file with this root element is such a message."""
    if root.name == "MetaData":
        return root.namespace in (_METADATA, "")
    return root.namespace.startswith(_HMRC)


def read_message(path: Path) -> Message:
    """What a file is and states.

    Raises:
        FormatError: not such a file, or not well-formed. ElementError: a part of it does not hold what it should.
    """
    root = read_xml(path)
    metadata = root
    if root.name == "submitDeclarationRequest":
        metadata = root.one(wco("requestDetail/MetaData"))
    elif root.name != "MetaData":
        if not root_looks(Root(root.namespace, root.name)):
            raise FormatError(f"{path}: expected a customs message, got the root {root.name!r:.80}")
        return _no_declaration(root)
    response = metadata.find(wco("Response"))
    if response is not None:
        return _notification(response)
    return _declaration(metadata.one(wco("Declaration")))


def _no_declaration(root: Element) -> Message:
    what, what_zh = (
        ("a report of versions", "版本报告")
        if root.name == _REPORT
        else ("a movement of goods", "货物移动报文")
    )
    refusal = (
        "not_a_declaration",
        f"a declaration or what changes one, not {what}",
        f"申报或其更正，而非{what_zh}",
    )
    return Message(line=root.line, name=root.name, kind=OTHER, refusal=refusal)


def _declaration(element: Element) -> Message:
    function, type_code = element.text(wco("FunctionCode")), element.text(wco("TypeCode"))
    reference = element.text(wco("FunctionalReferenceID"))
    mrn = element.text_or_none(wco("ID")) or ""
    if function == _ORIGINAL:
        if not type_code.startswith(("IM", "EX")):
            raise element.one(wco("TypeCode")).error("type_unknown", "an import or export", "进口或出口")
        return Message(
            line=element.line,
            name="Declaration",
            kind=DECLARATION,
            reference=reference,
            type_code=type_code,
            date=read_date(element, "AcceptanceDateTime") or read_date(element, "IssueDateTime"),
            stated=read_declaration(element),
        )
    if function != _ADDITIONAL or type_code not in ("COR", "INV"):
        raise element.one(wco("FunctionCode")).error(
            "type_unknown",
            "an original, an amendment (COR) or a cancellation (INV)",
            "原始申报、更正或撤销",
            f"{function} {type_code}",
        )
    return Message(
        line=element.line,
        name="Declaration",
        kind=AMENDMENT if type_code == "COR" else CANCELLATION,
        reference=reference,
        mrn=mrn,
        stated=read_declaration(element) if type_code == "COR" else Declaration(),
        submitter=_eori(element.text_or_none(wco("Submitter/ID"))),
    )


def _eori(text: str | None) -> str | None:
    try:
        return None if text is None else parse_subject(f"eori:{text}")
    except FormatError:
        return None


def _notification(response: Element) -> Message:
    code = response.text(wco("FunctionCode"))
    about = response.first(wco("Declaration"))
    if about is None:
        raise response.error("value_missing", "the declaration that it is about", "所涉及的申报", "")
    refusal = None
    if code not in (ACCEPTED, REJECTED, CLEARED, CANCELLED, TAX):
        what = _NOTIFICATIONS.get(code, f"code {code}")
        refusal = (
            "not_a_declaration",
            f"a declaration or what changes its record, not a notification: {what}",
            "申报或改变其记录的通知",
        )
    currency, duty, tax = _taxes(about) if code == TAX else (None, 0, 0)
    return Message(
        line=response.line,
        name="Response",
        kind=NOTIFICATION,
        code=code,
        reference=about.text_or_none(wco("FunctionalReferenceID")) or "",
        mrn=about.text_or_none(wco("ID")) or "",
        date=read_date(about, "AcceptanceDateTime"),
        issued=read_date(response, "IssueDateTime"),
        currency=currency,
        duty=duty,
        tax=tax,
        refusal=refusal,
    )


def _taxes(about: Element) -> tuple[str | None, int, int]:
    """(currency, duty, tax) of all items: types A… are duties, all others taxes."""
    currency, duty, tax = None, 0, 0
    for each in about.find_all(wco("GoodsShipment/GovernmentAgencyGoodsItem/Commodity/DutyTaxFee")):
        amount = each.find(wco("Payment/PaymentAmount"))
        if amount is None or not amount.value:
            continue
        found = amount.read("@currencyID", parse_text)
        if currency not in (None, found):
            raise amount.error("currency_differs", f"an amount of {currency}", f"{currency} 金额", found)
        currency = found
        paid = amount.amount("", found)
        if each.text(wco("TypeCode")).startswith("A"):
            duty += paid
        else:
            tax += paid
    return currency, duty, tax
