"""What goes wrong between and at the members' machines: each node in a network namespace of its own, with the real
engine. The tests of it, and the figures that they report.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..stage import Finding, Line, Stage, check

_MINUTE = {"TAXLEDGER_FAULTS_LONG_S": "60"}
_SLOW = ("-m", "slow or not slow")


def _tests(stage: Stage, what: str, *targets: str, env: dict[str, str] | None = None) -> Iterator[Finding]:
    """Tests that must run: a skip is no pass here. The engine is installed where it is missing."""
    stage.taxledger("engine", "install")
    for finding in stage.pytest(what, *targets, options=_SLOW, env=env):
        skipped = finding.what.startswith("skipped")
        yield check(finding.what, finding.figure, False) if skipped else finding


def _walk(stage: Stage, what: str, *targets: str, env: dict[str, str] | None = None) -> Iterator[Finding]:
    """Tests, and the figures that they report."""
    report = stage.work / f"faults-{len(list(stage.work.glob('faults-*')))}.jsonl"
    yield from _tests(stage, what, *targets, env={"TAXLEDGER_FAULTS_REPORT": str(report), **(env or {})})
    lines = report.read_text("utf-8").splitlines() if report.exists() else []
    for line in lines:
        figures: dict[str, Any] = json.loads(line)
        title = figures.pop("what")
        yield check(title, "; ".join(f"{name} {value}" for name, value in figures.items()))
    yield check("figures reported", len(lines), bool(lines))


def _partitions(stage: Stage) -> Iterator[Finding]:
    yield from _walk(stage, "2|2, 3|1, healed", "tests/faults/test_partitions.py")


def _links(stage: Stage) -> Iterator[Finding]:
    yield from _walk(
        stage, "2 % lost on one link; another one 200 ms late each way", "tests/faults/test_links.py"
    )


def _stopped(stage: Stage) -> Iterator[Finding]:
    yield from _walk(
        stage, "SIGSTOP for a minute: both, node, engine", "tests/faults/test_stopped.py", env=_MINUTE
    )


def _clocks(stage: Stage) -> Iterator[Finding]:
    yield from _walk(
        stage,
        "a node's clock an hour off either way (libfaketime does not reach the Go engine)",
        "tests/faults/test_clocks.py",
    )


def _kills(stage: Stage) -> Iterator[Finding]:
    yield from _walk(
        stage, "kill -9 of each, in turn and at random; of two; of all", "tests/faults/test_kills.py"
    )


def _diverged(stage: Stage) -> Iterator[Finding]:
    yield from _walk(
        stage, "a node's state changed by hand: it stops, and says why", "tests/faults/test_diverged.py"
    )
    yield from _tests(stage, "who else may stop a node, and who may not", "tests/nodes/test_divergence.py")


def _rejoin(stage: Stage) -> Iterator[Finding]:
    yield from _tests(
        stage,
        "a wiped disk begins from a snapshot, follows, and never signs with the old keys",
        "tests/e2e/test_state_sync.py",
    )


def _members(stage: Stage) -> Iterator[Finding]:
    yield from _tests(
        stage,
        "a fifth member joins, the fourth leaves; a node moves with its journal",
        "tests/e2e/test_joining.py",
    )
    yield from _tests(
        stage,
        "the first policy refuses the newest evidence (policy_outdated), and verifies it once updated",
        "tests/ledger/test_policylinks.py",
        "tests/cli/test_policy_commands.py",
    )
    yield from _tests(
        stage, "vote, log and co-signing keys rotated while a node runs", "tests/nodes/test_key_rotation.py"
    )


def _malicious(stage: Stage) -> Iterator[Finding]:
    folder = stage.clone() / "tests" / "nodes"
    found = sorted(
        str(path.relative_to(folder.parents[1]))
        for pattern in ("test_cometbft_*.py", "test_abci_*.py")
        for path in folder.glob(pattern)
    )
    yield from _tests(stage, "engine, members and bytes that lie, repeat, flood, hold back", *found)
    yield from _tests(
        stage,
        "a member's node that lies, beside the real engine: the others write on",
        "tests/e2e/test_malicious_member.py",
    )


PARTITIONS = Line(name="partitions", title="four namespaces: partitions 2|2 and 3|1, healed", run=_partitions)
LINKS = Line(name="links", title="four namespaces: one link loses 2 %, one is 200 ms late", run=_links)
STOPPED = Line(name="stopped", title="four namespaces: a node stands still for a minute", run=_stopped)
CLOCKS = Line(name="clocks", title="four namespaces: a node's clock an hour off, either way", run=_clocks)
KILLS = Line(name="kills", title="CometBFT: kill -9 of any node at any time, the proposer too", run=_kills)
DIVERGED = Line(
    name="diverged", title="a node whose state differs stops before it signs; the others go on", run=_diverged
)
REJOIN = Line(
    name="rejoin", title="a wiped disk rejoins by state sync; its old keys never sign again", run=_rejoin
)
MEMBERS = Line(
    name="members", title="members join and leave, keys are rotated, a bank's policy follows", run=_members
)
MALICIOUS = Line(
    name="malicious", title="CometBFT: a malicious member can't stop the others nor forge", run=_malicious
)
LINES = (PARTITIONS, LINKS, STOPPED, CLOCKS, KILLS, DIVERGED, REJOIN, MEMBERS, MALICIOUS)
