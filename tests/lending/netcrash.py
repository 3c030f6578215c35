"""Kills a lender's process, or its node, while it drives a loan on a real network: at every place, by number.

    python netcrash.py march JOB.json PATTERN      one loan, a new process after each kill, killed once at each place
                                                   whose name the pattern finds
    python netcrash.py each FIRST JOB.json …       the loan of the n-th job killed at its n-th place, then resumed
    python netcrash.py nodes JOB.json [NAME …]     the bank's node killed once at each place outside, or at these

Places: before, amid (all statements done, not committed) and after each commit of the loans' store and of the watch,
before and after each call of a port and of the client within it, after each request is sent (the answer is not read
yet), around each sync and rename of a payment file and of a kept product. Prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from httpcore._sync.http11 import HTTP11Connection

from taxledger.api.client import Client
from taxledger.lending.desk import LendingDesk, open_desk
from taxledger.lending.loans.contract import sign_acceptance
from taxledger.lending.loans.events import Event
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.ports import Application
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.nodeports import NodeConsents, NodeEvidence, NodePledges
from taxledger.lending.settings import load_settings
from taxledger.lending.watch import WatchStore
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.output import connect
from taxledger.nodes.enterprise.wallet import open_wallet
from taxledger.nodes.home import Home
from taxledger.nodes.local import control

Place = Callable[[str], None]
_PORTS = (NodeConsents, "forward"), (NodeEvidence, "collect"), (NodePledges, "place")
_CLIENT = (
    "forward_consent",
    "disclosure",
    "pledge_proof",
    "request_permits",
    "place_pledge",
    "verified_pledges",
)
_PATIENCE_S = 60.0
_PLACES_MAX = 100


def drive(job: dict[str, Any], place: Place) -> None:
    """Everything up to the pay-out. Whoever died anywhere in it resumes first, and then does what is still to do."""
    home = Home(Path(job["home"]))
    with (
        connect(home) as client,
        open_desk(
            load_settings(lending_folder(home.path)),
            client,
            policy_file=home.policy(),
            recipient=home.config.number,
        ) as desk,
        watched(desk, place),
    ):
        hindered = {id: said for id, said in desk.resume().items() if said is not None}
        assert not hindered, hindered
        loan = desk.store.find(job["loan"])
        if loan is None or loan.artefact is None:
            desk.apply(_application(job), bytes.fromhex(job["consent"]))
            loan = desk.advance(job["loan"])
        if loan.contract is None:
            _accept(desk, job, loan)
        loan = desk.advance(job["loan"])
        assert loan.state is State.PAID_OUT, (loan.state, loan.reasons)


def _application(job: dict[str, Any]) -> Application:
    return Application(
        id=job["loan"],
        subject=job["subject"],
        product="procurement",
        channel="direct",
        as_of=date.fromisoformat(job["as_of"]),
        security=(job["offered"],),
    )


def _accept(desk: LendingDesk, job: dict[str, Any], loan: Loan) -> None:
    """The enterprise signs anew where no contract came of its acceptance."""
    assert loan.state is State.OFFERED, (loan.state, loan.reasons)
    assert loan.offer is not None
    assert loan.offer.account is not None
    offer, limit, account = loan.offer_raw, loan.offer.limit, loan.offer.account
    with open_wallet(Path(job["wallet"])) as wallet:
        acceptance = wallet.use_key(
            lambda signer: sign_acceptance(
                signer,
                offer,
                amount=limit // 2,
                term_months=6,
                account=account,
                accepted_ms=time.time_ns() // 1_000_000,
            )
        )
    desk.engine.accept(job["loan"], acceptance)


# --- places ---------------------------------------------------------------------------------------


@contextmanager
def watched(desk: LendingDesk, place: Place) -> Iterator[None]:
    """Calls ``place`` at each place, with its name. For good: the process ends with the loan."""
    for owner, name in _PORTS:
        _around(owner, name, place, lambda name, *_: f"port {name}")
    for name in _CLIENT:
        _around(Client, name, place, _name_of_call)
    _watch_requests(place)
    _watch_stores(desk, place)
    _watch_files(place)
    yield


def _around(owner: Any, name: str, place: Place, title: Callable[..., str]) -> None:
    call = getattr(owner, name)

    def watched_call(self: Any, *arguments: Any, **named: Any) -> Any:
        shown = title(name, *arguments, *named.values())
        place(f"{shown} before")
        answer = call(self, *arguments, **named)
        place(f"{shown} after")
        return answer

    setattr(owner, name, watched_call)


def _name_of_call(name: str, *arguments: Any) -> str:
    """The call, and of which custodian where there are several."""
    issuer = getattr(arguments[0], "issuer", "") if arguments else ""
    return f"client {name}{issuer}"


def _watch_requests(place: Place) -> None:
    receive = HTTP11Connection._receive_response_headers

    def watched_receive(self: Any, request: Any, *arguments: Any, **named: Any) -> Any:
        place(f"sent {request.method.decode()} {request.url.target.decode().partition('?')[0]}")
        return receive(self, request, *arguments, **named)

    HTTP11Connection._receive_response_headers = watched_receive  # type: ignore[method-assign]


def _watch_stores(desk: LendingDesk, place: Place) -> None:
    append, write, keys = LoanStore.append, WatchStore._write, [""]

    def watched_append(self: LoanStore, loan: Loan | None, event: Event, files: Any = ()) -> Loan:
        keys[0] = event.kind
        place(f"append {event.kind} before")
        after = append(self, loan, event, files)
        place(f"append {event.kind} after")
        return after

    @contextmanager
    def watched_write(self: WatchStore) -> Iterator[Any]:
        place("watch before")
        with write(self) as database:
            yield database
            place("watch amid")
        place("watch after")

    LoanStore.append = watched_append  # type: ignore[method-assign]
    WatchStore._write = watched_write  # type: ignore[method-assign]
    sa.event.listen(desk.store._database._engine, "commit", lambda _: place(f"amid {keys[0]}"))


def _watch_files(place: Place) -> None:
    fsync, rename = os.fsync, os.rename

    def watched_fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        known = {"payments", "decided"} & {path.name, path.parent.name}
        if not known:
            fsync(handle)
            return
        what = f"{'folder' if path.name in known else 'file'} of {known.pop()}"
        place(f"fsync {what} before")
        fsync(handle)
        place(f"fsync {what} after")

    def watched_rename(source: str, target: Path) -> None:
        place("rename before")
        rename(source, target)
        place("rename after")

    os.fsync, os.rename = watched_fsync, watched_rename  # type: ignore[assignment]


# --- kills ----------------------------------------------------------------------------------------


_dying = threading.Lock()
"""Never let go of: of the threads that ask custodians side by side, one dies for all."""


def _die(name: str, note: Path) -> None:
    _dying.acquire()
    note.write_text(name)
    os.kill(os.getpid(), signal.SIGKILL)


def _in_child(job: dict[str, Any], place: Place) -> int:
    """Drives in a process of its own; the signal that ended it (negative), or its exit code."""
    child = os.fork()
    if child == 0:
        try:
            drive(job, place)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def march(job: dict[str, Any], note: Path, pattern: str) -> dict[str, Any]:
    """Killed at each place once whose name the pattern finds, all in the life of one loan."""
    visited: list[str] = []

    def place(name: str) -> None:
        if name not in visited and re.search(pattern, name):
            _die(name, note)

    while (ended := _in_child(job, place)) == -signal.SIGKILL:
        visited.append(note.read_text())
        # What is done twice has another name each time, and would never end.
        assert len(visited) < _PLACES_MAX, visited
    return {"ended": ended, "places": visited}


def each(paths: Sequence[Path], first: int) -> list[dict[str, Any]]:
    """The loan of the n-th job is killed at its n-th place, from ``first``, and resumed; None is past the last."""
    found = []
    for number, path in enumerate(paths, first):
        found.append(_killed_at(json.loads(path.read_bytes()), path.with_suffix(".killed-at"), number))
        if found[-1]["place"] is None:
            break
    return found


def _killed_at(job: dict[str, Any], note: Path, number: int) -> dict[str, Any]:
    count = [0]

    def place(name: str) -> None:
        count[0] += 1
        if count[0] == number:
            _die(name, note)

    ended = _in_child(job, place)
    if ended != -signal.SIGKILL:
        return {"ended": ended, "place": None}
    return {"ended": _in_child(job, lambda _: None), "place": note.read_text()}


def _kill_node(pid: int | None) -> bool:
    """Whether there was one: after a kill the supervisor notes late that it is gone, and later that it is back."""
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def nodes(job: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The bank's node is killed at places outside, each once, or at those named; the lender's process goes on."""
    killed: list[str] = []
    pids = Path(job["network"]) / control.PID_NAME

    def place(name: str) -> None:
        if name in killed or not (name in names if names else re.match("port|client|sent", name)):
            return
        killed.append(name)
        end = time.monotonic() + _PATIENCE_S
        while not _kill_node(json.loads(pids.read_text())["nodes"].get(job["home"])):
            assert time.monotonic() < end, "the node was not started again"
            time.sleep(0.02)

    drive(job, place)
    return {"ended": 0, "places": killed}


def run(mode: str, arguments: Sequence[str]) -> Any:
    if mode == "each":
        return each([Path(path) for path in arguments[1:]], int(arguments[0]))
    path = Path(arguments[0])
    job, note = json.loads(path.read_bytes()), path.with_suffix(".killed-at")
    if mode == "nodes":
        return nodes(job, arguments[1:])
    return march(job, note, arguments[1])


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], sys.argv[2:])))
