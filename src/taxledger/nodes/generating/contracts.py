"""Contracts of a made-up enterprise: procurement awards and engineering works, the first of each to be offered.

Traps: several winners of one award, a buyer without an identifier, a cancelled award, an amount that is a price of a
unit (refused, only where such rows are asked for).
"""

from __future__ import annotations

from dataclasses import replace

from taxledger.nodes.generating.setting import GeneratedRow, Setting, last_day, shift_month

__all__ = ["make_awards", "make_contracts", "unit_price_award"]

_BUYERS = ("示例市第一医院", "示例市教育局", "示例区政府办公室", "示例大学")


def make_awards(setting: Setting) -> list[GeneratedRow]:
    """The one to offer as security first."""
    last = setting.months[-1]
    rows = [
        _award(
            setting, 1, month=shift_month(last, -3), months=14, state=setting.profile.award_state,
            amount=98_000_000, paid=14_700_000, public=setting.profile.award_public,
            account=setting.profile.award_account,
        ),
        _award(setting, 2, month=shift_month(last, -5), months=9, amount=41_250_000, paid=0),
        _award(setting, 3, month=shift_month(last, -6), months=12, amount=66_000_000, paid=6_600_000, winners=2),
        _award(setting, 4, month=shift_month(last, -7), months=12, amount=12_000_000, state="cancelled"),
        _award(
            setting, 5, month=shift_month(last, -8), months=6, amount=23_400_000, paid=23_400_000, state="completed"
        ),
    ]  # fmt: skip
    return [each for each in rows if str(each.fields["awarded"])[:7] >= setting.months[0]]


def _award(
    setting: Setting,
    at: int,
    *,
    month: str,
    months: int,
    amount: int,
    paid: int = 0,
    state: str = "active",
    winners: int = 1,
    public: bool = True,
    account: bool = True,
) -> GeneratedRow:
    random = setting.random(f"award {at}")
    number = f"ZC{month.replace('-', '')}{setting.subject[-6:]}{at:02}"
    buyer = _BUYERS[at % len(_BUYERS)] if public else "示例置业有限公司"
    return setting.row(
        "procurement_award", register="cn-ccgp-demo", number=number if winners == 1 else f"{number}/1",
        contract=f"HT{number[2:]}", lot=str(at) if winners > 1 else None, buyer=buyer,
        buyer_id=None if at == 2 else f"1100{random.randrange(10**8):08}", buyer_public=public,
        supplier=setting.name, title=f"{setting.trade.sells[0]}采购项目",
        awarded=f"{month}-{random.randrange(5, 25):02}",
        completes=last_day(shift_month(month, months)), state=state, winners=winners, currency="CNY",
        amount=amount + random.randrange(1_000) * 100, paid=paid,
        account=f"62{random.randrange(10**15):017}" if account else None,
    )  # fmt: skip


def unit_price_award(setting: Setting) -> GeneratedRow:
    """An award whose amount is what a tonne costs."""
    row = _award(setting, 9, month=shift_month(setting.months[-1], -2), months=12, amount=3_165)
    return replace(row, cells={"amount": "31.65/吨"}, refused="money_malformed")


def make_contracts(setting: Setting) -> list[GeneratedRow]:
    """The one to offer as security first; then one whose owner has paid everything."""
    profile, last = setting.profile, setting.months[-1]
    rows = [
        _contract(
            setting, 1, month=shift_month(last, -9), months=20, amount=320_000_000, certified=190_000_000,
            paid=110_000_000, overdue=25_000_000 if profile.contract_overdue else 0,
            state=profile.contract_state, account=profile.contract_account,
        ),
        _contract(
            setting, 2, month=setting.months[0], months=10, amount=75_000_000, certified=75_000_000,
            paid=75_000_000, overdue=0, state="completed" if len(setting.months) > 12 else "active",
        ),
    ]  # fmt: skip
    return [each for each in rows if str(each.fields["signed"])[:7] >= setting.months[0]]


def _contract(
    setting: Setting,
    at: int,
    *,
    month: str,
    months: int,
    amount: int,
    certified: int,
    paid: int,
    overdue: int,
    state: str,
    account: bool = True,
) -> GeneratedRow:
    random = setting.random(f"contract {at}")
    completes = last_day(shift_month(month, months))
    certified_on = min(f"{shift_month(setting.months[-1], -1)}-10", completes)
    return setting.row(
        "engineering_contract", number=f"GC{month.replace('-', '')}{setting.subject[-6:]}{at:02}",
        owner=_BUYERS[(at + 1) % len(_BUYERS)], owner_id=f"1100{random.randrange(10**8):08}", owner_public=True,
        title="示例项目安装工程", signed=f"{month}-{random.randrange(1, 27):02}", completes=completes, state=state,
        currency="CNY", amount=amount, certified=certified, paid=paid, overdue=overdue,
        certified_on=certified_on, account=f"62{random.randrange(10**15):017}" if account else None,
    )  # fmt: skip
