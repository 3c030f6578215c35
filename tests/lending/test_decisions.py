"""Decisions: every product approves who meets it, refuses on each of its rules, and never on missing evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from decisionkit import (
    AS_OF,
    GOOD,
    PRODUCTS,
    decided,
    edited,
    fact,
    good_records,
    invoice,
    last_day,
    months,
    with_kind,
)  # fmt: skip

from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.decision import decode_decision, encode_decision
from taxledger.lending.facts import Facts
from taxledger.lending.features.windows import months_before
from taxledger.lending.known import FLOWS
from taxledger.lending.questions import questions

Spoil = Callable[[Facts], Facts]


def _without_sales(first: str, last: str) -> Spoil:
    return lambda facts: with_kind(
        facts, "vat_invoice", [each for each in facts.of(5) if not first <= str(each.fields["date"]) <= last]
    )


def _filings(**values: object) -> Spoil:
    return lambda facts: edited(facts, "tax_filing", **values)


def _some_filings(first: str, **values: object) -> Spoil:
    return lambda facts: edited(
        facts, "tax_filing", lambda each: str(each.fields["period"]) >= first, **values
    )


def _arrears(facts: Facts) -> Facts:
    opened = fact(
        "tax_arrears", category="arrears", number="X1", opened="2025-11-02", currency="CNY", amount=9
    )
    return with_kind(facts, "tax_arrears", [opened])


def _pledged(kind: str) -> Spoil:
    def spoil(facts: Facts) -> Facts:
        marks = {
            (each.issuer, each.fingerprint): 400_000 for each in facts.of(KINDS[kind]) if each.fingerprint
        }
        return replace(facts, pledged_ppm={**facts.pledged_ppm, **marks})

    return spoil


def _red(facts: Facts) -> Facts:
    return with_kind(facts, "vat_invoice", [*facts.of(5), invoice("2025-11-20", -20_000_000, party="B1")])


def _fall(from_month: str, share: int) -> Spoil:
    return lambda facts: edited(
        facts, "vat_invoice", lambda each: str(each.fields["date"]) >= from_month,
        net=4_000_000 * share // 100, tax=520_000 * share // 100, gross=4_520_000 * share // 100,
    )  # fmt: skip


def _kind(kind: str, **values: object) -> Spoil:
    return lambda facts: edited(facts, kind, **values)


def _drop(kind: str, field: str, below: str) -> Spoil:
    return lambda facts: with_kind(
        facts, kind, [each for each in facts.of(KINDS[kind]) if str(each.fields[field]) >= below]
    )


def _cancelled(facts: Facts) -> Facts:
    found = [
        replace(each, status=Status.VOIDED) if number % 3 == 0 else each
        for number, each in enumerate(sorted(facts.of(9), key=lambda one: str(one.fields["declared"])))
    ]
    return with_kind(facts, "customs_declaration", found)


def _usage_fall(facts: Facts) -> Facts:
    return edited(
        facts, "utility_usage", lambda each: str(each.fields["month"]) >= "2025-01", usage_wh=15_000_000
    )


SPOILS: dict[str, dict[str, Spoil]] = {
    "tax": {
        "grade": _kind("tax_credit_rating", grade="C"),
        "first_filing": _drop("tax_filing", "period", "2024-06"),
        "tax_paid": _filings(paid=10_000, payable=10_000),
        "no_open_arrears": _arrears,
        "no_overdue_filing": _some_filings("2025-10", filed=None, paid=0),
        "nil_filings": _some_filings("2025-08", sales=0),
    },
    "invoice": {
        "first_invoice": _without_sales("2023-01-01", "2025-02-01"),
        "longest_gap": _without_sales("2025-08-01", "2025-12-31"),
        "months_with_sales": _without_sales("2024-01-01", "2024-07-31"),
        "recent_sales": _without_sales("2025-10-26", "2025-12-31"),
        "red_letters": _red,
        "fall_12m": _fall("2025-01", 60),
        "fall_6m": _fall("2025-07", 50),
        "concentration": _kind("vat_invoice", counterparty="B1"),
        "no_open_arrears": _arrears,
    },
    "contest": {"grade": _kind("tax_credit_rating", grade="D")},
    "procurement": {
        "award_valid": _kind("procurement_award", state="completed"),
        "public_buyer": _kind("procurement_award", buyer_public=False),
        "account_fixed": _kind("procurement_award", account=None),
        "not_pledged": _pledged("procurement_award"),
    },
    "electricity": {
        "months_with_usage": _drop("utility_usage", "month", "2025-03"),
        "no_arrears": _kind("utility_usage", arrears=5),
        "usage_fall": _usage_fall,
        "filings": lambda facts: with_kind(facts, "tax_filing", ()),
    },
    "customs": {
        "first_declaration": _drop("customs_declaration", "declared", "2025-04"),
        "export_months": _drop("customs_declaration", "declared", "2026-01"),
        "cancelled": _cancelled,
    },
    "engineering": {
        "contract_valid": _kind("engineering_contract", state="terminated"),
        "owner_on_time": _kind("engineering_contract", overdue=1),
        "account_fixed": _kind("engineering_contract", account=None),
        "not_pledged": _pledged("engineering_contract"),
        "sales": _without_sales("2025-01-01", "2025-08-31"),
    },
    "technology": {
        "qualification": _kind("technology_qualification", valid_until="2025-12-30"),
        "filed_sales": _filings(sales=500_000),
        "late_filings": _some_filings("2025-06", filed="2026-01-31"),
    },
    "first_time": {
        "no_loans_elsewhere": _kind("credit_summary", loans_open=1, lenders=1),
        "first_borrower": _kind("credit_summary", first_borrowed="2024-01-01"),
        "first_filing": _drop("tax_filing", "period", "2025-03"),
        "no_overdue_filing": _some_filings("2025-10", filed=None, paid=0),
    },
}
"""What has to become of a good enterprise for a rule to refuse it."""


@pytest.mark.parametrize("id", sorted(PRODUCTS))
def test_every_product_approves_a_good_enterprise(id: str) -> None:
    decision = decided(id)
    assert decision.outcome == "approve", [
        (each.id, each.value) for each in decision.rules if each.verdict != "pass"
    ]
    assert decision.limit > 0
    assert decision.rate_ppm
    assert not decision.reasons


@pytest.mark.parametrize(("id", "rule"), [(id, rule) for id in sorted(PRODUCTS) for rule in SPOILS[id]])
def test_every_rule_refuses_what_does_not_meet_it(id: str, rule: str) -> None:
    assert {each.id for each in PRODUCTS[id].rules} == set(SPOILS[id])
    decision = decided(id, SPOILS[id][rule](GOOD))
    judged = {each.id: each for each in decision.rules}
    assert judged[rule].verdict == "refuse", judged[rule]
    assert decision.outcome == "refuse"
    assert (decision.limit, decision.rate_ppm) == (0, None)
    assert rule in [each.code for each in decision.reasons]


@pytest.mark.parametrize("id", sorted(PRODUCTS))
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"through": "2025-10-01"}, "not_attested_through"),
        ({"through": None}, "not_attested_through"),
        ({"from_period": "2025-11"}, "evidence_too_short"),
        ({"to_period": "2025-11"}, "evidence_too_short"),
        ({"erased": 1}, "evidence_erased"),
        ({"closed": ("net",)}, "fields_closed"),
    ],
)
def test_wanting_evidence_is_its_own_answer_and_no_rule_is_asked(
    id: str, change: dict[str, object], code: str
) -> None:
    for kind in PRODUCTS[id].months:
        coverage = {**GOOD.coverage, kind: replace(GOOD.coverage[kind], **change)}  # type: ignore[arg-type]
        # Also where a rule would have refused: what is missing is never held against the enterprise.
        spoilt = next(iter(SPOILS[id].values()))(GOOD)
        decision = decided(id, replace(spoilt, coverage=coverage))
        assert decision.outcome == "incomplete"
        assert {each.code for each in decision.reasons} == {code}
        assert not decision.rules
        assert decision.limit == 0


@pytest.mark.parametrize("id", sorted(PRODUCTS))
def test_a_kind_that_was_not_asked_is_missing(id: str) -> None:
    for kind in PRODUCTS[id].months:
        coverage = {each: value for each, value in GOOD.coverage.items() if each != kind}
        decision = decided(id, replace(GOOD, coverage=coverage))
        assert decision.outcome == "incomplete"
        assert "evidence_missing" in [each.code for each in decision.reasons]


def test_a_year_not_begun_is_wanting_only_where_absence_could_flatter() -> None:
    def begun(kind: str) -> str:
        number = KINDS[kind]
        coverage = {**GOOD.coverage, number: replace(GOOD.coverage[number], begun=False)}
        product = {"procurement_award": "procurement", "tax_arrears": "tax"}[kind]
        return decided(product, replace(GOOD, coverage=coverage)).outcome

    assert (begun("procurement_award"), begun("tax_arrears")) == ("approve", "incomplete")


def test_security_has_to_be_named_known_and_proved_free() -> None:
    assert [each.code for each in decided("procurement", security=()).reasons] == ["security_missing"]
    assert [each.code for each in decided("procurement", security=(bytes(37),)).reasons] == [
        "security_unknown"
    ]
    unproved = decided("procurement", replace(GOOD, pledged_ppm={}))
    assert (unproved.outcome, [each.code for each in unproved.reasons]) == (
        "incomplete",
        ["pledges_unproved"],
    )


def test_the_edge_gap_is_no_gap_that_is_forgotten() -> None:
    """An enterprise that stopped selling five months before passes the months, and fails the gap."""
    decision = decided("invoice", _without_sales("2025-08-01", "2025-12-31")(GOOD))
    gap = next(each for each in decision.rules if each.id == "longest_gap")
    assert gap.value == (AS_OF - date(2025, 7, 25)).days == 159
    assert gap.verdict == "refuse"


def test_what_is_below_the_least_amount_is_refused() -> None:
    small = edited(GOOD, "vat_invoice", net=10_000, tax=1_300, gross=11_300)
    decision = decided("contest", small)
    assert (decision.outcome, [each.code for each in decision.reasons]) == ("refuse", ["below_minimum"])


def test_the_contest_rate_follows_the_grade() -> None:
    rates = [decided("contest", edited(GOOD, "tax_credit_rating", grade=each)).rate_ppm for each in "ABCD"]
    assert rates == [40_000, 60_000, 80_000, None]


def test_the_limit_is_ten_percent_of_a_year_capped_and_rounded_down() -> None:
    decision = decided("invoice")
    sales = decision.value("net_sales_12m")
    assert sales is not None
    expected = min(sales // 10, 300_000_000)
    assert decision.limit == expected - expected % 100_000


def test_the_same_evidence_gives_the_same_bytes_and_they_read_back() -> None:
    for id in PRODUCTS:
        decision = decided(id)
        data = encode_decision(decision)
        assert encode_decision(decided(id)) == data
        assert decode_decision(data) == decision
        backwards = replace(GOOD, records={kind: each[::-1] for kind, each in reversed(GOOD.records.items())})
        assert encode_decision(decided(id, backwards)) == data


def test_bytes_in_another_form_are_no_decision() -> None:
    data = encode_decision(decided("tax"))
    for wrong in (
        data + b" ", data[:-1], b"[]", b"{}", data[:-2] + b"2}",
        data.replace(b'"limit":', b'"limit": ', 1), data.replace(b'"revolving":true', b'"revolving":1', 1),
        data.replace(b'"currency":"CNY"', b'"currency":"CNY","currency":"CNY"', 1), b"\xff" + data,
        data.replace(b'"age_ms_max":600000', b'"age_ms_max":600000.0', 1),
        data.replace(b'{"age_ms_max"', b'{"a":1,"age_ms_max"', 1), b"[" * 100_000,
    ):  # fmt: skip
        assert wrong != data
        with pytest.raises(FormatError):
            decode_decision(wrong)


def test_good_records_are_what_the_tests_say() -> None:
    assert len(months("2023-01", "2025-12")) == 36
    assert last_day("2024-02") == "2024-02-29"
    assert set(good_records()) == set(KINDS) - {"predicate"}


def _through(facts: Facts, kind: str, day: str) -> Facts:
    number = KINDS[kind]
    return replace(facts, coverage={**facts.coverage, number: replace(facts.coverage[number], through=day)})


def test_silence_beyond_what_is_attested_is_not_held_against_the_enterprise() -> None:
    """The issuer is five weeks behind: whether anything was sold since, nobody knows."""
    sold = _without_sales("2025-09-21", "2025-12-31")(GOOD)
    late = decided("invoice", _through(sold, "vat_invoice", "2025-11-26"))
    gap = next(each for each in late.rules if each.id == "longest_gap")
    assert (gap.value, gap.verdict) == ((date(2025, 11, 26) - date(2025, 9, 13)).days, "pass")
    attested = decided("invoice", sold)
    gap = next(each for each in attested.rules if each.id == "longest_gap")
    assert (gap.value, gap.verdict) == ((AS_OF - date(2025, 9, 13)).days, "refuse")


def test_an_issuer_far_behind_is_said_so_and_nothing_else() -> None:
    coverage = replace(GOOD.coverage[5], from_period="2023-10", through="2025-08-31")
    decision = decided("invoice", replace(GOOD, coverage={**GOOD.coverage, 5: coverage}))
    assert [each.code for each in decision.reasons] == ["not_attested_through"]


def test_a_month_that_is_not_attested_yet_is_no_month_without_usage() -> None:
    behind = with_kind(
        GOOD, "utility_usage", [each for each in GOOD.of(8) if each.fields["month"] != "2025-12"]
    )
    decision = decided("electricity", _through(behind, "utility_usage", "2025-11-30"))
    assert (decision.outcome, decision.value("usage_months_12m")) == ("approve", 12)
    assert decided("electricity", behind).outcome == "refuse"


def test_a_state_that_is_known_counts_at_once() -> None:
    """Arrears that are attested count, though the issuer vouches for an earlier day only."""
    opened = fact(
        "tax_arrears", category="arrears", number="X1", opened="2025-12-20", currency="CNY", amount=9
    )
    facts = _through(with_kind(GOOD, "tax_arrears", [opened]), "tax_arrears", "2025-11-30")
    assert [each.code for each in decided("tax", facts).reasons] == ["no_open_arrears"]


def test_the_windows_of_a_late_issuer_are_covered_by_what_is_asked() -> None:
    for product in PRODUCTS.values():
        issuers = dict.fromkeys(KINDS.values(), 1)
        for day in (date(2025, 3, 31), date(2024, 2, 29), date(2026, 11, 24)):
            through = day - timedelta(days=product.attested_within_days)
            for asked in questions(product, GOOD.subject, issuers, day):
                for kind in asked.kinds:
                    start = months_before(through if kind in FLOWS else day, product.months[kind])
                    assert asked.from_period <= f"{start + timedelta(days=1):%Y-%m}"
                    assert asked.to_period == f"{day:%Y-%m}"
