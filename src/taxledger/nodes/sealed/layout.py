"""What a sealed store is made of: its tables, and which columns of them are sealed, with which key.

Declared, so that new data keys can be made without knowing what a store is for: every sealed cell is found
through its layout, and a store refuses to seal what its layout does not name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from taxledger.ledger.errors import check

__all__ = ["META_TABLE", "SealedColumn", "StoreLayout"]

META_TABLE = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
"""Every sealed store has it: the wrapped keys, and what its module puts there itself."""

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedColumn:
    """One column whose cells ``SealedStore.seal`` made.

    Attributes:
        table, column: where it stands.
        key: the column that holds what was given to ``seal`` as ``key``; a whole number stands for its
            ``key_bytes`` bytes, big-endian.
        version: the column that holds what was given as ``version``; None where that is always 1.
        about: what was given to ``seal`` as ``table``: by default the table's name.
        purpose: which data key seals it.
    """

    table: str
    key: str
    version: str | None = None
    column: str = "sealed"
    about: str = ""
    purpose: str = "rows"
    key_bytes: int = 8

    def __post_init__(self) -> None:
        names = (self.table, self.key, self.version or "x", self.column, self.purpose)
        check(all(_NAME.match(each) for each in names), "a sealed column with a name that is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLayout:
    """A kind of sealed store.

    Attributes:
        name: e.g. ``vault``; a home keeps it in ``<name>.sqlite``.
        tables: CREATE statements (``IF NOT EXISTS``), ``meta`` not among them.
        columns: every sealed column.
        sealed_meta: names of rows of ``meta`` whose value is sealed: table ``meta``, key the name,
            version 1, purpose ``rows``.
    """

    name: str
    tables: tuple[str, ...]
    columns: tuple[SealedColumn, ...]
    sealed_meta: tuple[str, ...] = ()

    @property
    def purposes(self) -> tuple[str, ...]:
        """Data keys of the store: ``rows``, and any other that a column names."""
        return tuple(dict.fromkeys(["rows", *(each.purpose for each in self.columns)]))

    def key_purposes(self) -> dict[bytes, str]:
        """Purpose by what ``seal`` is given as ``table``."""
        named = {(each.about or each.table).encode(): each.purpose for each in self.columns}
        return {b"meta": "rows", **named}
