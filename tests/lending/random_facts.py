"""Facts from a seed: few names, dates near the edges of windows, and whatever can be missing, missing at times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from facts_maker import fact, facts

from taxledger.ledger.builtin import newest
from taxledger.ledger.fields import Value
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, identity
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features import Basis

AS_OF = (
    date(2020, 2, 29),
    date(2020, 2, 28),
    date(2020, 3, 31),
    date(2019, 12, 31),
    date(2020, 1, 1),
    date(2019, 7, 15),
)
STATUSES = (Status.VALID,) * 12 + (
    Status.REVERSED,
    Status.VOIDED,
    Status.VOIDED,
    Status.REVOKED,
    Status.SUPERSEDED,
    Status.ERASED,
)


_COUNTS = {"vat_invoice": (0, 1, 3, 12, 60), "utility_usage": (0, 1, 4, 30), "tax_filing": (0, 1, 4, 30)}


class _Maker:
    """Draws one record of a kind."""

    def __init__(self, random: Random, as_of: date, *, clean: bool) -> None:
        self.random, self.as_of, self.clean = random, as_of, clean

    def day(self, back: int = 800, ahead: int = 40) -> str:
        if self.random.randrange(4) == 0:
            # Near the ends of windows.
            months = self.random.choice((0, 3, 6, 12, 24))
            year, month = divmod(self.as_of.year * 12 + self.as_of.month - 1 - months, 12)
            start = date(year, month + 1, min(self.as_of.day, 28))
            return (start + timedelta(days=self.random.randrange(-2, 4))).isoformat()
        return (self.as_of + timedelta(days=self.random.randrange(-back, ahead))).isoformat()

    def money(self) -> int:
        return self.random.choice((0, 1, 7, 100, 333, 600, 1000, 99_999, -1, -7, -50))

    def maybe(self, value: Value, one_in: int = 3) -> Value:
        return None if self.random.randrange(one_in) == 0 else value

    def value(self, name: str, type_: str | tuple[str, ...]) -> Value:
        random = self.random
        if isinstance(type_, tuple):
            return random.choice(type_)
        special: dict[str, Callable[[], Value]] = {
            "currency": lambda: random.choice(("CNY",) * 12 + ("USD",)),
            "number": lambda: random.choice((f"{random.randrange(40):020}", str(random.randrange(40)))),
            "original": lambda: self.maybe(f"{random.randrange(40):020}", 2),
            "code": lambda: self.maybe("011", 2),
            "tax": lambda: random.choice(("vat", "vat", "income")),
            "corrects": lambda: None if random.randrange(2) else f"{random.randrange(40):020}",
            "months": lambda: self.maybe(random.choice((1, 1, 1, 3, 12)), 2),
            "winners": lambda: self.maybe(random.choice((1, 1, 1, 2)), 2),
            "counterparty": lambda: random.choice("abcdefghij"),
            "account": lambda: random.choice(("A1", "A1", " ", None)),
        }
        if name in special and (name != "tax" or type_ == "text"):
            return special[name]()
        makers: dict[str, Callable[[], Value]] = {
            "text": lambda: random.choice("abc"),
            "date": self.day,
            "month": lambda: self.day()[:7],
            "year": lambda: self.as_of.year - random.randrange(-1, 5),
            "boolean": lambda: random.randrange(4) > 0,
            "money": self.money,
            "integer": lambda: random.randrange(0, 4),
            "ppm": lambda: 130_000,
        }
        return makers[type_]()

    def record(self, kind: str, number: int) -> Fact:
        random = self.random
        schema = newest(KINDS[kind])
        absent = random.choice((0, 0, 0, 1)) if not self.clean else 0
        optional = {"filed": 9, "due": 9, "closed": 2, "completes": 3, "valid_from": 2, "valid_until": 3}
        optional |= {"until": 2, "first_borrowed": 2, "cleared": 3, "published": 3, "paid_on": 3}
        fields: dict[str, Value] = {}
        for each in schema.fields:
            value = self.value(each.name, each.type)
            if each.name in optional:
                value = self.maybe(value, optional[each.name])
            fields[each.name] = value
        if "completes" in fields and random.randrange(2):
            fields["completes"] = (self.as_of + timedelta(days=30)).isoformat()
        names = [each.name for each in schema.fields]
        for _ in range(absent):
            fields[random.choice(names)] = None
        hidden = () if self.clean or random.randrange(12) else (random.choice(names),)
        status = Status.VALID if self.clean else random.choice(STATUSES)
        period = self._period(schema.period, fields)
        return fact(
            kind,
            fields,
            number=number,
            status=status,
            closed=hidden,
            period=period if random.randrange(9) else "",
        )

    def _period(self, period: tuple[str, str], fields: dict[str, Value]) -> str:
        value = fields[period[1]]
        if value is None:
            return self.day()[: 4 if period[0] == "year" else 7]
        if period[0] == "year":
            return f"{value:04}" if isinstance(value, int) else str(value)[:4]
        return str(value)[:7]


def _distinct(records: list[Fact]) -> list[Fact]:
    """One issuer can't attest two records of one identity."""
    found: dict[object, Fact] = {}
    for each in records:
        schema = newest(each.kind)
        row = [each.fields.get(field.name) for field in schema.fields]
        found.setdefault(each.key if not each.fields else tuple(identity(schema, row)), each)
    return list(found.values())


def _again(random: Random, record: Fact) -> Fact:
    """What another issuer says of the same thing."""
    fields = dict(record.fields)
    money = sorted(name for name, value in fields.items() if type(value) is int)
    if money and random.randrange(3) == 0:
        fields[random.choice(money)] = 5
    status = random.choice((record.status, record.status, Status.VOIDED))
    key = b"\x01\x00\x02" + record.key[3:]
    return Fact(
        kind=record.kind,
        issuer=2,
        key=key,
        version=1,
        status=status,
        fingerprint=random.choice((record.fingerprint, key[-17:-1])),
        schema=record.schema,
        fields={} if status is Status.ERASED else fields,
        closed=record.closed,
        period=record.period,
    )


def draw(seed: int) -> tuple[Facts, Basis]:
    """Facts and a basis; the same ones for the same seed."""
    random = Random(seed)
    as_of = random.choice(AS_OF)
    clean = random.randrange(2) == 0
    maker = _Maker(random, as_of, clean=clean)
    records: list[Fact] = []
    kinds = [kind for kind in KINDS if kind != "predicate"]
    asked = [kind for kind in kinds if random.randrange(12)]
    for kind in asked:
        count = random.choice(_COUNTS.get(kind, (0, 1, 2, 4, 8)))
        records += _distinct([maker.record(kind, number) for number in range(count)])
        if not clean and random.randrange(4) == 0:
            records += [
                _again(random, each) for each in records if each.kind == KINDS[kind] and random.randrange(2)
            ]
    offered = [each.key for each in records if each.kind in (5, 6, 7) and random.randrange(3) == 0]
    if random.randrange(9) == 0:
        offered.append(b"\x01\x00\x01" + bytes([random.choice((5, 6, 7))]) + bytes(33))
    pledged = {
        each.fingerprint: random.choice((0, 1, 500_000, 1_000_000))
        for each in records
        if each.fingerprint is not None and random.randrange(3) == 0
    }
    basis = Basis(as_of=as_of, security=tuple(offered), pledged_ppm=pledged)
    return facts(records, asked=asked), basis
