"""What a credit officer reads, in Chinese: verdicts, reasons of refusal, completeness, statuses."""

from __future__ import annotations

__all__ = ["REFUSALS_ZH", "STATUSES_ZH", "complete_zh", "refused_zh", "verified_zh"]

REFUSALS_ZH = {
    "malformed": "文件格式错误",
    "not_canonical": "编码不是唯一规范形式",
    "query_mismatch": "文件回答的不是所问的主体、种类或期间",
    "policy_mismatch": "不属于本策略文件所信任的账本",
    "header_mismatch": "区块头与检查点不符",
    "policy_outdated": "策略文件已过期，验证者名单已变更",
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
STATUSES_ZH = {
    "valid": "有效",
    "voided": "作废",
    "reversed": "已红冲",
    "revoked": "已撤销",
    "erased": "已删除",
}


def verified_zh(height: int, signers: int, seconds: int) -> str:
    return f"已核验：区块高度 {height}，{signers} 家验证者共同签名，最早的签名在 {max(seconds, 0)} 秒前"


def refused_zh(code: str) -> str:
    return f"未通过：{REFUSALS_ZH.get(code, code)}（{code}）"


def complete_zh(date: str | None, *, whole: bool) -> str:
    if date is None:
        return "完整性：签发机构未作声明"
    return f"完整性：截至 {date} 的记录完整（{'覆盖' if whole else '未覆盖'}所查期间）"
