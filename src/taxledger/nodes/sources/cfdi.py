"""CFDI 3.2, 3.3 and 4.0: the Mexican electronic invoices, stamped by the tax authority's certifiers.

Source: SAT, Anexo 20. The number of a record is the stamp's UUID, unique in the country; a document without stamp is no
fiscal document. Net is SubTotal less Descuento, tax all taxes transferred (federal and local), and gross the Total with
the taxes withheld put back: the buyer pays those to the authority. An egreso is negative. Payments (P), transfers (T)
and payrolls (N) are no invoices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from taxledger.ledger.errors import FormatError
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
from taxledger.nodes.sources.parties import Party, make_party
from taxledger.nodes.sources.rows import CellError
from taxledger.nodes.sources.xmlreader import Element, read_xml

__all__ = ["FORMAT", "read_invoice"]

T = TypeVar("T")

_SAT = "http://www.sat.gob.mx/"
_NAMESPACES = {"3.2": f"{_SAT}cfd/3", "3.3": f"{_SAT}cfd/3", "4.0": f"{_SAT}cfd/4"}
_SIGNS = {"I": 1, "INGRESO": 1, "E": -1, "EGRESO": -1}
_OTHER_TYPES = {
    "P": "a payment",
    "T": "a transfer",
    "TRASLADO": "a transfer",
    "N": "a payroll",
    "NOMINA": "a payroll",
}
_ANYBODY = ("XAXX010101000", "XEXX010101000")
"""The RFC of the general public and that of all foreigners: no identifier."""
_CODE = "UUID"
_CORRECTIONS = ("01", "03")
"""Relations of a credit note: to what it reduces, to what is given back."""


def read_invoice(document: Element) -> Invoice:
    """The invoice of a root element read with the prefixes of its version. Raises ElementError."""
    type_ = _read(document, "TipoDeComprobante", cells.parse_text).upper()
    sign = _SIGNS.get(type_)
    if sign is None:
        shown = _OTHER_TYPES.get(type_, type_)
        raise document.error(
            "not_an_invoice",
            "TipoDeComprobante I or E, an invoice or credit note",
            "TipoDeComprobante 为 I 或 E",
            shown,
        )
    currency = _read_or_none(document, "Moneda", cells.parse_currency) or "MXN"
    net = _amount(document, "SubTotal", currency) - _amount(document, "Descuento", currency, absent=0)
    taxes = document.find("Impuestos")
    added = withheld = 0
    if taxes is not None:
        added = _amount(taxes, "TotalImpuestosTrasladados", currency, absent=0)
        withheld = _amount(taxes, "TotalImpuestosRetenidos", currency, absent=0)
    for local in document.find_all("Complemento/local:ImpuestosLocales"):
        added += _amount(local, "TotaldeTraslados", currency, absent=0)
        withheld += _amount(local, "TotaldeRetenciones", currency, absent=0)
    concept = document.first("Conceptos/Concepto")
    return Invoice(
        code=_CODE,
        number=document.read("Complemento/stamp:TimbreFiscalDigital/@UUID", _uuid),
        date=_read(document, "Fecha", cells.parse_iso_date),
        seller=_party(document, "Emisor"),
        buyer=_party(document, "Receptor"),
        currency=currency,
        net=sign * net,
        tax=sign * added,
        gross=sign * (_amount(document, "Total", currency) + withheld),
        rate=_rate(taxes),
        goods=goods_text(_read_or_none(concept, "Descripcion", str) if concept is not None else None),
        original=_original(document) if sign < 0 else None,
    )


# Version 3.2 writes attributes with a small first letter, later ones with a capital.


def _read_or_none(element: Element, name: str, parse: Callable[[str], T]) -> T | None:
    written = name if name in element.attributes else name[0].lower() + name[1:]
    return element.read_or_none(f"@{written}", parse)


def _read(element: Element, name: str, parse: Callable[[str], T]) -> T:
    found = _read_or_none(element, name, parse)
    return element.read(f"@{name}", parse) if found is None else found


def _amount(element: Element, name: str, currency: str, *, absent: int | None = None) -> int:
    found = _read_or_none(element, name, lambda text: cells.parse_amount(text, currency))
    if found is None and absent is not None:
        return absent
    return element.amount(f"@{name}", currency) if found is None else found


def _uuid(text: str) -> str:
    upper = text.upper()
    if [len(part) for part in upper.split("-")] != [8, 4, 4, 4, 12] or set(upper) - set("-0123456789ABCDEF"):
        raise CellError("number_malformed", "a UUID of a stamp", "税务认证戳的 UUID")
    return upper


def _party(document: Element, role: str) -> Party:
    party = document.find(role)
    if party is None:
        return make_party((), None)
    rfc = _read_or_none(party, "Rfc", cells.parse_text)
    known = rfc is not None and rfc.upper() not in _ANYBODY
    return make_party([f"mx-rfc:{rfc}"] if known else (), _read_or_none(party, "Nombre", str))


def _rate(taxes: Element | None) -> int | None:
    if taxes is None:
        return None
    rates = []
    for part in taxes.find_all("Traslados/Traslado"):
        fraction = _read_or_none(part, "TasaOCuota", lambda text: cells.parse_scaled(text, 6))
        rates.append(fraction if fraction is not None else _read_or_none(part, "Tasa", percent_ppm))
    rate = only(rates)
    return rate if rate is not None and rate <= 1_000_000 else None


def _original(document: Element) -> str | None:
    return only(
        each.read("@UUID", _uuid)
        for relations in document.find_all("CfdiRelacionados")
        if relations.attributes.get("TipoRelacion") in _CORRECTIONS
        for each in relations.find_all("CfdiRelacionado")
    )


def _documents(path: Path) -> Iterable[Document]:
    prefixes = {"stamp": f"{_SAT}TimbreFiscalDigital", "local": f"{_SAT}implocal"}
    document = read_xml(path, {**prefixes, "": _NAMESPACES["4.0"]})
    if document.namespace == _NAMESPACES["3.3"]:
        document = read_xml(path, {**prefixes, "": _NAMESPACES["3.3"]})
    version = document.attributes.get("Version") or document.attributes.get("version") or ""
    if _NAMESPACES.get(version) != document.namespace or document.name != "Comprobante":
        raise FormatError(f"{path}: expected a CFDI of version {', '.join(_NAMESPACES)}, got {version!r:.20}")
    return (Document(document, partial(read_invoice, document)),)


def _looks(look: Look) -> bool:
    return (
        look.root is not None
        and look.root.name == "Comprobante"
        and look.root.namespace in _NAMESPACES.values()
    )


FORMAT = Format(
    name="cfdi",
    title="CFDI 3.2, 3.3 and 4.0, Mexican invoices",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EInvoiceSource(options, _documents),
)
