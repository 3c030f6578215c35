"""What is stored of loans: from the first schema to the newest, unchanged, and by one worker at a time."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from loankit import LENDER, Bench, application, artefact

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, LimitError, RefusedError, UnavailableError, VerificationError
from taxledger.lending.loans import database as database_module
from taxledger.lending.loans.database import MIGRATIONS
from taxledger.lending.loans.loan import State
from taxledger.lending.loans.schema import METADATA
from taxledger.lending.loans.store import LoanStore, open_store

FIRST = Path(__file__).with_name("first_schema.json")


def run_sql(url: str, work: Callable[[sa.Connection], Any]) -> Any:
    """Work on the database beside the store, with foreign keys as SQLite has them: off."""
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


def first_schema(connection: sa.Connection) -> None:
    """A database as the first revision made it, with loans of that time."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "r0001")
    for table, rows in json.loads(FIRST.read_text("utf-8")).items():
        for row in rows:
            values = {
                name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
                for name, value in row.items()
            }
            if table == "loans":
                values["active"] = bool(values["active"])
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)


def columns(url: str, table: str) -> set[str]:
    return run_sql(
        url, lambda connection: {each["name"] for each in sa.inspect(connection).get_columns(table)}
    )


def test_a_database_of_the_first_schema_comes_along_with_its_loans(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, first_schema)
    assert "principal" not in columns(database_url, "loans")
    store = open_store(database_url)
    listed = {each.id: each for each in store.list()}
    assert {id: each.state for id, each in listed.items()} == {
        "drawn": "paid_out",
        "offered": "offered",
        "incomplete": "incomplete",
        "closed": "closed",
    }
    drawn = listed["drawn"]
    assert (drawn.currency, drawn.line, drawn.principal) == ("CNY", 10_000_000, 6_000_000)
    assert (listed["offered"].currency, listed["offered"].principal) == (None, 0)
    assert (listed["closed"].currency, listed["closed"].principal) == ("CNY", 0)
    for each in listed.values():  # what the migration computed is what the engine would
        loan = store.load(each.id)
        assert (each.principal, each.line) == (loan.principal, loan.contract.line if loan.contract else 0)
    # And they go on.
    bench = Bench(store, tmp_path, day=date(2024, 3, 31))
    bench.engine.repay("drawn", reference="R3", amount=6_000_000, value_date=date(2024, 3, 31))
    bench.engine.close("drawn")
    assert bench.engine.advance("drawn").state is State.CLOSED
    loan = store.load("offered")
    bench.clock.day = date(2024, 4, 1)
    bench.engine.accept("offered", bench.acceptance(loan))
    assert bench.engine.advance("offered").state is State.PAID_OUT
    bench.engine.retry("incomplete")
    assert bench.engine.advance("incomplete").state is State.OFFERED
    store.close()


def test_a_migration_that_dies_leaves_the_old_schema(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(database_url, first_schema)
    real = command.upgrade

    def dying(*arguments: Any) -> None:
        real(*arguments)
        raise UnavailableError("the machine stopped")

    with monkeypatch.context() as patched:
        patched.setattr(database_module.command, "upgrade", dying)
        with pytest.raises(UnavailableError):
            open_store(database_url)
    assert "principal" not in columns(database_url, "loans")
    open_store(database_url).close()
    assert "principal" in columns(database_url, "loans")


def test_migrations_make_the_tables_that_the_code_uses(store: LoanStore, database_url: str) -> None:
    def differences(connection: sa.Connection) -> Any:
        context = MigrationContext.configure(connection, opts={"version_table": "loans_revision"})
        return compare_metadata(context, METADATA)

    assert run_sql(database_url, differences) == []


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    open_store(database_url).close()
    run_sql(database_url, lambda c: c.execute(sa.text("UPDATE loans_revision SET version_num = 'r9999'")))
    with pytest.raises(FormatError, match="r9999"):
        open_store(database_url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(FormatError):
        open_store(url)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/no/loans.sqlite", f"postgresql+psycopg://x@/y?host={tmp_path}"):
        with pytest.raises(UnavailableError):
            open_store(url)


def test_others_on_the_machine_read_no_loans(tmp_path: Path) -> None:
    path = tmp_path / "loans.sqlite"
    old = os.umask(0)
    try:
        store = open_store(f"sqlite:///{path}")
        Bench(store, tmp_path / "world").paid_out()
        assert all(each.stat().st_mode & 0o077 == 0 for each in tmp_path.glob("loans.sqlite*"))
        store.close()
        path.chmod(0o644)  # as older versions left it
        open_store(f"sqlite:///{path}").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/loans.sqlite")
    with store._database.reading() as connection:
        said = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert said == ["wal", 2, 1]
    store.close()


# --- what was changed from outside ----------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE loan_events SET at_ms = at_ms + 1 WHERE sequence = 3",
        "UPDATE loan_events SET kind = 'consented' WHERE sequence = 4",
        "UPDATE loan_events SET key = 'x' WHERE sequence = 2",
        "DELETE FROM loan_events WHERE sequence = 3",
        "DELETE FROM loan_events WHERE sequence = (SELECT max(sequence) FROM loan_events)",
        "UPDATE loan_events SET sequence = sequence + 1 WHERE sequence = (SELECT max(sequence) FROM loan_events)",
        "UPDATE loans SET sequence = sequence - 1",
    ],
)
def test_a_changed_history_is_not_gone_on_from(
    store: LoanStore, database_url: str, tmp_path: Path, change: str
) -> None:
    bench = Bench(store, tmp_path)
    bench.paid_out()
    run_sql(database_url, lambda connection: connection.execute(sa.text(change)))
    with pytest.raises(VerificationError) as broken:
        bench.engine.advance("L1")
    assert broken.value.code == "loan_events_broken"


