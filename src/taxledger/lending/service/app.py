"""The FastAPI application of a lender's service: built from a desk, a worker and keys; no global state."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from taxledger import __version__
from taxledger.api.framing import describe, error_handlers
from taxledger.api.middleware import BodyLimit, RequestFrame
from taxledger.ledger.errors import InvariantError
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
        exception_handlers=error_handlers(
            problem_of,
            problem_response,
            log="taxledger.lending",
            hint="GET /v1/openapi.json lists the routes",
        ),
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


def _add_openapi(app: FastAPI) -> None:
    document = describe(app, ProblemBody, PROBLEMS)

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
