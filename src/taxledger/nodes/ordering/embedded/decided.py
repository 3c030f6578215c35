"""When a quorum decided another header than executing the sequencer's batch gives: whose fault is it?

    block    peer → validator     [1, "block", height]     answered with [1, "block", header leaf, [result …]] | nil

The votes name the header by its hash alone, and the sequencer may have sent another batch than was decided. So the
header itself is asked for, from anybody: its bytes have that hash, its results those of its root, and they name the
transactions. Where the batch we were given holds exactly these, it was our own state that led elsewhere: this node
has diverged, and stops. Where it does not, the sequencer lied, and its next step may bring the right one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError, InputError, TaxledgerError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.header import Header, decode_header
from taxledger.ledger.merkle import root_of
from taxledger.ledger.rules import decode_result
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica

__all__ = ["Unlike", "ask_block", "on_block"]

_ANSWER_BYTES_MAX = 1 << 20
_ASK_MS = 2_000
_FIELDS = (
    *("previous_header_hash", "first_index", "transactions", "state_root", "state_count"),
    *("results_root", "validators_hash", "next_validators_hash"),
)


class Unlike(NamedTuple):
    """A decision that the batch it came with does not lead to: decided header hash, time and batch."""

    height: int
    header_hash: bytes
    time_ms: int
    transactions: tuple[bytes, ...]


async def on_block(replica: Replica, message: Any) -> Any:
    """Peer verb ``block``: a decided block's header and results."""
    if type(message) is not list or len(message) != 3 or type(message[2]) is not int:
        raise InputError('expected [1, "block", height]')

    def read() -> Any:
        chain = replica.application.chain
        if not 1 <= message[2] <= chain.tip.height:
            return None
        return [1, "block", chain.header_leaf(message[2]), list(chain.results(message[2]))]

    return await replica.run(read)


async def ask_block(replica: Replica, peers: Sequence[PeerClient], unlike: Unlike) -> None:
    """Ask until somebody has the block; halts this node where it is the one that diverged."""
    for peer in peers:
        with contextlib.suppress(TaxledgerError):
            data = await peer.call(
                "block",
                [1, "block", unlike.height],
                timeout_ms=_ASK_MS,
                answer_bytes_max=_ANSWER_BYTES_MAX,
            )
            header, ids = _read(data, unlike.header_hash)
            await replica.run(_judge, replica, unlike, header, ids)
            return


def _read(data: bytes, header_hash: bytes) -> tuple[Header, list[bytes]]:
    """The decided header and the ids of its transactions. Raises InputError: it is not that block."""
    value = canonical.decode(data, bytes_max=_ANSWER_BYTES_MAX)
    if (
        type(value) is not list
        or len(value) != 4
        or type(value[2]) is not bytes
        or type(value[3]) is not list
    ):
        raise FormatError("expected a block")
    header = decode_header(value[2])
    results = [decode_result(each) for each in value[3]]
    if log_leaf(value[2]) != header_hash or root_of([*map(log_leaf, value[3])]) != header.results_root:
        raise FormatError("expected the header that was decided, with its results")
    return header, [each.leaf_hash for each in results]


def _judge(replica: Replica, unlike: Unlike, header: Header, ids: list[bytes]) -> None:
    """On the ledger thread."""
    application = replica.application
    if unlike.height != application.chain.tip.height + 1:
        return
    batch = {log_leaf(raw): raw for raw in unlike.transactions}
    if header.time_ms != unlike.time_ms or any(each not in batch for each in ids):
        return
    ours = application.deliver(header.time_ms, [batch[each] for each in ids])
    if ours.tip.header_hash == unlike.header_hash:
        return
    unequal = [name for name in _FIELDS if getattr(ours.header, name) != getattr(header, name)]
    replica.halt(
        f"this node diverged from the others before height {unlike.height}: executing the very transactions that "
        f"a quorum decided gives header {ours.tip.header_hash.hex()[:16]}… instead of "
        f"{unlike.header_hash.hex()[:16]}…, which differs in {', '.join(unequal)} (state root "
        f"{ours.header.state_root.hex()[:16]}… instead of {header.state_root.hex()[:16]}…); it stopped before it "
        "signed anything more"
    )
