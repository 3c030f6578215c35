"""Files to rows: cells, the CUMCM form, column mappings, CSV and xlsx; and what may be wrong with them."""

from __future__ import annotations

import datetime
import gzip
import re
import zipfile
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from custodykit import CUMCM, row, write_cumcm
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources import cells
from taxledger.nodes.sources.cumcm import CumcmSource
from taxledger.nodes.sources.mapping import decode_mapping, load_mapping
from taxledger.nodes.sources.rows import BadRow, CellError, SourceRow
from taxledger.nodes.sources.tabular import TableSource

DOCS = Path(__file__).parents[2] / "docs" / "sources.md"


def good(rows: list[SourceRow | BadRow]) -> list[SourceRow]:
    assert all(isinstance(each, SourceRow) for each in rows), rows
    return [each for each in rows if isinstance(each, SourceRow)]


# --- cells ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fen"),
    [
        ("1000.0", 100_000),
        ("-943.4", -94_340),
        ("0", 0),
        ("+1.10", 110),
        ("0.10000", 10),
        ("-0.00", 0),
        ("12", 1_200),
    ],
)
def test_money_is_exact(text: str, fen: int) -> None:
    assert cells.parse_money(text) == fen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1e3",
        "NaN",
        "Infinity",
        "1_0",
        "١",
        "1,000",
        " 1",
        "0x1",
        "1.",
        ".5",
        "--1",
        "1.001",
        "9" * 20,
        "¥1",
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(CellError):
        cells.parse_money(text)


@given(st.integers(-(10**15), 10**15))
def test_money_as_shortest_decimals_comes_back(fen: int) -> None:
    assert cells.parse_money(str(Decimal(fen) / 100)) == fen if abs(fen) < 10**12 or fen % 100 else True
    assert cells.parse_money(f"{Decimal(fen) / 100:f}") == fen


@pytest.mark.parametrize(
    ("text", "point", "thousands", "plain"),
    [
        ("1.234,56", ",", ".", "1234.56"),
        ("1,234,567.8", ".", ",", "1234567.8"),
        ("(12.50)", ".", "", "-12.50"),
        ("12.50-", ".", "", "-12.50"),
        ("-1 234,5", ",", " ", "-1234.5"),
        ("−5", ".", "", "-5"),
    ],
)
def test_numbers_as_people_write_them(text: str, point: str, thousands: str, plain: str) -> None:
    assert cells.plain_number(text, decimal_point=point, thousands=thousands) == plain


@pytest.mark.parametrize("text", ["1,23", "12,34,567", "1,2345", ",123", "1,,000"])
def test_thousands_in_the_wrong_place_are_no_number(text: str) -> None:
    with pytest.raises(CellError):
        cells.parse_money(cells.plain_number(text, decimal_point=".", thousands=","))


@pytest.mark.parametrize(
    ("text", "form", "date"),
    [
        ("2017/1/3", "YYYY/M/D", "2017-01-03"), ("2017-1-3", "YYYY-M-D", "2017-01-03"),
        ("20170103", "YYYYMMDD", "2017-01-03"), ("3.1.2017", "D.M.YYYY", "2017-01-03"),
        ("1/3/2017", "M/D/YYYY", "2017-01-03"), ("1/3/2017", "D/M/YYYY", "2017-03-01"),
        ("2017年1月3日", "YYYY年M月D日", "2017-01-03"), ("2020-02-29", "YYYY-M-D", "2020-02-29"),
        ("2017-01-03 00:00:00", "YYYY-M-D", "2017-01-03"),
    ],
)  # fmt: skip
def test_dates(text: str, form: str, date: str) -> None:
    assert cells.parse_date(text, (form,)) == date


@pytest.mark.parametrize(
    "text", ["2019/2/29", "2019/13/1", "0000/1/1", "2019-1/1", "2019/1/1x", "", "２０１９/1/1"]
)
def test_no_dates(text: str) -> None:
    with pytest.raises(CellError, match="a day of the calendar"):
        cells.parse_date(text)


def test_texts_numbers_blanks() -> None:
    assert cells.strip_cell("\u3000 作废发票\u00a0\t") == "作废发票"
    assert cells.drop_leading_zeros("00120") == "120"
    assert cells.drop_leading_zeros("000") == "0"
    assert (
        cells.parse_month("2019年3月")
        == cells.parse_month("201903")
        == cells.parse_month("2019/3/31")
        == "2019-03"
    )
    assert (cells.parse_boolean("是"), cells.parse_boolean("No")) == (True, False)
    for text, code in (
        ("a\x00", "text_malformed"),
        ("\udc80", "text_malformed"),
        ("好" * 400, "text_too_long"),
    ):
        with pytest.raises(CellError) as caught:
            cells.parse_text(text)
        assert caught.value.code == code


