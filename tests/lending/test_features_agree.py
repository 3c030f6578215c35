"""Two implementations of every feature agree on random facts and on real ones."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from datetime import date
from decimal import Decimal

import pytest
from cumcm_facts import CUMCM, enterprises, facts_of, needs_data
from hypothesis import given, settings
from hypothesis import strategies as st
from random_facts import draw
from slow_features import SLOW, slow

from taxledger.lending.facts import Facts
from taxledger.lending.features import FEATURES, Basis

SEEDS = st.integers(0, 2**32 - 1)
AS_OF = date(2020, 2, 29)
SEVERAL = (AS_OF, date(2019, 12, 31), date(2019, 7, 15), date(2018, 3, 31), date(2017, 1, 1))


def fast(facts: Facts, basis: Basis) -> dict[str, int | None]:
    return {name: each.compute(facts, basis) for name, each in FEATURES.items()}


def differing(facts: Facts, basis: Basis) -> dict[str, tuple[int | None, int | None]]:
    first, second = fast(facts, basis), slow(facts, basis)
    return {name: (value, second[name]) for name, value in first.items() if value != second[name]}


def test_each_has_a_second_implementation() -> None:
    assert set(SLOW) == set(FEATURES)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_on_random_facts(seed: int) -> None:
    assert not differing(*draw(seed)), f"seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=2000, deadline=None)
@given(seed=SEEDS)
def test_on_more_random_facts(seed: int) -> None:
    assert not differing(*draw(seed)), f"seed {seed}"


def test_random_facts_reach_every_feature() -> None:
    """Each has no number, and at least two, somewhere among the seeds."""
    seen: dict[str, Counter[int | None]] = {name: Counter() for name in FEATURES}
    for seed in range(150):
        for name, value in fast(*draw(seed)).items():
            seen[name][value] += 1
    for name, values in seen.items():
        assert len(values) >= 3, (name, values)
        assert None in values, name


@needs_data
@pytest.mark.parametrize("enterprise", ["E22", "E33", "E53", "E328"])
def test_on_real_invoices(enterprise: str) -> None:
    """E22 has duplicates."""
    facts = facts_of(enterprise)
    for as_of in SEVERAL:
        assert not differing(facts, Basis(as_of=as_of)), as_of


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("enterprise", enterprises() or ["none"])
def test_on_all_real_invoices(enterprise: str) -> None:
    facts = facts_of(enterprise)
    for as_of in SEVERAL:
        basis = Basis(as_of=as_of)
        assert not differing(facts, basis), as_of
        # Filings derived from the invoices state what the invoices state.
        assert FEATURES["sales_to_filed_12m"].compute(facts, basis) in (None, 1_000_000), as_of


@needs_data
@pytest.mark.parametrize("enterprise", ["E22", "E53", "E160"])
def test_against_the_files_alone(enterprise: str) -> None:
    """Sales and voids from the text of the file. E22 and E160 have duplicates; E160 voids what stood valid before."""
    path = next(CUMCM.glob(f"f[12]_output/{enterprise}.csv.gz"))
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
        rows = [tuple(cell.strip() for cell in row[1:]) for row in csv.reader(text)][1:]
    state = {row[:-1]: row[-1] for row in rows}
    state |= {row[:-1]: row[-1] for row in rows if row[-1] == "作废发票"}
    within = {}
    for row, status in state.items():
        year, month, day = map(int, row[2].split("/"))
        if (2019, 2, 28) < (year, month, day) <= (2020, 2, 29):
            within[row] = status
    sales = sum(Decimal(row[4]) for row, status in within.items() if status == "有效发票")
    voided = sum(status == "作废发票" for status in within.values())
    numbers = fast(facts_of(enterprise), Basis(as_of=AS_OF))
    assert numbers["net_sales_12m"] == sales * 100
    assert numbers["void_ratio_count_12m"] == voided * 1_000_000 // len(within)
