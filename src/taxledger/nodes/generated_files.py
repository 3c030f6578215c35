"""A generated portfolio as the files a tax office would export, with the mappings that explain their columns.

Four files, on purpose of different make: sales in UTF-8; purchases in GB18030 under a title line, with other
dates and amounts with thousands; filings; ratings.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from taxledger.nodes.generator import Portfolio, months_between

__all__ = ["GeneratedFile", "write_portfolio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedFile:
    """A file to attest, with the mapping that explains its columns."""

    path: Path
    mapping: Path
    kind: str
    through: str
    """The day up to which its kind is attested with it, or "" where another file has to come first."""
    rows: int


_INVOICE_COLUMNS = (
    "纳税人识别号",
    "发票代码",
    "发票号码",
    "开票日期",
    "对方识别号",
    "货物或服务",
    "税率",
    "金额",
    "税额",
    "价税合计",
    "状态",
    "原发票号码",
)
_FILING_COLUMNS = (
    "纳税人识别号",
    "所属期",
    "申报编号",
    "申报日期",
    "销售额",
    "销项税额",
    "进项税额",
    "应纳税额",
    "已缴税额",
)
_RATING_COLUMNS = ("纳税人识别号", "年度", "信用等级", "得分", "公布日期")


def _yuan(fen: int) -> str:
    sign, whole = "-" if fen < 0 else "", abs(fen)
    return f"{sign}{whole // 100}.{whole % 100:02}"


def _invoice_rows(portfolio: Portfolio, direction: str) -> Iterable[Sequence[str]]:
    for each in portfolio.invoices:
        if each.direction == direction:
            status = "作废" if each.voided else "正常"
            amounts = (_yuan(each.net), _yuan(each.tax), _yuan(each.gross))
            begin = (each.enterprise, each.code, each.number, each.date, each.counterparty, each.goods)
            yield (*begin, f"{each.rate}%", *amounts, status, each.original)


def _filing_rows(portfolio: Portfolio) -> Iterable[Sequence[str]]:
    """VAT of every enterprise and month: output less input tax, what is left over carried forward."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for each in set(portfolio.invoices):
        if not each.voided:
            key = (each.enterprise, each.date[:7], each.direction)
            net, tax = sums.get(key, (0, 0))
            sums[key] = (net + each.net, tax + each.tax)
    for number, enterprise in enumerate(portfolio.enterprises, start=1):
        carried = 0
        for month in months_between(portfolio.first_month, portfolio.last_month):
            sales, output = sums.get((enterprise.code, month, "sale"), (0, 0))
            _, deducted = sums.get((enterprise.code, month, "purchase"), (0, 0))
            balance = output - deducted - carried
            carried, payable = max(-balance, 0), max(balance, 0)
            year, following = (
                (int(month[:4]) + 1, 1) if month[5:] == "12" else (int(month[:4]), int(month[5:]) + 1)
            )
            filed = f"{year}-{following:02}-{8 + number % 7:02}"
            reference = f"VAT{month.replace('-', '')}{number:06}"
            money = (_yuan(sales), _yuan(output), _yuan(deducted), _yuan(payable), _yuan(payable))
            yield (enterprise.code, month, reference, filed, *money)


def _rating_rows(portfolio: Portfolio) -> Iterable[Sequence[str]]:
    random = Random(portfolio.seed + 1)  # noqa: S311 — repeatable, as above
    for year in range(int(portfolio.first_month[:4]), int(portfolio.last_month[:4]) + 1):
        for enterprise in portfolio.enterprises:
            score = random.randrange(52, 100)
            grade = next(
                grade for floor, grade in ((90, "A"), (70, "B"), (60, "M"), (40, "C")) if score >= floor
            )
            yield (enterprise.code, str(year), grade, str(score), f"{year + 1}-04-{random.randrange(10, 28)}")


