"""What the HTTP services have in common: every error becomes a problem, and the description names the problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from taxledger.api.problems import ProblemError
from taxledger.ledger.errors import TaxledgerError

__all__ = ["describe", "error_handlers"]

_FIELDS_MAX = 16
_FIELD_CHARACTERS_MAX = 64


def error_handlers(
    problem_of: Callable[[TaxledgerError], ProblemError],
    answer: Callable[[ProblemError, str], Response],
    *,
    log: str,
    hint: str,
) -> dict[Any, Any]:
    """Our errors and the framework's, each to its problem; ``RequestFrame`` takes the rest.

    Args:
        problem_of: the problem of one of our errors.
        answer: the response of a problem and a request's id.
        log: name of the logger.
        hint: where to find the routes.
    """
    logger = structlog.get_logger(log)

    def respond(request: Request, error: ProblemError) -> Response:
        request.state.problem = error.code
        return answer(error, request.state.request_id)

    async def on_ours(request: Request, error: TaxledgerError) -> Response:
        problem = problem_of(error)
        if problem.code == "internal":
            logger.error("service at fault", error=type(error).__name__, code=getattr(error, "code", None))
        return respond(request, problem)

    async def on_validation(request: Request, error: RequestValidationError) -> Response:
        # Parameter names and kinds of error, never what was sent.
        fields = [
            {"field": ".".join(map(str, row["loc"]))[:_FIELD_CHARACTERS_MAX], "reason": row["type"]}
            for row in error.errors()[:_FIELDS_MAX]
        ]
        return respond(request, ProblemError("request_invalid", "a parameter is not valid", errors=fields))

    async def on_http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allow = (error.headers or {}).get("Allow", "")
            return respond(
                request, ProblemError("method_not_allowed", "this route takes other methods", allow=allow)
            )
        if error.status_code == 404:
            return respond(request, ProblemError("not_found", hint))
        return respond(request, ProblemError("malformed", "the request can't be read"))

    return {TaxledgerError: on_ours, RequestValidationError: on_validation, HTTPException: on_http}


def describe(
    app: FastAPI, problem_body: type[BaseModel], codes: Iterable[str]
) -> Callable[[], dict[str, Any]]:
    """The OpenAPI document, made when it is first asked for, with every code that a problem can have."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["ProblemBody"] = problem_body.model_json_schema()
            schemas["ProblemBody"]["properties"]["code"]["enum"] = sorted(codes)
            # FastAPI documents its own body for 422; ours is the problem above.
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return document
