"""Sections about every other kind: what was filed, paid, awarded, used, declared and certified."""

from __future__ import annotations

from collections.abc import Callable

from taxledger.ledger.kinds import KINDS
from taxledger.lending.facts import Fact
from taxledger.lending.report.blocks import Block, Column, Note, Pairs, Section
from taxledger.lending.report.context import Context
from taxledger.lending.report.figures import scale_of, share
from taxledger.lending.report.months import by_month, months_of, number, recent, word
from taxledger.lending.report.plots import Series, columns

__all__ = ["other_sections"]


def other_sections(context: Context) -> list[Section]:
    """A section for each kind that was asked, in the order that an officer reads them."""
    makers: tuple[tuple[str, str, Callable[[Context, int, list[Fact]], list[Block]]], ...] = (
        ("tax_filing", "filings", _filings),
        ("tax_credit_rating", "ratings", _ratings),
        ("tax_arrears", "arrears", _arrears),
        ("procurement_award", "awards", _awards),
        ("engineering_contract", "contracts", _contracts),
        ("utility_usage", "usage", _usage),
        ("customs_declaration", "customs", _customs),
        ("technology_qualification", "qualifications", _qualifications),
        ("credit_summary", "credit", _credit),
        ("business_registration", "registration", _registration),
    )
    sections = []
    for name, title, make in makers:
        kind = KINDS[name]
        if context.coverage(kind) is None:
            continue
        found = list(context.facts.counted(kind))
        blocks = make(context, kind, found) if found else [context.empty(kind)]
        sections.append(Section(title=context.say(title), blocks=tuple(blocks)))
    return sections


def _money_plot(
    context: Context, kind: int, drawn: list[tuple[str, str, list[Fact], str, str]], title: str
) -> Block:
    """Columns of (name, tone, facts, date field, amount field)."""
    months = months_of(context.facts.coverage[kind], context.as_of)
    until = context.as_of.isoformat()
    series = [
        Series(
            name=context.say(name),
            tone=tone,
            values=by_month(facts, months, dated, _reads(amount), until),
            stack=stack,
        )
        for stack, (name, tone, facts, dated, amount) in enumerate(drawn)
    ]
    largest = max((abs(value) for each in series for value in each.values), default=0)
    per_step, scale = scale_of(largest, context.currency, context.language)
    return columns(
        months,
        series,
        unit=context.say("axis_plain_money", scale=scale, currency=context.unit),
        per_step=per_step,
        show=context.money,
        summary=context.say(title),
        veiled_after=context.until(kind) or "0000",
        veil=context.say("not_attested"),
        height=400,
    )


def _reads(amount: str) -> Callable[[Fact], int]:
    return lambda fact: number(fact, amount)


