"""The custodian's vault: records with their secrets, year secrets, tag keys. What must not be seen is sealed.

In the clear stand only what is on the ledger anyway (keys, versions, statuses) and keyed hashes, which
serve to find equals: a record's ``content`` (its rid as if all its fields were its identity) and its
``mark`` (its fingerprint, also where none goes on the ledger). Subjects, σ, fields, secrets, reasons and
keys are sealed.

Row versions are those of the ledger (docs/protocol.md §5). A status never changes in place, but for
``revoked``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from taxledger.ledger import canonical
from taxledger.ledger.crypto import TagSigner
from taxledger.ledger.errors import FormatError
from taxledger.ledger.records import tag_message, tag_of
from taxledger.ledger.schemas import Row
from taxledger.ledger.statekeys import RECORD_KEY_BYTES
from taxledger.nodes.custodian.database import VAULT
from taxledger.nodes.sealed.providers import KeyProvider
from taxledger.nodes.sealed.store import SealedStore, sealed_store

__all__ = ["OpenedRecord", "StoredVersion", "TagEntry", "Vault", "YearKeys"]

_FORMAT = 1
_RECORDS, _REASONS, _TAGS, _YEARS, _META = b"records", b"reasons", b"tags", b"years", b"meta"
_SEEDS = b"rid_seeds"
_LOOKUP_N = 400
"""Keys asked for in one statement."""

RED_NONE, RED_OPEN, RED_MATCHED = 0, 1, 2
"""Whether a record is a red letter, and whether its original was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRecord:
    """What the vault holds about one version of a record.

    Attributes:
        secret: 32 bytes; ``values`` the fields in schema order; ``schema`` its number.
        file, line: where it was read; ``batch`` the number of the upload, 0 where there was none, or none was counted.
    """

    secret: bytes
    schema: int
    values: Row
    file: str
    line: int
    batch: int = 0


class StoredVersion(NamedTuple):
    """The clear part of one version: see the table ``records``."""

    key: bytes
    version: int
    status: int
    revoked: int
    red: int
    content: bytes


class TagEntry(NamedTuple):
    """A subject's pseudonym for a kind and year: ``tag`` is 16 bytes, ``sigma`` 384."""

    subject: str
    kind: int
    year: int
    tag: bytes
    sigma: bytes


class YearKeys(NamedTuple):
    """The issuer's secrets of one year."""

    year: int
    secret: bytes
    signer: TagSigner


