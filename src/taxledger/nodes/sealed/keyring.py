"""The data keys of one sealed store: wrapped in its table ``meta``, and in memory once they were needed.

    key.<purpose>   a data key, wrapped by the provider for ``<store>.<purpose>``
    key.lookup      the key of keyed hashes. It is never replaced: hashes can't be opened and made anew
    generation      u64, counts how often the data keys were replaced

Data keys are unwrapped one by one, when they are first needed: a store whose year keys were locked away still
opens its other rows.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.ledger.hashing import keyed_hash
from taxledger.nodes.sealed import sealing
from taxledger.nodes.sealed.database import Database
from taxledger.nodes.sealed.layout import SealedColumn, StoreLayout
from taxledger.nodes.sealed.providers import KeyProvider
from taxledger.nodes.sealed.sealing import Sealer

__all__ = ["LOOKUP", "Keyring", "folder_keys", "reseal", "reseal_meta"]

LOOKUP = "lookup"
_FIRST_FORM = "data_key"
"""Name in ``meta`` of the one data key of vaults made before there were several."""


class Keyring:
    """Seals and opens with the data keys of a store; usable from several threads."""

    def __init__(self, database: Database, layout: StoreLayout, provider: KeyProvider) -> None:
        """Reads the wrapped keys, and makes them where the store is new.

        Raises:
            FormatError: not a store of this layout. InputError, UnavailableError: see ``KeyProvider``.
        """
        self._database = database
        self._layout = layout
        self._provider = provider
        self._purpose_of = layout.key_purposes()
        self._lock = threading.RLock()
        self._current: dict[str, Sealer] = {}
        self._previous: dict[str, Sealer] = {}
        if f"key.{LOOKUP}" not in self._meta():
            self._create()
        self._wrapped, self.generation = self._read()
        self._lookup_key = self._unwrap(LOOKUP)

    def over(self, database: Database) -> Keyring:
        """The same keys for a copy of the store."""
        return Keyring(database, self._layout, self._provider)

    # --- use --------------------------------------------------------------------------------

    def lookup(self, data: bytes) -> bytes:
        """16 bytes under which a row is found without its name standing in the file."""
        return sealing.lookup(self._lookup_key, data)

    def seal(self, table: bytes, key: bytes, version: int, content: bytes, nonce: bytes | None) -> bytes:
        """See ``Sealer.seal``; the table says with which data key."""
        return self._sealer(self._purpose_of[table]).seal(table, key, version, content, nonce)

    def open(self, table: bytes, key: bytes, version: int, sealed: bytes) -> bytes:
        """See ``Sealer.open``. A row that does not open makes it look, once, for data keys made meanwhile."""
        purpose = self._purpose_of[table]
        try:
            return self._sealer(purpose).open(table, key, version, sealed)
        except FormatError:
            # Rows read before the keys were replaced and opened after: the former key is kept for them.
            previous = self._previous.get(purpose)
            if previous is not None:
                try:
                    return previous.open(table, key, version, sealed)
                except FormatError:
                    pass
            if not self.refresh():
                raise
        return self._sealer(purpose).open(table, key, version, sealed)

    def refresh(self) -> bool:
        """Reads ``meta`` again; whether another process has replaced the data keys since."""
        with self._lock:
            self._wrapped, generation = self._read()
            if generation == self.generation:
                return False
            self._previous, self._current, self.generation = self._current, {}, generation
            return True

    def _sealer(self, purpose: str) -> Sealer:
        found = self._current.get(purpose)
        if found is None:
            with self._lock:
                found = self._current[purpose] = Sealer(self._unwrap(purpose))
        return found

    def _unwrap(self, purpose: str) -> bytes:
        about = f"{self._layout.name}.{purpose}"
        wrapped = self._wrapped[purpose]
        try:
            return self._provider.unwrap(wrapped, about)
        except FormatError:
            # The provider's key may have been replaced since ``meta`` was read.
            self.refresh()
            if self._wrapped[purpose] == wrapped:
                raise
            return self._provider.unwrap(self._wrapped[purpose], about)

    # --- what is stored ---------------------------------------------------------------------

    def _meta(self) -> dict[str, bytes]:
        return dict(self._database.all("SELECT name, value FROM meta"))

    def _read(self) -> tuple[dict[str, bytes], int]:
        """(wrapped key by purpose, generation)."""
        meta = self._meta()
        try:
            wrapped = {each: meta[f"key.{each}"] for each in (*self._layout.purposes, LOOKUP)}
            return wrapped, int.from_bytes(meta["generation"], "big")
        except KeyError as error:
            raise FormatError(
                f"{self._database.path}: not a {self._layout.name} of this version: no {error.args[0]}"
            ) from error

    def _create(self) -> None:
        """Makes the data keys of a new store, or the missing ones of a vault of the first form."""
        with folder_keys(self._database.path.parent):
            keys = {each: sealing.new_key() for each in (*self._layout.purposes, LOOKUP)}
            first = self._meta().get(_FIRST_FORM)
            if first is not None:
                # Rows and hashes keep their keys; year keys move to their own in the commit below.
                keys["rows"] = self._provider.unwrap(first, f"{self._layout.name}.rows")
                keys[LOOKUP] = keyed_hash(keys["rows"], "vault_lookup", b"")
            rows = [(f"key.{each}", self._wrap(each, key)) for each, key in keys.items()]
            with self._database.write() as connection:
                found = {name for (name,) in connection.execute("SELECT name FROM meta")}
                if f"key.{LOOKUP}" in found:
                    return  # another process was first: what it wrote stays
                if found and first is None:
                    raise FormatError(f"{self._database.path}: not a {self._layout.name} of this version")
                for column in self._layout.columns if first is not None else ():
                    if column.purpose != "rows":
                        reseal(connection, column, Sealer(keys["rows"]), Sealer(keys[column.purpose]))
                connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
                connection.execute("INSERT INTO meta VALUES ('generation', ?)", ((0).to_bytes(8, "big"),))
                connection.execute("DELETE FROM meta WHERE name = ?", (_FIRST_FORM,))

    def _wrap(self, purpose: str, key: bytes) -> bytes:
        return self._provider.wrap(key, f"{self._layout.name}.{purpose}")


@contextmanager
def folder_keys(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """While held, the keys that wrap do not change; ``alone``: for the one who changes them.

    Without it a store made while keys are rotated could be wrapped by the key that is about to go, and
    be overlooked. Order of locks: this one, then ``Database.exclusive``, then ``Database.write``.
    """
    path = folder / "keys.lock"
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        except OSError as error:
            raise UnavailableError(f"{path}: {error.strerror or error}") from error
        yield


def reseal(connection: sqlite3.Connection, column: SealedColumn, old: Sealer, new: Sealer) -> int:
    """Seals every cell of a column anew, inside the commit that is open; the number of cells.

    Raises:
        FormatError: a cell does not open with ``old``: nothing may be committed then.
    """
    about = (column.about or column.table).encode()
    failed: list[InputError] = []

    def again(key: bytes | int, version: int, sealed: bytes) -> bytes:
        place = key.to_bytes(column.key_bytes, "big") if isinstance(key, int) else key
        try:
            return new.seal(about, place, version, old.open(about, place, version, sealed))
        except InputError as error:
            failed.append(error)
            raise

    connection.create_function("reseal", 3, again)
    try:
        # The names are the layout's, checked there.
        return connection.execute(
            f"UPDATE {column.table} SET {column.column} = "  # noqa: S608
            f"reseal({column.key}, {column.version or '1'}, {column.column})"
        ).rowcount
    except sqlite3.OperationalError as error:
        if failed:
            raise failed[0] from error
        raise
    finally:
        connection.create_function("reseal", 3, None)


def reseal_meta(connection: sqlite3.Connection, name: str, old: Sealer, new: Sealer) -> None:
    """The same for a sealed row of ``meta``, where there is one of that name."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is not None:
        place = name.encode()
        again = new.seal(b"meta", place, 1, old.open(b"meta", place, 1, row[0]))
        connection.execute("UPDATE meta SET value = ? WHERE name = ?", (again, name))
