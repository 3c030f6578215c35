"""A sealed store: a database, its layout and its keys. The one way to seal and open its rows.

Invariant: what is committed was sealed with the data keys that the same commit sees in ``meta``. So rows are
sealed inside ``write``, which looks for replaced keys after the commit has begun, or inside ``exclusive``,
while which no keys are replaced. Elsewhere ``seal`` refuses: a row sealed with a key that was just replaced
would never open again.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taxledger.ledger.errors import check
from taxledger.nodes.sealed.database import Database
from taxledger.nodes.sealed.keyring import Keyring
from taxledger.nodes.sealed.layout import META_TABLE, StoreLayout
from taxledger.nodes.sealed.providers import KeyProvider

__all__ = ["SealedStore", "sealed_store"]


def sealed_store(path: Path, layout: StoreLayout, keys: KeyProvider, *, durable: bool = True) -> SealedStore:
    """Opens a sealed store, and makes it, with its data keys, where there is none.

    Args:
        path: the SQLite file.
        layout: its tables, and which columns are sealed.
        keys: wraps its data keys; ``open_key_provider(home)`` gives the home's.
        durable: False only for scratch copies.

    Raises:
        FormatError: another key, another store, or no store. InputError, UnavailableError: see ``KeyProvider``;
        UnavailableError: the file can't be opened.
    """
    database = Database(path, (META_TABLE, *layout.tables), what=layout.name, durable=durable)
    try:
        return SealedStore(database, layout, Keyring(database, layout, keys))
    except BaseException:
        database.close()
        raise


class SealedStore:
    """An open store. Several processes, and several threads of each, may have it open.

    Attributes:
        database: for queries, and for writing what is not sealed.
    """

    def __init__(self, database: Database, layout: StoreLayout, keyring: Keyring) -> None:
        self.database = database
        self.layout = layout
        self._keys = keyring
        self._held = threading.local()
        self._exclusive = 0

    def close(self) -> None:
        """Closes the file; safe to repeat."""
        self.database.close()

    # --- rows -------------------------------------------------------------------------------

    def lookup(self, data: bytes) -> bytes:
        """16 bytes under which a row is found without its name standing in the file: a keyed hash.

        The same for the life of the store.
        """
        return self._keys.lookup(data)

    def seal(
        self, table: bytes, key: bytes, version: int, content: bytes, nonce: bytes | None = None
    ) -> bytes:
        """``nonce12 ‖ ciphertext ‖ tag16`` for one sealed column. Inside ``write`` or ``exclusive`` only.

        Args:
            table: the column's ``about`` (by default its table's name); one of the layout's.
            key: what its key column holds; ``version`` what its version column holds, or 1.
            content: any bytes.
            nonce: 12 fresh random bytes, where the caller has some at hand.
        """
        check(
            self._exclusive or getattr(self._held, "writes", 0),
            "a row is sealed inside `write` or `exclusive`, where its key can't be replaced",
        )
        return self._keys.seal(table, key, version, content, nonce)

    def open(self, table: bytes, key: bytes, version: int, sealed: bytes) -> bytes:
        """What was sealed at this place. Works on when another process replaces the keys.

        Raises:
            FormatError: changed, cut or moved since. InputError, UnavailableError: see ``KeyProvider``.
        """
        return self._keys.open(table, key, version, sealed)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One atomic, synced commit of everything done inside; nothing of it when the block raises."""
        with self.database.write() as connection:
            self._keys.refresh()
            self._held.writes = getattr(self._held, "writes", 0) + 1
            try:
                yield connection
            finally:
                self._held.writes -= 1

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See ``Database.exclusive``. Any thread of this process may seal inside; only one enters."""
        with self.database.exclusive():
            self._keys.refresh()
            self._exclusive += 1
            try:
                yield
            finally:
                self._exclusive -= 1

    def scrub(self) -> None:
        """See ``Database.scrub``: after a commit that deleted what must be gone."""
        self.database.scrub()

    @contextmanager
    def scratch_copy(self) -> Iterator[SealedStore]:
        """A copy to try things on, gone afterwards. Its rows are sealed like those of the store."""
        with tempfile.TemporaryDirectory(prefix="taxledger-") as folder:
            path = Path(folder) / self.database.path.name
            self.database.copy_to(path)
            database = Database(path, (), what=self.layout.name, durable=False)
            try:
                copy = SealedStore(database, self.layout, self._keys.over(database))
                with copy.exclusive():
                    yield copy
            finally:
                database.close()
