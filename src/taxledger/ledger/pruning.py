"""Removing what old blocks held: their transactions, results and votes. Nothing that a proof needs goes with them.

What stays for ever: every hash of the log, every header, the ids of transactions (so none counts twice), the state map,
co-signatures, and the links from one set of validators to the next. So evidence over any period is made and
verifies as before; only the transactions themselves can't be shown any more.

Where a store is whole from, ``Kept``, is in the same batch as what is deleted: a crash leaves both or neither.
"""

from __future__ import annotations

from taxledger.ledger.chain import Chain
from taxledger.ledger.chainreader import KEPT, MADE_AT, Kept, at, encode_kept

__all__ = ["engine_retain_height", "prune_blocks"]

_LEAVES_MAX = 2_000
"""Of one batch: the ledger thread is busy for some milliseconds."""


def prune_blocks(chain: Chain, keep_ms: int) -> bool:
    """Remove the oldest blocks that were made more than ``keep_ms`` before the newest certified one, some at a time.

    Block times are compared with each other: a clock that is wrong removes nothing. The newest certified block
    always stays.

    Args:
        chain: on its thread.
        keep_ms: how long the content of a block is kept.

    Returns:
        Whether there may be more to remove now.
    """
    kept = chain.kept()
    if chain.certified < kept.height:
        return False
    end_ms = chain.header(chain.certified).time_ms - keep_ms
    batch: dict[bytes, bytes | None] = {}
    height, leaves = kept.height, 0
    index = kept.index
    while height < chain.certified and leaves < _LEAVES_MAX:
        header = chain.header(height)
        if header.time_ms >= end_ms:
            break
        for place in range(header.first_index, header.index):
            batch[at(b"L", place)] = None
            batch[at(b"R", place)] = None
        batch[at(b"D", height)] = None
        batch[at(MADE_AT, height)] = None
        leaves += header.transactions + 1
        height, index = height + 1, header.size
    if height == kept.height:
        return False
    moved = Kept(height=height, index=index, log_height=kept.log_height, log_index=kept.log_index)
    batch[KEPT] = encode_kept(moved)
    chain.store.write(batch, sync=False)
    return leaves >= _LEAVES_MAX


def engine_retain_height(chain: Chain) -> int:
    """The oldest block that an engine which counts its own must keep; 0 for all."""
    kept = chain.kept()
    return chain.made_at(kept.height) if kept.height > 1 else 0