# --- cumcm ----------------------------------------------------------------------------------


def test_every_shape_of_a_cumcm_file_gives_the_same_rows(tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row("007", date="2017/1/3", status=" 作废发票 ")])
    text = path.read_text("utf-8-sig")
    first = good(list(CumcmSource().rows(path)))
    assert first == [
        SourceRow(
            2,
            "cumcm:E1",
            2,
            ("sale", None, "7", "2017-01-03", "B1", "CNY", 10000, 1300, 11300, None, None, None),
        )
    ]
    without_index = "\n".join(line.split(",", 1)[1].rstrip("\r") for line in text.splitlines())
    shapes = [
        without_index.replace("2017/1/3", "2017-1-3").encode(),
        gzip.compress(text.encode("utf-8-sig")),
        text.replace(",100.0,", ", 100.0\u3000,").replace("\n", " \r\n").encode() + b"\r\n,,,\r\n\r\n",
    ]
    for number, data in enumerate(shapes):
        other = tmp_path / f"{number}.csv"
        other.write_bytes(data)
        assert good(list(CumcmSource().rows(other))) == first
    purchases = write_cumcm(tmp_path / "p.csv", [row(7)], purchases=True)
    assert good(list(CumcmSource().rows(purchases)))[0].values[0] == "purchase"


def test_a_bad_byte_costs_a_row(tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row(1, party="B1"), row(2, party="BX"), row(3)])
    path.write_bytes(path.read_bytes().replace(b"BX", b"B\xff"))
    rows = list(CumcmSource().rows(path))
    assert [type(each) for each in rows] == [SourceRow, BadRow, SourceRow]
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.code, bad.column) == (3, "text_malformed", "购方单位代号")
    assert bad.found.isprintable()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "expected the columns"),
        (b"a,b\n1,2\n", "expected the columns"),
        (
            "企业代号,发票号码,开票日期,购方单位代号,金额,税额,价税合计,发票状态,外\n".encode(),
            "unknown column",
        ),
        (
            "企业代号,发票号码,开票日期,购方单位代号,金额,金额,税额,价税合计,发票状态\n".encode(),
            "金额 not once",
        ),
        (
            "企业代号,发票号码,开票日期,购方单位代号,销方单位代号,金额,税额,价税合计,发票状态\n".encode(),
            "not once",
        ),
        (b"\x1f\x8b\x08broken", "can't be read"),
        (gzip.compress(b"x" * 100_000)[:-20], "can't be read|expected the columns"),
        (b'"' + b"x" * 200_000, "not CSV"),
    ],
)
def test_what_is_no_cumcm_file(tmp_path: Path, data: bytes, error: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=error):
        list(CumcmSource().rows(path))
    with pytest.raises(FormatError, match="can't be read"):
        list(CumcmSource().rows(tmp_path))


def test_a_subject_asked_for_keeps_others_out(tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row(1), row(2, enterprise="E2")])
    rows = list(CumcmSource("cumcm:E2").rows(path))
    assert [getattr(each, "code", None) for each in rows] == ["subject_differs", None]


@pytest.mark.skipif(not CUMCM.is_dir(), reason="TAXLEDGER_DATA has no cumcm2020c")
def test_a_real_cumcm_file_to_the_cent() -> None:
    path = CUMCM / "f2_output" / "E160.csv.gz"
    rows = good(list(CumcmSource().rows(path)))
    lines = gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines()[1:]
    assert len(rows) == len(lines)
    assert Decimal(sum(int(each.values[8] or 0) for each in rows)) / 100 == sum(
        Decimal(line.split(",")[7]) for line in lines
    )
    assert Counter(each.status for each in rows)[2] == sum("作废" in line for line in lines)


# --- mapping --------------------------------------------------------------------------------

MINIMAL = """kind = "vat_invoice"
[columns]
number = "号码"
date = "日期"
net = "金额"
tax = "税额"
gross = "合计"
[constants]
direction = "sale"
currency = "CNY"
"""


