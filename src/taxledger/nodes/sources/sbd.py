"""Standard Business Documents: the envelope in which the Peppol network carries a UBL or CII document.

Source: UN/CEFACT Standard Business Document Header 1.3; Peppol Business Message Envelope. The header says who sends to
whom over the network; the record is read from the document inside alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.einvoice import SCHEMA, Document, EInvoiceSource
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.syntaxes import PREFIXES, inner_document
from taxledger.nodes.sources.xmlreader import read_xml

__all__ = ["FORMAT"]

_NAMESPACE = "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader"


def _documents(path: Path) -> Iterable[Document]:
    envelope = read_xml(path, {**PREFIXES, "": _NAMESPACE})
    inside = [each for each in envelope.children if each.namespace != _NAMESPACE]
    if len(inside) != 1:
        raise FormatError(f"{path}: expected one document in the envelope, got {len(inside)}")
    return (inner_document(inside[0]),)


def _looks(look: Look) -> bool:
    return look.root == (_NAMESPACE, "StandardBusinessDocument")


FORMAT = Format(
    name="sbd",
    title="UBL and CII documents in the envelope of the Peppol network",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EInvoiceSource(options, _documents),
)
