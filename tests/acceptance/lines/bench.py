"""``make bench``, beside the machine's own primitives of the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check

_REQUIRED = (
    "primitive.sha256_64",
    "primitive.ed25519_verify",
    "primitive.leveldb_synced_write_1024",
    "network.upload.attestations",
    "network.upload.cpu_per_item.node",
    "network.ledger.attestations",
    "network.ledger.cpu_per_item.node",
    "network.single.transactions",
    "network.idle.commit_p50",
    "network.idle.commit_p99",
    "statemap.batch.updates",
    "statemap.random.updates",
    *(
        f"evidence.{size}.{part}"
        for size in (1, 100, 2_600)
        for part in ("file", "proof", "records", "verify")
    ),
    *(
        f"disclosure.2600.{part}"
        for part in ("total", "use_certified", "pieces", "node", "verify", "consent")
    ),
    *(
        f"decision.{case}.{part}"
        for case in ("100", "1000", "10000", "tax")
        for part in ("verify", "features", "rules", "whole", "decisions")
    ),
    *(
        f"loan.{product}.{step}"
        for product in ("tax", "invoice", "procurement")
        for step in ("total", "consent", "verification", "decision", "contract", "payment", "books")
    ),
    *(
        f"engines.{engine}.{part}"
        for engine in ("embedded", "cometbft", "kvstore")
        for part in ("commit_p50", "commit_p95", "single.transactions", "batch.transactions", "batch.records")
    ),
    *(f"engines.ratio.{part}" for part in ("commit_p50", "commit_p95", "single.transactions")),
    *("loan.tax.evidence.tax", "loan.invoice.evidence.tax", "loan.procurement.evidence.procurement"),
    *(
        f"loan.{product}.{step}"
        for product in ("invoice", "procurement")
        for step in ("pledge_proof", "pledge")
    ),
)
_AT_LEAST = {"network.upload.attestations": 8_000.0, "network.ledger.attestations": 8_000.0}
_AT_MOST = {
    "network.idle.commit_p50": 50.0,
    "statemap.batch.update": 8.0,
    "statemap.random.update": 60.0,
    "evidence.2600.proof_share": 1.0,
    "disclosure.2600.total": 1_500.0,
    "disclosure.2600.proof_share": 1.0,
    "loan.tax.slowest": 5_000.0,
    "loan.invoice.slowest": 5_000.0,
    "loan.procurement.slowest": 5_000.0,
}
"""Aims: what was measured is reported, met or not."""


def _aim(name: str, value: float) -> str:
    if name in _AT_LEAST:
        return f" — aim ≥ {_AT_LEAST[name]:,.0f}: {'met' if value >= _AT_LEAST[name] else 'MISSED'}"
    if name in _AT_MOST:
        return f" — aim ≤ {_AT_MOST[name]:,.0f}: {'met' if value <= _AT_MOST[name] else 'MISSED'}"
    return ""


def run(stage: Stage) -> Iterator[Finding]:
    clone = stage.clone()
    path = clone / "benchmarks" / "results" / "latest.json"
    path.unlink(missing_ok=True)
    said = stage.run(["make", "bench"], cwd=clone)
    yield check("make bench", f"exit status {said.status}, {said.seconds:.0f} s", said.status == 0)
    figures = {each["name"]: each for each in json.loads(path.read_bytes())}
    for name, each in figures.items():
        whole = {"name", "value", "unit", "n"} == set(each)
        figure = f"{each['value']:,.6g} {each['unit']}, n = {each['n']:,}{_aim(name, each['value'])}"
        yield check(name, figure, whole)
    missing = sorted({*_REQUIRED, *_AT_LEAST, *_AT_MOST} - set(figures))
    yield check(
        "figures that were asked for", f"missing: {', '.join(missing)}" if missing else "all", not missing
    )


LINE = Line(name="bench", title="make bench: what it measured", run=run)
