"""Kills a process that drives a loan, at every place where something becomes durable or is about to.

    python loancrash.py march URL FOLDER            one loan, a new process after each kill, killed once at each place
    python loancrash.py each SERVER|- FOLDER          a new loan for every place: killed there, started again
    python loancrash.py twice SERVER|- FOLDER N SEED  a new loan, killed at two random places one after the other

Places: before, in the middle (all statements done, not committed) and after each commit of the store, before and
after each effect of a port, around each sync and rename of a payment file. Prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from loankit import START, Bench, FileWorld, application, artefact
from postgreskit import new_database

from taxledger.lending.loans.events import Event
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.store import LoanStore, open_store

Place = Callable[[str], None]
PLACES_MAX = 200


def drive(bench: Bench) -> Loan:
    """A whole life. Whoever died anywhere in it begins again from the top: everything is idempotent."""
    engine = bench.engine
    bench.clock.day = START
    engine.apply(application())
    engine.consent("L1", artefact())
    loan = engine.advance("L1")
    engine.accept("L1", bench.acceptance(loan))
    loan = engine.advance("L1")
    bench.clock.day = date(2024, 3, 11)
    engine.draw("L1", bench.order(loan, 3_000_000, number=2))
    engine.advance("L1")
    bench.clock.day = date(2024, 3, 31)
    engine.repay("L1", reference="R1", amount=3_030_000, value_date=date(2024, 3, 31))
    engine.repay("L1", reference="R2", amount=6_000_000, value_date=date(2024, 3, 31))
    engine.close("L1")
    return engine.advance("L1")


@contextmanager
def watched(store: LoanStore, place: Place) -> Iterator[None]:
    """Calls ``place`` at each place, with its name."""
    append, effect, fsync, rename = LoanStore.append, FileWorld._effect, os.fsync, os.rename
    keys = [""]

    def watched_append(self: LoanStore, loan: Loan | None, event: Event, files: Any = ()) -> Loan:
        keys[0] = event.key
        place(f"append {event.key} before")
        after = append(self, loan, event, files)
        place(f"append {event.key} after")
        return after

    def watched_effect(self: FileWorld, what: str, folder: str, key: str, value: Any) -> Any:
        place(f"{what} {key} before")
        answer = effect(self, what, folder, key, value)
        place(f"{what} {key} after")
        return answer

    def watched_fsync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        if "outbox" in name:
            # The folder is synced for each payment: told apart by what was written down last.
            name = re.sub(r"\..*", "", Path(name).name) if name.endswith(".part") else f"folder {keys[0]}"
            place(f"fsync {name} before")
            fsync(handle)
            place(f"fsync {name} after")

    def watched_rename(source: str, target: Path) -> None:
        place(f"rename {target.name} before")
        rename(source, target)
        place(f"rename {target.name} after")

    LoanStore.append, FileWorld._effect = watched_append, watched_effect  # type: ignore[method-assign]
    os.fsync, os.rename = watched_fsync, watched_rename  # type: ignore[assignment]
    sa.event.listen(store._database._engine, "commit", lambda _: place(f"amid {keys[0]}"))
    yield


def in_child(work: Callable[[], None]) -> int:
    """Runs it in a process of its own; the signal that ended it (negative), or its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(url: str, folder: Path, place: Place) -> None:
    store = open_store(url)
    with watched(store, place):
        loan = drive(Bench(store, folder))
    assert loan.state is State.CLOSED


def outcome(url: str, folder: Path) -> dict[str, Any]:
    """What came of the loan; ids of pledges are new in every run, so they are counted."""
    store = open_store(url)
    loan = store.load("L1")
    kinds = [each.kind for each in store.events("L1")]
    store.close()
    bench_files = {
        name: len(list((folder / name).iterdir())) for name in ("consents", "evidence", "pledges", "released")
    }
    return {
        "state": loan.state,
        "kinds": kinds,
        "principal": loan.principal,
        "repayments": [[each.split.interest, each.split.principal] for each in loan.repayments],
        "pledges": len(loan.pledges),
        "effects": bench_files,
        "payments": {path.name: path.read_text("utf-8") for path in sorted((folder / "outbox").glob("*"))
                     if path.is_file()},
    }  # fmt: skip


def kill(name: str, note: Path) -> None:
    note.write_text(name)
    os.kill(os.getpid(), signal.SIGKILL)


def march(url: str, folder: Path) -> dict[str, Any]:
    """Killed at every place once, all in the life of one loan."""
    visited: list[str] = []
    note = folder / "killed-at"

    def place(name: str) -> None:
        if name not in visited:
            kill(name, note)

    while (ended := in_child(lambda: run(url, folder, place))) == -signal.SIGKILL:
        visited.append(note.read_text())
        assert len(visited) < PLACES_MAX, (
            f"ever new places: a key is not the same at every retry: {visited[-9:]}"
        )
    return {"ended": ended, "places": visited, "outcome": outcome(url, folder)}


def fresh(server: str, folder: Path) -> tuple[str, Path]:
    folder.mkdir(parents=True)
    return (f"sqlite:///{folder}/loans.sqlite" if server == "-" else new_database(server)), folder


def killed_at(url: str, folder: Path, number: int) -> int:
    """Runs until the ``number``-th place, counted from 1 in this process; 0: never."""
    count = [0]

    def place(name: str) -> None:
        count[0] += 1
        if count[0] == number:
            kill(name, folder / "killed-at")

    return in_child(lambda: run(url, folder, place))


def each(server: str, folder: Path) -> dict[str, Any]:
    """A loan for each place: killed there, then driven to its end."""
    found, number = [], 1
    while True:
        url, place = fresh(server, folder / str(number))
        if killed_at(url, place, number) != -signal.SIGKILL:
            return {"places": number - 1, "outcomes": [*found, outcome(url, place)]}
        assert killed_at(url, place, 0) == 0, (place / "killed-at").read_text()
        found.append(outcome(url, place))
        number += 1


def twice(server: str, folder: Path, runs: int, seed: int) -> dict[str, Any]:
    """Killed at a random place, and again at another on the way from there."""
    chance, found = random.Random(seed), []
    for number in range(runs):
        url, place = fresh(server, folder / str(number))
        for _ in range(2):
            killed_at(url, place, chance.randrange(1, 60))
        assert killed_at(url, place, 0) == 0, (place / "killed-at").read_text()
        found.append(outcome(url, place))
    return {"places": runs, "outcomes": found}


if __name__ == "__main__":
    mode, database, path, *numbers = sys.argv[1:]
    modes: dict[str, Callable[..., dict[str, Any]]] = {"march": march, "each": each, "twice": twice}
    print(json.dumps(modes[mode](database, Path(path), *map(int, numbers))))
