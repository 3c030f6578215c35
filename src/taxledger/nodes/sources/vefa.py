"""Test sets of the VEFA validator: many small UBL or CII documents a file, labelled with the rules they keep or break.

Each document is one row. One that its set labels as wrong is refused with the rules it breaks, whatever else it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.einvoice import SCHEMA, Document, EInvoiceSource
from taxledger.nodes.sources.formats import Format, Look
from taxledger.nodes.sources.rows import BadRow
from taxledger.nodes.sources.syntaxes import PREFIXES, inner_document
from taxledger.nodes.sources.xmlreader import read_xml

__all__ = ["FORMAT"]

_NAMESPACE = "http://difi.no/xsd/vefa/validator/1.0"
_WRONG = ("error", "fatal", "warning")


def _documents(path: Path) -> Iterator[Document | BadRow]:
    root = read_xml(path, {**PREFIXES, "": _NAMESPACE})
    tests = root.find_all("test")
    if not tests:
        raise FormatError(f"{path}: expected a test set with documents, got none")
    for test in tests:
        broken = [each.value for name in _WRONG for each in test.find_all(f"assert/{name}")]
        documents = [each for each in test.children if each.namespace != _NAMESPACE]
        if broken:
            error = test.error(
                "labelled_invalid",
                "a document that its set labels as right",
                "测试集标为正确的单据",
                ", ".join(broken),
            )
            yield error.bad_row()
        elif len(documents) != 1:
            yield test.error("element_repeated", "one document", "一份单据", f"{len(documents)}").bad_row()
        else:
            yield inner_document(documents[0])


def _looks(look: Look) -> bool:
    return look.root == (_NAMESPACE, "testSet")


FORMAT = Format(
    name="vefa",
    title="test sets of UBL and CII documents (VEFA validator)",
    schema=SCHEMA,
    looks=_looks,
    open=lambda options: EInvoiceSource(options, _documents),
)
