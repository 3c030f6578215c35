"""Features of invoices, case by case: windows, gaps, red letters, closed fields, several issuers."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from facts_maker import fact, facts, invoice

from taxledger.ledger.records import Status
from taxledger.lending.facts import Facts
from taxledger.lending.features import FEATURES, Basis

AS_OF = Basis(as_of=date(2020, 2, 29))


def value(name: str, known: Facts, basis: Basis = AS_OF) -> int | None:
    return FEATURES[name].compute(known, basis)


def test_a_stop_of_five_months_is_a_gap() -> None:
    """The trap: weekly sales that end five months before the as-of date."""
    first, last = date(2018, 3, 1), date(2019, 9, 30)
    days = [first + timedelta(days=7 * n) for n in range(300) if first + timedelta(days=7 * n) <= last]
    known = facts(invoice(day.isoformat(), 100, number=n) for n, day in enumerate(days))
    gap = value("sales_gap_days_24m", known)
    assert gap == (AS_OF.as_of - days[-1]).days
    assert gap is not None
    assert 150 <= gap <= 158


def test_a_late_start_is_a_gap() -> None:
    days = [date(2019, 8, 1) + timedelta(days=7 * n) for n in range(31)]
    known = facts(invoice(day.isoformat(), 100, number=n) for n, day in enumerate(days) if day <= AS_OF.as_of)
    assert value("sales_gap_days_12m", known) == (date(2019, 8, 1) - date(2019, 2, 28)).days


def test_no_sale_is_a_gap_of_the_whole_window() -> None:
    assert value("sales_gap_days_12m", facts([], asked=["vat_invoice"])) == 366
    assert value("net_sales_12m", facts([], asked=["vat_invoice"])) == 0
    assert value("first_sale_days", facts([], asked=["vat_invoice"])) is None


def test_what_was_not_asked_is_not_defined() -> None:
    for each in FEATURES.values():
        if each.kinds:
            assert each.compute(Facts(subject="uscc:x"), AS_OF) is None, each.id


@pytest.mark.parametrize(
    ("day", "counts"),
    [("2019-02-28", False), ("2019-03-01", True), ("2020-02-29", True), ("2020-03-01", False)],
)
def test_ends_of_a_window(day: str, counts: bool) -> None:
    assert value("net_sales_12m", facts([invoice(day, 7, number=1)])) == (7 if counts else 0)


def test_what_counts() -> None:
    known = facts(
        [
            invoice("2019-05-01", 1000, number=1),
            invoice("2019-05-02", 500, number=2, status=Status.REVERSED),
            invoice("2019-05-03", -500, number=3),
            invoice("2019-05-04", 70, number=4, status=Status.VOIDED),
            invoice("2019-05-05", 90, number=5, status=Status.REVOKED),
            invoice("2019-05-06", 900, number=6, currency="USD"),
            invoice("2019-05-07", 400, number=7, direction="purchase"),
        ]
    )
    assert value("net_sales_12m", known) == 1000
    assert value("purchases_12m", known) == 400
    assert value("purchases_to_sales_12m", known) == 400_000
    assert value("red_letter_ratio_count_12m", known) == 333_333
    assert value("red_letter_ratio_amount_12m", known) == 333_333
    assert value("void_ratio_count_12m", known) == 250_000
    assert value("void_ratio_amount_12m", known) == 70 * 10**6 // 1570
    assert value("other_currency_records", known) == 1


def test_ratios_round_down() -> None:
    known = facts([invoice("2018-05-01", 3, number=1), invoice("2019-05-01", 2, number=2)])
    assert value("net_sales_yoy_12m_ppm", known) == -333_334
    assert value("net_sales_fall_12m", known) == 333_333


def test_a_field_that_is_not_opened_leaves_no_number() -> None:
    known = facts([invoice("2019-05-01", 3, number=1, closed=("net",)), invoice("2019-05-02", 3, number=2)])
    for name in ("net_sales_12m", "red_letter_ratio_count_12m", "top1_share_12m", "purchases_to_sales_12m"):
        assert value(name, known) is None, name
    assert value("sales_gap_days_12m", known) is not None
    assert value("net_sales_3m", known) == 0
    known = facts([invoice("2019-05-01", 3, number=1, closed=("direction",))])
    assert value("net_sales_12m", known) is value("purchases_12m", known) is None
    known = facts([invoice(None, 3, number=1, closed=("date",), period="2019-05")])
    assert value("net_sales_12m", known) is value("first_sale_days", known) is None
    assert value("net_sales_3m", known) == 0


def test_an_erased_record_leaves_no_number_where_it_may_lie() -> None:
    erased = fact("vat_invoice", {}, number=1, status=Status.ERASED, period="2019-05")
    known = facts([erased, invoice("2019-03-05", 3, number=2), invoice("2020-01-05", 3, number=3)])
    assert value("net_sales_12m", known) is None
    assert value("net_sales_6m", known) == 3
    assert value("first_sale_days", known) == (AS_OF.as_of - date(2019, 3, 5)).days
    unplaced = facts([fact("vat_invoice", {}, number=1, status=Status.ERASED)])
    assert value("net_sales_3m", unplaced) is None


def test_one_invoice_of_two_issuers_counts_once() -> None:
    twice = [invoice("2019-05-01", 100, number=1), invoice("2019-05-01", 100, number=1, issuer=2)]
    assert value("net_sales_12m", facts(twice)) == 100
    differing = [invoice("2019-05-01", 100, number=1), invoice("2019-05-01", 90, number=1, issuer=2)]
    assert value("net_sales_12m", facts(differing)) is None
    assert value("sales_months_12m", facts(differing)) == 1
    voided = [
        twice[0],
        invoice("2019-05-01", 100, number=1, issuer=2, status=Status.VOIDED, period="2019-05"),
    ]
    assert value("net_sales_12m", facts(voided)) is None
    revoked = [twice[0], invoice("2019-05-01", 100, number=1, issuer=2, status=Status.REVOKED)]
    assert value("net_sales_12m", facts(revoked)) == 100


def test_months_cut_by_both_ends_are_one() -> None:
    basis = Basis(as_of=date(2020, 3, 15))
    days = [f"2019-{month:02}-20" for month in range(3, 13)] + ["2020-01-20", "2020-02-20", "2020-03-10"]
    known = facts(invoice(day, 1, number=n) for n, day in enumerate(days))
    assert value("sales_months_12m", known, basis) == 12


def test_old_rates_and_red_letters_without_an_original_count() -> None:
    """17 % after the rate changed is a late invoice, and many red letters name no original."""
    known = facts(
        [
            invoice("2019-05-01", 10_000, number=1, tax=1700, gross=11_700, rate=170_000),
            invoice("2019-06-01", -2_000, number=2, tax=-340, gross=-2_340, rate=170_000),
        ]
    )
    assert value("net_sales_12m", known) == 8_000
    assert value("red_letter_ratio_amount_12m", known) == 200_000
    assert value("red_letter_ratio_count_12m", known) == 500_000
