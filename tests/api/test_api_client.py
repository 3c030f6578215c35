"""The client proves what it returns, refuses what is not proved, and tries again where that helps."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import chainkit
import httpx
import pytest
from fakenode import FakeNode, Keys, make_app, policy_bytes, policy_of, record
from world import NOW_MS, World, ask

from taxledger.api.bodies import state_body
from taxledger.api.client import AsyncClient, Client
from taxledger.api.client.core import ClientCore
from taxledger.api.client.shell import http_arguments
from taxledger.api.client.wire import Answer, RetryLimits, TryAgainError, error_of, retry_arguments
from taxledger.api.reader import RecordChange
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError, VerificationError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.query import Query

URL = "http://127.0.0.1"
ONCE = RetryLimits(total_s=0.0)
QUICK = RetryLimits(total_s=5.0, first_s=0.01, pause_s_max=0.02)
QUERY = Query(subject="cumcm:E14", issuer=1, kinds=(5,), from_period="2017-01", to_period="2019-12")


@pytest.fixture
async def client(node: FakeNode, keys: Keys) -> AsyncIterator[AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with AsyncClient(
        URL, keys.tokens["all"], policy_of(node.chain), retries=ONCE, transport=transport
    ) as client:
        yield client


async def test_every_question_is_answered_and_proved(client: AsyncClient, node: FakeNode) -> None:
    chain = node.chain
    assert (await client.checkpoint()).checkpoint == chain.checkpoint(chain.blocks[-1].executed)
    assert await client.policy_file() == policy_bytes(chain)
    assert (await client.status())["height"] == 4
    leaf = chain.blocks[1].executed.leaves[0]
    found = await client.transaction(log_leaf(leaf))
    assert found is not None
    assert (found.raw, found.receipt.index) == (leaf, chain.blocks[1].executed.header.first_index)
    assert 0 <= found.age_ms < 3_600_000
    assert await client.transaction(bytes(32)) is None
    state = await client.state(b"\x06", record(1), record(99))
    assert [len(state.entries[prefix]) for prefix in (b"\x06", record(1), record(99))] == [7, 1, 0]
    assert state.header.height == 4
    node.changes = [
        RecordChange(operation="amend", version=2, status=2, member=5, transaction=bytes(32), height=2,
                     time_ms=7, reason=2, reason_digest=bytes(32))
    ]  # fmt: skip
    assert await client.history(record(1)) == node.changes
    assert await client.dossier(QUERY) == b"evidence"
    assert node.dossiers == [QUERY]


async def test_submitting(client: AsyncClient, node: FakeNode) -> None:
    good = node.chain.sign(chainkit.attest(chainkit.group(50)))
    receipt = await client.submit(good)
    assert (receipt.state, receipt.code, receipt.id) == ("certified", 0, log_leaf(good))
    refused = node.chain.sign(chainkit.attest(chainkit.group(49, 50)))
    receipt = await client.submit(refused)
    assert (receipt.code, receipt.name, receipt.first_refused) == (6, "record_exists", 1)
    pending = await client.submit(node.chain.sign(chainkit.attest(chainkit.group(51))), wait="none")
    assert (pending.state, pending.height) == ("pending", None)
    with pytest.raises(RefusedError) as caught:
        await client.submit(b"\xd2")
    assert caught.value.code == "transaction_malformed"


async def test_a_dossier_is_verified_against_the_policy(node: FakeNode, keys: Keys) -> None:
    world = World()
    query = ask()
    node.evidence = world.evidence(query)
    core = ClientCore(URL, keys.tokens["all"], world.policy, now_ms=lambda: NOW_MS)
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with httpx.AsyncClient(transport=transport, **http_arguments(core, None)) as http:

        async def run(call: Any) -> Any:
            request = call.request
            answer = await http.request(
                request.method, request.path, content=request.content, headers=request.headers
            )
            return call.read(Answer(status=answer.status_code, headers={}, body=answer.content))

        assert (await run(core.verified_dossier(query))).records == world.verify(node.evidence, query).records
        flipped = bytearray(node.evidence)
        flipped[-1] ^= 1
        node.evidence = bytes(flipped)
        with pytest.raises(VerificationError):
            await run(core.verified_dossier(query))


# --- lies -----------------------------------------------------------------------------------


def flip(text: str) -> str:
    return text[:-2] + ("1" if text[-2] != "1" else "2") + text[-1]


def flip_base64(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


def _entry(body: dict[str, Any], prefix: bytes = b"\x06") -> dict[str, Any]:
    """The members, unless another prefix is meant."""
    entry: dict[str, Any] = next(each for each in body["entries"] if each["prefix"] == prefix.hex())
    return entry


def _change_value(entry: dict[str, Any]) -> None:
    entry["pairs"][0][1] = flip_base64(entry["pairs"][0][1])


STATE_LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a member left out": (lambda body: _entry(body)["pairs"].pop(), "prefix_incomplete"),
    "all left out": (lambda body: _entry(body)["pairs"].clear(), "prefix_incomplete"),
    "a whole key left out": (lambda body: _entry(body, record(1))["pairs"].clear(), "prefix_incomplete"),
    "a value changed": (lambda body: _change_value(_entry(body)), "prefix_incomplete"),
    "a whole key's value changed": (
        lambda body: _change_value(_entry(body, record(1))),
        "map_proof_invalid",
    ),
    "a prefix not answered": (lambda body: body["entries"].pop(), "query_mismatch"),
    "another prefix": (lambda body: _entry(body).update(prefix="07"), "query_mismatch"),
    "a prefix twice": (lambda body: body["entries"].append(_entry(body)), "malformed"),
    "the proof": (lambda body: body.update(proof=flip_base64(body["proof"])), "map_proof_invalid"),
    "the header": (lambda body: body.update(header=flip_base64(body["header"])), "header_mismatch"),
    "the path": (
        lambda body: body["inclusion"].__setitem__(0, flip(body["inclusion"][0])),
        "inclusion_invalid",
    ),
    "a shorter path": (lambda body: body["inclusion"].pop(), "inclusion_invalid"),
    "no hex": (lambda body: body["inclusion"].__setitem__(0, "zz"), "malformed"),
    "no base64": (lambda body: body.update(proof="*"), "malformed"),
    "no pairs": (lambda body: _entry(body).update(pairs=[1]), "malformed"),
    "no list": (lambda body: body.update(entries={}), "malformed"),
    "no object": (lambda body: body.update(entries=[1]), "malformed"),
    "no checkpoint": (lambda body: body.pop("checkpoint"), "malformed"),
    "another checkpoint": (
        lambda body: body.update(checkpoint=body["checkpoint"].replace("test.net", "test.com")),
        "policy_mismatch",
    ),
    "one signature less": (
        lambda body: body.update(checkpoint=body["checkpoint"].rsplit("\u2014", 1)[0]),
        "quorum_missing",
    ),
    "no UTF-8": (lambda body: body.update(checkpoint="\ud800"), "malformed"),
}


@pytest.mark.parametrize("lie", STATE_LIES)
async def test_a_lying_node_is_refused(node: FakeNode, lie: str) -> None:
    change, code = STATE_LIES[lie]
    core = ClientCore(URL, "key", policy_of(node.chain))
    call = core.state([b"\x06", record(1)])
    body = state_body(await node.state([b"\x06", record(1)], entries_max=100))
    change(body)
    with pytest.raises(VerificationError) as caught:
        call.read(Answer(status=200, headers={}, body=json.dumps(body).encode()))
    assert caught.value.code == code


async def test_old_certificates_are_refused(client: AsyncClient, node: FakeNode) -> None:
    for call in (client.checkpoint, lambda **more: client.state(b"\x06", **more)):
        with pytest.raises(VerificationError) as caught:
            await call(age_ms_max=1_000)
        assert caught.value.code == "checkpoint_stale"


async def test_an_old_header_under_a_fresh_checkpoint_is_refused(client: AsyncClient, node: FakeNode) -> None:
    honest = node.state
    old = node.chain.blocks[1].executed

    async def lying(prefixes: Any, *, entries_max: int) -> Any:
        answer = await honest(prefixes, entries_max=entries_max)
        return type(answer)(
            checkpoint=answer.checkpoint,
            header=old.header_leaf,
            inclusion=answer.inclusion,
            proof=answer.proof,
            entries=answer.entries,
        )

    node.state = lying  # type: ignore[method-assign]
    with pytest.raises(VerificationError) as caught:
        await client.state(b"\x06")
    assert caught.value.code == "header_mismatch"


async def test_a_transaction_that_is_not_there_is_refused(client: AsyncClient, node: FakeNode) -> None:
    honest = node.transaction
    ids = node.chain.blocks[1].executed.leaf_hashes
    wanted, other = [await honest(id) for id in ids]
    assert wanted is not None
    assert other is not None
    lies = [
        other,
        replace(wanted, raw=other.raw),
        replace(wanted, inclusion=other.inclusion),
        replace(wanted, receipt=replace(wanted.receipt, index=other.receipt.index)),
    ]
    for lie in lies:

        async def lying(id: bytes, lie: Any = lie) -> Any:
            return lie

        node.transaction = lying  # type: ignore[method-assign]
        with pytest.raises(VerificationError) as caught:
            await client.transaction(ids[0])
        assert caught.value.code == "inclusion_invalid"


# --- failures -------------------------------------------------------------------------------


def answer_of(status: int, body: object = None, **headers: str) -> Answer:
    return Answer(status=status, headers=headers, body=json.dumps(body).encode())


def test_problems_as_our_errors() -> None:
    def error(status: int, code: str, **more: str) -> Exception:
        return error_of(answer_of(status, {"code": code, "detail": "d", **more}))

    assert isinstance(error(422, "request_invalid"), InputError)
    for status, code in ((401, "key_unknown"), (403, "custodian_refused"), (422, "answer_too_large")):
        refused = error(status, code)
        assert isinstance(refused, RefusedError)
        assert refused.code == code
    assert getattr(error(422, "refused", reason="new_rule"), "code", None) == "new_rule"
    for status, code in ((503, "unavailable"), (429, "streams_exhausted"), (502, ""), (504, "x")):
        assert isinstance(error(status, code), TryAgainError)
    for status, code in ((500, "internal"), (404, "x"), (403, "not_found"), (418, "")):
        assert type(error(status, code)) is UnavailableError
    for body in (None, [], "x", {"code": 5, "detail": 5}):
        assert type(error_of(answer_of(404, body))) is UnavailableError
    again = error_of(answer_of(503, {}, **{"retry-after": "3"}))
    assert isinstance(again, TryAgainError)
    assert again.after_s == 3.0


def test_pauses_grow_are_bounded_and_honour_retry_after() -> None:
    class Outcome:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def exception(self) -> Exception:
            return self.error

    class State:
        outcome = Outcome(TryAgainError("x", 0.5))
        attempt_number = 30

    wait = retry_arguments(RetryLimits(pause_s_max=2.0))["wait"]
    for _ in range(50):
        assert 0.5 <= wait(State()) <= 2.0
    State.outcome = Outcome(TryAgainError("x", 9_999.0))
    assert wait(State()) == 2.0


async def test_a_post_is_repeated_with_its_key(node: FakeNode, keys: Keys) -> None:
    inner = httpx.ASGITransport(app=make_app(node, keys))
    seen: list[str] = []

    class Flaky(httpx.AsyncBaseTransport):
        """The answer is lost twice: once before the node, once after it."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request.headers["idempotency-key"])
            if len(seen) == 1:
                raise httpx.ConnectError("refused")
            response = await inner.handle_async_request(request)
            if len(seen) == 2:
                await response.aread()
                raise httpx.ReadError("reset")
            if len(seen) == 3:
                return httpx.Response(502, text="<html>")
            return response

    raw = node.chain.sign(chainkit.attest(chainkit.group(60)))
    async with AsyncClient(
        URL, keys.tokens["all"], policy_of(node.chain), retries=QUICK, transport=Flaky()
    ) as client:
        receipt = await client.submit(raw)
        await client.dossier(QUERY)
    assert receipt.code == 0
    assert node.submitted == [raw]
    assert len(seen) == 5
    assert len(set(seen[:4])) == 1
    assert seen[4] != seen[0]


