"""A second, slow, obvious implementation of every feature, written from docs/features.md.

It shares nothing with the first but the facts themselves: days are looked at one after another, ratios are Fractions,
and what can't be known is an exception.
"""

from __future__ import annotations

import calendar
import math
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

DAY = timedelta(days=1)
COUNTED = (1, 3)
NUMBERS = {
    "registration": 1,
    "filing": 2,
    "rating": 3,
    "arrears": 4,
    "invoice": 5,
    "award": 6,
    "contract": 7,
    "usage": 8,
    "customs": 9,
    "qualification": 10,
    "credit": 11,
}
PERIOD_FIELD = {
    1: "registered",
    2: "period",
    3: "year",
    4: "opened",
    5: "date",
    6: "awarded",
    7: "signed",
    8: "month",
    9: "declared",
    10: "issued",
    11: "as_of",
}
IDENTITIES: dict[int, list[list[str]]] = {
    1: [["number"]],
    2: [["tax", "number"], ["tax", "period"]],
    3: [["year"]],
    4: [["category", "number"]],
    6: [["register", "number"]],
    7: [["number"]],
    8: [["utility", "meter", "month"]],
    9: [["number"]],
    10: [["category", "number"]],
    11: [["as_of"]],
}


class Unknown(Exception):
    """The number is not defined."""


class Record:
    """A fact, or what several issuers' facts about one thing agree on."""

    def __init__(self, fact: Any) -> None:
        self.key = fact.key
        self.status = int(fact.status)
        self.fields = dict(fact.fields)
        self.hidden = set(fact.closed)
        self.period = fact.period
        self.kind = fact.kind
        self.prints = [fact.fingerprint]
        self.keys = [fact.key]

    def see(self, name: str) -> Any:
        """What stands there, None where nothing does."""
        if self.status == 5 or name in self.hidden:
            raise Unknown
        return self.fields.get(name)

    def must(self, name: str) -> Any:
        value = self.see(name)
        if value is None:
            raise Unknown
        return value

    def possible(self) -> tuple[date, date]:
        """First and last day on which it may lie."""
        value = self.fields.get(PERIOD_FIELD[self.kind])
        text = self.period if value is None else f"{value:04}" if isinstance(value, int) else value
        if text == "":
            return date.min, date.max
        year = int(text[:4])
        if len(text) == 4:
            return date(year, 1, 1), date(year, 12, 31)
        if "Q" in text:
            month = int(text[-1]) * 3
            return date(year, month - 2, 1), end_of(year, month)
        if len(text) == 7:
            return date(year, int(text[5:]), 1), end_of(year, int(text[5:]))
        return to_day(text), to_day(text)


def end_of(year: int, month: int) -> date:
    day = date(year, month, 28)
    while (day + DAY).month == month:
        day += DAY
    return day


def to_day(text: str) -> date:
    year, month, day = text.split("-")
    return date(int(year), int(month), int(day))


def back(day: date, months: int) -> date:
    """So many calendar months earlier, one after another; the last day of a shorter month."""
    year, month = day.year, day.month
    for _ in range(abs(months)):
        month += -1 if months > 0 else 1
        if month == 0:
            year, month = year - 1, 12
        if month == 13:
            year, month = year + 1, 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def days_of(as_of: date, months: int, skip: int = 0) -> list[date]:
    found, day = [], back(as_of, months + skip) + DAY
    while day <= back(as_of, skip):
        found.append(day)
        day += DAY
    return found


def floor(part: int, whole: int) -> int:
    if whole <= 0:
        raise Unknown
    return math.floor(Fraction(part * 1_000_000, whole))


def name_of(record: Record) -> Any:
    """What makes a record the same as another issuer's."""
    fields = record.fields
    if record.status == 5:
        return record.key
    if record.kind == 5:
        number = record.see("number")
        if number is not None and len(number) == 20 and all(each in "0123456789" for each in number):
            return number
        if record.see("code") is not None and number is not None:
            return (fields["code"], number)
    else:
        for names in IDENTITIES[record.kind]:
            if None not in [record.see(each) for each in names]:
                return tuple((each, fields[each]) for each in names)
    if record.hidden:
        raise Unknown
    return tuple(sorted(fields.items()))


