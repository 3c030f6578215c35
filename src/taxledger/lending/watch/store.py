"""What the watcher must not forget: where it stands, loans, alerts, and who has been told. One SQLite file.

Durability: what a block of events led to (alerts, deliveries to make, what is known of the records) and the place
behind that block are one transaction, synced before the next block is looked at. After a crash the block is looked at
again, and gives the same alerts under the same ids. A delivery is noted as made only after the receiver said so, so it
may be made twice and is never left out; its id tells the receiver.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxledger.api.events import EventId
from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.lending.watch.alerts import Alert, decode_alert, encode_alert
from taxledger.lending.watch.watched import TagPrefix, WatchedLoan, WatchedPledge

__all__ = ["Delivery", "Outcome", "WatchStore"]

_VERSION = 1
_TABLES = """
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), event TEXT NOT NULL);
CREATE TABLE loans (loan TEXT PRIMARY KEY, checked INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE prefixes (loan TEXT NOT NULL, prefix BLOB NOT NULL, issuer INTEGER NOT NULL, kind INTEGER NOT NULL,
    year INTEGER NOT NULL, seen BLOB, PRIMARY KEY (loan, prefix)) WITHOUT ROWID;
CREATE TABLE years (loan TEXT NOT NULL, issuer INTEGER NOT NULL, kind INTEGER NOT NULL, year INTEGER NOT NULL,
    PRIMARY KEY (loan, issuer, kind, year)) WITHOUT ROWID;
CREATE TABLE alerts (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, loan TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE deliveries (alert TEXT NOT NULL, url TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
    next_ms INTEGER NOT NULL, said TEXT NOT NULL, PRIMARY KEY (alert, url)) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (next_ms) WHERE state = 'pending';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One alert for one receiver; ``state``: pending, delivered or failed; ``said`` what came of the last attempt."""

    alert: str
    url: str
    state: str
    attempts: int
    next_ms: int
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What looking at a loan led to.

    Attributes:
        loan: its id.
        alerts: to raise.
        seen: prefix -> digest of what is below it now.
        prefixes: tags that a new disclosure added.
        years: (issuer, kind, year) for which records were read, or were to be: not again for the same reason.
    """

    loan: str
    alerts: tuple[Alert, ...] = ()
    seen: tuple[tuple[bytes, bytes], ...] = ()
    prefixes: tuple[TagPrefix, ...] = ()
    years: tuple[tuple[int, int, int], ...] = ()


@contextmanager
def _unavailable() -> Iterator[None]:
    """A disk that is full, or a file that another process holds, is trouble of the moment: nothing was written."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"the watch file: {error}") from error


class WatchStore:
    """The file. Raises FormatError when it is not one of ours. May be used by several threads."""

    def __init__(self, path: Path) -> None:
        # Subject and consent of each loan are in it: nobody else on the machine may read it.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise FormatError(f"{path}: expected a watch file of version {_VERSION}, got {version}")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise FormatError(f"{path}: not a watch file: {error}") from error
        except FormatError:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _unavailable():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._lock, _unavailable():
            return self._db.execute(sql, values).fetchall()

    # --- loans ------------------------------------------------------------------------------

    def enrol(self, loan: WatchedLoan) -> None:
        """Watch a loan from now on; enrolling it again changes nothing."""
        with self._write() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO loans VALUES (?, 0, ?)", (loan.loan, _encode_loan(loan))
            ).rowcount
            if added:
                _add_prefixes(db, loan.loan, loan.prefixes)

    def release(self, loan: str) -> None:
        """Watch it no longer: it is closed. Its alerts stay."""
        with self._write() as db:
            db.execute("DELETE FROM loans WHERE loan = ?", (loan,))
            db.execute("DELETE FROM prefixes WHERE loan = ?", (loan,))
            db.execute("DELETE FROM years WHERE loan = ?", (loan,))

    def loans(self) -> list[tuple[WatchedLoan, bool]]:
        """Every loan under watch and whether it was looked at since it was enrolled, ascending by id."""
        rows = self._rows("SELECT body, checked FROM loans ORDER BY loan")
        return [(_decode_loan(body), bool(checked)) for body, checked in rows]

    def prefixes(self, loan: str) -> list[tuple[TagPrefix, bytes | None]]:
        """The tags of a loan and the digest of what was seen below each, None where nobody has looked."""
        rows = self._rows(
            "SELECT prefix, issuer, kind, year, seen FROM prefixes WHERE loan = ? ORDER BY prefix", loan
        )
        return [
            (TagPrefix(prefix=prefix, issuer=issuer, kind=kind, year=year), seen)
            for prefix, issuer, kind, year, seen in rows
        ]

    def years(self, loan: str) -> set[tuple[int, int, int]]:
        """(issuer, kind, year) for which records were read again because the loan had no tag of that year."""
        return {tuple(row) for row in self._rows("SELECT issuer, kind, year FROM years WHERE loan = ?", loan)}

    # --- progress ---------------------------------------------------------------------------

    def position(self) -> EventId | None:
        """The place behind the last block that was looked at; None at the very start."""
        rows = self._rows("SELECT event FROM position")
        return EventId.parse(rows[0][0]) if rows else None

    def commit(
        self, outcomes: Sequence[Outcome], position: EventId | None, urls: Sequence[str], now_ms: int
    ) -> list[Alert]:
        """All that a block led to, at once; the alerts that are new.

        Args:
            outcomes: of every loan that was looked at.
            position: behind the block; None leaves it where it is.
            urls: receivers to tell.
            now_ms: when deliveries are due.
        """
        new: list[Alert] = []
        with self._write() as db:
            for outcome in outcomes:
                db.execute("UPDATE loans SET checked = 1 WHERE loan = ?", (outcome.loan,))
                _add_prefixes(db, outcome.loan, outcome.prefixes)
                for prefix, seen in outcome.seen:
                    db.execute(
                        "UPDATE prefixes SET seen = ? WHERE loan = ? AND prefix = ?",
                        (seen, outcome.loan, prefix),
                    )
                db.executemany(
                    "INSERT OR IGNORE INTO years VALUES (?, ?, ?, ?)",
                    [(outcome.loan, *year) for year in outcome.years],
                )
                new += [each for each in outcome.alerts if _add_alert(db, each, urls, now_ms)]
            if position is not None:
                db.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (str(position),))
        return new

    # --- alerts -----------------------------------------------------------------------------

    def alerts(self, loan: str | None = None) -> list[Alert]:
        """All alerts, or a loan's, in the order in which they were raised."""
        if loan is None:
            rows = self._rows("SELECT body FROM alerts ORDER BY number")
        else:
            rows = self._rows("SELECT body FROM alerts WHERE loan = ? ORDER BY number", loan)
        return [decode_alert(body) for (body,) in rows]

    def deliveries(self, alert: str | None = None) -> list[Delivery]:
        """Who was told, or is to be, of one alert or all."""
        where, values = ("", ()) if alert is None else ("WHERE alert = ?", (alert,))
        rows = self._rows(
            f"SELECT alert, url, state, attempts, next_ms, said FROM deliveries {where} ORDER BY alert, url",  # noqa: S608
            *values,
        )
        return [_delivery(row) for row in rows]

    def due(self, now_ms: int, most: int = 100) -> list[tuple[Alert, Delivery]]:
        """Deliveries to attempt now, the longest due first."""
        rows = self._rows(
            "SELECT d.alert, d.url, d.state, d.attempts, d.next_ms, d.said, a.body FROM deliveries d "
            "JOIN alerts a ON a.id = d.alert WHERE d.state = 'pending' AND d.next_ms <= ? "
            "ORDER BY d.next_ms, a.number LIMIT ?",
            now_ms,
            most,
        )
        return [(decode_alert(row[6]), _delivery(row[:6])) for row in rows]

    def note(self, delivery: Delivery, *, state: str, next_ms: int, said: str) -> None:
        """What came of an attempt."""
        with self._write() as db:
            db.execute(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, next_ms = ?, said = ? "
                "WHERE alert = ? AND url = ?",
                (state, next_ms, said, delivery.alert, delivery.url),
            )


def _add_prefixes(db: sqlite3.Connection, loan: str, prefixes: Sequence[TagPrefix]) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO prefixes VALUES (?, ?, ?, ?, ?, NULL)",
        [(loan, each.prefix, each.issuer, each.kind, each.year) for each in prefixes],
    )


def _add_alert(db: sqlite3.Connection, alert: Alert, urls: Sequence[str], now_ms: int) -> bool:
    added = db.execute(
        "INSERT OR IGNORE INTO alerts (id, loan, body) VALUES (?, ?, ?)",
        (alert.id, alert.loan, encode_alert(alert)),
    ).rowcount
    if added:
        db.executemany(
            "INSERT OR IGNORE INTO deliveries VALUES (?, ?, 'pending', 0, ?, '')",
            [(alert.id, url, now_ms) for url in urls],
        )
    return bool(added)


def _delivery(row: Sequence[Any]) -> Delivery:
    alert, url, state, attempts, next_ms, said = row
    return Delivery(alert=alert, url=url, state=state, attempts=attempts, next_ms=next_ms, said=said)


# --- loans as JSON ----------------------------------------------------------------------------


def _encode_loan(loan: WatchedLoan) -> str:
    body = {
        "loan": loan.loan,
        "subject": loan.subject,
        "product": loan.product,
        "as_of": loan.as_of,
        "artefact": base64.b64encode(loan.artefact).decode("ascii"),
        "consents": [each.hex() for each in loan.consents],
        "security": [each.hex() for each in loan.security],
        "pledges": [
            [each.id.hex(), each.issuer, each.fingerprint.hex(), each.record_key.hex()]
            for each in loan.pledges
        ],
        "prefixes": [[each.prefix.hex(), each.issuer, each.kind, each.year] for each in loan.prefixes],
        "ranges": [each.hex() for each in loan.ranges],
        "known": loan.known.hex(),
        "height": loan.height,
    }
    return json.dumps(body, ensure_ascii=False)


def _decode_loan(text: str) -> WatchedLoan:
    body = json.loads(text)
    return WatchedLoan(
        loan=body["loan"],
        subject=body["subject"],
        product=body["product"],
        as_of=body["as_of"],
        artefact=base64.b64decode(body["artefact"], validate=True),
        consents=tuple(map(bytes.fromhex, body["consents"])),
        security=tuple(map(bytes.fromhex, body["security"])),
        pledges=tuple(
            WatchedPledge(
                id=bytes.fromhex(id),
                issuer=issuer,
                fingerprint=bytes.fromhex(mark),
                record_key=bytes.fromhex(key),
            )
            for id, issuer, mark, key in body["pledges"]
        ),
        prefixes=tuple(
            TagPrefix(prefix=bytes.fromhex(prefix), issuer=issuer, kind=kind, year=year)
            for prefix, issuer, kind, year in body["prefixes"]
        ),
        ranges=tuple(map(bytes.fromhex, body["ranges"])),
        known=bytes.fromhex(body["known"]),
        height=body["height"],
    )
