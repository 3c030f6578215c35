"""The records of a kind as features read them: each fact once, and what of it can be read.

* Revoked and superseded records are not there. Voided ones are: ratios count them.
* The same fact attested by several issuers is one record (one issuer can't attest it twice). A field on which they
  differ is not known; where one says voided and another valid, the whole record is not known. Neither is one that does
  not show what tells it from another issuer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.fields import Value
from taxledger.ledger.records import Status, identity
from taxledger.ledger.schemas import Schema
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import Basis
from taxledger.lending.features.windows import Dated, Table, Window, day_of, month_span, period_span

__all__ = [
    "MONEY_KINDS",
    "Records",
    "derive",
    "integer",
    "is_read",
    "make_table",
    "other_currency_records",
    "records_of",
    "span_of",
    "table_of",
    "text",
]

_Identity = tuple[tuple[str, Value], ...]

T = TypeVar("T")
Row = TypeVar("Row", bound=Dated)

_SCHEMAS: dict[tuple[int, int], Schema] = {(each.kind, each.number): each for each in BUILTIN}
_READ = (Status.VALID, Status.REVERSED, Status.VOIDED, Status.ERASED)
_DATE_FIELDS = {each.kind: each.period[1] for each in BUILTIN}
"""The field that says in which period a record of a kind lies."""

MONEY_KINDS = tuple(
    sorted({each.kind for each in BUILTIN if any(field.name == "currency" for field in each.fields)})
)


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one kind.

    Attributes:
        facts: ascending by key; counted, voided or erased.
        by_key: the record that a key stands for; two issuers' keys may stand for one.
    """

    facts: tuple[Fact, ...]
    by_key: dict[bytes, Fact]


def derive(facts: Facts, name: object, make: Callable[[], T]) -> T:
    """What ``make`` makes, once per ``facts``. ``name`` says what it is and on what it depends beside the facts."""
    if name not in facts.derived:
        facts.derived[name] = make()
    found: T = facts.derived[name]
    return found


def records_of(facts: Facts, kind: int) -> Records | None:
    """The records of a kind; None where it was not asked."""
    return derive(facts, ("records", kind), lambda: _records_of(facts, kind))


def _records_of(facts: Facts, kind: int) -> Records | None:
    if kind not in facts.records and kind not in facts.coverage:
        return None
    # Sorted here too: a feature must not depend on how its facts were made.
    found = sorted((each for each in facts.of(kind) if each.status in _READ), key=lambda each: each.key)
    if len({each.issuer for each in found}) < 2:
        return Records(tuple(found), {each.key: each for each in found})
    groups: dict[_Identity | bytes, list[Fact]] = {}
    for each in found:
        identified = _identity(each)
        if identified is None:
            # It may be another issuer's record: to count it could be to count that twice.
            groups[each.key] = [replace(each, status=Status.ERASED, fields={}, period=_period_of(each))]
        else:
            groups.setdefault(identified, []).append(each)
    by_key: dict[bytes, Fact] = {}
    for group in groups.values():
        joined = _joined(group)
        by_key.update((each.key, joined) for each in group)
    return Records(tuple(sorted({each.key: each for each in by_key.values()}.values(), key=_key)), by_key)


def _key(fact: Fact) -> bytes:
    return fact.key


def _identity(fact: Fact) -> _Identity | bytes | None:
    """As ``records.identity`` has it; the key of a record that can't be told; None: not shown."""
    schema = _SCHEMAS.get((fact.kind, fact.schema))
    if schema is None or fact.status is Status.ERASED:
        return fact.key
    identified = identity(schema, [fact.fields.get(each.name) for each in schema.fields])
    told_by = sorted(name for name, _value in identified)
    needed: list[str] = []
    for alternative in schema.unique:
        names = sorted(name for name, _digits in alternative)
        needed += names
        if names == told_by:
            break
    else:
        needed = told_by
    return None if any(name in fact.closed for name in needed) else tuple(identified)


def _period_of(fact: Fact) -> str:
    """Where a record lies that will have no fields."""
    value = fact.fields.get(_DATE_FIELDS.get(fact.kind, ""))
    if fact.period or value is None:
        return fact.period
    return f"{value:04}" if type(value) is int else str(value)[:7]


def _joined(group: list[Fact]) -> Fact:
    """One record of what several issuers say about one fact; ``group`` ascends by key."""
    first = group[0]
    if len(group) == 1:
        return first
    periods = {_period_of(each) for each in group}
    period = periods.pop() if len(periods) == 1 else ""
    if len({each.counted for each in group}) > 1:
        return replace(first, status=Status.ERASED, fields={}, period=period)
    names = sorted({name for each in group for name in (*each.fields, *each.closed)})
    agreed: dict[str, Value] = {}
    differing = []
    for name in names:
        said = {each.fields.get(name) for each in group if name not in each.closed}
        if len(said) > 1 or not said:
            differing.append(name)
        elif (value := said.pop()) is not None:
            agreed[name] = value
    reversed_ = any(each.status is Status.REVERSED for each in group)
    return replace(
        first,
        status=Status.REVERSED if reversed_ else first.status,
        fields=agreed,
        closed=tuple(differing),
        period=period,
    )


def text(fact: Fact, name: str) -> str | None:
    """A field of text, date, month or choice; None where absent or closed."""
    value = fact.fields.get(name)
    return value if type(value) is str else None


def integer(fact: Fact, name: str) -> int | None:
    """A field of money, integer, ppm or year; None where absent or closed."""
    value = fact.fields.get(name)
    return value if type(value) is int else None


def is_read(fact: Fact, *names: str) -> bool:
    """Whether the record says what stands in these fields, be it that nothing does."""
    return fact.status is not Status.ERASED and not any(name in fact.closed for name in names)


def span_of(fact: Fact) -> Window:
    """The days in which a record may lie, as far as is known."""
    value = fact.fields.get(_DATE_FIELDS.get(fact.kind, ""))
    if type(value) is str:
        if len(value) == 7:
            return month_span(value)
        day = day_of(value)
        return Window(day - 1, day)
    if type(value) is int:
        return period_span(f"{value:04}")
    return period_span(fact.period)


def make_table(facts: Iterable[Fact], read: Callable[[Fact], Row | None]) -> Table[Row]:
    """The table of what ``read`` makes of each record; None from it: the record can't be read."""
    rows: list[tuple[bytes, Row]] = []
    unread: list[Window] = []
    for each in facts:
        row = None if each.status is Status.ERASED else read(each)
        if row is None:
            unread.append(span_of(each))
        else:
            rows.append((each.key, row))
    return table_of(rows, unread)


def table_of(keyed: Iterable[tuple[bytes, Row]], unread: Iterable[Window]) -> Table[Row]:
    """The table of rows with their record keys."""
    rows = sorted(((row.day, key, row) for key, row in keyed), key=lambda each: each[:2])
    return Table(
        rows=tuple(each[2] for each in rows),
        days=tuple(each[0] for each in rows),
        unread=tuple(sorted(unread)),
    )


def other_currency_records(facts: Facts, basis: Basis) -> int | None:
    """Counted records of any kind asked, up to the as-of date, whose amounts are of another currency."""
    upto, found = basis.as_of.toordinal(), 0
    for kind in MONEY_KINDS:
        records = records_of(facts, kind)
        for each in records.facts if records else ():
            if each.status is Status.VOIDED or span_of(each).after >= upto:
                continue
            if not is_read(each, "currency"):
                return None
            found += text(each, "currency") not in (None, basis.currency)
    return found
