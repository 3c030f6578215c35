"""A portfolio of made-up enterprises, from a seed: what a tax office would export, with what real files hold.

Invoices of both directions with seasons, several tax rates and both number forms; voided ones; red letters
that name their original, that only match one, and that have none; rows exported twice; one whose sums don't
fit; an invoice that two enterprises claim. Monthly VAT filings derived from the invoices, and yearly ratings.
The same seed gives the same files on every machine. No enterprise here exists.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from taxledger.ledger.records import uscc_check_character

__all__ = [
    "TRADES",
    "Enterprise",
    "Invoice",
    "InvoiceNumbers",
    "Portfolio",
    "Trade",
    "credit_code",
    "generate",
    "months_between",
]

_REGIONS = ("110108", "310115", "330106", "440305", "510104", "370102")
_ORGANISATION = "0123456789ABCDEFGHJKLMNPQRTUWXY"


@dataclass(frozen=True, slots=True)
class Trade:
    """A line of business: its goods, rates (percent), and how the months of a year differ."""

    name: str
    sells: tuple[str, ...]
    buys: tuple[str, ...]
    rate: int
    season: tuple[int, ...]
    """Percent of the average month, January to December."""
    mean_fen: int
    """Average net amount of one sales invoice."""


TRADES = (
    Trade(
        "食品",
        ("*食品*糕点", "*食品*月饼礼盒"),
        ("*谷物*面粉", "*糖*白砂糖", "*纸制品*包装盒"),
        13,
        (140, 60, 80, 85, 90, 90, 85, 120, 180, 90, 85, 95),
        820_000,
    ),
    Trade(
        "空调",
        ("*制冷设备*空调机组", "*修理修配*空调维护"),
        ("*金属制品*铜管", "*电机*压缩机"),
        13,
        (50, 40, 70, 110, 170, 200, 190, 140, 80, 50, 45, 55),
        4_300_000,
    ),
    Trade(
        "运输",
        ("*运输服务*国内货物运输", "*物流辅助服务*装卸"),
        ("*石油制品*柴油", "*橡胶制品*轮胎"),
        9,
        (80, 50, 95, 100, 105, 110, 100, 100, 110, 105, 125, 120),
        1_150_000,
    ),
    Trade(
        "软件",
        ("*信息技术服务*软件开发", "*信息技术服务*运维"),
        ("*电子计算机*服务器", "*信息系统服务*云服务"),
        6,
        (60, 40, 80, 85, 90, 120, 85, 85, 110, 95, 120, 230),
        9_600_000,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enterprise:
    """A made-up enterprise."""

    subject: str
    """``uscc:`` and a credit code with right check characters."""
    name: str
    trade: Trade = field(repr=False)

    @property
    def code(self) -> str:
        return self.subject.removeprefix("uscc:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """One row of an invoice file; amounts in fen."""

    enterprise: str
    direction: str
    code: str
    number: str
    date: str
    counterparty: str
    goods: str
    rate: int
    net: int
    tax: int
    gross: int
    voided: bool = False
    original: str = ""
    """Number of the invoice that a red letter names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """Enterprises and everything they filed."""

    seed: int
    first_month: str
    last_month: str
    enterprises: tuple[Enterprise, ...]
    invoices: tuple[Invoice, ...]
    """In the order of the files; rows that stand twice are here twice."""

    @property
    def through(self) -> str:
        """Last day of the last month."""
        year, month = int(self.last_month[:4]), int(self.last_month[5:])
        return f"{self.last_month}-{calendar.monthrange(year, month)[1]}"


def credit_code(random: Random) -> str:
    """18 characters with both check characters (GB 11714 inside GB 32100)."""
    body = "".join(random.choice(_ORGANISATION) for _ in range(8))
    weighted = zip(body, (3, 7, 9, 10, 5, 8, 4, 2), strict=True)
    last = -sum(int(each, 36) * weight for each, weight in weighted) % 11
    if last == 10:
        return credit_code(random)  # an X would be right too, but looks wrong to many systems
    first_17 = f"91{random.choice(_REGIONS)}{body}{last}"
    return first_17 + uscc_check_character(first_17)


def months_between(first: str, last: str) -> list[str]:
    """``YYYY-MM`` from first to last."""
    year, month = int(first[:4]), int(first[5:])
    found = []
    while (text := f"{year:04}-{month:02}") <= last:
        found.append(text)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return found


class InvoiceNumbers:
    """Invoice numbers: 20 digits without a code, or eight digits of a booklet with a twelve-digit code."""

    def __init__(self, random: Random, start: int | None = None) -> None:
        """``start``: where they begin, so that those of another enterprise lie elsewhere; None: anywhere."""
        self._random = random
        self._next = random.randrange(10_000, 90_000_000) if start is None else start

    def take(self, month: str, *, booklet: bool) -> tuple[str, str]:
        """(code, number) of the next one; a code only in a booklet."""
        self._next += self._random.randrange(1, 40)
        if booklet:
            return f"0{self._random.choice(_REGIONS)[:4]}{month[2:4]}00105", f"{self._next % 100_000_000:08}"
        return "", f"{month[2:4]}{self._random.choice(_REGIONS)[:2]}2{self._next:015}"


