"""A ledger to watch without a network: a state map, events, and evidence, all as a test says they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

from facts_maker import SUBJECT, facts, invoice

from taxledger.api.events import Event, EventId
from taxledger.ledger import canonical
from taxledger.ledger.consentstate import ConsentStatus, ConsentValue, encode_consent_value
from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.pledgestate import Pledge, PledgeEntry, PledgeMarks, encode_pledge_entry
from taxledger.ledger.records import RecordValue, Status, encode_record_value
from taxledger.ledger.statekeys import attested_through_key, consent_key, pledges_key, tag_prefix
from taxledger.lending.decision import Reason
from taxledger.lending.evidence import VerifiedEvidence
from taxledger.lending.facts import Coverage, Fact, Facts
from taxledger.lending.products.catalogue import shipped_files
from taxledger.lending.products.product import Product
from taxledger.lending.watch.ports import Rechecked
from taxledger.lending.watch.store import WatchStore
from taxledger.lending.watch.watched import (
    Covered,
    TagPrefix,
    WatchedLoan,
    WatchedPledge,
    digest_of_entries,
)
from taxledger.lending.watch.watcher import Watcher

INVOICES = KINDS["vat_invoice"]
NOW_MS = 1_750_402_800_000  # 2025-06-20
TODAY = date(2025, 6, 20)
URL = "https://bank.example/alerts"
CONSENT = b"\x07" * 16
FINGERPRINT = b"\x05" * 16
PLEDGE = b"\x09" * 16
HEIGHT = 100


def tag_of(name: str, kind: int = INVOICES, year: int = 2025) -> TagPrefix:
    tag = sha256(f"{name}/{kind}/{year}".encode()).digest()[:16]
    return TagPrefix(prefix=tag_prefix(1, kind, tag), issuer=1, kind=kind, year=year)


def key_of(prefix: TagPrefix, number: int, month: int = 3) -> bytes:
    return prefix.prefix + bytes([month]) + number.to_bytes(16, "big")


def value_of(version: int = 1, status: Status = Status.VALID) -> bytes:
    return encode_record_value(
        RecordValue(
            status=status, version=version, schema=1, commitment=bytes(32), fingerprint=None, height=5
        )
    )


class FakeState:
    """A state map; ``down`` answers nobody so many times."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self.entries = dict(entries)
        self.asked: list[bytes] = []
        self.down = 0

    def read(
        self, prefixes: Sequence[bytes], *, height_min: int = 0
    ) -> dict[bytes, list[tuple[bytes, bytes]]]:
        if self.down:
            self.down -= 1
            raise UnavailableError("nobody answers")
        self.asked += prefixes
        return {
            prefix: sorted(pair for pair in self.entries.items() if pair[0].startswith(prefix))
            for prefix in prefixes
        }


@dataclass
class FakeRecheck:
    """Gives the facts it holds, or the reasons; notes every request."""

    facts: Facts
    covered: Covered = field(default_factory=Covered)
    reasons: tuple[Reason, ...] = ()
    requests: list[str] = field(default_factory=list)

    def __call__(
        self, loan: WatchedLoan, product: Product, *, request: str, as_of: date, now_ms: int
    ) -> Rechecked:
        self.requests.append(request)
        if self.reasons:
            return Rechecked(reasons=self.reasons)
        verified = VerifiedEvidence(facts=self.facts, disclosed=(), digests=(), age_ms=0)
        return Rechecked(verified=verified, covered=self.covered)


class FakeEvents:
    def __init__(self, events: Sequence[Event]) -> None:
        self.list = list(events)
        self.after: list[EventId | None] = []

    def events(self, after: EventId | None = None) -> Iterator[Event]:
        self.after.append(after)
        yield from (each for each in self.list if after is None or each.id > after)


def block(height: int, *parts: tuple[str, str, dict[str, Any]]) -> list[Event]:
    """The events of a block: (type without its beginning, subject, data), and its end."""
    ended = ("block.certified", str(height), {"height": height, "transactions": 1, "refused": 0})
    return [
        Event(
            id=EventId(height, number), type=f"taxledger.{type_}", time_ms=NOW_MS, subject=subject, data=data
        )
        for number, (type_, subject, data) in enumerate([*parts, ended])
    ]


