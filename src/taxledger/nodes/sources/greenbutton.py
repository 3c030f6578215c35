"""Meter readings of Green Button (ESPI, Atom XML), summed to local months, one record a meter and month.

Source: NAESB REQ.21 (ESPI 1.1). Only energy or volume that was delivered counts, in intervals (``deltaData``). A
reading belongs to the local month in which it begins. All files of an upload are looked at together: their readings
of a month are one sum, and one that stands in several files counts once, as the last of them has it.

The sum of a month is rounded half up, once: usage to Wh, cost (stated in 1/100,000 of the currency) to the minor unit.
A month that the readings do not fill says so in ``tariff``; an upload with more of it replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import Row, Schema, Value
from taxledger.nodes.sources.currencies import MINOR_DIGITS
from taxledger.nodes.sources.espitime import SECONDS_MAX, Zone, parse_offset, parse_rule
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow
from taxledger.nodes.sources.xmlreader import Element, ElementError, read_xml

__all__ = ["FORMAT", "GreenButtonSource"]

_ATOM, _ESPI = "http://www.w3.org/2005/Atom", "http://naesb.org/espi"
_PREFIXES = {"": _ESPI, "a": _ATOM}
_UTILITIES = {"0": "electricity", "1": "gas", "2": "water", "4": "heat"}
_WATT_HOURS = "72"
_DELIVERED = "1"
_DELTA = "4"
_CURRENCIES = {
    "36": "AUD", "036": "AUD", "124": "CAD", "156": "CNY", "392": "JPY", "410": "KRW", "484": "MXN", "578": "NOK",
    "756": "CHF", "826": "GBP", "840": "USD", "978": "EUR",
}  # fmt: skip
"""ISO 4217 by number, of where Green Button is used."""
_COST_DIGITS = 5
_NANO_DIGITS = 9
_MULTIPLIER_MAX = 9
_PLACE = re.compile(r"(?:([^/?#]+)/)?UsagePoint/([^/?#]+)/MeterReading/([^/?#]+)/?$")
"""Customer (or subscription), usage point and meter reading."""
_NAME = re.compile(r"[!-~]{1,200}")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_PARTIAL = re.compile(r"partial: ([0-9TZ:-]{20})/([0-9TZ:-]{20}), ([0-9]{1,12}) s")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One interval: length in seconds, usage in 10⁻⁹ of the unit, cost in 1/100,000 of the currency or None."""

    seconds: int
    usage: int
    cost: int | None


_Meter = tuple[str, str, str]
"""(subject, utility, meter)."""


@dataclass(slots=True)
class _Readings:
    """All that an upload says of one meter: readings by month and second of their start."""

    zone: Zone
    in_watt_hours: bool
    currency: str | None
    months: dict[str, dict[int, _Reading]] = field(default_factory=dict)


@dataclass(slots=True)
class _File:
    """What a file gives: (line, meter, month) of its rows, and what could not be read."""

    rows: list[tuple[int, _Meter, str]] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    error: FormatError | None = None


