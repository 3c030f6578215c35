"""Loans on a real PostgreSQL server: what the slow tests do in full, in short."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgreskit import new_database
from test_loan_life import test_asking_again_does_nothing_twice as asking_again
from test_loan_life import test_the_whole_life as whole_life
from test_loan_store import (
    test_a_database_of_the_first_schema_comes_along_with_its_loans as from_first_schema,
)
from test_loan_store import test_a_loan_is_held_by_one as held_by_one
from test_loan_store import test_two_workers_do_every_step_once as two_workers

from taxledger.ledger.errors import UnavailableError
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
