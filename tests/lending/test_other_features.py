"""Features of filings, standing, security, usage and customs, case by case."""

from __future__ import annotations

from datetime import date

import pytest
from facts_maker import fact, facts, invoice

from taxledger.ledger.fields import Value
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features import FEATURES, Basis

AS_OF = Basis(as_of=date(2020, 2, 29))


def value(name: str, known: Facts, basis: Basis = AS_OF) -> int | None:
    return FEATURES[name].compute(known, basis)


def filing(period: str, *, number: int, **more: Value) -> Fact:
    year, month = int(period[:4]), int(period[5:])
    due = f"{year + month // 12}-{month % 12 + 1:02}-15"
    fields: dict[str, Value] = {
        "tax": "vat",
        "period": period,
        "number": f"F{number}",
        "filed": due,
        "due": due,
        "currency": "CNY",
        "sales": 1000,
        "payable": 30,
        "paid": 30,
        **more,
    }
    return fact("tax_filing", fields, number=number)


# --- filings --------------------------------------------------------------------------------


def test_a_correction_replaces_what_it_names() -> None:
    first = filing("2019-05", number=1, sales=1000, paid=30)
    second = filing("2019-05", number=2, sales=1200, paid=36, filed="2019-09-01", corrects="F1")
    third = filing("2019-05", number=3, sales=1300, paid=39, filed="2020-04-01", corrects="F2")
    known = facts([first, second, third])
    assert value("filed_sales_12m", known) == 1200
    assert value("tax_paid_12m", known) == 36
    assert value("filings_12m", known) == 1
    assert value("filed_sales_12m", known, Basis(as_of=date(2020, 4, 1))) == 1300
    assert value("filed_sales_12m", known, Basis(as_of=date(2019, 8, 31))) == 1000
    # The first was in time: that it was corrected later is not lateness.
    assert value("late_filings_12m", known) == 0


def test_a_correction_of_another_period_replaces_nothing() -> None:
    known = facts([filing("2019-05", number=1), filing("2019-06", number=2, corrects="F1")])
    assert value("filed_sales_12m", known) == 2000


def test_corrections_of_each_other_leave_no_number() -> None:
    same = {"filed": "2019-06-15"}
    known = facts(
        [
            filing("2019-05", number=1, corrects="F2", **same),
            filing("2019-05", number=2, corrects="F1", **same),
            filing("2019-06", number=3),
        ]
    )
    assert value("filed_sales_12m", known) is None
    assert value("nil_filings_6m", known) == 0


def test_a_correction_that_is_hidden_leaves_no_number() -> None:
    fields = {**filing("2019-05", number=1).fields}
    known = facts([fact("tax_filing", fields, number=1, closed=("corrects",)), filing("2019-06", number=2)])
    assert value("tax_paid_12m", known) is None


def test_quarters() -> None:
    quarters = [
        filing(period, number=n, months=3, sales=0 if n == 3 else 3000)
        for n, period in enumerate(("2019-03", "2019-06", "2019-09", "2019-12"))
    ]
    known = facts(quarters)
    assert value("filed_sales_12m", known) == 9000
    # September to February: the fourth quarter is nil.
    assert value("nil_filings_6m", known) == 3
    # January and February of 2019 are before the window.
    assert value("filed_months_12m", known) == 10
    overlapping = facts([*quarters, filing("2019-11", number=9)])
    assert value("filed_sales_12m", overlapping) is None
    assert value("tax_paid_12m", overlapping) == 150


def test_invoices_against_filings_speak_of_the_same_days() -> None:
    """The last month is not filed yet, and a quarter reaches out of the window."""
    filed = [
        filing("2019-03", number=1, months=3, sales=999_999),
        filing("2019-06", number=2, months=3, sales=4000),
    ]
    sold = [invoice(day, 1000, number=n) for n, day in enumerate(("2019-03-05", "2019-04-01", "2019-06-30"))]
    known = facts([*filed, *sold, invoice("2020-02-10", 7000, number=9)])
    assert value("sales_to_filed_12m", known) == 500_000


