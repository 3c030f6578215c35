"""Every verdict that a credit officer can meet has its Chinese sentence."""

from __future__ import annotations

import re
from pathlib import Path

from taxledger.api.problems import PROBLEMS
from taxledger.ledger.records import Status
from taxledger.ledger.rules import RESULT_NAMES
from taxledger.nodes.cli.wording import (
    CONSENT_REFUSALS_ZH,
    NODE_REFUSALS_ZH,
    PLEDGE_REFUSALS_ZH,
    REFUSALS_ZH,
    STATUSES_ZH,
    complete_zh,
    refused_zh,
)


def test_every_code_of_the_protocol_has_a_sentence() -> None:
    protocol = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
    table = protocol[protocol.index("## 10.") : protocol.index("## 11.")]
    codes = set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE))
    assert codes == set(REFUSALS_ZH)
    assert len(set(REFUSALS_ZH.values())) == len(REFUSALS_ZH)


def test_every_code_about_consents_has_a_sentence() -> None:
    protocol = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
    table = protocol[protocol.index("## 13.") : protocol.index("## 14.")]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    codes = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)} - set(REFUSALS_ZH)
    assert codes == set(CONSENT_REFUSALS_ZH)
    of_nodes = {
        code
        for code in PROBLEMS
        if code.startswith(("consent_", "disclosure_", "predicate_"))
        or code
        in (
            "inputs_incomplete",
            "issuer_unknown",
            "preimage_invalid",
            "not_custodian",
            "subject_key_exists",
            "instruction_repeated",
            "use_closed",
        )
    }
    assert of_nodes - set(CONSENT_REFUSALS_ZH) == set(NODE_REFUSALS_ZH)
    of_rules = {name for code, name in RESULT_NAMES.items() if code >= 35}
    assert of_rules | {"pledge_not_consented", "record_not_disclosed"} == set(PLEDGE_REFUSALS_ZH)
    assert set(PLEDGE_REFUSALS_ZH) <= set(PROBLEMS)
    tables = (CONSENT_REFUSALS_ZH, NODE_REFUSALS_ZH, PLEDGE_REFUSALS_ZH, REFUSALS_ZH)
    both = [text for table in tables for text in table.values()]
    assert len(set(both)) == len(both)


def test_every_status_has_a_word() -> None:
    assert set(STATUSES_ZH) == {status.name.lower() for status in Status}


def test_a_sentence_names_its_code_and_completeness_its_day() -> None:
    assert refused_zh("checkpoint_stale") == "未通过：证据已过时，请重新获取（checkpoint_stale）"
    assert "2025-02-28" in complete_zh("2025-02-28", whole=True)
    assert "未作声明" in complete_zh(None, whole=False)