def period_text(record: Record) -> str:
    value = record.fields.get(PERIOD_FIELD[record.kind])
    if record.period or value is None:
        return str(record.period)
    return f"{value:04}" if isinstance(value, int) else str(value)[:7]


class World:
    """The facts on a basis."""

    def __init__(self, facts: Any, basis: Any) -> None:
        self.facts, self.basis, self.as_of = facts, basis, basis.as_of
        self.read: dict[str, list[Record]] = {}

    def all(self, what: str) -> list[Record]:
        if what not in self.read:
            self.read[what] = self.join(what)
        return self.read[what]

    def join(self, what: str) -> list[Record]:
        kind = NUMBERS[what]
        if kind not in self.facts.records and kind not in self.facts.coverage:
            raise Unknown
        found = [
            Record(each) for each in self.facts.records.get(kind, ()) if int(each.status) in (1, 2, 3, 5)
        ]
        found.sort(key=lambda each: each.key)
        if len({each.key[1:3] for each in found}) < 2:
            return found
        result: list[Record] = []
        for each in found:
            try:
                name_of(each)
            except Unknown:
                each.period = period_text(each)
                each.status, each.fields = 5, {}
            for other in result:
                if name_of(other) == name_of(each) and each.status != 5:
                    break
            else:
                result.append(each)
                each.parts = [each]  # type: ignore[attr-defined]
                continue
            other.parts.append(Record.__new__(Record))  # type: ignore[attr-defined]
            other.parts[-1].__dict__.update(each.__dict__)  # type: ignore[attr-defined]
        return [merge(each.parts) for each in result]  # type: ignore[attr-defined]

    def here(self, what: str) -> list[Record]:
        """Of the basis' currency, or of one that can't be read."""
        return [each for each in self.all(what) if each.fields.get("currency") in (None, self.basis.currency)]

    def pick(self, records: list[Record], days: list[date], read: Callable[[Record], date]) -> list[Record]:
        """Those of the days. Unknown where one that can't be read may be among them."""
        wanted, found = set(days), []
        for each in records:
            try:
                day = read(each)
            except Unknown:
                first, last = each.possible()
                if any(first <= day <= last for day in days):
                    raise
                continue
            if day in wanted:
                found.append((day, each.key, each))
        return [each for _day, _key, each in sorted(found, key=lambda each: each[:2])]


def merge(parts: list[Record]) -> Record:
    if len(parts) == 1:
        return parts[0]
    first = Record.__new__(Record)
    first.__dict__.update(parts[0].__dict__)
    first.prints = [each.prints[0] for each in parts]
    first.keys = [each.key for each in parts]
    periods = {period_text(each) for each in parts}
    first.period = periods.pop() if len(periods) == 1 else ""
    if len({each.status in COUNTED for each in parts}) == 2:
        first.status, first.fields = 5, {}
        return first
    if any(each.status == 3 for each in parts):
        first.status = 3
    fields, hidden = {}, set()
    for name in {name for each in parts for name in [*each.fields, *each.hidden]}:
        said = [each.fields.get(name) for each in parts if name not in each.hidden]
        if not said or any(each != said[0] for each in said):
            hidden.add(name)
        elif said[0] is not None:
            fields[name] = said[0]
    first.fields, first.hidden = fields, hidden
    return first


# --- invoices -------------------------------------------------------------------------------


def counted(records: list[Record]) -> list[Record]:
    return [each for each in records if each.status != 2]


def lines(world: World, direction: str, days: list[date], *, voided: bool = False) -> list[Record]:
    def read(record: Record) -> date:
        record.must("direction")
        record.must("currency")
        return to_day(record.must("date"))

    found = [
        each
        for each in world.here("invoice")
        if (each.status == 2) == voided and each.fields.get("direction") in (None, direction)
    ]
    return world.pick(found, days, read)


def sales(world: World, months: int, skip: int = 0) -> list[Record]:
    return lines(world, "sale", days_of(world.as_of, months, skip))


def net(records: list[Record]) -> int:
    return sum(each.must("net") for each in records)


def net_sales(months: int, skip: int = 0) -> Callable[[World], int]:
    return lambda world: net(sales(world, months, skip))


