"""The desk's routes: keys, grants, instructions, lists, receipts, revocations, erasure; each refusal by its code."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import chainkit
import httpx
import pytest
from consentkit import SUBJECT_KEY, SUBJECT_SECRET, make_artefact, make_terms
from fakedesk import CUSTODIAN, FakeDesk, make_desk
from fakenode import FakeNode, Keys, make_app, policy_of

from taxledger.api import models_consents as models
from taxledger.api.client import AsyncClient
from taxledger.api.custody import GrantFailure
from taxledger.api.problems import PROBLEMS
from taxledger.api.routes_consents import _GRANT_PROBLEMS
from taxledger.ledger.consent import Artefact, CustodianTerms, revoke_preimage
from taxledger.ledger.consentstate import revoke_hash_of
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.instruction import ConsentOrder, sign_instruction

SUBJECT = make_terms().subject
RECIPIENT = chainkit.CLIENT


@pytest.fixture
def desk(node: FakeNode) -> FakeDesk:
    return make_desk(node)[0]


@pytest.fixture
async def http(desk: FakeDesk, node: FakeNode, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header()
    ) as client:
        yield client


def artefact(node: FakeNode, number: int = 1, **changes: Any) -> Artefact:
    nonce = chainkit.digest("nonce", number)
    hashed = revoke_hash_of(revoke_preimage(SUBJECT_SECRET, nonce, CUSTODIAN))
    former = changes.pop("former", None)
    return make_artefact(
        chain_id=node.chain.chain_id,
        nonce=nonce,
        recipient=changes.pop("recipient", RECIPIENT),
        custodians=(CustodianTerms(member=CUSTODIAN, revoke_hash=hashed, former=former),),
        not_before=node.chain.time_ms - 1_000,
        not_after=node.chain.time_ms + 86_400_000,
        **changes,
    )


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def register(http: httpx.AsyncClient, **changes: object) -> httpx.Response:
    body = {"subject": SUBJECT, "public_key": SUBJECT_KEY.public_key.hex(), "authentication": "tax_portal"}
    return await http.post("/v1/subjects", json=body | changes)


async def grant(http: httpx.AsyncClient, given: Artefact) -> httpx.Response:
    return await http.post("/v1/consents", json={"artefact": b64(given.raw)})


def instruction(given: Artefact, action: str, number: int) -> dict[str, str]:
    order = ConsentOrder(
        chain_id=given.terms.chain_id, consent=given.id(CUSTODIAN), action=action, number=number, issued=1
    )
    return {"instruction": b64(sign_instruction(order, SUBJECT_KEY).raw)}


async def test_a_key_is_registered_and_replaced_for_a_reason(http: httpx.AsyncClient, desk: FakeDesk) -> None:
    assert models.SubjectBody.model_validate_json((await register(http)).content).key == 1
    other = "11" * 32
    answer = await register(http, public_key=other)
    assert (answer.status_code, answer.json()["code"]) == (409, "subject_key_exists")
    assert (await register(http, public_key=other, reason="lost")).json() == {"key": 2}
    assert (desk.keys[SUBJECT][0], desk.reasons) == (SUBJECT_KEY.public_key, [None, "lost"])


async def test_a_consent_from_grant_to_revocation(
    http: httpx.AsyncClient, node: FakeNode, desk: FakeDesk
) -> None:
    await register(http)
    given = artefact(node)
    answer = await grant(http, given)
    body = models.ConsentReceiptBody.model_validate_json(answer.content)
    assert (body.consent, body.status, body.height) == (given.id(CUSTODIAN).hex(), "active", 5)
    await desk.use(given.id(CUSTODIAN), 1, 25)
    statuses = []
    for number, action in enumerate(("pause", "resume", "pause"), 1):
        answer = await http.post("/v1/consents/instructions", json=instruction(given, action, number))
        statuses.append(answer.json()["status"])
    assert statuses == ["paused", "active", "paused"]
    listed = models.Consents.model_validate_json(
        (await http.post("/v1/consents/list", json={"subject": SUBJECT})).content
    )
    (entry,) = listed.consents
    assert base64.b64decode(entry.artefact) == given.raw
    assert (entry.status, entry.uses, entry.uses_list[0].state, entry.uses_list[0].count) == (
        "paused",
        1,
        "complete",
        25,
    )
    preimage = revoke_preimage(SUBJECT_SECRET, given.terms.nonce, CUSTODIAN)
    wrong = {"consent": given.id(CUSTODIAN).hex(), "preimage": "00" * 32}
    answer = await http.post("/v1/consents/revocations", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (403, "preimage_invalid")
    answer = await http.post("/v1/consents/revocations", json=wrong | {"preimage": preimage.hex()})
    assert answer.json()["status"] == "revoked"
    answer = await http.post("/v1/consents/instructions", json=instruction(given, "resume", 9))
    assert (answer.status_code, answer.json()["code"]) == (403, "consent_state_invalid")


async def test_a_receipt_has_the_standards_blocks(
    http: httpx.AsyncClient, node: FakeNode, desk: FakeDesk
) -> None:
    await register(http)
    given = artefact(node)
    await grant(http, given)
    await desk.use(given.id(CUSTODIAN), 1, 25)
    await desk.use(given.id(CUSTODIAN), 2, 4, close=False)
    asked = {"subject": SUBJECT, "consent": given.id(CUSTODIAN).hex()}
    answer = await http.post("/v1/consents/receipt", json=asked)
    document = answer.json()
    assert document["record_id"] == asked["consent"]
    assert document["pii_principal_id"] == SUBJECT
    (purpose,) = document["pii_processing"]["purposes"]
    assert purpose["recipient_third_parties"] == [f"member:{RECIPIENT}"]
    assert [
        (each["party_role"], each.get("party_name")) for each in document["party_identification"][1:]
    ] == [
        ("pii_controller", "tax"),
        ("recipient_third_party", "bank"),
    ]
    assert [each["event_state"] for each in document["event"]] == ["given", "registered"]
    assert [(use["state"], use["disclosed_records"]) for use in document["uses"]] == [
        ("complete", 25),
        ("open", 0),
    ]
    assert all(use["opened_time"] for use in document["uses"])
    assert document["ledger"]["digest"] == given.digest(CUSTODIAN).hex()
    answer = await http.post("/v1/consents/receipt", json=asked | {"consent": "00" * 16})
    assert (answer.status_code, answer.json()["code"]) == (403, "consent_unknown")


async def test_erasing_asks_this_custodian(http: httpx.AsyncClient, desk: FakeDesk) -> None:
    body = {"subject": SUBJECT, "kinds": [5, 2], "from": "2024-01", "to": "2024-12", "reason": "ended"}
    answer = await http.post("/v1/erasures", json=body)
    assert models.ErasureBody.model_validate_json(answer.content).notices[1].confirmed is False
    ((query, reason),) = desk.erased
    assert (query.issuer, query.kinds, reason) == (CUSTODIAN, (2, 5), "ended")
    answer = await http.post("/v1/erasures", json=body | {"issuer": 1})
    assert answer.json()["code"] == "request_invalid"


async def test_only_success_is_kept_for_repetition(http: httpx.AsyncClient, desk: FakeDesk) -> None:
    sent = {"Idempotency-Key": "a"}
    body = {"subject": SUBJECT}
    first = await http.post("/v1/consents/list", json=body, headers=sent)
    desk.failure = UnavailableError("later")
    again = await http.post("/v1/consents/list", json=body, headers=sent)
    assert (first.status_code, again.status_code) == (200, 503)


@pytest.mark.parametrize("code", _GRANT_PROBLEMS)
async def test_each_refusal_of_a_grant_has_its_code(
    http: httpx.AsyncClient, node: FakeNode, desk: FakeDesk, code: str
) -> None:
    desk.failure = RefusedError(code, "no")
    answer = await grant(http, artefact(node))
    assert (answer.status_code, answer.json()["code"]) == (PROBLEMS[code].status, code)


async def test_what_is_not_signed_does_not_reach_the_desk(
    http: httpx.AsyncClient, node: FakeNode, desk: FakeDesk
) -> None:
    desk.failure = AssertionError("reached")
    given = artefact(node)
    order = base64.b64decode(instruction(given, "pause", 1)["instruction"])
    for path, name, good in (
        ("/v1/consents", "artefact", given.raw),
        ("/v1/consents/instructions", "instruction", order),
    ):
        raw = good[:-1] + bytes([good[-1] ^ 1])
        answer = await http.post(path, json={name: b64(raw)})
        assert (answer.status_code, answer.json()["code"]) == (403, "consent_signature_invalid"), path
        for bad in ("*", b64(b"\x93"), b64(raw[:-1])):
            answer = await http.post(path, json={name: bad})
            assert answer.status_code in (400, 422), (path, bad)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/subjects", {"subject": SUBJECT, "public_key": "11" * 32, "authentication": "x"}),
        ("/v1/consents/list", {"subject": SUBJECT}),
        ("/v1/consents/receipt", {"subject": SUBJECT, "consent": "00" * 16}),
        (
            "/v1/erasures",
            {"subject": SUBJECT, "kinds": [5], "from": "2024-01", "to": "2024-12", "reason": "x"},
        ),
    ],
)
async def test_a_node_that_is_no_custodians_says_so(
    node: FakeNode, keys: Keys, path: str, body: dict[str, object]
) -> None:
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header()
    ) as client:
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_custodian")
        bad = await client.post(path, json=body | {"more": 1})
        assert (bad.status_code, bad.json()["code"]) == (422, "request_invalid")


@pytest.mark.parametrize("path", ["/v1/consents/list", "/v1/consents/receipt"])
async def test_a_bad_subject_is_not_quoted(http: httpx.AsyncClient, path: str) -> None:
    body = {"subject": "unknown:E14"} | ({"consent": "00" * 16} if path.endswith("receipt") else {})
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert "E14" not in json.dumps(answer.json())


async def test_a_forwarded_artefact_names_who_failed_and_is_sent_again(
    http: httpx.AsyncClient, node: FakeNode, desk: FakeDesk
) -> None:
    await register(http)
    given = artefact(node)
    failure = GrantFailure(member=9, code="unavailable", detail="it does not answer")
    desk.failures = [failure]
    headers = {"Idempotency-Key": "k"}
    answer = await http.post("/v1/consents/forward", json={"artefact": b64(given.raw)}, headers=headers)
    said = models.ForwardedBody.model_validate_json(answer.content)
    assert (answer.status_code, said.receipts[0].status) == (202, "active")
    assert [(each.member, each.code) for each in said.failures] == [(9, "unavailable")]
    desk.failure = RefusedError("consent_recipient_mismatch", "another")
    answer = await http.post("/v1/consents/forward", json={"artefact": b64(given.raw)}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "consent_recipient_mismatch")


async def test_the_client_returns_what_there_is(node: FakeNode, keys: Keys, desk: FakeDesk) -> None:
    given = artefact(node)
    desk.keys[SUBJECT] = [SUBJECT_KEY.public_key]
    desk.failures = [GrantFailure(member=9, code="consent_key_unknown", detail="x")]
    transport = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))
    policy = policy_of(node.chain)
    async with AsyncClient("http://127.0.0.1", keys.tokens["all"], policy, transport=transport) as client:
        made = await client.forward_consent(given.raw)
    assert [each.consent for each in made.receipts] == [given.id(CUSTODIAN)]
    assert made.failures == tuple(desk.failures)
