"""Every route answers what its model says; every answer carries what proves it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import chainkit
import httpx
import pytest
from fakenode import FAST, FakeNode, Keys, make_app, policy_bytes, policy_of, record
from fastapi.routing import APIRoute

from taxledger.api import (
    models,
    routes_consents,
    routes_disclosures,
    routes_ledger,
    routes_node,
    routes_pledges,
    routes_post,
)
from taxledger.api.reader import RecordChange
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.statemap.proof import verify_prefixes

ROUTES = [
    (method, route.path)
    for module in (
        *(routes_node, routes_ledger, routes_post),
        *(routes_consents, routes_disclosures, routes_pledges),
    )
    for route in module.router.routes
    if isinstance(route, APIRoute)
    for method in route.methods
] + [("GET", "/v1/openapi.json")]


def some_transaction(node: FakeNode) -> bytes:
    return node.chain.sign(chainkit.attest(chainkit.group(77, tag=9)))


async def test_health_needs_no_key(node: FakeNode, keys: Keys) -> None:
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        answer = await client.get("/health")
    assert models.Health.model_validate_json(answer.content).status == "ok"


async def test_ready_follows_the_node(http: httpx.AsyncClient, node: FakeNode) -> None:
    assert models.Ready.model_validate_json((await http.get("/ready")).content).height == 4
    node.ready = False
    answer = await http.get("/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_status(http: httpx.AsyncClient, node: FakeNode) -> None:
    body = models.StatusBody.model_validate_json((await http.get("/v1/status")).content)
    assert body.height == 4
    assert body.log_root == node.chain.tip.frontier.root.hex()
    assert body.state_root == node.chain.view.root.hex()


async def test_checkpoint_and_policy_are_the_files_bytes(http: httpx.AsyncClient, node: FakeNode) -> None:
    answer = await http.get("/v1/checkpoint")
    assert answer.content == node.note()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await http.get("/v1/policy")).content == policy_bytes(node.chain)


async def test_policy_links_are_asked_for_by_a_hash(http: httpx.AsyncClient, node: FakeNode) -> None:
    known = policy_of(node.chain).validators_hash.hex()
    answer = await http.get("/v1/policy/links", params={"from": known})
    assert answer.content == b"links"
    assert answer.headers["content-type"] == "application/vnd.taxledger.policy-links"
    answer = await http.get("/v1/policy/links", params={"from": "00" * 32})
    assert (answer.status_code, answer.json()["code"]) == (404, "policy_unknown")
    assert (await http.get("/v1/policy/links", params={"from": "00"})).status_code == 422
    assert (await http.get("/v1/policy/links")).status_code == 422


async def test_transaction_by_id(http: httpx.AsyncClient, node: FakeNode) -> None:
    executed = node.chain.blocks[1].executed
    for offset, leaf in enumerate(executed.leaves):
        answer = await http.get(f"/v1/transactions/{log_leaf(leaf).hex()}")
        body = models.TransactionBody.model_validate_json(answer.content)
        assert base64.b64decode(body.transaction) == leaf
        assert (body.receipt.code, body.receipt.name) == ((0, "ok"), (6, "record_exists"))[offset]
        assert body.receipt.first_refused == (None, 0)[offset]
    answer = await http.get(f"/v1/transactions/{'00' * 32}")
    assert (answer.status_code, answer.json()["code"]) == (404, "transaction_unknown")


async def test_nothing_uncertified_is_shown(http: httpx.AsyncClient, node: FakeNode) -> None:
    raw = some_transaction(node)
    node.chain.add(raw)  # decided, not certified
    assert (await http.get(f"/v1/transactions/{log_leaf(raw).hex()}")).status_code == 404
    assert (await http.get("/v1/status")).json()["height"] == 4


async def test_state_of_a_key_present_and_absent(http: httpx.AsyncClient, node: FakeNode) -> None:
    for rid, present in ((1, True), (99, False)):
        answer = await http.get(f"/v1/state/{record(rid).hex()}")
        body = models.StateBody.model_validate_json(answer.content, strict=False)
        entries = {
            bytes.fromhex(entry.prefix): [(bytes.fromhex(k), base64.b64decode(v)) for k, v in entry.pairs]
            for entry in body.entries
        }
        verify_prefixes(node.chain.view.root, entries, base64.b64decode(body.proof))
        assert bool(entries[record(rid)]) is present


async def test_state_under_prefixes(http: httpx.AsyncClient, node: FakeNode) -> None:
    answer = await http.get("/v1/state", params=[("prefix", "06"), ("prefix", "0805"), ("prefix", "06")])
    body = answer.json()
    assert [entry["prefix"] for entry in body["entries"]] == ["06", "0805"]
    assert len(body["entries"][0]["pairs"]) == len(node.chain.genesis.members)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "request_invalid"),
        ("prefix=", "request_invalid"),
        ("prefix=0", "request_invalid"),
        ("prefix=0G", "request_invalid"),
        ("prefix=AA", "request_invalid"),
        ("prefix=ff", "request_invalid"),
        ("prefix=06000100", "request_invalid"),
        ("prefix=06&prefix=0600", "request_invalid"),
        ("prefix=" + "01" * 41, "request_invalid"),
        ("&".join(f"prefix=0600{n:02x}" for n in range(256)) + "&prefix=07", "request_invalid"),
    ],
)
async def test_bad_prefixes(http: httpx.AsyncClient, query: str, code: str) -> None:
    answer = await http.get(f"/v1/state?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_answer_too_large(node: FakeNode, keys: Keys) -> None:
    app = make_app(node, keys, settings=type(FAST)(state_entries_max=3))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://node", headers=keys.header()
    ) as client:
        answer = await client.get("/v1/state?prefix=06")
    assert (answer.status_code, answer.json()["code"]) == (422, "answer_too_large")


async def test_tiles(http: httpx.AsyncClient, node: FakeNode) -> None:
    size = node.chain.tip.frontier.size
    answer = await http.get(f"/v1/tile/0/000.p/{size}")
    assert answer.content == b"".join(node.chain.log_nodes[0, index] for index in range(size))
    assert "immutable" in answer.headers["cache-control"]
    for path, code in (("0/000", "tile_unknown"), ("0/0", "request_invalid"), ("x", "request_invalid")):
        assert (await http.get(f"/v1/tile/{path}")).json()["code"] == code


async def test_submit_waits_until_it_is_certified(http: httpx.AsyncClient, node: FakeNode) -> None:
    raw = some_transaction(node)
    answer = await http.post("/v1/transactions", content=raw, headers={"Content-Type": "application/cose"})
    body = models.ReceiptBody.model_validate_json(answer.content)
    assert (answer.status_code, body.state, body.code, body.name, body.height) == (
        200,
        "certified",
        0,
        "ok",
        5,
    )
    assert body.id == log_leaf(raw).hex()
    assert body.checkpoint == node.note().decode()


async def test_submit_as_json_and_without_waiting(http: httpx.AsyncClient, node: FakeNode) -> None:
    raw = some_transaction(node)
    answer = await http.post(
        "/v1/transactions?wait=none", json={"transaction": base64.b64encode(raw).decode()}
    )
    body = models.ReceiptBody.model_validate_json(answer.content)
    assert (answer.status_code, body.state, body.height) == (202, "pending", None)
    assert node.submitted == [raw]


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"", "application/cose", 400, "transaction_malformed"),
        (b"\xd2\x84", "application/cose", 400, "transaction_malformed"),
        (b"x" * 65_536, "application/cose", 400, "transaction_malformed"),
        (b"x", "text/plain", 415, "media_type_unsupported"),
        (b"{", "application/json", 400, "malformed"),
        (b"\xff\xfe", "application/json", 400, "malformed"),
        (b"[]", "application/json", 422, "request_invalid"),
        (b'{"transaction": 5}', "application/json", 422, "request_invalid"),
        (b'{"transaction": "0oR", "x": 1}', "application/json", 422, "request_invalid"),
        (b'{"transaction": "0o*E"}', "application/json", 400, "malformed"),
        (
            b'{"transaction": "0oR="}',
            "application/json",
            400,
            "malformed",
        ),  # bits beyond the end are not zero
    ],
)
async def test_bad_submissions(
    http: httpx.AsyncClient, content: bytes, media_type: str, status: int, code: str
) -> None:
    answer = await http.post("/v1/transactions", content=content, headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


ASKED = {"subject": "cumcm:E14", "issuer": 1, "kinds": [5, 2, 5], "from": "2017-01", "to": "2019-12"}


async def test_own_dossier(http: httpx.AsyncClient, node: FakeNode) -> None:
    answer = await http.post("/v1/dossiers", json=ASKED)
    assert (answer.status_code, answer.content) == (200, b"evidence")
    assert answer.headers["content-type"] == "application/vnd.taxledger.evidence"
    (query,) = node.dossiers
    assert query.as_list() == ["cumcm:E14", 1, [2, 5], "2017-01", "2019-12"]


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "E14"},
        {"subject": "unknown:E14"},
        {"subject": "x" * 300},
        {"issuer": 0},
        {"issuer": "5"},
        {"kinds": []},
        {"kinds": [256]},
        {"from": "2017-13"},
        {"from": "2020-01"},
        {"to": "2019"},
        {"more": 1},
    ],
)
async def test_bad_dossier_requests(http: httpx.AsyncClient, change: dict[str, object]) -> None:
    answer = await http.post("/v1/dossiers", json=ASKED | change)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert "E14" not in answer.text


async def test_history(http: httpx.AsyncClient, node: FakeNode) -> None:
    key = record(1).hex()
    answer = await http.post("/v1/records/history", json={"key": key})
    assert (answer.status_code, answer.json()["code"]) == (404, "record_unknown")
    node.changes = [
        RecordChange(
            operation="attest", version=1, status=1, member=5, transaction=bytes(32), height=2, time_ms=7
        )
    ]
    answer = await http.post("/v1/records/history", json={"key": key})
    assert models.History.model_validate_json(answer.content).changes[0].operation == "attest"
    answer = await http.post("/v1/records/history", json={"key": "06" * 37})
    assert answer.json()["code"] == "request_invalid"


async def test_export_and_openapi(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/export")).content == b"taxledger/1/arc\nframes"
    document = (await http.get("/v1/openapi.json")).json()
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(method, path.replace(":path", "")) for method, path in ROUTES}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (method, path)
            assert ("security" in operation) is (path != "/health"), path
            if method == "post":
                for content in operation["requestBody"]["content"].values():
                    assert "examples" in content["schema"] or content["schema"]["format"] == "binary"


def test_docs_list_the_same_routes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(GET|POST) ([^`?]+)[^`]*` \|", text, re.MULTILINE))
    assert listed == {(method, path.replace(":path", "")) for method, path in ROUTES}
