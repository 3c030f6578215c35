"""A UBL or CII invoice inside another document: whichever of the two its own root element says."""

from __future__ import annotations

from functools import partial

from taxledger.nodes.sources import cii, ubl
from taxledger.nodes.sources.einvoice import Document, Invoice
from taxledger.nodes.sources.xmlelement import Element

__all__ = ["PREFIXES", "inner_document"]

PREFIXES = {**ubl.PREFIXES, **cii.PREFIXES}
"""To read the document around it with."""


def inner_document(element: Element) -> Document:
    """The document that starts at an element; reading one that is no invoice raises ElementError."""
    return Document(element, partial(_read, element))


def _read(element: Element) -> Invoice:
    if ubl.is_invoice(element.namespace, element.name):
        return ubl.read_invoice(element)
    if cii.is_invoice(element.namespace, element.name):
        return cii.read_invoice(element)
    raise element.error("not_an_invoice", "a UBL or CII invoice", "UBL 或 CII 发票", element.name)
