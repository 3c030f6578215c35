"""Sections about invoices: sales and purchases by month, red letters and voids, the largest counterparties."""

from __future__ import annotations

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact
from taxledger.lending.report.blocks import Block, Note, Section
from taxledger.lending.report.context import Context
from taxledger.lending.report.figures import money, scale_of, share
from taxledger.lending.report.months import by_month, months_of, number, recent, word
from taxledger.lending.report.plain import plain
from taxledger.lending.report.plots import Bar, Series, columns, horizontal

__all__ = ["invoice_sections"]

_KIND = KINDS["vat_invoice"]
_TOP = 5


def invoice_sections(context: Context) -> list[Section]:
    """All sections about invoices; none where invoices were not asked."""
    coverage = context.coverage(_KIND)
    if coverage is None:
        return []
    say = context.say
    if not context.facts.of(_KIND):
        return [Section(title=say("sales"), blocks=(context.empty(_KIND),))]
    facts, others = context.in_currency(context.facts.of(_KIND))
    sales = [each for each in facts if word(each, "direction") == "sale"]
    purchases = [each for each in facts if word(each, "direction") == "purchase"]
    found = [
        _by_month(context, sales, purchases, others),
        _red_letters(context, sales),
        _largest(context, "customers", "blue", [each for each in sales if each.counted]),
        _largest(context, "suppliers", "teal", [each for each in purchases if each.counted]),
    ]
    return [each for each in found if each is not None]


def _positive(fact: Fact) -> int:
    return max(number(fact, "net"), 0)


def _negative(fact: Fact) -> int:
    return min(number(fact, "net"), 0)


def _net(fact: Fact) -> int:
    return number(fact, "net")


def _by_month(context: Context, sales: list[Fact], purchases: list[Fact], others: int) -> Section:
    say, until = context.say, context.as_of.isoformat()
    coverage = context.facts.coverage[_KIND]
    months = months_of(coverage, context.as_of)
    sold = [each for each in sales if each.counted]
    bought = [each for each in purchases if each.counted]
    series = [
        Series(
            name=say("series_sales"),
            tone="blue",
            values=by_month(sold, months, "date", _positive, until),
        ),
        Series(name=say("series_red"), tone="bad", values=by_month(sold, months, "date", _negative, until)),
    ]
    if bought:
        bought_values = by_month(bought, months, "date", _net, until)
        series.append(Series(name=say("series_purchases"), tone="teal", values=bought_values, stack=1))
    largest = max((abs(value) for each in series for value in each.values), default=0)
    per_step, scale = scale_of(largest, context.currency, context.language)
    total = say(
        "months_total",
        sales=context.feature("net_sales_12m"),
        purchases=context.feature("purchases_12m"),
        currency=context.currency,
    )
    plot = columns(
        months,
        series,
        unit=say("axis_money", scale=scale, currency=context.unit),
        per_step=per_step,
        show=context.money,
        summary=say("sales"),
        veiled_after=context.until(_KIND) or "0000",
        veil=say("not_attested"),
    )
    return Section(title=say("sales"), blocks=(Note(text=total, tone="ink"), plot, *context.others(others)))


def _red_letters(context: Context, sales: list[Fact]) -> Section:
    """Counts of all rows that are not revoked or superseded: a voided invoice is counted here."""
    say, until = context.say, context.as_of.isoformat()
    voided = [each for each in sales if each.status is Status.VOIDED]
    red = [each for each in sales if each.counted and number(each, "net") < 0]
    rows = voided + [each for each in sales if each.counted]
    months = months_of(context.facts.coverage[_KIND], context.as_of)

    def last_year(facts: list[Fact]) -> str:
        return f"{len(recent(facts, 'date', context.as_of)):,}"

    note = say("red_note", red=last_year(red), void=last_year(voided), all=last_year(rows))
    plot = columns(
        months,
        [
            Series(
                name=say("series_red_count"),
                tone="bad",
                values=by_month(red, months, "date", lambda _fact: 1, until),
            ),
            Series(
                name=say("series_void_count"),
                tone="amber",
                values=by_month(voided, months, "date", lambda _fact: 1, until),
                stack=1,
            ),
        ],
        unit=say("axis_count"),
        per_step=1,
        show=str,
        summary=say("red_letters"),
        veiled_after=context.until(_KIND) or "0000",
        veil=say("not_attested"),
        height=340,
    )
    return Section(title=say("red_letters"), blocks=(Note(text=note, tone="ink"), plot))


def _largest(context: Context, title: str, tone: str, facts: list[Fact]) -> Section | None:
    """The five largest of the last twelve months, and the rest as one."""
    say = context.say
    sums: dict[str, int] = {}
    for each in recent(facts, "date", context.as_of):
        name = word(each, "counterparty")
        sums[name] = sums.get(name, 0) + number(each, "net")
    whole = sum(sums.values())
    if whole <= 0:
        return None
    ordered = sorted(sums.items(), key=lambda each: (-each[1], each[0]))
    top, rest = ordered[:_TOP], ordered[_TOP:]
    rows = [(context.shown(name), amount, tone) for name, amount in top]
    if rest:
        rows.append((say("others", n=f"{len(rest):,}"), sum(amount for _name, amount in rest), "faint"))
    bars = [
        Bar(
            name=plain(name),
            value=amount,
            shown=money(amount, context.currency),
            share=share(amount * 1_000_000 // whole),
            tone=colour,
        )
        for name, amount, colour in rows
    ]
    if title == "customers":  # as decisions compute them
        said = [context.feature(id) for id in ("top1_share_12m", "top5_share_12m", "counterparties_12m")]
    else:
        five = sum(amount for _name, amount in top)
        said = [share(each * 1_000_000 // whole) for each in (top[0][1], five)] + [f"{len(ordered):,}"]
    note = say("top_note", top1=said[0], top5=said[1], n=said[2])
    blocks: list[Block] = [Note(text=note, tone="ink"), horizontal(bars, whole=whole, summary=say(title))]
    return Section(title=say(title), blocks=tuple(blocks))
