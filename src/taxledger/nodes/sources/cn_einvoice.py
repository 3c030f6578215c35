"""Chinese electronic invoices as XML: the fully digital one (数电票), and the one that OFD files of before carry.

Source: State Taxation Administration, electronic invoice XML (root ``EInvoice``); GB/T 33190 OFD with the ``eInvoice``
of 2019. A fully digital invoice is known by 20 digits, an older one by code and number. A red letter is negative, and
names its original in the remarks, where the regulations want it.

A taxpayer number of 18 characters is a unified social credit code, and its check character is verified: an invoice of a
subject that fails is refused, because a mistyped code would put it under nobody, or under another. Only a person who
asks for exactly ``cn-tin:`` and that number (``--subject``) has it taken as it stands. Numbers of other lengths are
``cn-tin``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import parse_subject
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
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.parties import Party, make_party
from taxledger.nodes.sources.rows import CellError
from taxledger.nodes.sources.xmlreader import Element, read_xml

__all__ = ["FORMAT", "OFD_NAMESPACE", "is_digital", "is_older", "read_digital", "read_older"]

OFD_NAMESPACE = "http://www.edrm.org.cn/schema/e-invoice/2019"
_CURRENCY = "CNY"
_ORIGINAL_DIGITAL = re.compile(
    r"(?:被红冲|对应)蓝字(?:数电)?(?:发票|票)?号码?\s*[:：]?\s*([0-9]{20})(?![0-9])"
)
_ORIGINAL_OLDER = re.compile(
    r"对应(?:正数|蓝字)?发票代码\s*[:：]?\s*([0-9]{10}|[0-9]{12})\s*[,，;；]?\s*(?:发票)?号码\s*[:：]?\s*([0-9]{8})(?![0-9])"
)
_DIGITAL_NUMBER = re.compile(r"[0-9]{20}")


def is_digital(namespace: str, name: str) -> bool:
    """Whether a root element is that of a fully digital invoice."""
    return name == "EInvoice" and not namespace


def is_older(namespace: str, name: str) -> bool:
    """Whether a root element is that of an invoice inside an OFD file of before."""
    return name == "eInvoice" and namespace in ("", OFD_NAMESPACE)


def read_digital(document: Element, options: SourceOptions) -> Invoice:
    """The invoice of an ``EInvoice``. Raises ElementError."""
    data, tax_office = document.one("EInvoiceData"), document.one("TaxSupervisionInfo")
    number = tax_office.read("InvoiceNumber", _digital_number)
    inside = document.text_or_none("Header/EIid")
    if inside is not None and inside != number:
        raise document.one("Header/EIid").error(
            "number_differs", f"the number {number}", f"发票号码 {number}"
        )
    basic = data.one("BasicInformation")
    items = data.find_all("IssuItemInformation")
    # The day that the invoice shows is that of the request; the office's stamp may be of a minute after midnight.
    date = basic.read_or_none("RequestTime", _day) or tax_office.read("IssueTime", _day)
    return Invoice(
        number=number,
        date=date,
        seller=_party(data, "SellerInformation/SellerIdNum", "SellerInformation/SellerName", options, "sale"),
        buyer=_party(data, "BuyerInformation/BuyerIdNum", "BuyerInformation/BuyerName", options, "purchase"),
        currency=_CURRENCY,
        net=basic.amount("TotalAmWithoutTax", _CURRENCY),
        tax=basic.amount("TotalTaxAm", _CURRENCY),
        gross=basic.amount("TotalTax-includedAmount", _CURRENCY),
        rate=only(each.read_or_none("TaxRate", _rate) for each in items),
        goods=goods_text(items[0].read_or_none("ItemName", str)) if items else None,
        original=_original(data.read_or_none("AdditionalInformation/Remark", str)),
    )


def read_older(document: Element, options: SourceOptions) -> Invoice:
    """The invoice of an ``eInvoice`` read with the prefix ``""`` for its fields. Raises ElementError."""
    code = document.text_or_none("InvoiceCode")
    number = document.read("InvoiceNo", _digital_number if code is None else _older_number)
    items = document.find_all("GoodsInfos/GoodsInfo")
    return Invoice(
        code=document.read("InvoiceCode", _older_code) if code is not None else None,
        number=number,
        date=document.read("IssueDate", _day),
        seller=_party(document, "Seller/SellerTaxID", "Seller/SellerName", options, "sale"),
        buyer=_party(document, "Buyer/BuyerTaxID", "Buyer/BuyerName", options, "purchase"),
        currency=_CURRENCY,
        net=document.amount("TaxExclusiveTotalAmount", _CURRENCY),
        tax=document.amount("TaxTotalAmount", _CURRENCY),
        gross=document.amount("TaxInclusiveTotalAmount", _CURRENCY),
        rate=only(each.read_or_none("TaxScheme", _rate) for each in items),
        goods=goods_text(items[0].read_or_none("Item", str)) if items else None,
        original=_original(document.read_or_none("Note", str)),
    )


def _digital_number(text: str) -> str:
    if not _DIGITAL_NUMBER.fullmatch(text):
        raise CellError("number_malformed", "an invoice number of 20 digits", "20 位发票号码")
    return text


def _older_number(text: str) -> str:
    if len(text) != 8 or not text.isascii() or not text.isdigit():
        raise CellError("number_malformed", "an invoice number of 8 digits", "8 位发票号码")
    return text


def _older_code(text: str) -> str:
    if len(text) not in (10, 12) or not text.isascii() or not text.isdigit():
        raise CellError("number_malformed", "an invoice code of 10 or 12 digits", "10 位或 12 位发票代码")
    return text


def _day(text: str) -> str:
    """``2024-01-05 10:20:30``, ``2024年1月5日`` or ``20240105``."""
    day = text.split(" ")[0].split("T")[0]
    return cells.parse_date(day, ("YYYY-M-D", "YYYY年M月D日", "YYYYMMDD", "YYYY/M/D"))


def _rate(text: str) -> int | None:
    """``0.13`` or ``13%``; None for 免税, 不征税 and ``***``, which are no rates."""
    if text.endswith(("%", "％")):
        return percent_ppm(text)
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text):
        return None
    ppm = cells.parse_scaled(text, 6)
    if ppm > 1_000_000:
        raise CellError("rate_malformed", "a rate like 0.13 or 13%", "税率，例如 0.13 或 13%")
    return ppm


def _party(element: Element, number: str, name: str, options: SourceOptions, side: str) -> Party:
    tax_number = (element.text_or_none(number) or "").upper()
    shown = element.text_or_none(name)
    if not tax_number:
        return make_party((), shown)
    asked = f"cn-tin:{tax_number}"
    if len(tax_number) != 18 or options.subject == asked:
        return make_party([asked], shown)
    try:
        parse_subject(f"uscc:{tax_number}")
    except FormatError as error:
        if side != options.side:
            # The other side's record is not made from this: its number stands as it is written.
            return make_party([asked], shown)
        raise element.one(number).error(
            "subject_malformed", str(error), "校验位正确的统一社会信用代码"
        ) from None
    return make_party([f"uscc:{tax_number}"], shown)


def _original(remark: str | None) -> str | None:
    if remark is None:
        return None
    found = [match[1] for match in _ORIGINAL_DIGITAL.finditer(remark)]
    found += [match[1] + match[2] for match in _ORIGINAL_OLDER.finditer(remark)]
    return only(found)


def open_cn(options: SourceOptions) -> EInvoiceSource:
    """A source of XML files with one invoice each."""

    def documents(path: Path) -> Iterable[Document]:
        document = read_xml(path, {"": ""})
        if is_older(document.namespace, document.name):
            document = read_xml(path, {"": OFD_NAMESPACE})
            return (Document(document, partial(read_older, document, options)),)
        return (Document(document, partial(read_digital, document, options)),)

    return EInvoiceSource(options, documents)


def _looks(look: Look) -> bool:
    return look.root is not None and (is_digital(*look.root) or is_older(*look.root))


FORMAT = Format(
    name="cn",
    title="Chinese electronic invoices as XML: fully digital (数电票), and of the older form",
    schema=SCHEMA,
    looks=_looks,
    open=open_cn,
)
