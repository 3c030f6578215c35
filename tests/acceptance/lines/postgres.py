"""The loan suite on a real PostgreSQL server, with a database of the first schema that comes along with its loans."""

from __future__ import annotations

from collections.abc import Iterator

from ..stage import Finding, Line, Stage, check

_FIRST_SCHEMA = "test_a_database_of_the_first_schema_comes_along_with_its_loans"


def run(stage: Stage) -> Iterator[Finding]:
    yield from _without_skips(
        stage,
        "the life of loans and their store, on SQLite and PostgreSQL",
        "tests/lending/test_loan_life.py",
        "tests/lending/test_loan_store.py",
        "tests/lending/test_postgresql.py",
    )
    yield from _without_skips(
        stage,
        "a database of the first schema migrates forward with its loans",
        "tests/lending/test_postgresql.py::test_from_the_first_schema",
        f"tests/lending/test_loan_store.py::{_FIRST_SCHEMA}",
    )


def _without_skips(stage: Stage, what: str, *targets: str) -> Iterator[Finding]:
    """A skip says that there is no server, and then nothing was tried."""
    skipped = 0
    for each in stage.pytest(what, *targets, options=("-m", "not large")):
        skipped += each.what.startswith("skipped")
        yield each
    if skipped:
        yield check(what, f"{skipped} tests were skipped: is PostgreSQL installed (make system-deps)?", False)


LINE = Line(name="postgres", title="the loan suite on PostgreSQL, from the first schema on", run=run)