@pytest.mark.parametrize(
    ("answer", "error", "attempts"),
    [
        (httpx.Response(503), UnavailableError, 2),
        (httpx.Response(500), UnavailableError, 1),
        (httpx.Response(302), UnavailableError, 1),
        (httpx.Response(200, content=b"x" * 20_000), UnavailableError, 1),
        (httpx.Response(200, content=b"no note"), VerificationError, 1),
        (httpx.Response(401, json={"code": "key_unknown", "detail": ""}), RefusedError, 1),
    ],
)
def test_when_it_gives_up(
    node: FakeNode, answer: httpx.Response, error: type[Exception], attempts: int
) -> None:
    count = 0

    def handle(_request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

    limits = RetryLimits(total_s=0.15, first_s=0.01, pause_s_max=0.02)
    transport = httpx.MockTransport(handle)
    begun = time.monotonic()
    with (
        Client(URL, "key", policy_of(node.chain), retries=limits, transport=transport) as client,
        pytest.raises(error),
    ):
        client.checkpoint()
    assert time.monotonic() - begun < 3
    assert count >= attempts if attempts > 1 else count == 1


async def test_no_connection_is_unavailable(node: FakeNode) -> None:
    async with AsyncClient("http://127.0.0.1:9", "key", policy_of(node.chain), retries=ONCE) as client:
        with pytest.raises(UnavailableError, match="ConnectError"):
            await client.checkpoint()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8401",
        "ftp://127.0.0.1",
        "http://10.0.0.1",
        "http://example.org",
        "http://127.0.0.1.example.org",
        "https://",
        "https://user:pass@example.org",
        "https://example.org/path",
        "https://example.org?x=1",
        "https://example.org:port",
        "http://[::1",
    ],
)
def test_bad_addresses(node: FakeNode, url: str) -> None:
    with pytest.raises(InputError):
        ClientCore(url, "key", policy_of(node.chain))


def test_good_addresses(node: FakeNode) -> None:
    for url in ("http://127.0.0.1:1", "http://[::1]:1/", "http://localhost", "https://node.example.org:8443"):
        assert ClientCore(url, "key", policy_of(node.chain)).base_url == url.rstrip("/")
    for key in ("", "a b", "ä", "a\nb"):
        with pytest.raises(InputError):
            ClientCore("https://x", key, policy_of(node.chain))


def test_the_client_needs_neither_server_nor_store() -> None:
    missing = ("fastapi", "starlette", "uvicorn", "pydantic", "plyvel", "structlog", "prometheus_client")
    code = (
        f"import sys\nfor name in {missing}:\n    sys.modules[name] = None\n"
        "import taxledger.api.client, taxledger.api.auth, taxledger.api.reader, taxledger.api.problems\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
