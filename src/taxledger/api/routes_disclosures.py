"""Dossiers, and the disclosures that a recipient's node keeps.

Invariants:

- Without a consent only the issuer's own node answers, about its own records, to a key with the scope
  ``custody``. Any other request needs an artefact and the scope ``disclose``.
- Nothing here is kept for repetition. API key, Idempotency-Key and body name the *use*: the same again gets
  the same bytes from the custodian, which counts it once.
- A stream that has begun says how it ends: with the file, or with a problem.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from taxledger.api import models_consents
from taxledger.api.bodies import json_answer
from taxledger.api.bodies_consents import disclosure_body, progress_row
from taxledger.api.custody import DossierProgress
from taxledger.api.idempotency import Answer, check_key
from taxledger.api.models import DossierRequest
from taxledger.api.posting import POST_PROBLEMS, IdempotencyKey, query_of, request_body
from taxledger.api.problems import ProblemError, problem_of
from taxledger.api.requests import (
    answer_fresh,
    answer_once,
    base64_bytes,
    context_of,
    needs,
    parse_body,
    problems,
)
from taxledger.api.routes_consents import disclosures_of
from taxledger.ledger import canonical
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.errors import TaxledgerError, UnavailableError, VerificationError
from taxledger.ledger.query import Query

__all__ = ["DISCLOSURE", "EVIDENCE", "STREAM", "router"]

EVIDENCE = "application/vnd.taxledger.evidence"
DISCLOSURE = "application/vnd.taxledger.disclosure"
STREAM = "application/vnd.taxledger.dossier-stream"

_PIECE_BYTES = 256 * 1024
_DOSSIER_PROBLEMS = (
    *("issuer_unknown", "custodian_refused", "answer_too_large", "consent_missing", "consent_unknown"),
    *("consent_changed", "consent_signature_invalid", "consent_chain_mismatch", "consent_custodian_mismatch"),
    *("consent_recipient_mismatch", "consent_subject_mismatch", "consent_kind_exceeded"),
    *("consent_period_exceeded", "consent_fields_exceeded", "consent_paused", "consent_revoked"),
    *("consent_superseded", "consent_early", "consent_expired", "consent_used_up", "use_closed"),
    *("inputs_incomplete", "predicate_unknown", "predicate_argument_invalid"),
    *("disclosure_withheld", "disclosure_invalid", "disclosure_destroyed"),
)
_log = structlog.get_logger("taxledger.api")

router = APIRouter(tags=["disclosure"])


@router.post(
    "/v1/dossiers",
    summary="A subject's records with their proof, under a consent",
    dependencies=[needs("disclose", "custody")],
    response_class=Response,
    responses={
        200: {
            "content": {DISCLOSURE: {}, EVIDENCE: {}, STREAM: {}},
            "description": "A disclosure (docs/protocol.md §13), or its stream; evidence (§10) without a consent",
        },
        **problems(*POST_PROBLEMS, *_DOSSIER_PROBLEMS),
    },
    openapi_extra=request_body(DossierRequest),
)
async def dossier(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    body = await request.body()
    asked = parse_body(DossierRequest, request, body)
    query = query_of(asked)
    name = _request_name(request, body)
    if asked.consent is None:
        return await _own(request, query)
    _check_scope(request, "disclose")
    artefact = base64_bytes(asked.consent, "consent")
    try:
        decode_artefact(artefact)
    except VerificationError as error:
        raise ProblemError(error.code, "the artefact's signature does not verify") from None
    items = disclosures_of(request).dossier(query, artefact, name)
    if STREAM in request.headers.get("accept", ""):
        return await _stream(items)
    return Response(await _last(items), media_type=DISCLOSURE)


def _request_name(request: Request, body: bytes) -> bytes:
    """16 bytes that name the request: what repeats it has the same."""
    sent = request.headers.get("idempotency-key")
    if sent is None:
        return secrets.token_bytes(16)
    whole = request.state.api_key_id.encode() + b"\x00" + check_key(sent).encode() + body
    return hashlib.sha256(whole).digest()[:16]


def _check_scope(request: Request, scope: str) -> None:
    if scope not in request.state.api_key_scopes:
        raise ProblemError("scope_missing", f"this needs the scope {scope}")


async def _own(request: Request, query: Query) -> Response:
    reader = context_of(request).reader
    if query.issuer != (await reader.status()).number:
        raise ProblemError(
            "consent_missing", "only the issuer's own node shows its records without a consent"
        )
    _check_scope(request, "custody")
    return Response(await reader.dossier(query), media_type=EVIDENCE)


async def _last(items: AsyncIterator[DossierProgress | bytes]) -> bytes:
    try:
        async for item in items:
            if isinstance(item, bytes):
                return item
    finally:
        await _close(items)
    raise UnavailableError("the disclosure ended without its file")


async def _stream(items: AsyncIterator[DossierProgress | bytes]) -> Response:
    # A refusal before the first frame is a problem with its status, like that of any other route.
    try:
        first = await anext(items, None)
    except BaseException:
        await _close(items)
        raise
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(first, items), media_type=STREAM, headers=headers)


async def _close(items: AsyncIterator[Any]) -> None:
    """End the node's side now, not whenever the collector finds it."""
    if hasattr(items, "aclose"):
        await items.aclose()


