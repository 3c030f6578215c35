"""Reading the certified ledger: checkpoint, policy, tiles, transactions, state with proofs, events."""

from __future__ import annotations

import itertools
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from taxledger.api import models
from taxledger.api.bodies import state_body, transaction_body
from taxledger.api.events import EventId
from taxledger.api.problems import ProblemError
from taxledger.api.requests import context_of, hex_bytes, needs, problems
from taxledger.api.stream import EventStream, first_height, follow
from taxledger.ledger.tiles import parse_tile_path

__all__ = ["POLICY_LINKS", "router"]

POLICY_LINKS = "application/vnd.taxledger.policy-links"

_ID_EXAMPLE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_FROM = "the hash of your policy's validators (docs/protocol.md §2)"
_AFTER = "an event's id or a height: begin after it; 0 from the start; default now"

router = APIRouter(tags=["ledger"], dependencies=[needs("read")])


@router.get(
    "/v1/checkpoint",
    summary="The newest certified checkpoint, a C2SP signed note",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": models.NOTE_EXAMPLE}}}, **problems()},
)
async def checkpoint(request: Request) -> Response:
    return PlainTextResponse(await context_of(request).reader.checkpoint())


@router.get(
    "/v1/policy",
    summary="The network's policy file; compare it with yours, never trust it from here",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": models.POLICY_EXAMPLE}}}, **problems()},
)
async def policy(request: Request) -> Response:
    return PlainTextResponse(await context_of(request).reader.policy())


@router.get(
    "/v1/policy/links",
    summary="Proofs that lead from your policy's validators to the present ones",
    response_class=Response,
    responses={200: {"content": {POLICY_LINKS: {}}}, **problems("policy_unknown")},
)
async def policy_links(
    request: Request,
    trusted: Annotated[str, Query(alias="from", max_length=80, description=_FROM, examples=[_ID_EXAMPLE])],
    engine: Annotated[
        str | None, Query(max_length=32, description="that of your policy's origin; default the present one")
    ] = None,
) -> Response:
    data = await context_of(request).reader.policy_links(hex_bytes(trusted, "from", 32), engine)
    return Response(data, media_type=POLICY_LINKS)


@router.get(
    "/v1/tile/{path:path}",
    summary="A tile of the log's hashes, C2SP tlog-tiles",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **problems("tile_unknown")},
)
async def tile(
    request: Request, path: Annotated[str, Path(max_length=80, examples=["0/x001/234"])]
) -> Response:
    wanted = parse_tile_path(f"tile/{path}")
    data = await context_of(request).reader.tile(wanted.level, wanted.index, wanted.width)
    if data is None:
        raise ProblemError("tile_unknown", "the certified log does not have as many leaves")
    # A tile never changes, a partial one included: its width is in its name.
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get(
    "/v1/transactions/{id}",
    summary="A certified transaction, its result, and its inclusion proof",
    response_model=models.TransactionBody,
    responses=problems("transaction_unknown", "pruned"),
)
async def transaction(
    request: Request, id: Annotated[str, Path(max_length=80, examples=[_ID_EXAMPLE])]
) -> Response:
    answer = await context_of(request).reader.transaction(hex_bytes(id, "id", 32))
    if answer is None:
        raise ProblemError(
            "transaction_unknown",
            "it may be waiting, have expired, never have been sent, or be older than what this node keeps",
        )
    return JSONResponse(transaction_body(answer))


@router.get(
    "/v1/state/{hexkey}",
    summary="A key of the state map with its proof, or the proof that it is absent",
    response_model=models.StateBody,
    responses=problems(),
)
async def state_key(
    request: Request, hexkey: Annotated[str, Path(max_length=80, examples=["060001"])]
) -> Response:
    key = hex_bytes(hexkey, "key", whole_key=True)
    return JSONResponse(state_body(await context_of(request).reader.state([key], entries_max=1)))


@router.get(
    "/v1/state",
    summary="All keys under prefixes, with one proof that nothing is left out",
    response_model=models.StateBody,
    responses=problems("answer_too_large"),
)
async def state(
    request: Request,
    prefix: Annotated[list[str], Query(description="hex; may be repeated", examples=[["06"]])],
) -> Response:
    context = context_of(request)
    settings = context.settings
    if len(prefix) > settings.state_prefixes_max:
        raise ProblemError("request_invalid", f"expected at most {settings.state_prefixes_max} prefixes")
    prefixes = sorted({hex_bytes(text, "prefix") for text in prefix})
    for shorter, longer in itertools.pairwise(prefixes):
        if longer.startswith(shorter):
            raise ProblemError("request_invalid", "no prefix may be a prefix of another")
    answer = await context.reader.state(prefixes, entries_max=settings.state_entries_max)
    return JSONResponse(state_body(answer))


@router.get(
    "/v1/events",
    summary="Certified events as they come: server-sent events, CloudEvents 1.0",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}, **problems("streams_exhausted", "pruned")},
)
async def events(
    request: Request,
    after: Annotated[str | None, Query(max_length=40, description=_AFTER)] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
) -> Response:
    context = context_of(request)
    text = last_event_id or after
    begin = None if text is None else EventId.parse(text)
    if context.slots.exhausted:
        raise ProblemError("streams_exhausted", f"{context.settings.streams_max} event streams are open")
    status = await context.reader.status()
    source = f"{status.network}/{status.chain_id}/{status.engine}"
    begin = EventId.after_block(status.height) if begin is None else begin
    await context.reader.block(first_height(begin))  # what is pruned is refused before the stream begins
    content = follow(context.reader, source, begin, context.closing, context.settings.keepalive_s)
    return EventStream(content, context.slots, context.settings.send_timeout_s)
