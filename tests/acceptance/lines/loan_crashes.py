"""``kill -9`` at each step of a loan, of the lender's process and of its node: the tests of it, and their figures."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check


def run(stage: Stage) -> Iterator[Finding]:
    report = stage.work / "loan-crashes.jsonl"
    report.unlink(missing_ok=True)
    yield from stage.pytest(
        "on a real network: the same end, one payment file, one contract, one pledge on the ledger, proved",
        "tests/lending/test_network_crashes.py",
        options=("-m", "not large"),
        env={"TAXLEDGER_LOAN_CRASHES_REPORT": str(report)},
    )
    figures = [json.loads(line) for line in report.read_text("utf-8").splitlines()] if report.exists() else []
    for each in figures:
        yield check(each["what"], f"{each['kills']} kills in {each['seconds']} s", each["kills"] > 0)
    yield check(
        "databases", "bank1: SQLite; bank2: PostgreSQL", any("bank2" in each["what"] for each in figures)
    )
    yield from stage.pytest(
        "with draws, repayments and the release of the pledge, on both databases",
        "tests/lending/test_loan_crashes.py",
        options=("-m", "not large"),
    )


LINE = Line(name="loan-crashes", title="kill -9 at each step of a loan: the same end, nothing twice", run=run)
