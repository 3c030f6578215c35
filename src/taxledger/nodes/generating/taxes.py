"""What the tax office knows of a made-up enterprise: filings that agree with its invoices, ratings, arrears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taxledger.nodes.generating.setting import GeneratedRow, Setting, day_after, last_day, shift_month

__all__ = ["make_arrears", "make_credit", "make_filings", "make_ratings", "make_registration"]

_AUTHORITY = "国家税务总局示例市税务局"
_SCORES = {"A": 94, "B": 82, "M": 70, "C": 55, "D": 30}
_VALID = 1
_PROFIT_PPM = 80_000
"""Of sales; income tax of a small enterprise is 5 % of it."""


@dataclass(slots=True)
class _Month:
    sales: int = 0
    output: int = 0
    deducted: int = 0


def make_filings(setting: Setting, invoices: Sequence[GeneratedRow]) -> list[GeneratedRow]:
    """VAT by month, from the invoices that count, each once; income tax by quarter."""
    sums = _sums(invoices)
    rows: list[GeneratedRow] = []
    carried = 0
    for month in setting.months:
        found = sums.get(month, _Month())
        balance = found.output - found.deducted - carried
        carried, owed = max(-balance, 0), max(balance, 0)
        # A relief of 5 % in the first month of each quarter.
        relief = owed // 20 if int(month[5:]) % 3 == 1 else 0
        amounts = {"output_tax": found.output, "input_tax": found.deducted, "relief": relief}
        rows += _filing(setting, "vat", month, 1, owed - relief, {"sales": found.sales, **amounts})
        if int(month[5:]) % 3 == 0:
            quarter = [sums.get(shift_month(month, -each), _Month()).sales for each in range(3)]
            profit = max(sum(quarter), 0) * _PROFIT_PPM // 1_000_000
            owed = profit // 20 if setting.profile.purchase_percent < 100 else 0
            rows += _filing(setting, "cit", month, 3, owed, {})
    return rows


def _sums(invoices: Sequence[GeneratedRow]) -> Mapping[str, _Month]:
    sums: dict[str, _Month] = {}
    seen = set()
    for each in invoices:
        key = (each.status, *sorted(each.fields.items()))
        if key in seen or each.status != _VALID or each.refused:
            continue
        seen.add(key)
        net, tax = each.fields["net"], each.fields["tax"]
        assert type(net) is int
        assert type(tax) is int
        month = sums.setdefault(str(each.fields["date"])[:7], _Month())
        if each.fields["direction"] == "sale":
            month.sales += net
            month.output += tax
        else:
            month.deducted += tax
    return sums


def _filing(
    setting: Setting, tax: str, month: str, months: int, payable: int, amounts: Mapping[str, int]
) -> list[GeneratedRow]:
    """Due on the 15th of the next month; paid when it is filed."""
    profile, back = setting.profile, setting.back(month)
    if back < profile.filings_end:
        return []
    random = setting.random(f"filing {tax} {month}")
    due = f"{shift_month(month, 1)}-15"
    filed = day_after(due, 9 if back in profile.late else -random.randrange(1, 10))
    number = f"{tax.upper()}{month.replace('-', '')}{setting.subject[-6:]}"
    if back in profile.unfiled and tax == "vat":
        # The office knows that it is due, and nothing else.
        return [
            setting.row(
                "tax_filing", tax=tax, period=month, months=months, number=number, due=due, currency="CNY"
            )
        ]
    unpaid = back in profile.unpaid and tax == "vat"
    return [
        setting.row(
            "tax_filing", tax=tax, period=month, months=months, number=number, filed=filed, due=due,
            currency="CNY", **amounts, payable=payable, paid=0 if unpaid else payable,
            paid_on=None if unpaid or not payable else filed,
        )
    ]  # fmt: skip


def make_ratings(setting: Setting) -> list[GeneratedRow]:
    """One a year, published in April of the next; the newest is the profile's grade, those before B."""
    first, last = int(setting.months[0][:4]) - 1, int(setting.through[:4])
    years = [year for year in range(first, last + 1) if f"{year + 1}-04-18" <= setting.through]
    if len(setting.months) < 12:
        years = years[-1:]
    rows = []
    for year in years:
        grade = setting.profile.grade if year == years[-1] else "B"
        rows.append(
            setting.row(
                "tax_credit_rating", year=year, grade=grade, score=_SCORES[grade],
                published=f"{year + 1}-04-18", authority=_AUTHORITY,
            )
        )  # fmt: skip
    return rows


def make_arrears(setting: Setting) -> list[GeneratedRow]:
    """An audit and arrears of long ago, both closed; open ones where the profile has some."""
    code = setting.subject[-6:]
    rows = [
        setting.row(
            "tax_arrears", category="audit", number=f"JC{code}", opened=f"{setting.months[0]}-11",
            closed=f"{shift_month(setting.months[0], 1)}-20", tax="vat", authority=_AUTHORITY,
        ),
        setting.row(
            "tax_arrears", category="arrears", number=f"QS{code}", opened=f"{setting.months[1]}-16",
            closed=f"{shift_month(setting.months[1], 1)}-03", tax="vat", currency="CNY", amount=412_055,
            authority=_AUTHORITY,
        ),
    ]  # fmt: skip
    if setting.profile.open_arrears:
        opened = shift_month(setting.months[-1], -2)
        rows.append(
            setting.row(
                "tax_arrears", category="arrears", number=f"QS{code}-2", opened=f"{opened}-16", tax="vat",
                currency="CNY", amount=3_810_400, authority=_AUTHORITY,
            )
        )  # fmt: skip
    return rows


def make_registration(setting: Setting) -> list[GeneratedRow]:
    """Registered years before the first month, or in it where the enterprise is young."""
    random = setting.random("registration")
    years = 0 if len(setting.months) < 12 else random.randrange(4, 12)
    registered = f"{shift_month(setting.months[0], -12 * years)}-{random.randrange(1, 28):02}"
    return [
        setting.row(
            "business_registration", number=setting.subject.removeprefix("uscc:"), name=setting.name,
            legal_form="有限责任公司", registered=registered, state="active", currency="CNY",
            capital=random.randrange(50, 500) * 1_000_000, industry=setting.trade.name, district="示例区",
            representative="示例法人", authority="示例市市场监督管理局",
        )
    ]  # fmt: skip


def make_credit(setting: Setting) -> list[GeneratedRow]:
    """What lenders elsewhere report at the end of each quarter, and of the last month."""
    profile, rows = setting.profile, []
    for month in setting.months:
        if int(month[5:]) % 3 and month != setting.months[-1]:
            continue
        owed = profile.loans * 32_000_000
        rows.append(
            setting.row(
                "credit_summary", as_of=last_day(month), lenders=min(profile.loans, 2),
                loans_open=profile.loans, first_borrowed="2019-05-20" if profile.borrowed else None,
                currency="CNY", outstanding=owed, overdue=0, overdue_days=0, authority="示例征信中心",
            )
        )  # fmt: skip
    return rows
