"""The POST routes: submit a transaction, ask for a dossier or a record's history.

All take an Idempotency-Key. What names a subject or a record stands in a body, so that no URL shows it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from taxledger.api import models
from taxledger.api.bodies import change_body, json_answer, receipt_body
from taxledger.api.idempotency import Answer
from taxledger.api.problems import ProblemError
from taxledger.api.requests import (
    answer_once,
    base64_bytes,
    context_of,
    hex_bytes,
    media_type_of,
    needs,
    parse_body,
    problems,
)
from taxledger.ledger import limits
from taxledger.ledger.errors import InputError
from taxledger.ledger.query import Query as DossierQuery
from taxledger.ledger.records import parse_subject

__all__ = ["EVIDENCE", "TRANSACTION", "router"]

TRANSACTION = "application/cose"
EVIDENCE = "application/vnd.taxledger.evidence"
_POST_PROBLEMS = (
    "malformed",
    "body_too_large",
    "media_type_unsupported",
    "idempotency_key_invalid",
    "idempotency_mismatch",
)
_TRANSACTION_PROBLEMS = (
    "transaction_malformed",
    "transaction_expired",
    "transaction_early",
    "transaction_foreign",
    "signature_invalid",
    "member_inactive",
)
_IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", description="1 to 128 characters; the same key and body: the same answer"
    ),
]

router = APIRouter()


def _request_body(model: type[BaseModel], **others: Any) -> dict[str, Any]:
    """What OpenAPI says of a body that the route reads itself, after it has looked at the key."""
    content = {**others, "application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/v1/transactions",
    tags=["write"],
    summary="Submit a signed transaction",
    dependencies=[needs("submit")],
    response_model=models.ReceiptBody,
    responses={
        202: {"model": models.ReceiptBody, "description": "Accepted, not yet certified (`wait=none`)"},
        **problems(*_POST_PROBLEMS, *_TRANSACTION_PROBLEMS),
    },
    openapi_extra=_request_body(
        models.TransactionRequest, **{TRANSACTION: {"schema": {"type": "string", "format": "binary"}}}
    ),
)
async def submit(
    request: Request,
    wait: Annotated[Literal["certified", "none"], Query()] = "certified",
    idempotency_key: _IdempotencyKey = None,
) -> Response:
    context = context_of(request)

    async def work(body: bytes) -> Answer:
        if media_type_of(request) == TRANSACTION:
            raw = body
        else:
            raw = base64_bytes(
                parse_body(models.TransactionRequest, request, body).transaction, "transaction"
            )
        if not 0 < len(raw) <= limits.leaf_bytes_max:
            raise ProblemError("transaction_malformed", f"expected 1 to {limits.leaf_bytes_max} bytes")
        try:
            receipt = await context.reader.submit(raw, wait=wait, timeout_s=context.settings.submit_timeout_s)
        except InputError as error:
            raise ProblemError("transaction_malformed", str(error)) from None
        return json_answer(202 if receipt.state == "pending" else 200, receipt_body(receipt))

    return await answer_once(request, work)


@router.post(
    "/v1/dossiers",
    tags=["read"],
    summary="Evidence for a subject's records, made by the issuer's custodian",
    dependencies=[needs("read")],
    response_class=Response,
    responses={
        200: {"content": {EVIDENCE: {}}, "description": "Evidence (docs/protocol.md §10): verify it"},
        **problems(*_POST_PROBLEMS, "issuer_unknown", "custodian_refused", "answer_too_large"),
    },
    openapi_extra=_request_body(models.DossierRequest),
)
async def dossier(request: Request, idempotency_key: _IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.DossierRequest, request, body)
        query = DossierQuery(
            subject=_subject(asked.subject),
            issuer=asked.issuer,
            kinds=tuple(sorted(set(asked.kinds))),
            from_period=asked.from_,
            to_period=asked.to,
        )
        evidence = await context_of(request).reader.dossier(query)
        return Answer(status=200, media_type=EVIDENCE, body=evidence)

    return await answer_once(request, work)


def _subject(text: str) -> str:
    try:
        return parse_subject(text)
    except InputError:  # its message quotes the subject
        raise ProblemError(
            "request_invalid", "subject: expected scheme:identifier of a known scheme"
        ) from None


@router.post(
    "/v1/records/history",
    tags=["read"],
    summary="What happened to a record: when, by whom, for which reason",
    dependencies=[needs("read")],
    response_model=models.History,
    responses=problems(*_POST_PROBLEMS, "record_unknown"),
    openapi_extra=_request_body(models.HistoryRequest),
)
async def history(request: Request, idempotency_key: _IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        key = hex_bytes(parse_body(models.HistoryRequest, request, body).key, "key", 37, whole_key=True)
        changes = await context_of(request).reader.history(key)
        if not changes:
            raise ProblemError("record_unknown", "the certified state holds no record with this key")
        return json_answer(200, {"key": key.hex(), "changes": [change_body(change) for change in changes]})

    return await answer_once(request, work)
