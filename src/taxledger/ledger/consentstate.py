"""Consents and their uses as they stand in the state map (docs/protocol.md §6).

Who gave a consent to whom, and about what, stands nowhere here: ``digest`` is salted by the artefact's nonce,
and only the subject and those it hands an artefact to know the holder.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from taxledger.ledger import canonical, limits, statekeys
from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import domain_hash
from taxledger.ledger.members import StateReader
from taxledger.ledger.shapes import fixed_bytes, integer, items, optional_bytes

__all__ = [
    "ConsentStatus",
    "ConsentValue",
    "UseState",
    "UseValue",
    "consent_id",
    "consent_of",
    "data_erased_digest",
    "decode_consent_value",
    "decode_use_value",
    "encode_consent_value",
    "encode_use_value",
    "revoke_hash_of",
    "use_of",
]

_VALUE_BYTES_MAX = 256


class ConsentStatus(IntEnum):
    """What a consent is now. That it expired, or is used up, follows from its window and count."""

    ACTIVE = 1
    PAUSED = 2
    REVOKED = 3
    SUPERSEDED = 4


class UseState(IntEnum):
    """Where a use stands; the last three are the outcomes of ``consent.use_close``."""

    OPEN = 1
    COMPLETE = 2
    PARTIAL = 3
    NONE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentValue:
    """``[status, digest32, custodian, not_before, not_after, max_uses, uses, revoke_hash32]``.

    Attributes: see ``consentoperations.ConsentGrant``; ``custodian`` is the member that granted, ``uses``
    counts the uses so far.
    """

    status: ConsentStatus
    digest: bytes
    custodian: int
    not_before: int
    not_after: int
    max_uses: int
    uses: int
    revoke_hash: bytes

    def refusal(self, time_ms: int) -> str | None:
        """Why no use may begin at this instant, as the name of a rule (docs/protocol.md §8); None if one may."""
        if self.status != ConsentStatus.ACTIVE:
            return f"consent_{self.status.name.lower()}"
        if time_ms < self.not_before:
            return "consent_early"
        if time_ms >= self.not_after:
            return "consent_expired"
        return "consent_used_up" if self.uses >= self.max_uses else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UseValue:
    """``[state, planned digest32, planned count, opened height, close digest32|nil, count, closed height|nil]``.

    ``count`` and the close digest are of what left; they are 0 and None while the use is open.
    """

    state: UseState
    planned_digest: bytes
    planned_count: int
    opened_height: int
    digest: bytes | None = None
    count: int = 0
    closed_height: int | None = None


def consent_id(custodian: int, digest: bytes) -> bytes:
    """``H("consent_id", u16be(custodian) ‖ digest)[:16]``: nobody else can take the id of a custodian's consent."""
    return domain_hash("consent_id", custodian.to_bytes(2, "big") + digest)[:16]


def revoke_hash_of(preimage: bytes) -> bytes:
    """``H("revoke", preimage)`` of 32 bytes."""
    return domain_hash("revoke", preimage)


def data_erased_digest(salt: bytes, consent: bytes, sequence: int, reason: str) -> bytes:
    """``H("data_erased", salt32 ‖ msgpack([consent16, sequence, reason]))``: what ``data.erased`` says of a
    disclosure that its recipient destroyed.
    """
    return domain_hash("data_erased", salt + canonical.encode([consent, sequence, reason]))


def encode_consent_value(value: ConsentValue) -> bytes:
    """The bytes under ``02 consent16``."""
    return canonical.encode(
        [
            int(value.status),
            value.digest,
            value.custodian,
            value.not_before,
            value.not_after,
            value.max_uses,
            value.uses,
            value.revoke_hash,
        ]
    )


def decode_consent_value(data: bytes) -> ConsentValue:
    """Raises EncodingError (not canonical), LimitError or FormatError (another shape)."""
    value = items(canonical.decode(data, bytes_max=_VALUE_BYTES_MAX), 8, "a consent")
    status, digest, custodian, not_before, not_after, max_uses, uses, revoke_hash = value
    instants = [integer(each, 0, limits.integer_max, "an instant") for each in (not_before, not_after)]
    return ConsentValue(
        status=ConsentStatus(integer(status, 1, 4, "a consent's status")),
        digest=fixed_bytes(digest, 32, "a digest"),
        custodian=integer(custodian, 1, 65_535, "a custodian"),
        not_before=instants[0],
        not_after=instants[1],
        max_uses=integer(max_uses, 1, limits.consent_uses_max, "max_uses"),
        uses=integer(uses, 0, limits.consent_uses_max, "uses"),
        revoke_hash=fixed_bytes(revoke_hash, 32, "a revoke hash"),
    )


def encode_use_value(value: UseValue) -> bytes:
    """The bytes under ``04 consent16 sequence4``."""
    return canonical.encode(
        [
            int(value.state),
            value.planned_digest,
            value.planned_count,
            value.opened_height,
            value.digest,
            value.count,
            value.closed_height,
        ]
    )


def decode_use_value(data: bytes) -> UseValue:
    """Raises EncodingError (not canonical), LimitError or FormatError (another shape)."""
    value = items(canonical.decode(data, bytes_max=_VALUE_BYTES_MAX), 7, "a use")
    state, planned, planned_count, opened, digest, count, closed = value
    if (state == UseState.OPEN) != (closed is None):
        raise FormatError("use: expected a closing height exactly where it is closed")
    if (state in (UseState.OPEN, UseState.NONE)) != (digest is None) or (digest is None and count != 0):
        raise FormatError("use: expected a digest, or else count 0, exactly where something left")
    return UseValue(
        state=UseState(integer(state, 1, 4, "a use's state")),
        planned_digest=fixed_bytes(planned, 32, "a digest"),
        planned_count=integer(planned_count, 0, limits.evidence_records_max, "count"),
        opened_height=integer(opened, 0, limits.integer_max, "a height"),
        digest=optional_bytes(digest, 32, "a digest"),
        count=integer(count, 0, limits.evidence_records_max, "count"),
        closed_height=None if closed is None else integer(closed, 0, limits.integer_max, "a height"),
    )


def consent_of(state: StateReader, consent: bytes) -> ConsentValue | None:
    """A consent by its id (16 bytes), or None."""
    found = state.get(statekeys.consent_key(consent))
    return None if found is None else decode_consent_value(found)


def use_of(state: StateReader, consent: bytes, sequence: int) -> UseValue | None:
    """A use by its consent and number, or None."""
    found = state.get(statekeys.use_key(consent, sequence))
    return None if found is None else decode_use_value(found)
