"""What an archive proves, and writing one that does.

``verify_archive`` needs the file, the lender's policy files of that time, and the lender's key; no network, no clock.

1. The seal is the lender's, and the events lead to the sealed head.
2. The archive holds exactly the files that the events name, and exactly the products and scorecards that decided.
3. Every decision is made again from its evidence, as of its own instant, to the same bytes: each evidence file
   verifies under the policy of its decision, one of the verifier's own, is about this enterprise, and was disclosed
   under the consent that the loan names.
4. The offer is what the decision allows; contract and draw orders are signed, the enterprise's by the key that signed
   its consent, and lie within the offer.
5. Interest, balances and states follow from the events (``loans.history``), never more is owed than was agreed, and
   there is one payment message for each draw that was paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TypeVar

from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.crypto import Signer
from taxledger.ledger.disclosure import decode_disclosure
from taxledger.ledger.errors import RefusedError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policies import HeldPolicy, Policies
from taxledger.lending.archive.format import (
    Archive,
    NamedPolicy,
    PaymentDigest,
    decode_archive,
    decode_query,
    encode_archive,
    name_policy,
    named_files,
)
from taxledger.lending.archive.named import policies_named
from taxledger.lending.archive.report import ArchiveReport, report_of
from taxledger.lending.assessing import Case, assess
from taxledger.lending.decision import Decision, decode_decision, encode_decision
from taxledger.lending.evidence import EvidenceFile, policy_of_evidence
from taxledger.lending.loans.draworder import verify_draw_order
from taxledger.lending.loans.events import Event, decode_reasons
from taxledger.lending.loans.history import fold
from taxledger.lending.loans.loan import Loan
from taxledger.lending.products.product import Product, decode_product
from taxledger.lending.watch.alerts import alert_id, decode_alert, encode_alert

__all__ = ["verify_archive", "write_archive"]

T = TypeVar("T")
_DAY_MS = 86_400_000

_LENGTHS = {
    "applied": 6,
    "consent_given": 5,
    "consented": 2,
    "evidence_asked": 3,
    "evidence": 4,
    "decided": 4,
    "offered": 2,
    "refused": 2,
    "referred": 2,
    "incomplete": 2,
    "expired": 2,
    "accepted": 3,
    "pledge_asked": 1,
    "pledged": 2,
    "draw_ordered": 5,
    "paid": 3,
    "draw_refused": 2,
    "repaid": 6,
    "close_asked": 1,
    "release_asked": 1,
    "failed": 2,
    "closed": 2,
}
"""Elements of each kind of event's value, so that nothing stands in one that nobody reads."""


def write_archive(
    signer: Signer,
    *,
    loan: str,
    policies: Policies,
    sealed_ms: int,
    products: Iterable[bytes],
    scorecards: Mapping[str, bytes],
    files: Sequence[bytes],
    events: Sequence[Event],
    payments: Sequence[PaymentDigest] = (),
    alerts: Sequence[str] = (),
) -> bytes:
    """The archive of a loan, after it has been verified.

    Args:
        signer: the lender's key for contracts.
        loan: its id.
        policies: the lender's own; each decision is found to be made under one of them, and the archive names it.
        sealed_ms: now, milliseconds since 1970.
        products, scorecards: the files that decided, scorecards by id.
        files: what the events name (``format.named_files``).
        events: all of the loan's.
        payments: of each draw that was paid, ascending.
        alerts: of the watch, as ``encode_alert`` has them.

    Raises:
        InputError, VerificationError: it would not verify; nothing is returned.
    """
    products = tuple(products)

    def encode(named: Sequence[NamedPolicy]) -> bytes:
        return encode_archive(
            signer,
            loan=loan,
            policies=named,
            sealed_ms=sealed_ms,
            products=products,
            scorecards=scorecards,
            files=files,
            events=events,
            payments=payments,
            alerts=alerts,
        )

    assumed = [name_policy(policies.held[0])] * sum(each.kind == "decided" for each in events)
    data = encode(assumed)
    check = _Check(decode_archive(data), policies, under_any=True)
    _run(check)
    named = [name_policy(each) for each in check.made_under]
    # All else is as it was verified, and these are the policies that it was verified under.
    return data if named == assumed else encode(named)


