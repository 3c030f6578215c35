"""A loan as its events make it: the same events, the same loan.

    applied → consented → evidence → decided → offered → accepted → pledged → paid_out → closed
    ends: refused, referred, expired, failed, closed; from ``incomplete`` the application is tried again

Every step with an effect outside has two events: an intent (``pending`` is set) and an outcome. Invariants:

* It is made of its events alone, by ``history.fold``; the balance is computed from pay-outs and repayments, never
  stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from taxledger.lending.decision import Reason
from taxledger.lending.features.windows import months_before
from taxledger.lending.loans.contract import Contract, Offer
from taxledger.lending.loans.interest import Balance, Split
from taxledger.lending.loans.ports import Application

__all__ = ["Draw", "Loan", "Pending", "Repayment", "State"]


class State(StrEnum):
    """Where a loan is."""

    APPLIED = "applied"
    CONSENTED = "consented"
    EVIDENCE = "evidence"
    DECIDED = "decided"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    PLEDGED = "pledged"
    PAID_OUT = "paid_out"
    CLOSED = "closed"
    REFUSED = "refused"
    REFERRED = "referred"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"
    FAILED = "failed"


class Pending(StrEnum):
    """An effect that was begun, and whose outcome is not known yet."""

    CONSENT = "consent"
    EVIDENCE = "evidence"
    PLEDGE = "pledge"
    DRAW = "draw"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A pay-out.

    Attributes:
        number: from 1.
        amount: minor units.
        value_date: from which interest counts.
        ordered_ms: when it was recorded.
        order: the enterprise's signed order; empty for the first, which the contract orders.
        reference: what the core banking system calls it; None: not paid (yet).
        refused: why it was not paid, None otherwise.
    """

    number: int
    amount: int
    value_date: date
    ordered_ms: int
    order: bytes
    reference: str | None = None
    refused: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repayment:
    """A repayment, in minor units, and what it covered."""

    reference: str
    amount: int
    value_date: date
    split: Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """A loan.

    Attributes:
        application: what was applied for.
        state, pending: where it is.
        sequence, head: number and hash of the last event; ``changed_ms`` when it happened.
        artefact: SHA-256 of the signed consent; ``borrower_key`` the key that signed it; ``chain_id`` and ``lender``
            as it names them.
        attempt: how often evidence was asked; ``as_of`` the decision date of the last time.
        evidence: value of the last ``evidence`` event: files by query and digest.
        decision: SHA-256 of the last decision; ``outcome`` what it said.
        reasons: why it is where it is: of a refusal, of what is missing, of a failure.
        offer, offer_raw: what is offered.
        contract: what was agreed.
        pledges: ids of the pledges.
        draws, repayments: in their order.
        balance: what is owed.
        closing: whether a revolving line is to be closed once nothing is owed.
    """

    application: Application
    state: State
    sequence: int
    head: bytes
    changed_ms: int
    pending: Pending | None = None
    artefact: bytes | None = None
    borrower_key: bytes = b""
    chain_id: bytes = b""
    lender: int = 0
    attempt: int = 0
    as_of: date | None = None
    evidence: Any = None
    decision: bytes | None = None
    outcome: str | None = None
    reasons: tuple[Reason, ...] = ()
    offer: Offer | None = None
    offer_raw: bytes = b""
    contract: Contract | None = None
    pledges: tuple[bytes, ...] = ()
    draws: tuple[Draw, ...] = ()
    repayments: tuple[Repayment, ...] = ()
    balance: Balance | None = None
    closing: bool = False

    @property
    def id(self) -> str:
        return self.application.id

    @property
    def principal(self) -> int:
        """What is owed without interest, minor units."""
        return 0 if self.balance is None else self.balance.principal

    @property
    def room(self) -> int:
        """What may still be drawn, minor units: 0 unless a revolving line is open."""
        if self.contract is None or not self.contract.offer.revolving or self.state is not State.PAID_OUT:
            return 0
        under_way = self.draws[-1].amount if self.pending is Pending.DRAW else 0
        return 0 if self.closing else self.contract.line - self.principal - under_way

    @property
    def matures(self) -> date | None:
        """The day on which all must be repaid, and after which nothing is paid out; None before pay-out."""
        if self.contract is None or self.balance is None:
            return None
        return months_before(self.draws[0].value_date, -self.contract.acceptance.term_months)

    @property
    def active(self) -> bool:
        """Whether there may be something to do that waits for nobody outside: ``advance`` does it."""
        if self.pending is not None:
            return True
        if self.state is State.PAID_OUT:
            return self.principal == 0
        return self.state in _ACTIVE


_ACTIVE = frozenset(
    {State.CONSENTED, State.EVIDENCE, State.DECIDED, State.OFFERED, State.ACCEPTED, State.PLEDGED}
)