def _month_of(
    random: Random,
    enterprise: Enterprise,
    numbers: InvoiceNumbers,
    month: str,
    parties: Sequence[str],
    direction: str,
) -> list[Invoice]:
    trade = enterprise.trade
    percent = trade.season[int(month[5:]) - 1]
    count = max(1, (8 if direction == "sale" else 6) * percent * random.randrange(70, 131) // 10_000)
    days = calendar.monthrange(int(month[:4]), int(month[5:]))[1]
    found = []
    for _ in range(count):
        code, number = numbers.take(month, booklet=random.randrange(4) == 0)
        net = trade.mean_fen * random.randrange(15, 260) // 100 // (1 if direction == "sale" else 2)
        rate = trade.rate if direction == "sale" else random.choice((13, 13, 9, 6, 3))
        tax = (net * rate + 50) // 100
        found.append(
            Invoice(
                enterprise=enterprise.code,
                direction=direction,
                code=code,
                number=number,
                date=f"{month}-{random.randrange(1, days + 1):02}",
                counterparty=random.choice(parties),
                goods=random.choice(trade.sells if direction == "sale" else trade.buys),
                rate=rate,
                net=net,
                tax=tax,
                gross=net + tax,
                voided=random.randrange(100) < 4,
            )
        )
    return sorted(found, key=lambda each: each.date)


def _red_letter(random: Random, original: Invoice, numbers: InvoiceNumbers, *, named: bool) -> Invoice:
    month = original.date[:7]
    code, number = numbers.take(month, booklet=not named)
    days = calendar.monthrange(int(month[:4]), int(month[5:]))[1]
    day = random.randrange(int(original.date[8:]), days + 1)
    return replace(
        original,
        code=code,
        number=number,
        date=f"{month}-{day:02}",
        net=-original.net,
        tax=-original.tax,
        gross=-original.gross,
        original=original.number if named else "",
    )


def _with_exceptions(random: Random, invoices: list[Invoice], numbers: InvoiceNumbers) -> list[Invoice]:
    """The rows of one enterprise and direction as they would be exported, with what real exports hold."""
    found: list[Invoice] = []
    for invoice in invoices:
        found.append(invoice)
        if invoice.voided:
            continue
        lot = random.randrange(1_000)
        if lot < 25:
            found.append(_red_letter(random, invoice, numbers, named=lot < 15))
        elif lot < 30:  # its original was issued before the first month
            orphan = replace(invoice, net=invoice.net + 137, gross=invoice.gross + 137)
            found.append(_red_letter(random, orphan, numbers, named=False))
        elif lot < 36:
            found.append(invoice)
    return found


def generate(
    seed: int, *, enterprises: int = 12, first_month: str = "2024-01", last_month: str = "2025-12"
) -> Portfolio:
    """A portfolio; the same for the same arguments.

    Args:
        seed: any integer.
        enterprises: how many, at least 2.
        first_month: ``YYYY-MM``; ``last_month`` likewise, not before it.
    """
    random = Random(seed)  # noqa: S311 — made-up data has to be repeatable, not secret
    chosen = tuple(
        Enterprise(
            subject=f"uscc:{credit_code(random)}",
            name=f"示例{TRADES[number % len(TRADES)].name}{number + 1:02}有限公司",
            trade=TRADES[number % len(TRADES)],
        )
        for number in range(enterprises)
    )
    strangers = [credit_code(random) for _ in range(5 * enterprises)]
    rows: list[Invoice] = []
    for enterprise in chosen:
        for direction in ("sale", "purchase"):
            numbers = InvoiceNumbers(random)
            parties = random.sample(strangers, 6)
            issued = [
                invoice
                for month in months_between(first_month, last_month)
                for invoice in _month_of(random, enterprise, numbers, month, parties, direction)
            ]
            rows += _with_exceptions(random, issued, numbers)
    rows.append(_claimed_twice(rows, chosen))
    rows.append(_sums_differ(rows))
    return Portfolio(
        seed=seed, first_month=first_month, last_month=last_month, enterprises=chosen, invoices=tuple(rows)
    )


def _claimed_twice(rows: Iterable[Invoice], chosen: Sequence[Enterprise]) -> Invoice:
    """A sale of the first enterprise that the second one files as its own, to another buyer."""
    first = next(row for row in rows if row.direction == "sale" and not row.voided and row.net > 0)
    return replace(first, enterprise=chosen[1].code, counterparty=chosen[0].code)


def _sums_differ(rows: Iterable[Invoice]) -> Invoice:
    """An invoice like another one, whose net and tax miss its gross by one fen."""
    like = next(row for row in rows if not row.code)
    number = like.number[:-1] + str((int(like.number[-1]) + 5) % 10)
    return replace(like, number=number, gross=like.gross + 1, voided=False)
