"""From the offer on: what the enterprise signed, what the core banking system received, closing a line."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from taxledger.api.parsing import base64_bytes
from taxledger.api.problems import ProblemError
from taxledger.lending.loans.loan import Loan
from taxledger.lending.service import models
from taxledger.lending.service.access import APPLY, CORE, OFFICER, needs
from taxledger.lending.service.context import (
    POST_PROBLEMS,
    IdempotencyKey,
    LoanId,
    answer_loan,
    context_of,
    find_loan,
    idle_loan,
    problems,
    read_body,
    request_body,
)
from taxledger.lending.service.shown import offer_body, read_money

__all__ = ["router"]

_ACCEPT_PROBLEMS = (
    "acceptance_signature_invalid",
    "acceptance_key_mismatch",
    "acceptance_offer_mismatch",
    "offer_expired",
    "amount_outside_offer",
    "term_outside_offer",
    "account_outside_offer",
    "line_open",
)
_DRAW_PROBLEMS = (
    "draw_signature_invalid",
    "draw_key_mismatch",
    "draw_contract_mismatch",
    "draw_number",
    "draw_expired",
    "line_closed",
    "line_matured",
    "line_exceeded",
)
_REPAY_PROBLEMS = ("repayment_conflict", "overpayment", "value_date_order", "value_date_future")
router = APIRouter(tags=["contracts"])


async def _ask(request: Request, id: str, done: Callable[[Loan], bool], ask: Callable[[], Loan]) -> Response:
    """Have the engine take something, unless it has it already, and go on from there."""
    found = await find_loan(request, id)
    if done(found):
        return answer_loan(request, found)
    await idle_loan(request, id)
    context = context_of(request)
    taken = await run_in_threadpool(ask)
    context.worker.go_on(id)
    return answer_loan(request, taken, 202)


@router.get(
    "/v1/loans/{loan}/offer",
    summary="What is offered, with the bytes that the enterprise accepts",
    dependencies=[needs(APPLY, OFFICER)],
    response_model=models.OfferBody,
    responses=problems("loan_unknown", "offer_missing"),
)
async def show_offer(request: Request, loan: LoanId) -> Response:
    found = await find_loan(request, loan)
    if found.offer is None:
        raise ProblemError("offer_missing", f"{found.id} is {found.state.value}")
    body = offer_body(found.id, found.offer, found.offer_raw)
    return Response(body.model_dump_json(), media_type="application/json")


@router.post(
    "/v1/loans/{loan}/acceptance",
    summary="Hand in the enterprise's signed acceptance; pledge and pay-out follow by themselves",
    status_code=202,
    dependencies=[needs(APPLY, OFFICER)],
    response_model=models.LoanBody,
    responses={
        200: {"model": models.LoanBody, "description": "This acceptance was handed in already"},
        **problems(*POST_PROBLEMS, "loan_unknown", "loan_state", *_ACCEPT_PROBLEMS),
    },
    openapi_extra=request_body(models.AcceptanceRequest),
)
async def accept(request: Request, loan: LoanId, idempotency_key: IdempotencyKey = None) -> Response:
    raw = base64_bytes((await read_body(models.AcceptanceRequest, request)).acceptance, "acceptance")
    engine = context_of(request).desk.engine
    return await _ask(
        request,
        loan,
        lambda one: one.contract is not None and one.contract.acceptance.raw == raw,
        lambda: engine.accept(loan, raw),
    )


@router.post(
    "/v1/loans/{loan}/draws",
    summary="Hand in the enterprise's signed order to pay out more of its line",
    status_code=202,
    dependencies=[needs(APPLY, OFFICER)],
    response_model=models.LoanBody,
    responses={
        200: {"model": models.LoanBody, "description": "This order was handed in already"},
        **problems(*POST_PROBLEMS, "loan_unknown", "loan_state", *_DRAW_PROBLEMS),
    },
    openapi_extra=request_body(models.DrawRequest),
)
async def draw(request: Request, loan: LoanId, idempotency_key: IdempotencyKey = None) -> Response:
    raw = base64_bytes((await read_body(models.DrawRequest, request)).order, "order")
    engine = context_of(request).desk.engine
    return await _ask(
        request,
        loan,
        lambda one: any(each.order == raw for each in one.draws),
        lambda: engine.draw(loan, raw),
    )


@router.post(
    "/v1/loans/{loan}/repayments",
    summary="Record a repayment that arrived: interest first, then principal",
    status_code=202,
    dependencies=[needs(CORE)],
    response_model=models.LoanBody,
    responses={
        200: {"model": models.LoanBody, "description": "This repayment was recorded already"},
        **problems(*POST_PROBLEMS, "loan_unknown", "loan_state", *_REPAY_PROBLEMS),
    },
    openapi_extra=request_body(models.RepaymentRequest),
)
async def repay(request: Request, loan: LoanId, idempotency_key: IdempotencyKey = None) -> Response:
    asked = await read_body(models.RepaymentRequest, request)
    found = await find_loan(request, loan)
    currency = "CNY" if found.offer is None else found.offer.currency
    amount = read_money(asked.amount, currency)
    engine = context_of(request).desk.engine
    same = (asked.reference, amount, asked.value_date)
    return await _ask(
        request,
        loan,
        lambda one: any((each.reference, each.amount, each.value_date) == same for each in one.repayments),
        lambda: engine.repay(loan, reference=asked.reference, amount=amount, value_date=asked.value_date),
    )


@router.post(
    "/v1/loans/{loan}/close",
    summary="Close a revolving line: nothing more is paid out, it ends once nothing is owed",
    status_code=202,
    dependencies=[needs(OFFICER)],
    response_model=models.LoanBody,
    responses={
        200: {"model": models.LoanBody, "description": "That was asked already"},
        **problems("loan_unknown", "loan_state"),
    },
)
async def close(request: Request, loan: LoanId, idempotency_key: IdempotencyKey = None) -> Response:
    engine = context_of(request).desk.engine
    return await _ask(request, loan, lambda one: one.closing, lambda: engine.close(loan))
