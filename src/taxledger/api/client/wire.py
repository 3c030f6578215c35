"""Requests and answers as values, problems as our errors, and when to try again. No I/O.

What may be tried again (``TryAgainError``): no connection, a time-out, 429, 502, 503, 504, or a problem
whose row in the table says so. A repeated POST carries the Idempotency-Key of the first, so repeating one
whose answer was lost does nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tenacity import RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential

from taxledger.api.problems import PROBLEMS
from taxledger.ledger.errors import InputError, RefusedError, TaxledgerError, UnavailableError

__all__ = [
    "Answer",
    "Call",
    "Request",
    "RetryLimits",
    "TryAgainError",
    "answer_call",
    "check_status",
    "error_of",
    "retry_arguments",
]

T = TypeVar("T")
_RETRIED = (429, 502, 503, 504)
_INPUT = (
    "malformed",
    "request_invalid",
    "body_too_large",
    "media_type_unsupported",
    "idempotency_key_invalid",
)
_DETAIL_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to make.

    Attributes:
        method, path: the path is absolute and holds no subject.
        params: query parameters; may repeat a name.
        headers: beside the key and the user agent.
        content: the body.
        timeout_s: for the whole answer; of a stream, between two pieces.
        bytes_max: an answer that is larger is given up.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    timeout_s: float = 30.0
    bytes_max: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer received; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A request and what to make of its answer; ``read`` raises our errors."""

    request: Request
    read: Callable[[Answer], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """How long to go on trying.

    Attributes:
        total_s: from the first attempt on; 0 tries once.
        first_s, pause_s_max: bounds of the random, doubling pause.
    """

    total_s: float = 60.0
    first_s: float = 0.2
    pause_s_max: float = 5.0


class TryAgainError(UnavailableError):
    """Not now, but maybe soon. ``after_s`` is what the node asked for, or 0."""

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


def retry_arguments(limits: RetryLimits) -> dict[str, Any]:
    """Arguments for ``tenacity.Retrying`` and ``AsyncRetrying``: back-off, honouring Retry-After."""
    pause = wait_random_exponential(multiplier=limits.first_s, max=limits.pause_s_max)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.after_s if isinstance(error, TryAgainError) else 0.0
        return max(pause(state), min(asked_s, limits.pause_s_max))

    return {
        "retry": retry_if_exception_type(TryAgainError),
        "stop": stop_after_delay(limits.total_s),
        "wait": wait,
        "reraise": True,
    }


def check_status(answer: Answer) -> None:
    """Raises the error that an answer stands for; returns for 200 and 202."""
    if answer.status >= 400:
        raise error_of(answer)
    if answer.status not in (200, 202):
        raise UnavailableError(f"expected an answer of status 200 or 202, got {answer.status}")


def answer_call(request: Request, read: Callable[[Answer], T]) -> Call[T]:
    """A call whose ``read`` sees successful answers only."""

    def read_checked(answer: Answer) -> T:
        check_status(answer)
        return read(answer)

    return Call(request=request, read=read_checked)


def error_of(answer: Answer) -> TaxledgerError:
    """The error that an answer of status ≥ 400 stands for.

    InputError for what we sent, RefusedError with the problem's code for what was decided, UnavailableError
    for the rest (``TryAgainError`` where trying again can help). An answer that is no problem of ours, from
    a proxy for example, is judged by its status.
    """
    code, detail, reason = _problem(answer)
    row = PROBLEMS.get(code)
    if answer.status in _RETRIED or (row is not None and row.retry):
        return TryAgainError(
            f"status {answer.status}: {detail}", _seconds(answer.headers.get("retry-after", ""))
        )
    if row is None or row.status != answer.status or answer.status >= 500:
        return UnavailableError(f"status {answer.status}: {detail}")
    if code in _INPUT:
        return InputError(f"{code}: {detail}")
    return RefusedError(reason or code, detail)


def _problem(answer: Answer) -> tuple[str, str, str | None]:
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return "", "no problem description", None
    code, detail, reason = body.get("code"), body.get("detail"), body.get("reason")
    return (
        code if type(code) is str else "",
        detail[:_DETAIL_CHARACTERS_MAX] if type(detail) is str else "no detail",
        reason if type(reason) is str else None,
    )


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0.0