def verify_archive(data: bytes, policies: Policies, lender_key: bytes | None = None) -> ArchiveReport:
    """What an archive proves, once all of it is verified.

    Args:
        data: the archive.
        policies: those that the lender verified by; never from the archive's own source.
        lender_key: the lender's key for contracts, 32 bytes; None: the report says which it was.

    Raises:
        InputError: not an archive in its one form.
        VerificationError: with the code of what does not hold: those of docs/lending.md, of the contract, of
            evidence (docs/protocol.md §10, §13, §16).
    """
    archive = decode_archive(data)
    if lender_key is not None and archive.lender_key != lender_key:
        raise _broken(
            "archive_key_mismatch", "sealed by another key", lender_key.hex(), archive.lender_key.hex()
        )
    return _run(_Check(archive, policies))


def _run(check: _Check) -> ArchiveReport:
    try:
        return check.run()
    except RefusedError as error:
        raise VerificationError(error.code, str(error)) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        # Events are the lender's: what it sealed may be of any shape.
        raise _broken(
            "archive_events_broken", f"an event of another shape ({type(error).__name__})"
        ) from error


def _broken(code: str, message: str, expected: object = None, got: object = None) -> VerificationError:
    return VerificationError(code, message, expected=expected, got=got)


def _same(code: str, what: str, expected: object, got: object) -> None:
    if expected != got:
        raise _broken(code, f"{what}: expected {expected!r:.80}, got {got!r:.80}", expected, got)


