"""Filings: Norwegian and UK VAT returns, and those derived from the invoices of CUMCM."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from custodykit import Custody, counts, row, use_stored_keys, write_cumcm
from registerkit import codes, mva_return, named, read, write

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.documents import DocumentSource, detect, sort_files
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.rows import BadRow, SourceRow

DATA = Path(os.environ.get("TAXLEDGER_DATA", "../shared/data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="needs real data in TAXLEDGER_DATA")
KIND = "tax_filing"

# --- Norway ---------------------------------------------------------------------------------


def test_a_norwegian_return(tmp_path: Path) -> None:
    text = mva_return(
        ("3", 20_000, 5_000), ("1", None, -2_500), ("81", 10_000, 2_500), ("81", None, -2_500), ("52", 700, 0),
        total=2_500,
    )  # fmt: skip
    path = write(tmp_path / "any.name", text)
    assert detect(path) == "no-mva"
    (found,) = read(path)
    assert found.subject == "no-org:913238254"  # type: ignore[union-attr]
    assert named(found, KIND) == {
        "tax": "vat", "period": "2021-04", "months": 2, "number": "7", "currency": "NOK", "sales": 2_070_000,
        "output_tax": 750_000, "input_tax": 500_000, "payable": 250_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"element": "Maaned", "period": "mai"}, ("2021-05", 1)),
        ({"element": "Aar", "period": "aarlig"}, ("2021-12", 12)),
        ({"period": "november-desember"}, ("2021-12", 2)),
    ],
)
def test_norwegian_periods(changes: dict[str, str], expected: tuple[str, int], tmp_path: Path) -> None:
    (found,) = read(write(tmp_path / "r.xml", mva_return(**changes)))  # type: ignore[arg-type]
    each = named(found, KIND)
    assert (each["period"], each["months"]) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (mva_return(period="februar-mars"), "period_unknown"),
        (mva_return(period="april-mars"), "period_unknown"),
        (mva_return(element="Uke", period="uke 7"), "period_unknown"),
        (mva_return(organisation="91323825"), "subject_malformed"),
        (mva_return(organisation=""), "value_missing"),
        (mva_return(year="21"), "year_malformed"),
        (mva_return(number=""), "value_missing"),
        (mva_return(("1", None, 0)).replace(">0</merv", ">0.001</merv"), "money_inexact"),
        (mva_return(("1", None, 0)).replace(">0</merv", ">1,5</merv"), "money_malformed"),
        ("<mvaMeldingInnsending/>", "not_a_return"),
    ],
)
def test_norwegian_refused(text: str, code: str, tmp_path: Path) -> None:
    assert codes(read(write(tmp_path / "r.xml", text))) == [code]


def test_returns_of_another_category_are_of_another_tax(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path / "r.xml", mva_return(category="kompensasjon")))
    assert named(found, KIND)["tax"] == "vat kompensasjon"


def test_only_whom_was_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "r.xml", mva_return())
    assert codes(read(path, subject="no-org:913238254")) == ["SourceRow"]
    assert codes(read(path, subject="no-org:913238255")) == ["subject_differs"]


# --- United Kingdom -------------------------------------------------------------------------

OBLIGATION = {
    "start": "2017-01-01", "end": "2017-03-31", "due": "2017-05-07", "status": "F", "periodKey": "18A1",
    "received": "2017-05-06",
}  # fmt: skip
RETURN = {
    "periodKey": "18A1", "vatDueSales": 105.5, "vatDueAcquisitions": -100.45, "totalVatDue": 5.05,
    "vatReclaimedCurrPeriod": 105.15, "netVatDue": 100.1, "totalValueSalesExVAT": 300,
    "totalValuePurchasesExVAT": 300, "totalValueGoodsSuppliedExVAT": 3000, "totalAcquisitionsExVAT": 3000,
    "finalised": True,
}  # fmt: skip
VRN = "gb-vrn:123456789"


def example(value: Any, path: str = "/organisations/vat/123456789/returns") -> dict[str, Any]:
    return {"path": path, "method": "get", "kind": "response", "value": value}


def api(path: Path, *examples: Any) -> Path:
    return write(path, json.dumps(list(examples)))


def test_an_obligation_and_its_return_are_one_filing(tmp_path: Path) -> None:
    path = api(tmp_path / "v.json", example(RETURN), example({"obligations": [OBLIGATION]}))
    assert detect(path) == "hmrc-vat"
    rows = read(path)
    assert codes(rows) == ["SourceRow", "SourceRow"]
    period = {"tax": "vat", "period": "2017-03", "months": 3, "number": "18A1", "filed": "2017-05-06",
              "due": "2017-05-07", "currency": "GBP"}  # fmt: skip
    assert named(rows[1], KIND) == period
    amounts = {"sales": 30_000, "output_tax": 505, "input_tax": 10_515, "payable": -10_010}
    assert named(rows[0], KIND) == period | amounts
    assert rows[0].subject == VRN  # type: ignore[union-attr]


def test_what_comes_later_fills_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)
    custody = Custody(tmp_path)
    still_open = {**OBLIGATION, "status": "O"}
    del still_open["received"]
    other = {**RETURN, "totalValueSalesExVAT": 301}
    uploads = (
        ([example({"obligations": [still_open]})], (1, 1, 0, 0, 0)),
        ([example(RETURN), example({"obligations": [OBLIGATION]})], (2, 0, 1, 1, 0)),
        ([example({"obligations": [still_open]})], (1, 0, 0, 1, 0)),
        ([example({"obligations": [OBLIGATION]}), example(RETURN)], (2, 0, 0, 2, 0)),
        ([example({"obligations": [OBLIGATION]}), example(other)], (2, 0, 0, 1, 1)),
    )
    for number, (examples, expected) in enumerate(uploads):
        path = api(tmp_path / f"{number}.json", *examples)
        ((schema, formats),) = sort_files([path]).groups
        outcome = custody.upload(path, source=DocumentSource(schema, formats, SourceOptions()))
        assert counts(outcome) == expected, number
        custody.verify()
    (value,) = custody.ledger.records().values()
    assert value.version == 2
    custody.vault.close()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (RETURN, "period_missing"),
        ({"obligations": [{**OBLIGATION, "end": "2016-03-31"}]}, "period_malformed"),
        ({"obligations": [{**OBLIGATION, "end": "2017-02-30"}]}, "date_malformed"),
        ({"obligations": [{**OBLIGATION, "status": "X"}]}, "status_unknown"),
        ({"obligations": [{**OBLIGATION, "status": "O"}]}, "status_unknown"),
        ({"obligations": [{**OBLIGATION, "periodKey": "18"}]}, "number_malformed"),
        ({"obligations": [7]}, "not_a_filing"),
        ({"obligations": []}, "not_a_filing"),
        ({"code": "VRN_INVALID"}, "error_answer"),
        ({"totalisations": {}}, "not_a_filing"),
        ({}, "not_a_filing"),
        (None, "not_a_filing"),
    ],
)
def test_uk_refused(value: Any, code: str, tmp_path: Path) -> None:
    assert codes(read(api(tmp_path / "v.json", example(value)))) == [code]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"finalised": False}, "not_finalised"),
        ({"netVatDue": 100.2}, "total_differs"),
        ({"totalVatDue": 5.06}, "total_differs"),
        ({"totalValueSalesExVAT": "300"}, "money_malformed"),
        ({"totalValueSalesExVAT": True}, "money_malformed"),
        ({"totalValueSalesExVAT": None}, "money_malformed"),
        ({"totalValueSalesExVAT": 0.001}, "money_inexact"),
        ({"totalValueSalesExVAT": 10**30}, "money_malformed"),
        ({"periodKey": 7}, "value_missing"),
    ],
)
def test_uk_returns_refused(changes: dict[str, Any], code: str, tmp_path: Path) -> None:
    path = api(tmp_path / "v.json", example({**RETURN, **changes}))
    assert codes(read(path, dated="2017-03-31")) == [code]


def test_numbers_written_to_exhaust_memory(tmp_path: Path) -> None:
    text = json.dumps([example(RETURN)]).replace("105.5", "1e999999999")
    assert codes(read(write(tmp_path / "v.json", text), dated="2017-03-31")) == ["money_malformed"]


def test_a_return_whose_vat_number_is_not_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "v.json", json.dumps(RETURN))
    assert detect(path) == "hmrc-vat"
    assert codes(read(path, dated="2017-03-31")) == ["subject_missing"]
    (found,) = read(path, dated="2017-03-31", subject=VRN)
    assert named(found, KIND)["period"] == "2017-03"
    other = api(tmp_path / "o.json", example({"obligations": [OBLIGATION]}))
    assert codes(read(other, subject="gb-vrn:999999999")) == ["subject_differs"]


@real
def test_every_example_of_the_uk_api() -> None:
    rows = read(DATA / "tax_uk_hmrc" / "vat_mtd_examples.json", subject=VRN, dated="2017-12-31")
    assert Counter(codes(rows)) == {"SourceRow": 8, "error_answer": 50, "not_a_filing": 4}
    (listed,) = read(DATA / "tax_uk_hmrc" / "vat_registered_companies_sandbox_vrns.csv")
    assert codes([listed]) == ["not_a_filing"]


# --- derived --------------------------------------------------------------------------------


def derived(*paths: Path, **options: Any) -> list[Any]:
    return read(*paths, source="cumcm-filings", **options)


def test_filings_derived_from_invoices(tmp_path: Path) -> None:
    sales = write_cumcm(tmp_path / "s.csv", [
        row(1, date="2019/1/5", net="100", tax="13"), row(1, date="2019/1/5", net="100", tax="13"),
        row(2, date="2019/1/31", net="-10", tax="-1.3"),
        row(3, date="2019/3/1", net="7", tax="0.91", status=" 作废发票"),
        row(4, date="2019/3/9", net="50", tax="6.5"), row(5, date="2019/1/2", net="1", tax="0.13"),
        row(5, date="2019/1/2", net="1", tax="0.13", status="作废发票"),
    ])  # fmt: skip
    bought = write_cumcm(tmp_path / "b.csv", [row(9, date="2019/3/2", net="80", tax="10.4")], purchases=True)
    january, february, march = (named(each, KIND) for each in derived(bought, sales))
    assert january == {
        "tax": "vat", "period": "2019-01", "months": 1, "number": "derived", "filed": "2019-02-15",
        "due": "2019-02-15", "currency": "CNY", "sales": 9_000, "output_tax": 1_170, "input_tax": 0, "payable": 1_170,
        "paid": 1_170, "paid_on": "2019-02-15",
    }  # fmt: skip
    assert (february["period"], february["sales"], february["payable"]) == ("2019-02", 0, 0)
    assert (march["payable"], march["paid"], march.get("paid_on")) == (-390, 0, None)


def test_filings_need_both_sides_and_every_row(tmp_path: Path) -> None:
    sales = write_cumcm(tmp_path / "s.csv", [row(1)])
    assert codes(derived(sales)) == ["side_missing"]
    bought = write_cumcm(tmp_path / "b.csv", [row(2), row(3, net="x", gross="1")], purchases=True)
    assert codes(derived(sales, bought)) == ["rows_unread", "money_malformed"]
    cut = tmp_path / "c.csv.gz"
    cut.write_bytes(
        gzip.compress(write_cumcm(tmp_path / "d.csv", [row(4)] * 900, purchases=True).read_bytes())[:-9]
    )
    source = DocumentSource(sort_files([sales], "cumcm-filings").groups[0][0],
                            {sales: "cumcm-filings", cut: "cumcm-filings"}, SourceOptions())  # fmt: skip
    assert codes(list(source.rows(sales))) in (["rows_unread"], ["side_missing"])
    with pytest.raises(FormatError, match="can't be read"):
        list(source.rows(cut))


def test_grades_of_the_sheet(tmp_path: Path) -> None:
    path = write(
        tmp_path / "g.csv",
        "企业代号,企业名称,信誉评级,是否违约\nE3,甲,C,否\nE4,乙,D,是\nE5,丙,X,否\nX,丁,A,否\n",
    )
    assert detect(path) == "cumcm-grades"
    rows = read(path)
    assert codes(rows) == ["SourceRow", "SourceRow", "value_unknown", "subject_malformed"]
    assert named(rows[0], "tax_credit_rating") == {"year": 2019, "grade": "C", "authority": "CUMCM 2020 C"}
    assert named(read(path, dated="2020-02-29")[1], "tax_credit_rating")["year"] == 2020
    with pytest.raises(FormatError, match="信誉评级"):
        read(write(tmp_path / "n.csv", "企业代号,企业名称\nE126,个体\n"))


@real
def test_filings_of_real_enterprises_add_up() -> None:
    """Against a second sum over the files themselves."""
    folder = DATA / "cumcm2020c"
    paths = [
        folder / f"f1_{side}" / f"{name}.csv.gz"
        for name in ("E22", "E160", "E3")
        for side in ("input", "output")
    ]
    paths = [path for path in paths if path.is_file()]
    found: Counter[str] = Counter()
    for each in derived(*paths):
        assert isinstance(each, SourceRow)
        for name in ("sales", "output_tax", "input_tax"):
            found[f"{each.subject} {name}"] += named(each, KIND)[name]
    expected: Counter[str] = Counter()
    void: dict[tuple[str, ...], bool] = {}
    for path in paths:
        side = path.parent.name[3:]
        for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines()[1:]:
            cells = [cell.strip() for cell in line.split(",")][1:]
            void[side, *cells[:-1]] = void.get((side, *cells[:-1]), False) or "作废" in cells[-1]
    for (side, enterprise, *cells), voided in void.items():
        net, tax = (round(float(cells[at]) * 100) for at in (3, 4))
        if not voided:
            expected[f"cumcm:{enterprise} {side}_tax"] += tax
            expected[f"cumcm:{enterprise} sales"] += net if side == "output" else 0
    assert found == expected


@real
def test_every_real_grade() -> None:
    rows = read(DATA / "cumcm2020c" / "f1_enterprises.csv")
    assert not [each for each in rows if isinstance(each, BadRow)]
    grades = Counter(named(each, "tax_credit_rating")["grade"] for each in rows)
    assert grades == {"A": 16, "B": 22, "C": 20, "D": 14}
