"""UBL 2.x invoices and credit notes: also EN 16931, Peppol BIS 3 and XRechnung, which are UBL with stricter rules.

Source: OASIS Universal Business Language 2.0–2.4; EN 16931-1 for what the totals mean. Net is TaxExclusiveAmount and
gross TaxInclusiveAmount; what is prepaid, rounded or left to pay is none of them. Tax is the total in the document's
currency: a second total in the seller's accounting currency stays out.
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

_UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
PREFIXES = {"cac": f"{_UBL}CommonAggregateComponents-2", "cbc": f"{_UBL}CommonBasicComponents-2"}

_INVOICES = ("Invoice", "SelfBilledInvoice", "FreightInvoice")
_CREDIT_NOTES = ("CreditNote", "SelfBilledCreditNote")


def is_invoice(namespace: str, name: str) -> bool:
    """Whether a root element is one that ``read_invoice`` reads."""
    return name in _INVOICES + _CREDIT_NOTES and namespace == f"{_UBL}{name}-2"


def read_invoice(document: Element) -> Invoice:
    """The invoice or credit note of a root element read with ``PREFIXES``. Raises ElementError."""
    type_ = document.find("cbc:InvoiceTypeCode") or document.find("cbc:CreditNoteTypeCode")
    if type_ is not None:
        check_type(type_)
    credit = document.name in _CREDIT_NOTES or (type_ is not None and is_credit(type_.value))
    total = document.one("cac:LegalMonetaryTotal")
    currency = document.read_or_none("cbc:DocumentCurrencyCode", cells.parse_currency)
    if currency is None:
        # UBL 2.0 may leave it to the amounts.
        currency = total.read("cbc:TaxExclusiveAmount/@currencyID", cells.parse_currency)
    net = _amount(total, "cbc:TaxExclusiveAmount", currency)
    gross = _gross(total, currency)
    tax, rate = _tax(document, currency, exempt=net == gross)
    sign = -1 if credit else 1
    corrects = credit or net < 0 or (type_ is not None and type_.value == "384")
    return Invoice(
        number=document.text("cbc:ID"),
        date=document.date("cbc:IssueDate"),
        seller=_party(document, "cac:AccountingSupplierParty"),
        buyer=_party(document, "cac:AccountingCustomerParty"),
        currency=currency,
        net=sign * net,
        tax=sign * tax,
        gross=sign * gross,
        rate=rate,
        goods=_goods(document),
        original=_original(document) if corrects else None,
    )


def _amount(element: Element, path: str, currency: str) -> int:
    stated = element.read_or_none(f"{path}/@currencyID", cells.parse_text)
    if stated is not None and stated != currency:
        raise element.one(path).error(
            "currency_differs", f"an amount in {currency}", f"以 {currency} 计的金额", stated
        )
    return element.amount(path, currency)


def _gross(total: Element, currency: str) -> int:
    if total.find("cbc:TaxInclusiveAmount") is not None:
        return _amount(total, "cbc:TaxInclusiveAmount", currency)
    # UBL 2.0 only: what is to be paid, with what was paid before and without its rounding.
    payable = _amount(total, "cbc:PayableAmount", currency)
    prepaid, rounded = (
        _amount(total, path, currency) if total.find(path) is not None else 0
        for path in ("cbc:PrepaidAmount", "cbc:PayableRoundingAmount")
    )
    return payable + prepaid - rounded


def _tax(document: Element, currency: str, *, exempt: bool) -> tuple[int, int | None]:
    """(tax, the one rate): of the totals in the document's currency, those with a breakdown where any has one."""
    totals = [
        each
        for each in document.find_all("cac:TaxTotal")
        if each.read_or_none("cbc:TaxAmount/@currencyID", cells.parse_text) in (currency, None)
    ]
    if not totals:
        if exempt:
            return 0, None
        raise document.error("tax_missing", f"a tax total in {currency}", f"以 {currency} 计的税额合计", "")
    detailed = [each for each in totals if each.find_all("cac:TaxSubtotal")]
    if len(totals) > 1 and not detailed:
        raise totals[1].error(
            "element_repeated",
            f"one tax total in {currency}",
            f"一个以 {currency} 计的税额合计",
            f"{len(totals)}",
        )
    chosen = detailed or totals
    rates = [
        part.read_or_none("cac:TaxCategory/cbc:Percent", percent_ppm)
        for each in chosen
        for part in each.find_all("cac:TaxSubtotal")
    ]
    return sum(each.amount("cbc:TaxAmount", currency) for each in chosen), only(rates)


def _party(document: Element, role: str) -> Party:
    party = document.find(f"{role}/cac:Party")
    if party is None:
        return make_party((), None)
    candidates: list[str | None] = []
    for scheme in party.find_all("cac:PartyTaxScheme"):
        kind = (scheme.text_or_none("cac:TaxScheme/cbc:ID") or "").upper()
        number = scheme.text_or_none("cbc:CompanyID")
        if number and (kind.endswith("VAT") or not kind):
            candidates.append(vat_subject(number))
    for path in ("cac:PartyLegalEntity/cbc:CompanyID", "cac:PartyIdentification/cbc:ID"):
        candidates += (
            iso6523_subject(each.attributes.get("schemeID"), each.value) for each in party.find_all(path)
        )
    names = (
        *party.find_all("cac:PartyLegalEntity/cbc:RegistrationName"),
        *party.find_all("cac:PartyName/cbc:Name"),
    )
    return make_party(candidates, next((each.text() for each in names if each.value), None))


def _goods(document: Element) -> str | None:
    line = document.first("cac:InvoiceLine") or document.first("cac:CreditNoteLine")
    name = line.first("cac:Item/cbc:Name") if line is not None else None
    return goods_text(name.value) if name is not None else None


def _original(document: Element) -> str | None:
    references = document.find_all("cac:BillingReference")
    for lines in () if references else ("cac:CreditNoteLine", "cac:InvoiceLine"):
        references += document.find_all(f"{lines}/cac:BillingReference")
    return only(
        each.text("cbc:ID")
        for reference in references
        for each in (
            *reference.find_all("cac:InvoiceDocumentReference"),
            *reference.find_all("cac:CreditNoteDocumentReference"),
        )
    )


def _documents(path: Path) -> Iterable[Document]:
    document = read_xml(path, PREFIXES)
    return (Document(document, partial(read_invoice, document)),)


def _looks(look: Look) -> bool:
    return look.root is not None and is_invoice(look.root.namespace, look.root.name)


FORMAT = Format(
    name="ubl",
    title="UBL 2.x invoices and credit notes, with EN 16931, Peppol BIS 3 and XRechnung",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EInvoiceSource(options, _documents),
)
