"""The watcher: follows the ledger's events, looks where they point, and raises alerts.

Invariants:

* An event is a node's word. Nothing is concluded from it: what it points at is read from the state map with its
  proof, and the borrower's records only under a consent that still allows it.
* A block of events is done with when all that it led to is durable, together with the place behind it (``store.py``).
  Until then nobody is told anything. Looking again after a crash names the same use of the consent.
* A consent's uses are scarce: records are read again only when what the ledger holds below the borrower's tags is
  not what was there before. Comparing needs no consent, for it reads commitments only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import wraps
from threading import RLock
from typing import Any, ParamSpec, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from taxledger.api.events import Event, EventId
from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.ledger.statekeys import attested_through_key, consent_key, pledges_key
from taxledger.lending.decision import Reason
from taxledger.lending.products.product import Product
from taxledger.lending.watch.alerts import Alert, alert_id
from taxledger.lending.watch.judging import (
    Finding,
    changed_records,
    consent_findings,
    consent_refusal,
    late_findings,
    pledge_findings,
    recheck_refused,
    rule_findings,
)
from taxledger.lending.watch.matching import LoanIndex, Touch
from taxledger.lending.watch.ports import Entries, Events, Recheck, Rechecked, StateReader
from taxledger.lending.watch.store import Outcome, WatchStore
from taxledger.lending.watch.watched import (
    TagPrefix,
    WatchedLoan,
    digest_of_entries,
)

__all__ = ["Watcher"]

P = ParamSpec("P")
T = TypeVar("T")

_END_OF_BLOCK = "taxledger.block.certified"
_STATES = frozenset({"consent_ended", "pledge_contested", "pledge_impaired", "pledge_missing"})


def _alone(method: Callable[P, T]) -> Callable[P, T]:
    """One look at a time: following events and the daily checks may run in threads of their own."""

    @wraps(method)
    def held(*arguments: P.args, **named: P.kwargs) -> T:
        watcher: Any = arguments[0]
        with watcher._lock:
            return method(*arguments, **named)

    return held


class Watcher:
    """Watches every loan of a store. May be used by several threads.

    Args:
        store: what is watched, and where it stands.
        state: proved reads.
        recheck: fresh evidence under a loan's consent.
        product: a product by its id; raises FormatError where there is none.
        urls: receivers of alerts.
        now_ms: the clock, milliseconds since 1970.
        patience_s: how long to go on trying to look at a block while nobody answers.
    """

    def __init__(
        self,
        store: WatchStore,
        state: StateReader,
        recheck: Recheck,
        product: Callable[[str], Product],
        *,
        urls: Sequence[str],
        now_ms: Callable[[], int],
        patience_s: float = 600.0,
    ) -> None:
        self._lock = RLock()
        self._patience_s = patience_s
        self._store, self._state, self._recheck = store, state, recheck
        self._product, self._urls, self._now_ms = product, tuple(urls), now_ms
        self._index = LoanIndex()
        self._loans: dict[str, WatchedLoan] = {}
        self._height_min = 0
        self.refresh()

    @_alone
    def refresh(self) -> None:
        """Take up loans that were enrolled or released since."""
        found = dict(self._named())
        for gone in set(self._loans) - set(found):
            self._index.remove(gone)
        for name, loan in found.items():
            if name not in self._loans:
                self._index.add(loan, [prefix for prefix, _seen in self._store.prefixes(name)])
        self._loans = found

    def _named(self) -> Iterable[tuple[str, WatchedLoan]]:
        return ((loan.loan, loan) for loan, _checked in self._store.loans())

    def run(self, source: Events, after: EventId | None = None) -> None:
        """Follow a source for as long as it gives events; ``after``: where to begin where nothing was watched yet.

        Raises:
            UnavailableError: nobody answers; running again goes on where this ended.
            VerificationError: the node said what is not proved. Nothing of that block is done with.
        """
        self.check_enrolled()
        block: list[Event] = []
        for event in source.events(self._store.position() or after):
            block.append(event)
            if event.type == _END_OF_BLOCK:
                for attempt in self._patience():
                    with attempt:
                        self.take(block)
                block = []

    def _patience(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=wait_random_exponential(multiplier=0.2, max=30),
            stop=stop_after_delay(self._patience_s),
            reraise=True,
        )

    @_alone
    def take(self, block: Sequence[Event]) -> list[Alert]:
        """Look at what one block's events point at; the alerts that are new, which are durable by then."""
        self.refresh()
        self._height_min = block[-1].id.height if block else 0
        outcomes = [
            self._look(self._loans[name], touch) for name, touch in self._index.touched(block).items()
        ]
        position = EventId.after_block(block[-1].id.height) if block else None
        return self._commit(outcomes, position)

    @_alone
    def check_enrolled(self) -> list[Alert]:
        """Look at every loan that nobody has looked at since it was enrolled: its evidence may be old by now."""
        self.refresh()
        outcomes = []
        for loan, checked in self._store.loans():
            if not checked:
                touch = Touch(
                    event="enrolled",
                    prefixes={each.prefix for each in loan.prefixes},
                    pledges=bool(loan.pledges),
                    consents=True,
                )
                outcomes.append(self._look(loan, touch))
        return self._commit(outcomes, None)

    @_alone
    def check_all(self) -> list[Alert]:
        """Look at every loan whatever events said: once a day, so that a node that withholds events is found out.

        What the ledger holds is compared with what was there; consents and pledges that an alert was raised about
        before are not told again.
        """
        self.refresh()
        event = f"daily/{self._today().isoformat()}"
        outcomes = []
        for loan in self._loans.values():
            prefixes = {each.prefix for each, _seen in self._store.prefixes(loan.loan)}
            touch = Touch(event=event, prefixes=prefixes, pledges=bool(loan.pledges), consents=True)
            found = self._look(loan, touch)
            told = {each.rule for each in self._store.alerts(loan.loan)} & _STATES
            alerts = tuple(each for each in found.alerts if each.rule not in told)
            outcomes.append(replace(found, alerts=alerts))
        return self._commit(outcomes, None)

    @_alone
    def check_lateness(self) -> list[Alert]:
        """Look whether the issuers of what is watched are behind with attesting; once a day is enough."""
        self.refresh()
        today = self._today()
        outcomes = []
        for loan in self._loans.values():
            product = self._find(loan)
            if product is None:
                continue
            pairs = sorted({(each.issuer, each.kind) for each, _seen in self._store.prefixes(loan.loan)})
            for issuer, kind in pairs:
                key = attested_through_key(issuer, kind)
                entries = self._read([key])[key]
                value = entries[0][1] if entries else None
                found = late_findings(issuer, kind, value, today, product.attested_within_days)
                # One alert for each day at which an issuer stops, whenever it is noticed.
                event = f"late/{issuer}/{kind}/{found[0].data['through'] if found else ''}"
                outcomes.append(Outcome(loan=loan.loan, alerts=self._alerts(loan, event, found)))
        return self._commit(outcomes, None)

    def _read(self, prefixes: Sequence[bytes]) -> Entries:
        """What the ledger holds, no earlier than after the block that is being looked at."""
        return self._state.read(prefixes, height_min=self._height_min)

    # --- one loan ---------------------------------------------------------------------------

    def _look(self, loan: WatchedLoan, touch: Touch) -> Outcome:
        findings: list[Finding] = []
        seen, values, changed = self._compare(loan, touch)
        findings += changed_records(sorted(touch.keys), values)
        if touch.pledges:
            keys = sorted({pledges_key(each.issuer, each.fingerprint) for each in loan.pledges})
            findings += pledge_findings(loan, self._read(keys))
        # A year without a tag is read once: whether anything in it is the borrower's, nobody else can say.
        years = touch.years - self._store.years(loan.loan)
        consents = self._consents(loan) if touch.consents or years or changed else {}
        if touch.consents:
            findings += consent_findings(loan, consents, self._now_ms())
        added: tuple[TagPrefix, ...] = ()
        if changed or years:
            refusal = consent_refusal(loan, consents, self._now_ms())
            if refusal is not None:
                findings.append(recheck_refused([Reason(code=refusal, text=refusal, text_zh=refusal)]))
            else:
                more, added, more_seen = self._read_again(loan, touch.event)
                findings += more
                seen += more_seen
        return Outcome(
            loan=loan.loan,
            alerts=self._alerts(loan, touch.event, findings),
            seen=tuple(seen),
            prefixes=added,
            years=tuple(sorted(years)),
        )

    def _compare(
        self, loan: WatchedLoan, touch: Touch
    ) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes], bool]:
        """(digest below each prefix now, values below them, whether anything is not as it was)."""
        before = {each.prefix: digest for each, digest in self._store.prefixes(loan.loan)}
        wanted = sorted(touch.prefixes & before.keys())
        entries = self._read(wanted) if wanted else {}
        seen = [(prefix, digest_of_entries(entries[prefix])) for prefix in wanted]
        values = {key: value for prefix in wanted for key, value in entries[prefix]}
        changed = any(before[prefix] is not None and before[prefix] != digest for prefix, digest in seen)
        if touch.event == "enrolled":
            # Nobody has looked yet: what the ledger holds now is compared with what the evidence said.
            changed = digest_of_entries(values.items(), loan.ranges) != loan.known
        elif any(before[prefix] is None for prefix, _digest in seen):
            changed = True
        return seen, values, changed

    def _consents(self, loan: WatchedLoan) -> dict[bytes, Sequence[tuple[bytes, bytes]]]:
        return dict(self._read([consent_key(each) for each in loan.consents]))

    def _read_again(
        self, loan: WatchedLoan, event: str
    ) -> tuple[list[Finding], tuple[TagPrefix, ...], list[tuple[bytes, bytes]]]:
        """(findings, tags that are new, digests of what is below these)."""
        product = self._find(loan)
        if product is None:
            reason = Reason(code="product_unknown", text=loan.product, text_zh=loan.product)
            return [recheck_refused([reason])], (), []
        today = self._today()
        request = f"watch/{alert_id(loan.loan, event, 'recheck')}"
        found = self._recheck(loan, product, request=request, as_of=today, now_ms=self._now_ms())
        if found.verified is None:
            return [recheck_refused(found.reasons)], (), []
        before = {each.prefix for each, _seen in self._store.prefixes(loan.loan)}
        added = tuple(each for each in found.covered.prefixes if each.prefix not in before)
        return rule_findings(product, found.verified, loan, today), added, self._first_seen(added, found)

    def _first_seen(self, added: Sequence[TagPrefix], found: Rechecked) -> list[tuple[bytes, bytes]]:
        """Digests below new tags, if the ledger still is as the evidence says; else the next event compares."""
        if not added:
            return []
        wanted = sorted({each.prefix for each in (*added, *found.covered.prefixes)})
        entries = self._read(wanted)
        everything = [pair for prefix in wanted for pair in entries[prefix]]
        if digest_of_entries(everything, found.covered.ranges) != found.covered.known:
            return []
        return [(each.prefix, digest_of_entries(entries[each.prefix])) for each in added]

    # --- small things -----------------------------------------------------------------------

    def _find(self, loan: WatchedLoan) -> Product | None:
        try:
            return self._product(loan.product)
        except FormatError:
            return None

    def _today(self) -> date:
        return datetime.fromtimestamp(self._now_ms() // 1000, UTC).date()

    def _alerts(self, loan: WatchedLoan, event: str, findings: Sequence[Finding]) -> tuple[Alert, ...]:
        now_ms = self._now_ms()
        return tuple(
            Alert(
                id=alert_id(loan.loan, event, each.rule),
                loan=loan.loan,
                event=event,
                rule=each.rule,
                severity=each.severity,
                text=each.text,
                text_zh=each.text_zh,
                raised_ms=now_ms,
                data=each.data,
            )
            for each in findings
        )

    def _commit(self, outcomes: Sequence[Outcome], position: EventId | None) -> list[Alert]:
        new = self._store.commit(outcomes, position, self._urls, self._now_ms())
        for outcome in outcomes:
            if outcome.prefixes:
                self._index.add(self._loans[outcome.loan], outcome.prefixes)
        return new
