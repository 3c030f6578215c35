"""kill -9 of the custodian, and of the bank, at each step of a disclosure.

Never data out without a certified use; every open use is closed after the restart, with no less than what left; the
bank's retry gets the same bytes under the same use.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from faulty_node import LEFT_NAME
from sharing import Enterprise, attest, invoices, peer

from network import RealNetwork, real_network, until
from taxledger.ledger.consent import Artefact
from taxledger.ledger.disclosure import decode_disclosure

RECORDS = 1_200
"""Two parts, so three pieces with the frame."""
IDLE_MS = 5_000


@pytest.fixture(scope="module")
def giver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enterprise]:
    """Of a network whose custodian orders transactions too."""
    with giving(tmp_path_factory.mktemp("crashes")) as enterprise:
        yield enterprise


@pytest.fixture(scope="module")
def follower_giver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enterprise]:
    """Of a network that bank3 orders: while the custodian is down, blocks go on without it."""
    with giving(tmp_path_factory.mktemp("follower"), sequencer=4) as enterprise:
        yield enterprise


@contextlib.contextmanager
def giving(folder: Path, **options: Any) -> Iterator[Enterprise]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXLEDGER_DISCLOSURE_IDLE_MS", str(IDLE_MS))
        with real_network(folder / "net", tag_keys=False, **options) as network:
            attest(network, invoices(folder / "e1.csv", "E1", RECORDS))
            enterprise = Enterprise(network, "cumcm:E1")
            enterprise.register()
            yield enterprise


def arm(network: RealNetwork, member: str, kind: str, number: int, when: str) -> None:
    """The member's next process dies at this step, once."""
    network.stop(member)
    network.break_at(member, number, when, kind)
    network.start(member, restart=True)
    network.agree()


def retried(giver: Enterprise, artefact: Artefact, key: str) -> bytes:
    """The file of one request, asked for again and again until it comes, as a client does."""

    def ask() -> bytes | None:
        try:
            answer = giver.ask("bank1", artefact, headers={"Idempotency-Key": key})
        except httpx.HTTPError:
            return None  # the bank's own node is down
        if answer.status_code == 503:
            return None
        assert answer.status_code == 200, answer.text
        return answer.content

    data: bytes = until(ask, "the dossier comes in the end")
    return data


def pieces(data: bytes) -> tuple[int, bytes, tuple[bytes, ...], bytes]:
    """What a retry must repeat: number of the use, frame, parts, salt. The use proof may be newer."""
    file = decode_disclosure(data)
    return file.sequence, file.frame, file.parts, file.salt


def left(network: RealNetwork, consent: bytes) -> list[dict[str, Any]]:
    """The pieces of a consent that were about to leave, as the custodian's processes wrote them down."""
    lines = (network.homes["tax"].path / LEFT_NAME).read_text().splitlines()
    return [each for each in map(json.loads, lines) if each["consent"] == consent.hex()]


STEPS = [
    ("custody.plan", 1, "after"),
    ("sent.settle", 1, "before"),
    ("custody.leaves", 1, "after"),
    ("answer.piece", 1, "before"),
    ("answer.piece", 3, "before"),
    ("custody.close", 1, "after"),
    *(
        pytest.param(*step, marks=pytest.mark.slow)
        for step in (
            ("custody.plan", 1, "before"),
            ("sent.settle", 1, "after"),
            ("answer.disclose", 1, "before"),
            ("custody.leaves", 1, "before"),
            ("custody.leaves", 3, "before"),
            ("custody.leaves", 3, "after"),
            ("custody.close", 1, "before"),
            ("sent.settle", 2, "before"),
            ("sent.settle", 2, "after"),
        )
    ),
]


@pytest.mark.parametrize(("kind", "number", "when"), STEPS, ids=lambda each: str(each))
def test_the_custodian_is_killed(giver: Enterprise, kind: str, number: int, when: str) -> None:
    kill_and_retry(giver, kind, number, when)


@pytest.mark.parametrize(
    ("kind", "number", "when"),
    [
        ("sent.settle", 1, "before"),
        *(
            pytest.param(*step, marks=pytest.mark.slow)
            for step in (
                ("custody.leaves", 2, "after"),
                ("custody.plan", 1, "after"),
                ("answer.disclose", 1, "before"),
                ("custody.close", 1, "after"),
            )
        ),
    ],
    ids=lambda each: str(each),
)
def test_a_custodian_that_follows_is_killed(
    follower_giver: Enterprise, kind: str, number: int, when: str
) -> None:
    kill_and_retry(follower_giver, kind, number, when)


def test_a_custodian_that_missed_a_revocation_hands_out_nothing(follower_giver: Enterprise) -> None:
    """Killed after the first part had left; the consent ends while it is down; what it knew then is not enough."""
    giver, network = follower_giver, follower_giver.network
    artefact = giver.grant("bank1", max_uses=2)
    consent = artefact.id(1)
    questions: list[tuple[str, list[Any]]] = [
        ("disclose", [1, "disclose", consent, artefact.digest(1), giver.query().as_list(), os.urandom(16)]),
        *(("piece", [1, "piece", consent, 1, piece]) for piece in range(2)),
    ]
    assert [peer(network, "bank1", *each)[0] for each in questions] == [200, 200, 200]
    network.stop("tax")
    assert giver.revoke_by_preimage(artefact, "bank2").status_code == 200
    network.launch("tax", restart=True)

    def asked() -> tuple[int, bytes] | None:
        try:
            return peer(network, "bank1", "piece", [1, "piece", consent, 1, 2])
        except httpx.HTTPError:
            return None  # not listening yet

    answers = []
    while not answers or answers[-1][0] == 503:  # it says that it is catching up
        answers.append(until(asked, "the custodian answers"))
    status, content = answers[-1]
    assert status == 409, content
    assert b"disclosure_withheld" in content or b"use_closed" in content
    assert [use[1:] for use in giver.settled_uses() if use[0] == consent.hex()] == [
        (1, "partial", RECORDS, 1_000)
    ]


