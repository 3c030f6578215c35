"""What the engine of a loan needs of the world, one Protocol per effect; the payment port is in ``payments.port``.

What holds for every port:

* ``key`` is an idempotency key, fixed and durable before the first call. The same call again, after a crash or while
  another is still under way, does nothing more and gives the same answer.
* When a call returns, its effect is durable.
* ``RefusedError`` (and InputError; of a pledge also VerificationError) means: it will not happen, and has left
  nothing behind.
  ``UnavailableError`` means: not known, or not now; the loan stays where it is and the same call is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from taxledger.lending.decision import Decision, Reason
from taxledger.lending.evidence import EvidenceFile
from taxledger.lending.payments.port import PaymentPort

__all__ = [
    "Application",
    "Clock",
    "ConsentPort",
    "Decider",
    "Evidence",
    "EvidencePort",
    "EvidenceRequest",
    "PledgeOrder",
    "PledgePort",
    "Ports",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application for a loan.

    Attributes:
        id: the lender's id of it, 1 to 28 letters, digits and hyphens; the loan keeps it.
        subject: the enterprise, ``scheme:identifier``.
        product: id of the product file.
        channel: how it came, like ``direct``, or which platform handed it in.
        as_of: the decision date; None: the day on which evidence is asked.
        security: records offered as security, ascending: each the number that the enterprise knows it by, or its key
            in hex (``offered.py`` finds them in the evidence).
    """

    id: str
    subject: str
    product: str
    channel: str
    as_of: date | None = None
    security: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRequest:
    """What evidence is asked for.

    Attributes:
        application: what is decided.
        as_of: the decision date.
        artefact: the signed consent.
        key: names this attempt, printable ASCII, at most 40 characters: the same key is the same use of the consent.
    """

    application: Application
    as_of: date
    artefact: bytes
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What came, not verified yet.

    Attributes:
        files: the evidence, in the order of the questions.
        pledges: proof of what is pledged on the security (docs/protocol.md §16), where any is offered.
        reasons: why something did not come; the decision is ``incomplete`` then.
    """

    files: tuple[EvidenceFile, ...] = ()
    pledges: bytes | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeOrder:
    """What is to be pledged: a share of each record.

    Attributes:
        loan, subject: whose.
        security: record keys, 37 bytes each, ascending.
        share_ppm: of each record's value.
        artefact: the signed consent, under which the custodian gives permits.
        ordered_ms: when it was ordered, milliseconds since 1970: the same at every retry.
    """

    loan: str
    subject: str
    security: tuple[bytes, ...]
    share_ppm: int
    artefact: bytes
    ordered_ms: int


class ConsentPort(Protocol):
    """Brings the signed consent to the custodians."""

    def forward(self, artefact: bytes, *, key: str) -> tuple[Reason, ...]:
        """Forward to every custodian that the artefact names.

        Returns:
            Why a custodian has not got it: one that refuses or stays silent is no error, its evidence will be missing.
        """
        ...


class EvidencePort(Protocol):
    """Asks the custodians; each answer is on the ledger as a use of the consent."""

    def collect(self, request: EvidenceRequest) -> Evidence: ...


class PledgePort(Protocol):
    """Places and releases pledges on the ledger."""

    def place(self, order: PledgeOrder, *, key: str) -> tuple[bytes, ...]:
        """Pledge every record, or none.

        Returns:
            The ids of the pledges, in the order of the records.

        Raises:
            RefusedError: with the ledger's reason; nothing stays pledged under this key.
        """
        ...

    def check(self, loan: str, pledges: tuple[bytes, ...]) -> None:
        """Returns when all are open, on records that stand as they were pledged.

        Raises:
            RefusedError: ``pledge_missing``, ``pledge_impaired``.
        """
        ...

    def release(self, pledges: tuple[bytes, ...], *, key: str) -> None:
        """Release them; one that is released already is no error."""
        ...


class Clock(Protocol):
    """The lender's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        ...

    def today(self) -> date:
        """The banking day: value dates and interest count by it."""
        ...


Decider = Callable[[EvidenceRequest, Evidence, int], Decision]
"""(what was asked, what came, the instant in milliseconds) → the decision. Without effects: when the process dies
before the decision is durable, it is made anew, for a later instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All of them."""

    consents: ConsentPort
    evidence: EvidencePort
    decide: Decider
    pledges: PledgePort
    payments: PaymentPort
    clock: Clock