@pytest.mark.parametrize(
    ("more", "overdue"),
    [
        ({}, 0),
        ({"paid": 29}, 1),
        ({"paid": 29, "due": "2020-02-29"}, 0),
        ({"paid": 29, "due": "2020-02-28"}, 1),
        ({"paid_on": "2020-03-01"}, 1),
        ({"paid_on": "2020-02-29"}, 0),
        ({"filed": None}, 1),
        ({"filed": "2020-03-01"}, 1),
        ({"payable": -5, "paid": None}, 0),
        ({"paid": None}, None),
        ({"paid": 29, "due": None}, None),
        ({"due": None}, 0),
    ],
)
def test_overdue(more: dict[str, Value], overdue: int | None) -> None:
    assert value("overdue_filings", facts([filing("2019-12", number=1, **more)])) == overdue


def test_first_filing() -> None:
    known = facts([filing("2018-01", number=1, filed="2018-02-28"), filing("2018-02", number=2)])
    assert value("first_filing_months", known) == 24
    assert value("first_filing_days", known) == 731
    assert value("first_filing_months", known, Basis(as_of=date(2020, 2, 27))) == 23


# --- standing -------------------------------------------------------------------------------


def rating(year: int, grade: str, *, number: int, **more: Value) -> Fact:
    return fact("tax_credit_rating", {"year": year, "grade": grade, **more}, number=number, period=str(year))


def test_grade() -> None:
    known = facts(
        [
            rating(2017, "B", number=1, published="2018-04-01"),
            rating(2018, "M", number=2, published="2019-04-01"),
            rating(2019, "A", number=3, published="2020-04-01"),
            rating(2021, "D", number=4),
        ]
    )
    assert value("grade", known) == 3
    assert value("grade_trend", known) == -1
    assert value("grade", known, Basis(as_of=date(2020, 4, 1))) == 5
    hidden = facts([rating(2018, "M", number=2), rating(2017, "A", number=1, published="2018-04-01")])
    assert value("grade", hidden) == 3
    erased = fact("tax_credit_rating", {}, number=5, status=Status.ERASED, period="2019")
    assert value("grade", facts([erased, rating(2018, "A", number=1)])) is None
    older = fact("tax_credit_rating", {}, number=5, status=Status.ERASED, period="2016")
    assert value("grade", facts([older, rating(2018, "A", number=1)])) == 5


@pytest.mark.parametrize(
    ("more", "open_"),
    [
        ({}, 1),
        ({"closed": "2020-03-01"}, 1),
        ({"closed": "2020-02-29"}, 0),
        ({"opened": "2020-03-01"}, 0),
        ({"category": "audit"}, 0),
        ({"currency": "USD"}, 1),
    ],
)
def test_open_arrears(more: dict[str, Value], open_: int) -> None:
    fields: dict[str, Value] = {
        "category": "arrears",
        "number": "1",
        "opened": "2018-01-01",
        "currency": "CNY",
        "amount": 500,
        **more,
    }
    known = facts([fact("tax_arrears", fields, number=1)])
    assert value("open_arrears_count", known) == open_
    assert value("open_arrears_amount", known) == (500 if open_ and "currency" not in more else 0)
    if "closed" not in more:
        hidden = facts([fact("tax_arrears", fields, number=1, closed=("closed",))])
        assert value("open_arrears_count", hidden) is (0 if "opened" in more else None)


def test_qualifications_end() -> None:
    fields: dict[str, Value] = {"category": "high_tech", "number": "1", "issued": "2017-03-01"}
    ends = {"valid_until": "2020-02-29"}
    known = facts([fact("technology_qualification", {**fields, **ends}, number=1)])
    assert value("valid_qualifications", known) == value("valid_certificates", known) == 1
    assert value("valid_patents", known) == 0
    assert value("valid_qualifications", known, Basis(as_of=date(2020, 3, 1))) == 0
    # Absent means that it does not end; hidden does not.
    assert value("valid_qualifications", facts([fact("technology_qualification", fields, number=1)])) == 1
    hidden = fact("technology_qualification", fields, number=1, closed=("valid_until",))
    assert value("valid_qualifications", facts([hidden])) is None


