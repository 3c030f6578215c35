"""Sealed stores: opened in one call, closed to other keys, open to their first form, and truly deleted from."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from custodykit import KEY, key_file

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError, InvariantError, UnavailableError
from taxledger.ledger.hashing import domain, keyed_hash
from taxledger.nodes.custodian.database import VAULT
from taxledger.nodes.sealed.layout import SealedColumn, StoreLayout
from taxledger.nodes.sealed.sealing import Sealer
from taxledger.nodes.sealed.store import SealedStore, sealed_store

NOTES = StoreLayout(
    name="notes",
    tables=(
        "CREATE TABLE IF NOT EXISTS notes (key BLOB, version INTEGER, sealed BLOB, PRIMARY KEY (key, version)) "
        "WITHOUT ROWID",
        "CREATE INDEX IF NOT EXISTS notes_version ON notes (version)",
    ),
    columns=(SealedColumn(table="notes", key="key", version="version"),),
)


def notes(folder: Path, key: bytes = KEY) -> SealedStore:
    return sealed_store(folder / "notes.sqlite", NOTES, key_file(folder, key))


def put(store: SealedStore, key: bytes, content: bytes) -> bytes:
    """The sealed cell."""
    with store.write() as connection:
        sealed = store.seal(b"notes", key, 1, content)
        connection.execute("INSERT INTO notes VALUES (?, 1, ?)", (key, sealed))
    return sealed


def get(store: SealedStore, key: bytes) -> bytes:
    row = store.database.one("SELECT sealed FROM notes WHERE key = ?", (key,))
    assert row is not None
    return store.open(b"notes", key, 1, row[0])


def test_one_call_opens_a_store_and_makes_it(tmp_path: Path) -> None:
    store = notes(tmp_path)
    put(store, b"a", b"content")
    found = store.lookup(b"name")
    store.close()
    store.close()
    store = notes(tmp_path)
    assert get(store, b"a") == b"content"
    assert store.lookup(b"name") == found != store.lookup(b"names")
    files = list(tmp_path.glob("notes.sqlite*"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert b"content" not in b"".join(path.read_bytes() for path in files)


def test_another_key_or_another_store_does_not_open(tmp_path: Path) -> None:
    put(notes(tmp_path), b"a", b"content")
    with pytest.raises(FormatError, match="is not the one it was made with"):
        notes(tmp_path, bytes(32))
    with pytest.raises(FormatError, match="not a vault of this version"):
        sealed_store(tmp_path / "notes.sqlite", VAULT, key_file(tmp_path))
    (tmp_path / "text").write_bytes(b"some text that is no database" * 100)
    with pytest.raises(FormatError, match="not a notes"):
        sealed_store(tmp_path / "text", NOTES, key_file(tmp_path))


def test_sealing_needs_a_commit_and_a_declared_table(tmp_path: Path) -> None:
    """Else a row could be sealed with a key that is replaced before it is committed, or be overlooked."""
    store = notes(tmp_path)
    with pytest.raises(InvariantError, match="inside `write`"):
        store.seal(b"notes", b"a", 1, b"content")
    with store.write(), pytest.raises(KeyError):
        store.seal(b"other", b"a", 1, b"content")
    refused: list[Exception] = []

    def elsewhere() -> None:
        try:
            store.seal(b"notes", b"a", 1, b"content")
        except InvariantError as error:
            refused.append(error)

    with store.write():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert len(refused) == 1, "the commit of one thread does not cover another"
    with (
        store.exclusive(),
        pytest.raises(UnavailableError, match="another upload"),
        notes(tmp_path).exclusive(),
    ):
        pass


def test_two_processes_make_one_set_of_keys(tmp_path: Path) -> None:
    stores: list[SealedStore] = []
    ready = threading.Barrier(4)
    key_file(tmp_path)

    def open_one() -> None:
        ready.wait()
        stores.append(notes(tmp_path))

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, store in enumerate(stores):
        put(store, bytes([number]), b"content")
    assert [get(store, bytes([number])) for store in stores for number in range(4)] == [b"content"] * 16


def first_form(path: Path) -> tuple[bytes, bytes]:
    """Makes a vault as it was before there were several data keys; (data key, sealed cell of 2025)."""
    data_key, nonce = os.urandom(32), os.urandom(12)

    def seal(table: bytes, key: bytes, content: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + AESGCM(data_key).encrypt(nonce, content, table + key + (1).to_bytes(4, "big"))

    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
    for statement in VAULT.tables:
        plain.execute(statement)
    wrapped = nonce + AESGCM(KEY).encrypt(nonce, data_key, domain("vault_key"))
    plain.execute("INSERT INTO meta VALUES ('data_key', ?)", (wrapped,))
    plain.execute("INSERT INTO meta VALUES ('owner', ?)", (seal(b"meta", b"owner", b"me"),))
    year = seal(b"years", (2025).to_bytes(2, "big"), b"year keys")
    plain.execute("INSERT INTO years VALUES (2025, ?)", (year,))
    plain.commit()
    plain.close()
    return data_key, year


def test_a_vault_of_the_first_form_stays_readable(tmp_path: Path) -> None:
    """One data key for all, wrapped without a name: its rows open, and its year keys get a key of their own."""
    path, year = tmp_path / "vault.sqlite", (2025).to_bytes(2, "big")
    data_key, before = first_form(path)
    with pytest.raises(FormatError, match="is not the one"):
        sealed_store(path, VAULT, key_file(tmp_path, bytes(32)))
    for _ in range(2):
        store = sealed_store(path, VAULT, key_file(tmp_path))
        meta = dict(store.database.all("SELECT name, value FROM meta"))
        assert set(meta) == {"owner", "key.rows", "key.years", "key.lookup", "generation"}
        assert store.open(b"meta", b"owner", 1, meta["owner"]) == b"me"
        (after,) = store.database.one("SELECT sealed FROM years") or (b"",)
        assert store.open(b"years", year, 1, after) == b"year keys"
        assert after != before
        with pytest.raises(FormatError, match="damaged"):
            store.open(b"years", year, 1, before)
        old_lookup = keyed_hash(keyed_hash(data_key, "vault_lookup", b""), "vault_lookup", b"subject")[:16]
        assert store.lookup(b"subject") == old_lookup, "tags stored before are still found"
        store.close()


def test_year_keys_have_a_key_of_their_own(tmp_path: Path) -> None:
    """Its wrapped key gone, year keys are gone, and the rows still open."""
    store = sealed_store(tmp_path / "vault.sqlite", VAULT, key_file(tmp_path))
    with store.write():
        row = store.seal(b"records", b"k", 1, b"record")
        year = store.seal(b"years", b"\x07\xe9", 1, b"year keys")
    with store.database.write() as connection:
        damaged = canonical.encode([1, "file:0000000000000000", bytes(60)])
        connection.execute("UPDATE meta SET value = ? WHERE name = 'key.years'", (damaged,))
    store.close()
    store = sealed_store(tmp_path / "vault.sqlite", VAULT, key_file(tmp_path))
    assert store.open(b"records", b"k", 1, row) == b"record"
    with pytest.raises(FormatError, match="does not open"):
        store.open(b"years", b"\x07\xe9", 1, year)
    with pytest.raises(FormatError, match="damaged"):
        store.open(b"records", b"\x07\xe9", 1, year)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("notes.sqlite*")))


def test_deleted_rows_are_gone_from_every_file(tmp_path: Path) -> None:
    """Rows of many sizes in random order, so that SQLite moves them between pages and leaves copies."""
    seed = 5
    chance = random.Random(seed)
    store = notes(tmp_path)
    cells: dict[bytes, bytes] = {}
    with store.write() as connection:
        for _ in range(6_000):
            key = chance.randbytes(37)
            cells[key] = store.seal(b"notes", key, 1, bytes(chance.choice((200, 300, 600, 900))))
            connection.execute("INSERT INTO notes VALUES (?, 1, ?)", (key, cells[key]))
    gone = chance.sample(sorted(cells), 1_500)
    assert all(cells[key][-40:] in on_disk(tmp_path) for key in gone[:50]), "the search finds what is there"
    with store.database.write() as connection:
        connection.executemany("DELETE FROM notes WHERE key = ?", [(key,) for key in gone])
    content = on_disk(tmp_path)
    assert any(cells[key][-40:] in content for key in gone[:50]), "deleting alone leaves them in the log"
    store.scrub()
    content = on_disk(tmp_path)
    left = [key for key in gone if cells[key][-40:] in content or cells[key][:40] in content]
    assert not left, f"seed {seed}: {len(left)} of {len(gone)} deleted rows still stand in the files"
    kept = next(key for key in cells if key not in set(gone))
    assert cells[kept][-40:] in content
    assert get(store, kept).strip(b"\0") == b""


def test_scrub_says_when_a_reader_holds_an_older_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxledger.nodes.sealed.database._BUSY_TIMEOUT_S", 0.05)
    store = notes(tmp_path)
    put(store, b"a", b"content")
    reader = sqlite3.connect(tmp_path / "notes.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM notes").fetchone() == (1,)
    with store.database.write() as connection:
        connection.execute("DELETE FROM notes")
    with pytest.raises(UnavailableError, match="a reader holds an older state"):
        store.scrub()
    reader.execute("COMMIT")
    store.scrub()
    reader.close()


def test_places_beyond_32_bits_are_places_too() -> None:
    """A subject numbers its instructions with up to 63 bits."""
    sealer = Sealer(bytes(32))
    for version in (0, 2**32 - 1, 2**32, 2**63 - 1):
        sealed = sealer.seal(b"t", b"k", version, b"content")
        assert sealer.open(b"t", b"k", version, sealed) == b"content"
        for other in (version ^ 1, (version + 2**32) % 2**63):
            with pytest.raises(FormatError):
                sealer.open(b"t", b"k", other, sealed)
