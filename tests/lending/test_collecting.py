"""Collecting from several custodians: what comes, and why the rest does not."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from taxledger.ledger.errors import InvariantError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.query import Query
from taxledger.lending.collecting import collect_evidence


def question(issuer: int) -> Query:
    return Query(subject="x:x", issuer=issuer, kinds=(5,), from_period="2025-01", to_period="2025-12")


class FakeClient:
    """Answers by issuer; remembers what it was asked."""

    def __init__(self, answers: dict[int, Callable[[], bytes]]) -> None:
        self.answers = answers
        self.asked: list[tuple[int, str | None]] = []

    def disclosure(self, query: Query, consent: bytes, *, request_key: str | None = None) -> bytes:
        self.asked.append((query.issuer, request_key))
        return self.answers[query.issuer]()


def fails(error: Exception) -> Callable[[], bytes]:
    def answer() -> bytes:
        raise error

    return answer


def test_every_custodian_is_asked_and_each_reason_is_named() -> None:
    never = threading.Event()
    client = FakeClient(
        {
            1: lambda: b"file",
            2: fails(RefusedError("consent_paused", "it is paused")),
            3: fails(VerificationError("use_mismatch", "digest")),
            4: fails(UnavailableError("not now")),
            5: lambda: (never.wait(60), b"late")[1],
        }
    )
    came = collect_evidence(
        client, [question(each) for each in range(1, 6)], b"artefact", request="r", wait_s_max=0.5
    )
    never.set()
    assert [(each.query.issuer, each.data) for each in came.files] == [(1, b"file")]
    codes = ["consent_paused", "use_mismatch", "custodian_silent", "custodian_silent"]
    assert [each.code for each in came.reasons] == codes
    assert sorted(client.asked) == [(each, f"r/{each - 1}") for each in range(1, 6)]


def test_they_are_asked_side_by_side() -> None:
    together = threading.Barrier(3, timeout=30)
    client = FakeClient({each: lambda: (together.wait(), b"file")[1] for each in (1, 2, 3)})
    came = collect_evidence(
        client, [question(each) for each in (1, 2, 3)], b"artefact", request="r", wait_s_max=30
    )
    assert len(came.files) == 3


def test_a_bug_is_no_silent_custodian() -> None:
    client = FakeClient({1: fails(InvariantError("a bug"))})
    with pytest.raises(InvariantError):
        collect_evidence(client, [question(1)], b"artefact", request="r", wait_s_max=30)


def test_a_process_ends_though_a_custodian_is_silent() -> None:
    code = (
        "import threading\n"
        "from taxledger.lending.collecting import collect_evidence\n"
        "from taxledger.ledger.query import Query\n"
        "class Silent:\n"
        "    def disclosure(self, query, consent, *, request_key=None):\n"
        "        threading.Event().wait(300)\n"
        "q = Query(subject='x:x', issuer=1, kinds=(5,), from_period='2025-01', to_period='2025-12')\n"
        "print(collect_evidence(Silent(), [q], b'', request='r', wait_s_max=0.1).reasons[0].code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "custodian_silent\n", done.stderr
