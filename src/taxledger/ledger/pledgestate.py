"""Pledges as they stand in the state map (docs/protocol.md §6).

One entry for each issuer and fingerprint: whatever record carries the fingerprint, its pledges meet here. And one
small, unchanging entry for each pledge ever placed: its id can't be used twice, and leads to where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

from taxledger.ledger import canonical, limits, statekeys
from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import domain_hash
from taxledger.ledger.members import StateReader
from taxledger.ledger.shapes import array, fixed_bytes, integer, items

__all__ = [
    "Placement",
    "Pledge",
    "PledgeEntry",
    "PledgeMarks",
    "decode_placement",
    "decode_pledge_entry",
    "encode_placement",
    "encode_pledge_entry",
    "entry_of",
    "open_pledges",
    "placement_of",
    "pledge_id",
    "pledged_ppm",
]

_ENTRY_BYTES_MAX = 1_024
_PLACEMENT_BYTES_MAX = 64


class PledgeMarks(IntFlag):
    """What is to be known of an entry's open pledges; 0 is nothing."""

    CLEAR = 0
    IMPAIRED = 1
    """The record changed after one of them was placed."""
    CONTESTED = 2
    """A lender tried to place on the same fingerprint under another record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pledge:
    """One lender's share of a record.

    Attributes:
        id: 16 bytes.
        member: whose it is.
        ppm: share of the record's value, in millionths.
        not_after: of a reservation: it counts in blocks before this instant (ms since 1970); None: without end.
    """

    id: bytes
    member: int
    ppm: int
    not_after: int | None

    def is_open(self, time_ms: int) -> bool:
        """It counts at this block time."""
        return self.not_after is None or time_ms < self.not_after


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeEntry:
    """``[record key, marks, [[pledge16, member, ppm, not_after|nil] ≤ 16 …]]``.

    Attributes:
        record_key: 37 bytes, the record that is pledged; the last one that was, where ``pledges`` is empty.
        marks: see there.
        pledges: in the order in which they were placed; reservations that ended may still be among them.
    """

    record_key: bytes
    marks: PledgeMarks
    pledges: tuple[Pledge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """``[issuer, fingerprint16, version, height]``: what a place that was accepted wrote under the pledge's id.

    Attributes:
        issuer, fingerprint: of the entry.
        version: of the record, at which it was pledged.
        height: of the block.
    """

    issuer: int
    fingerprint: bytes
    version: int
    height: int


def pledge_id(member: int, issuer: int, fingerprint: bytes, nonce: bytes) -> bytes:
    """``H("pledge_id", u16be(member) ‖ u16be(issuer) ‖ fingerprint ‖ nonce16)[:16]`` of the member that places."""
    data = member.to_bytes(2, "big") + issuer.to_bytes(2, "big") + fingerprint + nonce
    return domain_hash("pledge_id", data)[:16]


def open_pledges(pledges: Sequence[Pledge], time_ms: int) -> tuple[Pledge, ...]:
    """Those that count at a block time."""
    return tuple(pledge for pledge in pledges if pledge.is_open(time_ms))


def pledged_ppm(pledges: Sequence[Pledge]) -> int:
    """Their shares together, in millionths."""
    return sum(pledge.ppm for pledge in pledges)


# --- bytes ----------------------------------------------------------------------------------


def encode_pledge_entry(entry: PledgeEntry) -> bytes:
    """The bytes under ``05 issuer2 fingerprint16``."""
    rows = [[each.id, each.member, each.ppm, each.not_after] for each in entry.pledges]
    return canonical.encode([entry.record_key, int(entry.marks), rows])


def decode_pledge_entry(data: bytes) -> PledgeEntry:
    """Raises EncodingError (not canonical), LimitError or FormatError (another shape)."""
    record_key, marks, rows = items(canonical.decode(data, bytes_max=_ENTRY_BYTES_MAX), 3, "a pledge entry")
    statekeys.split_record_key(record_key)
    pledges = tuple(map(_pledge, array(rows, 0, limits.pledges_max, "pledges")))
    if len({each.id for each in pledges}) != len(pledges):
        raise FormatError("expected each pledge once")
    return PledgeEntry(
        record_key=record_key,
        marks=PledgeMarks(integer(marks, 0, 3, "marks")),
        pledges=pledges,
    )


def _pledge(value: Any) -> Pledge:
    pledge, member, ppm, not_after = items(value, 4, "a pledge")
    return Pledge(
        id=fixed_bytes(pledge, 16, "a pledge"),
        member=integer(member, 1, 65_535, "a member"),
        ppm=integer(ppm, limits.pledge_ppm_min, limits.pledged_ppm_max, "ppm"),
        not_after=None if not_after is None else integer(not_after, 0, limits.integer_max, "not_after"),
    )


def encode_placement(placement: Placement) -> bytes:
    """The bytes under ``0d pledge16``."""
    return canonical.encode([placement.issuer, placement.fingerprint, placement.version, placement.height])


def decode_placement(data: bytes) -> Placement:
    """Raises EncodingError (not canonical), LimitError or FormatError (another shape)."""
    value = items(canonical.decode(data, bytes_max=_PLACEMENT_BYTES_MAX), 4, "a placement")
    issuer, fingerprint, version, height = value
    return Placement(
        issuer=integer(issuer, 1, 65_535, "an issuer"),
        fingerprint=fixed_bytes(fingerprint, 16, "a fingerprint"),
        version=integer(version, 1, 2**32 - 1, "version"),
        height=integer(height, 0, limits.integer_max, "a height"),
    )


# --- reading the map ------------------------------------------------------------------------


def entry_of(state: StateReader, issuer: int, fingerprint: bytes) -> PledgeEntry | None:
    """The pledges of a fingerprint, or None where none was ever placed."""
    found = state.get(statekeys.pledges_key(issuer, fingerprint))
    return None if found is None else decode_pledge_entry(found)


def placement_of(state: StateReader, pledge: bytes) -> Placement | None:
    """Where a pledge was placed, or None where none was under this id."""
    found = state.get(statekeys.placement_key(pledge))
    return None if found is None else decode_placement(found)
