"""What a record keeps of a customs declaration in the WCO data model (DMS), and how an amendment changes it.

An amendment states parts of a declaration, goods items by their number: ``merge`` lays it over what stands. Nothing
is taken away by it: a part that an amendment removes is named by a pointer alone, and none of these can be removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from taxledger.ledger.schemas import Value, is_date
from taxledger.nodes.sources.cells import parse_text
from taxledger.nodes.sources.rows import CellError
from taxledger.nodes.sources.xmlreader import Element

__all__ = ["Declaration", "Money", "merge", "read_date", "read_declaration", "record_fields", "wco"]

Money = tuple[str, int]
"""(ISO 4217, minor units)."""

_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:[0-9]{6})?(?:Z|[+-][0-9]{2}(?:[0-9]{2})?)?")
_GOODS_BYTES = 900
_ITEMS_MAX = 9_999


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A goods item; None: not stated."""

    description: str | None = None
    commodity: str | None = None
    mass: str | None = None
    procedure: str | None = None
    charge: Money | None = None
    customs: Money | None = None
    statistical: Money | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a declaration, or an amendment of one, states; None: not stated.

    Attributes:
        importer, exporter, consignee, declarant: identifier, else name.
        invoiced: total that was invoiced.
        origin, destination: countries that the goods are sent from and to.
        items: by number.
    """

    importer: str | None = None
    exporter: str | None = None
    consignee: str | None = None
    declarant: str | None = None
    invoiced: Money | None = None
    origin: str | None = None
    destination: str | None = None
    items: Mapping[int, _Item] = field(default_factory=dict)


def wco(path: str) -> str:
    """A path of elements of any namespace: declarations come in several, notifications in none."""
    return "/".join(each if each.startswith("@") else f"*:{each}" for each in path.split("/"))


def read_declaration(element: Element) -> Declaration:
    """The parts of a ``Declaration`` element. Raises ElementError."""
    items: dict[int, _Item] = {}
    for each in element.find_all(wco("GoodsShipment/GovernmentAgencyGoodsItem")):
        number = each.read(wco("SequenceNumeric"), _number)
        if number in items:
            raise each.error(
                "element_repeated", f"item {number} once", f"第 {number} 项只出现一次", str(number)
            )
        items[number] = _read_item(each)
    return Declaration(
        importer=_party(element, "GoodsShipment/Importer"),
        exporter=_party(element, "Exporter"),
        consignee=_party(element, "GoodsShipment/Consignee"),
        declarant=_party(element, "Declarant"),
        invoiced=_money(element, "InvoiceAmount"),
        origin=element.text_or_none(wco("GoodsShipment/ExportCountry/ID")),
        destination=element.text_or_none(wco("GoodsShipment/Destination/CountryCode")),
        items=items,
    )


def _read_item(element: Element) -> _Item:
    commodity = next(
        (
            each.text(wco("ID"))
            for each in element.find_all(wco("Commodity/Classification"))
            if each.text_or_none(wco("IdentificationTypeCode")) in ("TSP", None)
        ),
        None,
    )
    procedure = element.first(wco("GovernmentProcedure"))
    codes = (
        []
        if procedure is None
        else [procedure.text_or_none(wco(f"{each}Code")) for each in ("Current", "Previous")]
    )
    return _Item(
        description=element.text_or_none(wco("Commodity/Description")),
        commodity=commodity,
        mass=element.text_or_none(wco("Commodity/GoodsMeasure/NetNetWeightMeasure")),
        procedure="".join(each for each in codes if each) or None,
        charge=_money(element, "Commodity/InvoiceLine/ItemChargeAmount"),
        customs=_money(element, "CustomsValueAmount"),
        statistical=_money(element, "StatisticalValueAmount"),
    )


def _party(element: Element, path: str) -> str | None:
    return element.text_or_none(wco(f"{path}/ID")) or element.text_or_none(wco(f"{path}/Name"))


def _money(element: Element, path: str) -> Money | None:
    amount = element.find(wco(path))
    if amount is None or not amount.value:
        return None
    currency = amount.read("@currencyID", parse_text)
    return currency, amount.amount("", currency)


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _ITEMS_MAX:
        raise CellError(
            "number_malformed", f"a number from 1 to {_ITEMS_MAX:,}", f"1 至 {_ITEMS_MAX:,} 的序号"
        )
    return int(text)


def read_date(element: Element, path: str) -> str | None:
    """The day of a ``DateTimeString`` (code 304 or 102) as ``YYYY-MM-DD``, or None. Raises ElementError."""
    return element.read_or_none(wco(f"{path}/DateTimeString"), _parse_date)


def _parse_date(text: str) -> str:
    match = _DATE.fullmatch(text)
    day = "-".join(match.groups()) if match else ""
    if not is_date(day):
        raise CellError("date_malformed", "a day as YYYYMMDD", "格式为 YYYYMMDD 的日期")
    return day


T = TypeVar("T", Declaration, _Item)


def merge(base: Declaration, change: Declaration) -> Declaration:
    """What stands when an amendment is laid over a declaration."""
    items = dict(base.items)
    for number, item in change.items.items():
        items[number] = _overlay(items.get(number, _Item()), item)
    return replace(_overlay(base, change), items=items)


def _overlay(base: T, change: T) -> T:
    stated = {each.name: getattr(change, each.name) for each in fields(change)}
    return replace(base, **{name: value for name, value in stated.items() if value is not None})


def record_fields(
    declaration: Declaration, *, imported: bool, type_code: str, amended: int
) -> dict[str, Value]:
    """The fields of a record that a declaration gives, with how many amendments are in it.

    Raises:
        CellError: its amounts are of several currencies.
    """
    items = [item for _number, item in sorted(declaration.items.items())]
    procedure = " ".join(each for each in (type_code, items[0].procedure if items else None) if each)
    total = _total(declaration, items)
    return {
        "procedure": f"{procedure}, amended {amended}" if amended else procedure,
        "country": declaration.origin if imported else declaration.destination,
        "counterparty": declaration.exporter if imported else declaration.consignee,
        "goods": _goods(items),
        "currency": None if total is None else total[0],
        "value": None if total is None else total[1],
    }


def _total(declaration: Declaration, items: list[_Item]) -> Money | None:
    """What was invoiced, else the sum of what all items state: price, else customs value, else statistical value."""
    if declaration.invoiced is not None:
        return declaration.invoiced
    for name in ("charge", "customs", "statistical"):
        amounts = [amount for item in items if (amount := getattr(item, name)) is not None]
        if amounts and len(amounts) == len(items):
            if len({currency for currency, _ in amounts}) > 1:
                raise CellError("currency_differs", "items of one currency", "各项币种一致")
            return amounts[0][0], sum(amount for _, amount in amounts)
    return None


def _goods(items: list[_Item]) -> str | None:
    """Code, description and net mass of every item, as far as they fit."""
    text = ""
    for number, item in enumerate(items):
        words = " ".join(each for each in (item.commodity, item.description) if each)
        words += f" ({item.mass} kg)" if item.mass else ""
        longer = f"{text}; {words}" if text else words
        if len(longer.encode()) > _GOODS_BYTES:
            return (
                f"{text}; and {len(items) - number} more"
                if text
                else words.encode()[:_GOODS_BYTES].decode("utf-8", "ignore")
            )
        text = longer
    return text.strip() or None