def test_a_changed_file_is_not_used(store: LoanStore, database_url: str, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.offered()
    run_sql(database_url, lambda c: c.execute(sa.text("UPDATE loan_files SET data = digest")))
    with pytest.raises(VerificationError) as broken:
        bench.engine.decision(loan)
    assert broken.value.code == "loan_file_broken"


def test_an_impossible_history_is_refused(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.offered()
    with pytest.raises(VerificationError) as broken:
        bench.engine._steps.record(loan, "paid", [1, "x", "2024-03-01"])
    assert broken.value.code == "loan_events_broken"
    assert store.load("L1") == loan


# --- several workers ------------------------------------------------------------------------------


def test_of_two_that_read_the_same_one_is_told_to_read_again(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.engine.apply(application())
    bench.engine._steps.record(loan, "consent_given", [1, bytes(32), bytes(32), bytes(16), LENDER])
    with pytest.raises(UnavailableError, match="faster"):
        bench.engine._steps.record(
            loan, "consent_given", [1, bytes(32), bytes(32), bytes(16), LENDER], key="k"
        )
    assert store.load("L1").sequence == 2


def test_a_key_is_used_once(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.paid_out()
    value = [1, "R", 1, "2024-03-01", 0, 1]
    after = bench.engine._steps.record(loan, "repaid", value, key="repayment/R")
    with pytest.raises(RefusedError) as used:
        bench.engine._steps.record(after, "repaid", value, key="repayment/R")
    assert used.value.code == "key_used"
    assert store.load("L1") == after  # and nothing of it is left


def test_a_loan_is_held_by_one(store: LoanStore, database_url: str) -> None:
    other = open_store(database_url)
    try:
        for _ in range(5):
            with store.hold("L1"):
                with pytest.raises(UnavailableError, match="another worker"), other.hold("L1", wait_s=0):
                    pass
                with other.hold("L2", wait_s=0):
                    pass
            with other.hold("L1", wait_s=0):  # let go at once, not when the server notices
                pass
    finally:
        other.close()


def test_two_workers_do_every_step_once(database_url: str, tmp_path: Path) -> None:
    """Both drive the same loan at the same time, each on its own connections, also where nothing is held."""
    stores = [open_store(database_url) for _ in range(2)]
    benches = [Bench(each, tmp_path) for each in stores]
    bench = benches[0]
    bench.engine.apply(application())
    bench.engine.consent("L1", artefact())
    drive_together(benches)
    loan = bench.engine.load("L1")
    bench.engine.accept("L1", bench.acceptance(loan))
    drive_together(benches)
    loan = bench.engine.load("L1")
    assert (loan.state, len(loan.draws), len(bench.payments())) == (State.PAID_OUT, 1, 1)
    assert [len(bench.effects(each)) for each in ("consents", "evidence", "pledges")] == [1, 1, 1]
    calls = [call for each in benches for call in each.world.calls]
    assert sorted(calls) == ["collect", "forward", "pay", "place"]  # held: nobody asked a second time
    for each in stores:
        each.close()


def drive_together(benches: list[Bench], *, held: bool = True) -> None:
    start = threading.Barrier(len(benches))
    failures: list[BaseException] = []

    def drive(bench: Bench) -> None:
        try:
            start.wait()
            while True:
                try:
                    bench.engine.advance("L1")
                    return
                except UnavailableError:
                    if held:
                        raise
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=drive, args=(each,)) for each in benches]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures, failures


def test_even_without_holding_nothing_is_done_twice(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the lock were lost: keys and compare-and-set alone keep the loan right."""
    monkeypatch.setattr(LoanStore, "hold", lambda self, loan, wait_s=30: nullcontext())
    stores = [open_store(database_url) for _ in range(2)]
    benches = [Bench(each, tmp_path) for each in stores]
    bench = benches[0]
    bench.engine.apply(application())
    bench.engine.consent("L1", artefact())
    drive_together(benches, held=False)
    bench.engine.accept("L1", bench.acceptance(bench.engine.load("L1")))
    drive_together(benches, held=False)
    loan = bench.engine.load("L1")
    assert (loan.state, loan.principal, len(bench.payments())) == (State.PAID_OUT, 6_000_000, 1)
    assert [len(bench.effects(each)) for each in ("consents", "evidence", "pledges")] == [1, 1, 1]
    for each in stores:
        each.close()


def test_advance_all_goes_on_past_one_that_is_stuck(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    for id in ("L1", "L2", "L3"):
        bench.engine.apply(application(id))
        bench.engine.consent(id, artefact())
    bench.world.fail["forward"] = UnavailableError("the line is down")
    outcome = bench.engine.advance_all()
    assert sorted(outcome) == ["L1", "L2", "L3"]
    assert sum(error is not None for error in outcome.values()) == 1
    assert {id: error for id, error in bench.engine.advance_all().items() if error} == {}
    assert {each.state for each in store.list()} == {"offered"}
    assert store.list(subject="cumcm:E1") == ()
    assert len(store.list(state="offered")) == 3


def test_files_are_limited(store: LoanStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(store, tmp_path)
    bench.world.came = replace(bench.world.came, pledges=b"x" * 5_000)
    monkeypatch.setattr(limits, "loan_files_bytes_max", 4_096)
    with pytest.raises(LimitError):
        bench.offered()
