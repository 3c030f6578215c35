"""kill -9 of the process that drives a loan, at each place: the same end, one payment a draw, one pledge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from postgreskit import new_database

DRIVER = Path(__file__).with_name("loancrash.py")
KINDS = [
    *(
        "applied",
        "consent_given",
        "consented",
        "evidence_asked",
        "evidence",
        "decided",
        "offered",
        "accepted",
    ),
    *("pledge_asked", "pledged", "draw_ordered", "paid", "draw_ordered", "paid", "repaid", "repaid"),
    *("close_asked", "release_asked", "closed"),
]


def drive(*arguments: object) -> Any:
    ledger = str(DRIVER.parents[1] / "ledger")
    source = os.environ.get("PYTHONPATH", "")
    done = subprocess.run(
        [sys.executable, str(DRIVER), *map(str, arguments)],
        env=dict(os.environ, PYTHONPATH=f"{source}{os.pathsep}{ledger}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_outcome(found: dict[str, Any]) -> dict[str, Any]:
    assert (found["state"], found["principal"]) == ("closed", 0)
    assert found["kinds"] == KINDS  # every step is in the books once
    assert found["repayments"] == [[30_000, 3_000_000], [0, 6_000_000]]
    assert found["effects"] == {"consents": 1, "evidence": 1, "pledges": 1, "released": 1}
    assert (found["pledges"], len(found["payments"])) == (1, 2)
    return found


def check_march(marched: dict[str, Any]) -> None:
    assert marched["ended"] == 0
    places = marched["places"]
    assert len(places) == len(set(places))
    counts = Counter(each.split()[0] for each in places)
    assert counts["append"] == 2 * len(KINDS)
    assert counts["amid"] >= len(KINDS)
    assert [counts[each] for each in ("forward", "collect", "place", "release")] == [2] * 4
    assert (counts["rename"], counts["fsync"]) == (4, 6)
    check_outcome(marched["outcome"])


def test_killed_at_every_place(quick_path: Path) -> None:
    check_march(drive("march", f"sqlite:///{quick_path}/loans.sqlite", quick_path))


@pytest.mark.slow
def test_killed_at_every_place_on_postgresql(quick_path: Path, postgres: str) -> None:
    check_march(drive("march", new_database(postgres), quick_path))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_once_at_each_place(quick_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    """A loan of its own for each place."""
    server = "-" if kind == "sqlite" else request.getfixturevalue("postgres")
    made = drive("each", server, quick_path)
    assert len(made["outcomes"]) == made["places"] + 1 > 80
    first = check_outcome(made["outcomes"][0])
    for each in made["outcomes"]:
        assert each == first


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_twice(quick_path: Path, request: pytest.FixtureRequest, kind: str, seed: int) -> None:
    print(f"seed {seed}")
    server = "-" if kind == "sqlite" else request.getfixturevalue("postgres")
    made = drive("twice", server, quick_path, 10, seed)
    first = check_outcome(made["outcomes"][0])
    for each in made["outcomes"]:
        assert each == first
