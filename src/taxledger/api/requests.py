"""What routes share: the context of an application, keys and scopes, bodies, path parts, answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.responses import Response

from taxledger.api.auth import KeySource
from taxledger.api.custody import Custody, Disclosures
from taxledger.api.idempotency import Answer, IdempotencyStore, check_key
from taxledger.api.parsing import base64_bytes, media_type_of, parse_body
from taxledger.api.pledging import Pledging
from taxledger.api.problems import PROBLEMS, ProblemError
from taxledger.api.reader import NodeReader
from taxledger.api.stream import StreamSlots

__all__ = [
    "ApiSettings",
    "Context",
    "answer_fresh",
    "answer_once",
    "base64_bytes",
    "context_of",
    "hex_bytes",
    "media_type_of",
    "needs",
    "parse_body",
    "problems",
]

_KEY_LENGTHS = {1: 37, 2: 17, 3: 33, 4: 21, 5: 19, 6: 3, 7: 17, 8: 3, 9: 4, 10: 5, 11: 17, 12: 19, 13: 17}
"""Length of a state key by its first byte (docs/protocol.md §6)."""

_HEX = re.compile(r"[0-9a-f]{2,80}")

_bearer = HTTPBearer(
    scheme_name="ApiKey",
    auto_error=False,
    description="An API key `tl_<id>_<secret>`, made by `network create`, with some of the scopes of docs/api.md.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The API's own limits (local, not protocol).

    Attributes:
        body_bytes_max: of any request, but one for a pledge proof, which names up to ten thousand fingerprints:
            ``proof_body_bytes_max``.
        submit_timeout_s: how long ``wait=certified`` waits.
        keepalive_s: between comments on a silent event stream.
        send_timeout_s: until an event stream whose consumer takes nothing is cut off.
        streams_max: event streams open at once.
        state_entries_max: pairs in one answer of /v1/state.
        state_prefixes_max: prefixes in one question.
        idempotency_age_s: how long an answer is kept for repetition.
    """

    body_bytes_max: int = 128 * 1024
    proof_body_bytes_max: int = 1024 * 1024
    submit_timeout_s: float = 30.0
    keepalive_s: float = 15.0
    send_timeout_s: float = 30.0
    streams_max: int = 64
    state_entries_max: int = 10_000
    state_prefixes_max: int = 256
    idempotency_age_s: float = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the routes of one application work with."""

    reader: NodeReader
    keys: KeySource
    settings: ApiSettings
    once: IdempotencyStore
    slots: StreamSlots
    custody: Custody | None
    disclosures: Disclosures | None
    pledging: Pledging | None
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None
    closing: asyncio.Event = field(default_factory=asyncio.Event)


def context_of(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


def needs(*scopes: str) -> Any:
    """A dependency: the request carries a known key with one of the scopes. Runs before a body is read."""

    def check_scope(request: Request, _credentials: object = Depends(_bearer)) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ProblemError("key_missing", "send the header Authorization: Bearer tl_…")
        key = context_of(request).keys.find(token.strip())
        if key is None:
            raise ProblemError("key_unknown", "this node does not know the key; it may have been revoked")
        request.state.api_key_id = key.id
        request.state.api_key_scopes = key.scopes
        if not key.scopes.intersection(scopes):
            raise ProblemError("scope_missing", f"this route needs the scope {' or '.join(scopes)}")

    # The marker lets a test find every route that lacks one.
    check_scope.scopes = scopes  # type: ignore[attr-defined]
    return Depends(check_scope)


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: every problem it may answer with, beside those of all routes."""
    common = ("key_missing", "key_unknown", "scope_missing", "request_invalid", "internal", "unavailable")
    statuses: dict[int | str, dict[str, Any]] = {}
    for code in (*common, *codes):
        row = PROBLEMS[code]
        schema = {"$ref": "#/components/schemas/ProblemBody"}
        answer = statuses.setdefault(
            row.status, {"description": "", "content": {"application/problem+json": {"schema": schema}}}
        )
        answer["description"] += f"{' · ' if answer['description'] else ''}`{code}`: {row.title}"
    return statuses


def hex_bytes(text: str, what: str, length: int | None = None, *, whole_key: bool = False) -> bytes:
    """Lower-case hex as bytes.

    Args:
        text: as sent.
        what: its name, for the problem.
        length: bytes it has to have; None for a key or prefix of the state map.
        whole_key: a whole key of the state map.
    """
    if not _HEX.fullmatch(text) or len(text) % 2:
        raise ProblemError("request_invalid", f"{what}: expected bytes as lower-case hex")
    data = bytes.fromhex(text)
    key_length = _KEY_LENGTHS.get(data[0], 0)
    if length is None and not len(data) <= key_length:
        raise ProblemError("request_invalid", f"{what}: no key of the state map begins with these bytes")
    if whole_key and len(data) != key_length:
        raise ProblemError("request_invalid", f"{what}: expected a whole key, {key_length} bytes")
    if length not in (None, len(data)):
        raise ProblemError("request_invalid", f"{what}: expected {length} bytes, got {len(data)}")
    return data


async def answer_fresh(request: Request, work: Callable[[bytes], Awaitable[Answer]]) -> Response:
    """The answer of a POST whose answers hold a subject's data: worked out each time, never kept."""
    sent = request.headers.get("idempotency-key")
    if sent is not None:
        check_key(sent)
    answer = await work(await request.body())
    return Response(answer.body, status_code=answer.status, media_type=answer.media_type)


async def answer_once(request: Request, work: Callable[[bytes], Awaitable[Answer]]) -> Response:
    """The answer of a POST, repeated for the same Idempotency-Key."""
    context = context_of(request)
    body = await request.body()
    sent = request.headers.get("idempotency-key")
    if sent is None:
        answer, repeated = await work(body), False
    else:
        name = (request.state.api_key_id, request.url.path, check_key(sent))
        # What the query and content type say belongs to the request that a key stands for.
        whole = f"{request.url.query}\n{media_type_of(request)}\n".encode() + body
        answer, repeated = await context.once.run(name, whole, lambda: work(body))
    headers = {"Idempotency-Replayed": "true"} if repeated else None
    return Response(answer.body, status_code=answer.status, media_type=answer.media_type, headers=headers)
