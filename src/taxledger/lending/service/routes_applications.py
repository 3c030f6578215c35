"""Applications: handed in by an enterprise's platform or at the lender's own counter, followed, tried again."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from taxledger.api.parsing import base64_bytes
from taxledger.api.problems import ProblemError
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.hashing import sha256
from taxledger.lending.desk import loan_id
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.ports import Application
from taxledger.lending.service import models
from taxledger.lending.service.access import APPLY, CORE, OFFICER, Caller, caller_of, check_visible, needs
from taxledger.lending.service.context import (
    POST_PROBLEMS,
    Context,
    Count,
    IdempotencyKey,
    LoanId,
    answer_loan,
    context_of,
    find_loan,
    idle_loan,
    problems,
    read_body,
    request_body,
    wait_for_loan,
)
from taxledger.lending.service.shown import loan_row

__all__ = ["router"]

_CONSENT_PROBLEMS = (
    "consent_signature_invalid",
    "consent_subject_mismatch",
    "consent_recipient_mismatch",
    "consent_custodian_mismatch",
    "consent_not_in_force",
    "consent_without_pledge",
)
_UNDECIDED = (State.APPLIED, State.CONSENTED, State.EVIDENCE, State.DECIDED)
router = APIRouter()


@router.post(
    "/v1/applications",
    tags=["applications"],
    summary="Apply for a loan; the service goes on with it by itself",
    status_code=202,
    dependencies=[needs(APPLY, OFFICER)],
    response_model=models.LoanBody,
    responses={
        200: {"model": models.LoanBody, "description": "It was applied for already, and is decided"},
        **problems(
            *POST_PROBLEMS,
            "product_unknown",
            "security_not_taken",
            "as_of_not_allowed",
            "application_conflict",
            *_CONSENT_PROBLEMS,
        ),
    },
    openapi_extra=request_body(models.ApplicationRequest),
)
async def apply(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    asked = await read_body(models.ApplicationRequest, request)
    name = asked.id or idempotency_key
    if name is None:
        raise ProblemError("request_invalid", "expected an id, or the header Idempotency-Key")
    artefact = base64_bytes(asked.consent, "consent")
    context = context_of(request)
    application = _application(context, caller_of(request), asked, name, artefact)
    loan = await run_in_threadpool(_record, context, application, artefact)
    context.worker.go_on(loan.id)
    answer = answer_loan(request, loan, 202 if loan.state in _UNDECIDED else 200)
    answer.headers["Location"] = f"/v1/loans/{loan.id}"
    return answer


def _application(
    context: Context, caller: Caller, asked: models.ApplicationRequest, name: str, artefact: bytes
) -> Application:
    if asked.product not in context.desk.keeper.ids:
        raise ProblemError("product_unknown", "GET /v1/products lists the products")
    product = context.desk.keeper.product(asked.product)
    if asked.security and product.security is None:
        raise ProblemError("security_not_taken", f"product {product.id} takes no security")
    if asked.as_of is not None:
        # Who could choose the day could choose one at which the enterprise still sold.
        if OFFICER not in caller.scopes:
            raise ProblemError("as_of_not_allowed", "leave as_of out: the decision date is the day of asking")
        if asked.as_of > context.desk.clock.today():
            raise ProblemError("request_invalid", "as_of: expected a day that is not still to come")
    return Application(
        # A sender's names are its own: no other channel can meet, or find out, an id.
        id=loan_id(f"{caller.name}/{name}"),
        subject=decode_artefact(artefact).terms.subject,
        product=asked.product,
        channel=caller.name,
        as_of=asked.as_of,
        security=tuple(sorted(set(asked.security))),
    )


def _record(context: Context, application: Application, artefact: bytes) -> Loan:
    """The loan of an application. Asked again: the same one, where it is now, and nothing is begun anew."""
    known = context.desk.store.find(application.id)
    if known is not None and known.artefact is not None:
        if known.application != application or known.artefact != sha256(artefact):
            raise RefusedError(
                "application_conflict", f"{application.id} was applied for with another content"
            )
        return known
    return context.desk.apply(application, artefact)


@router.get(
    "/v1/loans",
    tags=["loans"],
    summary="Loans, the newest first; a platform's own",
    dependencies=[needs(APPLY, OFFICER)],
    response_model=models.LoansBody,
    responses=problems(),
)
async def list_loans(
    request: Request,
    state: Annotated[State | None, Query()] = None,
    subject: Annotated[str | None, Query(min_length=3, max_length=256)] = None,
    limit: Annotated[Count, Query(ge=1, le=1_000)] = 100,
) -> Response:
    caller = caller_of(request)
    rows = await run_in_threadpool(
        context_of(request).desk.store.list,
        state=None if state is None else state.value,
        subject=subject,
        channel=None if caller.sees_all else caller.name,
        limit=limit,
    )
    body = models.LoansBody(loans=[loan_row(each) for each in rows])
    return Response(body.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/loans/{loan}",
    tags=["loans"],
    summary="A loan as it stands; with wait, once it has got somewhere",
    dependencies=[needs(APPLY, OFFICER, CORE)],
    response_model=models.LoanBody,
    responses=problems("loan_unknown"),
)
async def show_loan(
    request: Request,
    loan: LoanId,
    wait: Annotated[
        Literal["decided", "settled"] | None,
        Query(
            description="`decided`: until there is an offer, a refusal or another outcome; `settled`: until the "
            "service has nothing to do by itself. Answers as it is when the time is over"
        ),
    ] = None,
    timeout_s: Annotated[Count, Query(ge=0, le=60)] = 30,
) -> Response:
    context = context_of(request)
    await find_loan(request, loan)
    if wait is None or context.waiting >= context.settings.waits_max:
        timeout_s = 0
    context.waiting += 1
    try:
        found, working, _done = await wait_for_loan(
            request,
            loan,
            (lambda one, _busy: one.state not in _UNDECIDED)
            if wait == "decided"
            else (lambda _one, busy: not busy),
            min(timeout_s, context.settings.wait_s_max),
        )
    finally:
        context.waiting -= 1
    return answer_loan(request, found, working=working)


@router.post(
    "/v1/loans/{loan}/retry",
    tags=["loans"],
    summary="Ask for evidence once more, under the same consent",
    status_code=202,
    dependencies=[needs(APPLY, OFFICER)],
    response_model=models.LoanBody,
    responses={
        200: {"model": models.LoanBody, "description": "There is a later attempt already"},
        **problems(*POST_PROBLEMS, "loan_unknown", "loan_state"),
    },
    openapi_extra=request_body(models.RetryRequest),
)
async def retry(request: Request, loan: LoanId, idempotency_key: IdempotencyKey = None) -> Response:
    asked = await read_body(models.RetryRequest, request)
    found = await find_loan(request, loan)
    if found.attempt > asked.attempt:
        return answer_loan(request, found)
    if found.attempt != asked.attempt:
        raise ProblemError("loan_state", f"expected attempt {found.attempt}, which was the last")
    await idle_loan(request, loan)
    context = context_of(request)
    done = await run_in_threadpool(context.desk.engine.retry, loan)
    context.worker.go_on(loan)
    return answer_loan(request, done, 202)


@router.post(
    "/v1/loans/{loan}/consent",
    tags=["loans"],
    summary="Hand in another consent, after evidence was incomplete",
    status_code=202,
    dependencies=[needs(APPLY, OFFICER)],
    response_model=models.LoanBody,
    responses={
        200: {"model": models.LoanBody, "description": "This consent was handed in already"},
        **problems(*POST_PROBLEMS, "loan_unknown", "loan_state", *_CONSENT_PROBLEMS),
    },
    openapi_extra=request_body(models.ConsentRequest),
)
async def consent(request: Request, loan: LoanId, idempotency_key: IdempotencyKey = None) -> Response:
    artefact = base64_bytes((await read_body(models.ConsentRequest, request)).consent, "consent")
    found = await find_loan(request, loan)
    if found.artefact == sha256(artefact):
        return answer_loan(request, found)  # asking again under the same consent is ``retry``
    await idle_loan(request, loan)
    context = context_of(request)
    done = await run_in_threadpool(context.desk.engine.consent, loan, artefact)
    check_visible(caller_of(request), done)
    context.worker.go_on(loan)
    return answer_loan(request, done, 202)