_INVOICE_MAPPING = """\
# Columns of {name} as fields of a vat_invoice.
kind = "vat_invoice"

[file]
encoding = "{encoding}"
header_row = {header_row}

[forms]
dates = ["{dates}"]
thousands = "{thousands}"
rate = "percent"

[subject]
column = "纳税人识别号"

[status]
column = "状态"
values = {{ "正常" = "valid", "作废" = "voided" }}

[columns]
code = "发票代码"
number = "发票号码"
date = "开票日期"
counterparty = "对方识别号"
goods = "货物或服务"
rate = "税率"
net = "金额"
tax = "税额"
gross = "价税合计"
original = "原发票号码"

[constants]
direction = "{direction}"
currency = "CNY"
"""

_FILING_MAPPING = """\
# Columns of filings.csv as fields of a tax_filing.
kind = "tax_filing"

[subject]
column = "纳税人识别号"

[columns]
period = "所属期"
number = "申报编号"
filed = "申报日期"
sales = "销售额"
output_tax = "销项税额"
input_tax = "进项税额"
payable = "应纳税额"
paid = "已缴税额"

[constants]
tax = "vat"
months = "1"
currency = "CNY"
"""

_RATING_MAPPING = """\
# Columns of ratings.csv as fields of a tax_credit_rating.
kind = "tax_credit_rating"

[subject]
column = "纳税人识别号"

[columns]
year = "年度"
grade = "信用等级"
score = "得分"
published = "公布日期"
"""


def _write(
    folder: Path,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    mapping: str,
    kind: str,
    through: str,
    encoding: str = "utf-8",
    title: str = "",
) -> GeneratedFile:
    path, mapping_path = folder / f"{name}.csv", folder / f"{name}.toml"
    mapping_path.write_text(mapping, "utf-8")
    count = 0
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        if title:
            writer.writerow([title])
        writer.writerow(columns)
        for row in rows:
            writer.writerow(row)
            count += 1
    return GeneratedFile(path=path, mapping=mapping_path, kind=kind, through=through, rows=count)


def _as_other_bureau(row: Sequence[str]) -> Sequence[str]:
    """The same invoice as another system prints it: 2024/3/5 and 12,345.60."""
    changed = list(row)
    year, month, day = row[3].split("-")
    changed[3] = f"{year}/{int(month)}/{int(day)}"
    for column in (7, 8, 9):
        whole, cents = row[column].split(".")
        changed[column] = f"{int(whole):,}.{cents}" if whole not in ("-0",) else row[column]
    return changed


def write_portfolio(portfolio: Portfolio, folder: Path) -> tuple[GeneratedFile, ...]:
    """Write a portfolio's files into an existing folder; in the order in which to attest them."""

    def invoice_mapping(name: str, direction: str, **forms: object) -> str:
        return _INVOICE_MAPPING.format(name=name, direction=direction, **forms)

    through = portfolio.through
    return (
        _write(
            folder,
            "sales",
            _INVOICE_COLUMNS,
            _invoice_rows(portfolio, "sale"),
            mapping=invoice_mapping(
                "sales.csv", "sale", encoding="utf-8", header_row=1, dates="YYYY-M-D", thousands=""
            ),
            kind="vat_invoice",
            through="",
        ),
        _write(
            folder,
            "purchases",
            _INVOICE_COLUMNS,
            map(_as_other_bureau, _invoice_rows(portfolio, "purchase")),
            mapping=invoice_mapping(
                "purchases.csv", "purchase", encoding="gb18030", header_row=2, dates="YYYY/M/D", thousands=","
            ),
            kind="vat_invoice",
            through=through,
            encoding="gb18030",
            title="进项发票明细",
        ),
        _write(
            folder,
            "filings",
            _FILING_COLUMNS,
            _filing_rows(portfolio),
            mapping=_FILING_MAPPING,
            kind="tax_filing",
            through=through,
        ),
        _write(
            folder,
            "ratings",
            _RATING_COLUMNS,
            _rating_rows(portfolio),
            mapping=_RATING_MAPPING,
            kind="tax_credit_rating",
            through=through,
        ),
    )