def first_sale_days(world: World) -> int:
    known = []
    for each in counted(world.here("invoice")):
        if {"direction", "date", "currency"} <= set(each.fields) and each.fields["direction"] == "sale":
            known.append(to_day(each.fields["date"]))
    if not known or min(known) > world.as_of:
        raise Unknown
    for each in counted(world.here("invoice")):
        unread = not {"direction", "date", "currency"} <= set(each.fields)
        if unread and each.fields.get("direction") != "purchase" and each.possible()[0] <= min(known):
            raise Unknown
    return (world.as_of - min(known)).days


def sales_gap(months: int) -> Callable[[World], int]:
    def compute(world: World) -> int:
        sold = {each.fields["date"] for each in sales(world, months)}
        longest = run = 0
        for day in days_of(world.as_of, months):
            run += 1
            longest = max(longest, run)
            if day.isoformat() in sold:
                run = 0
        return longest

    return compute


def months_with(days: list[date], as_of: date, months: int) -> int:
    """Of the window's n + 1 calendar months the first and the last are one."""
    found = set()
    for day in days:
        same = (day.year, day.month) == (back(as_of, months).year, back(as_of, months).month)
        found.add((as_of.year, as_of.month) if same else (day.year, day.month))
    return len(found)


def sales_months(months: int) -> Callable[[World], int]:
    return lambda world: months_with(
        [to_day(each.fields["date"]) for each in sales(world, months)], world.as_of, months
    )


def change(of: Callable[[World, int], int], months: int, *, fall: bool) -> Callable[[World], int]:
    def compute(world: World) -> int:
        last, before = of(world, 0), of(world, months)
        if fall:
            return max(floor(before - last, before), 0)
        return floor(last - before, before)

    return compute


def red_count(world: World) -> int:
    found = sales(world, 12)
    return floor(len([each for each in found if each.must("net") < 0]), len(found))


def red_amount(world: World) -> int:
    nets = [each.must("net") for each in sales(world, 12)]
    return floor(sum(-each for each in nets if each < 0), sum(each for each in nets if each > 0))


def void_count(world: World) -> int:
    days = days_of(world.as_of, 12)
    voided = len(lines(world, "sale", days, voided=True))
    return floor(voided, voided + len(lines(world, "sale", days)))


def void_amount(world: World) -> int:
    days = days_of(world.as_of, 12)
    voided = sum(max(each.must("net"), 0) for each in lines(world, "sale", days, voided=True))
    return floor(voided, voided + sum(max(each.must("net"), 0) for each in lines(world, "sale", days)))


def top(count: int) -> Callable[[World], int]:
    def compute(world: World) -> int:
        found = sales(world, 12)
        parties = sorted({each.must("counterparty") for each in found})
        sums = sorted(
            net([each for each in found if each.fields["counterparty"] == name]) for name in parties
        )
        return floor(sum(sums[-count:]), net(found))

    return compute


def counterparties(world: World) -> int:
    return len({each.must("counterparty") for each in sales(world, 12)})


def lasting(world: World) -> int:
    found, count = sales(world, 24), 0
    for name in {each.must("counterparty") for each in found}:
        days = [to_day(each.fields["date"]) for each in found if each.fields["counterparty"] == name]
        count += back(min(days), -18) < max(days)
    return count


def purchases(world: World) -> int:
    return net(lines(world, "purchase", days_of(world.as_of, 12)))


# --- filings --------------------------------------------------------------------------------


class Filing:
    def __init__(self, record: Record, as_of: date) -> None:
        for name in ("number", "corrects", "filed", "months"):
            record.see(name)
        self.record, self.as_of = record, as_of
        self.tax, self.period = record.must("tax"), record.must("period")
        months = record.fields.get("months", 1)
        if not 1 <= months <= 120:
            raise Unknown
        self.last = end_of(int(self.period[:4]), int(self.period[5:]))
        self.first = back(self.last.replace(day=1), months - 1)
        filed = record.fields.get("filed")
        self.filed = None if filed is None or to_day(filed) > as_of else to_day(filed)
        due = record.fields.get("due")
        self.due = None if due is None else to_day(due)
        self.replaced = False

    def amount(self, name: str) -> int:
        self.record.must("currency")
        return int(self.record.must(name))

    def paid(self) -> int:
        on = self.record.see("paid_on") if "paid_on" not in self.record.hidden else None
        if on is not None and to_day(on) > self.as_of:
            return 0
        self.record.see("paid_on")
        return self.amount("paid")


