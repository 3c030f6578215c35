"""A loan under watch, as the engine has it stored: its evidence, verified as of the decision, and its pledges."""

from __future__ import annotations

from taxledger.ledger.errors import RefusedError
from taxledger.ledger.policies import Policies
from taxledger.lending.archive.format import decode_query
from taxledger.lending.decision import decode_decision
from taxledger.lending.evidence import EvidenceFile, policy_of_evidence, secured, verify_evidence_set
from taxledger.lending.loans.history import fold
from taxledger.lending.loans.loan import State
from taxledger.lending.loans.records import LoanRecords
from taxledger.lending.watch.watched import WatchedLoan, WatchedPledge, watched_of

__all__ = ["watched_loan"]


def watched_loan(store: LoanRecords, loan: str, policies: Policies) -> WatchedLoan:
    """The loan, to be enrolled.

    Args:
        store: where it is.
        loan: its id.
        policies: whom the lender trusts and trusted: the loan may have been decided under a former one.

    Raises:
        RefusedError: ``loan_unknown``, or ``loan_not_paid_out``.
        VerificationError: what is stored does not verify.
    """
    events = store.events(loan)
    if not events:
        raise RefusedError("loan_unknown", f"no loan {loan!r:.40}")
    found = fold(events)
    if found.state is not State.PAID_OUT:
        raise RefusedError("loan_not_paid_out", f"expected a loan that was paid out, got {found.state}")
    decision = decode_decision(store.file(loan, found.decision or b""))
    _version, named, _pledges, _reasons = found.evidence
    files = [
        EvidenceFile(query=decode_query(query), data=store.file(loan, digest)) for query, digest in named
    ]
    verified = verify_evidence_set(
        files,
        policy_of_evidence(files, policies),
        recipient=found.lender,
        now_ms=decision.decided_ms,
        age_ms_max=decision.age_ms_max,
        artefact=None if found.artefact is None else store.file(loan, found.artefact),
    )
    offered = [bytes.fromhex(each) for each in decision.security]
    records = {each.key: each for each in secured(verified.facts, offered)}
    # Pledges were placed in the order of the decision's records, which ascend.
    pledges = [
        WatchedPledge(
            id=id,
            issuer=records[key].issuer,
            fingerprint=records[key].fingerprint or b"",
            record_key=key,
        )
        for key, id in zip(offered, found.pledges, strict=True)
    ]
    return watched_of(
        loan,
        found.application.product,
        decision.as_of,
        files,
        verified,
        security=offered,
        pledges=pledges,
    )