def test_credit_elsewhere() -> None:
    none: dict[str, Value] = {"as_of": "2020-02-01", "lenders": 0, "loans_open": 0, "currency": "CNY"}
    some: dict[str, Value] = {**none, "as_of": "2019-11-01", "lenders": 1, "loans_open": 2}
    known = facts([fact("credit_summary", some, number=1), fact("credit_summary", none, number=2)])
    assert value("first_borrower", known) == 1
    assert value("loans_elsewhere", known) == 0
    assert value("loans_elsewhere", known, Basis(as_of=date(2020, 1, 1))) == 2
    assert value("loans_elsewhere", known, Basis(as_of=date(2021, 3, 1))) is None
    once = facts([fact("credit_summary", {**none, "first_borrowed": "2015-01-01"}, number=1)])
    assert value("first_borrower", once) == 0


# --- security -------------------------------------------------------------------------------


def award(*, number: int, status: Status = Status.VALID, issuer: int = 1, **more: Value) -> Fact:
    fields: dict[str, Value] = {
        "register": "r",
        "number": str(number),
        "buyer": "City",
        "buyer_public": True,
        "awarded": "2019-06-01",
        "completes": "2020-12-31",
        "state": "active",
        "currency": "CNY",
        "amount": 1000,
        "paid": 200,
        "account": "A",
        **more,
    }
    return fact("procurement_award", fields, number=number, status=status, issuer=issuer)


@pytest.mark.parametrize(
    ("more", "valid", "amount"),
    [
        ({}, 1, 800),
        ({"paid": None}, 1, 1000),
        ({"paid": 2000}, 1, 0),
        ({"completes": "2020-02-29"}, 1, 800),
        ({"completes": "2020-02-28"}, 0, 0),
        ({"completes": None}, 1, 800),
        ({"state": "completed"}, 0, 0),
        ({"state": None}, None, None),
        ({"awarded": "2020-03-01"}, 0, 0),
        ({"currency": "USD"}, 0, 0),
        ({"winners": 2}, 1, None),
        ({"status": Status.VOIDED}, 0, 0),
        ({"status": Status.REVOKED}, 0, None),
    ],
)
def test_award_offered(more: dict[str, Value], valid: int | None, amount: int | None) -> None:
    offered = award(number=1, **more)  # type: ignore[arg-type]
    basis = Basis(as_of=AS_OF.as_of, security=(offered.key, offered.key))
    known = facts([offered, award(number=2)])
    assert value("awards_valid", known, basis) == valid
    assert value("award_open_amount", known, basis) == amount
    assert value("awards_valid", known) is None


def test_what_is_pledged_is_not_free() -> None:
    one, other = award(number=1), award(number=1, issuer=2)
    assert one.fingerprint
    assert other.fingerprint
    for pledged, free in (
        ({}, 1_000_000),
        ({one.fingerprint: 400_000}, 600_000),
        ({b"?" * 16: 5}, 1_000_000),
    ):
        basis = Basis(as_of=AS_OF.as_of, security=(one.key,), pledged_ppm=pledged)
        assert value("award_free_ppm", facts([one]), basis) == free
    # Another issuer's record of the same award, pledged there, and offered twice.
    basis = Basis(
        as_of=AS_OF.as_of, security=(one.key, other.key), pledged_ppm={other.fingerprint: 1_000_000}
    )
    assert value("award_free_ppm", facts([one, other]), basis) == 0
    assert value("award_open_amount", facts([one, other]), basis) == 800
    missing = Basis(as_of=AS_OF.as_of, security=(one.key, award(number=7).key))
    assert value("award_free_ppm", facts([one]), missing) is None
    assert value("awards_valid", facts([one]), missing) == 0


def test_buyers() -> None:
    known = facts(
        [
            award(number=1, buyer="A"),
            award(number=2, buyer="B", amount=3000),
            award(number=3, state="cancelled"),
        ]
    )
    assert value("top_buyer_share", known) == 750_000
    # One id under two names is one buyer.
    known = facts([award(number=1, buyer="A", buyer_id="1"), award(number=2, buyer="B", buyer_id="1")])
    assert value("top_buyer_share", known) == 1_000_000


