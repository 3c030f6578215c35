"""The state map on LevelDB at a number of keys, as figures (``bench_statemap.py`` has the kernels)."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.bench_statemap import BATCH_KEYS, Bench
from benchmarks.figures import Figure
from taxledger.ledger.leveldb import LevelStore

__all__ = ["measure_statemap"]

_ROUNDS = 25


def measure_statemap(keys: int = 1_000_000) -> list[Figure]:
    """Updates of a map that holds ``keys`` records: computed, and folded durably into the store."""
    with tempfile.TemporaryDirectory(prefix="taxledger-bench-") as name:
        bench = Bench(LevelStore(Path(name) / "store"))
        bench.fill(keys)
        figures: list[Figure] = []
        for kind, make, aim in (
            ("batch", bench.adjacent, "≤ 8"),
            ("random", bench.scattered, "≤ 60"),
            ("changed", bench.changed, None),
        ):
            rounds = [bench.update(make(BATCH_KEYS)) for _ in range(_ROUNDS)]
            compute, fold, thread, _ = (
                statistics.median(column) / BATCH_KEYS * 1e6 for column in zip(*rounds, strict=True)
            )
            n = _ROUNDS * BATCH_KEYS
            prefix = f"statemap.{kind}"
            figures += [
                Figure(name=f"{prefix}.update", value=compute + fold, unit="µs", n=n, aim=aim),
                Figure(name=f"{prefix}.update_cpu", value=thread, unit="µs", n=n),
                Figure(name=f"{prefix}.updates", value=1e6 / (compute + fold), unit="1/s", n=n),
            ]
        bench.store.close()
    return [Figure(name="statemap.keys", value=keys, unit="keys", n=1), *figures]
