"""What the routes share: the desk, the worker, the answers, waiting for a loan to get somewhere."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Header, Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator
from starlette.responses import Response

from taxledger.api.parsing import parse_body
from taxledger.ledger.errors import UnavailableError
from taxledger.lending.loans.loan import Loan
from taxledger.lending.service.access import Callers, caller_of, check_visible
from taxledger.lending.service.desk import Desk
from taxledger.lending.service.problems import PROBLEMS
from taxledger.lending.service.shown import loan_body
from taxledger.lending.service.worker import Worker

__all__ = [
    "POST_PROBLEMS",
    "Context",
    "Count",
    "IdempotencyKey",
    "LoanId",
    "ServiceSettings",
    "answer_loan",
    "context_of",
    "find_loan",
    "idle_loan",
    "problems",
    "read_body",
    "request_body",
    "wait_for_loan",
]

_LOOK_AGAIN_S = 1.0
"""Another process may go on with a loan, and tells us nothing."""

_DIGITS = re.compile(r"[0-9]{1,9}")

LoanId = Annotated[str, Path(pattern=r"^[0-9A-Za-z][0-9A-Za-z-]{0,27}$", description="id of the loan")]


def _digits(value: object) -> object:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("expected digits")  # pydantic would take 1_0
    return value


Count = Annotated[int, BeforeValidator(_digits)]
"""A number in a query."""
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,128}$",
        description="1 to 128 printable ASCII characters; names an application that has no id of its own",
    ),
]
POST_PROBLEMS = ("malformed", "body_too_large", "media_type_unsupported")
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The service's own limits.

    Attributes:
        body_bytes_max: of any request: the largest is an application with its consent.
        wait_s_max: of a long poll; ``waits_max`` so many at once, others are answered at once.
        idle_s_max: how long a request waits for a step that is under way on its loan.
        list_max: loans or alerts in one answer.
    """

    body_bytes_max: int = 256 * 1024
    wait_s_max: int = 60
    waits_max: int = 256
    idle_s_max: float = 10.0
    list_max: int = 1_000


@dataclass(slots=True, kw_only=True)
class Context:
    """What the routes of one service work with."""

    desk: Desk
    worker: Worker
    callers: Callers
    settings: ServiceSettings
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


def context_of(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: every problem it may answer with, beside those of all routes."""
    common = ("key_missing", "key_unknown", "scope_missing", "request_invalid", "internal", "unavailable")
    statuses: dict[int | str, dict[str, Any]] = {}
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    for code in dict.fromkeys((*common, *codes)):
        status, title, _title_zh = PROBLEMS[code]
        answer = statuses.setdefault(
            status, {"description": "", "content": {"application/problem+json": {"schema": schema}}}
        )
        answer["description"] += f"{' · ' if answer['description'] else ''}`{code}`: {title}"
    return statuses


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that the route reads itself, after it has looked at the key."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def read_body(model: type[M], request: Request) -> M:
    return parse_body(model, request, await request.body())


async def find_loan(request: Request, id: str) -> Loan:
    """The loan, if the caller may see it. Raises RefusedError ``loan_unknown``."""
    loan = await run_in_threadpool(context_of(request).desk.store.load, id)
    check_visible(caller_of(request), loan)
    return loan


async def wait_for_loan(
    request: Request, id: str, done: Callable[[Loan, bool], bool], timeout_s: float
) -> tuple[Loan, bool, bool]:
    """The loan once ``done`` holds, or as it is when the time is over or the service ends.

    Args:
        request: of a caller who may see the loan.
        id: of the loan.
        done: told of the loan, and whether the service had something to do on it before it was read: a loan that
            rests is shown as it came to rest, not as it was a step earlier.
        timeout_s: how long to wait.

    Returns:
        The loan, whether the service had something to do, and whether ``done`` holds.
    """
    context = context_of(request)
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def ring() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(changed.set)

    end = loop.time() + timeout_s
    with context.worker.listening(id, ring):
        while True:
            changed.clear()
            busy = context.worker.busy(id)
            loan = await run_in_threadpool(context.desk.store.load, id)
            left_s = end - loop.time()
            holds = done(loan, busy)
            if holds or left_s <= 0 or context.closing.is_set():
                return loan, busy, holds
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left_s, _LOOK_AGAIN_S))


async def idle_loan(request: Request, id: str) -> Loan:
    """The loan once nothing is under way on it.

    Raises:
        RefusedError: ``loan_unknown``.
        UnavailableError: its step takes longer.
    """
    context = context_of(request)
    await find_loan(request, id)
    loan, _busy, rests = await wait_for_loan(
        request, id, lambda _loan, busy: not busy, context.settings.idle_s_max
    )
    if not rests:
        raise UnavailableError(f"{id}: a step is under way")
    return loan


def answer_loan(request: Request, loan: Loan, status: int = 200, *, working: bool | None = None) -> Response:
    """A loan as the answer; ``working`` as it was before the loan was read, None for now."""
    context = context_of(request)
    body = loan_body(
        loan,
        context.desk.clock.today(),
        working=context.worker.busy(loan.id) if working is None else working,
        trouble=context.worker.trouble(loan.id),
    )
    return Response(body.model_dump_json(), status_code=status, media_type="application/json")
