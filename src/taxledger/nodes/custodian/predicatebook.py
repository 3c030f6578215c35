"""What the vault remembers about predicates: from which records each came, and how far the ledger was watched.

A predicate depends on *places*: (tag, months) of its input range. A row of ``predicate_inputs`` says that one
predicate depends on one tag. Whose records these are, and which consent the predicate is of, stands in the sealed
part only; what serves to find rows are keyed hashes, so the file alone links no pseudonyms.

Invariant: a change of an input in a block above ``height`` of ``predicate_watch`` may still have to be acted upon,
one at or below it has been. A new predicate takes that height back to the one that it was computed at, in the
commit that stores it: a change between the two is looked at again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taxledger.ledger import canonical
from taxledger.nodes.custodian.vault import Vault

__all__ = ["Dependence", "PredicateBook", "Watched"]

_TABLE = b"predicate_inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """That a predicate came from the records of one tag.

    Attributes:
        predicate: the record's key, 37 bytes.
        months: month bytes of the records that matter; None for the whole year.
        height: of the state it was computed at; only later changes matter.
    """

    predicate: bytes
    months: frozenset[int] | None
    height: int

    def is_touched(self, month: int, height: int) -> bool:
        """Whether a change of a record of this month byte, in the block of this height, matters."""
        return height > self.height and (self.months is None or month in self.months)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How far the ledger was watched.

    Attributes:
        height: every change up to this block was acted upon.
        made: rows ever made; tells whether predicates came meanwhile.
    """

    height: int
    made: int


class PredicateBook:
    """The tables ``predicate_inputs`` and ``predicate_watch`` of a vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def watched(self) -> Watched | None:
        """How far the ledger was watched; None while there never was a predicate."""
        row = self._vault.database.one("SELECT height, made FROM predicate_watch")
        return None if row is None else Watched(height=row[0], made=row[1])

    def add(
        self,
        connection: sqlite3.Connection,
        height: int,
        predicates: Mapping[bytes, Mapping[bytes, frozenset[int] | None]],
    ) -> None:
        """Adds to the commit that stores new predicates, under ``Vault.exclusive``.

        Args:
            connection: of the commit.
            height: of the state that they were computed at.
            predicates: record key -> tag -> months, see ``Dependence``.
        """
        known = self.watched()
        made = 0 if known is None else known.made
        for key, places in predicates.items():
            for tag, months in places.items():
                made += 1
                content = [key, None if months is None else sorted(months), height]
                sealed = self._vault.store.seal(_TABLE, made.to_bytes(8, "big"), 1, canonical.encode(content))
                connection.execute(
                    "INSERT INTO predicate_inputs VALUES (?, ?, ?, ?)",
                    (made, self._lookup("tag", tag), self._lookup("predicate", key), sealed),
                )
        connection.execute(
            "INSERT INTO predicate_watch VALUES (1, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET height = min(height, excluded.height), made = excluded.made",
            (height, made),
        )

    def depending(self, tag: bytes) -> list[Dependence]:
        """Which predicates depend on records of a tag (16 bytes)."""
        rows = self._vault.database.all(
            "SELECT number, sealed FROM predicate_inputs WHERE lookup = ? ORDER BY number",
            (self._lookup("tag", tag),),
        )
        found = []
        for number, sealed in rows:
            opened = self._vault.store.open(_TABLE, number.to_bytes(8, "big"), 1, sealed)
            key, months, height = canonical.decode(opened)
            found.append(
                Dependence(predicate=key, months=None if months is None else frozenset(months), height=height)
            )
        return found

    def forget(self, predicates: Iterable[bytes]) -> None:
        """Drops what is known of predicates that are superseded: they can't become valid again."""
        lookups = [(self._lookup("predicate", key),) for key in predicates]
        if lookups:
            with self._vault.database.write() as connection:
                connection.executemany("DELETE FROM predicate_inputs WHERE predicate = ?", lookups)

    def advance(self, before: Watched, height: int) -> bool:
        """Notes that the ledger was watched up to a height; False when predicates came meanwhile."""
        with self._vault.database.write() as connection:
            done = connection.execute(
                "UPDATE predicate_watch SET height = ? WHERE height = ? AND made = ?",
                (height, before.height, before.made),
            )
        return done.rowcount == 1

    def _lookup(self, what: str, name: bytes) -> bytes:
        return self._vault.store.lookup(canonical.encode([f"predicate_input/{what}", name]))
