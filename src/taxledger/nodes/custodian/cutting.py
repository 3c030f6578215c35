"""A batch to transactions: sorted by tag over all enterprises, cut to the limits, each with its vault rows.

Sorting is what keeps order and neighbourhood on the ledger from telling which tags belong to one enterprise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from taxledger.ledger import limits
from taxledger.ledger.operations import AmendChange, AttestGroup, encode_amend, encode_attest
from taxledger.ledger.packedrows import RowPacker
from taxledger.ledger.records import NO_FINGERPRINT, commit
from taxledger.ledger.schemas import Schema
from taxledger.nodes.custodian.matching import Batch, Change, NewRecord, has_fingerprint
from taxledger.nodes.custodian.outbox import STAGE_ATTEST, STAGE_CHANGE, Outbox, Transaction
from taxledger.nodes.custodian.vault import Vault

__all__ = ["RecordRow", "cut_attests", "cut_changes"]

RecordRow = tuple[bytes, int, int, int, int, bytes | None, bytes, int, bytes]
"""A row of the table ``records``."""

_SECRET_BYTES, _NONCE_BYTES = 32, 12
_ENTRY_BYTES = 64
_GROUP_BYTES = 40
"""Everything of a group but its entries: array header, tag, month, schema, status, header of the entries."""
_FRAME_BYTES = 384
"""Everything of a transaction but its groups: COSE headers, signature, kind, year."""


@dataclass(slots=True, kw_only=True)
class _Cutter:
    """Counts bytes until a transaction is full."""

    used: int = _FRAME_BYTES
    entries: int = 0
    groups: int = 0

    def fits(self, *, opens_group: bool) -> bool:
        grown = self.used + _ENTRY_BYTES + (_GROUP_BYTES if opens_group else 0)
        return (
            grown <= limits.leaf_bytes_max
            and self.entries < limits.attest_entries_max
            and (not opens_group or self.groups < limits.attest_groups_max)
        )

    def add(self, *, opens_group: bool) -> None:
        self.used += _ENTRY_BYTES + (_GROUP_BYTES if opens_group else 0)
        self.entries += 1
        self.groups += opens_group


def _group_of(new: NewRecord) -> tuple[int, bytes, int, int]:
    return new.year, new.tag, new.month, new.status


def _parts(news: list[NewRecord]) -> Iterator[list[NewRecord]]:
    """The records in the order of the ledger, cut where the year changes or a transaction is full."""
    part: list[NewRecord] = []
    cutter = _Cutter()
    for new in sorted(news, key=lambda each: (*_group_of(each), each.rid)):
        opens = not part or _group_of(part[-1]) != _group_of(new)
        if part and (part[-1].year != new.year or not cutter.fits(opens_group=opens)):
            yield part
            part, cutter, opens = [], _Cutter(), True
        part.append(new)
        cutter.add(opens_group=opens)
    if part:
        yield part


def cut_attests(
    batch: Batch, vault: Vault, schema: Schema, outbox: Outbox, files: list[str]
) -> Iterator[tuple[Transaction, list[RecordRow]]]:
    """Signed ``attest`` transactions for a batch's new records, each with its vault rows; stores nothing."""
    packer = RowPacker(schema)
    for part in _parts(batch.new):
        draw = os.urandom((_SECRET_BYTES + _NONCE_BYTES) * len(part))
        entries: list[bytes] = []
        sealed: list[bytes] = []
        for number, new in enumerate(part):
            at = (_SECRET_BYTES + _NONCE_BYTES) * number
            secret, nonce = (
                draw[at : at + _SECRET_BYTES],
                draw[at + _SECRET_BYTES : at + _SECRET_BYTES + _NONCE_BYTES],
            )
            commitment = packer.commit(vault.chain_id, new.key, 1, secret, new.packed)
            mark = new.mark if new.on_ledger and new.mark is not None else NO_FINGERPRINT
            entries.append(new.rid + commitment + mark)
            sealed.append(
                vault.seal_record(
                    new.key, 1, secret, schema.number, new.values, files[new.file], new.line, nonce
                )
            )
        groups = [
            AttestGroup(
                tag=tag, month=month, schema=schema.number, status=status,
                entries=b"".join(entry for _new, entry in members),
            )
            for (_year, tag, month, status), members in groupby(
                zip(part, entries, strict=True), key=lambda pair: _group_of(pair[0])
            )
        ]  # fmt: skip
        payload = encode_attest(schema.kind, part[0].year, None, groups)
        transaction = outbox.prepare(STAGE_ATTEST, "attest", payload)
        yield (
            transaction,
            [
                (new.key, 1, new.status, 0, new.red, new.mark, new.content, transaction.sequence, row)
                for new, row in zip(part, sealed, strict=True)
            ],
        )


def cut_changes(
    batch: Batch, vault: Vault, schema: Schema, outbox: Outbox, files: list[str]
) -> Iterator[tuple[Transaction, list[RecordRow]]]:
    """Signed ``amend`` transactions for all changes of a batch, sorted by key, each with its vault rows."""
    ordered = sorted(batch.changes.values(), key=lambda each: each.key)
    marks = {new.key: new.mark for new in batch.new}
    for at in range(0, len(ordered), limits.amend_changes_max):
        part = ordered[at : at + limits.amend_changes_max]
        built = [next_version(vault, schema, each, marks.get(each.key), files) for each in part]
        transaction = outbox.prepare(
            STAGE_CHANGE, "amend", encode_amend(schema.kind, [change for change, _sealed, _mark in built])
        )
        yield (
            transaction,
            [
                (
                    each.key, each.version + 1, each.status, 0, each.red, mark, each.content,
                    transaction.sequence, sealed,
                )
                for each, (_change, sealed, mark) in zip(part, built, strict=True)
            ],
        )  # fmt: skip


def next_version(
    vault: Vault,
    schema: Schema,
    change: Change,
    mark: bytes | None,
    files: list[str],
    reason_digest: bytes | None = None,
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
    sealed = vault.seal_record(
        change.key, version, secret, schema.number, change.values, file, change.line, os.urandom(_NONCE_BYTES)
    )
    return entry, sealed, mark
