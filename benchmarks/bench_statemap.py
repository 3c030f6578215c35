"""What an update and a proof of the state map cost.

As a script (``python benchmarks/bench_statemap.py [keys …]``) it fills maps on LevelDB and prints
microseconds per update (elapsed, and of this thread alone), next to one raw SHA-256 of 65 bytes measured
between the same batches, and the process's anonymous memory. Under pytest-benchmark the same kernels run on
a small map in memory.
"""

from __future__ import annotations

import hashlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taxledger.ledger.statekeys import month_prefix, record_key
from taxledger.ledger.statemap import MapView, PageCache, verify_prefixes
from taxledger.ledger.store import MemoryStore, Store

BATCH_KEYS = 900
VALUE = bytes(80)


class Bench:
    """A map of records, some for each of a few enterprise-months at a time."""

    def __init__(self, store: Store, seed: int = 1) -> None:
        self.store = store
        self.cache = PageCache()
        self.randomness = random.Random(seed)
        self.known: list[bytes] = []

    def view(self) -> MapView:
        return MapView.open(self.store, self.cache)

    def adjacent(self, count: int) -> dict[bytes, bytes]:
        """Records of enterprise-months with 225 records each."""
        keys: list[bytes] = []
        while len(keys) < count:
            prefix = month_prefix(1, 5, self.randomness.randbytes(16), self.randomness.randrange(1, 13))
            keys += [prefix + self.randomness.randbytes(16) for _ in range(min(225, count - len(keys)))]
        return self.with_values(keys)

    def scattered(self, count: int) -> dict[bytes, bytes]:
        """Each record of another enterprise."""
        random_bytes = self.randomness.randbytes
        return self.with_values(
            [record_key(1, 5, random_bytes(16), 7, random_bytes(16)) for _ in range(count)]
        )

    def changed(self, count: int) -> dict[bytes, bytes]:
        """New values of keys that are there."""
        return self.with_values(self.randomness.sample(self.known, count))

    def with_values(self, keys: list[bytes]) -> dict[bytes, bytes]:
        return {key: VALUE[:64] + self.randomness.randbytes(16) for key in keys}

    def fill(self, count: int) -> None:
        while count > 0:
            batch = (
                self.scattered(min(count, 20_000)) if count % 40_000 else self.adjacent(min(count, 20_000))
            )
            self.store.write(self.view().apply(batch).store_batch(), sync=False)
            self.known += self.randomness.sample(list(batch), len(batch) // 20 or 1)
            count -= len(batch)

    def update(self, batch: dict[bytes, bytes]) -> tuple[float, float, float, float]:
        """Seconds to apply a batch and to fold it durably; of the thread for both; of one raw SHA-256."""
        thread, begin = time.thread_time(), time.perf_counter()
        layer = self.view().apply(batch)
        middle = time.perf_counter()
        self.store.write(layer.store_batch())
        end = time.perf_counter()
        return middle - begin, end - middle, time.thread_time() - thread, raw_sha256_s()


def raw_sha256_s() -> float:
    """Seconds of one SHA-256 over 65 bytes, over 5,000 of them."""
    digest, data = hashlib.sha256, bytes(65)
    begin = time.perf_counter()
    for _ in range(5_000):
        digest(data).digest()
    return (time.perf_counter() - begin) / 5_000


def anonymous_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def measure(count: int, folder: Path) -> None:
    from taxledger.ledger.leveldb import LevelStore

    bench = Bench(LevelStore(folder))
    begin = time.perf_counter()
    bench.fill(count)
    filled = (time.perf_counter() - begin) / count * 1e6
    print(f"{count:,} keys, filled at {filled:.1f} µs a key; RssAnon {anonymous_mib():.0f} MiB")
    kinds: list[tuple[str, Callable[[int], dict[bytes, bytes]]]] = [
        ("adjacent", bench.adjacent),
        ("random", bench.scattered),
        ("changed", bench.changed),
    ]
    for name, make in kinds:
        columns = list(zip(*(bench.update(make(BATCH_KEYS)) for _ in range(25)), strict=True))
        apply_us, fold_us, thread_us = (
            statistics.median(column) / BATCH_KEYS * 1e6 for column in columns[:3]
        )
        raw_us = statistics.median(columns[3]) * 1e6
        print(
            f"  {name:9} apply {apply_us:6.1f} + fold {fold_us:5.1f} = {apply_us + fold_us:6.1f} µs/key,"
            f" of the thread {thread_us:6.1f} = {thread_us / raw_us:5.1f} × a raw sha256 of {raw_us:.2f} µs"
        )
    proofs = []
    for key in bench.randomness.sample(bench.known, 300):
        begin = time.perf_counter()
        made = bench.view().prove([key])
        middle = time.perf_counter()
        verify_prefixes(bench.view().root, made.entries, made.proof)
        proofs.append((len(made.proof), (middle - begin) * 1e6, (time.perf_counter() - middle) * 1e6))
    size, prove_us, verify_us = (statistics.median(column) for column in zip(*proofs, strict=True))
    size_mib = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(f"  proof of one key: {size} B, prove {prove_us:.0f} µs, verify {verify_us:.0f} µs")
    print(f"  database {size_mib:.0f} MiB; RssAnon {anonymous_mib():.0f} MiB")
    bench.store.close()


def _small() -> Bench:
    bench = Bench(MemoryStore())
    bench.fill(5_000)
    return bench


def test_apply_adjacent(benchmark: Any) -> None:
    bench = _small()
    benchmark(bench.view().apply, bench.adjacent(BATCH_KEYS))


def test_apply_random(benchmark: Any) -> None:
    bench = _small()
    benchmark(bench.view().apply, bench.scattered(BATCH_KEYS))


def test_prove_one_key(benchmark: Any) -> None:
    bench = _small()
    benchmark(bench.view().prove, bench.known[:1])


def test_verify_one_key(benchmark: Any) -> None:
    bench = _small()
    view = bench.view()
    made = view.prove(bench.known[:1])
    benchmark(verify_prefixes, view.root, made.entries, made.proof)


if __name__ == "__main__":
    for keys in [int(text) for text in sys.argv[1:]] or [100_000, 1_000_000]:
        with tempfile.TemporaryDirectory() as name:
            measure(keys, Path(name) / "store")
