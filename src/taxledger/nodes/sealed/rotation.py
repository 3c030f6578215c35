"""New keys for the sealed stores of a home, without stopping its node.

**Another key-encryption key** (``rotate_key``) only wraps the data keys again. It changes a key file or token,
``node.toml`` and several stores, which no one commit can do, so each step leaves a state in which everything
opens, and the next call goes on from it:

1. ``node.toml`` names the next key (atomic replacement). Nothing is wrapped by it yet.
2. The key is made, durable before it wraps anything: a file that appears whole, or an object in a token.
3. Store by store, one commit each: the data keys wrapped by the next key. ``HomeKeys`` unwraps with both.
4. ``node.toml`` names the next key as the one in force. No store needs the old one any more.
5. Only if asked: the old key is destroyed. Backups from before need it, and after erasure that is a reason to
   destroy it.

**New data keys** (``rotate_data_key``) seal every cell of a store again, in one commit of its database, wrapped
keys included. One commit and not batches: a store is then never in between, no row has to say which key it is
under, and the old key is gone for good when the commit returns; kill -9 at any point leaves the old state
or the new one. The price: while it runs (about 1 s for 100,000 rows) uploads are refused and other writers
wait, and the write-ahead log grows to the size of the store. Readers go on. Stores follow one another.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.nodes.home import Home, read_secret, write_secret
from taxledger.nodes.sealed import sealing
from taxledger.nodes.sealed.database import Database, storage_errors
from taxledger.nodes.sealed.homekeys import HomeKeys, provider_of, token_provider
from taxledger.nodes.sealed.keyring import LOOKUP, folder_keys, reseal, reseal_meta
from taxledger.nodes.sealed.layout import StoreLayout
from taxledger.nodes.sealed.providers import KeyProvider, wrapped_by
from taxledger.nodes.sealed.sealing import Sealer
from taxledger.nodes.sealed.store import sealed_store
from taxledger.nodes.vaultconfig import KeySource, VaultConfig, decode_vault, is_years, replace_vault

__all__ = ["Resealed", "Rotated", "StoreFacts", "rotate_data_key", "rotate_key", "store_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What ``rotate_key`` did.

    Attributes:
        name: the key in force now; ``former`` the one before, or empty where only a rotation was finished
            whose old key is gone.
        stores: number of stores whose keys are wrapped by it.
        resumed: a rotation that was cut off was finished, to the key that was named then.
        destroyed: the former key was.
    """

    name: str
    former: str
    stores: int
    resumed: bool
    destroyed: bool


def new_source(home: Path, wanted: KeySource) -> KeySource:
    """The place of a new key, with a fresh name where none was given."""
    fresh = secrets.token_hex(4)
    if wanted.provider == "file":
        return KeySource(file=f"keys/vault-{fresh}.key")
    if wanted.label:
        return wanted
    return KeySource(
        provider="pkcs11",
        module=wanted.module,
        token=wanted.token,
        label=f"taxledger-vault-{fresh}",
        pin_file=wanted.pin_file,
    )


def rotate_key(
    home: Home,
    layouts: Sequence[StoreLayout],
    wanted: KeySource,
    *,
    years: bool,
    now_ms: int,
    destroy: bool = False,
) -> Rotated:
    """Puts another key-encryption key in force. See the module; call it again when it was cut off.

    Args:
        home: whose stores.
        layouts: of the stores; one of another kind is wrapped anew just as well.
        wanted: provider, and for a token where it is and the label, which must be new (empty: a fresh one).
            Not looked at when a rotation that was cut off is finished.
        years: the key of the year keys alone; else the key of everything that has none of its own.
        now_ms: instant, ms since 1970.
        destroy: destroy the former key at the end.

    Raises:
        InputError, UnavailableError: a key, a PIN or a token; nothing is lost, call again.
    """
    _renew_form(home, layouts)
    with folder_keys(home.path, alone=True):
        before = Home(home.path).config.vault
        pending = before.pending(years=years)
        source = pending or new_source(home.path, wanted)
        if pending is None:
            _check_unused(home.path, source)
            write_vault(home.path, before.with_next(source, years=years))
        during = Home(home.path).config.vault
        _make_key(home.path, source)
        fresh = provider_of(home.path, source)
        stores = 0
        for path in sealed_files(home.path):
            _rewrap(path, HomeKeys(home), fresh, during, years=years, now_ms=now_ms)
            stores += 1
        write_vault(home.path, during.finished(years=years))
        former = before.source("vault.years") if years else before.rows
        return Rotated(
            name=fresh.name,
            former=_name(home.path, former),
            stores=stores,
            resumed=pending is not None,
            destroyed=destroy and _destroy(home.path, former),
        )


