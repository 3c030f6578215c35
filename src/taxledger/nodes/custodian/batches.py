"""The batches of a vault: what each upload attested, so that a wrong one can be shown and taken back.

A batch is one upload of files of one kind. Its row is durable before its first record, and which records are its own
is durable in the commit that makes them: no record of an upload is ever without its batch. Both are sealed: together
they tell which pseudonyms stood in one file. The record itself names its batch too, sealed with it: a record that the
ledger refused, and another batch attested later, is that one's.

A batch that was interrupted is brought to its end by the next upload, whatever its files.
"""

from __future__ import annotations

import sqlite3
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from taxledger.ledger import canonical
from taxledger.ledger.errors import RefusedError
from taxledger.nodes.custodian.report import FileOutcome
from taxledger.nodes.custodian.vault import Vault

__all__ = ["ATTESTED", "INTERRUPTED", "REVOKED", "REVOKING", "Batch", "BatchFile", "Batches", "Written"]

INTERRUPTED, ATTESTED, REVOKING, REVOKED = range(4)
"""Of a batch: begun; all of it certified or refused; being taken back; taken back."""

_BATCHES, _PARTS = b"batches", b"batch_parts"
_ENTRY = struct.Struct(">37sII")
_NO_FILE = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFile:
    """One file of a batch, with the counts of ``FileOutcome``; ``name`` is empty once all its records are erased."""

    name: str
    rows: int = 0
    accepted: int = 0
    amended: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch.

    Attributes:
        number: from 1, in the order of the uploads.
        kind: of its records.
        state: ``INTERRUPTED``, ``ATTESTED``, ``REVOKING`` or ``REVOKED``.
        begun_ms: when it was uploaded; ``revoked_ms`` when it was first told to be revoked, or None.
        files: in the order given; while it is interrupted, with the counts of what was durable by then.
        reason: why it is revoked, or None.
    """

    number: int
    kind: int
    state: int
    begun_ms: int
    files: tuple[BatchFile, ...]
    revoked_ms: int | None = None
    reason: str | None = None


class Written(NamedTuple):
    """A record version that a batch made; ``file`` is the number of its file, -1 where no row says so."""

    key: bytes
    version: int
    file: int


class Batches:
    """The tables ``batches`` and ``batch_parts``. Methods block; those that write are used under ``exclusive``."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._database = vault.database
        self._store = vault.store

    # --- reading ----------------------------------------------------------------------------

    def all(self) -> list[Batch]:
        """Every batch, oldest first."""
        rows = self._database.all("SELECT batch, kind, state, begun_ms, sealed FROM batches ORDER BY batch")
        return [self._opened(*row) for row in rows]

    def get(self, number: int) -> Batch:
        """One batch. Raises RefusedError ``batch_unknown``."""
        row = self._database.one(
            "SELECT batch, kind, state, begun_ms, sealed FROM batches WHERE batch = ?", (number,)
        )
        if row is None:
            raise RefusedError("batch_unknown", f"this vault has no batch {number}")
        return self._opened(*row)

    def _opened(self, number: int, kind: int, state: int, begun_ms: int, sealed: bytes) -> Batch:
        files, revoked_ms, reason = canonical.decode(self._store.open(_BATCHES, _place(number), 1, sealed))
        return Batch(
            number=number,
            kind=kind,
            state=state,
            begun_ms=begun_ms,
            files=tuple(
                BatchFile(name=name, rows=rows, accepted=new, amended=changed, duplicates=again, rejected=bad)
                for name, rows, new, changed, again, bad in files
            ),
            revoked_ms=revoked_ms,
            reason=reason,
        )

    def written(self, number: int) -> dict[bytes, list[Written]]:
        """What a batch made, by record key, ascending; each record's versions ascending."""
        found: dict[bytes, list[Written]] = defaultdict(list)
        for _part, entries in self._parts(number):
            for each in entries:
                found[each.key].append(each)
        return {key: sorted(found[key]) for key in sorted(found)}

    def _parts(self, number: int) -> Iterator[tuple[int, list[Written]]]:
        rows = self._database.all(
            "SELECT part, sealed FROM batch_parts WHERE batch = ? ORDER BY part", (number,)
        )
        for part, sealed in rows:
            content = self._store.open(_PARTS, _place(number), part, sealed)
            yield (
                part,
                [
                    Written(key, version, -1 if file == _NO_FILE else file)
                    for key, version, file in _ENTRY.iter_unpack(content)
                ],
            )

    def in_state(self, *states: int) -> frozenset[int]:
        """Numbers of the batches that are in one of some states."""
        rows = self._database.all("SELECT batch, state FROM batches")
        return frozenset(number for number, state in rows if state in states)

    def require_none_revoking(self) -> None:
        """Raises RefusedError ``batch_revoking`` while a batch is half taken back."""
        for number in sorted(self.in_state(REVOKING)):
            raise RefusedError(
                "batch_revoking",
                f"batch {number} is being revoked: taxledger batch revoke {number} has to end first",
            )

    # --- an upload --------------------------------------------------------------------------

    def begin(self, kind: int, names: Sequence[str], now_ms: int) -> int:
        """A new batch; its number."""
        with self._store.write() as connection:
            row = connection.execute("SELECT coalesce(max(batch), 0) + 1 FROM batches").fetchone()
            batch = Batch(
                number=int(row[0]),
                kind=kind,
                state=INTERRUPTED,
                begun_ms=now_ms,
                files=tuple(BatchFile(name=each) for each in names),
            )
            connection.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?)",
                (batch.number, kind, INTERRUPTED, now_ms, self._sealed(batch)),
            )
        return batch.number

    def add_part(self, connection: sqlite3.Connection, number: int, written: Iterable[Written]) -> None:
        """Into the commit that makes these record versions durable."""
        content = b"".join(
            _ENTRY.pack(key, version, _NO_FILE if file < 0 else file) for key, version, file in written
        )
        if not content:
            return
        (part,) = connection.execute(
            "SELECT coalesce(max(part), 0) + 1 FROM batch_parts WHERE batch = ?", (number,)
        ).fetchone()
        connection.execute(
            "INSERT INTO batch_parts VALUES (?, ?, ?)",
            (number, part, self._store.seal(_PARTS, _place(number), part, content)),
        )

    def note_counts(self, number: int, outcomes: Sequence[FileOutcome], *, done: bool = False) -> None:
        """Counts of the files read so far. Once it is ``done``, so is every batch that was interrupted before: what it
        had prepared went with this one.
        """
        batch = self.get(number)
        counted = tuple(
            BatchFile(
                name=each.file,
                rows=each.rows,
                accepted=each.accepted,
                amended=each.amended,
                duplicates=each.duplicates,
                rejected=each.rejected,
            )
            for each in outcomes
        )
        with self._store.write() as connection:
            self._put(connection, replace(batch, files=counted + batch.files[len(counted) :]))
            if done:
                connection.execute("UPDATE batches SET state = ? WHERE state = ?", (ATTESTED, INTERRUPTED))

    # --- taking back ------------------------------------------------------------------------

    def begin_revocation(self, number: int, reason: str, now_ms: int) -> None:
        """It and its reason are durable before the first record is revoked."""
        batch = replace(self.get(number), state=REVOKING, revoked_ms=now_ms, reason=reason)
        with self._store.write() as connection:
            self._put(connection, batch)

    def end_revocation(self, number: int) -> None:
        with self._store.write() as connection:
            self._put(connection, replace(self.get(number), state=REVOKED))

    # --- erasure ----------------------------------------------------------------------------

    def forget(self, connection: sqlite3.Connection, keys: Collection[bytes]) -> None:
        """Into the commit that erases records: no batch knows of them any more, and no file's name stays that had no
        other records.
        """
        gone = frozenset(keys)
        for (number,) in connection.execute("SELECT batch FROM batches").fetchall() if gone else ():
            parts = list(self._parts(number))
            left = {part: [each for each in entries if each.key not in gone] for part, entries in parts}
            if all(len(left[part]) == len(entries) for part, entries in parts):
                continue
            connection.execute("DELETE FROM batch_parts WHERE batch = ?", (number,))
            for entries in left.values():
                self.add_part(connection, number, entries)
            before = {each.file for _part, entries in parts for each in entries}
            emptied = before - {each.file for entries in left.values() for each in entries}
            batch = self.get(number)
            self._put(
                connection,
                replace(
                    batch,
                    files=tuple(
                        replace(each, name="") if at in emptied else each
                        for at, each in enumerate(batch.files)
                    ),
                ),
            )

    def _put(self, connection: sqlite3.Connection, batch: Batch) -> None:
        connection.execute(
            "UPDATE batches SET state = ?, sealed = ? WHERE batch = ?",
            (batch.state, self._sealed(batch), batch.number),
        )

    def _sealed(self, batch: Batch) -> bytes:
        files = [
            [each.name, each.rows, each.accepted, each.amended, each.duplicates, each.rejected]
            for each in batch.files
        ]
        content = canonical.encode([files, batch.revoked_ms, batch.reason])
        return self._store.seal(_BATCHES, _place(batch.number), 1, content)


def _place(number: int) -> bytes:
    return number.to_bytes(8, "big")
