"""From events to a loan: the same events, the same loan.

Invariant: ``fold`` refuses an event that the state before it does not allow: a history that this engine could not
have written is not gone on from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from taxledger.ledger.errors import InputError, RefusedError, VerificationError
from taxledger.lending.loans.contract import decode_offer, verify_contract
from taxledger.lending.loans.events import Event, decode_reasons
from taxledger.lending.loans.interest import Balance
from taxledger.lending.loans.loan import Draw, Loan, Pending, Repayment, State
from taxledger.lending.loans.ports import Application

__all__ = ["fold"]


def fold(events: Iterable[Event], loan: Loan | None = None) -> Loan:
    """The loan after these events.

    Raises:
        VerificationError: ``loan_events_broken``: an event that its state does not allow, or of an unknown kind.
    """
    for event in events:
        loan = _after(loan, event)
    if loan is None:
        raise VerificationError("loan_events_broken", "no events")
    return loan


def _after(loan: Loan | None, event: Event) -> Loan:
    value = event.value
    if loan is None:
        if event.kind != "applied":
            raise _broken(event, "expected an application first")
        return _applied(event, value)
    allowed = _KINDS.get(event.kind)
    if allowed is None or (loan.state, loan.pending) not in allowed.places:
        raise _broken(event, f"not in state {loan.state}, pending {loan.pending}")
    try:
        changed = allowed.change(loan, value, event)
    except (ValueError, TypeError, IndexError, InputError, RefusedError) as error:
        raise _broken(event, str(error)) from error
    return replace(changed, sequence=event.sequence, head=event.hash, changed_ms=event.at_ms)


def _broken(event: Event, why: str) -> VerificationError:
    return VerificationError(
        "loan_events_broken", f"{event.loan}: event {event.sequence} {event.kind!r:.30}: {why}"
    )


def _applied(event: Event, value: Any) -> Loan:
    _version, subject, product, channel, as_of, security = value
    return Loan(
        application=Application(
            id=event.loan,
            subject=subject,
            product=product,
            channel=channel,
            as_of=None if as_of is None else date.fromisoformat(as_of),
            security=tuple(str(each) for each in security),
        ),
        state=State.APPLIED,
        sequence=event.sequence,
        head=event.hash,
        changed_ms=event.at_ms,
    )


# --- what each kind of event changes ---------------------------------------------------------------


def _consent_given(loan: Loan, value: Any, event: Event) -> Loan:
    _version, artefact, key, chain_id, lender = value
    return replace(
        loan,
        state=State.APPLIED,
        pending=Pending.CONSENT,
        artefact=artefact,
        borrower_key=key,
        chain_id=chain_id,
        lender=lender,
        reasons=(),
    )


def _consented(loan: Loan, value: Any, event: Event) -> Loan:
    return replace(loan, state=State.CONSENTED, pending=None, reasons=decode_reasons(value[1]))


def _evidence_asked(loan: Loan, value: Any, event: Event) -> Loan:
    _version, attempt, as_of = value
    return replace(
        loan,
        state=State.CONSENTED,
        pending=Pending.EVIDENCE,
        attempt=attempt,
        as_of=date.fromisoformat(as_of),
        reasons=(),
    )


def _evidence(loan: Loan, value: Any, event: Event) -> Loan:
    return replace(loan, state=State.EVIDENCE, pending=None, evidence=value)


def _decided(loan: Loan, value: Any, event: Event) -> Loan:
    _version, digest, outcome, reasons = value
    return replace(
        loan, state=State.DECIDED, decision=digest, outcome=outcome, reasons=decode_reasons(reasons)
    )


def _offered(loan: Loan, value: Any, event: Event) -> Loan:
    return replace(loan, state=State.OFFERED, offer=decode_offer(value[1]), offer_raw=value[1])


def _ended(state: State) -> Callable[[Loan, Any, Event], Loan]:
    def change(loan: Loan, value: Any, event: Event) -> Loan:
        return replace(loan, state=state, pending=None, reasons=decode_reasons(value[1]))

    return change


def _accepted(loan: Loan, value: Any, event: Event) -> Loan:
    _version, raw, lender_key = value
    contract = verify_contract(raw, borrower_key=loan.borrower_key, lender_key=lender_key)
    if contract.offer_raw != loan.offer_raw:
        raise _broken(event, "another offer")
    return replace(loan, state=State.ACCEPTED, contract=contract)


def _pledge_asked(loan: Loan, value: Any, event: Event) -> Loan:
    return replace(loan, pending=Pending.PLEDGE)


def _pledged(loan: Loan, value: Any, event: Event) -> Loan:
    return replace(loan, state=State.PLEDGED, pending=None, pledges=tuple(value[1]))


def _draw_ordered(loan: Loan, value: Any, event: Event) -> Loan:
    _version, number, amount, value_date, order = value
    if number != len(loan.draws) + 1:
        raise _broken(event, f"draw {number} after {len(loan.draws)}")
    draw = Draw(
        number=number,
        amount=amount,
        value_date=date.fromisoformat(value_date),
        ordered_ms=event.at_ms,
        order=order,
    )
    return replace(loan, pending=Pending.DRAW, draws=(*loan.draws, draw), reasons=())


def _paid(loan: Loan, value: Any, event: Event) -> Loan:
    _version, reference, value_date = value
    if loan.contract is None:
        raise _broken(event, "no contract")
    draw = replace(loan.draws[-1], reference=reference, value_date=date.fromisoformat(value_date))
    balance = loan.balance or Balance(terms=loan.contract.offer.interest)
    return replace(
        loan,
        state=State.PAID_OUT,
        pending=None,
        draws=(*loan.draws[:-1], draw),
        balance=balance.draw(draw.value_date, draw.amount),
    )


def _draw_refused(loan: Loan, value: Any, event: Event) -> Loan:
    reasons = decode_reasons(value[1])
    draw = replace(loan.draws[-1], refused=reasons[0])
    return replace(loan, pending=None, draws=(*loan.draws[:-1], draw), reasons=reasons)


def _repaid(loan: Loan, value: Any, event: Event) -> Loan:
    _version, reference, amount, value_date, interest, principal = value
    if loan.balance is None:
        raise _broken(event, "nothing was paid out")
    day = date.fromisoformat(value_date)
    balance, split = loan.balance.repay(day, amount)
    if (split.interest, split.principal) != (interest, principal):
        raise _broken(event, f"covers {split}")
    repayment = Repayment(reference=reference, amount=amount, value_date=day, split=split)
    return replace(loan, balance=balance, repayments=(*loan.repayments, repayment))


def _close_asked(loan: Loan, value: Any, event: Event) -> Loan:
    return replace(loan, closing=True)


def _release_asked(loan: Loan, value: Any, event: Event) -> Loan:
    return replace(loan, pending=Pending.RELEASE)


Change = Callable[[Loan, Any, Event], Loan]


@dataclass(frozen=True, slots=True)
class _Kind:
    places: frozenset[tuple[State, Pending | None]]
    change: Change


def _kind(change: Change, *places: tuple[State, Pending | None]) -> _Kind:
    return _Kind(frozenset(places), change)


_RELEASING = ((State.PLEDGED, Pending.RELEASE), (State.PAID_OUT, Pending.RELEASE))

_KINDS: Mapping[str, _Kind] = {
    "consent_given": _kind(_consent_given, (State.APPLIED, None), (State.INCOMPLETE, None)),
    "consented": _kind(_consented, (State.APPLIED, Pending.CONSENT)),
    "evidence_asked": _kind(_evidence_asked, (State.CONSENTED, None), (State.INCOMPLETE, None)),
    "evidence": _kind(_evidence, (State.CONSENTED, Pending.EVIDENCE)),
    "decided": _kind(_decided, (State.EVIDENCE, None)),
    "offered": _kind(_offered, (State.DECIDED, None)),
    "refused": _kind(_ended(State.REFUSED), (State.DECIDED, None)),
    "referred": _kind(_ended(State.REFERRED), (State.DECIDED, None)),
    "incomplete": _kind(_ended(State.INCOMPLETE), (State.DECIDED, None)),
    "expired": _kind(_ended(State.EXPIRED), (State.OFFERED, None)),
    "accepted": _kind(_accepted, (State.OFFERED, None)),
    "pledge_asked": _kind(_pledge_asked, (State.ACCEPTED, None)),
    "pledged": _kind(_pledged, (State.ACCEPTED, None), (State.ACCEPTED, Pending.PLEDGE)),
    "draw_ordered": _kind(_draw_ordered, (State.PLEDGED, None), (State.PAID_OUT, None)),
    "paid": _kind(_paid, (State.PLEDGED, Pending.DRAW), (State.PAID_OUT, Pending.DRAW)),
    "draw_refused": _kind(_draw_refused, (State.PLEDGED, Pending.DRAW), (State.PAID_OUT, Pending.DRAW)),
    "repaid": _kind(_repaid, (State.PAID_OUT, None)),
    "close_asked": _kind(_close_asked, (State.PAID_OUT, None)),
    "release_asked": _kind(_release_asked, (State.PLEDGED, None), (State.PAID_OUT, None)),
    "failed": _kind(
        _ended(State.FAILED), (State.ACCEPTED, Pending.PLEDGE), (State.PLEDGED, None), _RELEASING[0]
    ),
    "closed": _kind(_ended(State.CLOSED), (State.PAID_OUT, None), _RELEASING[1]),
}
"""Which kind of event may happen where, and what it changes: the table of docs/lending.md."""
