"""A node with a million records: ready at once, and small."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check

_FIGURES = re.compile(r"Figures\((records=.*?)\)")


def run(stage: Stage) -> Iterator[Finding]:
    what = "ready ≤ 5 s, ≤ 400 MB, ≤ 150 MB above 100,000 records"
    yield from stage.pytest(what, "tests/e2e/test_large.py", options=["-m", "large", "-s"])
    figures = _FIGURES.findall(stage.kept.get(what, ""))
    yield check("measured", "; ".join(figures) or "nothing", len(figures) == 2)


LINE = Line(name="million", title="a node with 1,000,000 records: ready ≤ 5 s, memory bounded", run=run)