def _filings(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    facts, others = context.in_currency(found)
    year = recent(facts, "period", context.as_of)
    note = context.say(
        "filings_note",
        n=f"{len(year):,}",
        paid=context.money(sum(number(each, "paid") for each in year)),
        currency=context.currency,
        late=sum(word(each, "filed") > word(each, "due") > "" for each in year),
        unpaid=sum(number(each, "paid") < number(each, "payable") for each in year),
    )
    drawn = [
        ("series_tax_paid", "blue", facts, "period", "paid"),
    ]
    sales = [("series_filed", "teal", facts, "period", "sales")]
    blocks: list[Block] = [Note(text=note, tone="ink"), _money_plot(context, kind, drawn, "filings")]
    if any(number(each, "sales") for each in facts):
        blocks.append(_money_plot(context, kind, sales, "filings"))
    return blocks + context.others(others)


def _ratings(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    rows = [
        (
            f"{number(each, 'year'):04}",
            word(each, "grade"),
            context.shown(word(each, "published")),
            context.shown(word(each, "authority")),
        )
        for each in sorted(found, key=lambda each: -number(each, "year"))
    ]
    tones = ["bad" if grade == "D" else "doubt" if grade == "C" else "good" for _year, grade, *_rest in rows]
    say = context.say
    headings = (
        Column(title=say("col_year"), share=1),
        Column(title=say("col_grade"), share=1),
        Column(title=say("col_date"), share=2),
        Column(title=say("col_issuer"), share=4),
    )
    return context.table(headings, rows, tones)


def _arrears(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    facts, others = context.in_currency(found)
    ordered = sorted(facts, key=lambda each: (bool(word(each, "closed")), word(each, "opened"), each.key))
    rows = [
        (
            context.choice(each, "category"),
            context.shown(word(each, "number")),
            word(each, "opened"),
            context.shown(word(each, "closed")),
            context.money(number(each, "amount")),
        )
        for each in ordered
    ]
    tones = ["muted" if word(each, "closed") else "bad" for each in ordered]
    say = context.say
    headings = (
        Column(title=say("col_category"), share=2),
        Column(title=say("col_number"), share=3),
        Column(title=say("col_opened"), share=2),
        Column(title=say("col_closed"), share=2),
        Column(title=say("col_amount"), share=3, numeric=True),
    )
    blocks = context.table(headings, rows, tones)
    if all(word(each, "closed") for each in ordered):
        blocks.insert(0, Note(text=say("none_open"), tone="good"))
    return blocks + context.others(others)


def _pledged(context: Context, fact: Fact) -> str:
    if fact.fingerprint is None:
        return ""
    taken = context.facts.pledged_ppm.get((fact.issuer, fact.fingerprint), 0)
    return " · " + context.say("pledged", share=share(taken)) if taken else ""


def _awards(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    facts, others = context.in_currency(found)
    ordered = sorted(facts, key=lambda each: (word(each, "awarded"), each.key), reverse=True)
    rows = [
        (
            word(each, "awarded"),
            context.shown(word(each, "buyer")),
            context.shown(word(each, "title")),
            context.choice(each, "state") + _pledged(context, each),
            context.money(number(each, "amount")),
            context.money(number(each, "amount") - number(each, "paid")),
        )
        for each in ordered
    ]
    say = context.say
    headings = (
        Column(title=say("col_date"), share=20),
        Column(title=say("col_buyer"), share=38),
        Column(title=say("col_title"), share=48),
        Column(title=say("col_state"), share=22),
        Column(title=say("col_amount"), share=28, numeric=True),
        Column(title=say("col_open"), share=28, numeric=True),
    )
    return context.table(headings, rows) + context.others(others)


def _contracts(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    facts, others = context.in_currency(found)
    ordered = sorted(facts, key=lambda each: (word(each, "signed"), each.key), reverse=True)
    amounts = ("amount", "certified", "paid", "overdue")
    rows = [
        (
            word(each, "signed"),
            context.shown(word(each, "owner")),
            context.choice(each, "state") + _pledged(context, each),
            *(context.money(number(each, name)) for name in amounts),
        )
        for each in ordered
    ]
    tones = ["bad" if number(each, "overdue") > 0 else "ink" for each in ordered]
    say = context.say
    headings = (
        Column(title=say("col_date"), share=20),
        Column(title=say("col_owner"), share=40),
        Column(title=say("col_state"), share=20),
        *(Column(title=say(f"col_{name}"), share=26, numeric=True) for name in amounts),
    )
    return context.table(headings, rows, tones) + context.others(others)


def _usage(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    """kWh by month of electricity, and what was billed for all of it."""
    say = context.say
    months = months_of(context.facts.coverage[kind], context.as_of)
    electricity = [each for each in found if word(each, "utility") == "electricity"]
    values = by_month(electricity, months, "month", lambda each: number(each, "usage_wh"))
    plot = columns(
        months,
        [Series(name=say("series_usage"), tone="amber", values=values)],
        unit=say("axis_kwh", scale=""),
        per_step=1_000,
        show=lambda value: f"{value // 1000:,} kWh",
        summary=say("usage"),
        veiled_after=context.until(kind) or "0000",
        veil=say("not_attested"),
        height=360,
    )
    facts, others = context.in_currency(found)
    bill = _money_plot(context, kind, [("series_bill", "blue", facts, "month", "amount")], "usage")
    return [plot, bill, *context.others(others)]


def _customs(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    facts, others = context.in_currency(found)
    cleared = [each for each in facts if word(each, "state") == "cleared"]
    out = [each for each in cleared if word(each, "direction") == "export"]
    into = [each for each in cleared if word(each, "direction") == "import"]
    drawn = [
        ("series_exports", "blue", out, "declared", "value"),
        ("series_imports", "teal", into, "declared", "value"),
    ]
    return [_money_plot(context, kind, drawn, "customs"), *context.others(others)]


def _qualifications(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    ordered = sorted(found, key=lambda each: (word(each, "issued"), each.key), reverse=True)
    today = context.as_of.isoformat()
    rows = [
        (
            context.choice(each, "category"),
            context.shown(word(each, "number")),
            context.shown(word(each, "title")),
            word(each, "issued"),
            context.shown(word(each, "valid_until")),
        )
        for each in ordered
    ]
    tones = ["good" if (word(each, "valid_until") or "9999") >= today else "bad" for each in ordered]
    say = context.say
    headings = (
        Column(title=say("col_category"), share=30),
        Column(title=say("col_number"), share=36),
        Column(title=say("col_title"), share=50),
        Column(title=say("col_date"), share=20),
        Column(title=say("col_until"), share=20),
    )
    return context.table(headings, rows, tones)


def _credit(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    facts, others = context.in_currency(found)
    ordered = sorted(facts, key=lambda each: (word(each, "as_of"), each.key), reverse=True)
    rows = [
        (
            word(each, "as_of"),
            f"{number(each, 'lenders'):,}",
            f"{number(each, 'loans_open'):,}",
            context.money(number(each, "outstanding")),
            context.money(number(each, "overdue")),
        )
        for each in ordered
    ]
    tones = ["bad" if number(each, "overdue") > 0 else "ink" for each in ordered]
    say = context.say
    headings = (
        Column(title=say("col_date"), share=2),
        Column(title=say("col_lenders"), share=2, numeric=True),
        Column(title=say("col_loans"), share=2, numeric=True),
        Column(title=say("col_outstanding"), share=3, numeric=True),
        Column(title=say("col_overdue"), share=3, numeric=True),
    )
    return context.table(headings, rows, tones) + context.others(others)


def _registration(context: Context, kind: int, found: list[Fact]) -> list[Block]:
    newest = max(found, key=lambda each: (word(each, "registered"), each.version, each.key))
    say = context.say
    capital = number(newest, "capital")
    rows = [
        (say("reg_name"), context.shown(word(newest, "name"))),
        (say("reg_number"), context.shown(word(newest, "number"))),
        (say("reg_form"), context.shown(word(newest, "legal_form"))),
        (say("reg_since"), context.shown(word(newest, "registered"))),
        (say("reg_state"), context.choice(newest, "state")),
        (say("reg_industry"), context.shown(word(newest, "industry"))),
        (say("reg_district"), context.shown(word(newest, "district"))),
    ]
    if capital and word(newest, "currency") == context.currency:
        rows.append((say("reg_capital"), f"{context.money(capital)} {context.currency}"))
    return [Pairs(rows=tuple(rows))]