def source(text: str = MINIMAL, subject: str | None = "cumcm:E1") -> TableSource:
    return TableSource(decode_mapping(text.encode()), subject)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('kind = "vat_invoice"', "", "expected kind"),
        ('kind = "vat_invoice"', 'kind = "invoice"', "expected a kind"),
        (
            'kind = "vat_invoice"',
            'kind = "predicate"',
            "one of business_registration, credit_summary",
        ),
        ('number = "号码"', "number = 5", "number: expected a text"),
        ('number = "号码"', 'nummer = "x"', "expected fields of vat_invoice"),
        ('number = "号码"', "", "needs number"),
        ('currency = "CNY"', 'currency = "CNY"\nnumber = "5"', "in both"),
        ('currency = "CNY"', 'currency = "CNY"\nrate = 0.13', "constants. rate: expected a text"),
        ("[constants]", "[constant]", "expected only kind, file"),
        (
            "[columns]",
            "[file]\nencoding = 'latin-1'\n[columns]",
            "file.encoding: expected one of utf-8, gb18030",
        ),
        ("[columns]", "[file]\ndelimiter = ';;'\n[columns]", "delimiter: expected one character"),
        ("[columns]", "[file]\nheader_row = 0\n[columns]", "header_row: expected an integer 1 to 1000"),
        ("[columns]", "[forms]\ndates = ['D-M']\n[columns]", "forms.dates: expected one of YYYY-M-D"),
        ("[columns]", "[forms]\ndates = []\n[columns]", "at least one form"),
        ("[columns]", "[forms]\nthousands = '.'\n[columns]", "thousands: expected one character, not"),
        ("[columns]", "[status]\ncolumn = 'x'\n[columns]", "expected values"),
        (
            "[columns]",
            "[status]\nvalues = {a = 'void'}\n[columns]",
            "status: expected one of valid, voided, reversed",
        ),
        ("[columns]", "[subject]\nscheme = 'nope'\n[columns]", "subject.scheme: expected one of uscc"),
        ("[columns]", "[values.rate]\na = '1'\n[columns]", "expected a field that .columns. names"),
        ("[columns]", "[values]\nnumber = 5\n[columns]", "values.number: expected a table"),
        ("[columns]", "[columns", "not TOML: .*line 2"),
    ],
)
def test_a_wrong_mapping_says_where(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MINIMAL.replace(old, new))
    with pytest.raises(FormatError, match=error) as caught:
        load_mapping(path)
    assert str(path) in str(caught.value)


def test_a_mapping_that_is_no_text(tmp_path: Path) -> None:
    for data in (b"\xff\xfe", b"x" * 300_000):
        with pytest.raises(FormatError):
            decode_mapping(data)
    with pytest.raises(FormatError, match="can't be read"):
        load_mapping(tmp_path / "absent.toml")
    with pytest.raises(FormatError, match="expected a subject"):
        source(subject=None)
    with pytest.raises(FormatError, match=r"\[constants\] direction: expected sale or purchase"):
        source(MINIMAL.replace('"sale"', '"out"'))


def test_the_mapping_in_the_docs_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert blocks
    mapping = decode_mapping(blocks[0].encode())
    assert mapping.encoding == "gb18030"
    path = tmp_path / "a.csv"
    path.write_bytes(
        "销项发票清单;;;;;;;;;\n发票代码;发票号码;开票日期;购方名称;金额;税额;价税合计;税率;发票状态;销方税号\n"
        "1100172320;00123456;2019年3月5日;甲公司;1,000.00;130.00;1,130.00;13%;正常;91350100M000100Y43\n"
        "1100172320;00123457;2019年3月5日;乙公司;-1,000.00;-130.00;-1,130.00;***;作废;91350100M000100Y43\n"
        "1100172320;00123458;2019年3月5日;乙公司;1,000.00;130.00;1,130.00;0.13;正常;91350100M000100Y44\n".encode(
            "gb18030"
        )
    )
    rows = list(TableSource(mapping).rows(path))
    first, second, third = rows
    assert isinstance(first, SourceRow)
    assert (first.line, first.subject, first.status) == (3, "uscc:91350100M000100Y43", 1)
    assert first.values == (
        "sale", "1100172320", "00123456", "2019-03-05", "甲公司", "CNY", 100_000, 13_000, 113_000,
        130_000, None, None,
    )  # fmt: skip
    assert isinstance(second, SourceRow)
    assert (second.status, second.values[6], second.values[9]) == (2, -100_000, None)
    assert isinstance(third, BadRow)
    assert (third.code, third.column) == ("subject_malformed", "销方税号")


# --- tables ---------------------------------------------------------------------------------


def test_csv_rows_with_every_kind_of_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "号码,日期,金额,税额,合计,其他\n"
        "1,2019-3-5,1.00,0.13,1.13,ignored\n"
        "\n"
        "2,2019-3-5,x,0.13,1.13,\n"
        "3,2019-3-5,,0.13,1.13,\n"
        "4,2019-3-5,1.00\n"
        "5,2019-3-5,1.00,0.13,1.13,a,b\n"
        '"6\n7",2019-3-5,1.00,0.13,1.13,\n'
        "8,2019-3-5,1.00,0.13,1.13,,,\n",
        "utf-8",
    )
    rows = list(source().rows(path))
    found = [(each.line, getattr(each, "code", "ok"), getattr(each, "column", "")) for each in rows]
    assert found == [
        (2, "ok", ""), (4, "money_malformed", "金额"), (5, "value_missing", "金额"),
        (6, "columns_differ", ""),
        (7, "columns_differ", ""), (9, "text_malformed", "号码"), (10, "ok", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "expected the column names in row 1"),
        ("号码,日期,金额,税额\n".encode(), "expected a column '合计', got it not there"),
        ("号码,日期,金额,税额,合计,合计\n".encode(), "twice"),
        ("号码,日期,金额,税额,合计\n".encode("gb18030"), "is encoding utf-8 right"),
    ],
)
def test_tables_that_are_not_as_mapped(tmp_path: Path, data: bytes, error: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=error):
        list(source().rows(path))


