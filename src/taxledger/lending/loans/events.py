"""What is written down of a loan: a chain of events, each with the hash of the one before it.

    hash = H("loan_event", msgpack [1, loan, sequence, kind, key, at_ms, body, previous hash])

Invariants:

* Events are only ever appended. ``sequence`` counts from 1 without a gap; the first one's ``previous`` is 32 zeros.
* ``key`` is unique among all events of all loans: what must happen once has one key.
* ``verify_chain`` finds a changed, missing or reordered event; what was cut off at the end shows against the head
  that is stored beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.hashing import domain_hash
from taxledger.lending.decision import Reason

__all__ = [
    "FIRST_PREVIOUS",
    "Event",
    "decode_reasons",
    "event_hash",
    "make_event",
    "reasons_as_list",
    "step_key",
    "verify_chain",
]

FIRST_PREVIOUS = bytes(32)
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event.

    Attributes:
        loan: id of the loan.
        sequence: from 1.
        kind: what happened, see ``loan.py``.
        key: unique among all events.
        at_ms: when, milliseconds since 1970, by the lender's clock.
        body: canonical msgpack, as its kind says.
        previous: hash of the event before, 32 bytes; ``hash`` its own.
    """

    loan: str
    sequence: int
    kind: str
    key: str
    at_ms: int
    body: bytes
    previous: bytes
    hash: bytes

    @property
    def value(self) -> Any:
        return canonical.decode(self.body)


def event_hash(
    *, loan: str, sequence: int, kind: str, key: str, at_ms: int, body: bytes, previous: bytes
) -> bytes:
    """The hash that the next event names."""
    value = [_VERSION, loan, sequence, kind, key, at_ms, body, previous]
    return domain_hash("loan_event", canonical.encode(value))


def make_event(
    *, loan: str, sequence: int, kind: str, key: str, at_ms: int, value: Any, previous: bytes
) -> Event:
    """An event with its hash; ``value`` becomes the body."""
    body = canonical.encode(value)
    digest = event_hash(
        loan=loan, sequence=sequence, kind=kind, key=key, at_ms=at_ms, body=body, previous=previous
    )
    return Event(
        loan=loan,
        sequence=sequence,
        kind=kind,
        key=key,
        at_ms=at_ms,
        body=body,
        previous=previous,
        hash=digest,
    )


def verify_chain(events: Sequence[Event], loan: str) -> None:
    """Returns when these are all events of this loan up to the last of them, unchanged.

    Raises:
        VerificationError: ``loan_events_broken``.
    """
    previous = FIRST_PREVIOUS
    for sequence, each in enumerate(events, start=1):
        if (each.loan, each.sequence, each.previous) != (loan, sequence, previous):
            raise VerificationError(
                "loan_events_broken", f"{loan}: event {sequence} is not there, or another"
            )
        previous = event_hash(
            loan=each.loan,
            sequence=each.sequence,
            kind=each.kind,
            key=each.key,
            at_ms=each.at_ms,
            body=each.body,
            previous=each.previous,
        )
        if previous != each.hash:
            raise VerificationError("loan_events_broken", f"{loan}: event {sequence} was changed")


def step_key(loan: str, step: str) -> str:
    """Idempotency key of a step's effect: 32 hex characters of ``H("loan_step", msgpack [loan, step])``."""
    return domain_hash("loan_step", canonical.encode([loan, step])).hex()[:32]


def reasons_as_list(reasons: Iterable[Reason]) -> list[list[str]]:
    """As they stand in a body."""
    return [[each.code, each.text, each.text_zh] for each in reasons]


def decode_reasons(value: Any) -> tuple[Reason, ...]:
    """The reasons of a body that was written here."""
    return tuple(Reason(code=code, text=text, text_zh=text_zh) for code, text, text_zh in value)
