"""What a verified archive says, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taxledger.ledger.policies import HeldPolicy
from taxledger.lending.archive.format import Archive
from taxledger.lending.decision import Decision
from taxledger.lending.loans.loan import Loan

__all__ = ["ArchiveReport", "report_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReport:
    """What an archive proves.

    Attributes:
        loan, subject, product: of it; ``state`` where the loan was.
        lender: member number; ``lender_key`` the key that sealed it: compare it with the one that you expect, where
            none was given to compare.
        decisions: outcome and as-of date of each, in order, recomputed from the evidence.
        age_ms_max: how old evidence might be at the last decision: the lender's own choice.
        currency, limit, amount, rate_ppm, term_months: what was agreed, None without a contract.
        paid, repaid_principal, repaid_interest, principal: in minor units, computed.
        events, files, alerts: how many.
        validators: whose co-signatures each decision's evidence stands on, in order: names of the policy's witnesses.
        sealed_ms: when the archive was made, milliseconds since 1970.
    """

    loan: str
    subject: str
    product: str
    state: str
    lender: int
    lender_key: bytes
    decisions: tuple[tuple[str, str], ...]
    age_ms_max: int | None
    currency: str | None
    limit: int | None
    amount: int | None
    rate_ppm: int | None
    term_months: int | None
    paid: int
    repaid_principal: int
    repaid_interest: int
    principal: int
    events: int
    files: int
    alerts: int
    validators: tuple[tuple[str, ...], ...]
    sealed_ms: int


def report_of(
    archive: Archive, loan: Loan, decisions: Sequence[Decision], made_under: Sequence[HeldPolicy]
) -> ArchiveReport:
    """The report of an archive all of which has been verified."""
    contract = loan.contract
    return ArchiveReport(
        loan=loan.id,
        subject=loan.application.subject,
        product=loan.application.product,
        state=loan.state.value,
        lender=loan.lender,
        lender_key=archive.lender_key,
        decisions=tuple((each.outcome, each.as_of) for each in decisions),
        age_ms_max=decisions[-1].age_ms_max if decisions else None,
        currency=None if contract is None else contract.offer.currency,
        limit=None if contract is None else contract.offer.limit,
        amount=None if contract is None else contract.acceptance.amount,
        rate_ppm=None if contract is None else contract.offer.interest.rate_ppm,
        term_months=None if contract is None else contract.acceptance.term_months,
        paid=sum(each.amount for each in loan.draws if each.reference is not None),
        repaid_principal=sum(each.split.principal for each in loan.repayments),
        repaid_interest=sum(each.split.interest for each in loan.repayments),
        principal=loan.principal,
        events=len(archive.events),
        files=len(archive.files),
        alerts=len(archive.alerts),
        validators=tuple(tuple(each.policy.witnesses) for each in made_under),
        sealed_ms=archive.sealed_ms,
    )
