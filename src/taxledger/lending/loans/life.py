"""The engine of a loan: what people and the bank's other systems ask of it, and ``advance``, which does the rest.

    engine.apply(application)             the lender, or a platform for the enterprise
    engine.consent(id, artefact)          what the enterprise signed
    engine.advance(id)                    consent forwarded, evidence, decision, offer
    engine.accept(id, acceptance)         what the enterprise signed: amount, term, account
    engine.advance(id)                    pledge, pay-out
    engine.draw(id, order)                what the enterprise signed; ``advance`` pays
    engine.repay(id, reference=…)         from the core banking system
    engine.advance(id)                    once nothing is owed: pledge released, closed

Invariants:

* What is asked is durable when the method returns, and has no effect outside yet: ``advance`` has (``steps.py``).
* Every method may be called again with the same arguments: it says what is, and does nothing twice.
* A refusal changes nothing, but for an offer that has expired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import date

from taxledger.ledger.consent import Artefact, decode_artefact
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.records import check_subject
from taxledger.ledger.shapes import ascending, integer, text
from taxledger.lending.decision import Decision
from taxledger.lending.loans.contract import check_loan_id, decode_acceptance, sign_contract
from taxledger.lending.loans.draworder import decode_draw_order, verify_draw_order
from taxledger.lending.loans.events import FIRST_PREVIOUS, make_event
from taxledger.lending.loans.exposure import hold_only_line
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.ports import Application, Evidence, Ports
from taxledger.lending.loans.steps import ReceivingAccount, Steps
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.payments.port import AMOUNT_MINOR_MAX

__all__ = ["LoanEngine"]

_REFERENCE_BYTES_MAX = 100
_CODE_BYTES_MAX = 64
_SECURITY_MAX = 64
_OFFERED_BYTES_MAX = 128


def _chosen(loan: Loan, decision: Decision) -> None:
    """No fixed account: the enterprise chooses one in its own name."""
    return


def _several(loan: Loan) -> bool:
    """No product that allows one line only."""
    return False


class LoanEngine:
    """Drives the loans of a store. Any number of them, in threads, processes or machines, may share one."""

    def __init__(
        self,
        store: LoanStore,
        ports: Ports,
        *,
        lender: int,
        contract_key: Signer,
        receiving_account: ReceivingAccount = _chosen,
        one_line: Callable[[Loan], bool] = _several,
    ) -> None:
        """An engine.

        Args:
            store: where the loans are.
            ports: what it does things with.
            lender: the lender's member number.
            contract_key: signs contracts and nothing else.
            receiving_account: which account must receive the money, where the product fixes one.
            one_line: whether an enterprise may have but one open loan of the product (``exposure.py``).
        """
        self._store = store
        self._clock = ports.clock
        self._lender = lender
        self._contract_key = contract_key
        self._one_line = one_line
        self._steps = Steps(store, ports, receiving_account)

    # --- application, consent, acceptance ------------------------------------------------------

    def apply(self, application: Application) -> Loan:
        """Record an application.

        Raises:
            FormatError: a part of it has not its form.
            RefusedError: ``application_conflict``: another one has this id.
        """
        _check_application(application)
        with self._store.hold(application.id):
            loan = self._store.find(application.id)
            if loan is None:
                return self._store.append(
                    None,
                    make_event(
                        loan=application.id,
                        sequence=1,
                        kind="applied",
                        key=f"{application.id}/applied",
                        at_ms=self._clock.now_ms(),
                        value=_application_as_list(application),
                        previous=FIRST_PREVIOUS,
                    ),
                )
            if loan.application != application:
                raise RefusedError("application_conflict", f"another application has the id {application.id}")
            return loan

    def consent(self, id: str, artefact: bytes) -> Loan:
        """Record the enterprise's signed consent; also a new one, for an application that was incomplete.

        Raises:
            InputError, VerificationError: not an artefact, or its signature does not hold.
            RefusedError: it is of another enterprise, for another lender, not in force, without the right to pledge
                what is offered as security, or the loan is past it.
        """
        given = decode_artefact(artefact)
        with self._store.hold(id):
            loan = self._load(id)
            if loan.artefact == sha256(artefact) and loan.state is not State.INCOMPLETE:
                return loan
            if loan.pending is not None or loan.state not in (State.APPLIED, State.INCOMPLETE):
                raise _wrong_state(loan, "a consent")
            self.check_consent(loan.application, given)
            value = [1, sha256(artefact), given.public_key, given.terms.chain_id, self._lender]
            key = f"{id}/consent_given/{loan.attempt + 1}"
            return self._steps.record(loan, "consent_given", value, key=key, files=[artefact])

    def check_consent(self, application: Application, given: Artefact) -> None:
        """Returns when a consent, whose signature holds, may be given for an application now.

        Raises:
            RefusedError: as ``consent``.
        """
        terms, now_ms, id = given.terms, self._clock.now_ms(), application.id
        if terms.subject != application.subject:
            raise RefusedError("consent_subject_mismatch", f"{id}: the consent is of another enterprise")
        if terms.recipient != self._lender:
            raise RefusedError(
                "consent_recipient_mismatch", f"expected member {self._lender}, got {terms.recipient}"
            )
        if not terms.not_before <= now_ms < terms.not_after:
            raise RefusedError("consent_not_in_force", f"{id}: the consent is not in force at {now_ms}")
        if application.security and not terms.may_pledge:
            raise RefusedError("consent_without_pledge", f"{id}: the consent allows no pledge")

    def retry(self, id: str) -> Loan:
        """Try once more, under the same consent, an application that was incomplete.

        The consent is forwarded again: a custodian that was silent has not got it, one that has it answers as before.

        Raises:
            RefusedError: ``loan_state``.
        """
        with self._store.hold(id):
            loan = self._load(id)
            if loan.state is not State.INCOMPLETE:
                raise _wrong_state(loan, "another attempt")
            value = [1, loan.artefact, loan.borrower_key, loan.chain_id, loan.lender]
            key = f"{id}/consent_given/{loan.attempt + 1}"
            return self._steps.record(loan, "consent_given", value, key=key)

    def accept(self, id: str, acceptance: bytes) -> Loan:
        """Take the enterprise's acceptance and sign the contract.

        Raises:
            InputError, VerificationError: not its acceptance of this offer.
            RefusedError: outside the offer; ``offer_expired``; ``line_open``; ``loan_state``.
        """
        decode_acceptance(acceptance)
        with self._store.hold(id):
            loan = self._load(id)
            if loan.contract is not None and loan.contract.acceptance.raw == acceptance:
                return loan
            if loan.state is not State.OFFERED:
                raise _wrong_state(loan, "an acceptance")
            with hold_only_line(self._store, loan) if self._one_line(loan) else nullcontext():
                return self._contract(loan, acceptance)

    def _contract(self, loan: Loan, acceptance: bytes) -> Loan:
        try:
            contract = sign_contract(
                self._contract_key,
                loan.offer_raw,
                acceptance,
                borrower_key=loan.borrower_key,
                signed_ms=self._clock.now_ms(),
            )
        except RefusedError as error:
            if error.code == "offer_expired":
                self._steps.expire(loan)
            raise
        return self._steps.record(loan, "accepted", [1, contract.raw, self._contract_key.public_key])

    # --- draws, repayments, closing --------------------------------------------------------------

    def draw(self, id: str, order: bytes) -> Loan:
        """Take the enterprise's signed order to pay out more of its line.

        Raises:
            InputError, VerificationError: not its order under this contract.
            RefusedError: ``draw_number``, ``draw_expired``, ``line_closed``, ``line_matured``, ``line_exceeded``,
                ``pledge_missing``, ``pledge_impaired``.
            UnavailableError: another payment is under way.
        """
        decoded = decode_draw_order(order)
        with self._store.hold(id):
            loan = self._load(id)
            if any(each.order == order for each in loan.draws):
                return loan
            if loan.contract is None or loan.state is not State.PAID_OUT:
                raise _wrong_state(loan, "a draw")
            verify_draw_order(
                order,
                contract=loan.contract.digest,
                borrower_key=loan.borrower_key,
                now_ms=self._clock.now_ms(),
            )
            _check_idle(loan)
            self._check_room(loan, decoded.number, decoded.amount)
            self._steps.check_security(loan)
            return self._steps.order_draw(loan, decoded.amount, order)

    def _check_room(self, loan: Loan, number: int, amount: int) -> None:
        today = self._clock.today()
        if number != len(loan.draws) + 1:
            raise RefusedError("draw_number", f"expected draw {len(loan.draws) + 1}, got {number}")
        if loan.contract is None or not loan.contract.offer.revolving or loan.closing:
            raise RefusedError("line_closed", f"{loan.id}: nothing more is paid out under this contract")
        if loan.matures is None or today >= loan.matures:
            raise RefusedError("line_matured", f"{loan.id}: the line ended on {loan.matures}")
        if amount > loan.room:
            raise RefusedError("line_exceeded", f"expected at most {loan.room} minor units, got {amount}")

    def repay(self, id: str, *, reference: str, amount: int, value_date: date) -> Loan:
        """Record a repayment that the core banking system has received: interest first, then principal.

        Args:
            id: the loan.
            reference: of the core banking system, unique among all loans, at most 100 bytes.
            amount: minor units.
            value_date: day of the repayment, which bears no interest any more; not before the last movement.

        Raises:
            FormatError: a part has not its form.
            RefusedError: ``repayment_conflict``: the reference stands for another repayment; ``overpayment``: the
                engine holds no credit, the core banking system gives it back; ``value_date_order``,
                ``value_date_future``, ``loan_state``.
            UnavailableError: a payment is under way.
        """
        text(reference, _REFERENCE_BYTES_MAX, "a reference")
        integer(amount, 1, AMOUNT_MINOR_MAX, "an amount in minor units")
        if type(value_date) is not date:
            raise FormatError("expected a value date")
        with self._store.hold(id):
            loan = self._load(id)
            for each in loan.repayments:
                if each.reference == reference:
                    if (each.amount, each.value_date) != (amount, value_date):
                        raise _repayment_conflict(reference)
                    return loan
            if loan.balance is None or loan.state is not State.PAID_OUT:
                raise _wrong_state(loan, "a repayment")
            _check_idle(loan)
            if value_date > self._clock.today():
                raise RefusedError("value_date_future", f"{value_date} is still to come")
            _, split = loan.balance.repay(value_date, amount)
            value = [1, reference, amount, value_date.isoformat(), split.interest, split.principal]
            try:
                return self._steps.record(loan, "repaid", value, key=f"repayment/{reference}")
            except RefusedError as error:
                if error.code == "key_used":
                    raise _repayment_conflict(reference) from error
                raise

    def close(self, id: str) -> Loan:
        """Close a revolving line: nothing more is paid out, and once nothing is owed it ends.

        Raises:
            RefusedError: ``loan_state``. A loan that does not revolve closes by itself.
            UnavailableError: a payment is under way.
        """
        with self._store.hold(id):
            loan = self._load(id)
            if loan.closing:
                return loan
            if loan.state is not State.PAID_OUT:
                raise _wrong_state(loan, "closing")
            _check_idle(loan)
            return self._steps.record(loan, "close_asked", [1])

    # --- by itself ------------------------------------------------------------------------------

    def advance(self, id: str, *, on_step: Callable[[Loan], None] | None = None) -> Loan:
        """Do all that waits for nobody outside.

        Args:
            id: the loan.
            on_step: called after each durable step, with the loan as it is then.

        Raises:
            UnavailableError: a port or the database; the loan stays where it is, call again.
            RefusedError: ``loan_unknown``, or a release that was refused.
        """
        with self._store.hold(id):
            loan = self._load(id)
            while (step := self._steps.next(loan)) is not None:
                loan = step(loan)
                if on_step is not None:
                    on_step(loan)
            return loan

    def advance_all(self) -> Mapping[str, TaxledgerError | None]:
        """``advance`` every loan that may have something to do, as after a restart; what hindered each, or None.

        One loan's trouble keeps no other back.
        """
        outcome: dict[str, TaxledgerError | None] = {}
        for each in self._store.list(active=True):
            try:
                self.advance(each.id)
                outcome[each.id] = None
            except TaxledgerError as error:
                outcome[each.id] = error
        return outcome

    # --- what is stored -------------------------------------------------------------------------

    def _load(self, id: str) -> Loan:
        """A loan to go on with. A database that was moved to another lender is not signed or paid for by it."""
        loan = self._store.load(id)
        if loan.lender not in (0, self._lender):  # 0: before there is a consent
            raise RefusedError("loan_of_another_lender", f"{id} is a loan of member {loan.lender}")
        return loan

    def load(self, id: str) -> Loan:
        """The loan. Raises RefusedError ``loan_unknown``."""
        return self._store.load(id)

    def decision(self, loan: Loan) -> Decision:
        """The last decision of a loan that has one."""
        return self._steps.decision(loan)

    def evidence(self, loan: Loan) -> Evidence:
        """What came at the last attempt, of a loan that got so far."""
        return self._steps.evidence(loan)

    def artefact(self, loan: Loan) -> bytes:
        """The signed consent, of a loan that has one."""
        return self._steps.artefact(loan)


def _wrong_state(loan: Loan, what: str) -> RefusedError:
    return RefusedError("loan_state", f"{loan.id} is {loan.state}: {what} has no place there")


def _repayment_conflict(reference: str) -> RefusedError:
    return RefusedError("repayment_conflict", f"{reference!r:.60} stands for another repayment")


def _check_idle(loan: Loan) -> None:
    if loan.pending is not None:
        raise UnavailableError(f"{loan.id}: its {loan.pending} is under way; advance it and try again")


def _application_as_list(application: Application) -> list[object]:
    as_of = None if application.as_of is None else application.as_of.isoformat()
    return [
        1,
        application.subject,
        application.product,
        application.channel,
        as_of,
        list(application.security),
    ]


def _check_application(application: Application) -> None:
    check_loan_id(application.id)
    check_subject(application.subject)
    text(application.product, _CODE_BYTES_MAX, "a product")
    text(application.channel, _CODE_BYTES_MAX, "a channel")
    if len(application.security) > _SECURITY_MAX:
        raise FormatError(f"expected at most {_SECURITY_MAX} records as security")
    for each in application.security:
        text(each, _OFFERED_BYTES_MAX, "a record offered as security")
    ascending(application.security, "records offered as security")
