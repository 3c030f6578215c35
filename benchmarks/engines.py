"""Both ordering engines side by side, with bare CometBFT and its own ``kvstore`` as the yardstick of the same run.

Four nodes each, one network after another on this machine, transactions of the same sizes through the API of one
node. What is waited for differs, and is the point: our receipt is certified (co-signed by three of four, which under
CometBFT needs the engine's next block too), the yardstick's says that its block is decided.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.figures import Figure, percentile
from benchmarks.kvstore import running_kvstore
from benchmarks.network import MEMBERS, BenchNetwork, commit_times_ms, running_network, write_portfolio
from taxledger.nodes.home import Home
from taxledger.nodes.ordering.cometbft.binary import find_engine

__all__ = ["measure_engines"]

_RECORDS = 1_000
_SINGLE_IN_FLIGHT, _BATCH_IN_FLIGHT = 256, 16
_YARDSTICK_WARM_UP = 5


def _figures(
    name: str, commits: list[float], single: tuple[int, float], batch: tuple[int, float]
) -> list[Figure]:
    """Of one engine; ``single`` and ``batch``: how many transactions in how many seconds."""
    rate = {"single": single[0] / single[1], "batch": batch[0] / batch[1]}
    found = [
        (f"engines.{name}.commit_p50", percentile(commits, 50), "ms", len(commits)),
        (f"engines.{name}.commit_p95", percentile(commits, 95), "ms", len(commits)),
        (f"engines.{name}.single.transactions", rate["single"], "1/s", single[0]),
        (f"engines.{name}.batch.transactions", rate["batch"], "1/s", batch[0]),
        (f"engines.{name}.batch.records", rate["batch"] * _RECORDS, "1/s", batch[0] * _RECORDS),
    ]
    return [Figure(name=each, value=value, unit=unit, n=n) for each, value, unit, n in found]


def _timed(submit: Callable[..., object], transactions: Sequence[bytes], in_flight: int) -> tuple[int, float]:
    begin = time.perf_counter()
    submit(transactions, in_flight=in_flight)
    return len(transactions), time.perf_counter() - begin


def _measure_ours(
    net: BenchNetwork, name: str, folder: Path, counts: tuple[int, int, int]
) -> tuple[list[Figure], tuple[int, int]]:
    """The figures of one engine, and the sizes in bytes of a small and a large transaction."""
    net.upload(write_portfolio(folder / name, enterprises=1, rows=40))  # makes the year's keys
    commits = commit_times_ms(net, counts[0])
    small = [net.attest(1) for _ in range(counts[1])]
    large = [net.attest(_RECORDS) for _ in range(counts[2])]
    single = _timed(net.submit_all, small, _SINGLE_IN_FLIGHT)
    batch = _timed(net.submit_all, large, _BATCH_IN_FLIGHT)
    return _figures(name, commits, single, batch), (len(small[0]), len(large[0]))


def _measure_yardstick(
    sources: Sequence[Path], folder: Path, sizes: tuple[int, int], counts: tuple[int, int, int]
) -> list[Figure]:
    with running_kvstore(find_engine(), sources, folder) as net:
        made = [net.transaction(sizes[0]) for _ in range(counts[0] + _YARDSTICK_WARM_UP)]
        commits = net.submit_all(made, in_flight=1)[_YARDSTICK_WARM_UP:]
        small = [net.transaction(sizes[0]) for _ in range(counts[1])]
        large = [net.transaction(sizes[1]) for _ in range(counts[2])]
        single = _timed(net.submit_all, small, _SINGLE_IN_FLIGHT)
        batch = _timed(net.submit_all, large, _BATCH_IN_FLIGHT)
    return _figures("kvstore", commits, single, batch)


def _ratios(figures: Sequence[Figure]) -> list[Figure]:
    """Ours under CometBFT, divided by the yardstick: of times, how much longer; of rates, which share."""
    value = {each.name: each for each in figures}
    found = []
    for what in ("commit_p50", "commit_p95", "single.transactions", "batch.transactions"):
        ours, bare = value[f"engines.cometbft.{what}"], value[f"engines.kvstore.{what}"]
        found.append(Figure(name=f"engines.ratio.{what}", value=ours.value / bare.value, unit="×", n=ours.n))
    return found


def measure_engines(scale: float = 1.0) -> list[Figure]:
    """Everything of this module; ``scale`` says how much of each.

    Raises:
        UnavailableError: CometBFT is not installed.
    """
    counts = (max(20, int(200 * scale)), max(100, int(2_000 * scale)), max(8, int(60 * scale)))
    find_engine()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="taxledger-bench-") as name:
        folder = Path(name)
        sizes = (0, 0)
        for engine in ("embedded", "cometbft"):
            with running_network(folder / f"net-{engine}", engine=engine) as net:
                measured, sizes = _measure_ours(net, engine, folder, counts)
            figures += measured
        sources = [Home(folder / "net-cometbft" / member).engine_folder for member in MEMBERS]
        figures += _measure_yardstick(sources, folder / "kvstore", sizes, counts)
    return figures + _ratios(figures)
