"""A malicious sequencer, a split, and one liar with one validator cut off."""

from __future__ import annotations

from collections.abc import Iterator

from ..stage import Finding, Line, Stage


def run(stage: Stage) -> Iterator[Finding]:
    yield from stage.pytest(
        "a malicious sequencer, and a 2–2 split",
        "tests/nodes/test_lying_sequencer.py",
        "tests/nodes/test_embedded.py",
    )
    yield from stage.pytest("freshness by the q-th newest", "tests/nodes/test_certification.py")


LINE = Line(name="liars", title="a malicious sequencer, a 2–2 split, and freshness under one liar", run=run)
