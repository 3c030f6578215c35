"""Dossiers: under a consent or not at all, streamed or whole, never kept; and what a node keeps of them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from consentkit import make_artefact
from fakedesk import CUSTODIAN, FakeDesk, make_desk, progress
from fakenode import FakeNode, Keys, make_app, policy_of

from taxledger.api import models_consents as models
from taxledger.api.client import AsyncClient
from taxledger.api.client.wire import RetryLimits
from taxledger.api.problems import PROBLEMS
from taxledger.api.routes_disclosures import _DOSSIER_PROBLEMS, DISCLOSURE, STREAM
from taxledger.ledger import canonical
from taxledger.ledger.errors import RefusedError, UnavailableError, VerificationError
from taxledger.ledger.query import Query
from taxledger.nodes.logs import configure_logs

ARTEFACT = make_artefact()
SUBJECT = ARTEFACT.terms.subject
CONSENT = ARTEFACT.id(1)
ASKED = {"subject": SUBJECT, "issuer": 1, "kinds": [5], "from": "2024-01", "to": "2024-12"}
WITH = ASKED | {"consent": base64.b64encode(ARTEFACT.raw).decode()}
QUERY = Query(subject=SUBJECT, issuer=1, kinds=(5,), from_period="2024-01", to_period="2024-12")
REFUSALS = [code for code in _DOSSIER_PROBLEMS if code not in ("consent_missing",)]


@pytest.fixture
def desk(node: FakeNode) -> FakeDesk:
    desk = make_desk(node)[0]
    desk.answers = [progress(0), progress(1), progress(3), b"the file" * 100_000]
    return desk


@pytest.fixture
async def http(desk: FakeDesk, node: FakeNode, keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header()
    ) as client:
        yield client


@pytest.fixture
async def client(desk: FakeDesk, node: FakeNode, keys: Keys) -> AsyncIterator[AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))
    limits = RetryLimits(total_s=2.0, first_s=0.01, pause_s_max=0.02)
    async with AsyncClient(
        "http://127.0.0.1",
        keys.tokens["disclose"],
        policy_of(node.chain),
        retries=limits,
        transport=transport,
    ) as client:
        yield client


def frames(body: bytes) -> list[Any]:
    rows = []
    while body:
        size = int.from_bytes(body[:4], "big")
        rows.append(canonical.decode(body[4 : 4 + size], bytes_max=1 << 26))
        assert len(body) >= 4 + size
        body = body[4 + size :]
    return rows


async def test_whole(http: httpx.AsyncClient, desk: FakeDesk) -> None:
    answer = await http.post("/v1/dossiers", json=WITH)
    assert (answer.status_code, answer.content) == (200, b"the file" * 100_000)
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == (DISCLOSURE, "no-store")
    ((query, artefact, request),) = desk.asked
    assert (query, artefact, len(request)) == (QUERY, ARTEFACT.raw, 16)
    assert desk.closed == 1


async def test_streamed(http: httpx.AsyncClient, desk: FakeDesk) -> None:
    answer = await http.post("/v1/dossiers", json=WITH, headers={"Accept": STREAM})
    assert (answer.status_code, answer.headers["content-type"]) == (200, STREAM)
    *rows, last = frames(answer.content)
    assert rows == [
        [1, "progress", 1, 3, 0, 25, 0],
        [1, "progress", 1, 3, 1, 25, 10],
        [1, "progress", 1, 3, 3, 25, 30],
    ]
    assert last == [1, "file", b"the file" * 100_000]
    assert desk.closed == 1


async def test_nothing_without_a_consent_but_ones_own_at_ones_own_desk(
    http: httpx.AsyncClient, node: FakeNode, desk: FakeDesk, keys: Keys
) -> None:
    async def ask(body: dict[str, object], scope: str) -> tuple[int, str | None]:
        answer = await http.post("/v1/dossiers", json=body, headers=keys.header(scope))
        return answer.status_code, answer.json()["code"] if answer.status_code >= 400 else None

    for bad, code in (("", 400), ("*", 400), ("AA==", 422)):
        assert (await ask(ASKED | {"consent": bad}, "disclose"))[0] == code, bad

    own = ASKED | {"issuer": CUSTODIAN}
    for scope in ("disclose", "custody", "all"):
        assert await ask(ASKED, scope) == (403, "consent_missing")
    assert await ask(own, "disclose") == (403, "scope_missing")
    assert await ask(own, "custody") == (200, None)
    assert [query.issuer for query in node.dossiers] == [CUSTODIAN]
    assert await ask(WITH, "custody") == (403, "scope_missing")
    for scope in ("read", "submit", "operate"):
        assert await ask(WITH, scope) == (403, "scope_missing")
    assert desk.asked == []
    assert await ask(ASKED | {"consent": None}, "disclose") == (403, "consent_missing")
    flipped = ARTEFACT.raw[:-1] + bytes([ARTEFACT.raw[-1] ^ 1])
    forged = ASKED | {"consent": base64.b64encode(flipped).decode()}
    assert await ask(forged, "disclose") == (403, "consent_signature_invalid")
    assert desk.asked == []


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("code", REFUSALS)
async def test_each_refusal_has_its_code(
    http: httpx.AsyncClient, desk: FakeDesk, code: str, streamed: bool
) -> None:
    desk.failure = RefusedError(code, "no")
    answer = await http.post("/v1/dossiers", json=WITH, headers={"Accept": STREAM} if streamed else {})
    assert (answer.status_code, answer.json()["code"]) == (PROBLEMS[code].status, code)
    assert desk.closed == 1


@pytest.mark.parametrize("code", ["disclosure_withheld", "consent_revoked", "something_new"])
async def test_a_refusal_on_the_way_is_the_last_frame(
    http: httpx.AsyncClient, desk: FakeDesk, code: str
) -> None:
    desk.answers = [progress(0), progress(1), RefusedError(code, "10 records came")]
    answer = await http.post("/v1/dossiers", json=WITH, headers={"Accept": STREAM})
    shown = code if code in PROBLEMS else "refused"
    assert frames(answer.content)[-1] == [1, "problem", shown, "10 records came"]
    answer = await http.post("/v1/dossiers", json=WITH)
    assert (answer.status_code, answer.json()["code"]) == (PROBLEMS[shown].status, shown)
    assert b"the file" not in answer.content


@pytest.mark.parametrize("answers", [[], [progress(0)]])
async def test_an_end_without_a_file_is_none(
    http: httpx.AsyncClient, desk: FakeDesk, answers: list[Any]
) -> None:
    desk.answers = answers
    assert (await http.post("/v1/dossiers", json=WITH)).status_code == 503
    answer = await http.post("/v1/dossiers", json=WITH, headers={"Accept": STREAM})
    assert frames(answer.content)[-1][:3] == [1, "problem", "unavailable"]


async def test_a_bug_on_the_way_breaks_the_stream_off(node: FakeNode, keys: Keys, desk: FakeDesk) -> None:
    """No last frame, and no end of the body either: the server cuts the connection."""
    desk.answers = [progress(0), ValueError("E14")]
    app = make_app(node, keys, custody=desk, disclosures=desk)
    headers = keys.header() | {"accept": STREAM, "content-type": "application/json"}
    scope = {
        "type": "http", "method": "POST", "path": "/v1/dossiers", "raw_path": b"/v1/dossiers",
        "query_string": b"", "scheme": "http", "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0"},
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    bodies = [json.dumps(WITH).encode()]
    sent: list[Any] = []

    async def receive() -> Any:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [row[1] for row in frames(b"".join(each.get("body", b"") for each in sent))] == ["progress"]
    assert sent[-1]["more_body"] is True
    assert desk.closed == 1


async def test_key_header_and_body_name_the_use(http: httpx.AsyncClient, desk: FakeDesk, keys: Keys) -> None:
    async def ask(
        key: str | None, body: dict[str, object] = WITH, scope: str = "all", **headers: str
    ) -> bytes:
        sent = headers | keys.header(scope) | ({} if key is None else {"Idempotency-Key": key})
        assert (await http.post("/v1/dossiers", json=body, headers=sent)).status_code == 200
        return desk.asked[-1][2]

    first = await ask("a")
    assert await ask("a") == first
    assert await ask("a", Accept=STREAM) == first
    others = [await ask("b"), await ask("a", scope="disclose"), await ask("a", WITH | {"to": "2024-11"})]
    others += [await ask(None), await ask(None)]
    assert len({first, *others}) == 6
    assert len(desk.asked) == 8  # every request reached the node: nothing is kept here


async def test_whoever_hangs_up_ends_the_nodes_side(node: FakeNode, keys: Keys, desk: FakeDesk) -> None:
    """The generator is closed, not left to the collector, also when the caller goes away."""
    begun = asyncio.Event()
    held = asyncio.Event()

    async def endless(*_: object) -> AsyncIterator[Any]:
        try:
            yield progress(0)
            begun.set()
            await held.wait()
        finally:
            desk.closed += 1

    desk.dossier = endless  # type: ignore[method-assign, assignment]
    transport = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header()
    ) as client:
        task = asyncio.create_task(client.post("/v1/dossiers", json=WITH))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert desk.closed == 1


# --- the client -----------------------------------------------------------------------------


async def test_the_client_shows_progress_and_returns_the_file(client: AsyncClient, desk: FakeDesk) -> None:
    seen: list[int] = []
    data = await client.disclosure(
        QUERY, ARTEFACT.raw, on_progress=lambda each: seen.append(each.pieces_done), request_key="one"
    )
    assert (data, seen) == (b"the file" * 100_000, [0, 1, 3])


@pytest.mark.parametrize("at", [0, 2])
async def test_the_client_tells_refusals_apart(client: AsyncClient, desk: FakeDesk, at: int) -> None:
    for code in ("consent_revoked", "consent_used_up", "disclosure_withheld", "use_closed"):
        desk.answers = [*[progress(0), progress(1)][:at], RefusedError(code, "no")]
        with pytest.raises(RefusedError) as caught:
            await client.disclosure(QUERY, ARTEFACT.raw)
        assert caught.value.code == code


async def test_the_client_asks_again_for_the_same_use(node: FakeNode, keys: Keys, desk: FakeDesk) -> None:
    """Refused for now; broken off by the connection; ended too early; and then whole."""
    inner = httpx.ASGITransport(app=make_app(node, keys, custody=desk, disclosures=desk))

    class Cut(httpx.AsyncByteStream):
        def __init__(self, data: bytes, error: Exception | None) -> None:
            self.data, self.error = data, error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield self.data
            if self.error is not None:
                raise self.error

    class Flaky(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            desk.answers = [progress(0), b"the file"]
            count = len(desk.asked)
            if count == 0:
                desk.answers = [progress(0), UnavailableError("later")]
            response = await inner.handle_async_request(request)
            if count in (1, 2):
                data = (await response.aread())[:-3]
                error = httpx.ReadError("reset") if count == 1 else None
                return httpx.Response(200, headers=response.headers, stream=Cut(data, error))
            return response

    limits = RetryLimits(total_s=5.0, first_s=0.01, pause_s_max=0.02)
    async with AsyncClient(
        "http://127.0.0.1", keys.tokens["all"], policy_of(node.chain), retries=limits, transport=Flaky()
    ) as client:
        assert await client.disclosure(QUERY, ARTEFACT.raw) == b"the file"
    assert len(desk.asked) == 4
    assert len({request for _, _, request in desk.asked}) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\x93",
        b"\x00\x00\x00\x01\x01",
        b"".join(len(c).to_bytes(4, "big") + c for c in [canonical.encode([1, "file", b"x"])] * 2),
        (lambda c: len(c).to_bytes(4, "big") + c)(canonical.encode([1, "progress", -1, 0, 0, 0, 0])),
        (lambda c: len(c).to_bytes(4, "big") + c)(canonical.encode([2, "file", b"x"])),
        (lambda c: len(c).to_bytes(4, "big") + c)(canonical.encode([1, "file", "x"])),
    ],
)
async def test_the_client_refuses_other_streams(node: FakeNode, keys: Keys, body: bytes) -> None:
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, content=body, headers={"Content-Type": STREAM})
    )
    async with AsyncClient(
        "http://127.0.0.1", keys.tokens["all"], policy_of(node.chain), transport=transport
    ) as client:
        with pytest.raises(VerificationError) as caught:
            await client.disclosure(QUERY, ARTEFACT.raw)
    assert caught.value.code == "malformed"


# --- what is kept ---------------------------------------------------------------------------


async def test_stored_disclosures(http: httpx.AsyncClient, desk: FakeDesk, client: AsyncClient) -> None:
    desk.kept[CONSENT, 1] = b"kept"
    body = models.Disclosures.model_validate_json((await http.get("/v1/disclosures")).content)
    assert body.disclosures[0].consent == CONSENT.hex()
    (stored,) = await client.disclosures()
    assert (stored.consent, stored.sequence, stored.file_bytes) == (CONSENT, 1, 4)
    assert await client.load_disclosure(CONSENT, 1) == b"kept"
    with pytest.raises(RefusedError, match="disclosure_unknown"):
        await client.load_disclosure(CONSENT, 2)
    assert len(await client.discard_disclosure(CONSENT, 1, reason="repaid")) == 32
    assert (desk.kept, desk.discarded) == ({}, ["repaid"])
    for bad in ({"sequence": 0}, {"consent": "00"}, {"more": 1}, {"sequence": "1"}):
        wrong = {"consent": CONSENT.hex(), "sequence": 1} | bad
        answer = await http.post("/v1/disclosures/load", json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")


async def test_a_node_without_disclosures_says_so(node: FakeNode, keys: Keys) -> None:
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header()
    ) as client:
        for answer in (
            await client.get("/v1/disclosures"),
            await client.post("/v1/dossiers", json=WITH),
            await client.post("/v1/consents/revocations", json={"consent": "00" * 16, "preimage": "00" * 32}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_logs_tell_the_refusal_and_nothing_else(http: httpx.AsyncClient, desk: FakeDesk) -> None:
    root = logging.getLogger()
    before = (root.handlers, root.level)
    stream = io.StringIO()
    configure_logs("info", stream)
    try:
        desk.failure = RefusedError("consent_paused", "no")
        await http.post("/v1/dossiers", json=WITH)
        desk.failure = None
        desk.answers = [progress(0), RefusedError("disclosure_withheld", "10 records came")]
        await http.post("/v1/dossiers", json=WITH, headers={"Accept": STREAM})
        await http.post("/v1/consents/revocations", json={"consent": CONSENT.hex(), "preimage": "ab" * 32})
        body = {"subject": SUBJECT, "public_key": "cd" * 32, "authentication": "by post"}
        await http.post("/v1/subjects", json=body)
        await http.post("/v1/consents", json={"artefact": WITH["consent"]})
    finally:
        root.handlers, root.level = before
        structlog.reset_defaults()
    written = stream.getvalue()
    assert '"problem": "consent_paused"' in written
    assert '"problem": "disclosure_withheld"' in written
    for hidden in (SUBJECT, SUBJECT[-6:], WITH["consent"][:40], "ab" * 32, "cd" * 32, "by post", "2024-01"):  # type: ignore[index]
        assert hidden not in written
