"""A SQLite file of ours: its settings, and one place where its errors become ours.

Invariants:

* Write-ahead log and ``synchronous=FULL``: what was written survives a power cut once ``write`` has returned.
* One ``write`` is one atomic commit. Readers (the node that serves dossiers) never wait for a writer.
* One upload at a time: ``exclusive`` holds a lock of the operating system, which dies with its process.
* Deleted is gone: ``secure_delete`` overwrites a deleted row with zeros, and ``scrub`` removes what remains
  of it elsewhere in the file and in the write-ahead log.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from taxledger.ledger.errors import FormatError, UnavailableError, check

__all__ = ["Database", "storage_errors"]

_BUSY_TIMEOUT_S = 30.0
_BUSY_PAUSE_S = 0.01
_LOCK_WAIT_S, _LOCK_LOOK_S = 3.0, 0.05
_CREATED = re.compile(r"CREATE (?:TABLE|INDEX|UNIQUE INDEX) IF NOT EXISTS (\w+)")


class Database:
    """One connection, usable from several threads of this process."""

    def __init__(
        self, path: Path, tables: Sequence[str], *, what: str = "vault", durable: bool = True
    ) -> None:
        """Opens the file, and makes it (mode 0600) where it is not there.

        Args:
            path: the SQLite file.
            tables: CREATE statements, each with ``IF NOT EXISTS``: those that are missing are made.
            what: what the file is called in messages.
            durable: False only for scratch copies.

        Raises:
            FormatError: it is not a SQLite file.
            UnavailableError: it can't be opened.
        """
        self.path = path
        self.what = what
        self._lock = threading.RLock()
        with self._errors():
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._use_wal()
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            self._connection.execute("PRAGMA cache_size = -65536")
            self._connection.execute("PRAGMA wal_autocheckpoint = 8192")
            self._connection.execute("PRAGMA secure_delete = ON").fetchone()
            self._create(tables)

    def _use_wal(self) -> None:
        """The first two processes that open a new file both change its mode; there SQLite doesn't wait by itself."""
        end = time.monotonic() + _BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(_BUSY_PAUSE_S)

    def _create(self, tables: Sequence[str]) -> None:
        """Makes what is missing: only then is the file written to, so that opening waits for no writer."""
        known = {row[0] for row in self._connection.execute("SELECT name FROM sqlite_master")}
        created = [(each, _CREATED.match(each.strip())) for each in tables]
        check(all(named for _, named in created), "a statement that is no CREATE … IF NOT EXISTS")
        missing = [statement for statement, named in created if named and named[1] not in known]
        if missing:
            with self.write() as connection:
                for statement in missing:
                    connection.execute(statement)

    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(self.path, self.what)

    def close(self) -> None:
        """Closes the connection; safe to repeat."""
        with self._lock:
            self._connection.close()

    def all(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        with self._lock, self._errors():
            return self._connection.execute(query, parameters).fetchall()

    def one(self, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self._lock, self._errors():
            row: tuple[Any, ...] | None = self._connection.execute(query, parameters).fetchone()
            return row

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One atomic, synced commit of everything done inside; nothing of it when the block raises."""
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The right to write new records, or to change all of them, for one process at a time.

        Waits a moment: the member's node takes it for as long as one block needs.

        Raises:
            UnavailableError: another upload, amendment or rotation of keys has it.
        """
        with self._errors(), self.path.with_name(self.path.name + ".lock").open("ab") as file:
            until = time.monotonic() + _LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() >= until:
                        raise UnavailableError(
                            f"another upload into this {self.what}, or a rotation of its keys, is running: "
                            "wait until it is done"
                        ) from error
                    time.sleep(_LOCK_LOOK_S)
            yield

    def copy_to(self, path: Path) -> None:
        """A consistent copy of all that is committed."""
        with self._lock, storage_errors(path, self.what):
            target = sqlite3.connect(path)
            try:
                self._connection.backup(target)
            finally:
                target.close()

    def scrub(self) -> None:
        """Removes from the files what was deleted; call it after the commit that deleted, not inside it.

        ``secure_delete`` alone does not: where SQLite has moved a row from one page to another, a copy of it
        may remain between the rows of the first, and every older page stands in the write-ahead log. So the
        file is written anew (which takes as long as copying it) and the log is cut to nothing. Blocks that
        the file system or a solid-state drive keeps of its own are out of reach: the sealing is what
        protects those.

        Raises:
            UnavailableError: another process writes, or reads an older state: call again.
        """
        with self._lock, self._errors():
            self._connection.execute("VACUUM")
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise UnavailableError(f"{self.what} {self.path}: a reader holds an older state: try again")


@contextmanager
def storage_errors(path: Path, what: str = "vault") -> Iterator[None]:
    """SQLite's and the file system's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"{what} {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise FormatError(f"{what} {path}: not a {what}, or damaged: {error}") from error
    except OSError as error:
        raise UnavailableError(f"{what} {path}: {error.strerror or error}") from error