def filings(world: World) -> tuple[list[Filing], list[tuple[date, date]]]:
    """All that can be read, and the first and last days of those that can't."""
    found, unread = [], []
    for each in world.here("filing"):
        if each.status == 2:
            continue
        try:
            found.append(Filing(each, world.as_of))
        except Unknown:
            unread.append(each.possible())
    for one in found:
        for other in found:
            if one is other or one.filed is None or other.filed is None:
                continue
            same = (one.tax, one.period) == (other.tax, other.period)
            number = one.record.fields.get("number")
            if same and number is not None and other.record.fields.get("corrects") == number:
                one.replaced = one.replaced or other.filed >= one.filed
    for key in {(each.tax, each.period) for each in found}:
        filed = [each for each in found if (each.tax, each.period) == key and each.filed is not None]
        if filed and all(each.replaced for each in filed):
            unread.extend((each.first, each.last) for each in filed)
    return found, unread


def effective(world: World, months: int) -> list[Filing]:
    found, unread = filings(world)
    days = days_of(world.as_of, months)
    if any(first <= day <= last for first, last in unread for day in days):
        raise Unknown
    return [each for each in found if each.filed is not None and not each.replaced and each.last in set(days)]


def first_filed(world: World) -> date:
    found, unread = filings(world)
    filed = [each.filed for each in found if each.filed is not None]
    if not filed or any(begin <= min(filed) for begin, _end in unread):
        raise Unknown
    return min(filed)


def first_filing_months(world: World) -> int:
    months = 0
    while back(first_filed(world), -(months + 1)) <= world.as_of:
        months += 1
    return months


def vat(world: World) -> list[Filing]:
    found = [each for each in effective(world, 12) if each.tax == "vat"]
    for one in found:
        for other in found:
            apart = one.last < other.first or other.last < one.first
            if not apart and (one.first, one.last) != (other.first, other.last):
                raise Unknown
    return found


def sales_to_filed(world: World) -> int:
    start = back(world.as_of, 12)
    found = [each for each in vat(world) if each.first > start]
    covered = {each.first + DAY * n for each in found for n in range((each.last - each.first).days + 1)}
    invoiced = net(lines(world, "sale", sorted(covered)))
    return floor(invoiced, sum(each.amount("sales") for each in found))


def by_period(found: list[Filing]) -> Iterator[list[Filing]]:
    for key in sorted({(each.tax, each.period) for each in found}):
        yield sorted(
            (each for each in found if (each.tax, each.period) == key),
            key=lambda each: (each.filed is None, each.filed or date.min, each.record.key),
        )


def due_of(group: list[Filing]) -> date | None:
    return next((each.due for each in group if each.due is not None), None)


def late_filings(world: World) -> int:
    days = days_of(world.as_of, 12)
    effective(world, 12)
    late = 0
    for group in by_period([each for each in filings(world)[0] if each.last in set(days)]):
        due, first = due_of(group), group[0].filed
        if due is None:
            raise Unknown
        late += world.as_of > due if first is None else first > due
    return late


def overdue_filings(world: World) -> int:
    found, unread = filings(world)
    if any(begin <= world.as_of for begin, _end in unread):
        raise Unknown
    overdue = 0
    for group in by_period(found):
        due = due_of(group)
        if (due or group[0].last) >= world.as_of:
            continue
        standing = [each for each in group if each.filed is not None and not each.replaced]
        if standing:
            payable = sum(each.amount("payable") for each in standing)
            if payable <= 0 or sum(each.paid() for each in standing) >= payable:
                continue
        if due is None:
            raise Unknown
        overdue += 1
    return overdue


def covered_months(world: World, months: int, *, nil: bool | None = None) -> set[date]:
    found = set()
    for each in effective(world, months):
        if each.tax != "vat":
            continue
        if nil is not None and (each.record.see("currency") and each.amount("sales") == 0) != nil:
            continue
        found |= {
            day
            for day in days_of(world.as_of, months)
            if each.first <= day <= each.last and (day + DAY).day == 1
        }
    return found


def nil_months(world: World) -> int:
    for each in effective(world, 6):
        if each.tax == "vat":
            each.amount("sales")
    return len(covered_months(world, 6, nil=True) - covered_months(world, 6, nil=False))


# --- standing -------------------------------------------------------------------------------


