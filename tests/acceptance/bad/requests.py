"""Bad requests to the API of a running node."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kit import SUBJECT

__all__ = ["REQUESTS", "Request", "judge_answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the API, and the problem that has to come back."""

    what: str
    method: str = "GET"
    path: str
    body: bytes = b""
    headers: dict[str, str]
    keyed: bool = True
    status: int
    code: str

    def send(self, home: Path) -> tuple[int, str, dict[str, Any]]:
        """(status, content type, the JSON document)."""
        access = json.loads((home / "client.json").read_bytes())
        parts = urllib.parse.urlsplit(access["url"])
        headers = {"Authorization": f"Bearer {access['key']}", **self.headers} if self.keyed else self.headers
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request(self.method, self.path, body=self.body or None, headers=headers)
            answer = connection.getresponse()
            content = answer.read(1 << 20)
            return answer.status, answer.headers.get("Content-Type", ""), json.loads(content or b"{}")
        finally:
            connection.close()


def judge_answer(request: Request, status: int, media_type: str, document: dict[str, Any]) -> str:
    """What is wrong with the answer to a bad request; "" when nothing is."""
    if (status, document.get("code")) != (request.status, request.code):
        return f"{status} {document}, not {request.status} {request.code}"
    if not media_type.startswith("application/problem+json"):
        return f"content type {media_type}"
    missing = {"type", "title", "status", "detail", "instance"} - set(document)
    return f"without {missing}" if missing else ""


def _bad(what: str, path: str, status: int, code: str, **more: Any) -> Request:
    return Request(what=what, path=path, status=status, code=code, **{"headers": {}, **more})


def _post(what: str, path: str, body: object, status: int, code: str, **headers: str) -> Request:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return Request(what=what, method="POST", path=path, body=content, headers=sent, status=status, code=code)


_DOSSIER: dict[str, object] = {
    "subject": SUBJECT,
    "issuer": 1,
    "kinds": [5],
    "from": "2024-01",
    "to": "2024-12",
}

REQUESTS: tuple[Request, ...] = (
    _bad("no API key", "/v1/status", 401, "key_missing", keyed=False),
    _bad("a wrong API key", "/v1/status", 401, "key_unknown", headers={"Authorization": "Bearer tl_x_y"}),
    _bad("another scheme", "/v1/status", 401, "key_missing", headers={"Authorization": "Basic eDp5"}),
    _bad("a route that is none", "/v1/invoices", 404, "not_found"),
    _bad("another method", "/v1/checkpoint", 405, "method_not_allowed", method="DELETE"),
    _bad("a transaction id of words", "/v1/transactions/first", 422, "request_invalid"),
    _bad("a transaction that is not there", "/v1/transactions/" + "00" * 32, 404, "transaction_unknown"),
    _bad("half a byte of a key", "/v1/state/060", 422, "request_invalid"),
    _bad("a key of words", "/v1/state/tax", 422, "request_invalid"),
    _bad("no prefix", "/v1/state", 422, "request_invalid"),
    _bad("a prefix too long", "/v1/state?prefix=" + "00" * 64, 422, "request_invalid"),
    _bad("events after a word", "/v1/events?after=yesterday", 422, "request_invalid"),
    _bad("a Last-Event-ID of words", "/v1/events", 422, "request_invalid", headers={"Last-Event-ID": "x-y"}),
    _bad("a tile beyond the log", "/v1/tile/0/x999/999", 404, "tile_unknown"),
    _bad("a tile of words", "/v1/tile/zero/one", 422, "request_invalid"),
    _post("no JSON", "/v1/dossiers", b"{", 400, "malformed"),
    _post("JSON of noise", "/v1/dossiers", b"\xff\xfe", 400, "malformed"),
    _post("a list", "/v1/dossiers", [], 422, "request_invalid"),
    _post("nothing asked", "/v1/dossiers", {}, 422, "request_invalid"),
    _post("an unknown field", "/v1/dossiers", {**_DOSSIER, "colour": "red"}, 422, "request_invalid"),
    _post(
        "a subject of another scheme", "/v1/dossiers", {**_DOSSIER, "subject": "x:1"}, 422, "request_invalid"
    ),
    _post("a month 13", "/v1/dossiers", {**_DOSSIER, "to": "2024-13"}, 422, "request_invalid"),
    _post("the last month first", "/v1/dossiers", {**_DOSSIER, "from": "2025-01"}, 422, "request_invalid"),
    _post("a hundred years", "/v1/dossiers", {**_DOSSIER, "from": "1924-01"}, 422, "request_invalid"),
    _post("a kind that is none", "/v1/dossiers", {**_DOSSIER, "kinds": [0]}, 422, "request_invalid"),
    _post("no consent", "/v1/dossiers", _DOSSIER, 403, "consent_missing"),
    _post("an issuer who is none", "/v1/dossiers", {**_DOSSIER, "issuer": 9}, 403, "consent_missing"),
    _post(
        "another content type", "/v1/dossiers", b"x", 415, "media_type_unsupported", Content_Type="text/csv"
    ),
    _post("a body too large", "/v1/dossiers", b" " * 200_000, 413, "body_too_large"),
    _post(
        "a bad Idempotency-Key",
        "/v1/dossiers",
        _DOSSIER,
        400,
        "idempotency_key_invalid",
        Idempotency_Key="x" * 200,
    ),
    _post(
        "no transaction",
        "/v1/transactions",
        b"hello",
        400,
        "transaction_malformed",
        Content_Type="application/cose",
    ),
    _post("no base64", "/v1/transactions", {"transaction": "***"}, 400, "malformed"),
    _post("a record key of words", "/v1/records/history", {"key": "invoice"}, 422, "request_invalid"),
    _post(
        "a record that is not there",
        "/v1/records/history",
        {"key": "01000105" + "00" * 33},
        404,
        "record_unknown",
    ),
)
