"""The steps that a loan takes by itself: what is durable before what is done (``life.py`` calls them in a loop).

A step with an effect outside goes in this order:

    1. the intent is committed, with all that the effect depends on: number, amount, date, signed order
    2. the port is called, under a key that follows from the loan and the step alone
    3. the outcome is committed

A crash before 1 leaves nothing. After 1, before 3, the loan is found with the intent pending: whoever goes on calls
the port again with the same key and the same values, and the port does it once (``ports.py``). After 3 the step is
past. Nothing has to be known of the process that died. The intent comes first, because an effect that nothing
durable speaks of could not be found again: a pledge that nobody releases, a payment that is not in the books.

A step without an effect (offer, decision, contract) is one commit. A decision that died before its commit is made
anew, for a later instant: nobody has seen the first one. Signatures are deterministic and nothing is handed out
before the commit.

Two workers: one holds the loan. If the lock is lost (its database connection broke) both may call the port, which
the key makes one effect, and one of the two outcomes is refused by compare-and-set.

``UnavailableError`` leaves the intent pending and is raised to the caller. A refusal is an outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from taxledger.ledger.errors import (
    InputError,
    InvariantError,
    RefusedError,
    TaxledgerError,
    VerificationError,
    check,
)
from taxledger.ledger.hashing import sha256
from taxledger.ledger.query import Query
from taxledger.lending.decision import Decision, Reason, decode_decision, encode_decision
from taxledger.lending.evidence import EvidenceFile
from taxledger.lending.loans.contract import Contract, Offer, encode_offer
from taxledger.lending.loans.events import (
    FIRST_PREVIOUS,
    decode_reasons,
    make_event,
    reasons_as_list,
    step_key,
)
from taxledger.lending.loans.interest import InterestTerms
from taxledger.lending.loans.loan import Loan, Pending, State
from taxledger.lending.loans.ports import Evidence, EvidenceRequest, PledgeOrder, Ports
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.payments.port import Account, PaymentInstruction

__all__ = ["ReceivingAccount", "Steps"]

_DAY_MS = 86_400_000
_REFUSALS = (RefusedError, VerificationError, InputError)

ReceivingAccount = Callable[[Loan, Decision], Account | None]
"""The only account that may receive the money, or None where the enterprise chooses one in its own name."""


class Steps:
    """Each method is one step: it appends one event, after the effect where there is one."""

    def __init__(self, store: LoanStore, ports: Ports, receiving_account: ReceivingAccount) -> None:
        self._store = store
        self._ports = ports
        self._receiving_account = receiving_account

    def record(
        self, loan: Loan, kind: str, value: list[Any], *, key: str | None = None, files: Sequence[bytes] = ()
    ) -> Loan:
        """Append an event; durable when it returns."""
        event = make_event(
            loan=loan.id,
            sequence=loan.sequence + 1,
            kind=kind,
            key=key or f"{loan.id}/{kind}",
            at_ms=self._ports.clock.now_ms(),
            value=value,
            previous=loan.head or FIRST_PREVIOUS,
        )
        return self._store.append(loan, event, files)

    def next(self, loan: Loan) -> Callable[[Loan], Loan] | None:
        """What is to be done now; None while it waits for the enterprise, or for ever."""
        if loan.pending is not None:
            return self._effects[loan.pending]
        if loan.state is State.OFFERED:
            expired = loan.offer is not None and self._ports.clock.now_ms() >= loan.offer.valid_until_ms
            return self.expire if expired else None
        if loan.state is State.PLEDGED and loan.draws:  # the first pay-out was refused
            return self._ask_release if loan.pledges else self._fail
        if loan.state is State.PAID_OUT:
            return self._next_of_paid_out(loan)
        return self._by_state.get(loan.state)

    def _next_of_paid_out(self, loan: Loan) -> Callable[[Loan], Loan] | None:
        if loan.principal or loan.contract is None or loan.matures is None:
            return None
        over = loan.closing or self._ports.clock.today() >= loan.matures
        if loan.contract.offer.revolving and not over:
            return None
        return self._ask_release if loan.pledges else self._close

    # --- consent, evidence, decision ----------------------------------------------------------

    def _forward(self, loan: Loan) -> Loan:
        number = loan.attempt + 1
        key = step_key(loan.id, f"consent/{number}")
        reasons = self._ports.consents.forward(self.artefact(loan), key=key)
        return self.record(
            loan, "consented", [1, reasons_as_list(reasons)], key=f"{loan.id}/consented/{number}"
        )

    def ask_evidence(self, loan: Loan) -> Loan:
        """The intent to collect evidence once more, for a decision date that is fixed with it."""
        attempt = loan.attempt + 1
        as_of = loan.application.as_of or self._ports.clock.today()
        return self.record(
            loan, "evidence_asked", [1, attempt, as_of.isoformat()], key=f"{loan.id}/evidence_asked/{attempt}"
        )

    def _collect(self, loan: Loan) -> Loan:
        came = self._ports.evidence.collect(self._request(loan))
        value = [
            1,
            [[_query_as_list(each.query), each.digest] for each in came.files],
            None if came.pledges is None else sha256(came.pledges),
            reasons_as_list(came.reasons),
        ]
        files = [each.data for each in came.files]
        if came.pledges is not None:
            files.append(came.pledges)
        return self.record(loan, "evidence", value, key=f"{loan.id}/evidence/{loan.attempt}", files=files)

    def _decide(self, loan: Loan) -> Loan:
        decision = self._ports.decide(self._request(loan), self.evidence(loan), self._ports.clock.now_ms())
        check(
            (decision.application, decision.subject) == (loan.id, loan.application.subject),
            f"{loan.id}: a decision on another application",
        )
        data = encode_decision(decision)
        return self.record(
            loan,
            "decided",
            [1, sha256(data), decision.outcome, reasons_as_list(decision.reasons)],
            key=f"{loan.id}/decided/{loan.attempt}",
            files=[data],
        )

    def _conclude(self, loan: Loan) -> Loan:
        if loan.outcome == "approve":
            try:
                offer = encode_offer(self._offer(loan))
            except (RefusedError, InputError) as error:
                # What the records say of the account: the same for ever, so a person has to decide.
                reason = _reason(error, "offer_impossible", "no offer can be made", "无法出具要约")
                key = f"{loan.id}/referred/{loan.attempt}"
                return self.record(loan, "referred", [1, reasons_as_list([reason])], key=key)
            return self.record(loan, "offered", [1, offer])
        kind = {"refuse": "refused", "refer": "referred", "incomplete": "incomplete"}[str(loan.outcome)]
        return self.record(
            loan, kind, [1, reasons_as_list(loan.reasons)], key=f"{loan.id}/{kind}/{loan.attempt}"
        )

    def _offer(self, loan: Loan) -> Offer:
        decision = self.decision(loan)
        check(decision.rate_ppm is not None, f"{loan.id}: approved without a rate")
        now_ms = self._ports.clock.now_ms()
        return Offer(
            chain_id=loan.chain_id,
            loan=loan.id,
            lender=loan.lender,
            subject=loan.application.subject,
            product=decision.product,
            product_version=decision.product_version,
            decision=loan.decision or b"",
            currency=decision.currency,
            limit=decision.limit,
            interest=InterestTerms(
                rate_ppm=decision.rate_ppm or 0, day_count=decision.day_count, rounding=decision.rounding
            ),
            term_months_max=decision.term_months,
            revolving=decision.revolving,
            account=self._receiving_account(loan, decision),
            offered_ms=now_ms,
            valid_until_ms=now_ms + decision.offer_days * _DAY_MS,
        )

    def expire(self, loan: Loan) -> Loan:
        """The offer was not accepted in time."""
        return self.record(loan, "expired", [1, reasons_as_list([_EXPIRED])])

    # --- pledge, payments, release --------------------------------------------------------------

    def _ask_pledge(self, loan: Loan) -> Loan:
        if not self.decision(loan).security:
            return self.record(loan, "pledged", [1, []])
        return self.record(loan, "pledge_asked", [1])

    def _place(self, loan: Loan) -> Loan:
        decision = self.decision(loan)
        order = PledgeOrder(
            loan=loan.id,
            subject=loan.application.subject,
            security=tuple(bytes.fromhex(each) for each in decision.security),
            share_ppm=decision.security_ppm,
            artefact=self.artefact(loan),
            ordered_ms=loan.changed_ms,  # of the intent, the last event there is
        )
        try:
            pledges = self._ports.pledges.place(order, key=step_key(loan.id, "pledge"))
        except _REFUSALS as error:
            reason = _reason(error, "pledge_refused", "security can't be pledged", "质押未能办理")
            return self.record(loan, "failed", [1, reasons_as_list([reason])])
        return self.record(loan, "pledged", [1, list(pledges)])

    def _order_first_draw(self, loan: Loan) -> Loan:
        return self.order_draw(loan, _contract(loan).acceptance.amount, b"")

    def check_security(self, loan: Loan) -> None:
        """Nothing more is paid out on security that is gone. Before the order is recorded: one that was recorded may
        have been paid. Raises RefusedError as ``PledgePort.check``.
        """
        if loan.pledges:
            self._ports.pledges.check(loan.id, loan.pledges)

    def order_draw(self, loan: Loan, amount: int, order: bytes) -> Loan:
        """The intent to pay: amount and value date are fixed with it, so that every retry pays the same."""
        number = len(loan.draws) + 1
        today = self._ports.clock.today()
        day = today if loan.balance is None or loan.balance.day is None else max(today, loan.balance.day)
        return self.record(
            loan,
            "draw_ordered",
            [1, number, amount, day.isoformat(), order],
            key=f"{loan.id}/draw_ordered/{number}",
        )

    def _pay(self, loan: Loan) -> Loan:
        draw = loan.draws[-1]
        try:
            payment = self._ports.payments.pay(self._instruction(loan))
        except (RefusedError, InputError) as error:
            # Not where something does not verify: that may have been paid, and a person has to look.
            reason = _reason(error, "payment_refused", "the payment was refused", "付款被拒绝")
            return self.record(
                loan,
                "draw_refused",
                [1, reasons_as_list([reason])],
                key=f"{loan.id}/draw_refused/{draw.number}",
            )
        day = max(draw.value_date, payment.value_date)  # never earlier than what the contract's day is
        return self.record(
            loan, "paid", [1, payment.reference, day.isoformat()], key=f"{loan.id}/paid/{draw.number}"
        )

    def _instruction(self, loan: Loan) -> PaymentInstruction:
        draw, contract = loan.draws[-1], _contract(loan)
        return PaymentInstruction(
            id=step_key(loan.id, f"draw/{draw.number}"),
            end_to_end=f"{loan.id}/{draw.number}",
            ordered_ms=draw.ordered_ms,
            value_date=draw.value_date,
            currency=contract.offer.currency,
            amount=draw.amount,
            payee=contract.acceptance.account,
            remittance=f"Loan {loan.id} draw {draw.number} 贷款发放",
        )

    def _ask_release(self, loan: Loan) -> Loan:
        return self.record(loan, "release_asked", [1])

    def _release(self, loan: Loan) -> Loan:
        self._ports.pledges.release(loan.pledges, key=step_key(loan.id, "release"))
        return self._close(loan) if loan.state is State.PAID_OUT else self._fail(loan)

    def _close(self, loan: Loan) -> Loan:
        return self.record(loan, "closed", [1, []])

    def _fail(self, loan: Loan) -> Loan:
        return self.record(loan, "failed", [1, reasons_as_list(loan.reasons)])

    # --- what is stored -------------------------------------------------------------------------

    def artefact(self, loan: Loan) -> bytes:
        """The signed consent."""
        return self._store.file(loan.id, loan.artefact or b"")

    def decision(self, loan: Loan) -> Decision:
        """The last decision."""
        return decode_decision(self._store.file(loan.id, loan.decision or b""))

    def evidence(self, loan: Loan) -> Evidence:
        """What came at the last attempt."""
        _version, files, pledges, reasons = loan.evidence
        return Evidence(
            files=tuple(
                EvidenceFile(query=_decode_query(query), data=self._store.file(loan.id, digest))
                for query, digest in files
            ),
            pledges=None if pledges is None else self._store.file(loan.id, pledges),
            reasons=decode_reasons(reasons),
        )

    def _request(self, loan: Loan) -> EvidenceRequest:
        return EvidenceRequest(
            application=loan.application,
            as_of=loan.as_of or date.min,
            artefact=self.artefact(loan),
            key=step_key(loan.id, f"evidence/{loan.attempt}"),
        )

    @property
    def _effects(self) -> Mapping[Pending, Callable[[Loan], Loan]]:
        return {
            Pending.CONSENT: self._forward,
            Pending.EVIDENCE: self._collect,
            Pending.PLEDGE: self._place,
            Pending.DRAW: self._pay,
            Pending.RELEASE: self._release,
        }

    @property
    def _by_state(self) -> Mapping[State, Callable[[Loan], Loan]]:
        return {
            State.CONSENTED: self.ask_evidence,
            State.EVIDENCE: self._decide,
            State.DECIDED: self._conclude,
            State.ACCEPTED: self._ask_pledge,
            State.PLEDGED: self._order_first_draw,
        }


_EXPIRED = Reason(
    code="offer_expired", text="the offer was not accepted in time", text_zh="要约逾期未接受，已失效"
)


def _contract(loan: Loan) -> Contract:
    if loan.contract is None:
        raise InvariantError(f"{loan.id}: {loan.state} without a contract")
    return loan.contract


def _reason(error: TaxledgerError, code: str, text: str, text_zh: str) -> Reason:
    """Why a port refused: its own code where it gives one."""
    code = error.code if isinstance(error, RefusedError | VerificationError) else code
    return Reason(code=code, text=f"{text}: {error}"[:400], text_zh=f"{text_zh}（{code}）")


def _query_as_list(query: Query) -> list[Any]:
    return [query.subject, query.issuer, list(query.kinds), query.from_period, query.to_period]


def _decode_query(value: Any) -> Query:
    subject, issuer, kinds, from_period, to_period = value
    return Query(
        subject=subject, issuer=issuer, kinds=tuple(kinds), from_period=from_period, to_period=to_period
    )
