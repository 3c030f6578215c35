"""Loans on a real PostgreSQL server: what the slow tests do in full, in short."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from loancrash import drive
from loankit import Bench
from postgreskit import new_database
from test_loan_life import test_asking_again_does_nothing_twice as asking_again
from test_loan_life import test_the_whole_life as whole_life
from test_loan_store import (
    test_a_database_of_the_first_schema_comes_along_with_its_loans as from_first_schema,
)
from test_loan_store import test_a_loan_is_held_by_one as held_by_one
from test_loan_store import test_two_workers_do_every_step_once as two_workers

from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.lending.loans.loan import State
from taxledger.lending.loans.store import open_store


def test_a_life_and_again(postgres: str, tmp_path: Path) -> None:
    for name, work in (("life", whole_life), ("again", asking_again)):
        store = open_store(new_database(postgres))
        work(store, tmp_path / name)
        store.close()


def test_from_the_first_schema(postgres: str, tmp_path: Path) -> None:
    from_first_schema(new_database(postgres), tmp_path)


def test_two_workers(postgres: str, tmp_path: Path) -> None:
    url = new_database(postgres)
    store = open_store(url)
    held_by_one(store, url)
    store.close()
    two_workers(url, tmp_path)


def test_a_server_that_does_not_sync_is_refused(postgres: str) -> None:
    url = new_database(postgres)
    with pytest.raises(UnavailableError, match="synchronous_commit"):
        open_store(f"{url}&options=-csynchronous_commit%3Doff")


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 7])
def test_connections_that_break_at_a_commit(postgres: str, tmp_path: Path, stride: int) -> None:
    """Every ``stride``-th commit loses its connection, and the hold with it: tried again, nothing is done twice."""
    url = new_database(postgres)
    store = open_store(url)
    broken: set[str] = set()
    commits = [0]

    def break_all(_connection: Any) -> None:
        commits[0] += 1
        place = str(store_sequence())
        if commits[0] % stride or place in broken:
            return
        broken.add(place)
        ours = "pid <> pg_backend_pid() AND datname = current_database()"
        with psycopg.connect(host=postgres, user="taxledger", dbname=sa.make_url(url).database) as other:
            other.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {ours}")

    def store_sequence() -> int:
        with psycopg.connect(host=postgres, user="taxledger", dbname=sa.make_url(url).database) as other:
            found = other.execute("SELECT count(*) FROM loan_events").fetchone()
        return 0 if found is None else int(found[0])

    sa.event.listen(store._database._engine, "commit", break_all)
    bench = Bench(store, tmp_path)
    tries = 0
    while True:
        try:
            loan = drive(bench)
            break
        except UnavailableError:
            tries += 1
            assert tries < 100
    assert tries >= 2
    assert (loan.state, len(bench.payments())) == (State.CLOSED, 2)
    assert [len(bench.effects(each)) for each in ("evidence", "pledges", "released")] == [1, 1, 1]
    store.close()


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(FormatError, match="lending-postgres"):
        open_store("postgresql+psycopg://x@/y")
