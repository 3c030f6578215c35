"""The operations about consents: what a payload can say of them, typed (docs/protocol.md §3). Shapes only.

A payload holds no subject, recipient, kind, field or period: what was agreed stands in the artefact
(``consent.py``), and the ledger has its digest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError
from taxledger.ledger.shapes import fixed_bytes, integer, optional_bytes

__all__ = [
    "READERS",
    "ConsentChange",
    "ConsentGrant",
    "ConsentOperation",
    "ConsentRevoke",
    "ConsentUse",
    "ConsentUseClose",
    "UseOutcome",
    "as_items",
]


class UseOutcome:
    """How a use ended: what left the custodian."""

    COMPLETE = 2
    PARTIAL = 3
    NONE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentGrant:
    """A consent comes on the ledger; its id follows from signer and digest (``consentstate.consent_id``).

    Attributes:
        digest: 32 bytes, ``consent.consent_digest`` of the artefact.
        holder: 16 bytes, the same for all consents of one subject to one recipient.
        not_before, not_after: milliseconds since 1970; uses count from the first to before the last.
        max_uses: how often it may be used.
        revoke_hash: ``H("revoke", preimage)``: whoever shows the 32-byte preimage revokes.
        former: the consent that this one supersedes, 16 bytes, or None.
    """

    digest: bytes
    holder: bytes
    not_before: int
    not_after: int
    max_uses: int
    revoke_hash: bytes
    former: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentChange:
    """A consent is paused, or goes on (``resume``)."""

    consent: bytes
    resume: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRevoke:
    """A consent ends: by its custodian, or by any member that shows the preimage of its ``revoke_hash``."""

    consent: bytes
    preimage: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentUse:
    """One disclosure is about to begin.

    Attributes:
        consent: 16 bytes.
        sequence: number of the use, from 1, without gaps.
        digest: 32 bytes, ``disclosure.use_digest`` of everything that is planned to leave.
        count: of the records planned.
    """

    consent: bytes
    sequence: int
    digest: bytes
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentUseClose:
    """A use has ended.

    Attributes:
        consent, sequence: which.
        outcome: one of ``UseOutcome``.
        digest: 32 bytes, ``disclosure.close_digest`` of what left; None where nothing did.
        count: of the records that left.
    """

    consent: bytes
    sequence: int
    outcome: int
    digest: bytes | None
    count: int


ConsentOperation = ConsentGrant | ConsentChange | ConsentRevoke | ConsentUse | ConsentUseClose


def _grant(
    digest: Any, holder: Any, not_before: Any, not_after: Any, max_uses: Any, revoke_hash: Any
) -> ConsentGrant:
    return ConsentGrant(
        digest=fixed_bytes(digest, 32, "a digest"),
        holder=fixed_bytes(holder, 16, "a holder"),
        not_before=integer(not_before, 0, limits.integer_max, "not_before"),
        not_after=integer(not_after, 0, limits.integer_max, "not_after"),
        max_uses=integer(max_uses, 1, limits.consent_uses_max, "max_uses"),
        revoke_hash=fixed_bytes(revoke_hash, 32, "a revoke hash"),
    )


def _supersede(former: Any, *terms: Any) -> ConsentGrant:
    grant = _grant(*terms)
    return ConsentGrant(
        digest=grant.digest,
        holder=grant.holder,
        not_before=grant.not_before,
        not_after=grant.not_after,
        max_uses=grant.max_uses,
        revoke_hash=grant.revoke_hash,
        former=_consent(former),
    )


def _consent(value: Any) -> bytes:
    return fixed_bytes(value, 16, "a consent")


def _sequence(value: Any) -> int:
    return integer(value, 1, limits.consent_uses_max, "the number of a use")


def _count(value: Any) -> int:
    return integer(value, 0, limits.evidence_records_max, "count")


def _revoke(consent: Any, preimage: Any) -> ConsentRevoke:
    return ConsentRevoke(consent=_consent(consent), preimage=optional_bytes(preimage, 32, "a preimage"))


def _use(consent: Any, sequence: Any, digest: Any, count: Any) -> ConsentUse:
    return ConsentUse(
        consent=_consent(consent),
        sequence=_sequence(sequence),
        digest=fixed_bytes(digest, 32, "a digest"),
        count=_count(count),
    )


def _use_close(consent: Any, sequence: Any, outcome: Any, digest: Any, count: Any) -> ConsentUseClose:
    close = ConsentUseClose(
        consent=_consent(consent),
        sequence=_sequence(sequence),
        outcome=integer(outcome, UseOutcome.COMPLETE, UseOutcome.NONE, "outcome"),
        digest=optional_bytes(digest, 32, "a digest"),
        count=_count(count),
    )
    if (close.outcome == UseOutcome.NONE) != (close.digest is None) or (close.digest is None and close.count):
        raise FormatError(
            "expected no digest and count 0 where nothing left, and a digest where something did"
        )
    return close


READERS: dict[str, tuple[int, Callable[..., ConsentOperation]]] = {
    "consent.grant": (8, _grant),
    "consent.supersede": (9, _supersede),
    "consent.pause": (3, lambda consent: ConsentChange(consent=_consent(consent), resume=False)),
    "consent.resume": (3, lambda consent: ConsentChange(consent=_consent(consent), resume=True)),
    "consent.revoke": (4, _revoke),
    "consent.use": (6, _use),
    "consent.use_close": (7, _use_close),
}
"""Name of each operation → (elements of its payload, reader of those after the name)."""


def as_items(operation: ConsentOperation) -> list[Any]:
    """``[name, …]`` of a payload."""
    match operation:
        case ConsentGrant():
            terms = [
                operation.digest,
                operation.holder,
                operation.not_before,
                operation.not_after,
                operation.max_uses,
                operation.revoke_hash,
            ]
            if operation.former is None:
                return ["consent.grant", *terms]
            return ["consent.supersede", operation.former, *terms]
        case ConsentChange():
            return ["consent.resume" if operation.resume else "consent.pause", operation.consent]
        case ConsentRevoke():
            return ["consent.revoke", operation.consent, operation.preimage]
        case ConsentUse():
            return ["consent.use", operation.consent, operation.sequence, operation.digest, operation.count]
        case ConsentUseClose():
            return [
                "consent.use_close",
                operation.consent,
                operation.sequence,
                operation.outcome,
                operation.digest,
                operation.count,
            ]
