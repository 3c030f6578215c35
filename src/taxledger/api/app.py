"""The FastAPI application of one node: built from a reader, keys and settings; no global state."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from taxledger import __version__
from taxledger.api import (
    routes_consents,
    routes_disclosures,
    routes_ledger,
    routes_node,
    routes_pledges,
    routes_post,
)
from taxledger.api.auth import SCOPES, KeySource
from taxledger.api.custody import Custody, Disclosures
from taxledger.api.framing import describe, error_handlers
from taxledger.api.idempotency import IdempotencyStore
from taxledger.api.middleware import BodyLimit, RequestFrame, RequestObserver, problem_response
from taxledger.api.models import ProblemBody
from taxledger.api.pledging import Pledging
from taxledger.api.problems import PROBLEMS, problem_of
from taxledger.api.reader import NodeReader
from taxledger.api.requests import ApiSettings, Context, context_of, needs, problems
from taxledger.api.stream import StreamSlots
from taxledger.ledger.errors import InvariantError

__all__ = ["begin_shutdown", "create_app"]

_DESCRIPTION = """\
A node of a taxledger network. Every route but `/health` needs an API key. Everything shown is certified by
a quorum of the members, and comes with what proves it: verify it against *your* policy file, never against
this node's word. Errors are RFC 9457 problems; docs/api.md lists their codes.
"""


def stop_process(error: InvariantError) -> None:
    """End the process at once: after a broken invariant, nothing it would still write can be trusted."""
    os._exit(70)


def create_app(
    reader: NodeReader,
    keys: KeySource,
    *,
    custody: Custody | None = None,
    disclosures: Disclosures | None = None,
    pledging: Pledging | None = None,
    settings: ApiSettings | None = None,
    observer: RequestObserver | None = None,
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None = None,
    on_invariant: Callable[[InvariantError], None] = stop_process,
) -> FastAPI:
    """The application over a reader.

    Args:
        reader: the node.
        keys: who may call (auth.KeyFile or auth.KeyRing).
        custody: the desk of a custodian's node; None at any other.
        disclosures: asks for data under consents, and keeps it; None where the node takes no part in that.
        pledging: permits and pledges of a lender; None where the node takes no part in that.
        settings: limits of this API.
        observer: told of every request.
        metrics: the body and content type of ``/metrics``.
        on_invariant: ends the process after an ``InvariantError``.
    """
    chosen = settings or ApiSettings()
    app = FastAPI(
        title="taxledger",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # served below, behind a key
        exception_handlers=error_handlers(
            problem_of, problem_response, log="taxledger.api", hint="docs/api.md lists the routes"
        ),
    )
    app.state.context = Context(
        reader=reader,
        keys=keys,
        settings=chosen,
        once=IdempotencyStore(time.monotonic, age_s_max=chosen.idempotency_age_s),
        slots=StreamSlots(chosen.streams_max),
        custody=custody,
        disclosures=disclosures,
        pledging=pledging,
        metrics=metrics,
    )
    for module in (
        *(routes_node, routes_ledger, routes_post),
        *(routes_consents, routes_disclosures, routes_pledges),
    ):
        app.include_router(module.router)
    _add_openapi(app)
    larger = {routes_pledges.PROOF_PATH: chosen.proof_body_bytes_max}
    app.add_middleware(BodyLimit, bytes_max=chosen.body_bytes_max, larger=larger)
    app.add_middleware(RequestFrame, observer=observer, on_invariant=on_invariant)
    return app


def begin_shutdown(app: FastAPI) -> None:
    """End the open event streams, so that the server has no connection to wait for."""
    context = app.state.context
    assert isinstance(context, Context)
    context.closing.set()


def _add_openapi(app: FastAPI) -> None:
    document = describe(app, ProblemBody, PROBLEMS)

    @app.get(
        "/v1/openapi.json",
        tags=["node"],
        summary="This description",
        dependencies=[needs(*SCOPES)],
        response_class=JSONResponse,
        responses=problems(),
    )
    async def openapi_document(request: Request) -> Response:
        context_of(request)
        return JSONResponse(document())
