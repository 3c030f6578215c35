"""Pledges for a loan through the lender's node: what an attempt that was cut off has placed is found, or released."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from loankit import LENDER, SUBJECT, artefact

from taxledger.api.client import Client
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError, UnavailableError, VerificationError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.permit import decode_permit, encode_permit, sign_permit
from taxledger.ledger.pledgestate import PledgeMarks, pledge_id
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.lending import nodeports
from taxledger.lending.evidence import EvidenceFile
from taxledger.lending.facts import Fact
from taxledger.lending.loans.ports import Evidence, PledgeOrder
from taxledger.lending.nodeports import NodePledges

ISSUER = 1
AWARD = KINDS["procurement_award"]
CHAIN = b"\x07" * 32
KEY = "the loan's key"


def record_of(number: int) -> bytes:
    return b"\x01" + ISSUER.to_bytes(2, "big") + bytes([AWARD]) + bytes(16) + b"\x03" + bytes([number]) * 16


def mark_of(number: int) -> bytes:
    return bytes([0x80 + number]) * 16


def fact(number: int) -> Fact:
    return Fact(
        kind=AWARD,
        issuer=ISSUER,
        key=record_of(number),
        version=1,
        status=Status.VALID,
        fingerprint=mark_of(number),
        schema=1,
        fields={},
    )


class LedgerClient:
    """What ``NodePledges`` asks of a client, and the ledger behind it: an id takes one payload, and never again."""

    def __init__(self) -> None:
        self.open: dict[bytes, bytes] = {}
        self.placed: dict[bytes, bytes] = {}
        self.marks: dict[bytes, PledgeMarks] = {}
        self.before: Callable[[str, int], None] = lambda what, count: None
        self.after: Callable[[str, int], None] = lambda what, count: None
        self.counts: dict[str, int] = {}
        self.now_ms = 1_000
        self.permitted: tuple[int, bytes] = (1, b"")

    def _call(self, what: str, effect: Callable[[], Any]) -> Any:
        count = self.counts[what] = self.counts.get(what, 0) + 1
        self.before(what, count)
        made = effect()
        self.after(what, count)
        return made

    def request_permits(
        self, consent: bytes, sequence: int, records: Sequence[bytes], *, not_after: int
    ) -> list[bytes]:
        def give() -> list[bytes]:
            if not_after <= self.now_ms:
                raise RefusedError("permit_expired", "expected an end after now")
            return [
                encode_permit(
                    sign_permit(
                        Signer(bytes(32)),
                        CHAIN,
                        record_key=each,
                        version=self.permitted[0],
                        fingerprint=self.permitted[1] or mark_of(each[-1]),
                        lender=LENDER,
                        not_after=not_after,
                    )
                )
                for each in records
            ]

        return cast(list[bytes], self._call("permit", give))

    def place_pledge(self, permit: bytes, ppm: int, *, nonce: bytes) -> None:
        opened = decode_permit(permit)
        pledge = pledge_id(LENDER, opened.issuer, opened.fingerprint, nonce)

        def place() -> None:
            if self.placed.setdefault(pledge, permit) != permit:
                raise RefusedError("pledge_exists", "this request was for another permit")
            self.open.setdefault(pledge, opened.fingerprint)

        self._call("place", place)

    def release_pledge(self, pledge: bytes) -> None:
        def release() -> None:
            if pledge not in self.placed:
                raise RefusedError("pledge_unknown", "it was never placed")
            if self.open.pop(pledge, None) is None:
                raise RefusedError("pledge_ended", "it is not open")

        self._call("release", release)

    def verified_pledges(self, keys: Iterable[tuple[int, bytes]]) -> Any:
        asked = list(keys)

        def states() -> Any:
            return SimpleNamespace(
                states={
                    (issuer, mark): SimpleNamespace(
                        pledges=[SimpleNamespace(id=id) for id, its in self.open.items() if its == mark],
                        marks=self.marks.get(mark, PledgeMarks.CLEAR),
                    )
                    for issuer, mark in asked
                }
            )

        return self._call("proof", states)

    def state(self, key: bytes) -> Any:
        return SimpleNamespace(entries={key: [(key, b"")] if key[1:] in self.placed else []})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> LedgerClient:
    monkeypatch.setattr(nodeports, "decode_disclosure", lambda data: SimpleNamespace(sequence=1))
    return LedgerClient()


def port(client: LedgerClient, records: Callable[[str], Sequence[Fact]] | None = None) -> NodePledges:
    given = artefact()
    issuer = decode_artefact(given).terms.custodians[0].member
    assert issuer == ISSUER
    query = Query(subject=SUBJECT, issuer=issuer, kinds=(AWARD,), from_period="2023-03", to_period="2024-02")
    came = Evidence(files=(EvidenceFile(query=query, data=b"evidence"),))
    return NodePledges(
        cast(Client, client), LENDER, lambda id: came, records or (lambda id: (fact(1), fact(2)))
    )


def order(ordered_ms: int = 500) -> PledgeOrder:
    return PledgeOrder(
        loan="L1",
        subject=SUBJECT,
        security=(record_of(1), record_of(2)),
        share_ppm=700_000,
        artefact=artefact(),
        ordered_ms=ordered_ms,
    )


class Killed(BaseException):
    """The process dies."""


def kill_at(what: str, number: int) -> Callable[[str, int], None]:
    def die(now: str, count: int) -> None:
        if (now, count) == (what, number):
            raise Killed

    return die


CALLS = [("permit", 1), ("place", 1), ("place", 2), ("proof", 1), ("proof", 2)]


@pytest.mark.parametrize(("what", "number"), CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("later_ms", [0, 60_000])
def test_a_new_attempt_goes_on_with_what_is_placed(
    client: LedgerClient, what: str, number: int, when: str, later_ms: int
) -> None:
    setattr(client, when, kill_at(what, number))
    with pytest.raises(Killed):
        port(client).place(order(), key=KEY)
    client.before = client.after = lambda what, count: None
    client.now_ms += later_ms
    placed = port(client).place(order(), key=KEY)
    assert set(placed) == set(client.open) == set(client.placed), "two pledges, each once"


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_dead_attempt_placed_is_released_where_the_next_is_refused(
    client: LedgerClient, number: int
) -> None:
    client.after = kill_at("place", number)
    with pytest.raises(Killed):
        port(client).place(order(), key=KEY)
    assert len(client.open) == number

    def revoked(what: str, count: int) -> None:
        if what == "permit":
            raise RefusedError("consent_revoked", "the consent was revoked")
        if what == "proof":
            client.open = dict(list(client.open.items())[:1])  # and one was released by hand

    client.after, client.before = lambda what, count: None, revoked
    with pytest.raises(RefusedError) as refused:
        port(client).place(order(), key=KEY)
    assert refused.value.code == "consent_revoked"
    assert not client.open, "nothing stays pledged"


def test_one_that_is_refused_takes_the_others_back(client: LedgerClient) -> None:
    def full(what: str, count: int) -> None:
        if (what, count) == ("place", 2):
            raise RefusedError("pledge_exceeds", "another lender was faster")

    client.before = full
    with pytest.raises(RefusedError, match="pledge_exceeds"):
        port(client).place(order(), key=KEY)
    assert not client.open
    assert len(client.placed) == 1


@pytest.mark.parametrize("permitted", [(2, b""), (1, bytes(16))])
def test_a_permit_for_what_was_not_decided_upon_places_nothing(
    client: LedgerClient, permitted: tuple[int, bytes]
) -> None:
    # A custodian that changed the record since: pledged would be what nobody has looked at, under another id.
    client.permitted = permitted
    with pytest.raises(RefusedError, match="permit_invalid"):
        port(client).place(order(), key=KEY)
    assert not client.placed


def test_a_permit_that_has_ended_ends_the_attempts(client: LedgerClient) -> None:
    client.after = kill_at("place", 1)
    with pytest.raises(Killed):
        port(client).place(order(), key=KEY)
    client.after = lambda what, count: None
    client.now_ms += 86_400_000
    with pytest.raises(RefusedError, match="permit_expired"):
        port(client).place(order(), key=KEY)
    assert not client.open


def test_another_permit_for_a_place_under_way_is_waited_for(client: LedgerClient) -> None:
    def exists(what: str, count: int) -> None:
        if what == "place":
            raise RefusedError("pledge_exists", "this request was for another permit")

    client.before = exists
    with pytest.raises(UnavailableError, match="under way"):
        port(client).place(order(), key=KEY)
    assert "release" not in client.counts, "it may yet be placed: nothing is concluded"


def test_evidence_that_does_not_verify_any_more_is_no_refusal(client: LedgerClient) -> None:
    def broken(id: str) -> Sequence[Fact]:
        raise VerificationError("policy_mismatch", "another policy")

    with pytest.raises(UnavailableError, match="person has to look"):
        port(client, broken).place(order(), key=KEY)


def test_release_is_over_where_nothing_is_open(client: LedgerClient) -> None:
    placed = port(client).place(order(), key=KEY)
    client.open.pop(placed[0])
    port(client).release((*placed, b"\x09" * 16), key=KEY)
    assert not client.open


def test_security_that_is_gone_or_changed_is_told(client: LedgerClient) -> None:
    made = port(client)
    placed = made.place(order(), key=KEY)
    made.check("L1", placed)
    client.marks[mark_of(2)] = PledgeMarks.CONTESTED
    made.check("L1", placed)
    client.marks[mark_of(2)] = PledgeMarks.CONTESTED | PledgeMarks.IMPAIRED
    with pytest.raises(RefusedError, match="pledge_impaired"):
        made.check("L1", placed)
    client.marks.clear()
    client.open.pop(placed[0])
    with pytest.raises(RefusedError, match="pledge_missing"):
        made.check("L1", placed)
