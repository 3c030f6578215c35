"""A record's history, read back from the log: every transaction that made or changed it, oldest first."""

from __future__ import annotations

from collections.abc import Iterator

from taxledger.api.reader import RecordChange
from taxledger.ledger import canonical, statekeys
from taxledger.ledger.errors import FormatError
from taxledger.ledger.operations import ENTRY_BYTES, Amend, Attest, Erase, Revoke, decode_operation
from taxledger.ledger.records import Status
from taxledger.ledger.rules import decode_result
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.replica import CertifiedState

__all__ = ["history_of"]


def history_of(state: CertifiedState, key: bytes) -> list[RecordChange]:
    """The certified changes of a record; empty when the key is not in the map.

    Raises:
        FormatError: not a record key.
    """
    statekeys.split_record_key(key)
    value = state.view.get(key)
    if value is None:
        return []
    heights = [canonical.decode(value)[5]]
    while (earlier := state.chain.replaced_at(key, heights[-1])) is not None:
        heights.append(earlier)
    changes: list[RecordChange] = []
    for height in reversed(heights):
        changes += _changes_in(state, height, key, changes[-1].version if changes else 0)
    return changes


def _changes_in(state: CertifiedState, height: int, key: bytes, version: int) -> Iterator[RecordChange]:
    block = state.chain.block(height)
    time_ms = state.chain.header(height).time_ms
    _, kind, tag, month, rid = statekeys.split_record_key(key)
    for leaf, result_bytes in zip(block.transactions, block.results, strict=True):
        result = decode_result(result_bytes)
        if result.code != 0:
            continue
        transaction = decode_transaction(leaf)
        try:
            operation = decode_operation(transaction.payload)
        except FormatError:
            continue
        found: tuple[str, int, int, int | None, bytes | None] | None = None
        if isinstance(operation, Attest) and operation.kind == kind:
            for group in operation.groups:
                if (group.tag, group.month) == (tag, month) and _has(group.entries, rid):
                    found = ("attest", 1, group.status, None, None)
        elif isinstance(operation, Amend):
            for change in operation.changes:
                if change.key == key:
                    found = ("amend", change.version + 1, change.status, change.reason, change.reason_digest)
        elif isinstance(operation, Revoke | Erase):
            erased = isinstance(operation, Erase)
            what, became = ("erase", Status.ERASED) if erased else ("revoke", Status.REVOKED)
            for each in operation.changes:
                if each.key == key:
                    found = (what, each.version, became, each.reason, each.reason_digest)
        if found is not None:
            name, version, status, reason, digest = found
            yield RecordChange(
                operation=name,
                version=version,
                status=int(status),
                member=transaction.member,
                transaction=transaction.id,
                height=height,
                time_ms=time_ms,
                reason=reason,
                reason_digest=digest,
            )


def _has(entries: bytes, rid: bytes) -> bool:
    return any(entries[at : at + 16] == rid for at in range(0, len(entries), ENTRY_BYTES))
