"""The lines in the order of the list."""

from __future__ import annotations

from ..stage import Line
from . import (
    bad_input,
    bench,
    crashes,
    demo,
    determinism,
    faults,
    ingest,
    liars,
    loan_crashes,
    million,
    mutations,
    payout,
    pledges,
    postgres,
    products,
    rated,
    sharing,
    sources,
    sums,
    traps,
    twins,
    wheel,
)

__all__ = ["LINES"]

LINES: tuple[Line, ...] = (
    demo.LINE,
    ingest.LINE,
    sums.LINE,
    sources.LINE,
    mutations.LINE,
    sharing.LINE,
    crashes.LINE,
    pledges.LINE,
    payout.LINE,
    loan_crashes.LINE,
    postgres.LINE,
    liars.LINE,
    determinism.LINE,
    million.LINE,
    bench.LINE,
    wheel.LINE,
    bad_input.LINE,
    rated.LINE,
    traps.LINE,
    twins.LINE,
    products.LINE,
    *faults.LINES,
)
