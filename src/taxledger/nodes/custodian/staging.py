"""A batch to the vault: its records sealed, and what the ledger will be told of each of them *staged*.

Nothing is submitted here. An upload stages batch after batch, and ``submission.py`` makes transactions of
all that is staged. So how many enterprises fit in memory does not show on the ledger.

A staged row holds nothing but what will stand on the ledger. Its place is its place there, not that of its
row in a file: the order of the table tells no more than the ledger will.
"""

from __future__ import annotations

import os
from collections import defaultdict

from taxledger.ledger import canonical
from taxledger.ledger.operations import AmendChange
from taxledger.ledger.packedrows import RowPacker
from taxledger.ledger.records import NO_FINGERPRINT, commit, record_period
from taxledger.ledger.schemas import Schema
from taxledger.nodes.custodian.batches import Batches, Written
from taxledger.nodes.custodian.changeset import Batch, Change
from taxledger.nodes.custodian.matching import has_fingerprint
from taxledger.nodes.custodian.outbox import STAGE_ATTEST, STAGE_CHANGE
from taxledger.nodes.custodian.vault import Vault

__all__ = ["next_version", "stage"]

_RecordRow = tuple[bytes, int, int, int, int, bytes | None, bytes, int, bytes]
"""A row of the table ``records``."""
_StagedRow = tuple[int, int, int, bytes, bytes]
"""A row of the table ``staged``."""

_SECRET_BYTES, _NONCE_BYTES = 32, 12
_DRAW_BYTES = _SECRET_BYTES + _NONCE_BYTES


def stage(batch: Batch, vault: Vault, schema: Schema, files: list[str], number: int) -> None:
    """Makes a part of batch ``number`` durable in one commit: records, secrets, tags, what is to be submitted of them,
    and that they are of this batch.

    The keys of its years must be certified: records can't be taken back to other keys.
    """
    parts = [_records(batch, vault, schema, files, number), _changes(batch, vault, schema, files, number)]
    written = [Written(new.key, 1, new.file) for new in batch.new]
    written += [Written(each.key, each.version + 1, each.file) for each in batch.changes.values()]
    books = {book.entry.tag: book for book in batch.books.values()}
    months = defaultdict[bytes, set[int]](set)
    for new in batch.new:
        months[new.tag].add(new.month)
    with vault.database.write() as connection:
        connection.executemany(
            "INSERT OR IGNORE INTO tags VALUES (?, ?, ?)",
            [vault.tag_row(books[tag].entry) for tag in sorted(months)],
        )
        connection.executemany(
            "INSERT INTO rid_seeds VALUES (?, ?)",
            [row for tag in sorted(months) for row in books[tag].rids.rows(months[tag])],
        )
        for records, staged in parts:
            connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", records)
            connection.executemany("INSERT INTO staged VALUES (?, ?, ?, ?, ?)", staged)
        Batches(vault).add_part(connection, number, written)
        connection.executemany(
            "UPDATE records SET red = 2 WHERE key = ?", [(key,) for key in batch.red_matched]
        )


def _records(
    batch: Batch, vault: Vault, schema: Schema, files: list[str], number: int
) -> tuple[list[_RecordRow], list[_StagedRow]]:
    """Vault rows and staged rows of the new records, ascending by year and place."""
    commit_packed, seal, chain_id = RowPacker(schema).commit, vault.seal_record, vault.chain_id
    kind, version = schema.kind, schema.number
    records: list[_RecordRow] = []
    staged: list[_StagedRow] = []
    # Sorted for the two tables' sake: their pages are then written once each.
    ordered = sorted(
        (new.year, new.tag + bytes((new.month, version, new.status)) + new.rid, at)
        for at, new in enumerate(batch.new)
    )
    draw = os.urandom(_DRAW_BYTES * len(ordered))
    at = 0
    for year, place, index in ordered:
        new = batch.new[index]
        secret = draw[at : at + _SECRET_BYTES]
        nonce = draw[at + _SECRET_BYTES : at + _DRAW_BYTES]
        at += _DRAW_BYTES
        commitment = commit_packed(chain_id, new.key, 1, secret, new.packed)
        fingerprint = new.mark if new.on_ledger and new.mark is not None else NO_FINGERPRINT
        staged.append((STAGE_ATTEST, kind, year, place, commitment + fingerprint))
        sealed = seal(new.key, 1, secret, version, new.values, files[new.file], new.line, nonce, number)
        records.append((new.key, 1, new.status, 0, new.red, new.mark, new.content, 0, sealed))
    return records, staged


def _changes(
    batch: Batch, vault: Vault, schema: Schema, files: list[str], number: int
) -> tuple[list[_RecordRow], list[_StagedRow]]:
    """Vault rows and staged rows of the changes."""
    records: list[_RecordRow] = []
    staged: list[_StagedRow] = []
    marks = {new.key: new.mark for new in batch.new} if batch.changes else {}
    for each in batch.changes.values():
        entry, sealed, mark = next_version(
            vault, schema, each, each.mark or marks.get(each.key), files, batch=number
        )
        year, _month = record_period(schema, each.values)
        place = each.key + each.version.to_bytes(4, "big")
        content = canonical.encode(
            [entry.status, entry.schema, entry.commitment, entry.fingerprint, entry.reason]
        )
        staged.append((STAGE_CHANGE, schema.kind, year, place, content))
        records.append((each.key, each.version + 1, each.status, 0, each.red, mark, each.content, 0, sealed))
    return records, staged


def next_version(
    vault: Vault,
    schema: Schema,
    change: Change,
    mark: bytes | None,
    files: list[str],
    reason_digest: bytes | None = None,
    batch: int = 0,
) -> tuple[AmendChange, bytes, bytes | None]:
    """(entry of an ``amend``, sealed vault row, mark) of a record's next version, under a fresh secret."""
    mark = mark or vault.mark(change.key)
    secret = os.urandom(_SECRET_BYTES)
    version = change.version + 1
    on_ledger = has_fingerprint(schema, change.values)
    entry = AmendChange(
        key=change.key,
        version=change.version,
        status=change.status,
        schema=schema.number,
        commitment=commit(schema, vault.chain_id, change.key, version, secret, change.values),
        fingerprint=mark if on_ledger else None,
        reason=change.reason,
        reason_digest=reason_digest,
    )
    file = files[change.file] if change.file >= 0 else ""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = vault.seal_record(
        change.key, version, secret, schema.number, change.values, file, change.line, nonce, batch
    )
    return entry, sealed, mark
