"""The vault's SQLite file: its tables, and one place where its errors become ours.

Invariants:

* Write-ahead log and ``synchronous=FULL``: what was written survives a power cut once ``write`` has returned.
* One ``write`` is one atomic commit. Readers (the node that serves dossiers) never wait for a writer.
* One upload at a time: ``exclusive`` holds a lock of the operating system, which dies with its process.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taxledger.ledger.errors import FormatError, UnavailableError

__all__ = ["Database"]

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS years (
    year INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tags (
    lookup BLOB PRIMARY KEY, tag BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    key BLOB NOT NULL, version INTEGER NOT NULL, status INTEGER NOT NULL, revoked INTEGER NOT NULL,
    red INTEGER NOT NULL, mark BLOB, content BLOB NOT NULL, sequence INTEGER NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (key, version)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_mark ON records (mark) WHERE version = 1 AND mark IS NOT NULL;
CREATE INDEX IF NOT EXISTS records_red ON records (key) WHERE red = 1;
CREATE TABLE IF NOT EXISTS refused_records (
    key BLOB NOT NULL, version INTEGER NOT NULL, sequence INTEGER NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (key, version, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reasons (
    key BLOB NOT NULL, version INTEGER NOT NULL, operation TEXT NOT NULL, sequence INTEGER NOT NULL,
    sealed BLOB NOT NULL, PRIMARY KEY (key, version, operation, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS throughs (kind INTEGER PRIMARY KEY, date TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    sequence INTEGER PRIMARY KEY, stage INTEGER NOT NULL, operation TEXT NOT NULL, id BLOB NOT NULL,
    former BLOB NOT NULL, raw BLOB, exp_s INTEGER NOT NULL, state INTEGER NOT NULL, code INTEGER,
    height INTEGER, log_index INTEGER);
CREATE INDEX IF NOT EXISTS outbox_pending ON outbox (stage, sequence) WHERE state = 0;
"""

_BUSY_TIMEOUT_S = 30.0


class Database:
    """One connection, usable from several threads of this process."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Opens the file, and makes it (mode 0600) where it is not there.

        Raises:
            FormatError: it is not a SQLite file.
            UnavailableError: it can't be opened.
        """
        self.path = path
        self._lock = threading.RLock()
        with storage_errors(path):
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            self._connection.execute("PRAGMA cache_size = -65536")
            self._connection.execute("PRAGMA wal_autocheckpoint = 8192")
            if not self._connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchone():
                self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Closes the connection; safe to repeat."""
        with self._lock:
            self._connection.close()

    def all(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        with self._lock, storage_errors(self.path):
            return self._connection.execute(query, parameters).fetchall()

    def one(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self._lock, storage_errors(self.path):
            row: tuple[Any, ...] | None = self._connection.execute(query, parameters).fetchone()
            return row

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One atomic, synced commit of everything done inside; nothing of it when the block raises."""
        with self._lock, storage_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The right to write new records, for one process at a time.

        Raises:
            UnavailableError: another upload or amendment has it.
        """
        with storage_errors(self.path), self.path.with_name(self.path.name + ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UnavailableError(
                    "another upload into this vault is running: wait until it is done"
                ) from error
            yield

    def copy_to(self, path: Path) -> None:
        """A consistent copy of all that is committed."""
        with self._lock, storage_errors(path):
            target = sqlite3.connect(path)
            try:
                self._connection.backup(target)
            finally:
                target.close()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"vault {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise FormatError(f"vault {path}: not a vault, or damaged: {error}") from error
    except OSError as error:
        raise UnavailableError(f"vault {path}: {error.strerror or error}") from error
