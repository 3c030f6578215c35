"""What an audit looks at in pledges, apart from the rules: a rule that was wrong would be wrong in the replay too.

After each block, of every entry that it wrote: the open pledges are of one record and make no more than its whole
value, and each came there by a permit that its issuer signed for just this lender.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, VerificationError
from taxledger.ledger.execute import Executed
from taxledger.ledger.members import StateReader, member_of
from taxledger.ledger.operations import decode_operation
from taxledger.ledger.permit import Permit, verify_permit
from taxledger.ledger.pledgeoperations import PledgePlace, PledgeTransfer
from taxledger.ledger.pledgestate import (
    PledgeEntry,
    PledgeMarks,
    decode_pledge_entry,
    open_pledges,
    placement_of,
    pledge_id,
    pledged_ppm,
)
from taxledger.ledger.records import Status, decode_record_value
from taxledger.ledger.rules import decode_result
from taxledger.ledger.transaction import decode_transaction

__all__ = ["PledgeFault", "check_pledges"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeFault:
    """Something that must not be; ``expected`` and ``got`` are short texts."""

    message: str
    expected: str
    got: str


def check_pledges(
    executed: Executed, before: StateReader, after: StateReader
) -> tuple[int, list[PledgeFault]]:
    """How many entries and permits of a block hold, and what does not.

    Args:
        executed: the block.
        before, after: the state map before and after it.
    """
    permits = dict(_permits(executed))
    found: list[PledgeFault] = []
    checked = 0
    for (_pledge, lender), permit in permits.items():
        found += _permit_faults(permit, lender, executed, after)
        checked += 1
    for key in executed.layer.ordered:
        if key[0] == 0x05:
            found += _entry_faults(key, executed, before, after, permits)
            checked += 1
    return max(0, checked - len(found)), found


def _permits(executed: Executed) -> Iterator[tuple[tuple[bytes, int], Permit]]:
    """((pledge, lender), permit) of each place and transfer that was accepted."""
    for leaf, result in zip(executed.leaves, executed.results, strict=True):
        transaction = decode_transaction(leaf)
        # Most transactions are about something else, and long: the name of the operation is the second element.
        if transaction.payload[3:10] != b"pledge." or decode_result(result).code != 0:
            continue
        operation = decode_operation(transaction.payload)
        if isinstance(operation, PledgePlace):
            permit, member = operation.permit, transaction.member
            pledge = pledge_id(member, permit.issuer, permit.fingerprint, operation.nonce)
            yield (pledge, member), permit
        elif isinstance(operation, PledgeTransfer):
            yield (operation.pledge, operation.permit.lender), operation.permit


def _permit_faults(
    permit: Permit, lender: int, executed: Executed, after: StateReader
) -> Iterator[PledgeFault]:
    # Members change only before a block's first transaction: the state after it has the keys that counted.
    issuer = member_of(after, permit.issuer)
    try:
        verify_permit(permit, executed.header.chain_id, b"" if issuer is None else issuer.transaction_key)
    except VerificationError as error:
        yield PledgeFault(message="a permit", expected="signed by its issuer", got=str(error))
    if permit.lender != lender:
        yield PledgeFault(message="lender of a permit", expected=str(lender), got=str(permit.lender))
    if permit.not_after <= executed.header.time_ms:
        yield PledgeFault(
            message="end of a permit",
            expected=f"after {executed.header.time_ms}",
            got=str(permit.not_after),
        )


def _entry_faults(
    key: bytes,
    executed: Executed,
    before: StateReader,
    after: StateReader,
    permits: dict[tuple[bytes, int], Permit],
) -> Iterator[PledgeFault]:
    what = f"pledges of fingerprint {key[3:].hex()}"
    former = before.get(key)
    try:
        entry = decode_pledge_entry(executed.layer.writes[key])
        earlier = None if former is None else decode_pledge_entry(former)
    except InputError as error:
        yield PledgeFault(message=what, expected="an entry", got=str(error))
        return
    pledges = open_pledges(entry.pledges, executed.header.time_ms)
    total = pledged_ppm(pledges)
    if total > limits.pledged_ppm_max:
        yield PledgeFault(message=what, expected=f"at most {limits.pledged_ppm_max} ppm", got=f"{total} ppm")
    held = {} if earlier is None else {(each.id, each.member): earlier.record_key for each in earlier.pledges}
    for pledge in pledges:
        permit = permits.get((pledge.id, pledge.member))
        record_key = held.get((pledge.id, pledge.member)) if permit is None else permit.record_key
        if record_key != entry.record_key:
            yield PledgeFault(
                message=f"{what}: pledge {pledge.id.hex()} of member {pledge.member}",
                expected=f"a permit for record {entry.record_key.hex()}",
                got="none" if record_key is None else f"one for {record_key.hex()}",
            )
    marked = PledgeMarks.IMPAIRED in entry.marks
    if marked != _impaired(entry, after):
        yield PledgeFault(
            message=what, expected="impaired" if not marked else "not impaired", got=entry.marks.name or ""
        )


def _impaired(entry: PledgeEntry, after: StateReader) -> bool:
    """Whether one of its pledges was placed at what is no longer the record's valid present version."""
    value = after.get(entry.record_key)
    record = None if value is None else decode_record_value(value)
    for pledge in entry.pledges:
        placement = placement_of(after, pledge.id)
        if placement is None or record is None:
            return True
        if (record.status, record.version) != (Status.VALID, placement.version):
            return True
    return False
