"""``make demo`` from a fresh clone, without the real data."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check

_SECONDS_MAX = 90.0
_STEPS = (
    ("four members, four processes", r"bank3 .* writes ok"),
    ("a portfolio attested", r"sales\.csv: .* 0 rejected"),
    ("a consent on the ledger", r"consent [0-9a-f]{32} is active, certified at height \d+"),
    ("progress of the disclosure", r"use 1: piece \d of \d, \d+ of \d+ records"),
    ("a disclosure verified offline", r"verified: height \d+, log size \d+, co-signed by \d validators"),
    ("sums as in the source files", r"sale sums equal those of the source files to the cent"),
    ("a tampered copy refused", r"refused: use_mismatch"),
    ("why it was refused", r"expected .*\n\s+got "),
    ("a revoked consent refused", r"is refused: consent_revoked"),
    ("the use in the enterprise's list", r"use 1: complete, (\d+) of \1 records"),
    ("the list proved to be complete", r"verified: all 1 consents to all 4 members"),
    ("a bank killed, and back to the same roots", r"the same as the tax office's|tax is at height"),
    ("an auditor's replay", r"(\d+) invariants hold"),
)


def run(stage: Stage) -> Iterator[Finding]:
    clone = stage.clone()
    yield check("installation by make", f"{stage.kept.get('installed_s', 0.0):.0f} s")
    said = stage.run(["make", "demo"], cwd=clone, data=False, timeout_s=600)
    yield check("make demo", f"exit status {said.status}", said.status == 0)
    yield check("time", f"{said.seconds:.0f} s (< {_SECONDS_MAX:.0f} s)", said.seconds < _SECONDS_MAX)
    for what, pattern in _STEPS:
        found = re.search(pattern, said.out)
        yield check(what, " ".join(found[0].split()) if found else "not printed", found is not None)
    disclosure = re.search(r"The disclosure: (\S+)", said.out)
    path = clone / disclosure[1] if disclosure else None
    yield check("the disclosure lies there", path, path is not None and path.is_file())


LINE = Line(name="demo", title="make demo from a fresh clone: no data, under 90 s", run=run)
