"""Every decision again, from the evidence files that ``applications.py`` left: how many have the same bytes.

python tests/acceptance/recompute.py OUT POLICY      prints {"decisions", "files", "bytes", "differ": […]}
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from taxledger.ledger.policy import Policy, decode_policy
from taxledger.ledger.query import Query
from taxledger.lending.assessing import Case, assess
from taxledger.lending.decision import Reason, decode_decision, encode_decision
from taxledger.lending.evidence import EvidenceFile
from taxledger.lending.products.catalogue import shipped_files


def read_files(folder: Path, subject: str, asked: list[dict[str, Any]]) -> list[EvidenceFile]:
    """Evidence with the questions that it answers."""
    return [
        EvidenceFile(
            query=Query(
                subject=subject,
                issuer=each["issuer"],
                kinds=tuple(each["kinds"]),
                from_period=each["from"],
                to_period=each["to"],
            ),
            data=(folder / f"{number}.evidence").read_bytes(),
        )
        for number, each in enumerate(asked)
    ]


def again(folder: Path, policy: Policy) -> bytes:
    """The decision's bytes, from the evidence and from what no file proves: id, dates, and why something is missing."""
    decision = decode_decision((folder / "decision.json").read_bytes())
    kept, pledges = json.loads((folder / "case.json").read_bytes()), folder / "pledges"
    files = read_files(folder, decision.subject, kept["questions"])
    missing = [Reason(**each) for each in kept["reasons"]]
    case = Case(
        application=decision.application,
        product=shipped_files().product(decision.product),
        subject=decision.subject,
        as_of=date.fromisoformat(decision.as_of),
        security=tuple(kept["security"]),
        recipient=decision.recipient,
        age_ms_max=decision.age_ms_max,
        artefact=(folder / "artefact").read_bytes(),
    )
    proof = pledges.read_bytes() if pledges.exists() else None
    return encode_decision(
        assess(case, files, proof, policy, decided_ms=decision.decided_ms, reasons=missing)
    )


def recompute(out: Path, policy: Policy) -> dict[str, Any]:
    folders = sorted(path.parent for path in out.glob("*/decision.json"))
    evidence = [path for each in folders for path in each.glob("*.evidence")]
    return {
        "decisions": len(folders),
        "files": len(evidence),
        "bytes": sum(path.stat().st_size for path in evidence),
        "differ": [
            each.name for each in folders if again(each, policy) != (each / "decision.json").read_bytes()
        ],
    }


if __name__ == "__main__":
    json.dump(recompute(Path(sys.argv[1]), decode_policy(Path(sys.argv[2]).read_bytes())), sys.stdout)
