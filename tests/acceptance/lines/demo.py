"""``make demo`` from a fresh clone, without the real data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check

_SECONDS_MAX = 180.0
_PAYMENT_S_MAX = 5.0
_STEPS = (
    ("eight members, eight processes", r"platform +observer +pid \d+ .* writes ok"),
    ("records of eleven kinds attested", r"\d+ enterprises, [\d,]+ records, attested through \S+"),
    ("a tax loan refused on merit", r"refused 拒绝: tax credit grade is A, B or M"),
    ("invoices pledged", r"pledge 质押 [0-9a-f]{32}: invoice \d+"),
    ("a platform's application over HTTP", r"platform, a member without a validator, calls \S+ service"),
    ("a silent custodian", r"incomplete 证据不全: custodian_silent"),
    ("twin invoices refused", r"refused 拒绝: pledge_contested"),
    ("both banks see it", r"bank1 sees \S+contested.*\n\s+bank2 sees \S+contested"),
    ("sums as in the source files", r"sale +sums equal those of the source files to the cent"),
    ("a tampered copy refused", r"refused 拒绝: use_mismatch"),
    ("why it was refused", r"expected .*\n\s+got "),
    ("a red letter's alerts", r"critical D-INV-1 +pledge_impaired"),
    ("delivered by webhook", r"(\d+) alerts delivered to \S+, every signature verified"),
    ("repaid with interest", r"loan \S+ closed 已结清; its award is proved free"),
    ("a revoked consent refused", r"is refused 拒绝: consent_revoked"),
    ("the use in the enterprise's list", r"use 1: complete, (\d+) of \1 records"),
    ("the list proved to be complete", r"verified: all 1 consents to all 8 members"),
    ("archives verified", r"procurement\.archive .* verified 已验证: closed"),
    ("a bank killed, and back to the same roots", r"the same as the tax office's|tax is at height"),
    ("an auditor's replay", r"(\d+) invariants hold"),
)


def run(stage: Stage) -> Iterator[Finding]:
    clone = stage.clone()
    yield check("installation by make", f"{stage.kept.get('installed_s', 0.0):.0f} s")
    said = stage.run(["make", "demo", f"ENGINE={stage.engine}"], cwd=clone, data=False, timeout_s=600)
    yield check("make demo", f"exit status {said.status}", said.status == 0)
    yield check("time", f"{said.seconds:.0f} s (< {_SECONDS_MAX:.0f} s)", said.seconds < _SECONDS_MAX)
    for what, pattern in _STEPS:
        found = re.search(pattern, said.out)
        yield check(what, " ".join(found[0].split()) if found else "not printed", found is not None)
    path = clone / "demo" / "demo.json"
    yield check("demo.json lies there", path, path.is_file())
    told = json.loads(path.read_text("utf-8"))
    yield check("all steps are as told", len(told["steps"]), bool(told["as_told"]))
    for product in ("tax", "invoice", "procurement"):
        seconds = told["loans"][product]["consent_to_payment_s"]
        figure = f"{seconds:.2f} s from the signed consent to the payment file (≤ {_PAYMENT_S_MAX:.0f} s)"
        yield check(f"{product} loan", figure, seconds <= _PAYMENT_S_MAX)


LINE = Line(name="demo", title="make demo from a fresh clone: no data, under 180 s", run=run)
