"""What a lender knows about an enterprise: verified records and how far each kind is complete, and nothing else.

Invariant: ``Facts`` are made from verified answers only (``evidence.facts_of``; tests make their own). Whatever
is computed from them is a pure function of them and of a date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taxledger.ledger.fields import Value
from taxledger.ledger.records import Status

__all__ = ["Coverage", "Fact", "Facts"]

COUNTED = (Status.VALID, Status.REVERSED)
"""A reversed invoice counts: its red letter is a negative record of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One verified record at its present version.

    Attributes:
        kind: number of the kind.
        issuer: member that attested it.
        key: in the state map, 37 bytes; ``version`` from 1.
        status: what it is now.
        fingerprint: 16 bytes where the kind can be pledged, else None.
        schema: number of the schema of its kind.
        fields: by name, absent ones left out; empty for an erased record.
        closed: names of the fields that the consent does not open: not among ``fields``, and need not be absent.
        period: ``YYYY-MM``, ``YYYY-Qn`` or ``YYYY``, known of an erased record too; empty: not known.
    """

    kind: int
    issuer: int
    key: bytes
    version: int
    status: Status
    fingerprint: bytes | None
    schema: int
    fields: Mapping[str, Value]
    closed: tuple[str, ...] = ()
    period: str = ""

    @property
    def counted(self) -> bool:
        """Neither voided, revoked, superseded nor erased."""
        return self.status in COUNTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How far the records of a kind are all there are.

    Attributes:
        issuer: member that attests the kind for this lender.
        from_period, to_period: months asked, ``YYYY-MM``.
        through: date through which the issuer says it attested everything; None: never.
        begun: whether the issuer attested anything in each year asked for which it vouches.
        erased: records of the range whose content was destroyed.
        closed: names of fields that the consent left closed, ascending.
    """

    issuer: int
    from_period: str
    to_period: str
    through: str | None
    begun: bool
    erased: int
    closed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything verified about one enterprise.

    Attributes:
        subject: ``scheme:identifier``.
        records: by kind, ascending by key; all statuses.
        coverage: by kind; a kind without an entry was not asked.
        pledged_ppm: by (issuer, fingerprint), the share that open pledges have taken, proved; a fingerprint without
            an entry was not looked up.
        contested: of those, which a lender tried to pledge as another record while they were pledged, ascending.
        derived: tables that features make of the records once; it says nothing that they do not.
    """

    subject: str
    records: Mapping[int, tuple[Fact, ...]] = field(default_factory=dict)
    coverage: Mapping[int, Coverage] = field(default_factory=dict)
    pledged_ppm: Mapping[tuple[int, bytes], int] = field(default_factory=dict)
    contested: tuple[tuple[int, bytes], ...] = ()
    derived: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def of(self, kind: int) -> tuple[Fact, ...]:
        """All records of a kind, whatever their status; empty where it was not asked."""
        return self.records.get(kind, ())

    @property
    def taken_ppm(self) -> dict[bytes, int]:
        """By fingerprint, the share that is taken; where issuers have the same one, the greatest."""
        found: dict[bytes, int] = {}
        for (_issuer, mark), ppm in self.pledged_ppm.items():
            found[mark] = max(ppm, found.get(mark, 0))
        return found

    def counted(self, kind: int) -> tuple[Fact, ...]:
        """The records of a kind that count."""
        return tuple(each for each in self.of(kind) if each.counted)
