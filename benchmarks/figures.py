"""A figure, and how one is taken: several times, and the median quoted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Figure", "median_us", "percentile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the results.

    Attributes:
        name: dotted, like ``network.upload.attestations``; ``unit`` of the value.
        value: the median, or what the name says.
        n: how many samples (or records) it stands on.
        aim: what DESIGN aims at, as text; None where there is no aim.
    """

    name: str
    value: float
    unit: str
    n: int
    aim: str | None = None


def median_us(
    call: Callable[[], object],
    *,
    calls: int,
    rounds: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median over rounds of the mean microseconds of one call.

    Args:
        clock: seconds; ``time.thread_time`` for what the processor alone does, so that what else runs on the
            machine does not count.
    """
    times = []
    for _ in range(rounds):
        begin = clock()
        for _ in range(calls):
            call()
        times.append((clock() - begin) / calls)
    return statistics.median(times) * 1e6


def percentile(values: list[float], percent: float) -> float:
    """The value below which ``percent`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