def kill_and_retry(giver: Enterprise, kind: str, number: int, when: str) -> None:
    """The custodian dies at a step of a disclosure; the bank asks until it has everything."""
    network = giver.network
    artefact = giver.grant("bank1", max_uses=2)
    arm(network, "tax", kind, number, when)
    before = network.pids()["tax"]
    key = os.urandom(8).hex()
    data = retried(giver, artefact, key)
    until(lambda: network.pids().get("tax") not in (before, None), "the custodian was killed")
    said = giver.verify("bank1", data)
    assert len(said.answer.records) == RECORDS
    # The same bytes under the same use, as long as they are asked for; and the use is closed with all that left.
    assert pieces(retried(giver, artefact, key)) == pieces(data)
    consent = artefact.id(1)
    uses = [use[1:] for use in giver.settled_uses() if use[0] == consent.hex()]
    assert uses == [(1, "complete", RECORDS, RECORDS)]
    assert pieces(retried(giver, artefact, key)) == pieces(data)
    sent = left(network, consent)
    assert {each["piece"] for each in sent} == {0, 1, 2}
    assert all(each["certified"] for each in sent)


@pytest.mark.parametrize(
    ("kind", "number", "when", "outcome"),
    [
        pytest.param("custody.plan", 1, "after", ("none", 0), marks=pytest.mark.slow),
        ("custody.leaves", 2, "after", ("partial", 1_000)),
        pytest.param("answer.disclose", 1, "before", ("none", 0), marks=pytest.mark.slow),
        pytest.param("custody.leaves", 2, "before", ("partial", 0), marks=pytest.mark.slow),
        pytest.param("answer.piece", 3, "before", ("complete", RECORDS), marks=pytest.mark.slow),
    ],
    ids=lambda each: str(each),
)
def test_a_use_that_nobody_goes_on_with_is_closed(
    giver: Enterprise, kind: str, number: int, when: str, outcome: tuple[str, int]
) -> None:
    """A bank that asks once and never again: the custodian closes the use by itself, with what may have left."""
    network = giver.network
    artefact = giver.grant("bank1", max_uses=2)
    consent, request = artefact.id(1), os.urandom(16)
    query = giver.query().as_list()
    arm(network, "tax", kind, number, when)
    questions: list[tuple[str, list[Any]]] = [
        ("disclose", [1, "disclose", consent, artefact.digest(1), query, request]),
        *(("piece", [1, "piece", consent, 1, piece]) for piece in range(3)),
    ]
    came: list[int] = []

    def ask_until_it_dies() -> None:
        for verb, message in questions:
            came.append(peer(network, "bank1", verb, message)[0])

    with pytest.raises(httpx.HTTPError):
        ask_until_it_dies()
    assert came == [200] * len(came)

    def closed() -> list[tuple[Any, ...]] | None:
        try:
            uses = [use[1:] for use in giver.uses() if use[0] == consent.hex()]
        except httpx.HTTPError:
            return None  # it is not back yet
        return uses if uses and uses[0][1] != "open" else None

    assert until(closed, "the use is closed") == [(1, outcome[0], RECORDS, outcome[1])]
    pieces_left = {each["piece"] for each in left(network, consent)}
    assert pieces_left == set(range(len(came) - 1 + (kind == "answer.piece")))
    # What had not left by then is withheld; what may have left may come again.
    for piece in range(3):
        status, content = peer(network, "bank1", *questions[1 + piece])
        may = piece < {"none": 0, "partial": 1 + (outcome[1] > 0), "complete": 3}[outcome[0]]
        assert (status == 200) == may, content
        assert may or b"use_closed" in content


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_bank_is_killed(giver: Enterprise, when: str) -> None:
    """When it stores what came: its retry costs no use, and it is stored once."""
    network = giver.network
    artefact = giver.grant("bank1", max_uses=2, mode="store", retention_days=30)
    arm(network, "bank1", "received.keep", 1, when)
    before = network.pids()["bank1"]
    data = retried(giver, artefact, key := os.urandom(8).hex())
    assert network.pids()["bank1"] != before
    assert pieces(retried(giver, artefact, key)) == pieces(data)
    consent = artefact.id(1).hex()
    assert [use[1:] for use in giver.settled_uses() if use[0] == consent] == [
        (1, "complete", RECORDS, RECORDS)
    ]
    kept = network.get("bank1", "/v1/disclosures").json()["disclosures"]
    assert [each["sequence"] for each in kept if each["consent"] == consent] == [1]


def test_the_ledgers_agree(giver: Enterprise, tmp_path: Path) -> None:
    """After all of it: four nodes, one state; nothing left that was not certified first."""
    giver.network.agree()
    lines = (giver.network.homes["tax"].path / LEFT_NAME).read_text().splitlines()
    assert len(lines) > 20
    assert all(json.loads(each)["certified"] for each in lines)