def attested(kind: int = INVOICES, year: int = 2025) -> tuple[str, str, dict[str, Any]]:
    return "record.attested", f"1/{kind}/{year}", {"kind": kind, "year": year, "count": 40, "through": None}


def amended(key: bytes) -> tuple[str, str, dict[str, Any]]:
    return "record.amended", key.hex(), {"kind": INVOICES, "version": 2, "status": 3}


def consent_value(status: ConsentStatus = ConsentStatus.ACTIVE, uses: int = 1) -> bytes:
    return encode_consent_value(
        ConsentValue(
            status=status,
            digest=bytes(32),
            custodian=1,
            not_before=0,
            not_after=NOW_MS + 1,
            max_uses=3,
            uses=uses,
            revoke_hash=bytes(32),
        )
    )


def pledge_value(marks: PledgeMarks = PledgeMarks.CLEAR, id: bytes = PLEDGE) -> bytes:
    pledge = Pledge(id=id, member=2, ppm=1_000_000, not_after=None)
    return encode_pledge_entry(PledgeEntry(record_key=key_of(tag_of("A"), 1), marks=marks, pledges=(pledge,)))


def healthy_facts(*more: Fact, through: str = "2025-06-20") -> Facts:
    """Two years of steady sales without a red letter, and no arrears."""
    days = [TODAY - timedelta(days=10 * each) for each in range(70)]
    made = facts(
        [invoice(day.isoformat(), 1_000_000, number=at) for at, day in enumerate(days)] + list(more),
        asked=("vat_invoice", "tax_arrears"),
    )
    coverage = {
        kind: Coverage(
            issuer=1, from_period="2023-06", to_period="2025-06", through=through, begun=True, erased=0
        )
        for kind in made.records
    }
    return Facts(subject=SUBJECT, records=made.records, coverage=coverage)


def red_letter(net: int = -20_000_000) -> Fact:
    return invoice("2025-06-01", net, number=999)


class Kit:
    """A loan on invoices of 2025 under watch, of an enterprise with three records and one pledge."""

    def __init__(self, path: Any, name: str = "A") -> None:
        self.path = path / "watch.sqlite"
        self.tag = tag_of(name)
        self.keys = [key_of(self.tag, number) for number in (1, 2, 3)]
        self.state = FakeState(
            {
                **{key: value_of() for key in self.keys},
                key_of(tag_of("someone else"), 1): value_of(),
                consent_key(CONSENT): consent_value(),
                pledges_key(1, FINGERPRINT): pledge_value(),
                attested_through_key(1, INVOICES): canonical.encode(["2025-06-19", 90]),
            }
        )
        self.recheck = FakeRecheck(healthy_facts())
        self.products = shipped_files()
        self.store = WatchStore(self.path)
        self.watcher = self.reopen()

    def loan(self, name: str = "L1", **changes: Any) -> WatchedLoan:
        arguments = {
            "loan": name,
            "subject": SUBJECT,
            "product": "invoice",
            "as_of": "2025-06-01",
            "artefact": b"artefact",
            "consents": (CONSENT,),
            "security": (self.keys[0],),
            "pledges": (
                WatchedPledge(id=PLEDGE, issuer=1, fingerprint=FINGERPRINT, record_key=self.keys[0]),
            ),
            "prefixes": (self.tag,),
            "ranges": (self.tag.prefix,),
            "known": digest_of_entries([(key, value_of()) for key in self.keys]),
            "height": HEIGHT,
            **changes,
        }
        return WatchedLoan(**arguments)  # type: ignore[arg-type]

    def enrol(self, **changes: Any) -> None:
        """Enrol the loan, and look at it for the first time."""
        self.store.enrol(self.loan(**changes))
        self.watcher.check_enrolled()

    def reopen(self) -> Watcher:
        """As after a crash: from the file alone."""
        self.store.close()
        self.store = WatchStore(self.path)
        self.watcher = Watcher(
            self.store,
            self.state,
            self.recheck,
            self.products.product,
            urls=(URL,),
            now_ms=lambda: NOW_MS,
            patience_s=5.0,
        )
        return self.watcher

    def rules(self) -> list[str]:
        return [each.rule for each in self.store.alerts()]
