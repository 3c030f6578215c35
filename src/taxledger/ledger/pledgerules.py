"""What the rules ask of operations about pledges (docs/protocol.md §8, codes 35 to 51); ``rules.py`` has the list.

Every validator enforces that a pledge has the issuer's permit for its signer, on a record that is valid at the
permit's version, and that the open pledges of a fingerprint name one record and never more than its whole value.
"""

from __future__ import annotations

from taxledger.ledger import limits
from taxledger.ledger.calls import Call
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.members import member_of
from taxledger.ledger.permit import Permit, verify_permit
from taxledger.ledger.pledgeoperations import PledgeConfirm, PledgePlace, PledgeTransfer
from taxledger.ledger.pledgestate import (
    Placement,
    Pledge,
    PledgeEntry,
    entry_of,
    open_pledges,
    placement_of,
    pledge_id,
    pledged_ppm,
)
from taxledger.ledger.records import RecordValue, Status, decode_record_value

__all__ = [
    "fits",
    "has_room",
    "is_known",
    "is_new",
    "is_open",
    "is_reservation",
    "lender_active",
    "permit_for_pledge",
    "permit_for_signer",
    "permit_in_time",
    "permit_valid",
    "placed_id",
    "ppm_enough",
    "record_pledgeable",
    "record_valid",
    "signer_holds",
    "term_valid",
    "uncontested",
]


def placed_id(call: Call) -> bytes:
    """The id of the pledge that the call places."""
    place: PledgePlace = call.operation
    return pledge_id(call.signer.number, place.permit.issuer, place.permit.fingerprint, place.nonce)


def _open(call: Call, entry: PledgeEntry | None) -> tuple[Pledge, ...]:
    return () if entry is None else open_pledges(entry.pledges, call.time_ms)


def _open_beside(call: Call) -> tuple[Pledge, ...]:
    """The open pledges of the fingerprint on which the call places."""
    permit: Permit = call.operation.permit
    return _open(call, entry_of(call.state, permit.issuer, permit.fingerprint))


def _named(call: Call) -> tuple[Placement, PledgeEntry] | None:
    """Where the pledge is that the operation names; None where it was never placed."""
    placement = placement_of(call.state, call.operation.pledge)
    if placement is None:
        return None
    entry = entry_of(call.state, placement.issuer, placement.fingerprint)
    return None if entry is None else (placement, entry)


def _present(call: Call) -> Pledge | None:
    """The open pledge that the operation names."""
    named = _named(call)
    pledges = () if named is None else _open(call, named[1])
    return next((each for each in pledges if each.id == call.operation.pledge), None)


def is_new(call: Call) -> bool:
    """Rule 35. First of all: who submits again learns that the pledge is there, even when its permit is over."""
    return placement_of(call.state, placed_id(call)) is None


def is_known(call: Call) -> bool:
    """Rule 36."""
    return _named(call) is not None


def is_open(call: Call) -> bool:
    """Rule 37."""
    return _present(call) is not None


def signer_holds(call: Call) -> bool:
    """Rule 38."""
    present = _present(call)
    return present is not None and present.member == call.signer.number


def is_reservation(call: Call) -> bool:
    """Rule 39."""
    present = _present(call)
    return present is not None and present.not_after is not None


def permit_valid(call: Call) -> bool:
    """Rule 40."""
    permit: Permit = call.operation.permit
    issuer = member_of(call.state, permit.issuer)
    if issuer is None or not issuer.is_active or permit.kind not in issuer.kinds:
        return False
    try:
        verify_permit(permit, call.chain_id, issuer.transaction_key)
    except VerificationError:
        return False
    return True


def permit_in_time(call: Call) -> bool:
    """Rule 41."""
    permit: Permit = call.operation.permit
    return call.time_ms < permit.not_after


def permit_for_signer(call: Call) -> bool:
    """Rule 42."""
    permit: Permit = call.operation.permit
    return permit.lender == call.signer.number


def permit_for_pledge(call: Call) -> bool:
    """Rule 43."""
    transfer: PledgeTransfer = call.operation
    permit, named = transfer.permit, _named(call)
    if named is None:
        return False
    placement, entry = named
    return (permit.record_key, permit.fingerprint, permit.version) == (
        entry.record_key,
        placement.fingerprint,
        placement.version,
    )


def lender_active(call: Call) -> bool:
    """Rule 44."""
    permit: Permit = call.operation.permit
    lender = member_of(call.state, permit.lender)
    return lender is not None and lender.is_active and lender.number != call.signer.number


def ppm_enough(call: Call) -> bool:
    """Rule 45."""
    place: PledgePlace = call.operation
    return place.ppm >= limits.pledge_ppm_min


def term_valid(call: Call) -> bool:
    """Rule 46."""
    place: PledgePlace = call.operation
    return place.not_after is None or call.time_ms < place.not_after


def _record(call: Call, key: bytes) -> RecordValue | None:
    found = call.state.get(key)
    return None if found is None else decode_record_value(found)


def record_pledgeable(call: Call) -> bool:
    """Rule 47."""
    permit: Permit = call.operation.permit
    record = _record(call, permit.record_key)
    return record is not None and record.fingerprint == permit.fingerprint


def record_valid(call: Call) -> bool:
    """Rule 48."""
    operation: PledgePlace | PledgeTransfer | PledgeConfirm = call.operation
    if isinstance(operation, PledgeConfirm):
        named = _named(call)
        if named is None:
            return False
        key, version = named[1].record_key, named[0].version
    else:
        key, version = operation.permit.record_key, operation.permit.version
    record = _record(call, key)
    return record is not None and (record.status, record.version) == (Status.VALID, version)


def uncontested(call: Call) -> bool:
    """Rule 49. All open pledges of a fingerprint name one record."""
    permit: Permit = call.operation.permit
    entry = entry_of(call.state, permit.issuer, permit.fingerprint)
    return entry is None or entry.record_key == permit.record_key or not _open(call, entry)


def has_room(call: Call) -> bool:
    """Rule 50."""
    return len(_open_beside(call)) < limits.pledges_max


def fits(call: Call) -> bool:
    """Rule 51."""
    place: PledgePlace = call.operation
    return pledged_ppm(_open_beside(call)) + place.ppm <= limits.pledged_ppm_max
