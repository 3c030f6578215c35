"""The custodian's desk: subjects' keys, consents, their receipts, erasure; and revoking by preimage, at any node.

Subjects, artefacts and preimages stand in bodies only. Answers that hold them are never kept for repetition.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from taxledger.api import models_consents as models
from taxledger.api.bodies import json_answer
from taxledger.api.bodies_consents import (
    consent_body,
    consent_receipt_body,
    erasure_body,
    forwarded_body,
)
from taxledger.api.consentreceipt import StatusChange, receipt_document
from taxledger.api.custody import ConsentEntry, ConsentReceipt, Custody, Disclosures
from taxledger.api.idempotency import Answer
from taxledger.api.posting import POST_PROBLEMS, IdempotencyKey, request_body, subject_of
from taxledger.api.problems import ProblemError
from taxledger.api.reader import NodeReader
from taxledger.api.requests import (
    answer_fresh,
    answer_once,
    base64_bytes,
    context_of,
    needs,
    parse_body,
    problems,
)
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.consentstate import UseValue, decode_consent_value, decode_use_value
from taxledger.ledger.errors import RefusedError, VerificationError
from taxledger.ledger.header import decode_header
from taxledger.ledger.instruction import decode_instruction
from taxledger.ledger.members import decode_member
from taxledger.ledger.query import Query
from taxledger.ledger.statekeys import consent_key, uses_prefix

__all__ = ["disclosures_of", "router"]

_GRANT_PROBLEMS = (
    "consent_key_unknown",
    "consent_chain_mismatch",
    "consent_custodian_mismatch",
    "consent_exists",
    "consent_fields_exceeded",
    "consent_kind_exceeded",
    "consent_signature_invalid",
    "consent_terms_invalid",
    "consent_unknown",
    "predicate_unknown",
    "predicate_argument_invalid",
)
_MEMBERS = b"\x06"
_TIMES_MAX = 64
"""Blocks looked at for the instants of uses."""

router = APIRouter(tags=["consent"])


def _custody(request: Request) -> Custody:
    custody = context_of(request).custody
    if custody is None:
        raise ProblemError("not_custodian", "ask the node of the member that attested the records")
    return custody


def disclosures_of(request: Request) -> Disclosures:
    """The node's side of disclosures, or a problem where it has none."""
    disclosures = context_of(request).disclosures
    if disclosures is None:
        raise ProblemError("not_found", "this node takes no part in disclosures")
    return disclosures


@router.post(
    "/v1/subjects",
    summary="Register a subject's key, after the person was identified",
    dependencies=[needs("custody")],
    response_model=models.SubjectBody,
    responses=problems(*POST_PROBLEMS, "not_custodian", "subject_key_exists"),
    openapi_extra=request_body(models.SubjectKeyRequest),
)
async def register_subject(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.SubjectKeyRequest, request, body)
        number = await _custody(request).register_subject(
            subject_of(asked.subject),
            bytes.fromhex(asked.public_key),
            authentication=asked.authentication,
            reason=asked.reason,
        )
        return json_answer(200, {"key": number})

    return await answer_once(request, work)


