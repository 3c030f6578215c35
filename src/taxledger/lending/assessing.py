"""From evidence to decision: the same function when it is decided, and when anyone checks the decision later.

Invariants:

* A decision names by digest what it stands on; ``assess`` makes the same bytes again from those files alone.
* Whatever is wrong with the evidence gives an ``incomplete`` decision with the reason, never an exception, and never
  a refusal on merit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from taxledger.ledger.errors import InputError, VerificationError
from taxledger.ledger.policy import Policy
from taxledger.lending.collecting import reason_of
from taxledger.lending.deciding import decide, incomplete
from taxledger.lending.decision import Decision, Reason
from taxledger.lending.evidence import EvidenceFile, add_pledges, verify_evidence_set
from taxledger.lending.offered import find_offered
from taxledger.lending.products.product import Product

__all__ = ["Case", "assess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a decision needs besides evidence.

    Attributes:
        application: the lender's id.
        product: what decides.
        subject: the enterprise.
        as_of: the decision date.
        security: the records offered, as the application names them (``offered.py``).
        recipient: the lender's member number.
        age_ms_max: how old evidence may be.
        artefact: the signed consent under which evidence has to be; None: one for all files.
    """

    application: str
    product: Product
    subject: str
    as_of: date
    security: tuple[str, ...]
    recipient: int
    age_ms_max: int
    artefact: bytes | None = None


def assess(
    case: Case,
    files: Sequence[EvidenceFile],
    pledges: bytes | None,
    policy: Policy,
    *,
    decided_ms: int,
    reasons: Sequence[Reason] = (),
) -> Decision:
    """The decision on what was collected.

    Args:
        case: what is decided.
        files: the evidence.
        pledges: the proof of what is pledged on the security (docs/protocol.md §15), where there is any.
        policy: whom the lender trusts.
        decided_ms: the instant, milliseconds since 1970; freshness is judged against it.
        reasons: why something did not come.
    """
    if reasons or not files:
        return _incomplete(case, reasons or (_NOTHING,), files, decided_ms)
    try:
        verified = verify_evidence_set(
            files,
            policy,
            recipient=case.recipient,
            now_ms=decided_ms,
            age_ms_max=case.age_ms_max,
            artefact=case.artefact,
        )
        kind = case.product.security
        security, unknown = (
            ((), ()) if kind is None else find_offered(verified.facts, kind.kind, case.security)
        )
        if unknown:
            return _incomplete(case, unknown, files, decided_ms)
        if security and pledges is not None:
            verified = add_pledges(
                verified, pledges, policy, security, now_ms=decided_ms, age_ms_max=case.age_ms_max
            )
    except (VerificationError, InputError) as error:
        return _incomplete(case, [reason_of(error, files[0].query.issuer)], files, decided_ms)
    return decide(
        case.product,
        verified,
        application=case.application,
        recipient=case.recipient,
        as_of=case.as_of,
        decided_ms=decided_ms,
        age_ms_max=case.age_ms_max,
        security=security,
    )


_NOTHING = Reason(code="evidence_missing", text="no evidence came", text_zh="未取得任何证据")


def _incomplete(
    case: Case, reasons: Sequence[Reason], files: Sequence[EvidenceFile], decided_ms: int
) -> Decision:
    return incomplete(
        case.product,
        reasons,
        application=case.application,
        recipient=case.recipient,
        subject=case.subject,
        as_of=case.as_of,
        decided_ms=decided_ms,
        age_ms_max=case.age_ms_max,
        evidence=[each.digest for each in files],
    )