class GreenButtonSource:
    """The ``greenbutton`` source.

    Attributes:
        schema: ``utility_usage``.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["utility_usage"])
        self._subject = options.subject
        self._meters: dict[_Meter, _Readings] = {}
        self._files: dict[Path, _File] = {}

    def prepare(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Reads every file once: a month may be in several."""
        for path in paths:
            if path not in self._files:
                self._files[path] = found = _File()
                try:
                    self._read(read_xml(path, _PREFIXES), found)
                except FormatError as error:
                    found.error = error
        return paths

    def rows(self, path: Path) -> Iterator[SourceRow | BadRow]:
        """The months of the file. Raises FormatError when it is no such file."""
        self.prepare([path])
        found = self._files[path]
        if found.error is not None:
            raise found.error
        yield from found.bad
        for line, meter, month in found.rows:
            yield self._row(line, meter, month)

    # --- files to readings ------------------------------------------------------------------

    def _read(self, feed: Element, found: _File) -> None:
        if feed.name != "feed" or feed.namespace != _ATOM:
            raise FormatError(f"expected an Atom feed of Green Button, got the root {feed.name!r:.80}")
        parts = _parts(feed)
        if not parts.meters:
            error = feed.error("reading_missing", "a meter reading", "计量读数", "a feed without one")
            found.bad.append(error.bad_row())
        for entry in parts.meters:
            try:
                self._read_meter(entry, parts, found)
            except ElementError as error:
                found.bad.append(error.bad_row())

    def _read_meter(self, entry: Element, parts: _Parts, found: _File) -> None:
        href = _link(entry, "self")
        place = _PLACE.search(href)
        if place is None or not _NAME.fullmatch(f"{place[2]}/{place[3]}"):
            raise entry.error("meter_missing", "a link to the usage point", "指向用能点的链接", href)
        type_ = _related(entry, parts.types)
        scale = _check_type(type_)
        utility = _utility(entry, parts.points.get(href[: place.end(2)]))
        meter = self._owner(entry, place[1]), utility, f"{place[2]}/{place[3]}"
        blocks = parts.blocks.get(href, [])
        zone = _zone(parts.zones)
        in_watt_hours, currency = type_.text_or_none("uom") == _WATT_HOURS, type_.text_or_none("currency")
        lines: dict[str, int] = {}
        months: dict[str, dict[int, _Reading]] = {}
        for block in blocks:
            for each in block.find_all("IntervalReading"):
                start, reading = _reading(each, scale)
                month = zone.month(start)
                lines.setdefault(month, each.line)
                months.setdefault(month, {})[start] = reading
        if not months:
            raise entry.error("reading_missing", "interval readings", "区间读数", href)
        if not in_watt_hours and any(
            each.cost is None for month in months.values() for each in month.values()
        ):
            raise type_.error("unit_unknown", "readings in Wh, or with a cost", "以瓦时计量或附有费用的读数")
        known = self._meters.setdefault(meter, _Readings(zone, in_watt_hours, currency))
        for month, readings in months.items():
            known.months.setdefault(month, {}).update(readings)
            found.rows.append((lines[month], meter, month))

    def _owner(self, entry: Element, customer: str | None) -> str:
        if self._subject is not None:
            return self._subject
        if customer is None:
            raise entry.error(
                "subject_missing",
                "a customer in its links, or --subject",
                "链接中的客户，或用 --subject 指明",
            )
        try:
            return parse_subject(f"name:greenbutton:{customer}")
        except FormatError:
            raise entry.error("subject_malformed", "a customer's identifier", "客户标识", customer) from None

    # --- readings to months -----------------------------------------------------------------

    def _row(self, line: int, meter: _Meter, month: str) -> SourceRow | BadRow:
        subject, utility, number = meter
        known = self._meters[meter]
        readings = known.months[month]
        first, last = min(readings), max(start + each.seconds for start, each in readings.items())
        seconds = sum(each.seconds for each in readings.values())
        named: dict[str, Value] = {"utility": utility, "meter": number, "month": month}
        if known.in_watt_hours:
            named["usage_wh"] = _rounded(sum(each.usage for each in readings.values()), _NANO_DIGITS)
        costs = [each.cost for each in readings.values() if each.cost is not None]
        if len(costs) == len(readings):
            currency = _CURRENCIES.get(known.currency or "")
            if currency is None:
                error = CellError("currency_unknown", "a known number of ISO 4217", "ISO 4217 货币数字代码")
                return error.row(line, "currency", known.currency or "")
            named |= {
                "currency": currency,
                "amount": _rounded(sum(costs), _COST_DIGITS - MINOR_DIGITS[currency]),
            }
        if seconds < known.zone.month_seconds(month):
            named["tariff"] = f"partial: {_instant(first)}/{_instant(last)}, {seconds} s"
        values = self.schema.row(named)
        covered = _instant(first), _instant(last), seconds
        return SourceRow(line, subject, int(Status.VALID), values, partial(self._corrects, values, covered))

    def _corrects(self, values: Row, covered: tuple[str, str, int], stored: Row) -> Row | None:
        """More of a month replaces less of it; whole months and other values of the same readings do not."""
        match = _PARTIAL.fullmatch(str(stored[self.schema.position["tariff"]]))
        first, last, seconds = covered
        if match is None:
            return None
        if first <= match[1] and match[2] <= last and seconds > int(match[3]):
            return values
        if seconds < int(match[3]):
            raise CellError(
                "content_outdated",
                "more of the month than is attested; upload all its files together",
                "比已登记内容更完整的该月读数；请将该月全部文件一并上传",
            )
        return None


