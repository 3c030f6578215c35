"""``make bench``, beside the machine's own primitives of the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check


def run(stage: Stage) -> Iterator[Finding]:
    clone = stage.clone()
    said = stage.run(["make", "bench"], cwd=clone)
    yield check("make bench", f"exit status {said.status}, {said.seconds:.0f} s", said.status == 0)
    path = clone / "benchmarks" / "results" / "latest.json"
    document = json.loads(path.read_bytes())
    figures = document if isinstance(document, list) else document["figures"]
    for each in figures:
        aim = f" (aim: {each['aim']})" if each.get("aim") else ""
        whole = {"name", "value", "unit", "n"} <= set(each)
        yield check(each["name"], f"{each['value']:,.4g} {each['unit']}, n = {each['n']:,}{aim}", whole)


LINE = Line(name="bench", title="make bench: what it measured", run=run)
