"""NAV Online Invoice 3.0: invoices as their sellers report them to the Hungarian tax authority.

Source: NAV, Online Számla 3.0 (``invoiceData.xsd``). A modification is a document of its own that states the
differences, with the number of the invoice that it changes: a record of its own too, negative where it takes back. A
simplified invoice states gross amounts alone, and what would have to be computed is not attested: it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.einvoice import SCHEMA, Document, EInvoiceSource, Invoice, goods_text, only
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.parties import Party, make_party, vat_subject
from taxledger.nodes.sources.xmlreader import Element, read_xml

__all__ = ["FORMAT", "read_invoice"]

_OSA = "http://schemas.nav.gov.hu/OSA/"
_PREFIXES = {"": f"{_OSA}3.0/data", "base": f"{_OSA}3.0/base"}


def read_invoice(document: Element, invoice: Element) -> Invoice:
    """An ``invoice`` element of an ``InvoiceData`` document. Raises ElementError."""
    detail = invoice.one("invoiceHead/invoiceDetail")
    category = detail.text("invoiceCategory")
    if category == "SIMPLIFIED":
        raise detail.one("invoiceCategory").error(
            "net_not_stated", "an invoice that states net and tax", "列明不含税金额和税额的发票"
        )
    currency = detail.read("currencyCode", cells.parse_currency)
    # The amounts of the invoice's own currency; those in HUF beside them are for the authority.
    total = invoice.one("invoiceSummary/summaryNormal")
    line = invoice.first("invoiceLines/line")
    return Invoice(
        number=document.text("invoiceNumber"),
        date=document.date("invoiceIssueDate"),
        seller=_seller(invoice),
        buyer=_buyer(invoice),
        currency=currency,
        net=total.amount("invoiceNetAmount", currency),
        tax=total.amount("invoiceVatAmount", currency),
        gross=invoice.amount("invoiceSummary/summaryGrossData/invoiceGrossAmount", currency),
        rate=only(
            each.read_or_none("vatRate/vatPercentage", lambda text: cells.parse_scaled(text, 6))
            for each in total.find_all("summaryByVatRate")
        ),
        goods=goods_text(line.read_or_none("lineDescription", str)) if line is not None else None,
        original=invoice.text_or_none("invoiceReference/originalInvoiceNumber"),
    )


def _seller(invoice: Element) -> Party:
    party = invoice.one("invoiceHead/supplierInfo")
    numbers = _numbers(party, "groupMemberTaxNumber", "supplierTaxNumber")
    return make_party(numbers, party.text_or_none("supplierName"))


def _buyer(invoice: Element) -> Party:
    party = invoice.find("invoiceHead/customerInfo")
    if party is None:
        return make_party((), None)
    data = "customerVatData/customerTaxNumber"
    numbers = _numbers(party, f"{data}/groupMemberTaxNumber", data)
    community = party.text_or_none("customerVatData/communityVatNumber")
    return make_party(
        [*numbers, vat_subject(community) if community else None], party.text_or_none("customerName")
    )


def _numbers(party: Element, *paths: str) -> list[str | None]:
    """Tax numbers by their eight digits: of the group's member first, because the group is no enterprise."""
    found = [party.text_or_none(f"{path}/base:taxpayerId") for path in paths]
    return [f"hu-tax:{each}" if each else None for each in found]


def _documents(path: Path) -> Iterable[Document]:
    document = read_xml(path, _PREFIXES)
    if document.namespace != _PREFIXES[""]:
        raise FormatError(f"{path}: expected InvoiceData of OSA 3.0, got {document.namespace[:80]!r}")
    # Several where one document changes many originals at once.
    invoices = document.find_all("invoiceMain/invoice") + document.find_all(
        "invoiceMain/batchInvoice/invoice"
    )
    if not invoices:
        raise FormatError(f"{path}: expected an invoice, got an InvoiceData without one")
    return [Document(each, partial(read_invoice, document, each)) for each in invoices]


def _looks(look: Look) -> bool:
    return look.root is not None and look.root.name == "InvoiceData" and look.root.namespace.startswith(_OSA)


FORMAT = Format(
    name="nav",
    title="NAV Online Invoice 3.0, invoices reported to the Hungarian tax authority",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EInvoiceSource(options, _documents),
)
