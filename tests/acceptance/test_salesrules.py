"""The separate script on decisions: its own rules, and the documents' tables against it and the product files."""

from __future__ import annotations

import csv
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from taxledger.lending.products.catalogue import shipped_files
from taxledger.lending.products.product import Product

from .folders import data_folder
from .madeup import PRODUCTS, threshold
from .salesrules import Books, Sale, differences, measure, read_books
from .stage import ROOT
from .test_totals import write
from .totals import data_files

DATA = data_folder()
AS_OF, FIRST = date(2020, 2, 29), date(2018, 1, 1)
"""The lender asks from the month that a window of 24 months begins in where the issuer is 46 days behind."""


def books(*sales: tuple[date, str, str]) -> Books:
    return Books([Sale(day, Decimal(net), buyer) for day, net, buyer in sales], {"sale": {}, "purchase": {}})


def test_windows_end_on_the_day_and_begin_after_it() -> None:
    found = measure(
        books((date(2019, 2, 28), "9", "B"), (date(2019, 3, 1), "10", "B"), (AS_OF, "5", "C")), AS_OF, FIRST
    )
    assert found["net_sales_12m"] == 1_500
    assert found["first_sale_days"] == 366
    assert found["top5_share_12m"] == 1_000_000


def test_the_gap_reaches_the_day_itself() -> None:
    sales = [(date(2018, month, 1), "1", "B") for month in range(3, 13)] + [(date(2019, 1, 5), "1", "B")]
    assert measure(books(*sales), AS_OF, FIRST)["sales_gap_days_24m"] == (AS_OF - date(2019, 1, 5)).days
    assert measure(books(), AS_OF, FIRST)["sales_gap_days_24m"] == (AS_OF - date(2018, 2, 28)).days


def test_red_letters_are_negative_and_shares_round_down() -> None:
    found = measure(
        books(
            (date(2020, 1, 2), "300", "B"), (date(2020, 1, 3), "-100", "B"), (date(2019, 1, 3), "900", "B")
        ),
        AS_OF,
        FIRST,
    )
    assert (found["net_sales_12m"], found["red_letter_ratio_amount_12m"]) == (20_000, 333_333)
    assert found["net_sales_fall_12m"] == 777_777
    assert found["net_sales_fall_6m"] is None, "nothing to divide by"


def test_the_two_ends_of_a_cut_month_are_one() -> None:
    as_of = date(2020, 3, 15)
    found = measure(books((date(2019, 12, 20), "1", "B"), (date(2020, 3, 2), "1", "B")), as_of, FIRST)
    assert found["sales_months_3m"] == 1


def test_void_and_repeated_rows_are_no_sales(tmp_path: Path) -> None:
    rows = ("1,2020/1/3,B1,100.0,17.0,117.0,", "2,2020/1/4,B1,50.0,8.5,58.5,")
    path = write(tmp_path / "E1.csv.gz", *(f"{rows[0]}有效发票", f"{rows[0]}有效发票", f"{rows[1]} 作废发票"))
    found = read_books([path])["E1"]
    assert found.months["sale"] == {"2020-01": [1, 10_000, 1_700, 11_700]}
    answered = {
        "subject": "cumcm:E1", "product": "contest", "from": "2019-03", "months": found.months,
        "decision": {"as_of": "2020-02-29", "features": [{"id": "net_sales_12m", "value": 10_000}]},
    }  # fmt: skip
    assert differences(answered, found) == []
    answered["decision"]["features"][0]["value"] = 10_001  # type: ignore[index]
    assert differences(answered, found) == ["cumcm:E1 contest: net_sales_12m expected 10000, got 10001"]
    assert differences({**answered, "months": {}}, found)[0] == "cumcm:E1 contest: sums of months"


# --- the documents' tables ------------------------------------------------------------------------


def table(document: str, columns: int) -> list[list[str]]:
    """The rows of a document's tables with so many columns, without their heads."""
    lines = (ROOT / "docs" / document).read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in rows if len(row) == columns][1:]


def failed(product: Product, values: dict[str, int | None]) -> list[str]:
    """Ids of rules that do not pass on these values; a rule on another value is passed over."""
    found = []
    for rule in product.rules:
        name = rule.comparison.feature.id
        if name in values:
            value = values[name]
            if value is None or not rule.comparison.holds(value):
                found.append(rule.id)
    return found


@pytest.mark.skipif(DATA is None, reason="needs real data in TAXLEDGER_DATA")
def test_the_table_of_rated_enterprises_follows_from_the_files() -> None:
    assert DATA is not None
    folder = DATA / "cumcm2020c"
    with (folder / "f1_enterprises.csv").open(encoding="utf-8-sig", newline="") as text:
        known = {
            each["企业代号"]: (each["信誉评级"], each["是否违约"] == "是") for each in csv.DictReader(text)
        }
    own = read_books(data_files(folder, ("f1_output",)))
    rows = table("rated-enterprises.md", 10)
    assert [row[0] for row in rows] == sorted(known, key=lambda each: int(each[1:]))
    files = shipped_files()
    for name, grade, defaulted, net, contest, limit, rate, invoice, _, against in rows:
        values = measure(own[name], AS_OF, FIRST)
        sales = values["net_sales_12m"]
        assert sales is not None
        assert (grade, defaulted) == (known[name][0], "yes" if known[name][1] else "no")
        assert net == f"{sales / 100:,.2f}"
        expected = 0 if grade == "D" or sales < 100_000_000 else min(sales // 10, 100_000_000)
        assert (contest, limit) == ("approve" if expected else "refuse", f"{expected / 100:,.2f}"), name
        assert rate == ({"A": "4 %", "B": "6 %", "C": "8 %"}[grade] if expected else "–")
        broken = failed(files.product("invoice"), values)
        said = [each for each in against.split(", ") if not each.startswith("contest: ")]
        assert [each for each in said if each not in ("–", "below_minimum")] == broken, name
        assert (invoice == "approve") == (said in (["–"], [])), name


def test_the_table_of_walks_has_every_rule_as_the_product_files_say_it() -> None:
    files = shipped_files()
    rows = table("product-walks.md", 8)
    expected = [
        [
            id,
            rule.id,
            threshold(
                rule.comparison.operator, rule.comparison.feature.unit.value, rule.comparison.thresholds
            ),
        ]
        for id in PRODUCTS
        for rule in files.product(id).rules
    ]
    assert set(PRODUCTS) == set(files.products)
    assert [row[:3] for row in rows] == expected
    assert {(row[4], row[7]) for row in rows} == {("pass", "refuse")}
    assert [row[0] for row in table("product-walks.md", 5)] == list(PRODUCTS)
