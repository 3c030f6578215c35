"""Every problem the API answers with: one table of codes, RFC 9457 bodies, and our errors mapped to them.

The table is repeated in docs/api.md for readers; a test compares the two. Nothing here needs a web framework:
the client reads the same table to know what may be tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxledger.ledger.errors import (
    EncodingError,
    InputError,
    LimitError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
    VerificationError,
)

__all__ = ["MEDIA_TYPE", "PROBLEMS", "Problem", "ProblemError", "problem_body", "problem_of", "type_of"]

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One row of the table: a stable code, its HTTP status, a title, and whether trying again can help."""

    code: str
    status: int
    title: str
    retry: bool = False


_ROWS = (
    # --- the request ------------------------------------------------------------------------
    Problem(code="malformed", status=400, title="The bytes of the request can't be read"),
    Problem(
        code="idempotency_key_invalid",
        status=400,
        title="The Idempotency-Key is not 1 to 128 ASCII characters",
    ),
    Problem(code="key_missing", status=401, title="No API key was sent"),
    Problem(code="key_unknown", status=401, title="The API key is not known here"),
    Problem(code="scope_missing", status=403, title="The API key does not have the scope"),
    Problem(code="not_found", status=404, title="There is no such route"),
    Problem(code="method_not_allowed", status=405, title="The route does not take this method"),
    Problem(code="body_too_large", status=413, title="The body is larger than the limit"),
    Problem(code="media_type_unsupported", status=415, title="The route does not take this content type"),
    Problem(code="request_invalid", status=422, title="A field, parameter or path part is not valid"),
    Problem(code="idempotency_mismatch", status=422, title="The Idempotency-Key was used with another body"),
    Problem(code="streams_exhausted", status=429, title="Too many event streams are open", retry=True),
    # --- what was asked for -----------------------------------------------------------------
    Problem(code="transaction_unknown", status=404, title="No certified transaction has this id"),
    Problem(code="policy_unknown", status=404, title="This ledger has had no such validators"),
    Problem(code="record_unknown", status=404, title="No certified record has this key"),
    Problem(code="tile_unknown", status=404, title="The certified log does not reach this tile"),
    Problem(code="pruned", status=404, title="It is older than what this node keeps"),
    Problem(code="issuer_unknown", status=422, title="No active member of this number may issue the kind"),
    Problem(code="custodian_refused", status=403, title="The issuer's custodian refused to answer"),
    Problem(code="answer_too_large", status=422, title="The answer would be larger than the limit"),
    # --- consents and disclosures -----------------------------------------------------------
    Problem(code="consent_missing", status=403, title="No consent was named"),
    Problem(code="consent_unknown", status=403, title="The custodian has no such consent"),
    Problem(code="consent_changed", status=403, title="The artefact is not the one that was granted"),
    Problem(code="consent_signature_invalid", status=403, title="Not signed by the key it names"),
    Problem(code="consent_key_unknown", status=403, title="Not signed by the subject's registered key"),
    Problem(code="consent_chain_mismatch", status=403, title="The consent is for another ledger"),
    Problem(code="consent_custodian_mismatch", status=403, title="The consent does not name this custodian"),
    Problem(code="consent_recipient_mismatch", status=403, title="The consent is for another recipient"),
    Problem(code="consent_subject_mismatch", status=403, title="The consent is of another subject"),
    Problem(code="consent_kind_exceeded", status=403, title="The consent does not cover a kind asked for"),
    Problem(code="consent_period_exceeded", status=403, title="The consent does not cover the period"),
    Problem(code="consent_fields_exceeded", status=403, title="The consent names a field that is not there"),
    Problem(code="consent_paused", status=403, title="The consent is paused"),
    Problem(code="consent_revoked", status=403, title="The consent is revoked"),
    Problem(code="consent_superseded", status=403, title="Another consent has taken its place"),
    Problem(code="consent_early", status=403, title="The consent is not valid yet"),
    Problem(code="consent_expired", status=403, title="The consent has expired"),
    Problem(code="consent_used_up", status=403, title="The consent was used as often as it may be"),
    Problem(code="consent_exists", status=403, title="The consent is on the ledger already"),
    Problem(code="consent_terms_invalid", status=403, title="The ledger does not take these terms"),
    Problem(code="consent_state_invalid", status=403, title="The consent's state does not allow the change"),
    Problem(code="preimage_invalid", status=403, title="Not the preimage of the consent's revoke hash"),
    Problem(code="predicate_unknown", status=403, title="The consent names a predicate that is not known"),
    Problem(code="predicate_argument_invalid", status=403, title="A predicate does not take its argument"),
    Problem(
        code="inputs_incomplete", status=409, title="A predicate has no result: its inputs are incomplete"
    ),
    Problem(code="disclosure_withheld", status=403, title="The consent ended while the answer was sent"),
    Problem(code="not_custodian", status=403, title="This node is no custodian's"),
    Problem(code="subject_key_exists", status=409, title="The subject has another key; a reason is needed"),
    Problem(code="instruction_repeated", status=409, title="The instruction's number was used before"),
    Problem(code="use_closed", status=409, title="The use of this request has ended"),
    Problem(code="disclosure_unknown", status=404, title="No such disclosure is kept here"),
    Problem(code="disclosure_destroyed", status=410, title="It was kept here and destroyed, or is erased"),
    Problem(code="disclosure_invalid", status=422, title="What the custodian sent does not verify"),
    # --- permits and pledges ----------------------------------------------------------------
    Problem(code="pledge_not_consented", status=403, title="The consent does not allow pledging"),
    Problem(
        code="record_not_disclosed", status=403, title="The use did not show this record as one to pledge"
    ),
    Problem(code="record_not_pledgeable", status=409, title="The record has no such fingerprint"),
    Problem(code="record_not_valid", status=409, title="The record is not valid, or changed"),
    Problem(code="permit_invalid", status=403, title="The permit is not signed by the issuer's present key"),
    Problem(code="permit_expired", status=403, title="The permit has ended"),
    Problem(code="permit_not_for_signer", status=403, title="The permit is another lender's"),
    Problem(
        code="permit_not_for_pledge", status=403, title="The permit is for another record than the pledge"
    ),
    Problem(code="lender_inactive", status=409, title="The permit's lender can't take the pledge over"),
    Problem(code="ppm_too_small", status=422, title="The share is smaller than 10,000 ppm"),
    Problem(code="pledge_term_invalid", status=422, title="The reservation would have ended already"),
    Problem(code="pledge_exists", status=409, title="A pledge was placed by this request, with other terms"),
    Problem(code="pledge_unknown", status=404, title="No such pledge was ever placed"),
    Problem(code="pledge_ended", status=409, title="The pledge has ended"),
    Problem(code="not_pledgee", status=403, title="The pledge is another member's"),
    Problem(code="pledge_confirmed", status=409, title="The pledge has no end already"),
    Problem(code="pledge_contested", status=409, title="The same document is pledged under another record"),
    Problem(code="pledges_full", status=409, title="The record has as many pledges as it may"),
    Problem(code="pledge_exceeds", status=409, title="More than the record's whole value would be pledged"),
    # --- a transaction that can't count -----------------------------------------------------
    Problem(code="transaction_malformed", status=400, title="The body is not a transaction"),
    Problem(code="transaction_expired", status=422, title="The transaction has expired"),
    Problem(code="transaction_early", status=422, title="The transaction is not valid yet"),
    Problem(code="transaction_foreign", status=422, title="The transaction is for another chain"),
    Problem(code="signature_invalid", status=422, title="The transaction's signature does not verify"),
    Problem(
        code="member_inactive", status=422, title="The signer is no active member, or the key is not its own"
    ),
    Problem(code="refused", status=422, title="A rule refused the request"),
    # --- the node ---------------------------------------------------------------------------
    Problem(code="internal", status=500, title="The node made a mistake"),
    Problem(code="unavailable", status=503, title="The node can't answer now, try again later", retry=True),
)

