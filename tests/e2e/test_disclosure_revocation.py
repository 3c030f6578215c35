"""Ending a consent while thirty thousand records stream under it, on real processes: the rest is withheld, and the
close says exactly what left.

The bank's node is held (SIGSTOP) while the consent ends, so that no test depends on who is faster.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sharing import Enterprise, answered, attest, code_of, invoices, now_ms

from network import RealNetwork, real_network, until
from taxledger.api.custody import DossierProgress
from taxledger.ledger.consent import Artefact
from taxledger.ledger.errors import RefusedError

RECORDS, PART = 30_000, 1_000
SMALL = 40
WINDOW_MS = 6_000
"""Of a consent that expires while it is used: long enough to begin."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNetwork]:
    folder = tmp_path_factory.mktemp("revocation")
    with real_network(folder / "net", tag_keys=False) as net:
        attest(net, invoices(folder / "e1.csv", "E1", RECORDS))
        attest(net, invoices(folder / "e2.csv", "E2", SMALL))
        yield net


@pytest.fixture(scope="module")
def large(network: RealNetwork) -> Enterprise:
    enterprise = Enterprise(network, "cumcm:E1")
    enterprise.register()
    return enterprise


@pytest.fixture(scope="module")
def small(network: RealNetwork) -> Enterprise:
    enterprise = Enterprise(network, "cumcm:E2")
    enterprise.register()
    return enterprise


@contextlib.contextmanager
def held(network: RealNetwork, member: str) -> Iterator[None]:
    """The member's process does nothing meanwhile."""
    pid = network.pids()[member]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stream_until(
    giver: Enterprise, artefact: Artefact, end: Callable[[], object]
) -> tuple[list[DossierProgress], int]:
    """(progress seen, records that came) of a dossier whose consent ends in the middle."""
    seen: list[DossierProgress] = []

    def on_progress(progress: DossierProgress) -> None:
        seen.append(progress)
        if len(seen) == 3:
            with held(giver.network, "bank1"):
                end()

    with (
        giver.network.client("bank1", patience_s=0) as client,
        pytest.raises(RefusedError) as caught,
    ):
        client.disclosure(giver.query(), artefact.raw, on_progress=on_progress)
    assert caught.value.code == "disclosure_withheld"
    told = re.search(r"after (\d+) records", str(caught.value))
    assert told is not None, caught.value
    return seen, int(told[1])


def check_withheld(giver: Enterprise, artefact: Artefact, seen: list[DossierProgress], came: int) -> None:
    """What came is what the client saw, less than all of it, and what the ledger says left."""
    assert [each.pieces_done for each in seen] == list(range(1, len(seen) + 1))
    assert {(each.pieces, each.records) for each in seen} == {(1 + RECORDS // PART, RECORDS)}
    assert seen[-1].records_done == came < RECORDS
    assert uses_of(giver, artefact)[-1][1:] == ("partial", RECORDS, came)


def uses_of(giver: Enterprise, artefact: Artefact) -> list[tuple[Any, ...]]:
    return [use[1:] for use in giver.settled_uses() if use[0] == artefact.id(1).hex()]


@pytest.mark.parametrize("by", ["custodian", "preimage"])
def test_revoked_while_streaming(large: Enterprise, by: str) -> None:
    artefact = large.grant("bank1")

    def revoke() -> None:
        if by == "custodian":
            said = answered(large.order(artefact, "revoke"))
        else:
            said = answered(large.revoke_by_preimage(artefact, "bank3"))
        assert said["status"] == "revoked"

    seen, came = stream_until(large, artefact, revoke)
    check_withheld(large, artefact, seen, came)
    assert code_of(large.ask("bank1", artefact)) == "consent_revoked"
    assert len(uses_of(large, artefact)) == 1


def test_paused_while_streaming_and_resumed(large: Enterprise) -> None:
    artefact = large.grant("bank1")
    seen, came = stream_until(large, artefact, lambda: answered(large.order(artefact, "pause")))
    check_withheld(large, artefact, seen, came)
    assert code_of(large.ask("bank1", artefact)) == "consent_paused"
    answered(large.order(artefact, "resume"))
    with large.network.client("bank1") as client:
        said = client.verified_disclosure(large.query(), artefact.raw, recipient=2)
    assert len(said.answer.records) == RECORDS
    assert uses_of(large, artefact) == [
        (1, "partial", RECORDS, came),
        (2, "complete", RECORDS, RECORDS),
    ]


def test_expired_while_streaming(large: Enterprise) -> None:
    end_ms = now_ms() + WINDOW_MS
    artefact = large.grant("bank1", not_after=end_ms)
    seen, came = stream_until(large, artefact, lambda: until(lambda: now_ms() > end_ms, "it expires"))
    check_withheld(large, artefact, seen, came)
    assert code_of(large.ask("bank1", artefact)) == "consent_expired"
    assert len(uses_of(large, artefact)) == 1


def test_used_up_by_several_clients_at_once(small: Enterprise) -> None:
    artefact = small.grant("bank1", max_uses=3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: small.ask("bank1", artefact), range(8)))
    given = [each for each in answers if each.status_code == 200]
    assert [code_of(each) for each in answers if each not in given] == ["consent_used_up"] * 5
    assert {small.verify("bank1", each.content).sequence for each in given} == {1, 2, 3}
    assert uses_of(small, artefact) == [(number, "complete", SMALL, SMALL) for number in (1, 2, 3)]