class Vault:
    """One issuer's vault on one chain. Several processes may have it open."""

    def __init__(self, store: SealedStore, *, chain_id: bytes, member: int) -> None:
        self.database = store.database
        self.chain_id = chain_id
        self.member = member
        self._store = store
        self._years: dict[int, tuple[bytes, YearKeys]] = {}

    @classmethod
    def open(
        cls, path: Path, keys: KeyProvider, *, chain_id: bytes, member: int, durable: bool = True
    ) -> Vault:
        """Opens a vault, and makes it where there is none.

        Args:
            path: the SQLite file.
            keys: wraps its data keys.
            chain_id: of the ledger its commitments are bound to; ``member`` the issuer.
            durable: False only for scratch copies.

        Raises:
            FormatError: wrong key, a vault of another issuer or chain, or no vault.
            InputError: the key can't be read. UnavailableError: the file, or the key's device, can't be opened.
        """
        store = sealed_store(path, VAULT, keys, durable=durable)
        try:
            _check_owner(store, chain_id, member)
        except BaseException:
            store.close()
            raise
        return cls(store, chain_id=chain_id, member=member)

    @property
    def store(self) -> SealedStore:
        """What its rows are sealed and deleted with."""
        return self._store

    def close(self) -> None:
        """Closes the file; safe to repeat."""
        self._store.close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The right to write new records: see ``SealedStore.exclusive``."""
        with self._store.exclusive():
            yield

    @contextmanager
    def scratch_copy(self) -> Iterator[Vault]:
        """A copy to try things on, gone afterwards. Its rows are sealed like those of the vault."""
        with self._store.scratch_copy() as store:
            yield Vault(store, chain_id=self.chain_id, member=self.member)

    # --- years and tags ---------------------------------------------------------------------

    def year(self, year: int) -> YearKeys | None:
        """The issuer's secrets of a year, or None before its first record."""
        row = self.database.one("SELECT sealed FROM years WHERE year = ?", (year,))
        if row is None:
            return None
        known = self._years.get(year)
        # Another process may have replaced keys that the ledger refused: compare before using them.
        if known is None or known[0] != row[0]:
            opened = self._store.open(_YEARS, year.to_bytes(2, "big"), 1, row[0])
            secret, private_der = canonical.decode(opened)
            known = self._years[year] = (row[0], YearKeys(year, secret, TagSigner(private_der)))
        return known[1]

    def add_year(self, connection: sqlite3.Connection, keys: YearKeys, private_der: bytes) -> None:
        """Adds new keys to the commit that is open; ``private_der`` is that of ``keys.signer``."""
        content = canonical.encode([keys.secret, private_der])
        sealed = self._store.seal(_YEARS, keys.year.to_bytes(2, "big"), 1, content)
        connection.execute("INSERT INTO years VALUES (?, ?)", (keys.year, sealed))
        self._years[keys.year] = (sealed, keys)

    @staticmethod
    def forget_year(connection: sqlite3.Connection, year: int) -> None:
        """Drops keys that the ledger refused, before any record was made with them."""
        connection.execute("DELETE FROM years WHERE year = ?", (year,))

    def _lookup(self, subject: str, kind: int, year: int) -> bytes:
        return self._store.lookup(canonical.encode([subject, kind, year]))

    def tag(self, subject: str, kind: int, year: int) -> TagEntry | None:
        """The tag of a subject as stored, or made now where the year's key is there; None where it is not.

        Does not store it: a node that serves dossiers only reads.
        """
        lookup = self._lookup(subject, kind, year)
        row = self.database.one("SELECT tag, sealed FROM tags WHERE lookup = ?", (lookup,))
        if row is not None:
            return TagEntry(*self._open_tag(row[0], row[1]))
        keys = self.year(year)
        if keys is None:
            return None
        sigma = keys.signer.sign(tag_message(self.chain_id, subject, kind, year))
        return TagEntry(subject, kind, year, tag_of(sigma), sigma)

    def has_tag(self, subject: str, kind: int, year: int) -> bool:
        """Whether the vault has ever had a record of a subject, kind and year."""
        lookup = self._lookup(subject, kind, year)
        return self.database.one("SELECT 1 FROM tags WHERE lookup = ?", (lookup,)) is not None

    def tag_row(self, entry: TagEntry) -> tuple[bytes, bytes, bytes]:
        """A row for ``INSERT OR IGNORE INTO tags``."""
        content = canonical.encode([entry.subject, entry.kind, entry.year, entry.tag, entry.sigma])
        lookup = self._lookup(entry.subject, entry.kind, entry.year)
        return lookup, entry.tag, self._store.seal(_TAGS, entry.tag, 1, content)

    def sigma(self, subject: str, kind: int, year: int) -> bytes | None:
        """σ of a subject's tag (384 bytes), or None where the issuer has no key of that year."""
        entry = self.tag(subject, kind, year)
        return None if entry is None else entry.sigma

    def tag_owner(self, tag: bytes) -> TagEntry | None:
        """Whose tag this is (16 bytes), or None when the vault does not know it."""
        row = self.database.one("SELECT sealed FROM tags WHERE tag = ?", (tag,))
        return None if row is None else TagEntry(*self._open_tag(tag, row[0]))

    def _open_tag(self, tag: bytes, sealed: bytes) -> tuple[str, int, int, bytes, bytes]:
        subject, kind, year, inner, sigma = canonical.decode(self._store.open(_TAGS, tag, 1, sealed))
        return subject, kind, year, inner, sigma

    def rid_seeds(self, tag: bytes) -> dict[int, bytes]:
        """Seed of the record ids by month byte, for the months of a tag (16 bytes): see ``rids.py``."""
        rows = self.database.all(
            "SELECT place, sealed FROM rid_seeds WHERE place > ? AND place < ?", (tag, tag + b"\xff")
        )
        return {place[-1]: self._store.open(_SEEDS, place, 1, sealed) for place, sealed in rows}

    def rid_seed_row(self, tag: bytes, month: int, seed: bytes) -> tuple[bytes, bytes]:
        """A row for ``INSERT INTO rid_seeds``."""
        place = tag + bytes([month])
        return place, self._store.seal(_SEEDS, place, 1, seed)

    # --- records ----------------------------------------------------------------------------

    def seal_record(
        self,
        key: bytes,
        version: int,
        secret: bytes,
        schema: int,
        values: Row,
        file: str,
        line: int,
        nonce: bytes,
        batch: int = 0,
    ) -> bytes:
        """The sealed part of a row of ``records``."""
        content = canonical.encode([secret, schema, values, file, line, *([batch] if batch else [])])
        return self._store.seal(_RECORDS, key, version, content, nonce)

    def _open_record(self, key: bytes, version: int, sealed: bytes) -> OpenedRecord:
        opened = canonical.decode(self._store.open(_RECORDS, key, version, sealed))
        secret, schema, values, file, line, *batch = opened  # a row from before there were batches has none
        return OpenedRecord(
            secret=secret, schema=schema, values=tuple(values), file=file, line=line, batch=sum(batch)
        )

    def versions(self, prefix: bytes) -> list[StoredVersion]:
        """Every version of every record below a key prefix, ascending by key and version."""
        rows = self.database.all(
            "SELECT key, version, status, revoked, red, content FROM records WHERE key >= ? AND key < ? "
            "ORDER BY key, version",
            (prefix, _after(prefix)),
        )
        return [StoredVersion(*row) for row in rows]

    def record(self, key: bytes, version: int) -> OpenedRecord | None:
        """One version of a record."""
        row = self.database.one("SELECT sealed FROM records WHERE key = ? AND version = ?", (key, version))
        return None if row is None else self._open_record(key, version, row[0])

    def newest(self, prefix: bytes) -> Iterator[tuple[StoredVersion, OpenedRecord]]:
        """The newest version of every record below a key prefix, ascending."""
        rows = self.database.all(
            "SELECT key, max(version), status, revoked, red, content, sealed FROM records "
            "WHERE key >= ? AND key < ? GROUP BY key ORDER BY key",
            (prefix, _after(prefix)),
        )
        for row in rows:
            yield StoredVersion(*row[:6]), self._open_record(row[0], row[1], row[6])

    def is_staged(self, key: bytes) -> bool:
        """Whether an upload that was interrupted has yet to submit this record, or a change of it."""
        # A record's place is tag, month, schema, status, rid; a change's is its key and version.
        row = self.database.one(
            "SELECT 1 FROM staged WHERE stage = 1 AND kind = ? AND year IN (SELECT year FROM years) "
            "AND place > ? AND place < ? AND substr(place, -16) = ? UNION ALL "
            "SELECT 1 FROM staged WHERE stage = 2 AND kind = ? AND year IN (SELECT year FROM years) "
            "AND place > ? AND place < ?",
            (key[3], key[4:21], key[4:21] + b"\xff" * 20, key[21:], key[3], key, key + b"\xff" * 5),
        )
        return row is not None

    def open_red_letters(self, prefix: bytes) -> list[bytes]:
        """Keys of the red letters below a key prefix whose originals were not found yet."""
        rows = self.database.all(
            "SELECT DISTINCT key FROM records WHERE red = 1 AND revoked = 0 AND key >= ? AND key < ?",
            (prefix, _after(prefix)),
        )
        return [row[0] for row in rows]

    def years(self) -> list[int]:
        """The years that have keys, ascending."""
        return [row[0] for row in self.database.all("SELECT year FROM years ORDER BY year")]

    def open_many(self, keys: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, Row] | None]:
        """(secret, values) for every (key, version) asked, in that order; None where the vault has none.

        Raises:
            FormatError: a row was damaged.
        """
        found: dict[tuple[bytes, int], bytes] = {}
        for at in range(0, len(keys), _LOOKUP_N):
            part = [key for key, _version in keys[at : at + _LOOKUP_N]]
            # By key alone: SQLite finds no index for pairs, and would read the whole table.
            rows = self.database.all(
                f"SELECT key, version, sealed FROM records WHERE key IN ({','.join('?' * len(part))})",  # noqa: S608
                part,
            )
            found.update(((key, version), sealed) for key, version, sealed in rows)
        answers: list[tuple[bytes, Row] | None] = []
        for key, version in keys:
            sealed = found.get((key, version))
            if sealed is None:
                answers.append(None)
            else:
                opened = self._open_record(key, version, sealed)
                answers.append((opened.secret, opened.values))
        return answers

    def mark(self, key: bytes) -> bytes | None:
        """The mark of a record: its fingerprint, also where that is not on the ledger."""
        row = self.database.one(
            "SELECT mark FROM records WHERE key = ? ORDER BY version DESC LIMIT 1", (key,)
        )
        return None if row is None else row[0]

    def marked(self, marks: Sequence[bytes]) -> dict[bytes, bytes]:
        """Key of one record that is not revoked for every mark (16 bytes) that the vault knows."""
        found: dict[bytes, bytes] = {}
        for at in range(0, len(marks), _LOOKUP_N):
            part = marks[at : at + _LOOKUP_N]
            holes = ",".join("?" * len(part))
            found.update(
                self.database.all(
                    f"SELECT mark, key FROM records WHERE version = 1 AND mark IN ({holes}) AND NOT EXISTS "  # noqa: S608
                    "(SELECT 1 FROM records AS other WHERE other.key = records.key AND other.revoked)",
                    part,
                )
            )
        return found

    # --- reasons ----------------------------------------------------------------------------

    def seal_reason(self, key: bytes, version: int, reason: int, salt: bytes, text: str) -> bytes:
        """The sealed part of a row of ``reasons``; ``version`` is the one that was made or revoked."""
        return self._store.seal(_REASONS, key, version, canonical.encode([reason, salt, text]))

    def reasons(self, key: bytes) -> dict[tuple[str, int], tuple[int, bytes, str]]:
        """(reason, salt, text) by (operation, version) of a record's certified or pending changes."""
        rows = self.database.all(
            "SELECT reasons.operation, version, sealed FROM reasons JOIN outbox USING (sequence) "
            "WHERE key = ? AND state != 2 ORDER BY sequence",
            (key,),
        )
        opened: dict[tuple[str, int], tuple[int, bytes, str]] = {}
        for operation, version, sealed in rows:
            reason, salt, text = canonical.decode(self._store.open(_REASONS, key, version, sealed))
            opened[operation, version] = (reason, salt, text)
        return opened

    def attested_through(self, kind: int) -> str | None:
        """The date last attested through, as far as this vault knows."""
        row = self.database.one("SELECT date FROM throughs WHERE kind = ?", (kind,))
        return None if row is None else str(row[0])


def _after(prefix: bytes) -> bytes:
    """A byte string above all record keys (37 bytes) that begin with ``prefix``, and below all others."""
    return prefix + b"\xff" * (RECORD_KEY_BYTES + 1 - len(prefix))


def _check_owner(store: SealedStore, chain_id: bytes, member: int) -> None:
    """The vault says whose it is; a new one is told now."""
    row = store.database.one("SELECT value FROM meta WHERE name = 'owner'")
    if row is None:
        with store.write() as connection:
            content = canonical.encode([_FORMAT, chain_id, member])
            # Another process may have been first: what it wrote stays.
            connection.execute(
                "INSERT OR IGNORE INTO meta VALUES ('owner', ?)",
                (store.seal(_META, b"owner", _FORMAT, content),),
            )
        row = store.database.one("SELECT value FROM meta WHERE name = 'owner'")
    owner = canonical.decode(store.open(_META, b"owner", _FORMAT, row[0] if row else b""))
    if owner != [_FORMAT, chain_id, member]:
        raise FormatError(
            f"{store.database.path}: expected the vault of member {member} on chain {chain_id.hex()}, "
            f"got one of member {owner[2]} on chain {owner[1].hex()}"
        )
