"""Which records an application offers as security: it names them as the enterprise does, the evidence has the keys."""

from __future__ import annotations

from collections.abc import Sequence

from taxledger.ledger.kinds import KINDS, kind_name
from taxledger.lending.decision import Reason
from taxledger.lending.facts import Fact, Facts

__all__ = ["find_offered"]

_NAMES = {
    KINDS["vat_invoice"]: ("number",),
    KINDS["procurement_award"]: ("number", "contract"),
    KINDS["engineering_contract"]: ("number",),
}


def find_offered(
    facts: Facts, kind: int, offered: Sequence[str]
) -> tuple[tuple[bytes, ...], tuple[Reason, ...]]:
    """The records that are meant.

    Args:
        facts: of the evidence.
        kind: that the product takes as security.
        offered: each the number of an invoice (also ``code/number``), award or contract, or a record key in hex.

    Returns:
        (keys, ascending, each once; why a name is of no record or of several).
    """
    keys: set[bytes] = set()
    reasons: list[Reason] = []
    for name in offered:
        meant = [each for each in facts.of(kind) if each.fingerprint and _is_meant(each, name)]
        # What was taken back and attested anew has the number twice: the one that counts is meant.
        counted = [each for each in meant if each.counted]
        found = sorted({each.key for each in counted or meant})
        if len(found) == 1:
            keys.add(found[0])
            continue
        code, text, text_zh = (
            ("security_ambiguous", f"means {len(found)} records", f"对应 {len(found)} 条记录，请提供记录编号")
            if found
            else ("security_unknown", "is in no evidence", "不在证据中")
        )
        reasons.append(
            Reason(
                code=code,
                text=f"{kind_name(kind)} {name} offered as security {text}",
                text_zh=f"担保记录 {name} {text_zh}",
            )
        )
    return tuple(sorted(keys)), tuple(reasons)


def _is_meant(record: Fact, name: str) -> bool:
    if record.key.hex() == name.lower():
        return True
    code, number = record.fields.get("code"), record.fields.get("number")
    if code is not None and name == f"{code}/{number}":
        return True
    return any(record.fields.get(field) == name for field in _NAMES.get(record.kind, ()))