@dataclass(slots=True)
class _Parts:
    """What a feed holds: entries of meters and zones; usage points and reading types by their link; interval blocks
    by the link of their meter.
    """

    meters: list[Element] = field(default_factory=list)
    zones: list[Element] = field(default_factory=list)
    points: dict[str, Element] = field(default_factory=dict)
    types: dict[str, Element] = field(default_factory=dict)
    blocks: dict[str, list[Element]] = field(default_factory=dict)


def _parts(feed: Element) -> _Parts:
    found = _Parts()
    for entry in feed.find_all("a:entry"):
        href = _link(entry, "self")
        for each in (child for content in entry.find_all("a:content") for child in content.children):
            if each.name == "MeterReading":
                found.meters.append(entry)
            elif each.name == "LocalTimeParameters":
                found.zones.append(each)
            elif each.name == "UsagePoint":
                found.points.setdefault(href, each)
            elif each.name == "ReadingType":
                found.types.setdefault(href, each)
            elif each.name == "IntervalBlock":
                up = _link(entry, "up") or href
                found.blocks.setdefault(up.partition("/IntervalBlock")[0], []).append(each)
    return found


def _link(entry: Element, relation: str) -> str:
    return next(
        (
            each.attributes.get("href", "")
            for each in entry.find_all("a:link")
            if each.attributes.get("rel") == relation
        ),
        "",
    )


def _related(entry: Element, types: Mapping[str, Element]) -> Element:
    """The reading type of a meter reading."""
    for each in entry.find_all("a:link"):
        type_ = types.get(each.attributes.get("href", ""))
        if type_ is not None:
            return type_
    raise entry.error("reading_type_missing", "a linked ReadingType", "关联的读数类型", "")


def _check_type(type_: Element) -> int:
    """The power of ten of 10⁻⁹ units that a value is in. Raises ElementError unless it is of what was delivered."""
    for name, wanted in (("flowDirection", _DELIVERED), ("accumulationBehaviour", _DELTA)):
        found = type_.text_or_none(name)
        if found not in (None, wanted):
            raise type_.one(name).error(
                "reading_not_consumption", "what was delivered in an interval", "区间内的供应量"
            )
    return _NANO_DIGITS + (
        type_.read_or_none("powerOfTenMultiplier", partial(_integer, n_max=_MULTIPLIER_MAX)) or 0
    )


def _utility(entry: Element, point: Element | None) -> str:
    kind = None if point is None else point.text_or_none("ServiceCategory/kind")
    if kind not in _UTILITIES:
        raise entry.error(
            "utility_unknown", "electricity, gas, water or heat", "电、燃气、水或热力", kind or ""
        )
    return _UTILITIES[kind]


def _zone(entries: Sequence[Element]) -> Zone:
    if not entries:
        return Zone()
    local = entries[0]
    return Zone(
        offset=local.read_or_none("tzOffset", parse_offset) or 0,
        summer=local.read_or_none("dstOffset", parse_offset) or 0,
        begins=local.read_or_none("dstStartRule", parse_rule),
        ends=local.read_or_none("dstEndRule", parse_rule),
    )


def _reading(element: Element, scale: int) -> tuple[int, _Reading]:
    start = element.read("timePeriod/start", partial(_integer, n_max=SECONDS_MAX))
    seconds = element.read("timePeriod/duration", partial(_integer, n_max=400 * 86_400))
    if start < 0 or seconds <= 0:
        raise element.error(
            "interval_malformed", "an interval after 1970", "1970 年之后的区间", f"{start}, {seconds}"
        )
    usage = element.read("value", _integer) * 10**scale
    return start, _Reading(seconds, usage, element.read_or_none("cost", _integer))


def _integer(text: str, n_max: int = 10**15) -> int:
    if not _INTEGER.fullmatch(text) or abs(int(text)) > n_max:
        raise CellError("number_malformed", f"a whole number up to {n_max:,}", f"不超过 {n_max:,} 的整数")
    return int(text)


def _rounded(value: int, digits: int) -> int:
    """A sum without its last digits, rounded half up."""
    unit: int = 10**digits
    return (2 * value + unit) // (2 * unit)


def _instant(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _looks(look: Look) -> bool:
    return look.root is not None and look.root.name == "feed" and look.root.namespace == _ATOM


FORMAT = Format(
    name="greenbutton",
    title="meter readings of Green Button (ESPI Atom XML)",
    schema=newest(KINDS["utility_usage"]),
    looks=_looks,
    open=GreenButtonSource,
)
