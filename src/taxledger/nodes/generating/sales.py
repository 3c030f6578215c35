"""Invoices of a made-up enterprise: what it sells by season and to whom, what it buys, voided ones, red letters.

The traps of real exports are in it: red letters that name their original and some that don't, one whose original was
issued before the first month, rows that stand twice, a void whose status begins with a blank, an invoice at a rate
that had ended, one whose sums are a fen apart.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from taxledger.nodes.generating.setting import GeneratedRow, Setting
from taxledger.nodes.generator import InvoiceNumbers, credit_code

__all__ = ["make_invoices", "month_net"]

_CUSTOMERS, _SUPPLIERS = 14, 8
_VOIDED = 2
_OLD_RATE = 17
_KIND = "vat_invoice"
_BLOCKS, _BLOCK = 2_500, 40_000
"""Numbers of eight digits are enough for so many enterprises: those of neighbouring seeds never meet."""


def make_invoices(setting: Setting) -> list[GeneratedRow]:
    """Sales, then purchases, by month."""
    return [*_sales(setting), *_purchases(setting)]


def _numbers(setting: Setting, random: Random, offset: int = 0) -> InvoiceNumbers:
    return InvoiceNumbers(random, setting.seed % _BLOCKS * _BLOCK + offset)


def _sales(setting: Setting) -> list[GeneratedRow]:
    random = setting.random("sales")
    numbers, customers = _numbers(setting, random), [credit_code(random) for _ in range(_CUSTOMERS)]
    issued: list[GeneratedRow] = []
    for month in setting.months:
        # Drawn for silent months too: then the other months are those of the good enterprise.
        rows = _month(setting, random, numbers, customers, month)
        if setting.back(month) not in setting.profile.silent:
            issued += rows
    return _with_traps(setting, random, numbers, issued)


def month_net(setting: Setting, month: str) -> int:
    """Net sales that a month is planned to have, in fen; the season is that of its trade, flattened."""
    profile, back = setting.profile, setting.back(month)
    net = setting.base_fen * profile.sales_percent // 100
    net = net * (300 + setting.trade.season[int(month[5:]) - 1]) // 400
    if back < 12:
        net = net * profile.last_year_percent // 100
    return net * profile.last_half_percent // 100 if back < 6 else net


def _month(
    setting: Setting, random: Random, numbers: InvoiceNumbers, customers: Sequence[str], month: str
) -> list[GeneratedRow]:
    count = random.randrange(9, 14)
    weights = [random.randrange(80, 121) for _ in range(count)]
    days = calendar.monthrange(int(month[:4]), int(month[5:]))[1]
    net, rows = month_net(setting, month), []
    for at, weight in enumerate(weights):
        rest = customers[1 + random.randrange(_CUSTOMERS - 1)]
        favoured = random.randrange(100) < setting.profile.top_customer_percent
        # Spread over the month, so that no gap is longer than it has to be.
        day = max(1, days * (at + 1) // count - random.randrange(2))
        rows.append(
            _invoice(
                setting, random, numbers, f"{month}-{day:02}", "sale",
                customers[0] if favoured else rest, net * weight // sum(weights), setting.trade.rate,
            )
        )  # fmt: skip
    return rows


def _invoice(
    setting: Setting,
    random: Random,
    numbers: InvoiceNumbers,
    day: str,
    direction: str,
    party: str,
    net: int,
    rate: int,
) -> GeneratedRow:
    code, number = numbers.take(day[:7], booklet=random.randrange(4) == 0)
    tax = (net * rate + 50) // 100
    goods = setting.trade.sells if direction == "sale" else setting.trade.buys
    return setting.row(
        _KIND, direction=direction, code=code or None, number=number, date=day, counterparty=party,
        currency="CNY", net=net, tax=tax, gross=net + tax, rate=rate * 10_000, goods=random.choice(goods),
    )  # fmt: skip


def _purchases(setting: Setting) -> list[GeneratedRow]:
    random = setting.random("purchases")
    numbers, suppliers = (
        _numbers(setting, random, _BLOCK // 2),
        [credit_code(random) for _ in range(_SUPPLIERS)],
    )
    rows = []
    for month in setting.months:
        count = random.randrange(5, 9)
        net = month_net(setting, month) * setting.profile.purchase_percent // 100 // count
        for at in range(count):
            row = _invoice(
                setting, random, numbers, f"{month}-{2 + 3 * at:02}", "purchase",
                random.choice(suppliers), net * random.randrange(70, 131) // 100, setting.trade.rate,
            )  # fmt: skip
            rows.append(row)
        if random.randrange(5) == 0:
            rows.append(rows[-1])
    return rows


# --- what real exports hold ------------------------------------------------------------------


def _with_traps(
    setting: Setting, random: Random, numbers: InvoiceNumbers, issued: Sequence[GeneratedRow]
) -> list[GeneratedRow]:
    rows: list[GeneratedRow] = []
    red_due = void_due = 50
    for at, invoice in enumerate(issued):
        rows.append(invoice)
        red_due, void_due = red_due + setting.profile.red_percent, void_due + setting.profile.void_percent
        if red_due >= 100:
            red_due -= 100
            rows.append(_red_letter(setting, random, numbers, invoice, named=at % 3 > 0))
        if void_due >= 100:
            void_due -= 100
            rows.append(_void(setting, random, numbers, invoice))
        if at % 97 == 40:
            rows.append(invoice)
    if len(issued) > 20:
        rows.append(_orphan(setting, random, numbers, issued[3]))
        rows.append(_at_old_rate(setting, random, numbers, issued[-5]))
        rows.append(_sums_differ(setting, random, numbers, issued[-9]))
    return rows


def _copy(
    setting: Setting, random: Random, numbers: InvoiceNumbers, invoice: GeneratedRow, **changed: object
) -> GeneratedRow:
    """Another invoice like one, with a number of its own."""
    fields = {key: value for key, value in invoice.fields.items() if key not in ("code", "number")}
    _, number = numbers.take(str(fields["date"])[:7], booklet=False)
    fields |= {"number": number, **changed}  # type: ignore[dict-item]
    return replace(invoice, fields={key: value for key, value in fields.items() if value is not None})


def _red_letter(
    setting: Setting, random: Random, numbers: InvoiceNumbers, invoice: GeneratedRow, *, named: bool
) -> GeneratedRow:
    """Of the same day or later in the month, so that a month's sums hold both."""
    day = str(invoice.fields["date"])
    days = calendar.monthrange(int(day[:4]), int(day[5:7]))[1]
    later = f"{day[:8]}{random.randrange(int(day[8:]), days + 1):02}"
    amounts = {name: -_int(invoice, name) for name in ("net", "tax", "gross")}
    original = str(invoice.fields["number"]) if named else None
    return _copy(setting, random, numbers, invoice, date=later, original=original, **amounts)


