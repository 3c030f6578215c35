"""What a recipient keeps of disclosures, and for how long: ``received.sqlite`` in its home.

    store = ReceivedStore.open(home.path / "received.sqlite", open_key_provider(home))
    store.keep(data, disclosed, received_ms=…)     ``disclosed`` is what ``verify_disclosure`` said of ``data``

Invariants:

* Only a disclosure under a consent of mode ``store`` is kept, and only one that was verified: ``keep`` takes
  what the verifier made of it.
* It is kept until ``received + retention_days`` and no longer. A consent that is revoked, superseded or expired
  ends further use, not the keeping of what was lawfully received; erasure ends that (docs/operating.md).
* Subject, kinds, custodian and the file are sealed. In the clear stand consent, number of the use, and when it
  is destroyed. A record's key is found by a keyed hash.
* What was destroyed does not come back: ``keep`` refuses it, and any disclosure of a record that an erasure
  notice has named, if it was on its way when the notice came.

A destruction goes in this order, and each step is durable before the next one begins:

    1. one commit: the disclosure and its record keys are deleted, and what has to be said of it (when, why,
       under which salt) stands in ``destroyed``                                                     DELETED
    2. ``scrub``: nothing of it is left in the file or its write-ahead log                           SCRUBBED
    3. ``data.erased`` is certified (``sweeper.py``)                                                 RECORDED

A crash leaves it in one of these states, and ``Sweeper`` goes on from there. The salt is durable before the
transaction is made, so whoever submits again says the same, which the ledger takes once.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxledger.api.custody import StoredDisclosure
from taxledger.ledger import canonical
from taxledger.ledger.consentstate import data_erased_digest
from taxledger.ledger.disclosure import Disclosed
from taxledger.ledger.errors import RefusedError, check
from taxledger.nodes.sealed.layout import SealedColumn, StoreLayout
from taxledger.nodes.sealed.providers import KeyProvider
from taxledger.nodes.sealed.store import SealedStore, sealed_store

__all__ = ["DELETED", "RECEIVED", "RECORDED", "SCRUBBED", "Destroyed", "Place", "ReceivedStore"]

DELETED, SCRUBBED, RECORDED = range(3)
"""How far a destruction is: see the module."""

_DAY_MS = 86_400_000
_SALT_BYTES = 32
_FILES, _SUMMARIES, _DESTROYED = b"disclosures", b"summaries", b"destroyed"

Place = tuple[bytes, int]
"""Consent (16 bytes) and number of the use."""

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS disclosures (
        consent BLOB NOT NULL, sequence INTEGER NOT NULL, delete_after INTEGER NOT NULL,
        summary BLOB NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (consent, sequence))
    """,
    """
    CREATE INDEX IF NOT EXISTS disclosures_delete_after ON disclosures (delete_after)
    """,
    # Which disclosures show a record, by a keyed hash of its key.
    """
    CREATE TABLE IF NOT EXISTS shown_records (
        lookup BLOB NOT NULL, consent BLOB NOT NULL, sequence INTEGER NOT NULL,
        PRIMARY KEY (lookup, consent, sequence)) WITHOUT ROWID
    """,
    """
    CREATE INDEX IF NOT EXISTS shown_records_place ON shown_records (consent, sequence)
    """,
    # Records that their custodian has erased, by the same hash: nothing that shows them is kept any more.
    """
    CREATE TABLE IF NOT EXISTS erased_records (lookup BLOB PRIMARY KEY) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS destroyed (
        consent BLOB NOT NULL, sequence INTEGER NOT NULL, state INTEGER NOT NULL, notice BLOB,
        sealed BLOB NOT NULL, PRIMARY KEY (consent, sequence))
    """,
    """
    CREATE INDEX IF NOT EXISTS destroyed_unsaid ON destroyed (state) WHERE state < 2
    """,
    """
    CREATE INDEX IF NOT EXISTS destroyed_notice ON destroyed (notice) WHERE notice IS NOT NULL
    """,
)

