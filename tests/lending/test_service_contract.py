"""The service's contract: every route of its OpenAPI needs its scope, and refuses what is malformed in one form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi.routing import APIRoute
from servicekit import SCOPES, NamedCallers, Service, application, offered, running

from taxledger.lending.service.access import Caller
from taxledger.lending.service.problems import PROBLEMS

READ_ALL = {"lend_apply", "lend_officer", "lend_core"}
ENTERPRISE = {"lend_apply", "lend_officer"}
ALLOWED = {
    ("POST", "/v1/applications"): ENTERPRISE,
    ("GET", "/v1/loans"): ENTERPRISE,
    ("GET", "/v1/loans/{loan}"): READ_ALL,
    ("POST", "/v1/loans/{loan}/retry"): ENTERPRISE,
    ("POST", "/v1/loans/{loan}/consent"): ENTERPRISE,
    ("GET", "/v1/loans/{loan}/offer"): ENTERPRISE,
    ("POST", "/v1/loans/{loan}/acceptance"): ENTERPRISE,
    ("POST", "/v1/loans/{loan}/draws"): ENTERPRISE,
    ("POST", "/v1/loans/{loan}/repayments"): {"lend_core"},
    ("POST", "/v1/loans/{loan}/close"): {"lend_officer"},
    ("GET", "/v1/loans/{loan}/decision"): ENTERPRISE,
    ("GET", "/v1/loans/{loan}/report.html"): {"lend_officer"},
    ("GET", "/v1/loans/{loan}/report.pdf"): {"lend_officer"},
    ("GET", "/v1/loans/{loan}/archive"): {"lend_officer"},
    ("GET", "/v1/alerts"): {"lend_officer"},
    ("GET", "/v1/products"): READ_ALL,
    ("GET", "/v1/products/{product}"): READ_ALL,
    ("GET", "/v1/openapi.json"): READ_ALL,
}
"""Whoever adds a route decides here."""

MARK = "s3cret-mark"
"""Stands in what is sent, and may stand in no answer."""


def described(service: Service) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in service.app.openapi()["paths"].items():
        for method, route in methods.items():
            yield method.upper(), path, route


def path_of(template: str, loan: str) -> str:
    return template.replace("{loan}", loan).replace("{product}", "invoice")


def check_problem(answer: httpx.Response, route: dict[str, Any] | None = None) -> str:
    """The code of a problem of the table, documented for the route, which quotes nothing."""
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.headers["x-request-id"]
    assert MARK not in answer.text
    assert "Traceback" not in answer.text
    body = answer.json()
    status, title, title_zh = PROBLEMS[body["code"]]
    assert (answer.status_code, body["status"]) == (status, status)
    assert (body["title"], body["title_zh"]) == (title, title_zh)
    if route is not None:
        assert f"`{body['code']}`" in route["responses"][str(status)]["description"], body
    return str(body["code"])


async def test_every_route_needs_a_key_with_its_scope(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service:
        loan = await offered(service)
        callers = service.app.state.context.callers
        assert isinstance(callers, NamedCallers)
        for scope in SCOPES:
            callers.known[scope] = Caller(key="00000009", name="cloud", scopes=frozenset({scope}))
        routes = [each for each in described(service) if each[1] != "/healthz"]
        assert {each[:2] for each in routes} == set(ALLOWED)
        async with service.http() as http:
            assert (await http.get("/healthz")).json() == {"status": "ok"}
            for method, template, _route in routes:
                path = path_of(template, loan)

                async def ask(authorization: str | None, method: str = method, path: str = path) -> Any:
                    headers = {} if authorization is None else {"Authorization": authorization}
                    # No body: a route that looked at it before the key would answer 415.
                    return await http.request(method, path, headers=headers)

                for wrong in (None, "", "Bearer", "Bearer ", "cloud", "Basic cloud"):
                    answer = await ask(wrong)
                    assert check_problem(answer) == "key_missing"
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                assert check_problem(await ask("Bearer nobody")) == "key_unknown"
                for scope in SCOPES:
                    answer = await ask(f"Bearer {scope}")
                    if scope in ALLOWED[method, template]:
                        assert answer.status_code not in (401, 403), (path, scope, answer.text)
                    else:
                        assert check_problem(answer) == "scope_missing", (path, scope)


async def test_no_route_is_without_a_scope(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service:
        for route in service.app.routes:
            if isinstance(route, APIRoute) and route.path != "/healthz":
                assert any(hasattr(each.dependency, "scopes") for each in route.dependencies), route.path


WRONG_VALUES = (
    None,
    True,
    1.5,
    -1,
    10**30,
    "",
    MARK,
    f"{MARK}\u0000",
    "中",
    "1e3",
    "-1.00",
    "1,000.00",
    "0.001",
    "2024-02-30",
    [],
    [MARK] * 65,
    {"surplus": MARK},
    "A" * 5_000,
    "////",
)


def wrong_bodies(example: dict[str, Any]) -> Iterator[bytes]:
    """Bodies that no route takes, or that no loan in its state does."""
    yield from (
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"[" * 20_000,
        b"\xff\xfe",
        b'{"a":1}',
        b"NaN",
        b'{"a":1,"a":2}',
    )
    yield json.dumps({**example, "surplus": MARK}).encode()
    for name in example:
        yield json.dumps({each: example[each] for each in example if each != name}).encode()
        for value in WRONG_VALUES:
            yield json.dumps({**example, name: value}).encode()


async def test_malformed_bodies_are_problems_and_change_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service:
        loan = await offered(service)
        before = service.desk.store.events(loan)
        asked = 0
        for method, template, route in described(service):
            if "requestBody" not in route:
                continue
            schema = route["requestBody"]["content"]["application/json"]["schema"]
            token = "core" if template.endswith("repayments") else "cloud"
            async with service.http(token) as http:
                path, sent = path_of(template, loan), {"Content-Type": "application/json"}
                for body in wrong_bodies(schema["examples"][0]):
                    answer = await http.request(method, path, content=body, headers=sent)
                    assert check_problem(answer, route) not in ("not_found", "method_not_allowed"), body[:80]
                    asked += 1
                text = await http.request(method, path, content=b"{}", headers={"Content-Type": "text/plain"})
                assert check_problem(text, route) == "media_type_unsupported"
                large = b" " * (256 * 1024 + 1)
                answer = await http.request(method, path, content=large, headers=sent)
                assert check_problem(answer, route) == "body_too_large"
                named = {**sent, "Idempotency-Key": "x" * 129}
                answer = await http.request(method, path, content=b"{}", headers=named)
                assert check_problem(answer, route) in ("request_invalid", "malformed")
        assert asked > 200
        assert service.desk.store.events(loan) == before
        assert len(service.desk.store.list()) == 1


WRONG_PATHS = (
    ("/v1/loans/%00", "request_invalid"),
    ("/v1/loans/L-", "loan_unknown"),
    ("/v1/loans/" + "L" * 29, "request_invalid"),
    ("/v1/loans/s3cret-mark%20", "request_invalid"),
    ("/v1/loans/中", "request_invalid"),
    ("/v1/loans/../keys", "not_found"),
    ("/v1/loans?state=s3cret-mark", "request_invalid"),
    ("/v1/loans?limit=0", "request_invalid"),
    ("/v1/loans?limit=1001", "request_invalid"),
    ("/v1/loans?limit=1_0", "request_invalid"),
    ("/v1/loans/L1?wait=s3cret-mark", "request_invalid"),
    ("/v1/loans/L1?timeout_s=61", "request_invalid"),
    ("/v1/loans/L1?timeout_s=-1", "request_invalid"),
    ("/v1/loans/L1/report.html?language=s3cret-mark", "request_invalid"),
    ("/v1/loans/L1/report.docx", "not_found"),
    ("/v1/loans/L1/archive", "loan_unknown"),
    ("/v1/loans/L1/decision", "loan_unknown"),
    ("/v1/loans/L1/retry", "method_not_allowed"),
    ("/v1/alerts?loan=%27%20OR%201", "request_invalid"),
    ("/v1/products/housing", "product_unknown"),
    ("/v1/products/..%2fkeys", "not_found"),
    ("/docs", "not_found"),
    ("/openapi.json", "not_found"),
)


async def test_malformed_paths_and_parameters_are_problems(tmp_path: Path) -> None:
    service = Service(tmp_path / "desk")
    try:
        async with service.http("officer") as http:
            for path, code in WRONG_PATHS:
                assert check_problem(await http.get(path)) == code, path
    finally:
        service.close()


async def test_what_is_not_there_yet_is_said(tmp_path: Path) -> None:
    service = Service(tmp_path / "desk")  # its worker does not run: nothing goes on
    try:
        async with service.http("officer") as http:
            loan = (await http.post("/v1/applications", json=application())).json()["loan"]
            for path, code in (
                ("decision", "loan_undecided"),
                ("report.pdf", "loan_undecided"),
                ("offer", "offer_missing"),
            ):
                assert check_problem(await http.get(f"/v1/loans/{loan}/{path}")) == code
    finally:
        service.close()


def test_the_document_lists_every_problem_and_every_route(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "lending.md").read_text("utf-8")
    service = Service(tmp_path / "desk")
    service.close()
    for code, (status, title, title_zh) in PROBLEMS.items():
        assert f"| `{code}` | {status} | {title} {title_zh} |" in text, code
    rows = re.findall(r"^\| `(GET|POST) ([^`?]+)", text, re.MULTILINE)
    assert {(method, path) for method, path in rows} >= {*ALLOWED, ("GET", "/healthz")}
