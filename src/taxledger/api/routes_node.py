"""About the node itself: health, readiness, status, metrics, and its archive."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from taxledger.api import models
from taxledger.api.bodies import status_body
from taxledger.api.problems import ProblemError
from taxledger.api.requests import context_of, needs, problems

__all__ = ["ARCHIVE", "router"]

ARCHIVE = "application/vnd.taxledger.archive"

router = APIRouter(tags=["node"])


@router.get("/health", summary="The process answers (no key needed)", response_model=models.Health)
async def health() -> Response:
    return JSONResponse({"status": "ok"})


@router.get(
    "/ready",
    summary="The node has caught up and serves answers",
    dependencies=[needs("operate", "read")],
    response_model=models.Ready,
    responses=problems(),
)
async def ready(request: Request) -> Response:
    status = await context_of(request).reader.status()
    if not status.ready:
        raise ProblemError("unavailable", "the node is catching up", height=status.height)
    return JSONResponse({"ready": True, "height": status.height})


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    dependencies=[needs("operate")],
    response_class=PlainTextResponse,
    responses=problems(),
)
async def metrics(request: Request) -> Response:
    render = context_of(request).metrics
    if render is None:
        raise ProblemError("unavailable", "this node keeps no metrics")
    body, content_type = await render()
    return Response(body, headers={"Content-Type": content_type})


@router.get(
    "/v1/status",
    summary="Height, roots, and whether writes go on",
    dependencies=[needs("read", "operate")],
    response_model=models.StatusBody,
    responses=problems(),
)
async def status(request: Request) -> Response:
    return JSONResponse(status_body(await context_of(request).reader.status()))


@router.get(
    "/v1/export",
    summary="The archive of the certified ledger",
    dependencies=[needs("operate")],
    response_class=Response,
    responses={200: {"content": {ARCHIVE: {}}}, **problems("pruned")},
)
async def export(request: Request) -> Response:
    pieces = context_of(request).reader.export()
    first = await anext(pieces, b"")  # what is refused is refused before the answer begins

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(all_pieces(), media_type=ARCHIVE)
