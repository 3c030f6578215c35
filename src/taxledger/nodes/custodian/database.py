"""The vault's tables, and which of their columns are sealed."""

from __future__ import annotations

from taxledger.nodes.sealed.database import Database
from taxledger.nodes.sealed.layout import SealedColumn, StoreLayout

__all__ = ["VAULT", "Database"]

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS years (
        year INTEGER PRIMARY KEY, sealed BLOB NOT NULL)
    """,
    """
    CREATE TABLE IF NOT EXISTS tags (
        lookup BLOB PRIMARY KEY, tag BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL) WITHOUT ROWID
    """,
    # Place: tag and month byte. See ``rids.py``.
    """
    CREATE TABLE IF NOT EXISTS rid_seeds (place BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID
    """,
    # ``sequence`` is that of a change by hand; 0 for what an upload made.
    """
    CREATE TABLE IF NOT EXISTS records (
        key BLOB NOT NULL, version INTEGER NOT NULL, status INTEGER NOT NULL, revoked INTEGER NOT NULL,
        red INTEGER NOT NULL, mark BLOB, content BLOB NOT NULL, sequence INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (key, version)) WITHOUT ROWID
    """,
    """
    CREATE INDEX IF NOT EXISTS records_mark ON records (mark) WHERE version = 1 AND mark IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS records_red ON records (key) WHERE red = 1
    """,
    """
    CREATE TABLE IF NOT EXISTS refused_records (
        key BLOB NOT NULL, version INTEGER NOT NULL, sequence INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (key, version, sequence)) WITHOUT ROWID
    """,
    # What an upload has yet to submit: see ``staging.py``. No column of it is sealed.
    """
    CREATE TABLE IF NOT EXISTS staged (
        stage INTEGER NOT NULL, kind INTEGER NOT NULL, year INTEGER NOT NULL, place BLOB NOT NULL,
        entry BLOB NOT NULL, PRIMARY KEY (stage, kind, year, place)) WITHOUT ROWID
    """,
    # The two of ``batches.py``.
    """
    CREATE TABLE IF NOT EXISTS batches (
        batch INTEGER PRIMARY KEY, kind INTEGER NOT NULL, state INTEGER NOT NULL, begun_ms INTEGER NOT NULL,
        sealed BLOB NOT NULL)
    """,
    """
    CREATE TABLE IF NOT EXISTS batch_parts (
        batch INTEGER NOT NULL, part INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (batch, part))
        WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS reasons (
        key BLOB NOT NULL, version INTEGER NOT NULL, operation TEXT NOT NULL, sequence INTEGER NOT NULL,
        sealed BLOB NOT NULL, PRIMARY KEY (key, version, operation, sequence)) WITHOUT ROWID
    """,
    # The three of ``erasures.py``.
    """
    CREATE TABLE IF NOT EXISTS erasures (
        erasure BLOB PRIMARY KEY, state INTEGER NOT NULL, sealed BLOB NOT NULL) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS erased (
        key BLOB PRIMARY KEY, erasure BLOB NOT NULL, state INTEGER NOT NULL, sequence INTEGER) WITHOUT ROWID
    """,
    """
    CREATE INDEX IF NOT EXISTS erased_unsettled ON erased (state) WHERE state < 2
    """,
    """
    CREATE INDEX IF NOT EXISTS erased_erasure ON erased (erasure)
    """,
    """
    CREATE TABLE IF NOT EXISTS notices (
        notice BLOB PRIMARY KEY, erasure BLOB NOT NULL, confirmed INTEGER NOT NULL, sealed BLOB NOT NULL)
        WITHOUT ROWID
    """,
    """
    CREATE INDEX IF NOT EXISTS notices_erasure ON notices (erasure)
    """,
    # Which records a predicate came from, and how far the ledger was looked through for changes of such: see
    # ``predicatebook.py``. ``lookup`` and ``predicate`` are keyed hashes.
    """
    CREATE TABLE IF NOT EXISTS predicate_inputs (
        number INTEGER PRIMARY KEY, lookup BLOB NOT NULL, predicate BLOB NOT NULL, sealed BLOB NOT NULL)
    """,
    """
    CREATE INDEX IF NOT EXISTS predicate_inputs_lookup ON predicate_inputs (lookup)
    """,
    """
    CREATE INDEX IF NOT EXISTS predicate_inputs_predicate ON predicate_inputs (predicate)
    """,
    """
    CREATE TABLE IF NOT EXISTS predicate_watch (
        id INTEGER PRIMARY KEY CHECK (id = 1), height INTEGER NOT NULL, made INTEGER NOT NULL)
    """,
    """
    CREATE TABLE IF NOT EXISTS throughs (kind INTEGER PRIMARY KEY, date TEXT NOT NULL)
    """,
    """
    CREATE TABLE IF NOT EXISTS outbox (
        sequence INTEGER PRIMARY KEY, stage INTEGER NOT NULL, operation TEXT NOT NULL, id BLOB NOT NULL,
        former BLOB NOT NULL, raw BLOB, exp_s INTEGER NOT NULL, state INTEGER NOT NULL, code INTEGER,
        height INTEGER, log_index INTEGER)
    """,
    """
    CREATE INDEX IF NOT EXISTS outbox_pending ON outbox (stage, sequence) WHERE state = 0
    """,
)

VAULT = StoreLayout(
    name="vault",
    tables=_TABLES,
    columns=(
        SealedColumn(table="records", key="key", version="version"),
        SealedColumn(table="refused_records", key="key", version="version", about="records"),
        SealedColumn(table="reasons", key="key", version="version"),
        SealedColumn(table="batches", key="batch"),
        SealedColumn(table="batch_parts", key="batch", version="part"),
        SealedColumn(table="tags", key="tag"),
        SealedColumn(table="rid_seeds", key="place"),
        SealedColumn(table="erasures", key="erasure"),
        SealedColumn(table="notices", key="notice"),
        SealedColumn(table="predicate_inputs", key="number"),
        SealedColumn(table="years", key="year", key_bytes=2, purpose="years"),
    ),
    sealed_meta=("owner",),
)
"""Year keys are sealed with a data key of their own. Whoever holds an issuer's keys of a year can compute the
pseudonym of any subject, and the fingerprint of any invoice, and look them up on the ledger: such guesses can be
tested, also after the records themselves were erased. So what opens them can be kept apart from what opens
records, and be destroyed without them (docs/decisions/0014-keys-of-sealed-stores.md)."""
