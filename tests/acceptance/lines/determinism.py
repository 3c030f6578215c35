"""The same ordered input gives the same roots everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from ..stage import Finding, Line, Stage


def run(stage: Stage) -> Iterator[Finding]:
    yield from stage.pytest(
        "other Pythons, hash seeds, replay into an empty folder",
        "tests/e2e/test_determinism.py",
        options=["-rs"],
    )


LINE = Line(name="determinism", title="the same roots on every Python, hash seed and replay", run=run)
