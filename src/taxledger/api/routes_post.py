"""POST routes of the ledger: submit a transaction, ask for a record's history.

All take an Idempotency-Key. What names a subject or a record stands in a body, so that no URL shows it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from taxledger.api import models
from taxledger.api.bodies import change_body, json_answer, receipt_body
from taxledger.api.idempotency import Answer
from taxledger.api.posting import POST_PROBLEMS, IdempotencyKey, request_body
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

__all__ = ["TRANSACTION", "router"]

TRANSACTION = "application/cose"
_TRANSACTION_PROBLEMS = (
    "transaction_malformed",
    "transaction_expired",
    "transaction_early",
    "transaction_foreign",
    "signature_invalid",
    "member_inactive",
)
router = APIRouter()


@router.post(
    "/v1/transactions",
    tags=["write"],
    summary="Submit a signed transaction",
    dependencies=[needs("submit")],
    response_model=models.ReceiptBody,
    responses={
        202: {"model": models.ReceiptBody, "description": "Accepted, not yet certified (`wait=none`)"},
        **problems(*POST_PROBLEMS, *_TRANSACTION_PROBLEMS),
    },
    openapi_extra=request_body(
        models.TransactionRequest, **{TRANSACTION: {"schema": {"type": "string", "format": "binary"}}}
    ),
)
async def submit(
    request: Request,
    wait: Annotated[Literal["certified", "none"], Query()] = "certified",
    idempotency_key: IdempotencyKey = None,
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
    "/v1/records/history",
    tags=["read"],
    summary="What happened to a record: when, by whom, for which reason",
    dependencies=[needs("read")],
    response_model=models.History,
    responses=problems(*POST_PROBLEMS, "record_unknown"),
    openapi_extra=request_body(models.HistoryRequest),
)
async def history(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        key = hex_bytes(parse_body(models.HistoryRequest, request, body).key, "key", 37, whole_key=True)
        changes = await context_of(request).reader.history(key)
        if not changes:
            raise ProblemError("record_unknown", "the certified state holds no record with this key")
        return json_answer(200, {"key": key.hex(), "changes": [change_body(change) for change in changes]})

    return await answer_once(request, work)