async def _frames(
    first: DossierProgress | bytes | None, items: AsyncIterator[DossierProgress | bytes]
) -> AsyncIterator[bytes]:
    """The frames in pieces. An error that is not of ours ends the connection, without a last frame."""
    item = first
    try:
        while isinstance(item, DossierProgress):
            yield _frame(progress_row(item))
            item = await anext(items, None)
        if item is None:
            raise UnavailableError("the disclosure ended without its file")
        data = _frame([1, "file", item])
    except TaxledgerError as error:
        problem = problem_of(error)
        _log.info("disclosure refused", problem=problem.code)
        data = _frame([1, "problem", problem.code, problem.detail])
    finally:
        await _close(items)
    for at in range(0, len(data), _PIECE_BYTES):
        yield data[at : at + _PIECE_BYTES]


def _frame(row: list[Any]) -> bytes:
    content = canonical.encode(row)
    return len(content).to_bytes(4, "big") + content


@router.get(
    "/v1/disclosures",
    summary="The disclosures that this node keeps",
    dependencies=[needs("disclose")],
    response_model=models_consents.Disclosures,
    responses=problems("not_found"),
)
async def stored(request: Request) -> Response:
    kept = await disclosures_of(request).stored()
    return JSONResponse({"disclosures": [disclosure_body(each) for each in kept]})


@router.post(
    "/v1/disclosures/load",
    summary="The file of a disclosure that this node keeps",
    dependencies=[needs("disclose")],
    response_class=Response,
    responses={
        200: {"content": {DISCLOSURE: {}}},
        **problems(*POST_PROBLEMS, "not_found", "disclosure_unknown"),
    },
    openapi_extra=request_body(models_consents.DisclosureRequest),
)
async def load(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models_consents.DisclosureRequest, request, body)
        data = await disclosures_of(request).load(bytes.fromhex(asked.consent), asked.sequence)
        return Answer(status=200, media_type=DISCLOSURE, body=data)

    return await answer_fresh(request, work)


@router.post(
    "/v1/disclosures/discard",
    summary="Destroy a disclosure that this node keeps, and say so on the ledger",
    dependencies=[needs("disclose")],
    response_model=models_consents.DiscardBody,
    responses=problems(*POST_PROBLEMS, "not_found", "disclosure_unknown"),
    openapi_extra=request_body(models_consents.DiscardRequest),
)
async def discard(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models_consents.DiscardRequest, request, body)
        digest = await disclosures_of(request).discard(
            bytes.fromhex(asked.consent), asked.sequence, reason=asked.reason
        )
        return json_answer(200, {"digest": digest.hex()})

    return await answer_once(request, work)
