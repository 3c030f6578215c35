"""What surrounds every request: its id, one log line, its metrics, headers, the body limit, the last net.

Invariants:

- The log line has the *template* of the route, never the path, query string, body or a header's value:
  subjects and keys do not reach a log through here.
- Whatever goes wrong, the caller gets problem+json; the log gets the error's type and place, not its message,
  which may quote what the caller sent.
- An ``InvariantError`` is handed to ``on_invariant``: the process has to stop (ledger/errors.py).
"""

from __future__ import annotations

import re
import secrets
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxledger.api.problems import MEDIA_TYPE, PROBLEMS, ProblemError, problem_body
from taxledger.ledger.errors import InvariantError

__all__ = ["BodyLimit", "RequestFrame", "RequestObserver", "problem_response", "route_of"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_log = structlog.get_logger("taxledger.api")


class RequestObserver(Protocol):
    """Who counts requests (nodes/metrics.py)."""

    def observe_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered; ``route`` is a template of the application, or ``(none)``."""


def route_of(scope: Scope) -> str:
    """The template of the route that answered, ``(none)`` where nothing matched."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(none)"


def problem_response(error: ProblemError, request_id: str) -> Response:
    """The RFC 9457 answer for a problem."""
    row = PROBLEMS[error.code]
    headers = {}
    if row.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="taxledger"'
    if row.retry:
        headers["Retry-After"] = "1"
    if row.status == 405 and isinstance(error.more.get("allow"), str):
        headers["Allow"] = error.more["allow"]
    body = problem_body(error.code, error.detail, request_id, **error.more)
    return JSONResponse(body, status_code=row.status, headers=headers, media_type=MEDIA_TYPE)


Respond = Callable[[ProblemError, str], Response]
"""(problem, id of the request) -> the answer."""


class RequestFrame:
    """Outermost of ours: request id, headers, log line, metrics, and the net under everything.

    Args:
        app: the next application.
        observer: who counts requests, or None.
        on_invariant: called with an ``InvariantError``; it should end the process.
        respond: makes a problem's answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        observer: RequestObserver | None,
        on_invariant: Callable[[InvariantError], None],
        respond: Respond = problem_response,
    ) -> None:
        self._app = app
        self._respond = respond
        self._observer = observer
        self._on_invariant = on_invariant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_framed)
            except InvariantError as error:
                _log.critical("invariant broken", **_where(error))
                self._on_invariant(error)
                await self._internal(status, request_id, scope, receive, send_framed)
            except Exception as error:
                _log.error("request failed", **_where(error))
                await self._internal(status, request_id, scope, receive, send_framed)
            finally:
                self._record(scope, status, time.perf_counter() - begun)

    async def _internal(
        self, status: int, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # After the first byte nothing can be said any more: returning without the last one makes the server
        # cut the connection, so that the caller sees an incomplete answer and not a shorter one.
        if status == 0:
            problem = ProblemError("internal", "unexpected condition; the node's log says more")
            await self._respond(problem, request_id)(scope, receive, send)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = route_of(scope), scope["method"]
        if self._observer is not None:
            self._observer.observe_request(method=method, route=route, status=status, seconds=seconds)
        known = {"api_key": scope["state"].get("api_key_id")}
        if (problem := scope["state"].get("problem")) is not None:
            known["problem"] = problem
        _log.info("request", method=method, route=route, status=status, ms=round(seconds * 1e3, 1), **known)


def _request_id(sent: str | None) -> str:
    """The caller's id if it has a harmless form, else a new one."""
    return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)


def _where(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "frames": [
            f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames[-8:]
        ],
    }


class BodyLimit:
    """No request body beyond ``bytes_max``, announced or not; ``larger`` has others by path."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        bytes_max: int,
        larger: Mapping[str, int],
        respond: Respond = problem_response,
    ) -> None:
        self._app = app
        self._respond = respond
        self._bytes_max = bytes_max
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bytes_max = self._larger.get(scope["path"], self._bytes_max)
        error = ProblemError("body_too_large", f"expected at most {bytes_max} bytes")
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isascii() and announced.isdecimal() and int(announced[:20]) > bytes_max:
            await self._respond(error, scope["state"]["request_id"])(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > bytes_max:
                raise error
            return message

        await self._app(scope, receive_limited, send)