def _check_unused(home: Path, source: KeySource) -> None:
    if source.provider == "pkcs11" and token_provider(home, source).exists():
        raise InputError(f"expected a new label, the token has a key {source.label} already")


def _make_key(home: Path, source: KeySource) -> None:
    """Makes the key where a call before did not; durable when this returns."""
    if source.provider == "pkcs11":
        token = token_provider(home, source)
        if not token.exists():
            token.create()
        return
    path = home / source.file
    if path.exists():
        read_secret(path)
        return
    with storage_errors(path, "key file"):
        # Whole or not at all: a file cut off in the middle would be a key nobody can read.
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        write_secret(part, sealing.new_key().hex().encode() + b"\n")
        _sync(part)
        part.rename(path)
        _sync(path.parent)


def _rewrap(
    path: Path, old: KeyProvider, new: KeyProvider, config: VaultConfig, *, years: bool, now_ms: int
) -> None:
    """Step 3 for one store: those of its data keys that this rotation is about."""
    database = Database(path, (), what=path.stem)
    try:
        with database.write() as connection:
            wrapped = _wrapped(dict(connection.execute("SELECT name, value FROM meta")))
            if LOOKUP not in wrapped:
                raise FormatError(f"{path}: a sealed store of a kind this version does not know")
            for name, value in wrapped.items():
                purpose = f"{path.stem}.{name}"
                own = is_years(purpose) and (years or config.years is not None)
                if own == years and wrapped_by(value) != new.name:
                    again = new.wrap(old.unwrap(value, purpose), purpose)
                    connection.execute("UPDATE meta SET value = ? WHERE name = ?", (again, f"key.{name}"))
            _mark(connection, "rotated.key", now_ms)
    finally:
        database.close()


def _wrapped(meta: dict[str, bytes]) -> dict[str, bytes]:
    """The wrapped data keys of a store by purpose."""
    return {name.removeprefix("key."): value for name, value in meta.items() if name.startswith("key.")}


def _mark(connection: sqlite3.Connection, name: str, number: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, number.to_bytes(8, "big")))


def _name(home: Path, source: KeySource | None) -> str:
    """A key's name, or empty where it is gone."""
    if source is None:
        return ""
    try:
        return provider_of(home, source).name
    except InputError:
        return ""


def _destroy(home: Path, source: KeySource | None) -> bool:
    """Step 5; whether there was a key of its own to destroy."""
    if source is None or source in Home(home).config.vault.sources:
        return False
    if source.provider == "pkcs11":
        token_provider(home, source).destroy()
        return True
    path = home / source.file
    with storage_errors(path, "key file"):
        if not path.exists():
            return False
        # Overwritten first, for file systems that write in place; others keep blocks that we can't reach.
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        _sync(path.parent)
    return True


# --- node.toml ------------------------------------------------------------------------------


def write_vault(home: Path, vault: VaultConfig) -> None:
    """Replaces the tables ``[vault…]`` of ``node.toml``: whole and durable, or not at all."""
    path = home / "node.toml"
    with storage_errors(path, "settings"):
        text = replace_vault(path.read_text("utf-8"), vault)
        # Read back before it counts: a label that TOML would read otherwise must not cost the home its keys.
        if decode_vault(tomllib.loads(text)) != vault:
            raise FormatError(f"{path}: expected [vault] tables that can be replaced line by line")
        part = path.with_suffix(".toml.part")
        part.write_text(text, "utf-8")
        part.chmod(path.stat().st_mode & 0o777)
        _sync(part)
        part.replace(path)
        _sync(home)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- stores ---------------------------------------------------------------------------------


def sealed_files(home: Path) -> Iterator[Path]:
    """The sealed stores of a home: every ``*.sqlite`` in it whose ``meta`` holds wrapped keys."""
    for path in sorted(home.glob("*.sqlite")):
        database = Database(path, (), what=path.stem)
        try:
            tables = database.all("SELECT 1 FROM sqlite_master WHERE name = 'meta'")
            if tables and database.all(
                "SELECT 1 FROM meta WHERE name IN ('data_key', ?)", (f"key.{LOOKUP}",)
            ):
                yield path
        finally:
            database.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """What ``rotate_data_key`` did to one store: cells sealed anew, and whether old bytes are gone from the
    files (else a reader held them: ``Database.scrub`` again)."""

    store: str
    cells: int
    scrubbed: bool


