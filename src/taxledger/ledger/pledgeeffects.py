"""What operations write about pledges (docs/protocol.md §6, §8).

Invariants, after every transaction that writes an entry:

* What ended by time is gone from the list; an empty list has no marks.
* An entry is impaired exactly where one of its pledges was placed at a version of the record that is no longer
  the present one, or no longer valid. So an impaired entry is clear again once those pledges are released.
* All its pledges are of one record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from taxledger.ledger import statekeys
from taxledger.ledger.calls import Call
from taxledger.ledger.operations import Amend, Erase, Revoke
from taxledger.ledger.pledgeoperations import PledgeConfirm, PledgePlace, PledgeRelease, PledgeTransfer
from taxledger.ledger.pledgerules import placed_id
from taxledger.ledger.pledgestate import (
    Placement,
    Pledge,
    PledgeEntry,
    PledgeMarks,
    decode_pledge_entry,
    encode_placement,
    encode_pledge_entry,
    entry_of,
    open_pledges,
    placement_of,
)
from taxledger.ledger.records import RecordValue, Status, decode_record_value

__all__ = [
    "Writes",
    "confirm_writes",
    "contest_writes",
    "impaired_by",
    "place_writes",
    "release_writes",
    "transfer_writes",
]

Writes = dict[bytes, bytes]


def _settled(call: Call, entry: PledgeEntry, record: RecordValue | None) -> bytes:
    """The entry's bytes with the impaired mark as its pledges and the record have it now."""
    marks = entry.marks & ~PledgeMarks.IMPAIRED
    for pledge in entry.pledges:
        placement = placement_of(call.state, pledge.id)
        # A pledge that this very call places has no placement yet: its record is valid by rule 48.
        if placement is not None and (
            record is None or (record.status, record.version) != (Status.VALID, placement.version)
        ):
            marks |= PledgeMarks.IMPAIRED
    return encode_pledge_entry(replace(entry, marks=marks if entry.pledges else PledgeMarks.CLEAR))


def _record(call: Call, key: bytes) -> RecordValue | None:
    found = call.state.get(key)
    return None if found is None else decode_record_value(found)


def place_writes(call: Call) -> Writes:
    """A pledge at the end of the list, which begins anew where nothing in it is open."""
    place: PledgePlace = call.operation
    permit, pledge = place.permit, placed_id(call)
    entry = entry_of(call.state, permit.issuer, permit.fingerprint)
    present = () if entry is None else open_pledges(entry.pledges, call.time_ms)
    placed = Pledge(id=pledge, member=call.signer.number, ppm=place.ppm, not_after=place.not_after)
    written = PledgeEntry(
        record_key=permit.record_key,
        marks=entry.marks if entry is not None and present else PledgeMarks.CLEAR,
        pledges=(*present, placed),
    )
    placement = Placement(
        issuer=permit.issuer, fingerprint=permit.fingerprint, version=permit.version, height=call.height
    )
    return {
        statekeys.pledges_key(permit.issuer, permit.fingerprint): _settled(
            call, written, _record(call, permit.record_key)
        ),
        statekeys.placement_key(pledge): encode_placement(placement),
    }


def contest_writes(call: Call) -> Writes:
    """The one thing that a refused transaction writes: the mark, for the lenders on the other side."""
    permit = call.operation.permit
    entry = entry_of(call.state, permit.issuer, permit.fingerprint)
    if entry is None:  # rule 49 has found it
        return {}
    marked = replace(
        entry,
        marks=entry.marks | PledgeMarks.CONTESTED,
        pledges=open_pledges(entry.pledges, call.time_ms),
    )
    key = statekeys.pledges_key(permit.issuer, permit.fingerprint)
    return {key: _settled(call, marked, _record(call, entry.record_key))}


def confirm_writes(call: Call) -> Writes:
    """The reservation has no end any more."""
    confirm: PledgeConfirm = call.operation
    return _changed(call, confirm.pledge, lambda pledge: replace(pledge, not_after=None))


def release_writes(call: Call) -> Writes:
    """The pledge is gone from the list; its id stays taken."""
    release: PledgeRelease = call.operation
    return _changed(call, release.pledge, lambda pledge: None)


def transfer_writes(call: Call) -> Writes:
    """The pledge is the new lender's, with id, place and share as they were."""
    transfer: PledgeTransfer = call.operation
    return _changed(call, transfer.pledge, lambda pledge: replace(pledge, member=transfer.permit.lender))


def _changed(call: Call, pledge: bytes, change: Callable[[Pledge], Pledge | None]) -> Writes:
    placement = placement_of(call.state, pledge)
    entry = None if placement is None else entry_of(call.state, placement.issuer, placement.fingerprint)
    if placement is None or entry is None:  # rule 36 has found both
        return {}
    pledges: list[Pledge] = []
    for each in open_pledges(entry.pledges, call.time_ms):
        kept = change(each) if each.id == pledge else each
        if kept is not None:
            pledges.append(kept)
    key = statekeys.pledges_key(placement.issuer, placement.fingerprint)
    written = replace(entry, pledges=tuple(pledges))
    return {key: _settled(call, written, _record(call, entry.record_key))}


def impaired_by(call: Call, records: Mapping[bytes, bytes]) -> tuple[Writes, tuple[int, ...]]:
    """What a change of records does to their pledges.

    Args:
        call: of an amend, revoke or erase.
        records: what it writes under the records' keys.

    Returns:
        Writes, and the numbers of the changes whose records have open pledges.
    """
    operation: Amend | Revoke | Erase = call.operation
    # By the fingerprint before the change: a new version may have another, or none.
    changed = [change.key for change in operation.changes]
    marked = [
        (number, key, statekeys.pledges_key(call.signer.number, record.fingerprint))
        for number, (key, record) in enumerate(zip(changed, call.records(), strict=True))
        if record.fingerprint is not None
    ]
    writes: Writes = {}
    numbers: list[int] = []
    found = call.state.get_many([key for _number, _record_key, key in marked])
    for (number, record_key, key), value in zip(marked, found, strict=True):
        entry = None if value is None else decode_pledge_entry(value)
        if entry is None or entry.record_key != record_key:  # its twin's pledges are not touched
            continue
        pledges = open_pledges(entry.pledges, call.time_ms)
        if pledges:
            record = decode_record_value(records[record_key])
            writes[key] = _settled(call, replace(entry, pledges=pledges), record)
            numbers.append(number)
    return writes, tuple(numbers)
