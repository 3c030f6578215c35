"""What an enterprise reads before it signs, in Chinese and English: the notice, and the words in it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from taxledger.ledger.consent import ConsentTerms, PredicateTerms
from taxledger.ledger.kinds import KIND_NAMES, kind_name

__all__ = ["ACTIONS_ZH", "CONSENT_STATUSES_ZH", "KINDS_ZH", "USE_STATES_ZH", "notice_text"]

KINDS_ZH = {
    "business_registration": "工商登记",
    "tax_filing": "纳税申报",
    "tax_credit_rating": "纳税信用等级",
    "tax_arrears": "欠税与违法",
    "vat_invoice": "增值税发票",
    "procurement_award": "政府采购中标",
    "engineering_contract": "工程合同",
    "utility_usage": "用电用水",
    "customs_declaration": "海关报关",
    "technology_qualification": "科技资质",
    "credit_summary": "征信摘要",
    "predicate": "判断结果",
}
CONSENT_STATUSES_ZH = {
    "active": "有效",
    "paused": "已暂停",
    "revoked": "已撤回",
    "superseded": "已被新授权取代",
    "expired": "已到期",
    "used_up": "次数已用完",
    "early": "尚未生效",
}
USE_STATES_ZH = {"open": "进行中", "complete": "已全部披露", "partial": "部分披露", "none": "未披露"}
ACTIONS_ZH = {"pause": "暂停", "resume": "恢复", "revoke": "撤回"}

_PURPOSES = {
    "credit_application": ("credit application", "贷款申请审查"),
    "credit_monitoring": ("monitoring of a loan", "贷后管理"),
    "credit_renewal": ("renewal of a loan", "续贷审查"),
    "supply_chain_finance": ("supply chain finance", "供应链融资"),
}
_MODES = {
    "proof_only": (
        "receives answers yes or no to the questions below, and no record",
        "只得到下列问题的“是/否”结果，得不到任何记录",
    ),
    "view": ("may see the records, and may not store them", "可以查看记录，不得保存"),
    "store": (
        "may see the records and store them for {days} days, then erases them",
        "可以查看并保存记录 {days} 天，到期删除",
    ),
}
_ONWARD = {
    "prohibited": ("may pass them on to nobody", "不得向任何第三方转交"),
    "regulator": ("may pass them on to its regulator only", "仅可向其监管机构提供"),
}
_PREDICATES = {
    "grade_at_least": ("tax credit grade at least {argument}", "纳税信用等级不低于 {argument}"),
    "net_sales_at_least": (
        "net sales of the last 12 months at least CNY {money}",
        "近 12 个月不含税销售额不低于人民币 {money} 元",
    ),
    "no_open_arrears": ("no open tax arrears", "无未结清欠税"),
}


def notice_text(terms: ConsentTerms, names: Mapping[int, str]) -> str:
    """The notice of these terms: Chinese lines, then English ones. Its digest stands in the terms.

    Args:
        terms: their notice's digest is not looked at.
        names: of the members concerned, by number.
    """
    return "\n".join([*_chinese(terms, names), "", *_english(terms, names)]) + "\n"


def _chinese(terms: ConsentTerms, names: Mapping[int, str]) -> Iterator[str]:
    recipient = _named(terms.recipient, names)
    yield "数据共享授权告知书"
    yield f"授权企业：{terms.subject}"
    yield f"数据保管机构：{'、'.join(_named(each.member, names) for each in terms.custodians)}"
    yield f"接收机构：{recipient}"
    yield f"用途：{_PURPOSES.get(terms.purpose, ('', terms.purpose))[1]}（{terms.purpose}）"
    for detail in terms.details:
        fields = "全部字段" if detail.fields is None else f"仅字段 {', '.join(detail.fields)}"
        kind = KINDS_ZH.get(KIND_NAMES.get(detail.kind, ""), f"种类 {detail.kind}")
        yield f"范围：{kind}，{detail.from_period} 至 {detail.to_period}，{fields}"
    for predicate in terms.predicates:
        yield f"问题：{_predicate(predicate, 1)}"
    yield f"方式：接收机构{_MODES[terms.mode][1].format(days=terms.retention_days)}；{_ONWARD[terms.onward][1]}"
    yield f"质押：{'接收机构可以' if terms.may_pledge else '接收机构不得'}将记录登记为担保"
    yield f"次数：最多 {terms.max_uses} 次，每次披露均先登记在账本上"
    yield f"有效期：{_day(terms.not_before)} 至 {_day(terms.not_after)}（协调世界时）"
    yield f"依据：{terms.legal_basis}；适用地：{terms.jurisdiction}"
    yield "您可以随时暂停或撤回，不收费，无需说明理由；撤回自下一区块起生效，撤回前已披露的内容不受影响。"


def _english(terms: ConsentTerms, names: Mapping[int, str]) -> Iterator[str]:
    recipient = _named(terms.recipient, names)
    yield "Notice of data sharing"
    yield f"Enterprise: {terms.subject}"
    yield f"Custodian: {', '.join(_named(each.member, names) for each in terms.custodians)}"
    yield f"Recipient: {recipient}"
    yield f"Purpose: {_PURPOSES.get(terms.purpose, (terms.purpose, ''))[0]} ({terms.purpose})"
    for detail in terms.details:
        fields = "all fields" if detail.fields is None else f"only the fields {', '.join(detail.fields)}"
        yield f"Scope: {kind_name(detail.kind)}, {detail.from_period} to {detail.to_period}, {fields}"
    for predicate in terms.predicates:
        yield f"Question: {_predicate(predicate, 0)}"
    mode = _MODES[terms.mode][0].format(days=terms.retention_days)
    yield f"Mode: the recipient {mode}; it {_ONWARD[terms.onward][0]}"
    yield f"Pledge: the recipient {'may' if terms.may_pledge else 'may not'} register records as security"
    yield f"Uses: at most {terms.max_uses}; each is on the ledger before anything is disclosed"
    yield f"Valid: {_day(terms.not_before)} to {_day(terms.not_after)} (UTC)"
    yield f"Legal basis: {terms.legal_basis}; jurisdiction: {terms.jurisdiction}"
    yield (
        "You may pause or withdraw at any time, free of charge and without a reason; it is in force at the next "
        "block. What was disclosed before is not affected."
    )


def _named(member: int, names: Mapping[int, str]) -> str:
    name = names.get(member)
    return f"member {member}" if name is None else f"{name} (member {member})"


def _predicate(predicate: PredicateTerms, language: int) -> str:
    argument = predicate.argument
    texts = _PREDICATES.get(predicate.name)
    if texts is None:
        return predicate.name if argument is None else f"{predicate.name} = {argument}"
    money = f"{argument // 100:,}.{argument % 100:02}" if type(argument) is int else ""
    return texts[language].format(argument=argument, money=money)


def _day(time_ms: int) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(time_ms // 1_000, datetime.UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
