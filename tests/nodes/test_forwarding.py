"""A signed artefact handed on by its recipient: each custodian's word is read strictly, and none hides another's."""

from __future__ import annotations

from typing import Any

import pytest
from sharingkit import Subject

from taxledger.api.custody import ConsentReceipt
from taxledger.ledger import canonical
from taxledger.ledger.consent import CustodianTerms
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError
from taxledger.nodes.custodian.forwarded import grant_handler
from taxledger.nodes.recipient.forwarding import forward_artefact

CHAIN, RECIPIENT = bytes(16), 9
ARTEFACT = Subject("cumcm:E1").artefact(
    CHAIN,
    RECIPIENT,
    custodians=tuple(CustodianTerms(member=n, revoke_hash=bytes([n]) * 32) for n in (1, 2, 3, 4)),
)


class Desk:
    """Grants everything; or fails."""

    def __init__(self, custodian: int, failure: Exception | None = None) -> None:
        self.custodian, self.failure = custodian, failure

    async def grant(self, artefact: bytes) -> ConsentReceipt:
        if self.failure is not None:
            raise self.failure
        return ConsentReceipt(
            consent=ARTEFACT.id(self.custodian),
            status="active",
            transaction=bytes(32),
            height=self.custodian,
            index=1,
            time_ms=1,
        )


class Peer:
    """A custodian's node without a network; ``answer`` is put in the place of what it says."""

    def __init__(self, desk: Desk, answer: Any = None, sender: int = RECIPIENT) -> None:
        self._handler = grant_handler(desk)
        self._answer, self._sender = answer, sender

    async def call(self, verb: str, message: Any, **_options: int) -> bytes:
        assert verb == "grant"
        said = await self._handler(self._sender, canonical.decode(canonical.encode(message)))
        return self._answer if type(self._answer) is bytes else canonical.encode(self._answer or said)


async def test_one_that_fails_is_named_and_hides_no_other() -> None:
    peers: dict[int, Any] = {
        1: Peer(Desk(1)),
        2: Peer(Desk(2, UnavailableError("no connection"))),
        3: Peer(Desk(3, RefusedError("consent_key_unknown", "not\x1b[31m registered"))),
    }
    made = await forward_artefact(peers, ARTEFACT.raw, member=RECIPIENT)
    assert [(each.consent, each.height) for each in made.receipts] == [(ARTEFACT.id(1), 1)]
    assert [(each.member, each.code) for each in made.failures] == [
        (2, "unavailable"), (3, "consent_key_unknown"), (4, "issuer_unknown"),
    ]  # fmt: skip
    assert "\x1b" not in made.failures[1].detail
    assert await forward_artefact(peers, ARTEFACT.raw, member=RECIPIENT) == made


@pytest.mark.parametrize(
    "answer",
    [
        b"\x93", [1, "grant"], [True, "grant", ARTEFACT.id(1), "active", bytes(32), 1, 1, 1],
        [1, "grant", ARTEFACT.id(2), "active", bytes(32), 1, 1, 1],
        [1, "grant", ARTEFACT.id(1), "superb", bytes(32), 1, 1, 1],
        [1, "grant", ARTEFACT.id(1), "active", bytes(31), 1, 1, 1],
        [1, "grant", ARTEFACT.id(1), "active", bytes(32), -1, 1, 1],
    ],
)  # fmt: skip
async def test_an_answer_of_another_form_is_no_receipt(answer: Any) -> None:
    made = await forward_artefact({1: Peer(Desk(1), answer)}, ARTEFACT.raw, member=RECIPIENT)  # type: ignore[dict-item]
    assert not made.receipts
    assert made.failures[0].code == "custodian_refused"


async def test_a_custodians_own_codes_are_its_refusal_only() -> None:
    peers: dict[int, Any] = {1: Peer(Desk(1, RefusedError("key_missing", "who are you")))}
    assert (await forward_artefact(peers, ARTEFACT.raw, member=RECIPIENT)).failures[
        0
    ].code == "custodian_refused"


async def test_nobody_else_hands_it_on() -> None:
    with pytest.raises(RefusedError, match="consent_recipient_mismatch"):
        await forward_artefact({}, ARTEFACT.raw, member=8)
    made = await forward_artefact({1: Peer(Desk(1), sender=8)}, ARTEFACT.raw, member=RECIPIENT)  # type: ignore[dict-item]
    assert made.failures[0].code == "custodian_refused"
    with pytest.raises(RefusedError, match="consent_signature_invalid"):
        await forward_artefact({}, ARTEFACT.raw[:-1] + b"!", member=RECIPIENT)
    for message in ([1, "grant"], [1, "grant", 7], [2, "grant", ARTEFACT.raw], [1, "grant", b"\x93"]):
        with pytest.raises(InputError):
            await grant_handler(Desk(1))(RECIPIENT, message)