def grades(world: World) -> list[int | None]:
    years: dict[int, list[int | None]] = {}
    for each in counted(world.all("rating")):
        published = each.fields.get("published")
        if published is not None and to_day(published) > world.as_of:
            continue
        year = each.fields.get("year")
        if year is None:
            year = int(each.period) if each.period else world.as_of.year
        if year > world.as_of.year:
            continue
        try:
            each.see("published")
            years.setdefault(year, []).append(" DCMBA".index(each.must("grade")))
        except Unknown:
            years.setdefault(year, []).append(None)
    return [
        None if None in years[year] else min(each for each in years[year] if each is not None)
        for year in sorted(years)
    ]


def grade(world: World) -> int:
    found = grades(world)
    if not found or found[-1] is None:
        raise Unknown
    return found[-1]


def grade_trend(world: World) -> int:
    found = grades(world)
    if len(found) < 2 or found[-1] is None or found[-2] is None:
        raise Unknown
    return found[-1] - found[-2]


def known(world: World, what: str, name: str) -> list[Record]:
    found = []
    for each in counted(world.all(what)):
        if each.fields.get(name) is None:
            if each.possible()[0] <= world.as_of:
                raise Unknown
        elif to_day(each.fields[name]) <= world.as_of:
            found.append(each)
    return found


def open_arrears(world: World, category: str) -> list[Record]:
    found = []
    for each in known(world, "arrears", "opened"):
        closed = each.see("closed")
        if each.must("category") == category and (closed is None or to_day(closed) > world.as_of):
            found.append(each)
    return found


def arrears_amount(world: World) -> int:
    found = open_arrears(world, "arrears")
    return sum(each.must("amount") for each in found if each.must("currency") == world.basis.currency)


def summary(world: World) -> Record:
    days = days_of(world.as_of, 12)
    dated, hidden = [], []
    for each in counted(world.all("credit")):
        if each.fields.get("as_of") is None:
            hidden.append(each)
        elif to_day(each.fields["as_of"]) in days:
            dated.append(each)
    if not dated:
        raise Unknown
    newest = max(dated, key=lambda each: (each.fields["as_of"], each.key))
    for each in hidden:
        first, last = each.possible()
        if last >= to_day(newest.fields["as_of"]) and first <= world.as_of:
            raise Unknown
    return newest


def flag(tests: list[Callable[[], bool]]) -> int:
    """0 as soon as one is known to be false, whatever is not known of others."""
    unknown = False
    for test in tests:
        try:
            if not test():
                return 0
        except Unknown:
            unknown = True
    if unknown:
        raise Unknown
    return 1


def first_borrower(world: World) -> int:
    found = summary(world)
    return flag(
        [
            lambda: found.see("first_borrowed") is None,
            lambda: found.must("loans_open") == 0,
            lambda: found.must("lenders") == 0,
        ]
    )


def qualifications(*categories: str) -> Callable[[World], int]:
    def compute(world: World) -> int:
        count = 0
        for each in known(world, "qualification", "issued"):
            if each.must("category") not in categories and categories:
                continue
            begin, end = each.see("valid_from"), each.see("valid_until")
            early = begin is not None and to_day(begin) > world.as_of
            count += not early and not (end is not None and to_day(end) < world.as_of)
        return count

    return compute


def registration(world: World) -> Record:
    found = known(world, "registration", "registered")
    if not found:
        raise Unknown
    return max(found, key=lambda each: (each.fields["registered"], each.key))


def active(world: World) -> int:
    found = registration(world)

    def in_time() -> bool:
        until = found.see("until")
        return until is None or to_day(until) >= world.as_of

    return flag([lambda: found.must("state") == "active", in_time])


# --- security -------------------------------------------------------------------------------


def offers(world: World, what: str) -> list[Record | None]:
    """Each record offered once; None: there is none of that key."""
    kind = NUMBERS[what]
    keys = sorted({each for each in world.basis.security if each[3] == kind})
    if not keys:
        raise Unknown
    try:
        records = world.all(what)
    except Unknown:
        return [None]
    found: list[Record | None] = []
    for key in keys:
        match = next((each for each in records if key in each.keys), None)
        if match is None or match not in found:
            found.append(match)
    return found