@router.post(
    "/v1/consents",
    summary="Put a consent on the ledger that the subject signed",
    dependencies=[needs("custody")],
    response_model=models.ConsentReceiptBody,
    responses=problems(*POST_PROBLEMS, "not_custodian", *_GRANT_PROBLEMS),
    openapi_extra=request_body(models.GrantRequest),
)
async def grant(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        raw = base64_bytes(parse_body(models.GrantRequest, request, body).artefact, "artefact")
        try:
            decode_artefact(raw)
        except VerificationError as error:
            raise ProblemError(error.code, "the artefact's signature does not verify") from None
        return json_answer(200, consent_receipt_body(await _custody(request).grant(raw)))

    return await answer_once(request, work)


@router.post(
    "/v1/consents/forward",
    summary="Hand an artefact to every custodian it names, at the recipient's node",
    dependencies=[needs("disclose")],
    response_model=models.ForwardedBody,
    responses={
        202: {"model": models.ForwardedBody, "description": "Some custodians did not grant; send it again"},
        **problems(*POST_PROBLEMS, "not_found", "consent_recipient_mismatch", "consent_signature_invalid"),
    },
    openapi_extra=request_body(models.GrantRequest),
)
async def forward(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        raw = base64_bytes(parse_body(models.GrantRequest, request, body).artefact, "artefact")
        made = await disclosures_of(request).forward(raw)
        # 202 is not kept for repetition: the same request again reaches those that were down.
        return json_answer(202 if made.failures else 200, forwarded_body(made))

    return await answer_once(request, work)


@router.post(
    "/v1/consents/instructions",
    summary="Pause, resume or revoke a consent, as its subject instructs",
    dependencies=[needs("custody")],
    response_model=models.ConsentReceiptBody,
    responses=problems(
        *POST_PROBLEMS,
        "not_custodian",
        "consent_unknown",
        "consent_signature_invalid",
        "consent_key_unknown",
        "consent_chain_mismatch",
        "consent_state_invalid",
        "instruction_repeated",
    ),
    openapi_extra=request_body(models.InstructionRequest),
)
async def instruct(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        raw = base64_bytes(parse_body(models.InstructionRequest, request, body).instruction, "instruction")
        try:
            decode_instruction(raw)
        except VerificationError as error:
            raise ProblemError(error.code, "the instruction's signature does not verify") from None
        return json_answer(200, consent_receipt_body(await _custody(request).instruct(raw)))

    return await answer_once(request, work)


@router.post(
    "/v1/consents/list",
    summary="Every consent of a subject at this custodian, with its uses",
    dependencies=[needs("custody")],
    response_model=models.Consents,
    responses=problems(*POST_PROBLEMS, "not_custodian"),
    openapi_extra=request_body(models.SubjectRequest),
)
async def consents(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.SubjectRequest, request, body)
        entries = await _custody(request).consents(subject_of(asked.subject))
        return json_answer(200, {"consents": [consent_body(entry) for entry in entries]})

    return await answer_fresh(request, work)


@router.post(
    "/v1/consents/receipt",
    summary="A consent's receipt in the shape of ISO/IEC TS 27560",
    dependencies=[needs("custody")],
    response_model=models.ReceiptDocument,
    responses=problems(*POST_PROBLEMS, "not_custodian", "consent_unknown", "answer_too_large"),
    openapi_extra=request_body(models.ConsentRequest),
)
async def receipt(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.ConsentRequest, request, body)
        wanted = bytes.fromhex(asked.consent)
        for entry in await _custody(request).consents(subject_of(asked.subject)):
            if entry.consent == wanted:
                context = context_of(request)
                document = await _receipt(context.reader, entry, context.settings.state_entries_max)
                return json_answer(200, document)
        raise ProblemError("consent_unknown", "this subject has no such consent here")

    return await answer_fresh(request, work)


async def _receipt(reader: NodeReader, entry: ConsentEntry, entries_max: int) -> dict[str, object]:
    """The receipt of an entry, over the certified state."""
    key, below = consent_key(entry.consent), uses_prefix(entry.consent)
    state = await reader.state([key, below, _MEMBERS], entries_max=entries_max)
    if not state.entries[key]:
        raise RefusedError("consent_unknown", "the ledger does not have it yet")
    header = decode_header(state.header)
    uses: dict[int, UseValue] = {
        int.from_bytes(name[len(below) :], "big"): decode_use_value(value)
        for name, value in state.entries[below]
    }
    granted = entry.granted_height
    heights = [granted]
    for use in uses.values():
        heights += (
            [use.opened_height] if use.closed_height is None else [use.opened_height, use.closed_height]
        )
    times_ms: dict[int, int] = {}
    for height in sorted(set(heights), key=lambda each: (each != granted, -each))[:_TIMES_MAX]:
        block = await reader.block(height)
        if block is not None:
            times_ms[height] = block.time_ms
    return receipt_document(
        decode_artefact(entry.artefact),
        custodian=(await reader.status()).number,
        value=decode_consent_value(state.entries[key][0][1]),
        uses=uses,
        height=header.height,
        time_ms=header.time_ms,
        names={
            (number := int.from_bytes(name[1:], "big")): decode_member(number, value).name
            for name, value in state.entries[_MEMBERS]
        },
        changes=[StatusChange(status="active", height=granted, time_ms=times_ms.get(granted))],
        times_ms=times_ms,
    )


@router.post(
    "/v1/consents/revocations",
    summary="Revoke a consent by the preimage of its revoke hash, at any member's node",
    dependencies=[needs("submit")],
    response_model=models.ConsentReceiptBody,
    responses=problems(
        *POST_PROBLEMS, "not_found", "consent_unknown", "preimage_invalid", "consent_state_invalid"
    ),
    openapi_extra=request_body(models.RevocationRequest),
)
async def revoke(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.RevocationRequest, request, body)
        made: ConsentReceipt = await disclosures_of(request).revoke(
            bytes.fromhex(asked.consent), bytes.fromhex(asked.preimage)
        )
        return json_answer(200, consent_receipt_body(made))

    return await answer_once(request, work)


@router.post(
    "/v1/erasures",
    summary="Destroy records' fields and secrets, here and by notice at recipients",
    dependencies=[needs("custody")],
    response_model=models.ErasureBody,
    responses=problems(*POST_PROBLEMS, "not_custodian"),
    openapi_extra=request_body(models.ErasureRequest),
)
async def erase(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    async def work(body: bytes) -> Answer:
        asked = parse_body(models.ErasureRequest, request, body)
        custody = _custody(request)
        query = Query(
            subject=subject_of(asked.subject),
            issuer=(await context_of(request).reader.status()).number,
            kinds=tuple(sorted(set(asked.kinds))),
            from_period=asked.from_,
            to_period=asked.to,
        )
        return json_answer(200, erasure_body(await custody.erase(query, reason=asked.reason)))

    return await answer_once(request, work)
