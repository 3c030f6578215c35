"""The worked example of docs/protocol.md: the page says what the script computes, and the file verifies."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from taxledger.ledger import canonical
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.verify import verify_evidence

FOLDER = Path(__file__).resolve().parent
PROTOCOL = FOLDER.parents[1] / "docs" / "protocol.md"


def test_the_page_has_what_the_script_prints() -> None:
    section = runpy.run_path(str(FOLDER / "make_example.py"))["section"]()
    _, _, found = PROTOCOL.read_text(encoding="utf-8").partition("\n## 14. Worked example\n")
    assert found.partition("\n## ")[0] == section


def test_every_hash_on_the_way_is_the_one_that_counts() -> None:
    example = json.loads((FOLDER / "example.json").read_text(encoding="utf-8"))
    subject, issuer, kinds, first, last = example["query"]
    query = Query(subject=subject, issuer=issuer, kinds=tuple(kinds), from_period=first, to_period=last)
    data, policy = bytes.fromhex(example["evidence"]), decode_policy(example["policy"].encode())
    answer = verify_evidence(data, policy, query, now_ms=example["now_ms"], age_ms_max=0)
    (record,) = answer.records
    assert (record.key.hex(), record.year, record.month) == (example["key"], 2024, 0)
    assert record.fields == {"year": 2024, "grade": "A"}
    assert answer.complete(3)
    assert answer.header.state_root.hex() == example["inner"]["4"]
    assert decode_note(example["note"].encode()).checkpoint.root.hex() == example["root"]
    assert canonical.decode(bytes.fromhex(example["value"]))[3].hex() == example["commitment"]
    assert bytes.fromhex(example["key"])[4:20].hex() == example["tag"]
    leaves = example["leaves"]
    walk = ["010004", "010005", "02" + leaves["01"], "05", "010006", "010007", "05", "05", "05"]
    assert example["proof"] == "".join(walk)