def free(what: str) -> Callable[[World], int]:
    def compute(world: World) -> int:
        shares = []
        for each in offers(world, what):
            if each is None or None in each.prints:
                raise Unknown
            shares += [1_000_000 - world.basis.pledged_ppm.get(mark, 0) for mark in each.prints]
        return min(max(each, 0) for each in shares)

    return compute


def every(what: str, test: Callable[[World, Record], bool]) -> Callable[[World], int]:
    def one(world: World, record: Record | None) -> bool:
        if record is None or record.status == 2:
            return False
        if record.status == 5:
            raise Unknown
        return test(world, record)

    return lambda world: flag([lambda each=each: one(world, each) for each in offers(world, what)])  # type: ignore[misc]


def worth(what: str, value: Callable[[World, Record], int]) -> Callable[[World], int]:
    def compute(world: World) -> int:
        found = offers(world, what)
        if any(each is None or each.status == 5 for each in found):
            raise Unknown
        return sum(value(world, each) for each in found if each is not None and each.status != 2)

    return compute


def fixed(_world: World, record: Record) -> bool:
    return bool((record.see("account") or "").strip())


def valid_award(world: World, record: Record) -> bool:
    def unfinished() -> bool:
        completes = record.see("completes")
        return completes is None or to_day(completes) >= world.as_of

    return bool(
        flag(
            [
                lambda: to_day(record.must("awarded")) <= world.as_of,
                lambda: record.must("state") == "active",
                unfinished,
                lambda: record.must("currency") == world.basis.currency,
            ]
        )
    )


def own_amount(record: Record) -> int:
    if (record.see("winners") or 1) > 1:
        raise Unknown
    return int(record.must("amount"))


def open_amount(world: World, record: Record) -> int:
    if not valid_award(world, record):
        return 0
    return max(own_amount(record) - (record.see("paid") or 0), 0)


def known_awards(world: World) -> list[Record]:
    found = []
    for each in counted(world.here("award")):
        if each.fields.get("awarded") is None or each.fields.get("currency") is None:
            if each.possible()[0] <= world.as_of:
                raise Unknown
        elif to_day(each.fields["awarded"]) <= world.as_of:
            found.append(each)
    return found


def completed_total(world: World) -> int:
    amount = 0
    for each in known_awards(world):
        state = each.must("state")
        done = state == "completed"
        if state == "active":
            completes = each.see("completes")
            done = completes is not None and to_day(completes) < world.as_of
        amount += own_amount(each) if done else 0
    return amount


def top_buyer(world: World) -> int:
    found = [each for each in known_awards(world) if each.must("state") != "cancelled"]
    by_id = all(each.fields.get("buyer_id") is not None for each in found)
    buyers = {each.must("buyer_id" if by_id else "buyer") for each in found}
    name = "buyer_id" if by_id else "buyer"
    sums = [sum(own_amount(each) for each in found if each.fields[name] == buyer) for buyer in buyers]
    return floor(max(sums, default=0), sum(sums))


def valid_contract(world: World, record: Record) -> bool:
    def of_the_day() -> bool:
        day = record.see("certified_on")
        return day is None or to_day(day) <= world.as_of

    return bool(
        flag(
            [
                lambda: to_day(record.must("signed")) <= world.as_of,
                lambda: record.must("state") in ("active", "completed"),
                lambda: record.must("currency") == world.basis.currency,
                of_the_day,
            ]
        )
    )


def of_contract(value: Callable[[Record], int]) -> Callable[[World], int]:
    return worth("contract", lambda world, each: value(each) if valid_contract(world, each) else 0)


def valid_invoice(world: World, record: Record) -> bool:
    return bool(
        flag(
            [
                lambda: record.status == 1,
                lambda: record.must("direction") == "sale",
                lambda: to_day(record.must("date")) <= world.as_of,
                lambda: record.must("currency") == world.basis.currency,
                lambda: record.must("gross") > 0,
            ]
        )
    )


def naming(world: World, number: str) -> list[Record]:
    """Red letters that name an invoice."""
    found = []
    for each in counted(world.all("invoice")):
        if each.possible()[0] > world.as_of:
            continue
        original, direction = each.see("original"), each.see("direction")
        if original == number and direction != "purchase":
            found.append(each)
    return found


def invoice_worth(world: World, record: Record) -> int:
    if not valid_invoice(world, record):
        return 0
    red = naming(world, record.must("number"))
    return max(int(record.must("gross")) + sum(min(each.must("gross"), 0) for each in red), 0)


