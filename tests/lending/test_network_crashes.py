"""kill -9 of the lender's process, and of its node, at each step of a loan on a real network: the same end.

However often it was killed, the loan is paid out with one payment file, one contract, one pledge of the record on the
ledger (proved), one use of the consent at each custodian, and is watched once (``lendernet.py``).
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lendernet import KINDS_OF_EVENTS, Lenders, lenders
from postgreskit import new_database

from taxledger.lending.loans.loan import State

REPORT = "TAXLEDGER_LOAN_CRASHES_REPORT"
"""A file to add figures to, for the acceptance list: a JSON object a line."""
MOST_PLACES = 140
NEVER = 10_000
"""No loan has so many places: it is driven without a kill."""
PORTS = {"port forward", "port collect", "port place"}
REQUESTS = {
    "sent POST /v1/consents/forward",
    "sent POST /v1/dossiers",
    "sent POST /v1/pledges/proof",
    "sent POST /v1/permits",
    "sent POST /v1/pledges",
}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lenders]:
    """``bank1`` keeps its loans in SQLite; ``bank2`` has no folder yet."""
    with lenders(tmp_path_factory.mktemp("lenders")) as made:
        made.open_lender("bank1")
        yield made


@pytest.fixture
def bank(request: pytest.FixtureRequest, net: Lenders) -> str:
    """A bank whose loans are in a database of the kind asked for."""
    if request.param == "sqlite":
        return "bank1"
    if not net.is_lender("bank2"):
        net.open_lender("bank2", new_database(request.getfixturevalue("postgres")))
    return "bank2"


def report(what: str, **figures: Any) -> None:
    print(what, figures)
    if os.environ.get(REPORT):
        with Path(os.environ[REPORT]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **figures}) + "\n")


def march(net: Lenders, bank: str, pattern: str) -> list[str]:
    """The places at which one loan was killed, one after the other."""
    job, begin = net.job(bank), time.monotonic()
    marched = net.drive("march", job.path, pattern)
    assert marched["ended"] == 0
    net.check(job)
    places: list[str] = marched["places"]
    assert len(places) == len(set(places))
    report(f"one loan of {bank}", kills=len(places), seconds=round(time.monotonic() - begin, 1))
    return places


# --- always -----------------------------------------------------------------------------------------


def test_a_loan_that_is_killed_again_and_again(net: Lenders) -> None:
    """Each request when it is sent, the commits behind them, the payment and the watch; the rest is slow."""
    kinds = ("consent_given", "evidence", "decided", "accepted", "pledged", "paid")
    places = march(net, "bank1", f"^sent|rename after|watch amid|amid ({'|'.join(kinds)})$")
    assert {f"amid {kind}" for kind in kinds} <= set(places)
    assert set(places) >= {*REQUESTS, "rename after", "watch amid"}


def test_a_loan_whose_node_is_killed_when_it_pledges(net: Lenders) -> None:
    job = net.job("bank1")
    assert net.drive("nodes", job.path, "sent POST /v1/pledges")["places"] == ["sent POST /v1/pledges"]
    net.check(job)


def test_what_is_watched_is_made_right_after_a_crash(net: Lenders) -> None:
    job = net.job("bank1")
    assert net.drive("each", NEVER, job.path)[0]["ended"] == 0
    with net.desk("bank1") as desk:

        def watched() -> bool:
            return job.loan in {loan.loan for loan, _checked in desk.watch.loans()}

        desk.watch.release(job.loan)  # as if it had died before it was enrolled
        assert desk.resume() == {}
        assert watched()
        loan, today = desk.engine.load(job.loan), desk.clock.today()
        desk.engine.repay(job.loan, reference=f"R{job.loan}", amount=loan.principal, value_date=today)
        desk.engine.close(job.loan)
        assert desk.engine.advance(job.loan).state is State.CLOSED
        assert watched()  # as if it had died before the watch was told
        desk.resume()
        assert not watched()


# --- in full ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("bank", ["sqlite", "postgresql"], indirect=True)
def test_a_loan_that_is_killed_at_every_place(net: Lenders, bank: str) -> None:
    places = march(net, bank, "")
    counts = Counter(each.split()[0] for each in places)
    assert counts["append"] == 2 * len(KINDS_OF_EVENTS)
    assert {f"{port} {when}" for port in PORTS for when in ("before", "after")} <= set(places)
    assert set(places) >= REQUESTS
    assert counts["fsync"] >= 4


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("bank", ["sqlite", "postgresql"], indirect=True)
def test_loans_that_are_killed_once_at_each_place(net: Lenders, bank: str) -> None:
    jobs, begin = [net.job(bank) for _ in range(MOST_PLACES)], time.monotonic()
    found = net.drive("each", 1, *(each.path for each in jobs))
    assert [each["ended"] for each in found] == [0] * len(found)
    assert found[-1]["place"] is None  # past the last place: none was left out
    assert len(found) > 60
    for job, each in zip(jobs, found, strict=False):
        print(job.loan, each["place"])
        net.check(job)
    report(f"loans of {bank}", kills=len(found) - 1, seconds=round(time.monotonic() - begin, 1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_loan_whose_node_is_killed_at_every_place(net: Lenders) -> None:
    job, begin = net.job("bank1"), time.monotonic()
    places = net.drive("nodes", job.path)["places"]
    net.check(job)
    assert set(places) >= REQUESTS
    report("the bank's node, one loan", kills=len(places), seconds=round(time.monotonic() - begin, 1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_loans_whose_node_is_killed_at_its_writes(net: Lenders) -> None:
    """Before and after the n-th write of the node's store, for n as far as a loan goes."""
    died, begin = 0, time.monotonic()
    for number in range(1, 26, 2):
        for when in ("before", "after"):
            pid = net.break_node("bank1", number, when)
            job = net.job("bank1")
            (said,) = net.drive("each", NEVER, job.path)
            assert said["ended"] == 0, (number, when)
            net.check(job)
            died += net.network.pids()["bank1"] != pid
    report("the bank's node at its writes", kills=died, seconds=round(time.monotonic() - begin, 1))
    assert died > 10
