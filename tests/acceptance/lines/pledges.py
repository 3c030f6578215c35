"""Banks that race for the same invoices through nodes that are killed: the test of it, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check

_RACE = "tests/e2e/test_pledge_race.py"


def run(stage: Stage) -> Iterator[Finding]:
    report = stage.work / "race.json"
    yield from stage.pytest(
        "eight banks, four of them observers, race through four validators with kills; nobody pledges without a permit",
        _RACE,
        options=("-m", "not large"),
        env={"TAXLEDGER_RACE_REPORT": str(report)},
    )
    if not report.exists():
        yield check("figures of the race", "none were left", False)
        return
    said = json.loads(report.read_text("utf-8"))
    yield check(
        "nothing is pledged twice",
        f"at most {said['most_pledged_ppm']:,} ppm of each of {said['invoices']} invoices, {said['full']} in full",
        said["most_pledged_ppm"] <= 1_000_000 and said["invoices"] == 200,
    )
    yield check(
        "placed = acknowledged",
        f"{said['placed']:,} acknowledged, {said['pledges_in_state']:,} in the state, "
        f"{said['kills']} kills in {said['seconds']} s",
        said["placed"] == said["pledges_in_state"],
    )
    refused = ", ".join(f"{count:,} {code}" for code, count in said["refused"].items())
    yield check(
        "every loser has its refusal",
        f"of {said['tries']:,} tries: {refused}",
        said["placed"] + sum(said["refused"].values()) == said["tries"],
    )
    yield from stage.pytest(
        "permits and pledges between real nodes, and at the command line",
        *(
            "tests/nodes/test_pledging.py",
            "tests/ledger/test_pledge_rules.py",
            "tests/cli/test_custodians.py",
        ),
        options=("-m", "not large"),
    )


LINE = Line(
    name="pledges", title="pledges: eight banks race for 200 invoices, none without a permit", run=run
)
