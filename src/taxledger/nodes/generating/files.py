"""Made-up enterprises as files: one CSV a kind, of different make on purpose, and the mapping that explains it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger.builtin import newest
from taxledger.ledger.schemas import KINDS, Value
from taxledger.nodes.generated_files import GeneratedFile
from taxledger.nodes.generating.enterprise import GeneratedEnterprise
from taxledger.nodes.generating.setting import GeneratedRow

__all__ = ["write_enterprises"]

_SUBJECT, _STATUS = "统一社会信用代码", "记录状态"
_STATUSES = {1: "正常", 2: "作废"}
_WORDS = {
    "direction": {"sale": "销项", "purchase": "进项", "import": "进口", "export": "出口"},
    "tax": {"vat": "增值税", "cit": "企业所得税"},
    "category": {
        "arrears": "欠税", "violation": "违法", "audit": "稽查", "high_tech": "高新技术企业",
        "specialised": "专精特新", "little_giant": "小巨人", "invention_patent": "发明专利",
        "utility_model": "实用新型", "design_patent": "外观设计", "software": "软件著作权",
    },
    "state": {
        "active": "存续", "completed": "已完成", "cancelled": "已取消", "terminated": "已终止",
        "declared": "已申报", "cleared": "已放行", "rejected": "已退单", "suspended": "停业", "revoked": "吊销",
    },
    "utility": {"electricity": "电"},
}  # fmt: skip
"""What a file says for a value, by field: ``tax`` only where it is a text."""
_COLUMNS = {
    "code": "发票代码", "number": "编号", "date": "日期", "counterparty": "对方", "currency": "币种",
    "net": "金额", "gross": "价税合计", "rate": "税率", "goods": "货物或服务", "original": "原发票号码",
    "direction": "方向", "period": "所属期", "months": "月数", "filed": "申报日期", "due": "申报期限",
    "sales": "销售额", "output_tax": "销项税额", "input_tax": "进项税额", "relief": "减免税额",
    "payable": "应补税额", "paid": "已付金额", "paid_on": "付款日期", "year": "年度", "grade": "信用等级",
    "score": "得分", "published": "公布日期", "authority": "机关", "category": "类别", "opened": "发生日期",
    "closed": "结清日期", "amount": "合同或费用金额", "name": "名称", "legal_form": "类型",
    "registered": "成立日期", "state": "状态", "capital": "注册资本", "industry": "行业", "district": "区划",
    "representative": "法定代表人", "register": "公告平台", "contract": "合同号", "lot": "标段",
    "buyer": "采购人", "buyer_id": "采购人代码", "buyer_public": "是否公共机构", "supplier": "中标人",
    "title": "名目", "awarded": "中标日期", "completes": "完成日期", "winners": "中标人数",
    "account": "收款账户", "owner": "业主", "owner_id": "业主代码", "owner_public": "业主是否公共机构",
    "signed": "签订日期", "certified": "已确认金额", "overdue": "逾期金额", "certified_on": "确认日期",
    "utility": "能源", "meter": "表号", "month": "月份", "usage_wh": "用量（瓦时）",
    "peak_w": "最大需量（瓦）", "arrears": "欠费", "tariff": "电价类别", "declared": "申报日",
    "cleared": "放行日", "procedure": "监管方式", "country": "国别", "value": "货值", "duty": "关税",
    "tax": "税种或税额", "issued": "发证日期", "valid_from": "有效期起", "valid_until": "有效期止",
    "as_of": "截止日期", "lenders": "授信机构数", "loans_open": "未结清贷款数", "first_borrowed": "首次借款日",
    "outstanding": "余额", "overdue_days": "逾期天数",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Make:
    """How a publisher writes its files."""

    encoding: str = "utf-8"
    title: str = ""
    dates: str = "YYYY-M-D"
    thousands: str = ""


_MAKES = {
    "tax_arrears": _Make(encoding="gb18030", title="欠税、违法及稽查名单"),
    "procurement_award": _Make(thousands=",", dates="YYYY年M月D日"),
    "utility_usage": _Make(encoding="gb18030", thousands=","),
    "customs_declaration": _Make(dates="YYYY/M/D"),
    "credit_summary": _Make(title="信用信息摘要", dates="YYYY.M.D"),
}
_NAMES = {
    "vat_invoice": "invoices", "tax_filing": "filings", "tax_credit_rating": "ratings", "tax_arrears": "arrears",
    "business_registration": "registrations", "procurement_award": "awards",
    "engineering_contract": "contracts", "utility_usage": "electricity", "customs_declaration": "customs",
    "technology_qualification": "qualifications", "credit_summary": "credit",
}  # fmt: skip


def write_enterprises(enterprises: Sequence[GeneratedEnterprise], folder: Path) -> tuple[GeneratedFile, ...]:
    """Write the files of enterprises into an existing folder, and ``enterprises.json`` which says who they are.

    Args:
        enterprises: at least one, of one last day.
        folder: where; files of the same names are written over.
    """
    files = []
    for kind, name in _NAMES.items():
        rows = [row for each in enterprises for row in each.rows[kind]]
        refused = any(row.refused for row in rows)
        through = "" if refused else max(each.through for each in enterprises)
        files.append(_write(folder, kind, name, rows, through))
    who = [
        {"subject": each.subject, "name": each.name, "profile": each.profile.name, "through": each.through}
        for each in enterprises
    ]
    text = json.dumps(who, ensure_ascii=False, indent=2) + "\n"
    (folder / "enterprises.json").write_text(text, "utf-8")
    return tuple(files)


def _write(folder: Path, kind: str, name: str, rows: Sequence[GeneratedRow], through: str) -> GeneratedFile:
    make = _MAKES.get(kind, _Make())
    fields = _fields_of(kind, rows)
    path, mapping = folder / f"{name}.csv", folder / f"{name}.toml"
    mapping.write_text(_mapping(kind, name, fields, make), "utf-8")
    with path.open("w", encoding=make.encoding, newline="") as file:
        writer = csv.writer(file)
        if make.title:
            writer.writerow([make.title])
        writer.writerow([_SUBJECT, *(_COLUMNS[field] for field in fields), _STATUS])
        for row in rows:
            cells = [_cell(kind, row, field, make) for field in fields]
            status = row.cells.get("status", _STATUSES[row.status])
            writer.writerow([row.subject.removeprefix("uscc:"), *cells, status])
    return GeneratedFile(path=path, mapping=mapping, kind=kind, through=through, rows=len(rows))


def _fields_of(kind: str, rows: Iterable[GeneratedRow]) -> list[str]:
    """The fields that any row has, or that a mapping has to name, in the schema's order."""
    used = {name for row in rows for name in row.fields}
    every = [each.name for each in newest(KINDS[kind]).fields]
    return [name for name in every if name in (used or _COLUMNS)]