def workbook(path: Path, rows: list[list[Any]], *, title: str = "Sheet") -> Path:
    book = Workbook()
    sheet = book.active
    sheet.title = title
    for each in rows:
        sheet.append(each)
    book.save(path)
    return path


def test_xlsx_cells_as_a_spreadsheet_holds_them(tmp_path: Path) -> None:
    header = ["号码", "日期", "金额", "税额", "合计"]
    path = workbook(
        tmp_path / "a.xlsx",
        [
            header,
            ["00123", datetime.date(2019, 3, 5), 1132.08, 67.92, 1200],
            [124, "2019/3/5", 0.1 + 0.2, 0.0, 0.3],
            [],
            ["125", datetime.datetime(2019, 3, 5, 12, 30), 1, 0, 1],  # noqa: DTZ001
            [12345678901234567890, "2019-3-5", 1, 0, 1],
            ["126", "2019-3-5", 0.001, 0, 1],
            ["127", "2019-3-5", 1],
            ["128", "2019-3-5", True, 0, 1],
        ],
    )
    rows = list(source().rows(path))
    assert [(each.line, getattr(each, "code", "ok")) for each in rows] == [
        (2, "ok"), (3, "ok"), (5, "date_malformed"), (6, "number_rounded"),
        (7, "money_inexact"), (8, "value_missing"),
        (9, "money_malformed"),
    ]  # fmt: skip
    first, second = good(rows[:2])
    assert first.values[2:9] == ("00123", "2019-03-05", None, "CNY", 113_208, 6_792, 120_000)
    assert second.values[2:9] == ("124", "2019-03-05", None, "CNY", 30, 0, 30)


def test_xlsx_in_another_number_form_and_sheet(tmp_path: Path) -> None:
    text = '[file]\nsheet = "数据"\nheader_row = 2\n[forms]\ndecimal_point = ","\nthousands = "."\n'
    mapping = MINIMAL.replace("[columns]", text + "[columns]")
    path = workbook(
        tmp_path / "a.xlsx",
        [["title"], ["号码", "日期", "金额", "税额", "合计"], ["1", "2019-3-5", "1.132,08", 67.92, 1200.0]],
        title="数据",
    )
    (only,) = good(list(source(mapping).rows(path)))
    assert only.values[6:9] == (113_208, 6_792, 120_000)
    with pytest.raises(FormatError, match="expected a sheet '数据', got Sheet"):
        list(source(mapping).rows(workbook(tmp_path / "b.xlsx", [["x"]])))


def test_what_is_no_xlsx(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with pytest.raises(FormatError, match="not a readable xlsx"):
        list(source().rows(path))
    for data in (b"", b"PK\x03\x04 broken", b"\xd0\xcf\x11\xe0 an old xls"):
        path.write_bytes(data)
        with pytest.raises(FormatError, match="not a readable xlsx"):
            list(source().rows(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x")
    with pytest.raises(FormatError, match="not a readable xlsx"):
        list(source().rows(path))


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_or_one_clear_error(data: bytes) -> None:
    import tempfile

    header = "号码,日期,金额,税额,合计\n".encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        for content, reader in ((header + data, source()), (data, source()), (data, CumcmSource())):
            path.write_bytes(content)
            try:
                rows = list(reader.rows(path))
            except FormatError:
                continue
            for each in rows:
                if isinstance(each, SourceRow):
                    reader.schema.check_fields(each.values)


def test_ratings_and_filings_of_a_mapped_subject(tmp_path: Path) -> None:
    rating = TableSource(
        decode_mapping(
            '[subject]\ncolumn = "企业代号"\nscheme = "cumcm"\n[columns]\ngrade = "信誉评级"\n'
            "[constants]\nyear = 2020\n".replace(
                "[subject]", 'kind = "tax_credit_rating"\n[subject]'
            ).encode()
        )
    )
    path = tmp_path / "a.csv"
    path.write_text("企业代号,信誉评级\nE3,C\nE4,E\n", "utf-8-sig")
    rows = list(rating.rows(path))
    assert rows[0] == SourceRow(2, "cumcm:E3", 1, (2020, "C", None, None, None))
    assert getattr(rows[1], "code", "") == "value_unknown"
