"""Watches certified blocks for changes of what predicates came from, and supersedes those.

Driven by what is certified, not by who caused it: an upload, a change by hand, an erasure, another process. Only
this member can change its records, so its own transactions that took effect are all there is to look at. The order:

    1. blocks above the height noted are read, and the predicates that their changes touch are found
    2. those are superseded and certified (``superseding.py``), under the vault's lock
    3. the height is noted, unless new predicates came meanwhile: then the blocks are read again

A crash anywhere leaves the height where it was: the same blocks are read again, which changes nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from taxledger.ledger.consent import PREDICATE_KIND
from taxledger.ledger.operations import Amend, Attest, Erase, Revoke, decode_operation
from taxledger.ledger.rules import decode_result
from taxledger.ledger.statekeys import split_record_key
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.custodian.outbox import Outbox, Submitter
from taxledger.nodes.custodian.predicatebook import PredicateBook
from taxledger.nodes.custodian.superseding import supersede
from taxledger.nodes.custodian.tags import require_accepted
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.identity.memberkeys import TransactionSigner

__all__ = ["Blocks", "LedgerBlock", "changed_places", "watch_blocks"]

_STEP_BLOCKS = 32
"""Local: blocks read before the height is noted. An upload that has the vault makes us read so many again."""


class LedgerBlock(Protocol):
    """A block: its transactions, and the result of each."""

    @property
    def transactions(self) -> tuple[bytes, ...]: ...
    @property
    def results(self) -> tuple[bytes, ...]: ...


class Blocks(Protocol):
    """Certified blocks by height; ``ChainReader`` is one."""

    def block(self, height: int) -> LedgerBlock: ...


def changed_places(block: LedgerBlock, member: int) -> Iterator[tuple[bytes, int]]:
    """(tag, month byte) of every record of this member that a block made or changed, predicates left out."""
    for leaf, result in zip(block.transactions, block.results, strict=True):
        transaction = decode_transaction(leaf)
        if transaction.member != member or decode_result(result).code:
            continue
        operation = decode_operation(transaction.payload)
        if isinstance(operation, Attest) and operation.kind != PREDICATE_KIND:
            yield from ((each.tag, each.month) for each in operation.groups)
        elif isinstance(operation, Amend | Revoke | Erase) and operation.kind != PREDICATE_KIND:
            for change in operation.changes:
                _issuer, _kind, tag, month, _rid = split_record_key(change.key)
                yield tag, month


def watch_blocks(
    vault: Vault,
    signer: TransactionSigner,
    submitter: Submitter,
    blocks: Blocks,
    height: int,
    *,
    clock: Callable[[], float] = time.time,
) -> int:
    """Acts upon everything certified up to a height; returns how many predicates it superseded.

    Args:
        vault: the custodian's; it says member.
        signer, submitter: as of ``outbox.Outbox``.
        blocks: certified up to ``height`` at least.
        clock: seconds since 1970.

    Raises:
        UnavailableError: an upload has the vault, or not certified in time: call again. RefusedError: the
        ledger takes no change from this member.
    """
    book, superseded = PredicateBook(vault), 0
    while True:
        before = book.watched()
        if before is None or before.height >= height:
            return superseded
        until = min(height, before.height + _STEP_BLOCKS)
        touched = _touched(vault, book, blocks, range(before.height + 1, until + 1))
        if touched:
            superseded += _supersede(vault, signer, submitter, touched, clock)
        book.advance(before, until)


def _touched(vault: Vault, book: PredicateBook, blocks: Blocks, heights: range) -> set[bytes]:
    newest: dict[tuple[bytes, int], int] = {}
    for height in heights:
        newest.update(dict.fromkeys(changed_places(blocks.block(height), vault.member), height))
    depending = {tag: book.depending(tag) for tag, _month in newest}
    return {
        each.predicate
        for (tag, month), height in newest.items()
        for each in depending[tag]
        if each.is_touched(month, height)
    }


def _supersede(
    vault: Vault,
    signer: TransactionSigner,
    submitter: Submitter,
    predicates: set[bytes],
    clock: Callable[[], float],
) -> int:
    with vault.exclusive():
        outbox = Outbox(vault, signer, submitter, clock)
        try:
            # Also what an earlier run of ours, that was killed, had prepared.
            require_accepted(outbox.resume())
            return supersede(vault, outbox, predicates)
        finally:
            outbox.close()