def _type(kind: str, field: str) -> object:
    schema = newest(KINDS[kind])
    return schema.fields[schema.position[field]].type


def _cell(kind: str, row: GeneratedRow, field: str, make: _Make) -> str:
    if field in row.cells:
        return row.cells[field]
    value: Value = row.fields.get(field)
    if value is None:
        return ""
    if type(value) is bool:
        return "是" if value else "否"
    type_ = _type(kind, field)
    if type(value) is int:
        return _number(value, type_, make)
    text = str(value)
    if type_ == "date":
        return _date(text, make.dates)
    return _WORDS.get(field, {}).get(text, text)


def _number(value: int, type_: object, make: _Make) -> str:
    if type_ == "ppm":
        return f"{value // 10_000}%"
    if type_ != "money":
        return str(value)
    whole, sign = abs(value), "-" if value < 0 else ""
    yuan = f"{whole // 100:,}" if make.thousands else str(whole // 100)
    return f"{sign}{yuan}.{whole % 100:02}"


def _date(day: str, form: str) -> str:
    year, month, date = day[:4], str(int(day[5:7])), str(int(day[8:]))
    if form == "YYYY-M-D":
        return day
    return form.replace("YYYY", year).replace("M", month).replace("D", date)


def _mapping(kind: str, name: str, fields: Sequence[str], make: _Make) -> str:
    lines = [
        f"# Columns of {name}.csv as fields of a {kind}.",
        f'kind = "{kind}"',
        "",
        "[file]",
        f'encoding = "{make.encoding}"',
        f"header_row = {2 if make.title else 1}",
        "",
        "[forms]",
        f'dates = ["{make.dates}"]',
        f'thousands = "{make.thousands}"',
        "",
        "[subject]",
        f'column = "{_SUBJECT}"',
        "",
        "[status]",
        f'column = "{_STATUS}"',
        'values = { "正常" = "valid", "作废" = "voided" }',
        "",
        "[columns]",
        *(f'{field} = "{_COLUMNS[field]}"' for field in fields),
    ]
    for field in fields:
        type_ = _type(kind, field)
        words = _WORDS.get(field, {})
        allowed = type_ if isinstance(type_, tuple) else tuple(words) if type_ == "text" else ()
        shown = {value: words[value] for value in allowed if value in words}
        if shown:
            lines += ["", f"[values.{field}]", *(f'"{text}" = "{value}"' for value, text in shown.items())]
    return "\n".join(lines) + "\n"
