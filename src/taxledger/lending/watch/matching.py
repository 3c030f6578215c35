"""Which loans an event may be about. Pure; an event is a hint, so a match only says where to look.

============================  ===============================================================
``record.attested``           loans with a tag of that issuer, kind and year: is anything new below it?
``record.attested``, other    loans that read that kind of that issuer, in a year that they have no tag of yet
``record.amended`` … erased   loans with the tag in the record's key
``pledge.impaired``           loans with a pledge on the record; ``contested``: in the entry
``pledge.released`` …         loans whose pledge it is
``consent.revoked`` …         loans that are read under it
============================  ===============================================================
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from taxledger.api.events import Event
from taxledger.ledger.statekeys import RECORD_KEY_BYTES, pledges_key
from taxledger.lending.watch.watched import TagPrefix, WatchedLoan

__all__ = ["LoanIndex", "Touch"]

_ATTESTED = re.compile(r"([0-9]{1,5})/([0-9]{1,3})/([0-9]{4})")
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,64}")
_CHANGED = ("taxledger.record.amended", "taxledger.record.revoked", "taxledger.record.erased")
_PLEDGE = ("taxledger.pledge.released", "taxledger.pledge.transferred")
_CONSENT = (
    "taxledger.consent.revoked",
    "taxledger.consent.paused",
    "taxledger.consent.superseded",
)


@dataclass(slots=True, kw_only=True)
class Touch:
    """What of a loan to look at.

    Attributes:
        event: id of the first event that led here.
        prefixes: of 20 bytes, whose records to compare.
        keys: of records said to have changed.
        years: (issuer, kind, year) without a tag yet.
        pledges, consents: whether to look at them.
    """

    event: str
    prefixes: set[bytes] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    years: set[tuple[int, int, int]] = field(default_factory=set)
    pledges: bool = False
    consents: bool = False


class LoanIndex:
    """Loans by whatever an event may name."""

    def __init__(self) -> None:
        self._tags: dict[str, set[TagPrefix]] = defaultdict(set)
        self._heights: dict[str, int] = {}
        self._by_prefix: dict[bytes, set[str]] = defaultdict(set)
        self._by_issue: dict[tuple[int, int, int], dict[bytes, set[str]]] = defaultdict(dict)
        self._by_kind: dict[tuple[int, int], set[str]] = defaultdict(set)
        self._by_key: dict[bytes, set[str]] = defaultdict(set)
        self._consents: dict[bytes, set[str]] = defaultdict(set)

    def add(self, loan: WatchedLoan, prefixes: Iterable[TagPrefix]) -> None:
        """A loan, or more of its tags."""
        self._heights[loan.loan] = loan.height
        for each in prefixes:
            self._tags[loan.loan].add(each)
            self._by_prefix[each.prefix].add(loan.loan)
            named = self._by_issue[each.issuer, each.kind, each.year]
            named.setdefault(each.prefix, set()).add(loan.loan)
            self._by_kind[each.issuer, each.kind].add(loan.loan)
        for pledge in loan.pledges:
            for key in (pledge.id, pledge.record_key, pledges_key(pledge.issuer, pledge.fingerprint)):
                self._by_key[key].add(loan.loan)
        for consent in loan.consents:
            self._consents[consent].add(loan.loan)

    def remove(self, loan: str) -> None:
        """Forget a loan."""
        self._tags.pop(loan, None)
        for table in (self._by_prefix, self._by_kind, self._by_key, self._consents):
            for named in table.values():
                named.discard(loan)
        for by_prefix in self._by_issue.values():
            for named in by_prefix.values():
                named.discard(loan)

    def touched(self, events: Iterable[Event]) -> dict[str, Touch]:
        """Loan -> what to look at, of the events of one block; loans ascending."""
        found: dict[str, Touch] = {}
        for event in events:
            for loan, change in self._of(event):
                if event.id.height <= self._heights[loan]:
                    continue  # the evidence that decided knew of it
                touch = found.setdefault(loan, Touch(event=str(event.id)))
                touch.prefixes |= change.prefixes
                touch.keys |= change.keys
                touch.years |= change.years
                touch.pledges |= change.pledges
                touch.consents |= change.consents
        return dict(sorted(found.items()))

    def _of(self, event: Event) -> Iterator[tuple[str, Touch]]:
        if event.type == "taxledger.record.attested":
            yield from self._attested(event)
            return
        if not _HEX.fullmatch(event.subject):
            return
        key = bytes.fromhex(event.subject)
        if event.type in _CHANGED and len(key) == RECORD_KEY_BYTES:
            for loan in self._by_prefix.get(key[:20], ()):
                yield loan, Touch(event="", prefixes={key[:20]}, keys={key})
        elif event.type.startswith("taxledger.pledge.") and (
            event.type in _PLEDGE or event.type.endswith((".impaired", ".contested"))
        ):
            for loan in self._by_key.get(key, ()):
                yield loan, Touch(event="", pledges=True)
        elif event.type in _CONSENT:
            for loan in self._consents.get(key, ()):
                yield loan, Touch(event="", consents=True)

    def _attested(self, event: Event) -> Iterator[tuple[str, Touch]]:
        match = _ATTESTED.fullmatch(event.subject)
        if match is None:
            return
        issuer, kind, year = (int(each) for each in match.groups())
        known = self._by_issue.get((issuer, kind, year), {})
        for prefix, loans in known.items():
            for loan in loans:
                yield loan, Touch(event="", prefixes={prefix})
        having = {loan for loans in known.values() for loan in loans}
        for loan in self._by_kind.get((issuer, kind), set()) - having:
            # Only years after those that were disclosed: what lies before them was never asked.
            if year > max(
                each.year for each in self._tags[loan] if (each.issuer, each.kind) == (issuer, kind)
            ):
                yield loan, Touch(event="", years={(issuer, kind, year)})
