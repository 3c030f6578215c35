"""Two durable steps by which a node's ledger goes over to another engine; see ``handover.py`` for what they mean.

1. ``begin_handover``: the node takes no part in its present engine any more. Durable *before* the node signs
   anything under the new origin.
2. ``hand_over``: everything else, in one batch.

A crash before, between or after them leaves a ledger that opens; a node starts with neither engine between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from taxledger.ledger import canonical
from taxledger.ledger.chain import Chain
from taxledger.ledger.chainreader import HANDING_OVER, PRESENT, at
from taxledger.ledger.errors import check
from taxledger.ledger.handover import Handover, encode_handover

__all__ = ["begin_handover", "hand_over"]


def begin_handover(chain: Chain, engine: str) -> None:
    """Make durable that this node takes no part in its present engine any more.

    Only when this returns may it sign a checkpoint under the new origin: what it has not decided or voted for by
    now, it never will under the present engine (a handover itself may complete what is under way, ``levelling.py``).
    """
    check(engine != chain.engine, f"this ledger is ordered by {engine} already")
    chain.store.write({HANDING_OVER: canonical.encode([engine])})


def hand_over(
    chain: Chain, handover: Handover, cosigns: Sequence[tuple[int, int, bytes]], *, own: bytes | None = None
) -> None:
    """Go over to another engine, in one batch: from then on every checkpoint is under the new origin.

    The signing journal stays as it is: size and root are the same. The vote journalled for the height after the tip
    goes: no vote is ever given under the former engine again.

    Args:
        chain: on which ``begin_handover`` was called.
        handover: after the tip, all of which is certified.
        cosigns: those of the handover's note, ascending by member: what answers show from now on.
        own: our own co-signature message among them, if any.
    """
    height = chain.tip.height
    check(handover.former == chain.engine, f"expected a handover from {chain.engine}")
    check(handover.engine == chain.handing_over(), "a handover goes to the engine with which it was begun")
    check(handover.height == height == chain.certified, "a handover follows the newest block, certified")
    batch: dict[bytes, bytes | None] = {
        PRESENT: canonical.encode([handover.engine, height + 1]),
        at(PRESENT, height): encode_handover(handover),
        HANDING_OVER: None,
        at(b"V", height + 1): None,
        at(b"Y", height): own,
    }
    if height:
        batch[at(b"C", height)] = canonical.encode([list(cosign) for cosign in cosigns])
    chain.store.write(batch)
    chain.read_engine()
