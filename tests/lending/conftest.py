"""Fixtures of several files: databases of loans, of both kinds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgreskit import memory_folder, new_database, run_server

from taxledger.lending.loans.store import LoanStore, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Folder of the socket of a PostgreSQL server."""
    with run_server() as server:
        yield server


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """As ``tmp_path``, where syncs cost nothing."""
    with tempfile.TemporaryDirectory(prefix="taxledger-", dir=memory_folder()) as name:
        yield Path(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, quick_path: Path) -> str:
    """URL of a new database, of each kind (PostgreSQL with the slow tests; some of it always in test_postgresql.py)."""
    if request.param == "sqlite":
        return f"sqlite:///{quick_path}/loans.sqlite"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(database_url: str) -> Iterator[LoanStore]:
    """An open store, on each kind of database."""
    opened = open_store(database_url)
    yield opened
    opened.close()
