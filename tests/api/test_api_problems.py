"""Every error is a problem of the table, which the docs repeat; no traceback, no echo of what was sent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from fakenode import FakeNode, Keys, make_app
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxledger.api import models
from taxledger.api.problems import PROBLEMS, ProblemError, problem_of
from taxledger.ledger.errors import (
    EncodingError,
    FormatError,
    InvariantError,
    LimitError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
    VerificationError,
)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    body: dict[str, object] = answer.json()
    models.ProblemBody.model_validate(body)
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["instance"] == f"urn:taxledger:request:{answer.headers['x-request-id']}"
    assert body["type"] == f"/problems/{code}"
    assert body["title"] == PROBLEMS[code].title
    assert "Traceback" not in answer.text
    return body


def test_the_docs_have_the_same_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    section = text.partition("## Problems")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| ([^|]+) \| (yes)? ?\|", section, re.MULTILINE)
    assert rows == [
        (row.code, str(row.status), row.title, "yes" if row.retry else "") for row in PROBLEMS.values()
    ]


def test_the_docs_have_the_same_events() -> None:
    from taxledger.api.events import EVENT_TYPES

    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    assert dict(re.findall(r"^\| `(taxledger\.[\w.]+)` \| ([^|]+) \|", text, re.MULTILINE)) == EVENT_TYPES


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProblemError("tile_unknown", "x"), "tile_unknown"),
        (RefusedError("custodian_refused", "no"), "custodian_refused"),
        (RefusedError("something_new", "no"), "refused"),
        (LimitError("large"), "request_invalid"),
        (EncodingError("bad"), "malformed"),
        (FormatError("bad"), "request_invalid"),
        (UnavailableError("later"), "unavailable"),
        (VerificationError("header_mismatch", "secret"), "internal"),
        (TaxledgerError("secret"), "internal"),
    ],
)
async def test_errors_of_a_node_as_problems(
    http: httpx.AsyncClient, node: FakeNode, error: TaxledgerError, code: str
) -> None:
    assert problem_of(error).code == code
    node.failure = error
    answer = await http.get("/v1/checkpoint")
    body = assert_problem(answer, PROBLEMS[code].status, code)
    assert "secret" not in answer.text
    if code == "refused":
        assert body["reason"] == "something_new"
    assert ("retry-after" in answer.headers) is PROBLEMS[code].retry


async def test_a_bug_is_an_internal_problem_without_its_message(
    http: httpx.AsyncClient, node: FakeNode
) -> None:
    node.failure = ValueError("cumcm:E14")
    answer = await http.post("/v1/dossiers", json={
        "subject": "cumcm:E14", "issuer": 1, "kinds": [5], "from": "2017-01", "to": "2017-02"
    })  # fmt: skip
    assert_problem(answer, 500, "internal")
    assert "E14" not in answer.text


async def test_a_broken_invariant_is_handed_on(node: FakeNode, keys: Keys) -> None:
    seen: list[InvariantError] = []
    node.failure = InvariantError("log and header disagree")
    transport = httpx.ASGITransport(app=make_app(node, keys, on_invariant=seen.append))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header()
    ) as client:
        assert_problem(await client.get("/v1/status"), 500, "internal")
    assert seen == [node.failure]


async def test_framework_errors_are_problems_too(http: httpx.AsyncClient) -> None:
    assert_problem(await http.get("/v1/none"), 404, "not_found")
    assert_problem(await http.get("/docs"), 404, "not_found")
    assert_problem(await http.get("/openapi.json"), 404, "not_found")
    answer = await http.delete("/v1/status")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"
    body = assert_problem(await http.post("/v1/transactions?wait=soon", content=b""), 422, "request_invalid")
    assert body["errors"] == [{"field": "query.wait", "reason": "literal_error"}]
    assert_problem(await http.get("/v1/events?after=x"), 422, "request_invalid")
    assert_problem(await http.get("/v1/events", headers={"Last-Event-ID": "9" * 41}), 422, "request_invalid")


@pytest.mark.parametrize("path", ["/v1/transactions", "/v1/dossiers", "/v1/records/history"])
async def test_a_large_body_is_refused_whether_announced_or_not(http: httpx.AsyncClient, path: str) -> None:
    large = b"x" * (128 * 1024 + 1)

    async def pieces():  # type: ignore[no-untyped-def]
        for at in range(0, len(large), 4_096):
            yield large[at : at + 4_096]

    headers = {"Content-Type": "application/json"}
    assert_problem(await http.post(path, content=large, headers=headers), 413, "body_too_large")
    assert_problem(await http.post(path, content=pieces(), headers=headers), 413, "body_too_large")
    lying = headers | {"Content-Length": "9" * 40}
    assert_problem(await http.post(path, content=b"x", headers=lying), 413, "body_too_large")


async def test_every_answer_has_its_headers(http: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/status", "/v1/none"):
        headers = (await http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
    sent = {"X-Request-Id": "bank-core-0001"}
    assert (await http.get("/health", headers=sent)).headers["x-request-id"] == "bank-core-0001"
    sent = {"X-Request-Id": 'x"\n'.replace("\n", "") * 20}
    assert (await http.get("/health", headers=sent)).headers["x-request-id"] != sent["X-Request-Id"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(["subject", "issuer", "kinds", "from", "to", "key", "transaction"]), JSON, max_size=7
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    path=st.sampled_from(
        ["/v1/transactions", "/v1/transactions?wait=none", "/v1/dossiers", "/v1/records/history"]
    ),
    body=st.binary(max_size=300) | FIELDS.map(lambda value: json.dumps(value).encode()),
    media_type=st.sampled_from(["application/json", "application/cose", "text/plain", ""]),
)
async def test_any_body_gets_an_answer_of_ours(
    http: httpx.AsyncClient, path: str, body: bytes, media_type: str
) -> None:
    answer = await http.post(path, content=body, headers={"Content-Type": media_type})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert_problem(answer, answer.status_code, answer.json()["code"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    path=st.sampled_from(["/v1/state/", "/v1/transactions/", "/v1/tile/", "/v1/state?prefix="]),
    rest=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="?#&/\\"), max_size=60)
    | st.binary(max_size=40).map(bytes.hex),
)
async def test_any_path_gets_an_answer_of_ours(http: httpx.AsyncClient, path: str, rest: str) -> None:
    answer = await http.get(path + rest)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert_problem(answer, answer.status_code, answer.json()["code"])