def invoices_valid(world: World) -> int:
    if every("invoice", valid_invoice)(world) == 0:
        return 0
    naming(world, "")
    found = [each for each in offers(world, "invoice") if each is not None]
    return flag([lambda each=each: not naming(world, each.must("number")) for each in found])  # type: ignore[misc]


# --- usage, customs -------------------------------------------------------------------------


def used(world: World, months: int, skip: int = 0) -> list[Record]:
    def read(record: Record) -> date:
        record.must("utility")
        month = record.must("month")
        return end_of(int(month[:4]), int(month[5:]))

    found = [
        each for each in counted(world.here("usage")) if each.fields.get("utility") in (None, "electricity")
    ]
    return world.pick(found, days_of(world.as_of, months, skip), read)


def watt_hours(world: World, skip: int) -> int:
    return sum(each.must("usage_wh") for each in used(world, 12, skip))


def priced(record: Record, name: str) -> int:
    record.must("currency")
    return int(record.must(name))


def declarations(world: World, months: int, *, voided: bool = False) -> list[Record]:
    def read(record: Record) -> date:
        for name in ("direction", "state", "currency"):
            record.must(name)
        return to_day(record.must("declared"))

    found = [each for each in world.here("customs") if (each.status == 2) == voided]
    return world.pick(found, days_of(world.as_of, months), read)


def cleared(world: World, direction: str) -> list[Record]:
    found = []
    for each in declarations(world, 12):
        if each.fields["direction"] == direction and each.fields["state"] == "cleared":
            day = each.see("cleared")
            if day is None or to_day(day) <= world.as_of:
                found.append(each)
    return found


def first_declaration_days(world: World) -> int:
    needed, known_days, unread = {"direction", "state", "currency", "declared"}, [], []
    for each in counted(world.here("customs")):
        if not needed <= set(each.fields):
            unread.append(each.possible()[0])
        elif each.fields["state"] != "rejected":
            known_days.append(to_day(each.fields["declared"]))
    if not known_days or min(known_days) > world.as_of or any(each <= min(known_days) for each in unread):
        raise Unknown
    return (world.as_of - min(known_days)).days


def cancelled_ratio(world: World) -> int:
    voided = len(declarations(world, 12, voided=True))
    return floor(voided, voided + len(declarations(world, 12)))


def other_currency(world: World) -> int:
    count = 0
    for what in (
        "registration",
        "filing",
        "arrears",
        "invoice",
        "award",
        "contract",
        "usage",
        "customs",
        "credit",
    ):
        try:
            records = world.all(what)
        except Unknown:
            continue
        for each in counted(records):
            if each.possible()[0] <= world.as_of:
                count += each.see("currency") not in (None, world.basis.currency)
    return count


