"""A lender's permits and pledges, and proofs of what is pledged. See docs/protocol.md §15, §16."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from taxledger.api import models_pledges as models
from taxledger.api.bodies import json_answer
from taxledger.api.idempotency import Answer, check_key
from taxledger.api.models import ConsentId
from taxledger.api.pledging import PledgeReceipt, Pledging
from taxledger.api.posting import POST_PROBLEMS, IdempotencyKey, request_body
from taxledger.api.problems import ProblemError
from taxledger.api.requests import (
    answer_fresh,
    answer_once,
    base64_bytes,
    context_of,
    needs,
    parse_body,
    problems,
)

__all__ = ["PLEDGES", "PROOF_PATH", "router"]

PLEDGES = "application/vnd.taxledger.pledges"
PROOF_PATH = "/v1/pledges/proof"

_PERMIT_PROBLEMS = (
    *("issuer_unknown", "custodian_refused", "consent_unknown", "consent_recipient_mismatch"),
    *("consent_custodian_mismatch", "consent_paused", "consent_revoked", "consent_superseded"),
    *("consent_early", "consent_expired", "pledge_not_consented", "record_not_disclosed"),
    *("record_not_valid", "record_not_pledgeable", "permit_invalid", "permit_expired"),
)
_PLACE_PROBLEMS = (
    *("pledge_exists", "permit_invalid", "permit_expired", "permit_not_for_signer", "ppm_too_small"),
    *("pledge_term_invalid", "record_not_pledgeable", "record_not_valid", "pledge_contested"),
    *("pledges_full", "pledge_exceeds"),
)
_CHANGE_PROBLEMS = ("pledge_unknown", "pledge_ended", "not_pledgee")

PledgeId = Annotated[ConsentId, Path(description="16 bytes as hex")]
router = APIRouter(tags=["pledge"])


def _pledging(request: Request) -> Pledging:
    pledging = context_of(request).pledging
    if pledging is None:
        raise ProblemError("not_found", "this node takes no part in pledging")
    return pledging


def _receipt(receipt: PledgeReceipt) -> Answer:
    body = {name: getattr(receipt, name) for name in PledgeReceipt.__slots__}
    return json_answer(200, body | {"pledge": receipt.pledge.hex(), "transaction": receipt.transaction.hex()})


def _nonce(request: Request, given: str | None) -> bytes:
    """16 bytes that name a place: the caller's, or those that follow from API key and Idempotency-Key."""
    if given is not None:
        return bytes.fromhex(given)
    sent = request.headers.get("idempotency-key")
    if sent is None:
        return secrets.token_bytes(16)
    return hashlib.sha256(f"{request.state.api_key_id}\0{check_key(sent)}".encode()).digest()[:16]


@router.post(
    "/v1/permits",
    summary="Ask the custodian for permits to pledge records that it showed under a consent",
    dependencies=[needs("pledge")],
    response_model=models.PermitsBody,
    responses=problems(*POST_PROBLEMS, "not_found", *_PERMIT_PROBLEMS),
    openapi_extra=request_body(models.PermitsRequest),
)
async def permits(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.PermitsRequest, request, body)
        found = await _pledging(request).permits(
            bytes.fromhex(asked.consent),
            asked.sequence,
            [bytes.fromhex(each) for each in asked.records],
            asked.not_after,
        )
        return json_answer(200, {"permits": [base64.b64encode(each).decode() for each in found]})

    return await answer_fresh(request, work)


@router.post(
    "/v1/pledges",
    summary="Pledge, or reserve, a share of a record",
    dependencies=[needs("pledge")],
    response_model=models.PledgeReceiptBody,
    responses=problems(*POST_PROBLEMS, "not_found", *_PLACE_PROBLEMS),
    openapi_extra=request_body(models.PledgeRequest),
)
async def place(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.PledgeRequest, request, body)
        permit = base64_bytes(asked.permit, "permit")
        nonce = _nonce(request, asked.nonce)
        return _receipt(await _pledging(request).place(permit, asked.ppm, asked.not_after, nonce))

    return await answer_once(request, work)


@router.post(
    PROOF_PATH,
    summary="A file that proves what is pledged under fingerprints, and what is not",
    dependencies=[needs("pledge", "read")],
    response_class=Response,
    responses={
        200: {"content": {PLEDGES: {}}, "description": "A pledge proof (docs/protocol.md §16)"},
        **problems(*POST_PROBLEMS, "not_found", "answer_too_large"),
    },
    openapi_extra=request_body(models.ProofRequest),
)
async def proof(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.ProofRequest, request, body)
        keys = [(each.issuer, bytes.fromhex(each.fingerprint)) for each in asked.keys]
        return Answer(status=200, media_type=PLEDGES, body=await _pledging(request).proof(keys))

    return await answer_fresh(request, work)


@router.post(
    "/v1/pledges/{pledge}/confirm",
    summary="Make a reservation a pledge without end",
    dependencies=[needs("pledge")],
    response_model=models.PledgeReceiptBody,
    responses=problems(
        *POST_PROBLEMS, "not_found", *_CHANGE_PROBLEMS, "pledge_confirmed", "record_not_valid"
    ),
    openapi_extra=request_body(models.ChangeRequest),
)
async def confirm(request: Request, pledge: PledgeId, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        parse_body(models.ChangeRequest, request, body)
        return _receipt(await _pledging(request).confirm(bytes.fromhex(pledge)))

    return await answer_fresh(request, work)


@router.post(
    "/v1/pledges/{pledge}/release",
    summary="End a pledge",
    dependencies=[needs("pledge")],
    response_model=models.PledgeReceiptBody,
    responses=problems(*POST_PROBLEMS, "not_found", *_CHANGE_PROBLEMS),
    openapi_extra=request_body(models.ChangeRequest),
)
async def release(request: Request, pledge: PledgeId, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        parse_body(models.ChangeRequest, request, body)
        return _receipt(await _pledging(request).release(bytes.fromhex(pledge)))

    return await answer_fresh(request, work)


@router.post(
    "/v1/pledges/{pledge}/transfer",
    summary="Pass a pledge to the lender that a permit names",
    dependencies=[needs("pledge")],
    response_model=models.PledgeReceiptBody,
    responses=problems(
        *POST_PROBLEMS,
        "not_found",
        *_CHANGE_PROBLEMS,
        "permit_invalid",
        "permit_expired",
        "permit_not_for_pledge",
        "lender_inactive",
        "record_not_pledgeable",
        "record_not_valid",
    ),
    openapi_extra=request_body(models.TransferRequest),
)
async def transfer(request: Request, pledge: PledgeId, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        permit = base64_bytes(parse_body(models.TransferRequest, request, body).permit, "permit")
        return _receipt(await _pledging(request).transfer(bytes.fromhex(pledge), permit))

    return await answer_fresh(request, work)
