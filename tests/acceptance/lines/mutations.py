"""Evidence that was changed anywhere is refused, each case with its own code."""

from __future__ import annotations

from collections.abc import Iterator

from ..stage import ROOT, Finding, Line, Stage, check

_CODES = 17


def run(stage: Stage) -> Iterator[Finding]:
    yield from stage.pytest("each way of cheating has its code", "tests/ledger/test_verify.py")
    yield from stage.pytest(
        "every byte, cut, record, pair and range; larger ones by properties",
        "tests/ledger/test_verify_exhaustive.py",
    )
    yield from stage.pytest(
        "each way of cheating with a disclosure",
        "tests/ledger/test_disclosure.py",
        "tests/ledger/test_disclosure_core.py",
    )
    yield from stage.pytest(
        "vectors, and a verifier written from the protocol alone",
        "tests/vectors",
        "tests/ledger/test_evidence_vectors.py",
        "tests/independent",
    )
    script = ROOT / "tests" / "acceptance" / "mutate.py"
    said = stage.ok([stage.python, script, stage.clone() / "tests" / "vectors" / "evidence.json", "2000"])
    found = said.json
    codes = ", ".join(f"{code} {count:,}" for code, count in sorted(found["codes"].items()))
    yield check(
        "changed at random",
        f"{found['tried']:,} tried (seed {found['seed']}), {found['accepted']} accepted; {codes}",
        found["accepted"] == 0 and not found["errors"],
    )
    yield check("codes known to the tests", f"{len(found['known'])}", len(found["known"]) >= _CODES)


LINE = Line(name="mutations", title="mutated evidence is refused, each case with its own code", run=run)