SLOW: dict[str, Callable[[World], int]] = {
    "other_currency_records": other_currency,
    "first_sale_days": first_sale_days,
    "sales_gap_days_12m": sales_gap(12),
    "sales_gap_days_24m": sales_gap(24),
    "sales_months_3m": sales_months(3),
    "sales_months_12m": sales_months(12),
    "sales_months_24m": sales_months(24),
    "net_sales_3m": net_sales(3),
    "net_sales_6m": net_sales(6),
    "net_sales_12m": net_sales(12),
    "net_sales_24m": net_sales(24),
    "net_sales_yoy_12m_ppm": change(lambda world, skip: net(sales(world, 12, skip)), 12, fall=False),
    "net_sales_fall_12m": change(lambda world, skip: net(sales(world, 12, skip)), 12, fall=True),
    "net_sales_fall_6m": change(lambda world, skip: net(sales(world, 6, skip)), 6, fall=True),
    "sales_last3_share_12m": lambda world: floor(net(sales(world, 3)), net(sales(world, 12))),
    "red_letter_ratio_count_12m": red_count,
    "red_letter_ratio_amount_12m": red_amount,
    "void_ratio_count_12m": void_count,
    "void_ratio_amount_12m": void_amount,
    "top1_share_12m": top(1),
    "top5_share_12m": top(5),
    "counterparties_12m": counterparties,
    "counterparties_lasting_18m": lasting,
    "purchases_12m": purchases,
    "purchases_to_sales_12m": lambda world: floor(purchases(world), net(sales(world, 12))),
    "sales_to_filed_12m": sales_to_filed,
    "first_filing_days": lambda world: (world.as_of - first_filed(world)).days,
    "first_filing_months": first_filing_months,
    "tax_paid_12m": lambda world: sum(each.paid() for each in effective(world, 12)),
    "tax_paid_24m": lambda world: sum(each.paid() for each in effective(world, 24)),
    "filed_sales_12m": lambda world: sum(each.amount("sales") for each in vat(world)),
    "filed_months_12m": lambda world: len(covered_months(world, 12)),
    "late_filings_12m": late_filings,
    "overdue_filings": overdue_filings,
    "nil_filings_6m": nil_months,
    "filings_12m": lambda world: len(effective(world, 12)),
    "grade": grade,
    "grade_trend": grade_trend,
    "open_arrears_count": lambda world: len(open_arrears(world, "arrears")),
    "open_violations_count": lambda world: len(open_arrears(world, "violation")),
    "open_audits_count": lambda world: len(open_arrears(world, "audit")),
    "open_arrears_amount": arrears_amount,
    "loans_elsewhere": lambda world: summary(world).must("loans_open"),
    "overdue_days_elsewhere": lambda world: summary(world).must("overdue_days"),
    "first_borrower": first_borrower,
    "valid_qualifications": qualifications(),
    "valid_certificates": qualifications("high_tech", "specialised", "little_giant"),
    "valid_patents": qualifications("invention_patent", "utility_model", "design_patent"),
    "registered_days": lambda world: (world.as_of - to_day(registration(world).fields["registered"])).days,
    "registration_active": active,
    "award_open_amount": worth("award", open_amount),
    "award_public_buyer": every("award", lambda _world, each: each.must("buyer_public")),
    "award_account_fixed": every("award", fixed),
    "award_free_ppm": free("award"),
    "awards_valid": every("award", valid_award),
    "awarded_open_total": lambda world: sum(open_amount(world, each) for each in known_awards(world)),
    "awarded_completed_total": completed_total,
    "top_buyer_share": top_buyer,
    "contract_receivable": of_contract(lambda each: max(each.must("certified") - each.must("paid"), 0)),
    "contract_certified": of_contract(lambda each: each.must("certified")),
    "contract_overdue": of_contract(lambda each: each.must("overdue")),
    "contract_free_ppm": free("contract"),
    "contract_account_fixed": every("contract", fixed),
    "contract_public_owner": every("contract", lambda _world, each: each.must("owner_public")),
    "contracts_valid": every("contract", valid_contract),
    "security_invoices_gross": worth("invoice", invoice_worth),
    "security_invoices_free_ppm": free("invoice"),
    "security_invoices_valid": invoices_valid,
    "usage_months_12m": lambda world: len({each.fields["month"] for each in used(world, 12)}),
    "usage_spend_12m": lambda world: sum(priced(each, "amount") for each in used(world, 12)),
    "usage_wh_12m": lambda world: watt_hours(world, 0),
    "usage_fall_12m": change(watt_hours, 12, fall=True),
    "usage_yoy_12m_ppm": change(watt_hours, 12, fall=False),
    "usage_arrears": lambda world: sum(priced(each, "arrears") for each in used(world, 120)),
    "first_declaration_days": first_declaration_days,
    "exports_cleared_12m": lambda world: sum(each.must("value") for each in cleared(world, "export")),
    "imports_cleared_12m": lambda world: sum(each.must("value") for each in cleared(world, "import")),
    "exports_declared_12m": lambda world: sum(
        each.must("value")
        for each in declarations(world, 12)
        if each.fields["direction"] == "export" and each.fields["state"] != "rejected"
    ),
    "export_months_12m": lambda world: months_with(
        [to_day(each.fields["declared"]) for each in cleared(world, "export")], world.as_of, 12
    ),
    "declarations_cancelled_ratio_12m": cancelled_ratio,
}


def slow(facts: Any, basis: Any) -> dict[str, int | None]:
    """The number of every feature, or None where it is not defined."""
    world, found = World(facts, basis), dict.fromkeys(SLOW)
    for name, compute in SLOW.items():
        try:
            found[name] = int(compute(world))
        except Unknown:
            continue
    return found
