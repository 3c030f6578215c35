"""A query, and which keys of the state map answer it (docs/protocol.md §10).

Invariants:

* The keys follow from the query alone (and from the tags, once their signatures are verified), so issuer and
  verifier arrive at the same ones and nobody can leave one out.
* A record of the whole year or of a quarter belongs to every range that shares a month with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import check_subject
from taxledger.ledger.statekeys import (
    attested_through_key,
    member_key,
    month_prefix,
    schema_key,
    tag_key_key,
    tag_prefix,
)

__all__ = ["YEAR_MAX", "YEAR_MIN", "Query", "record_prefixes", "single_keys"]

YEAR_MIN = 1990
YEAR_MAX = 2200
"""The years that can have a tag key (§8, rule 13), hence records."""

_PERIOD = re.compile(r"([0-9]{4})-(?:0[1-9]|1[0-2])")


def _check_period(period: str) -> None:
    match = _PERIOD.fullmatch(period) if type(period) is str else None
    if match is None or not YEAR_MIN <= int(match[1]) <= YEAR_MAX:
        raise FormatError(f"expected a period YYYY-MM from {YEAR_MIN} to {YEAR_MAX}, got {period!r:.40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked about one subject.

    Attributes:
        subject: ``scheme:identifier`` in its one form (``records.parse_subject`` makes it).
        issuer: member number of who attested, 1–65,535.
        kinds: kinds of record, ascending, at least one.
        from_period: first month, ``YYYY-MM``.
        to_period: last month, ``YYYY-MM``, not before the first.
    """

    subject: str
    issuer: int
    kinds: tuple[int, ...]
    from_period: str
    to_period: str

    def __post_init__(self) -> None:
        check_subject(self.subject)
        if type(self.issuer) is not int or not 1 <= self.issuer <= 65_535:
            raise FormatError(f"expected an issuer 1–65535, got {self.issuer!r:.40}")
        for kind in self.kinds:
            if type(kind) is not int or not 1 <= kind <= 255:
                raise FormatError(f"expected kinds 1–255, got {kind!r:.40}")
        if not 1 <= len(self.kinds) <= limits.evidence_kinds_max:
            raise FormatError(f"expected 1 to {limits.evidence_kinds_max} kinds, got {len(self.kinds)}")
        if any(low >= high for low, high in pairwise(self.kinds)):
            raise FormatError(f"expected strictly ascending kinds, got {self.kinds}")
        _check_period(self.from_period)
        _check_period(self.to_period)
        if self.from_period > self.to_period:
            raise FormatError(f"expected from ≤ to, got {self.from_period} to {self.to_period}")
        if len(self.years) > limits.evidence_years_max:
            raise FormatError(f"expected at most {limits.evidence_years_max} years, got {len(self.years)}")

    @property
    def years(self) -> range:
        """Every year that the range touches."""
        return range(int(self.from_period[:4]), int(self.to_period[:4]) + 1)

    def month_bytes(self, year: int) -> tuple[int, ...] | None:
        """The month bytes of a year that the range touches; None where it covers the whole year."""
        first = int(self.from_period[5:]) if year == self.years[0] else 1
        last = int(self.to_period[5:]) if year == self.years[-1] else 12
        if (first, last) == (1, 12):
            return None
        quarters = range(13 + (first - 1) // 3, 13 + (last - 1) // 3 + 1)
        return (0, *range(first, last + 1), *quarters)

    def as_list(self) -> list[object]:
        """``[subject, issuer, kinds, from, to]`` as evidence has it."""
        return [self.subject, self.issuer, list(self.kinds), self.from_period, self.to_period]


def single_keys(query: Query, schemas: Iterable[tuple[int, int]]) -> list[bytes]:
    """The keys that are proved one by one, ascending.

    Args:
        query: what is asked.
        schemas: (kind, schema) of every record listed, in any order, repeated or not.
    """
    return [
        member_key(query.issuer),
        *(schema_key(kind, schema) for kind, schema in sorted(set(schemas))),
        *(attested_through_key(query.issuer, kind) for kind in query.kinds),
        *(tag_key_key(query.issuer, year) for year in query.years),
    ]


def record_prefixes(query: Query, tags: Mapping[tuple[int, int], bytes]) -> dict[bytes, tuple[int, int]]:
    """Record prefix -> (kind, year), ascending: everything below them is the answer.

    Args:
        query: what is asked.
        tags: (kind, year) -> tag (16 bytes), for every year of the range that has a tag key.
    """
    found: dict[bytes, tuple[int, int]] = {}
    for (kind, year), tag in tags.items():
        months = query.month_bytes(year)
        if months is None:
            found[tag_prefix(query.issuer, kind, tag)] = (kind, year)
        else:
            for month in months:
                found[month_prefix(query.issuer, kind, tag, month)] = (kind, year)
    return dict(sorted(found.items()))