def _void(setting: Setting, random: Random, numbers: InvoiceNumbers, invoice: GeneratedRow) -> GeneratedRow:
    row = replace(_copy(setting, random, numbers, invoice), status=_VOIDED)
    return replace(row, cells={"status": " 作废"}) if random.randrange(3) == 0 else row


def _orphan(setting: Setting, random: Random, numbers: InvoiceNumbers, invoice: GeneratedRow) -> GeneratedRow:
    """A small red letter whose original was issued before the first month."""
    net = -(_int(invoice, "net") // 7) - 137
    tax = -((-net * setting.trade.rate + 50) // 100)
    return _copy(setting, random, numbers, invoice, net=net, tax=tax, gross=net + tax)


def _at_old_rate(
    setting: Setting, random: Random, numbers: InvoiceNumbers, invoice: GeneratedRow
) -> GeneratedRow:
    """Issued late for work done before the rate changed: right, though the rate had ended."""
    net = _int(invoice, "net") // 5
    tax = (net * _OLD_RATE + 50) // 100
    return _copy(
        setting, random, numbers, invoice, net=net, tax=tax, gross=net + tax, rate=_OLD_RATE * 10_000
    )


def _sums_differ(
    setting: Setting, random: Random, numbers: InvoiceNumbers, invoice: GeneratedRow
) -> GeneratedRow:
    net, tax = _int(invoice, "net") // 3, _int(invoice, "tax") // 3
    return _copy(setting, random, numbers, invoice, net=net, tax=tax, gross=net + tax + 1)


def _int(row: GeneratedRow, name: str) -> int:
    value = row.fields[name]
    assert type(value) is int
    return value