def _renew_form(home: Home, layouts: Sequence[StoreLayout]) -> None:
    """Opens every store once: a vault of the first form gets the keys of the present one."""
    for path in sealed_files(home.path):
        known = [each for each in layouts if each.name == path.stem]
        if known:
            sealed_store(path, known[0], HomeKeys(home)).close()


def _layout_of(path: Path, layouts: Sequence[StoreLayout]) -> StoreLayout:
    for layout in layouts:
        if layout.name == path.stem:
            return layout
    raise FormatError(f"{path}: a sealed store of a kind this version does not know")


def rotate_data_key(home: Home, layouts: Sequence[StoreLayout], *, now_ms: int) -> list[Resealed]:
    """New data keys for every sealed store of a home; every cell sealed anew. See the module.

    Raises:
        FormatError: a store of unknown layout, or a cell that does not open: its store stays as it was.
        UnavailableError: an upload is running.
    """
    done = []
    _renew_form(home, layouts)
    with folder_keys(home.path):
        stores = [(path, _layout_of(path, layouts)) for path in sealed_files(home.path)]
        for path, layout in stores:
            done.append(_reseal_store(path, layout, HomeKeys(home), now_ms))
    return done


def _reseal_store(path: Path, layout: StoreLayout, provider: KeyProvider, now_ms: int) -> Resealed:
    database = Database(path, (), what=layout.name)
    try:
        # Excludes uploads, whose rows are sealed before their commit begins (see SealedStore).
        with database.exclusive(), database.write() as connection:
            meta = dict(connection.execute("SELECT name, value FROM meta"))
            old, new = {}, {}
            for purpose in layout.purposes:
                about = f"{layout.name}.{purpose}"
                old[purpose] = Sealer(provider.unwrap(meta[f"key.{purpose}"], about))
                key = sealing.new_key()
                new[purpose] = Sealer(key)
                connection.execute(
                    "UPDATE meta SET value = ? WHERE name = ?",
                    (provider.wrap(key, about), f"key.{purpose}"),
                )
            cells = sum(
                reseal(connection, column, old[column.purpose], new[column.purpose])
                for column in layout.columns
            )
            for name in layout.sealed_meta:
                reseal_meta(connection, name, old["rows"], new["rows"])
            generation = int.from_bytes(meta["generation"], "big") + 1
            _mark(connection, "generation", generation)
            _mark(connection, "rotated.data_key", now_ms)
        return Resealed(store=layout.name, cells=cells, scrubbed=_scrubbed(database))
    finally:
        database.close()


def _scrubbed(database: Database) -> bool:
    """Old cells out of the files. The new keys are in force already: a reader in the way is no failure."""
    try:
        database.scrub()
    except UnavailableError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """What can be said of a sealed store without opening a row.

    Attributes:
        keys: name of the wrapping key by purpose; ``rows`` number of rows by table with sealed cells.
        generation: how often its data keys were replaced.
        key_rotated_ms, data_key_rotated_ms: when last; None for never.
    """

    store: str
    keys: dict[str, str]
    rows: dict[str, int]
    generation: int
    key_rotated_ms: int | None
    data_key_rotated_ms: int | None


def store_facts(home: Home, layouts: Sequence[StoreLayout]) -> list[StoreFacts]:
    """The sealed stores of a home. Needs no key."""
    facts = []
    for path in sealed_files(home.path):
        layout = _layout_of(path, layouts)
        database = Database(path, layout.tables, what=layout.name)
        try:
            meta = dict(database.all("SELECT name, value FROM meta"))
            counts = {
                each.table: database.all(f"SELECT count(*) FROM {each.table}")[0][0]  # noqa: S608
                for each in layout.columns
            }
        finally:
            database.close()
        numbers = {
            name: int.from_bytes(meta[name], "big") if name in meta else None
            for name in ("generation", "rotated.key", "rotated.data_key")
        }
        facts.append(
            StoreFacts(
                store=layout.name,
                keys={name: wrapped_by(value) for name, value in sorted(_wrapped(meta).items())},
                rows=counts,
                generation=numbers["generation"] or 0,
                key_rotated_ms=numbers["rotated.key"],
                data_key_rotated_ms=numbers["rotated.data_key"],
            )
        )
    return facts
