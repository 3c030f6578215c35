"""One open loan of a product for each enterprise, on both kinds of database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from loankit import Bench, application, artefact

from taxledger.ledger.errors import RefusedError
from taxledger.lending.loans.exposure import hold_only_line
from taxledger.lending.loans.loan import State
from taxledger.lending.loans.store import LoanStore


def bench_of(store: LoanStore, tmp_path: Path) -> Bench:
    bench = Bench(store, tmp_path, security=())
    bench.one_line = True
    return bench


def test_a_second_line_waits_for_the_end_of_the_first(store: LoanStore, tmp_path: Path) -> None:
    bench = bench_of(store, tmp_path)
    bench.paid_out("L1")
    second = bench.offered("L2")
    with pytest.raises(RefusedError) as refused:
        bench.engine.accept("L2", bench.acceptance(second))
    assert refused.value.code == "line_open"
    assert "L1" not in str(refused.value)
    assert bench.engine.load("L2") == second
    third = bench.offered("L3", product="another")
    assert bench.engine.accept("L3", bench.acceptance(third)).state is State.ACCEPTED
    bench.engine.repay("L1", reference="R1", amount=6_000_000, value_date=bench.clock.day)
    bench.engine.close("L1")
    assert bench.engine.advance("L1").state is State.CLOSED
    assert bench.engine.accept("L2", bench.acceptance(second)).state is State.ACCEPTED
    again = bench.acceptance(second)
    assert bench.engine.accept("L2", again).state is State.ACCEPTED, (
        "the same acceptance is answered as it was"
    )


def test_another_enterprise_has_its_own_line(store: LoanStore, tmp_path: Path) -> None:
    bench = bench_of(store, tmp_path)
    bench.paid_out("L1")
    other = "uscc:911101010000000069"
    bench.engine.apply(application("L2", subject=other))
    bench.engine.consent("L2", artefact(subject=other))
    with hold_only_line(store, bench.engine.load("L2")):
        pass
    with pytest.raises(RefusedError, match="line_open"), hold_only_line(store, bench.offered("L3")):
        pass


def test_of_two_that_are_accepted_at_once_one_is_refused(store: LoanStore, tmp_path: Path) -> None:
    bench = bench_of(store, tmp_path)
    loans = [bench.offered(f"L{number}") for number in range(4)]
    start = Barrier(len(loans))

    def accept(number: int) -> str:
        signed = bench.acceptance(loans[number])
        start.wait(timeout=30)
        try:
            return bench.engine.accept(loans[number].id, signed).state
        except RefusedError as error:
            return error.code

    with ThreadPoolExecutor(len(loans)) as pool:
        assert sorted(pool.map(accept, range(len(loans)))) == ["accepted", *["line_open"] * 3]
