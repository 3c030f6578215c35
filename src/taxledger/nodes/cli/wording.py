"""What a credit officer reads, in Chinese: verdicts, reasons of refusal, completeness, statuses."""

from __future__ import annotations

__all__ = [
    "CONSENT_REFUSALS_ZH",
    "NODE_REFUSALS_ZH",
    "PLEDGE_REFUSALS_ZH",
    "POLICY_REFUSALS_ZH",
    "REFUSALS_ZH",
    "STATUSES_ZH",
    "complete_zh",
    "erased_zh",
    "refused_zh",
    "verified_zh",
]

REFUSALS_ZH = {
    "malformed": "文件格式错误",
    "not_canonical": "编码不是唯一规范形式",
    "query_mismatch": "文件回答的不是所问的主体、种类或期间",
    "policy_mismatch": "不属于本策略文件所信任的账本",
    "header_mismatch": "区块头与检查点不符",
    "policy_outdated": "验证者名单已变更，请先用 taxledger policy update 更新策略文件",
    "signer_unknown": "含有策略之外的签名者",
    "signer_repeated": "同一签名者重复计入",
    "quorum_missing": "共同签名数量不足",
    "signature_invalid": "签名无效",
    "checkpoint_stale": "证据已过时，请重新获取",
    "inclusion_invalid": "区块头不在所签的账本中",
    "tag_invalid": "主体标识的证明无效",
    "record_repeated": "同一记录重复出现",
    "record_mismatch": "记录内容与账本上的承诺不符",
    "prefix_incomplete": "记录不完整：有遗漏、增加或改动",
    "map_proof_invalid": "状态证明无效",
}
CONSENT_REFUSALS_ZH = {
    "consent_signature_invalid": "授权文件的签名无效",
    "consent_recipient_mismatch": "授权的接收机构不是本机构",
    "consent_custodian_mismatch": "授权未指明该数据保管机构",
    "consent_subject_mismatch": "授权属于另一企业",
    "consent_kind_exceeded": "所问种类超出授权范围",
    "consent_period_exceeded": "所问期间超出授权范围",
    "consent_fields_exceeded": "披露字段与授权不符",
    "consent_mismatch": "授权文件与账本上的登记不符",
    "use_mismatch": "披露内容与账本上登记的使用不符",
}
"""Of a disclosure, beside those of evidence (docs/protocol.md §13)."""

NODE_REFUSALS_ZH = {
    "consent_missing": "未提供授权文件",
    "consent_unknown": "账本上没有该授权",
    "consent_changed": "授权文件与登记时不同",
    "consent_key_unknown": "签名公钥未在保管机构登记",
    "consent_chain_mismatch": "授权属于另一账本",
    "consent_paused": "授权已暂停",
    "consent_revoked": "授权已撤回",
    "consent_superseded": "授权已被新授权取代",
    "consent_early": "授权尚未生效",
    "consent_expired": "授权已到期",
    "consent_used_up": "授权次数已用完",
    "consent_exists": "该授权已登记",
    "consent_terms_invalid": "账本不接受该授权的条款",
    "consent_state_invalid": "授权当前状态不允许此操作",
    "preimage_invalid": "撤回原像不正确",
    "disclosure_withheld": "披露过程中授权已终止，其余内容未披露",
    "disclosure_invalid": "保管机构发来的内容未通过核验",
    "disclosure_unknown": "本机构未保存该披露",
    "disclosure_destroyed": "该披露数据已删除",
    "predicate_unknown": "授权中的判断项不存在",
    "predicate_argument_invalid": "判断项的参数不正确",
    "inputs_incomplete": "数据不完整，无法作出判断",
    "issuer_unknown": "所问的签发机构不在此处",
    "not_custodian": "该节点不是数据保管机构",
    "subject_key_exists": "企业已登记其他公钥，更换须说明理由",
    "instruction_repeated": "指令序号已使用",
    "use_closed": "该次使用已结束",
}
"""What a node refuses about consents (docs/api.md), beside the above."""

PLEDGE_REFUSALS_ZH = {
    "pledge_not_consented": "授权不允许将记录用作质押",
    "record_not_disclosed": "该次使用未披露可供质押的此记录",
    "record_not_pledgeable": "记录没有该指纹，不能质押",
    "record_not_valid": "记录已失效或已变更",
    "permit_invalid": "质押许可不是签发机构现行密钥所签",
    "permit_expired": "质押许可已到期",
    "permit_not_for_signer": "质押许可属于另一贷款机构",
    "permit_not_for_pledge": "质押许可与该质押的记录不符",
    "lender_inactive": "许可所指的贷款机构不能接收该质押",
    "ppm_too_small": "质押份额低于百分之一",
    "pledge_term_invalid": "预留期限已过",
    "pledge_exists": "同一请求已设立过条件不同的质押",
    "pledge_unknown": "账本上从未有此质押",
    "pledge_ended": "质押已终止",
    "not_pledgee": "该质押属于另一机构",
    "pledge_confirmed": "该质押已无期限",
    "pledge_contested": "同一单据已以另一记录质押",
    "pledges_full": "该记录的质押笔数已满",
    "pledge_exceeds": "质押份额合计超过记录全额",
}
"""What is refused about permits and pledges (docs/api.md)."""

POLICY_REFUSALS_ZH = {
    "policy_expired": "策略文件距上次核验已超过信任期，请向网络运营方索取现行策略文件",
    "policy_unknown": "该账本从未有过策略文件所列的验证者",
    "links_broken": "策略更新的证明不连贯，未作任何更改",
}
"""What is refused of a policy's update (docs/protocol.md §18)."""

STATUSES_ZH = {
    "valid": "有效",
    "voided": "作废",
    "reversed": "已红冲",
    "revoked": "已撤销",
    "erased": "已删除",
    "superseded": "已被取代",
}


def verified_zh(height: int, signers: int, seconds: int) -> str:
    return f"已核验：区块高度 {height}，{signers} 家验证者共同签名，最早的签名在 {max(seconds, 0)} 秒前"


def refused_zh(code: str) -> str:
    known = {
        **REFUSALS_ZH,
        **CONSENT_REFUSALS_ZH,
        **NODE_REFUSALS_ZH,
        **PLEDGE_REFUSALS_ZH,
        **POLICY_REFUSALS_ZH,
    }
    return f"未通过：{known.get(code, code)}（{code}）"


def erased_zh(records: int) -> str:
    return f"其中 {records:,} 条记录已删除：曾经存在，内容不能再出示"


def complete_zh(date: str | None, *, whole: bool) -> str:
    if date is None:
        return "完整性：签发机构未作声明"
    return f"完整性：截至 {date} 的记录完整（{'覆盖' if whole else '未覆盖'}所查期间）"