class _Check:
    """One archive under the policies that it names, or (``under_any``) whichever of those held reproduces it.

    Attributes:
        made_under: the policy of each decision, in order, after ``run``.
    """

    def __init__(self, archive: Archive, policies: Policies, *, under_any: bool = False) -> None:
        self._archive, self._policies = archive, policies
        decided = sum(each.kind == "decided" for each in archive.events)
        self._candidates = (
            [policies.held] * decided if under_any else policies_named(archive, policies, decided)
        )
        self.made_under: list[HeldPolicy] = []
        self._decisions: list[Decision] = []
        self._used: set[bytes] = set()

    def run(self) -> ArchiveReport:
        archive = self._archive
        _same("archive_files_mismatch", "files", named_files(archive.events), sorted(archive.files))
        loan: Loan | None = None
        for event in archive.events:
            loan = self._take(loan, event)
        loan = _there(loan)
        _same(
            "archive_products_mismatch",
            "products and scorecards",
            sorted(self._used),
            sorted(map(sha256, (*archive.products, *archive.scorecards.values()))),
        )
        paid = [each.number for each in loan.draws if each.reference is not None]
        _same("archive_payments_mismatch", "payments", paid, [each.draw for each in archive.payments])
        self._check_alerts()
        return report_of(self._archive, loan, self._decisions, self.made_under)

    def _take(self, loan: Loan | None, event: Event) -> Loan:
        value = event.value
        if type(value) is not list or value[:1] != [1] or len(value) != _LENGTHS.get(event.kind):
            raise _broken(
                "archive_events_broken", f"event {event.sequence} {event.kind!r:.40}: another shape"
            )
        if event.kind == "decided" and loan is not None:
            self._check_decision(loan, event)
        after = fold([event], loan)
        match event.kind:
            case "consent_given":
                self._check_consent(after)
            case "offered":
                self._check_offer(after)
            case "accepted":
                self._check_contract(after)
            case "pledged":
                self._check_pledges(after)
            case "draw_ordered":
                self._check_draw(after, event)
            case "paid":
                self._check_owed(after)
        return after

    # --- consent and decision -----------------------------------------------------------------

    def _check_consent(self, loan: Loan) -> None:
        artefact = decode_artefact(self._archive.files[loan.artefact or b""])
        terms = artefact.terms
        got = (terms.subject, terms.recipient, terms.chain_id, artefact.public_key)
        expected = (loan.application.subject, loan.lender, loan.chain_id, loan.borrower_key)
        _same("archive_consent_mismatch", "subject, recipient, chain and key of the consent", expected, got)

    def _check_decision(self, loan: Loan, event: Event) -> None:
        stored = self._archive.files[event.value[1]]
        decision = decode_decision(stored)
        _version, named, pledges, reasons = loan.evidence
        files = [
            EvidenceFile(query=decode_query(query), data=self._archive.files[digest])
            for query, digest in named
        ]
        for each in files:
            _same("archive_subject_mismatch", "subject asked", loan.application.subject, each.query.subject)
            under = decode_disclosure(each.data).artefact.raw
            _same("archive_consent_mismatch", "consent of the evidence", loan.artefact, sha256(under))
        case = Case(
            application=loan.id,
            product=self._product(decision),
            subject=loan.application.subject,
            as_of=loan.as_of or date.min,
            security=loan.application.security,
            recipient=loan.lender,
            age_ms_max=decision.age_ms_max,
            artefact=self._archive.files[loan.artefact or b""],
        )
        proof = None if pledges is None else self._archive.files[pledges]
        candidates = self._candidates[len(self._decisions)]
        made: list[Decision] = []
        for held in candidates:
            again = assess(
                case,
                files,
                proof,
                held.policy,
                decided_ms=decision.decided_ms,
                reasons=decode_reasons(reasons),
            )
            if encode_decision(again) == stored:
                self.made_under.append(held)
                break
            made.append(again)
        else:
            policy_of_evidence(files, self._policies)  # a policy that is not held is said by its name
            again = made[0]
            raise _broken(
                "archive_decision_mismatch",
                f"the evidence gives {again.outcome}, limit {again.limit}, {_codes(again)}",
                decision.outcome,
                again.outcome,
            )
        _same("archive_decision_mismatch", "outcome in the events", decision.outcome, event.value[2])
        self._decisions.append(decision)

    def _product(self, decision: Decision) -> Product:
        for data in self._archive.products:
            if sha256(data).hex() == decision.product_digest:
                product = decode_product(data, self._archive.scorecards)
                self._used.add(product.digest)
                if product.scorecard_digest is not None:
                    self._used.add(product.scorecard_digest)
                return product
        raise _broken(
            "archive_products_mismatch", "the product that decided is missing", decision.product_digest
        )

    # --- contract and money -------------------------------------------------------------------

    def _check_offer(self, loan: Loan) -> None:
        offer, decision = _there(loan.offer), self._decisions[-1]
        got = (
            *(offer.loan, offer.lender, offer.subject, offer.chain_id, offer.product, offer.product_version),
            *(offer.decision, offer.currency, offer.limit, offer.interest.rate_ppm, offer.interest.day_count),
            *(offer.interest.rounding, offer.term_months_max, offer.revolving),
            offer.valid_until_ms - offer.offered_ms,
        )
        expected = (
            *(loan.id, loan.lender, loan.application.subject, loan.chain_id, decision.product),
            *(decision.product_version, loan.decision, decision.currency, decision.limit, decision.rate_ppm),
            *(decision.day_count, decision.rounding, decision.term_months, decision.revolving),
            decision.offer_days * _DAY_MS,
        )
        _same("archive_outcome_mismatch", "outcome that is offered upon", "approve", decision.outcome)
        _same("archive_offer_mismatch", "offer", expected, got)

    def _check_contract(self, loan: Loan) -> None:
        """Signatures and amounts: ``fold`` has verified them under the key in the event."""
        key = _there(loan.contract).public_key
        _same("archive_key_mismatch", "lender's key in the contract", self._archive.lender_key, key)

    def _check_pledges(self, loan: Loan) -> None:
        expected = len(self._decisions[-1].security)
        _same("archive_pledges_mismatch", "pledges", expected, len(loan.pledges))

    def _check_draw(self, loan: Loan, event: Event) -> None:
        draw, contract = loan.draws[-1], _there(loan.contract)
        if draw.number == 1:
            expected: object = (contract.acceptance.amount, b"")
            _same("archive_draw_mismatch", "first draw", expected, (draw.amount, draw.order))
            return
        order = verify_draw_order(
            draw.order, contract=contract.digest, borrower_key=loan.borrower_key, now_ms=event.at_ms
        )
        expected = (order.number, order.amount)
        _same("archive_draw_mismatch", "draw ordered", expected, (draw.number, draw.amount))

    def _check_owed(self, loan: Loan) -> None:
        line = _there(loan.contract).line
        if loan.principal > line:
            raise _broken("archive_line_exceeded", "more owed than agreed", line, loan.principal)

    # --- the rest -----------------------------------------------------------------------------

    def _check_alerts(self) -> None:
        for number, line in enumerate(self._archive.alerts, start=1):
            alert = decode_alert(line)
            named = alert_id(alert.loan, alert.event, alert.rule)
            ours = (self._archive.loan, named, line)
            _same(
                "archive_alert_mismatch", f"alert {number}", ours, (alert.loan, alert.id, encode_alert(alert))
            )


def _there(value: T | None) -> T:
    """What the events before must have made."""
    if value is None:
        raise _broken("archive_events_broken", "something that comes before is missing")
    return value


def _codes(decision: Decision) -> str:
    return ", ".join(each.code for each in decision.reasons) or "no reasons"
