"""An invoice as every format of electronic invoice states it, and the record that one of its sides has of it.

Net, tax and gross are the document's own totals, in the document's own currency. A credit note is a negative
record, a red letter, that names its original where the document does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import Status
from taxledger.ledger.schemas import KINDS, Row, Schema
from taxledger.nodes.sources.cells import parse_scaled
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.parties import Party
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow
from taxledger.nodes.sources.xmlreader import Element, ElementError

__all__ = ["SCHEMA", "Document", "EInvoiceSource", "Invoice", "goods_text", "only", "percent_ppm"]

T = TypeVar("T")

SCHEMA = newest(KINDS["vat_invoice"])

_GOODS_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What one document says.

    Attributes:
        number: unique with the code, or alone when it has 20 digits, or only as the seller keeps it.
        code: of the number's series, or None.
        date: of issue, ``YYYY-MM-DD``.
        seller, buyer: see ``parties.py``.
        currency: ISO 4217; of all three amounts.
        net, tax, gross: in minor units; negative where they are taken back.
        rate: ppm, or None where there are several or none.
        goods: of the first line.
        original: number of the invoice that this one corrects.
    """

    number: str
    code: str | None = None
    date: str
    seller: Party
    buyer: Party
    currency: str
    net: int
    tax: int
    gross: int
    rate: int | None
    goods: str | None
    original: str | None

    def values(self, side: str) -> Row:
        """The fields of the record that a side has."""
        other = self.buyer if side == "sale" else self.seller
        return SCHEMA.row(
            {
                "direction": side,
                "code": self.code,
                "number": self.number,
                "date": self.date,
                "counterparty": other.counterparty,
                "currency": self.currency,
                "net": self.net,
                "tax": self.tax,
                "gross": self.gross,
                "rate": self.rate,
                "goods": self.goods,
                "original": self.original,
            }
        )


class Document(NamedTuple):
    """One document of a file.

    Attributes:
        element: where it starts.
        read: what it says. Raises ElementError.
    """

    element: Element
    read: Callable[[], Invoice]


class EInvoiceSource:
    """Files of one format, each with one document or several.

    Attributes:
        schema: ``vat_invoice``.
    """

    def __init__(
        self, options: SourceOptions, documents: Callable[[Path], Iterable[Document | BadRow]]
    ) -> None:
        """
        Args:
            options: whose record, and of which side.
            documents: those of a file, and what stands there in place of one. Raises FormatError.
        """
        self.schema: Schema = SCHEMA
        self._options = options
        self._documents = documents

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """One row for each document. Raises FormatError when the file is no such file."""
        for document in self._documents(path):
            if isinstance(document, BadRow):
                yield document
                continue
            try:
                yield self._row(document)
            except ElementError as error:
                yield error.bad_row()

    def _row(self, document: Document) -> SourceRow:
        element, invoice, options = document.element, document.read(), self._options
        subject = (invoice.seller if options.side == "sale" else invoice.buyer).subject
        if subject is None:
            party, party_zh = ("seller", "销售方") if options.side == "sale" else ("buyer", "购买方")
            raise element.error(
                "subject_missing", f"a {party} with identifier or name", f"有识别号或名称的{party_zh}", ""
            )
        if options.subject is not None and subject != options.subject:
            raise element.error(
                "subject_differs",
                f"the subject asked, {options.subject}",
                f"指定的主体 {options.subject}",
                subject,
            )
        values = invoice.values(options.side)
        try:
            SCHEMA.check_fields(values)
        except FormatError as error:
            raise element.error("fields_malformed", str(error), "符合记录格式的字段", "") from None
        return SourceRow(element.line, subject, int(Status.VALID), values)


def goods_text(text: str | None) -> str | None:
    """The name of goods on one line, cut to what a record is meant to say of them; None for nothing."""
    joined = " ".join(text.replace("\x7f", " ").split()) if text else ""
    return joined[:_GOODS_CHARACTERS].rstrip() or None


def percent_ppm(text: str) -> int:
    """``19.00`` or ``19%`` as ppm. Raises CellError."""
    ppm = parse_scaled(text.removesuffix("%").removesuffix("％").strip(), 4)
    if not 0 <= ppm <= 1_000_000:
        raise CellError("rate_malformed", "a rate of 0 to 100 percent", "0 至 100% 的税率")
    return ppm


def only(values: Iterable[T | None]) -> T | None:
    """The value that all have; None where they differ, or one has none, or there is none."""
    found = set(values)
    return found.pop() if len(found) == 1 else None
