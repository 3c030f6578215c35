"""Features of what stands behind sales: red letters, voids, customers, purchases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from taxledger.lending.facts import Facts
from taxledger.lending.features.feature import Basis, Compute, Feature, Unit, ratio_ppm, total
from taxledger.lending.features.invoices import (
    Invoice,
    invoice_feature,
    net_between,
    nets_of,
    sales_between,
    tables_of,
)
from taxledger.lending.features.windows import months_before, window

__all__ = ["TRADE"]

LASTING_MONTHS = 18


# --- red letters and voids ------------------------------------------------------------------


def _red_letters(months: int, *, by_amount: bool) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        rows = sales_between(facts, basis, window(basis.as_of, months))
        if rows is None:
            return None
        nets = [each.net for each in rows if each.net is not None]
        if len(nets) != len(rows):
            return None
        negative = [net for net in nets if net < 0]
        if by_amount:
            return ratio_ppm(-sum(negative), sum(net for net in nets if net > 0))
        return ratio_ppm(len(negative), len(nets))

    return compute


def _voids(months: int, *, by_amount: bool) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        tables, days = tables_of(facts, basis), window(basis.as_of, months)
        sales, voided = (
            (tables.sales.within(days), tables.voided_sales.within(days)) if tables else (None, None)
        )
        if sales is None or voided is None:
            return None
        if not by_amount:
            return ratio_ppm(len(voided), len(sales) + len(voided))
        valid, void = _positive(sales), _positive(voided)
        return None if valid is None or void is None else ratio_ppm(void, valid + void)

    return compute


def _positive(rows: Sequence[Invoice]) -> int | None:
    return total(None if net is None else max(net, 0) for net in (each.net for each in rows))


# --- counterparties -------------------------------------------------------------------------


def _by_counterparty(rows: Sequence[Invoice] | None) -> dict[str, int] | None:
    """Net sales of each counterparty; None where an invoice does not say whose, or how much."""
    if rows is None:
        return None
    found: dict[str, int] = {}
    for each in rows:
        if each.counterparty is None or each.net is None:
            return None
        found[each.counterparty] = found.get(each.counterparty, 0) + each.net
    return found


def _top_share(count: int, months: int) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        found = _by_counterparty(sales_between(facts, basis, window(basis.as_of, months)))
        if found is None:
            return None
        return ratio_ppm(sum(sorted(found.values(), reverse=True)[:count]), sum(found.values()))

    return compute


def _counterparties(months: int) -> Compute:
    def compute(facts: Facts, basis: Basis) -> int | None:
        rows = sales_between(facts, basis, window(basis.as_of, months))
        if rows is None or any(each.counterparty is None for each in rows):
            return None
        return len({each.counterparty for each in rows})

    return compute


def _lasting(facts: Facts, basis: Basis) -> int | None:
    rows = sales_between(facts, basis, window(basis.as_of, 24))
    if rows is None or any(each.counterparty is None for each in rows):
        return None
    first: dict[str | None, int] = {}
    last: dict[str | None, int] = {}
    for each in rows:
        first.setdefault(each.counterparty, each.day)
        last[each.counterparty] = each.day
    return sum(_later_by(first[name], LASTING_MONTHS) < day for name, day in last.items())


def _later_by(day: int, months: int) -> int:
    return months_before(date.fromordinal(day), -months).toordinal()


# --- purchases ------------------------------------------------------------------------------


def _purchases(facts: Facts, basis: Basis) -> int | None:
    tables = tables_of(facts, basis)
    return total(nets_of(tables.purchases.within(window(basis.as_of, 12)))) if tables else None


def _purchases_to_sales(facts: Facts, basis: Basis) -> int | None:
    return ratio_ppm(_purchases(facts, basis), net_between(facts, basis, window(basis.as_of, 12)))


# --- the list -------------------------------------------------------------------------------


def _quality() -> Iterable[Feature]:
    yield invoice_feature(
        "red_letter_ratio_count_12m",
        Unit.PPM,
        12,
        ("Red letters among sales invoices, by count", "近12个月红字发票占比（张数）"),
        "sales with a negative net ÷ all sales; no sale: undefined",
        _red_letters(12, by_amount=False),
    )
    yield invoice_feature(
        "red_letter_ratio_amount_12m",
        Unit.PPM,
        12,
        ("Red letters against sales invoices, by amount", "近12个月红字发票占比（金额）"),
        "−Σ negative net ÷ Σ positive net of sales; nothing positive: undefined",
        _red_letters(12, by_amount=True),
    )
    yield invoice_feature(
        "void_ratio_count_12m",
        Unit.PPM,
        12,
        ("Voided among sales invoices, by count", "近12个月作废发票占比（张数）"),
        "voided ÷ (counted + voided) sales invoices; none: undefined",
        _voids(12, by_amount=False),
    )
    yield invoice_feature(
        "void_ratio_amount_12m",
        Unit.PPM,
        12,
        ("Voided among sales invoices, by amount", "近12个月作废发票占比（金额）"),
        "Σ positive net of voided ÷ Σ positive net of counted and voided; nothing positive: undefined",
        _voids(12, by_amount=True),
    )


def _partners() -> Iterable[Feature]:
    for count in (1, 5):
        yield invoice_feature(
            f"top{count}_share_12m",
            Unit.PPM,
            12,
            (
                f"Share of the largest {count} customers" if count > 1 else "Share of the largest customer",
                f"近12个月前{count}大客户销售占比",
            ),
            f"net sales to the {count} with the most ÷ net sales; those not positive: undefined",
            _top_share(count, 12),
        )
    yield invoice_feature(
        "counterparties_12m",
        Unit.COUNT,
        12,
        ("Customers, last 12 months", "近12个月客户数"),
        "distinct counterparties of sales",
        _counterparties(12),
    )
    yield invoice_feature(
        "counterparties_lasting_18m",
        Unit.COUNT,
        24,
        ("Customers of more than 18 months", "持续超过18个月的客户数"),
        "counterparties whose last sale of 24 months is later than their first of them plus 18 months",
        _lasting,
    )
    yield invoice_feature(
        "purchases_12m",
        Unit.MONEY,
        12,
        ("Net purchases, last 12 months", "近12个月不含税采购额"),
        "Σ net of purchase invoices, red letters negative",
        _purchases,
    )
    yield invoice_feature(
        "purchases_to_sales_12m",
        Unit.PPM,
        12,
        ("Net purchases against net sales", "近12个月采购额与销售额之比"),
        "net purchases ÷ net sales; those not positive: undefined",
        _purchases_to_sales,
    )


TRADE: tuple[Feature, ...] = (*_quality(), *_partners())
