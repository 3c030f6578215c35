"""OFD: Chinese electronic invoices as signed pages (GB/T 33190), a zip archive with the invoice's XML attached.

The record is read from the attached XML. What the pages' own summary says of number, date and amounts must be the
same: a file whose picture and data differ is refused. The seal is not verified: whoever attests vouches for the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.cn_einvoice import OFD_NAMESPACE, is_digital, is_older, read_digital, read_older
from taxledger.nodes.sources.einvoice import SCHEMA, Document, EInvoiceSource, Invoice
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.rows import CellError
from taxledger.nodes.sources.xmlreader import LIMITS, Element, read_xml
from taxledger.nodes.sources.zipreader import Archive

__all__ = ["FORMAT"]

_OFD = {"ofd": "http://www.ofdspec.org/2016"}
_SUMMARY = "OFD.xml"
_ATTACHED = "original_invoice.xml"


def _documents(options: SourceOptions, path: Path) -> Iterable[Document]:
    with Archive(path) as archive:
        found = [name for name in archive.names if PurePosixPath(name).name == _ATTACHED]
        if len(found) != 1:
            raise FormatError(f"{path}: expected one {_ATTACHED} in the OFD file, got {len(found)}")
        data = archive.read(found[0], LIMITS.bytes_max)
        summary = archive.read(_SUMMARY, LIMITS.bytes_max)
    try:
        document = read_xml(data, {"": OFD_NAMESPACE})
        if is_digital(document.namespace, document.name):
            document = read_xml(data, {"": ""})
        elif not is_older(document.namespace, document.name):
            raise FormatError(f"expected an invoice, got the root element {document.name[:80]!r}")
        said = _said(read_xml(summary, _OFD))
    except FormatError as error:
        raise FormatError(f"{path}: {found[0]}: {error}") from error
    return (Document(document, partial(_read, document, options, said)),)


def _said(summary: Element) -> dict[str, str]:
    return {
        each.attributes.get("Name", ""): each.value
        for each in summary.find_all("ofd:DocBody/ofd:DocInfo/ofd:CustomDatas/ofd:CustomData")
        if each.value
    }


def _read(document: Element, options: SourceOptions, said: dict[str, str]) -> Invoice:
    read = read_digital if is_digital(document.namespace, document.name) else read_older
    invoice = read(document, options)
    stated = {
        "发票代码": invoice.code,
        "发票号码": invoice.number,
        "开票日期": invoice.date,
        "合计金额": invoice.net,
        "合计税额": invoice.tax,
        "价税合计": invoice.gross,
    }
    for name, value in stated.items():
        shown = said.get(name)
        if shown is not None and _value(shown, value) != value:
            expected, expected_zh = f"{name} {shown}, as the page shows", f"与版面一致的{name} {shown}"
            raise document.error("document_differs", expected, expected_zh, str(value))
    return invoice


def _value(shown: str, like: str | int | None) -> str | int | None:
    """What the page shows, in the form of the value that it should be."""
    try:
        if isinstance(like, int):
            return cells.parse_amount(shown.lstrip("¥￥"), "CNY")
        if like is not None and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", like):
            return cells.parse_date(shown, ("YYYY年M月D日", "YYYY-M-D", "YYYYMMDD"))
    except CellError:
        return None
    return shown


def _looks(look: Look) -> bool:
    return _SUMMARY in look.members


FORMAT = Format(
    name="ofd",
    title="Chinese electronic invoices as OFD files",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EInvoiceSource(options, partial(_documents, options)),
)
