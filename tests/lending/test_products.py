"""Product and scorecard files: those shipped are right, and a wrong one says what is wrong and where."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from decisionkit import FILES, PRODUCTS

from taxledger.ledger.errors import FormatError
from taxledger.lending.features.feature import Unit
from taxledger.lending.products.catalogue import load_products
from taxledger.lending.products.product import decode_product
from taxledger.lending.products.quantities import parse_factor, parse_money, show_quantity

NINE = {
    "tax", "invoice", "contest", "procurement", "electricity", "customs", "engineering", "technology", "first_time",
}  # fmt: skip

BASE = """
id = "t"
version = 1
title = "T"
title_zh = "测"
source = "s"
[[rules]]
id = "r"
feature = "open_arrears_count"
at_most = 0
title = "r"
title_zh = "规"
[limit]
feature = "net_sales_12m"
factor = "10 %"
max = "3,000,000.00"
[terms]
months_max = 12
rate = "5 %"
"""

CARD = """
id = "c"
version = 1
title = "C"
title_zh = "卡"
[[points]]
feature = "late_filings_12m"
bands = [{ below = 1, points = 5 }, { points = 0 }]
[[grades]]
grade = "S1"
at_least = 5
rate = "4 %"
[[grades]]
grade = "S2"
rate = "6 %"
"""


def test_the_nine_products_are_shipped_and_valid() -> None:
    assert set(PRODUCTS) == NINE
    for product in PRODUCTS.values():
        assert product.title_zh
        assert product.months
        assert [each.id for each in product.features] == sorted({each.id for each in product.features})


def test_a_product_is_known_by_the_bytes_of_its_file() -> None:
    one = decode_product(BASE.encode(), {})
    other = decode_product(BASE.replace("at_most = 0", "at_most = 1").encode(), {})
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('id = "t"\n', "", "id: field required"),
        ("version = 1", 'version = "1"', "version: input should be a valid integer"),
        ("version = 1", "version = 1.0", "version: input should be a valid integer"),
        ("version = 1", "version = 1\ncode = 'x'", "code: extra inputs are not permitted"),
        ("at_most = 0", "", "rule r: expected exactly one of at_least, at_most, equals, one_of, got none"),
        ("at_most = 0", "at_most = 0\nat_least = 1", "got at_least and at_most"),
        ("at_most = 0", 'at_most = "0"', "rule r: expected a whole number of count"),
        ("at_most = 0", "at_most = true", "rule r: expected a whole number of count"),
        ("at_most = 0", "at_most = 0.5", "rules.1.at_most"),
        ("at_most = 0", "one_of = []", "rule r: expected different values in one_of"),
        ("at_most = 0", "one_of = [1, 1]", "rule r: expected different values in one_of"),
        ('feature = "open_arrears_count"', 'feature = "open_arrear"', "expected a feature of .* like open_arrears"),
        ('feature = "net_sales_12m"', 'feature = "sales_months_12m"', "limit.feature: expected an amount of money"),
        ('factor = "10 %"', "factor = 0.1", "limit.factor: input should be a valid string"),
        ('factor = "10 %"', 'factor = "10%%"', "expected a share or factor"),
        ('factor = "10 %"', 'factor = "0"', "limit: expected factor and step above 0"),
        ('max = "3,000,000.00"', 'max = "3,000,0"', "expected an amount in quotes"),
        ('max = "3,000,000.00"', 'max = "1.00"\nmin = "2.00"', "0 ≤ min ≤ max"),
        ('rate = "5 %"', "", "terms: expected exactly one of rate, rate_by_grade, and a scorecard"),
        ('rate = "5 %"', 'rate = "101 %"', "expected rates of 0 % to 100 %"),
        ('rate = "5 %"', 'rate_by_grade = { E = "5 %" }', "expected grades of A, B, M, C, D"),
        ('rate = "5 %"', 'rate = "5 %"\nday_count = 366', "terms.day_count"),
        ('source = "s"', 'source = "s"\nscorecard = "none"', "scorecard: expected one of none, got 'none'"),
        ('[terms]', '[security]\nkind = "tax_filing"\n[terms]', "security.kind: expected one of vat_invoice"),
        ('[terms]', '[security]\nkind = "vat_invoice"\nshare = "0.5 %"\n[terms]', "expected 1 % to 100 %"),
        ("[[rules]]", "[[rules", "not TOML"),
        ('title = "r"', 'title = ""', "rules.1.title"),
        ("[[rules]]", "[[rule]]", "rules: field required"),
    ],
)  # fmt: skip
def test_a_wrong_product_says_where(old: str, new: str, error: str) -> None:
    assert old in BASE
    with pytest.raises(FormatError, match=error):
        decode_product(BASE.replace(old, new, 1).encode(), {})


def test_no_rule_stands_twice() -> None:
    rule = BASE[BASE.index("[[rules]]") : BASE.index("[limit]")]
    with pytest.raises(FormatError, match="expected each id once, got 'r' twice"):
        decode_product(BASE.replace("[limit]", rule + "[limit]").encode(), {})


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("{ below = 1, points = 5 }, { points = 0 }", "{ points = 0 }, { below = 1, points = 5 }", "below in every"),
        ("{ points = 0 }", "{ below = 1, points = 2 }, { points = 0 }", "ascending"),
        ("at_least = 5\n", "", "at_least in every grade but the last"),
        ('rate = "6 %"', 'rate = "6 %"\nlimit_share = "101 %"', "limit_share 0 % to 100 %"),
        ('rate = "6 %"', "", "exactly one of rate, rate_by_grade, and a scorecard"),
        ('feature = "late_filings_12m"', 'feature = "late"', "points of late: expected a feature"),
    ],
)  # fmt: skip
def test_a_wrong_scorecard_says_where(old: str, new: str, error: str) -> None:
    product = BASE.replace('source = "s"', 'source = "s"\nscorecard = "c"').replace('rate = "5 %"', "")
    assert decode_product(product.encode(), {"c": CARD.encode()}).scorecard is not None
    assert old in CARD
    with pytest.raises(FormatError, match=error):
        decode_product(product.encode(), {"c": CARD.replace(old, new, 1).encode()})


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"expected product files \*.toml"):
        load_products(tmp_path)
    (tmp_path / "t.toml").write_text(BASE, "utf-8")
    assert load_products(tmp_path).product("t").id == "t"
    (tmp_path / "u.toml").write_text(BASE, "utf-8")
    with pytest.raises(FormatError, match="expected id = 'u' as the file's name, got 't'"):
        load_products(tmp_path).product("u")
    with pytest.raises(FormatError, match="expected a product of t, u, got 'v'"):
        load_products(tmp_path).product("v")


@pytest.mark.parametrize(
    ("text", "minor"), [("5,000.00", 500_000), ("0.01", 1), ("-3", -300), ("1,234,567.8", 123_456_780)]
)
def test_amounts_are_read_exactly(text: str, minor: int) -> None:
    assert parse_money(text) == minor


@pytest.mark.parametrize(
    "text", ["5,00.00", "5 000", "1e3", "٣", "0.001", "", "5_000", "NaN", " 5", 5, 5.0, None]
)
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(FormatError):
        parse_money(text)


@pytest.mark.parametrize(
    ("text", "ppm"),
    [("10 %", 100_000), ("10%", 100_000), ("0.05", 50_000), ("5", 5_000_000), ("0.0001 %", 1)],
)
def test_shares_are_read_exactly(text: str, ppm: int) -> None:
    assert parse_factor(text) == ppm


def test_values_are_shown_as_they_are_written() -> None:
    shown = [
        show_quantity(-123_456, Unit.MONEY), show_quantity(51_234, Unit.PPM), show_quantity(900_000, Unit.PPM),
        show_quantity(4, Unit.GRADE), show_quantity(1, Unit.FLAG), show_quantity(None, Unit.DAYS),
        show_quantity(1_234, Unit.COUNT),
    ]  # fmt: skip
    assert shown == ["-1,234.56", "5.1234 %", "90 %", "B", "yes", "–", "1,234"]


def test_the_example_of_the_documents_is_a_product() -> None:
    text = (Path(__file__).parents[2] / "docs/products.md").read_text("utf-8")
    product, card = (block.split("```")[0] for block in text.split("```toml\n")[1:3])
    assert tomllib.loads(product)["id"] == "example"
    decode_product(product.encode(), FILES.scorecards)
    with_card = product.replace('# scorecard = "small_enterprise"', 'scorecard = "card"').replace(
        'rate = "5.2 %"', "# rate"
    )
    with pytest.raises(FormatError, match="exactly one of rate"):
        decode_product(
            product.replace('# scorecard = "small_enterprise"', 'scorecard = "card"').encode(),
            {"card": card.encode()},
        )
    decode_product(with_card.encode(), {"card": card.encode()})
