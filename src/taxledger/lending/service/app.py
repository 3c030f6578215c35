"""The FastAPI application of a lender's service: built from a desk, a worker and keys; no global state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from taxledger import __version__
from taxledger.api.middleware import BodyLimit, RequestFrame
from taxledger.api.problems import ProblemError
from taxledger.ledger.errors import InvariantError, TaxledgerError
from taxledger.lending.service import routes_applications, routes_contracts, routes_papers
from taxledger.lending.service.access import APPLY, CORE, OFFICER, Callers, needs
from taxledger.lending.service.context import Context, ServiceSettings, problems
from taxledger.lending.service.desk import Desk
from taxledger.lending.service.models import ProblemBody
from taxledger.lending.service.problems import PROBLEMS, problem_of, problem_response
from taxledger.lending.service.worker import Worker

__all__ = ["begin_shutdown", "create_service"]

_DESCRIPTION = """\
Loans of one lender, decided on verified evidence alone. Every route but `/healthz` needs an API key; a platform's
key sees the loans that it handed in. Money is decimal text. Errors are RFC 9457 problems in English and Chinese;
docs/lending.md lists their codes.
"""
_log = structlog.get_logger("taxledger.lending")


def create_service(
    desk: Desk,
    worker: Worker,
    callers: Callers,
    *,
    on_invariant: Callable[[InvariantError], None],
    settings: ServiceSettings | None = None,
) -> FastAPI:
    """The application.

    Args:
        desk: of the lender.
        worker: goes on with loans; started and stopped by the caller.
        callers: who may call.
        on_invariant: ends the process after an ``InvariantError``.
        settings: limits of this service.
    """
    chosen = settings or ServiceSettings()
    app = FastAPI(
        title="taxledger lending",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # served below, behind a key
        exception_handlers=_handlers(on_invariant),
    )
    app.state.context = Context(desk=desk, worker=worker, callers=callers, settings=chosen)
    for module in (routes_applications, routes_contracts, routes_papers):
        app.include_router(module.router)
    _add_openapi(app)
    app.add_middleware(BodyLimit, bytes_max=chosen.body_bytes_max, larger={}, respond=problem_response)
    app.add_middleware(RequestFrame, observer=None, on_invariant=on_invariant, respond=problem_response)
    return app


def begin_shutdown(app: FastAPI) -> None:
    """Answer who waits for a loan, so that the server has no connection to wait for."""
    app.state.context.closing.set()


def _handlers(on_invariant: Callable[[InvariantError], None]) -> dict[Any, Any]:
    """Our errors and the framework's, each to its problem; ``RequestFrame`` takes the rest."""

    def respond(request: Request, error: ProblemError) -> Response:
        request.state.problem = error.code
        return problem_response(error, request.state.request_id)

    async def on_ours(request: Request, error: TaxledgerError) -> Response:
        problem = problem_of(error)
        if problem.code == "internal":
            _log.error("service at fault", error=type(error).__name__, code=getattr(error, "code", None))
        return respond(request, problem)

    async def on_validation(request: Request, error: RequestValidationError) -> Response:
        # Parameter names and kinds of error, never what was sent.
        fields = [
            {"field": ".".join(map(str, row["loc"]))[:64], "reason": row["type"]}
            for row in error.errors()[:16]
        ]
        return respond(request, ProblemError("request_invalid", "a parameter is not valid", errors=fields))

    async def on_http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allow = (error.headers or {}).get("Allow", "")
            return respond(
                request, ProblemError("method_not_allowed", "this route takes other methods", allow=allow)
            )
        if error.status_code == 404:
            return respond(request, ProblemError("not_found", "GET /v1/openapi.json lists the routes"))
        return respond(request, ProblemError("malformed", "the request can't be read"))

    return {TaxledgerError: on_ours, RequestValidationError: on_validation, HTTPException: on_http}


def _add_openapi(app: FastAPI) -> None:
    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["ProblemBody"] = ProblemBody.model_json_schema()
            schemas["ProblemBody"]["properties"]["code"]["enum"] = sorted(PROBLEMS)
            # FastAPI documents its own body for 422; ours is the problem above.
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    @app.get(
        "/v1/openapi.json",
        tags=["service"],
        summary="This description",
        dependencies=[needs(APPLY, OFFICER, CORE)],
        response_class=JSONResponse,
        responses=problems(),
    )
    async def openapi_document() -> Response:
        return JSONResponse(document())