PROBLEMS = {row.code: row for row in _ROWS}


def type_of(code: str) -> str:
    """The problem type: a relative reference to its row in docs/api.md (RFC 9457 §3.1.1)."""
    return f"/problems/{code}"


class ProblemError(TaxledgerError):
    """A problem to answer with.

    Attributes:
        code: a code of the table.
        detail: one sentence for a person; never holds values of the caller's fields.
        more: extension members of the body.
    """

    def __init__(self, code: str, detail: str, **more: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.more = more


def problem_body(code: str, detail: str, instance: str, **more: Any) -> dict[str, Any]:
    """The members of an RFC 9457 body; ``instance`` names the request."""
    row = PROBLEMS[code]
    return {
        "type": type_of(code),
        "title": row.title,
        "status": row.status,
        "detail": detail,
        "instance": f"urn:taxledger:request:{instance}",
        "code": code,
        **more,
    }


def problem_of(error: TaxledgerError) -> ProblemError:
    """The problem that tells a caller about one of our errors.

    An error that speaks of the node's own state (a proof that does not verify) is ``internal``: the
    caller did nothing wrong, and the details belong into the node's log.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RefusedError):
        detail = str(error).removeprefix(f"{error.code}: ")
        if error.code in PROBLEMS:
            return ProblemError(error.code, detail)
        return ProblemError("refused", detail, reason=error.code)
    if isinstance(error, LimitError):
        return ProblemError("request_invalid", str(error))
    if isinstance(error, EncodingError):
        return ProblemError("malformed", str(error))
    if isinstance(error, InputError):
        return ProblemError("request_invalid", str(error))
    if isinstance(error, UnavailableError):
        return ProblemError("unavailable", str(error) or "try again later")
    if isinstance(error, VerificationError):
        return ProblemError("internal", "the node's own data did not verify; its log says more")
    return ProblemError("internal", "unexpected condition; the node's log says more")
