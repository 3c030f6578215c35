"""The enterprise's view: all its consents and all their uses, proved; nobody can leave one out, add or change one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from consentkit import SUBJECT_SECRET, make_artefact
from disclosurekit import QUERY, build
from fakedesk import CUSTODIAN, FakeDesk, make_desk
from fakenode import FakeNode, Keys, make_app, policy_of
from test_api_consents import artefact
from world import NOW_MS

from taxledger.api.client import AsyncClient, Client, VerifiedConsents, consents
from taxledger.api.client.wire import RetryLimits
from taxledger.ledger.consent import Artefact, holder_of
from taxledger.ledger.consentstate import ConsentStatus, UseState
from taxledger.ledger.errors import InputError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.statekeys import consent_key, holder_key, uses_prefix

ONCE = RetryLimits(total_s=0.0)
OTHER_SECRET = sha256(b"another enterprise")


async def granted(desk: FakeDesk, number: int, recipient: int, *, secret: bytes = SUBJECT_SECRET) -> Artefact:
    """A consent on the chain, of the test subject or of another that holds another secret."""
    given = artefact(desk.node, number, recipient=recipient, holder=holder_of(secret, recipient))
    desk.keys[given.terms.subject] = [given.public_key]
    await desk.grant(given.raw)
    return given


@pytest.fixture
async def desk(node: FakeNode) -> FakeDesk:
    """Three consents of ours to two members, with two uses of the first; two of another enterprise."""
    desk = make_desk(node)[0]
    first = await granted(desk, 1, 2)
    await granted(desk, 2, 6)
    await granted(desk, 3, 6, secret=OTHER_SECRET)
    await granted(desk, 4, 2, secret=OTHER_SECRET)
    await granted(desk, 5, 2)
    await desk.use(first.id(CUSTODIAN), 1, 25)
    await desk.use(first.id(CUSTODIAN), 2, 7, close=False)
    return desk


@pytest.fixture
async def client(desk: FakeDesk, node: FakeNode, keys: Keys) -> AsyncIterator[AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))
    async with AsyncClient(
        "http://127.0.0.1", keys.tokens["read"], policy_of(node.chain), retries=ONCE, transport=transport
    ) as client:
        yield client


def check(found: VerifiedConsents, desk: FakeDesk) -> None:
    ours = [
        each
        for each in desk.artefacts.values()
        if each.terms.holder == holder_of(SUBJECT_SECRET, each.terms.recipient)
    ]
    assert [each.consent for each in found.consents] == [each.id(CUSTODIAN) for each in ours]
    assert [each.recipient for each in found.consents] == [2, 6, 2]
    assert [each.granted_height for each in found.consents] == [5, 6, 9]
    first = found.consents[0]
    assert (first.value.custodian, first.value.status, first.value.uses) == (
        CUSTODIAN,
        ConsentStatus.ACTIVE,
        2,
    )
    assert [(use.state, use.planned_count, use.count) for use in first.uses.values()] == [
        (UseState.COMPLETE, 25, 25),
        (UseState.OPEN, 7, 0),
    ]
    assert found.looked_at == tuple(range(1, 8))
    assert found.members[6].name == "bank"
    assert found.height == len(desk.node.chain.blocks)


async def test_the_list_is_complete(client: AsyncClient, desk: FakeDesk) -> None:
    check(await client.consents(SUBJECT_SECRET), desk)
    found = await client.consents(SUBJECT_SECRET, members=[6, 3])
    assert [each.recipient for each in found.consents] == [6]
    assert found.looked_at == (3, 6)
    assert (await client.consents(bytes(32))).consents == ()
    with pytest.raises(InputError, match="no member 9"):
        await client.consents(SUBJECT_SECRET, members=[9])


def test_the_client_for_threads_lists_the_same(node: FakeNode, keys: Keys) -> None:
    desk = make_desk(node)[0]

    async def fill() -> None:
        first = await granted(desk, 1, 2)
        await granted(desk, 2, 6)
        await granted(desk, 3, 6, secret=OTHER_SECRET)
        await granted(desk, 4, 2, secret=OTHER_SECRET)
        await granted(desk, 5, 2)
        await desk.use(first.id(CUSTODIAN), 1, 25)
        await desk.use(first.id(CUSTODIAN), 2, 7, close=False)

    asyncio.run(fill())

    def handle(request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            inner = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))
            async with httpx.AsyncClient(transport=inner, base_url="http://127.0.0.1") as http:
                answer = await http.send(
                    http.build_request(
                        request.method, request.url, headers=request.headers, content=request.content
                    )
                )
                return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

        return asyncio.run(ask())

    with Client(
        "http://127.0.0.1",
        keys.tokens["all"],
        policy_of(node.chain),
        retries=ONCE,
        transport=httpx.MockTransport(handle),
    ) as client:
        check(client.consents(SUBJECT_SECRET), desk)
        desk.answers = [b"the file"]
        assert client.disclosure(QUERY, make_artefact().raw) == b"the file"
        (entry, *_) = client.consents_of(make_artefact().terms.subject)
        assert entry.uses_list[0].count == 25
        assert client.consent_receipt(make_artefact().terms.subject, entry.consent)["uses"]


async def test_many_consents_take_several_answers(
    client: AsyncClient, desk: FakeDesk, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consents, "_PREFIXES_MAX", 4)
    monkeypatch.setattr(consents, "_USES_MAX", 2)
    asked: list[int] = []
    honest = node.state

    async def counting(prefixes: Any, *, entries_max: int) -> Any:
        asked.append(len(prefixes))
        return await honest(prefixes, entries_max=entries_max)

    node.state = counting  # type: ignore[method-assign]
    check(await client.consents(SUBJECT_SECRET), desk)
    assert max(asked) == 4
    assert len(asked) == 1 + 2 + 1 + 2


def _pairs(body: dict[str, Any], first: int) -> list[list[Any]]:
    return [entry["pairs"] for entry in body["entries"] if entry["prefix"].startswith(f"{first:02x}")]


def _append(pairs: list[list[Any]]) -> None:
    pairs.append([pairs[-1][0][:-1] + "3", pairs[-1][1]])


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a consent left out": lambda body: [pairs.pop() for pairs in _pairs(body, 3) if pairs],
    "all left out": lambda body: [pairs.clear() for pairs in _pairs(body, 3)],
    "a use left out": lambda body: [pairs.pop() for pairs in _pairs(body, 4) if pairs],
    "a use added": lambda body: [_append(pairs) for pairs in _pairs(body, 4) if pairs],
    "a value left out": lambda body: [pairs.clear() for pairs in _pairs(body, 2)],
    "a value changed": lambda body: [pairs[0].__setitem__(1, "AAAA") for pairs in _pairs(body, 2)],
    "a member left out": lambda body: [pairs.pop() for pairs in _pairs(body, 6)],
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_node_is_found_out(desk: FakeDesk, node: FakeNode, keys: Keys, lie: str) -> None:
    inner = httpx.ASGITransport(app=make_app(node, keys))

    class Lying(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            body = json.loads(await (await inner.handle_async_request(request)).aread())
            LIES[lie](body)
            return httpx.Response(200, json=body)

    async with AsyncClient(
        "http://127.0.0.1", keys.tokens["read"], policy_of(node.chain), retries=ONCE, transport=Lying()
    ) as client:
        with pytest.raises(VerificationError) as caught:
            await client.consents(SUBJECT_SECRET)
    assert caught.value.code in ("prefix_incomplete", "map_proof_invalid")


async def test_a_ledger_that_contradicts_itself_is_refused(
    client: AsyncClient, desk: FakeDesk, node: FakeNode
) -> None:
    """Signed by a quorum, and still impossible: a consent without its value, or with another number of uses."""
    holder = holder_key(holder_of(SUBJECT_SECRET, 2), bytes(16))
    first = await client.consents(SUBJECT_SECRET)
    consent = first.consents[0].consent
    honest = client._core.state

    def with_answer(change: Callable[[dict[bytes, Any]], None]) -> None:
        def state(prefixes: Any, age_ms_max: int | None = None) -> Any:
            call = honest(prefixes, age_ms_max)

            def read(answer: Any) -> Any:
                said = call.read(answer)
                entries = dict(said.entries)
                change(entries)
                return replace(said, entries=entries)

            return replace(call, read=read)

        client._core.state = state  # type: ignore[method-assign]

    def no_value(entries: dict[bytes, Any]) -> None:
        if consent_key(consent) in entries:
            entries[consent_key(consent)] = []

    def fewer_uses(entries: dict[bytes, Any]) -> None:
        if uses_prefix(consent) in entries:
            entries[uses_prefix(consent)] = entries[uses_prefix(consent)][:-1]

    def garbled(entries: dict[bytes, Any]) -> None:
        if holder[:17] in entries:
            entries[holder[:17]] = [(holder, b"\x90")]

    for change in (no_value, fewer_uses, garbled):
        with_answer(change)
        with pytest.raises(VerificationError) as caught:
            await client.consents(SUBJECT_SECRET)
        assert caught.value.code == "state_inconsistent", change


# --- disclosures ----------------------------------------------------------------------------


async def test_a_disclosure_is_verified(node: FakeNode, keys: Keys) -> None:
    world, data, given = build(fields=("date", "net"))
    desk = make_desk(node)[0]
    desk.answers = [data]
    transport = httpx.ASGITransport(app=make_app(node, keys, disclosures=desk))
    async with AsyncClient(
        "http://127.0.0.1", keys.tokens["disclose"], world.policy, retries=ONCE, transport=transport
    ) as client:
        client._core._now_ms = lambda: NOW_MS
        said = await client.verified_disclosure(QUERY, given.raw, 2)
        assert (said.consent, said.sequence, len(said.answer.records)) == (given.id(1), 1, 25)
        with pytest.raises(VerificationError, match="consent_recipient_mismatch"):
            await client.verified_disclosure(QUERY, given.raw, 3)
        other = make_artefact(chain_id=world.chain_id, details=given.terms.details, nonce=bytes(32))
        with pytest.raises(VerificationError, match="consent_mismatch"):
            await client.verified_disclosure(QUERY, other.raw, 2)
        desk.answers = [data[:-1] + bytes([data[-1] ^ 1])]
        with pytest.raises(VerificationError):
            await client.verified_disclosure(QUERY, given.raw, 2)
