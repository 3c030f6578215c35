"""What an upload has come to between two commits: records as they stand, and what is to be attested of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from taxledger.ledger.packedrows import PackedRow
from taxledger.ledger.records import Status
from taxledger.ledger.schemas import Row
from taxledger.nodes.custodian.rids import RidKeys
from taxledger.nodes.custodian.vault import TagEntry
from taxledger.nodes.sources.rows import BadRow

__all__ = [
    "ACCEPTED",
    "AMENDED",
    "DUPLICATE",
    "ERASED",
    "REASON_CORRECTION",
    "REASON_REVERSED",
    "REASON_VOIDED",
    "REJECTED",
    "REVERSED",
    "VALID",
    "VOIDED",
    "Batch",
    "Book",
    "Change",
    "Known",
    "NewRecord",
    "bad_row",
]

ACCEPTED, AMENDED, DUPLICATE, REJECTED = "accepted", "amended", "duplicates", "rejected"
"""Verdicts; also the names of the counts in ``FileOutcome``."""

ERASED = "erased"
"""Code of a rejected row whose month was erased."""

VALID, VOIDED, REVERSED = int(Status.VALID), int(Status.VOIDED), int(Status.REVERSED)
REASON_CORRECTION, REASON_VOIDED, REASON_REVERSED = 1, 2, 3


@dataclass(slots=True, kw_only=True, eq=False)
class NewRecord:
    """A record that this batch attests: version 1."""

    key: bytes
    year: int
    tag: bytes
    month: int
    rid: bytes
    status: int
    values: Row
    packed: PackedRow
    content: bytes
    file: int
    line: int
    mark: bytes | None
    on_ledger: bool
    red: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Change:
    """A record's next version. ``version`` is the one replaced; ``file``, ``line`` the row that says so.

    ``mark`` is that of the new content where it was corrected; None: that of the version replaced.
    """

    key: bytes
    version: int
    status: int
    values: Row
    content: bytes
    reason: int
    file: int
    line: int
    red: int = 0
    mark: bytes | None = None


@dataclass(slots=True, eq=False)
class Known:
    """A record as it stands: version and status, and by content the statuses it ever had (one bit each)."""

    key: bytes
    version: int
    status: int
    statuses: dict[bytes, int]
    content: bytes
    red: int = 0
    new: NewRecord | None = None


@dataclass(slots=True)
class Book:
    """The records of one subject and year, by key, and by the key that a later content would have.

    ``months`` are the month bytes of all of them.
    """

    subject: str
    entry: TagEntry
    prefix: bytes
    secret: bytes
    rids: RidKeys
    known: dict[bytes, Known]
    erased: frozenset[int]
    months: set[int]


@dataclass(slots=True)
class Batch:
    """What is to be attested together; ``rows`` are (file, line, key, verdict) of all but rejected ones."""

    new: list[NewRecord] = field(default_factory=list)
    changes: dict[bytes, Change] = field(default_factory=dict)
    rows: list[tuple[int, int, bytes, str]] = field(default_factory=list)
    warnings: list[tuple[int, BadRow]] = field(default_factory=list)
    red_matched: list[bytes] = field(default_factory=list)
    tags: list[TagEntry] = field(default_factory=list)
    books: dict[tuple[str, int], Book] = field(default_factory=dict)


def bad_row(line: int, code: str, found: str, expected: str, expected_zh: str) -> BadRow:
    """A row that is rejected, or odd, as a whole."""
    return BadRow(
        line=line, code=code, column="", found=found[:80], expected=expected, expected_zh=expected_zh
    )
