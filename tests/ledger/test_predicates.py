"""Formulas: a second implementation agrees; incomplete inputs give no answer; what counts and what does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from consentkit import make_terms
from predicatekit import PlainRow, plain_grade, plain_net_sales, plain_open_arrears, years_before

from taxledger.ledger import predicates
from taxledger.ledger.consent import PredicateTerms
from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.predicates import (
    Argument,
    Inputs,
    evaluate,
    evaluate_again,
    find_formula,
    months_before,
)
from taxledger.ledger.records import Status

SEED = 20260312
STATUSES = {"valid": 1, "voided": 2, "reversed": 3, "revoked": 4}
RATING, ARREARS, INVOICE = 3, 4, 5
YEARS = frozenset(range(2016, 2022))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    kind: int
    year: int
    month: int
    status: Status
    fields: dict[str, Any] | None
    closed: tuple[str, ...] = ()


def invoice(**changes: Any) -> Record:
    row: dict[str, Any] = {
        "direction": "sale", "date": "2019-06-05", "currency": "CNY", "net": "100.00", "status": "valid",
    } | changes  # fmt: skip
    return invoice_of(row)


def invoice_of(row: PlainRow) -> Record:
    net = None if row["net"] is None else int(Decimal(row["net"]) * 100)
    fields = {**row, "net": net}
    status = Status(STATUSES[fields.pop("status")])
    fields = {name: value for name, value in fields.items() if value is not None}
    day = date.fromisoformat(row["date"])
    return Record(kind=INVOICE, year=day.year, month=day.month, status=status, fields=fields)


def rating_of(row: PlainRow) -> Record:
    status = Status(STATUSES[row["status"]])
    fields = {"year": row["year"], "grade": row["grade"]}
    return Record(kind=RATING, year=row["year"], month=0, status=status, fields=fields)


def arrears_of(row: PlainRow) -> Record:
    fields = {name: value for name, value in row.items() if name != "status" and value is not None}
    day = date.fromisoformat(row["opened"])
    status = Status(STATUSES[row["status"]])
    return Record(kind=ARREARS, year=day.year, month=day.month, status=status, fields=fields)


def ask(
    predicate: str, argument: Argument, records: Iterable[Record], as_of: str, through: str | None = "2021-12-31",
    keyed_years: frozenset[int] = YEARS,
) -> bool:  # fmt: skip
    inputs = Inputs(records=tuple(records), through=through, keyed_years=keyed_years)
    return evaluate(find_formula(predicate, argument), argument, as_of, inputs)


def random_day(random: Random) -> str:
    return str(date(2017, 1, 1) + timedelta(days=random.randrange(4 * 365)))


def test_net_sales_agree_with_the_second_implementation() -> None:
    random = Random(SEED)
    verdicts = []
    for _ in range(60):
        rows = [
            {
                "direction": random.choice(["sale", "sale", "purchase"]),
                "date": random_day(random),
                "currency": random.choice(["CNY"] * 8 + ["EUR"]),
                "net": str(Decimal(random.randrange(-50_000, 500_000)) / 100),
                "status": random.choice(list(STATUSES)),
            }
            for _ in range(random.randrange(80))
        ]
        as_of = random.choice([random_day(random), "2020-02-29", "2019-12-31", "2019-03-01"])
        fen = int(plain_net_sales(rows, as_of) * 100)
        records = [invoice_of(row) for row in rows]
        for threshold in (fen - 1, fen, fen + 1, 0, -1):
            answer = ask("net_sales_at_least", threshold, records, as_of)
            assert answer == (fen >= threshold), f"seed {SEED}"
            verdicts.append(answer)
    assert {True, False} == set(verdicts)


def test_grades_agree_with_the_second_implementation() -> None:
    random = Random(SEED)
    # Written out: which grades are at least the one asked.
    enough = {"A": "A", "B": "AB", "M": "ABM", "C": "ABMC", "D": "ABMCD"}
    for _ in range(300):
        rows = [
            {"year": year, "grade": random.choice("ABMCD"), "status": random.choice(list(STATUSES))}
            for year in range(2016, 2022)
            if random.random() < 0.4
        ]
        as_of = random_day(random)
        grade = plain_grade(rows, as_of)
        for asked, those in enough.items():
            keyed = YEARS if int(as_of[:4]) >= 2018 else YEARS | {2015}
            answer = ask("grade_at_least", asked, map(rating_of, rows), as_of, keyed_years=keyed)
            assert answer == (grade is not None and grade in those), f"seed {SEED}"


def test_arrears_agree_with_the_second_implementation() -> None:
    random = Random(SEED)
    seen = set()
    for _ in range(400):
        rows = [
            {
                "category": random.choice(["arrears", "arrears", "violation", "audit"]),
                "opened": random_day(random),
                "closed": random.choice([None, random_day(random), random_day(random)]),
                "status": random.choice(list(STATUSES)),
            }
            for _ in range(random.randrange(5))
        ]
        as_of = random.choice([random_day(random), "2020-02-29"])
        keyed = YEARS | frozenset(range(2013, 2016))
        answer = ask("no_open_arrears", None, map(arrears_of, rows), as_of, keyed_years=keyed)
        assert answer == (plain_open_arrears(rows, as_of) == 0), f"seed {SEED}"
        seen.add(answer)
    assert seen == {True, False}


def test_months_before_is_the_calendar() -> None:
    for days in range(3 * 366):
        day = date(2019, 1, 1) + timedelta(days=days)
        for years in (1, 3):
            assert months_before(str(day), 12 * years) == str(years_before(day, years))
    assert months_before("2020-03-31", 1) == "2020-02-29"
    assert months_before("2020-01-15", 1) == "2019-12-15"
    assert months_before("2020-01-31", 2) == "2019-11-30"


@pytest.mark.parametrize(
    ("as_of", "first"),
    [
        ("2020-02-29", "2019-03"),
        ("2020-03-15", "2019-03"),
        ("2021-02-28", "2020-02"),
        ("2020-12-31", "2020-01"),
    ],
)
def test_the_range_is_the_window_s_months(as_of: str, first: str) -> None:
    formula = find_formula("net_sales_at_least", 0)
    query = predicates.input_query(formula, "cumcm:E1", 1, as_of)
    assert (query.kinds, query.from_period, query.to_period) == ((INVOICE,), first, as_of[:7])


@pytest.mark.parametrize(
    ("date_", "counts"),
    [("2019-02-28", False), ("2019-03-01", True), ("2020-02-29", True), ("2020-03-01", False)],
)
def test_the_window_s_edges(date_: str, counts: bool) -> None:
    assert ask("net_sales_at_least", 10_000, [invoice(date=date_)], "2020-02-29") is counts


def test_a_red_letter_is_negative_and_a_reversed_invoice_counts() -> None:
    records = [invoice(status="reversed"), invoice(net="-100.00", date="2019-06-20")]
    assert ask("net_sales_at_least", 0, records, "2019-12-31")
    assert not ask("net_sales_at_least", 1, records, "2019-12-31")
    assert ask("net_sales_at_least", 10_000, records, "2019-06-19")  # before the red letter


ERASED = Record(kind=INVOICE, year=2019, month=6, status=Status.ERASED, fields=None)


@pytest.mark.parametrize(
    ("records", "options"),
    [
        ([], {"through": None}),
        ([], {"through": "2019-12-30"}),
        ([], {"keyed_years": frozenset({2018})}),
        ([ERASED], {}),
        ([replace(invoice(), status=Status.SUPERSEDED)], {}),
        ([invoice(net=None)], {}),
        ([invoice(currency=None)], {}),
        ([invoice(direction=None)], {}),
    ],
)  # fmt: skip
def test_incomplete_inputs_give_no_answer(records: list[Record], options: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="inputs_incomplete"):
        ask("net_sales_at_least", 0, [*records, invoice()], "2019-12-31", **options)


def test_what_lies_outside_the_range_is_passed_over() -> None:
    others = [
        replace(ERASED, month=1),
        replace(ERASED, month=13),  # a quarter that ends before the window
        replace(ERASED, year=2018),
        replace(ERASED, kind=RATING),
    ]
    assert ask("net_sales_at_least", 10_000, [*others, invoice()], "2020-04-30")
    with pytest.raises(RefusedError, match="inputs_incomplete"):
        ask("net_sales_at_least", 10_000, [replace(ERASED, month=14), invoice()], "2020-04-30")


def test_a_year_before_the_newest_rating_needs_no_key() -> None:
    rows = [{"year": 2019, "grade": "B", "status": "valid"}]
    some = frozenset({2019, 2020})
    assert ask("grade_at_least", "B", map(rating_of, rows), "2020-06-30", keyed_years=some)
    for keyed, records in ((some, []), (frozenset({2018, 2019}), map(rating_of, rows))):
        with pytest.raises(RefusedError, match="nothing of"):
            ask("grade_at_least", "B", records, "2020-06-30", keyed_years=keyed)
    # With all three years complete, no rating is an answer: it is not at least any grade.
    assert not ask("grade_at_least", "D", [], "2020-06-30")


@pytest.mark.parametrize(
    ("name", "argument", "code"),
    [
        ("net_sales", 5, "predicate_unknown"),
        ("net_sales_at_least", "5", "predicate_argument_invalid"),
        ("net_sales_at_least", True, "predicate_argument_invalid"),
        ("net_sales_at_least", 2**63, "predicate_argument_invalid"),
        ("net_sales_at_least", None, "predicate_argument_invalid"),
        ("grade_at_least", "E", "predicate_argument_invalid"),
        ("grade_at_least", None, "predicate_argument_invalid"),
        ("no_open_arrears", 0, "predicate_argument_invalid"),
    ],
)
def test_a_consent_s_predicates_are_known_ones(name: str, argument: Argument, code: str) -> None:
    terms = make_terms(
        mode="proof_only", details=(), predicates=(PredicateTerms(name=name, argument=argument),)
    )
    with pytest.raises(RefusedError) as refused:
        predicates.check_predicates(terms)
    assert refused.value.code == code
    predicates.check_predicates(
        replace(terms, predicates=(PredicateTerms(name="grade_at_least", argument="B"),))
    )


@pytest.mark.parametrize("as_of", ["", "2020-02-30", "1989-12-31", "2201-01-01", "2020-1-1"])
def test_an_as_of_date_is_a_date(as_of: str) -> None:
    with pytest.raises(FormatError, match="as-of date"):
        ask("no_open_arrears", None, [], as_of)


def test_a_record_can_be_computed_again() -> None:
    fields = {
        "name": "net_sales_at_least", "amount": 10_000, "formula": "vat_invoice.net_sales_12m",
        "formula_version": 1, "as_of": "2019-12-31", "currency": "CNY", "input_kind": INVOICE,
        "input_from": "2019-01", "input_to": "2019-12",
    }  # fmt: skip
    inputs = Inputs(records=(invoice(),), through="2019-12-31", keyed_years=YEARS)
    assert evaluate_again(fields, inputs)
    assert not evaluate_again({**fields, "amount": 10_001}, inputs)
    for wrong in ({"formula_version": 2}, {"formula": "other"}, {"name": "no_open_arrears"}):
        with pytest.raises(FormatError, match="formula that is known here"):
            evaluate_again({**fields, **wrong}, inputs)
    for other in ({"currency": "USD"}, {"currency": None}, {"input_kind": 4}, {"input_from": "2019-12"}):
        with pytest.raises(FormatError, match="as its formula has it"):
            evaluate_again({**fields, **other}, inputs)


@pytest.mark.parametrize(
    ("predicate", "argument", "record", "name"),
    [
        ("no_open_arrears", None, arrears_of({"category": "arrears", "opened": "2019-06-05", "closed": "2019-07-05",
         "status": "valid"}), "closed"),
        ("grade_at_least", "B", rating_of({"year": 2019, "grade": "A", "status": "valid"}), "year"),
        ("net_sales_at_least", 1, invoice(), "net"),
    ],
)  # fmt: skip
def test_a_field_that_is_not_shown_gives_no_result_rather_than_no(
    predicate: str, argument: Argument, record: Record, name: str
) -> None:
    assert ask(predicate, argument, [record], "2019-12-31")
    shown = {key: value for key, value in (record.fields or {}).items() if key != name}
    hidden = replace(record, fields=shown, closed=(name, "memo"))
    with pytest.raises(RefusedError) as refused:
        ask(predicate, argument, [hidden], "2019-12-31")
    assert refused.value.code == "inputs_incomplete"
    assert ask(predicate, argument, [replace(record, closed=("memo",))], "2019-12-31")
