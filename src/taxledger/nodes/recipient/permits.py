"""A lender's question for permits: asked of the custodian's node, and believed only where the signatures verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError, InputError, RefusedError, VerificationError
from taxledger.ledger.members import StateReader, member_of
from taxledger.ledger.permit import decode_permit, verify_permit
from taxledger.ledger.shapes import items
from taxledger.ledger.statekeys import split_record_key
from taxledger.nodes.peering.transport import PeerClient

__all__ = ["ask_permits"]

_ANSWER_BYTES_MAX = 300 * limits.permits_max + 64
_TEXT_MAX = 300
_CODES = frozenset(
    {
        *("consent_unknown", "consent_recipient_mismatch", "consent_custodian_mismatch", "consent_paused"),
        *("consent_revoked", "consent_superseded", "consent_early", "consent_expired"),
        *("pledge_not_consented", "record_not_disclosed", "record_not_valid", "record_not_pledgeable"),
        "permit_expired",
    }
)
"""What a custodian may say; anything else is its refusal."""


async def ask_permits(
    peers: Mapping[int, PeerClient],
    state: StateReader,
    *,
    member: int,
    chain_id: bytes,
    consent: bytes,
    sequence: int,
    records: Sequence[bytes],
    not_after: int,
) -> tuple[bytes, ...]:
    """See ``api.pledging.Pledging.permits``. ``member`` is the lender, ``state`` the newest certified one."""
    issuers = {split_record_key(each)[0] for each in records}
    if len(issuers) != 1 or len(set(records)) < len(records):
        raise InputError("expected records of one issuer, each once")
    (issuer,) = issuers
    peer = peers.get(issuer)
    if peer is None:
        raise RefusedError("issuer_unknown", f"member {issuer} has no node here")
    ordered = sorted(records)
    message = [1, "permit", consent, sequence, ordered, not_after]
    try:
        answer = await peer.call("permit", message, answer_bytes_max=_ANSWER_BYTES_MAX)
    except RefusedError as error:
        detail = str(error).removeprefix(f"{error.code}: ")[:_TEXT_MAX]
        text = "".join(each if each.isprintable() else " " for each in detail)
        raise RefusedError(error.code if error.code in _CODES else "custodian_refused", text) from error
    found = _read_permits(answer, ordered, state, member=member, chain_id=chain_id, not_after=not_after)
    return tuple(found[each] for each in records)


def _read_permits(
    answer: bytes,
    ordered: Sequence[bytes],
    state: StateReader,
    *,
    member: int,
    chain_id: bytes,
    not_after: int,
) -> dict[bytes, bytes]:
    """Permit by record key; each is for this lender, no longer than asked, and signed by the issuer's present key."""
    try:
        version, what, permits = items(canonical.decode(answer, bytes_max=_ANSWER_BYTES_MAX), 3, "permits")
        if type(version) is not int or [version, what] != [1, "permit"]:
            raise FormatError("expected permits of version 1")
        return {
            key: _checked(raw, key, state, member=member, chain_id=chain_id, not_after=not_after)
            for key, raw in zip(ordered, items(permits, len(ordered), "permits"), strict=True)
        }
    except (InputError, VerificationError) as error:
        raise RefusedError("permit_invalid", f"what the custodian sent is no permit: {error}") from error


def _checked(
    raw: Any, key: bytes, state: StateReader, *, member: int, chain_id: bytes, not_after: int
) -> bytes:
    if type(raw) is not bytes:
        raise FormatError("expected a permit as bytes")
    permit = decode_permit(raw)
    issuer = member_of(state, permit.issuer)
    if permit.record_key != key or permit.lender != member or permit.not_after > not_after or issuer is None:
        raise FormatError("expected a permit for the record, lender and end that were asked")
    verify_permit(permit, chain_id, issuer.transaction_key)
    return raw