RECEIVED = StoreLayout(
    name="received",
    tables=_TABLES,
    columns=(
        SealedColumn(table="disclosures", key="consent", version="sequence"),
        SealedColumn(
            table="disclosures", key="consent", version="sequence", column="summary", about="summaries"
        ),
        SealedColumn(table="destroyed", key="consent", version="sequence"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destroyed:
    """A disclosure that was destroyed here.

    Attributes:
        consent: 16 bytes; ``sequence`` the number of the use.
        reason: ``retention``, ``notice``, or in words why it was discarded.
        salt: 32 bytes, makes the digest on the ledger a commitment.
        count: of the records it showed; ``destroyed_ms`` when it was deleted.
        state: ``DELETED``, ``SCRUBBED`` or ``RECORDED``.
    """

    consent: bytes
    sequence: int
    reason: str
    salt: bytes
    count: int
    destroyed_ms: int
    state: int

    @property
    def digest(self) -> bytes:
        """What ``data.erased`` says on the ledger, 32 bytes."""
        return data_erased_digest(self.salt, self.consent, self.sequence, self.reason)


class ReceivedStore:
    """The disclosures that a member keeps. Methods block; usable from several threads."""

    def __init__(self, store: SealedStore) -> None:
        self.database = store.database
        self._store = store
        self._destroying = threading.Lock()

    @classmethod
    def open(cls, path: Path, keys: KeyProvider) -> ReceivedStore:
        """Opens the store, and makes it where there is none; ``keys`` wraps its data keys.

        Raises:
            FormatError: another key, or no such store. InputError, UnavailableError: see ``sealed_store``.
        """
        return cls(sealed_store(path, RECEIVED, keys))

    def close(self) -> None:
        """Closes the file; safe to repeat."""
        self._store.close()

    # --- keeping ----------------------------------------------------------------------------

    def keep(self, data: bytes, disclosed: Disclosed, *, received_ms: int) -> StoredDisclosure:
        """Keeps a verified disclosure. The same use again is harmless: the first stays, as long as it may.

        Args:
            data: the file.
            disclosed: what ``verify_disclosure`` said of it.
            received_ms: now; retention counts from here.

        Raises:
            InvariantError: the consent's mode is not ``store``.
            RefusedError: ``disclosure_destroyed``: it was kept and destroyed, or shows a record that its
            custodian has erased meanwhile.
        """
        terms = disclosed.terms
        check(terms.mode == "store", "only what a consent lets be stored is kept")
        place = (disclosed.consent, disclosed.sequence)
        records = disclosed.answer.records
        lookups = [self._store.lookup(each.key) for each in records if each.values is not None]
        delete_after = received_ms + terms.retention_days * _DAY_MS
        summary = [disclosed.custodian, terms.subject, len(records), len(data), received_ms]
        with self._store.write() as connection:
            if _has(connection, "destroyed", place):
                raise RefusedError("disclosure_destroyed", "it was kept here and destroyed")
            if _any_erased(connection, lookups):
                raise RefusedError("disclosure_destroyed", "it shows records that their custodian has erased")
            if not _has(connection, "disclosures", place):
                connection.execute(
                    "INSERT INTO disclosures VALUES (?, ?, ?, ?, ?)",
                    (
                        *place,
                        delete_after,
                        self._store.seal(_SUMMARIES, *place, canonical.encode(summary)),
                        self._store.seal(_FILES, *place, data),
                    ),
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO shown_records VALUES (?, ?, ?)",
                    [(each, *place) for each in lookups],
                )
        return self._one(place)

    def stored(self) -> tuple[StoredDisclosure, ...]:
        """What is kept, ascending by when it came."""
        rows = self.database.all("SELECT consent, sequence, delete_after, summary FROM disclosures")
        return tuple(sorted(map(self._opened, rows), key=lambda each: (each.stored_ms, each.consent)))

    def load(self, consent: bytes, sequence: int, *, now_ms: int = 0) -> bytes:
        """The file of a disclosure whose retention has not ended by ``now_ms``, swept or not.

        Raises:
            RefusedError: ``disclosure_unknown``.
        """
        row = self.database.one(
            "SELECT sealed FROM disclosures WHERE consent = ? AND sequence = ? AND delete_after > ?",
            (consent, sequence, now_ms),
        )
        if row is None:
            raise _unknown()
        return self._store.open(_FILES, consent, sequence, row[0])

    def _one(self, place: Place) -> StoredDisclosure:
        row = self.database.one(
            "SELECT consent, sequence, delete_after, summary FROM disclosures "
            "WHERE consent = ? AND sequence = ?",
            place,
        )
        if row is None:
            raise _unknown()
        return self._opened(row)

    def _opened(self, row: tuple[bytes, int, int, bytes]) -> StoredDisclosure:
        consent, sequence, delete_after, sealed = row
        opened = canonical.decode(self._store.open(_SUMMARIES, consent, sequence, sealed))
        custodian, subject, records, file_bytes, stored_ms = opened
        return StoredDisclosure(
            consent=consent,
            sequence=sequence,
            custodian=custodian,
            subject=subject,
            records=records,
            file_bytes=file_bytes,
            stored_ms=stored_ms,
            erase_after_ms=delete_after,
        )

    # --- destroying -------------------------------------------------------------------------

    def overdue(self, now_ms: int) -> list[Place]:
        """Disclosures whose retention has ended."""
        return self.database.all(
            "SELECT consent, sequence FROM disclosures WHERE delete_after <= ? ORDER BY delete_after",
            (now_ms,),
        )

    def destroy(self, consent: bytes, sequence: int, reason: str, *, now_ms: int) -> Destroyed:
        """Deletes one disclosure, and scrubs it from the file. See the module for what is left to do.

        Raises:
            RefusedError: ``disclosure_unknown``. UnavailableError: it is deleted, and not yet scrubbed.
        """
        destroyed = self.destroy_many([(consent, sequence)], reason, now_ms=now_ms)
        if not destroyed:
            raise _unknown()
        self.scrub()
        return destroyed[0]

    def destroy_many(self, places: Iterable[Place], reason: str, *, now_ms: int) -> list[Destroyed]:
        """Step 1 for several disclosures, in one commit; those that are not kept are passed over."""
        with self._destroying, self._store.write() as connection:
            return self._delete(connection, places, reason, now_ms, None)

    def destroy_shown(self, keys: Sequence[bytes], notice: bytes, *, now_ms: int) -> list[Destroyed]:
        """Step 1 for every disclosure that shows one of these records, in one commit.

        A disclosure is one piece: what is left of it without some records would not verify. So all of it
        goes, and the recipient may ask again for the rest.

        Args:
            keys: of records that their custodian erased, 37 bytes each. None of them is kept from now on.
            notice: 16 bytes that name the notice: with the same again, what it destroyed is found again.
        """
        lookups = [(self._store.lookup(each),) for each in keys]
        with self._destroying, self._store.write() as connection:
            connection.executemany("INSERT OR IGNORE INTO erased_records VALUES (?)", lookups)
            places: set[Place] = set()
            for lookup in lookups:
                places.update(
                    connection.execute("SELECT consent, sequence FROM shown_records WHERE lookup = ?", lookup)
                )
            self._delete(connection, sorted(places), "notice", now_ms, notice)
        return self.destroyed_by(notice)

    def _delete(
        self,
        connection: sqlite3.Connection,
        places: Iterable[Place],
        reason: str,
        now_ms: int,
        notice: bytes | None,
    ) -> list[Destroyed]:
        destroyed = []
        for place in places:
            if not _has(connection, "disclosures", place):
                continue
            row = connection.execute(
                "SELECT summary FROM disclosures WHERE consent = ? AND sequence = ?", place
            ).fetchone()
            count = canonical.decode(self._store.open(_SUMMARIES, *place, row[0]))[2]
            salt = os.urandom(_SALT_BYTES)
            content = canonical.encode([reason, salt, count, now_ms])
            for table in ("disclosures", "shown_records"):
                connection.execute(f"DELETE FROM {table} WHERE consent = ? AND sequence = ?", place)  # noqa: S608
            connection.execute(
                "INSERT INTO destroyed VALUES (?, ?, ?, ?, ?)",
                (*place, DELETED, notice, self._store.seal(_DESTROYED, *place, content)),
            )
            destroyed.append(
                Destroyed(
                    consent=place[0],
                    sequence=place[1],
                    reason=reason,
                    salt=salt,
                    count=count,
                    destroyed_ms=now_ms,
                    state=DELETED,
                )
            )
        return destroyed

    def scrub(self) -> None:
        """Step 2 for everything that is deleted.

        Raises:
            UnavailableError: another process reads or writes: call again.
        """
        # Nothing may be deleted between the two steps: it would pass for scrubbed.
        with self._destroying:
            if self.database.one("SELECT 1 FROM destroyed WHERE state = ?", (DELETED,)) is None:
                return
            self._store.scrub()
            with self.database.write() as connection:
                connection.execute("UPDATE destroyed SET state = ? WHERE state = ?", (SCRUBBED, DELETED))

    def unsaid(self) -> list[Destroyed]:
        """What the ledger has still to be told: scrubbed, and not recorded."""
        return self._destroyed("state = ?", (SCRUBBED,))

    def destroyed_by(self, notice: bytes) -> list[Destroyed]:
        """What an erasure notice (16 bytes) has destroyed here, in any state."""
        return self._destroyed("notice = ?", (notice,))

    def note_recorded(self, destroyed: Destroyed) -> None:
        """Step 3 is done: its ``data.erased`` is certified."""
        with self.database.write() as connection:
            connection.execute(
                "UPDATE destroyed SET state = ? WHERE consent = ? AND sequence = ?",
                (RECORDED, destroyed.consent, destroyed.sequence),
            )

    def _destroyed(self, where: str, parameters: tuple[object, ...]) -> list[Destroyed]:
        rows = self.database.all(
            f"SELECT consent, sequence, state, sealed FROM destroyed WHERE {where} ORDER BY consent, sequence",  # noqa: S608
            parameters,
        )
        found = []
        for consent, sequence, state, sealed in rows:
            opened = canonical.decode(self._store.open(_DESTROYED, consent, sequence, sealed))
            reason, salt, count, destroyed_ms = opened
            found.append(
                Destroyed(
                    consent=consent,
                    sequence=sequence,
                    reason=reason,
                    salt=salt,
                    count=count,
                    destroyed_ms=destroyed_ms,
                    state=state,
                )
            )
        return found


def _has(connection: sqlite3.Connection, table: str, place: Place) -> bool:
    row = connection.execute(f"SELECT 1 FROM {table} WHERE consent = ? AND sequence = ?", place).fetchone()  # noqa: S608
    return row is not None


def _any_erased(connection: sqlite3.Connection, lookups: Sequence[bytes]) -> bool:
    return any(
        connection.execute("SELECT 1 FROM erased_records WHERE lookup = ?", (each,)).fetchone()
        for each in lookups
    )


def _unknown() -> RefusedError:
    return RefusedError("disclosure_unknown", "no such disclosure is kept here")
