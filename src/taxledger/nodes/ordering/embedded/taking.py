"""Taking a block that others decided: the one way by which one comes into a ledger, in a running node or not."""

from __future__ import annotations

from taxledger.ledger import limits
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.execute import Executed
from taxledger.nodes.application import Application
from taxledger.nodes.ordering.embedded.messages import DecidedBlock

__all__ = ["execute_decided"]


def execute_decided(
    application: Application, block: DecidedBlock, pending: Executed | None = None
) -> Executed:
    """The next block, executed here and found to be what a quorum decided; to be committed.

    Args:
        application: of this node.
        block: with its votes; without its batch where this node voted for it.
        pending: what this node executed last on its tip, if anything.

    Raises:
        RefusedError: not the next one, or its batch does not give the header that was decided.
        VerificationError: the votes don't decide it.
    """
    chain = application.chain
    if block.height != chain.tip.height + 1:
        raise RefusedError("behind", f"expected block {chain.tip.height + 1}, got {block.height}")
    if chain.tip.height - chain.certified >= limits.uncertified_blocks_max:
        raise RefusedError("uncertified", "too many blocks wait for their co-signatures")
    application.verify_decision(block.height, block.header_hash, block.votes)
    if pending is not None and pending.tip.header_hash == block.header_hash:
        return pending
    # We voted otherwise, or not at all: what a quorum decided stands, our own header is dropped.
    voted = chain.voted(block.height)
    transactions = block.transactions
    time_ms = block.time_ms
    if transactions is None:
        if voted is None or voted.header_hash != block.header_hash:
            raise RefusedError("batch_missing", f"the batch of block {block.height} is needed")
        transactions, time_ms = voted.transactions, voted.time_ms
    executed = application.deliver(time_ms, transactions)
    if executed.tip.header_hash != block.header_hash:
        raise RefusedError(
            "diverged",
            f"executing the batch of block {block.height} gives {executed.tip.header_hash.hex()}, "
            f"a quorum decided {block.header_hash.hex()}",
        )
    return executed
