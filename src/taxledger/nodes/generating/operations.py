"""Electricity, customs declarations and qualifications of a made-up enterprise.

Traps: a meter that was replaced, a month whose amount was corrected down to the fen, declarations that were
cancelled or rejected, one that is declared and not cleared yet, a certificate that has expired beside a valid one.
"""

from __future__ import annotations

from taxledger.nodes.generating.sales import month_net
from taxledger.nodes.generating.setting import GeneratedRow, Setting, day_after, last_day, shift_month

__all__ = ["make_declarations", "make_qualifications", "make_usage"]

_VOIDED = 2
_FEN_PER_KWH = 72
_COUNTRIES = ("DE", "JP", "US", "VN")
_METER_MONTHS = 14
"""A meter is replaced after so many."""


def make_usage(setting: Setting) -> list[GeneratedRow]:
    """One record a month and meter."""
    random, rows, profile = setting.random("usage"), [], setting.profile
    size = setting.base_fen // 4_000
    for at, month in enumerate(setting.months):
        back = setting.back(month)
        percent = random.randrange(94, 107) * (profile.usage_last_year_percent if back < 12 else 100)
        season = 300 + setting.trade.season[int(month[5:]) - 1]
        kwh = size * percent * season // 4_000_000
        if back in profile.usage_missing:
            continue
        amount = kwh * _FEN_PER_KWH + random.randrange(100)
        rows.append(
            setting.row(
                "utility_usage", utility="electricity", meter=f"{setting.subject[-8:]}{at // _METER_MONTHS}",
                month=month, usage_wh=kwh * 1_000, peak_w=kwh * 9, currency="CNY", amount=amount,
                arrears=amount if profile.usage_arrears and back == 1 else 0, tariff="一般工商业",
            )
        )  # fmt: skip
    return rows


def make_declarations(setting: Setting) -> list[GeneratedRow]:
    """Three exports a month, a fifth of what is sold, and an import each quarter."""
    random, rows, profile = setting.random("customs"), [], setting.profile
    due = 50
    for month in setting.months:
        back = setting.back(month)
        value = month_net(setting, month) // 15
        count = 3 if profile.export_months is None or back in profile.export_months else 0
        if profile.export_history is not None and back >= profile.export_history:
            count = 0
        for at in range(count):
            due += profile.cancelled_percent
            cancelled, due = due >= 100, due % 100
            # Of three, one that is cancelled leaves two: no month is without exports.
            rows.append(
                _declaration(setting, month, at, "export", value * random.randrange(90, 111) // 100,
                             state="cleared", status=_VOIDED if cancelled else 1)
            )  # fmt: skip
        if count and int(month[5:]) % 3 == 0:
            rows.append(_declaration(setting, month, 8, "import", value // 3, state="cleared"))
    if rows:
        month = setting.months[-1]
        rows.append(_declaration(setting, shift_month(month, -1), 9, "export", 1_250_000, state="rejected"))
        rows.append(_declaration(setting, month, 9, "export", 990_000, state="declared"))
    return rows


def _declaration(
    setting: Setting, month: str, at: int, direction: str, value: int, *, state: str, status: int = 1
) -> GeneratedRow:
    day = f"{month}-{4 + 2 * at:02}"
    number = f"{month.replace('-', '')}{setting.subject[-6:]}{'EI'[direction == 'import']}{at}"
    return setting.row(
        "customs_declaration", status=status, direction=direction, number=number, declared=day,
        cleared=day_after(day, 3) if state == "cleared" else None, state=state, procedure="一般贸易",
        country=_COUNTRIES[at % len(_COUNTRIES)], counterparty="Example Trading GmbH", goods=setting.trade.sells[0],
        currency="CNY", value=value, duty=value // 20 if direction == "import" else 0,
        tax=value * 13 // 100 if direction == "import" else 0,
    )  # fmt: skip


def make_qualifications(setting: Setting) -> list[GeneratedRow]:
    """A certificate that is valid and one that was, a patent and a work of software."""
    last, code, expired = setting.months[-1], setting.subject[-6:], setting.profile.certificates_expired
    issued = f"{shift_month(last, -47 if expired else -16)}-01"
    until = last_day(shift_month(issued[:7], 35))
    ended = f"{shift_month(last, -3)}-20" if expired else f"{int(last[:4]) + 12}-05-09"
    found = [
        ("high_tech", f"GR{issued[:4]}{code}", "高新技术企业证书", issued, until),
        ("specialised", f"ZJ{code}", "专精特新中小企业", "2018-06-01", last_day(shift_month(last, -8))),
        ("invention_patent", f"ZL2019{code}", "一种示例装置", "2019-05-10", ended),
        ("utility_model", f"ZLX{code}", "一种示例结构", "2014-03-02", f"{int(last[:4]) - 1}-03-01"),
    ]
    return [
        setting.row(
            "technology_qualification", category=category, number=number, title=title, issued=day,
            valid_from=day, valid_until=end, authority="示例省科学技术厅",
        )
        for category, number, title, day, end in found
    ]  # fmt: skip
