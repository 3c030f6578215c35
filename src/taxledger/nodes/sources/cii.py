"""UN/CEFACT Cross Industry Invoice (D16B and later): also EN 16931, XRechnung, Factur-X and ZUGFeRD 2.

Source: UN/CEFACT CrossIndustryInvoice 100; EN 16931-1 for what the totals mean. The same business case in
UBL gives the same record.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from taxledger.nodes.sources import cells
from taxledger.nodes.sources.einvoice import (
    SCHEMA,
    Document,
    EInvoiceSource,
    Invoice,
    goods_text,
    only,
    percent_ppm,
)
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.invoicetypes import check_type, is_credit
from taxledger.nodes.sources.parties import Party, iso6523_subject, make_party, vat_subject
from taxledger.nodes.sources.xmlreader import Element, read_xml

__all__ = ["FORMAT", "PREFIXES", "is_invoice", "read_invoice"]

_UN = "urn:un:unece:uncefact:data:standard:"
PREFIXES = {
    "rsm": f"{_UN}CrossIndustryInvoice:100",
    "ram": f"{_UN}ReusableAggregateBusinessInformationEntity:100",
    "udt": f"{_UN}UnqualifiedDataType:100",
}
_DAY = "102"
"""UNTDID 2379: YYYYMMDD."""


def is_invoice(namespace: str, name: str) -> bool:
    """Whether a root element is one that ``read_invoice`` reads."""
    return name == "CrossIndustryInvoice" and namespace == PREFIXES["rsm"]


def read_invoice(document: Element) -> Invoice:
    """The invoice of a root element read with ``PREFIXES``. Raises ElementError."""
    head = document.one("rsm:ExchangedDocument")
    trade = document.one("rsm:SupplyChainTradeTransaction")
    agreement = trade.one("ram:ApplicableHeaderTradeAgreement")
    settlement = trade.one("ram:ApplicableHeaderTradeSettlement")
    type_ = head.one("ram:TypeCode")
    check_type(type_)
    currency = settlement.read("ram:InvoiceCurrencyCode", cells.parse_currency)
    total = settlement.one("ram:SpecifiedTradeSettlementHeaderMonetarySummation")
    net = _amount(total, "ram:TaxBasisTotalAmount", currency)
    gross = _amount(total, "ram:GrandTotalAmount", currency)
    tax = _tax(total, currency, exempt=net == gross)
    rates = [
        each.read_or_none("ram:RateApplicablePercent", percent_ppm)
        for each in settlement.find_all("ram:ApplicableTradeTax")
    ]
    credit = is_credit(type_.value)
    sign = -1 if credit else 1
    corrects = credit or net < 0 or type_.value == "384"
    return Invoice(
        number=head.text("ram:ID"),
        date=_date(head),
        seller=_party(agreement, "ram:SellerTradeParty"),
        buyer=_party(agreement, "ram:BuyerTradeParty"),
        currency=currency,
        net=sign * net,
        tax=sign * tax,
        gross=sign * gross,
        rate=only(rates),
        goods=_goods(trade),
        original=_original(settlement) if corrects else None,
    )


def _date(head: Element) -> str:
    stamp = head.one("ram:IssueDateTime/udt:DateTimeString")
    form = stamp.attributes.get("format", _DAY)
    if form != _DAY:
        raise stamp.error(
            "date_malformed", "a day of the form 102 (YYYYMMDD)", "格式 102（YYYYMMDD）的日期", form
        )
    return stamp.read("", lambda text: cells.parse_date(text, ("YYYYMMDD",)))


def _of_currency(total: Element, path: str, currency: str) -> list[Element]:
    """The amounts of a path in a currency: by its mark, and where no mark stands, of the document's."""
    return [
        each
        for each in total.find_all(path)
        if each.read_or_none("@currencyID", cells.parse_text) in (currency, None)
    ]


def _one_of(total: Element, path: str, currency: str) -> Element | None:
    found = _of_currency(total, path, currency)
    if len(found) > 1:
        raise found[1].error(
            "element_repeated", f"one amount in {currency}", f"一个以 {currency} 计的金额", f"{len(found)}"
        )
    return found[0] if found else None


def _amount(total: Element, path: str, currency: str) -> int:
    found = _one_of(total, path, currency)
    if found is None:
        raise total.error("value_missing", f"{path} in {currency}", f"以 {currency} 计的 {path}", "")
    return found.amount("", currency)


def _tax(total: Element, currency: str, *, exempt: bool) -> int:
    found = _one_of(total, "ram:TaxTotalAmount", currency)
    if found is not None:
        return found.amount("", currency)
    if exempt:
        return 0
    raise total.error("tax_missing", f"a tax total in {currency}", f"以 {currency} 计的税额合计", "")


def _party(agreement: Element, role: str) -> Party:
    party = agreement.find(role)
    if party is None:
        return make_party((), None)
    candidates = [
        vat_subject(each.value)
        for each in party.find_all("ram:SpecifiedTaxRegistration/ram:ID")
        if each.attributes.get("schemeID") == "VA"
    ]
    for path in ("ram:SpecifiedLegalOrganization/ram:ID", "ram:GlobalID", "ram:ID"):
        candidates += (
            iso6523_subject(each.attributes.get("schemeID"), each.value) for each in party.find_all(path)
        )
    names = (
        *party.find_all("ram:Name"),
        *party.find_all("ram:SpecifiedLegalOrganization/ram:TradingBusinessName"),
    )
    return make_party(candidates, next((each.text() for each in names if each.value), None))


def _goods(trade: Element) -> str | None:
    line = trade.first("ram:IncludedSupplyChainTradeLineItem")
    name = line.first("ram:SpecifiedTradeProduct/ram:Name") if line is not None else None
    return goods_text(name.value) if name is not None else None


def _original(settlement: Element) -> str | None:
    return only(
        each.text("ram:IssuerAssignedID") for each in settlement.find_all("ram:InvoiceReferencedDocument")
    )


def _documents(path: Path) -> Iterable[Document]:
    document = read_xml(path, PREFIXES)
    return (Document(document, partial(read_invoice, document)),)


def _looks(look: Look) -> bool:
    return look.root is not None and is_invoice(look.root.namespace, look.root.name)


FORMAT = Format(
    name="cii",
    title="UN/CEFACT Cross Industry Invoices, with EN 16931, XRechnung, Factur-X and ZUGFeRD 2",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EInvoiceSource(options, _documents),
)