def test_invoices_offered() -> None:
    sold = invoice("2019-12-01", 1000, number=1)
    basis = Basis(as_of=AS_OF.as_of, security=(sold.key,))
    assert value("security_invoices_valid", facts([sold]), basis) == 1
    assert value("security_invoices_gross", facts([sold]), basis) == 1000
    red = invoice("2020-01-01", -300, number=2, original=sold.fields["number"])
    assert value("security_invoices_valid", facts([sold, red]), basis) == 0
    assert value("security_invoices_gross", facts([sold, red]), basis) == 700
    bought = invoice("2020-01-01", -300, number=2, original=sold.fields["number"], direction="purchase")
    assert value("security_invoices_valid", facts([sold, bought]), basis) == 1
    unnamed = invoice("2020-01-01", -300, number=2)
    assert value("security_invoices_valid", facts([sold, unnamed]), basis) == 1
    hidden = invoice("2020-01-01", -300, number=2, closed=("original",))
    assert value("security_invoices_gross", facts([sold, hidden]), basis) is None
    reversed_ = invoice("2019-12-01", 1000, number=1, status=Status.REVERSED)
    assert value("security_invoices_valid", facts([reversed_]), basis) == 0


def test_contract() -> None:
    fields: dict[str, Value] = {
        "number": "1",
        "signed": "2018-01-01",
        "state": "active",
        "currency": "CNY",
        "amount": 9000,
        "certified": 5000,
        "paid": 1500,
        "overdue": 100,
        "certified_on": "2020-01-31",
        "account": " ",
    }
    known = facts([contract := fact("engineering_contract", fields, number=1)])
    basis = Basis(as_of=AS_OF.as_of, security=(contract.key,))
    assert value("contract_receivable", known, basis) == 3500
    assert value("contract_certified", known, basis) == 5000
    assert value("contract_overdue", known, basis) == 100
    assert value("contracts_valid", known, basis) == 1
    assert value("contract_account_fixed", known, basis) == 0
    early = Basis(as_of=date(2020, 1, 30), security=(contract.key,))
    assert value("contracts_valid", known, early) == 0


# --- usage, customs -------------------------------------------------------------------------


def test_usage() -> None:
    def month(text: str, number: int, **more: Value) -> Fact:
        fields: dict[str, Value] = {
            "utility": "electricity",
            "meter": "1",
            "month": text,
            "usage_wh": 900,
            "currency": "CNY",
            "amount": 50,
            "arrears": 0,
            **more,
        }
        return fact("utility_usage", fields, number=number)

    last = [month(f"2019-{n:02}", n) for n in range(3, 13)] + [month("2020-01", 13), month("2020-02", 14)]
    before = [month("2018-03", 20, usage_wh=21_600), month("2019-02", 21, usage_wh=0, arrears=7)]
    known = facts([*last, *before, month("2020-01", 30, utility="gas", usage_wh=5)])
    assert value("usage_months_12m", known) == 12
    assert value("usage_wh_12m", known) == 10_800
    assert value("usage_spend_12m", known) == 600
    assert value("usage_fall_12m", known) == 500_000
    assert value("usage_yoy_12m_ppm", known) == -500_000
    assert value("usage_arrears", known) == 7
    # The month that is running is not over: it belongs to its last day.
    assert value("usage_months_12m", known, Basis(as_of=date(2020, 2, 15))) == 12
    readings = facts([month("2020-01", 1, currency=None, amount=None, arrears=None)])
    assert value("usage_wh_12m", readings) == 900
    assert value("usage_spend_12m", readings) is None


def test_customs() -> None:
    def declared(day: str, number: int, status: Status = Status.VALID, **more: Value) -> Fact:
        fields: dict[str, Value] = {
            "direction": "export",
            "number": str(number),
            "declared": day,
            "cleared": day,
            "state": "cleared",
            "currency": "CNY",
            "value": 100,
            **more,
        }
        return fact("customs_declaration", fields, number=number, status=status)

    known = facts(
        [
            declared("2019-01-05", 1, state="rejected", cleared=None),
            declared("2019-02-10", 2),
            declared("2019-05-05", 3),
            declared("2019-05-25", 4, direction="import", value=70),
            declared("2019-06-05", 5, Status.VOIDED),
            declared("2019-07-05", 6, state="declared", cleared=None),
            declared("2020-02-20", 7, cleared="2020-03-02"),
        ]
    )
    assert value("exports_cleared_12m", known) == 100
    assert value("exports_declared_12m", known) == 300
    assert value("imports_cleared_12m", known) == 70
    assert value("export_months_12m", known) == 1
    assert value("declarations_cancelled_ratio_12m", known) == 200_000
    assert value("first_declaration_days", known) == (AS_OF.as_of - date(2019, 2, 10)).days
