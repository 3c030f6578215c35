"""Fixtures of several files: databases of loans, of both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgreskit import new_database, run_server

from taxledger.lending.loans.store import LoanStore, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Folder of the socket of a PostgreSQL server."""
    with run_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new database, of each kind (PostgreSQL with the slow tests; some of it always in test_postgresql.py)."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/loans.sqlite"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(database_url: str) -> Iterator[LoanStore]:
    """An open store, on each kind of database."""
    opened = open_store(database_url)
    yield opened
    opened.close()
