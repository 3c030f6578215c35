"""Handing a ledger over from one ordering engine to another: what stays, what changes, what is signed.

Chain id, log, state and members stay. What changes is the last part of the origin: it names the *present*
engine. A handover follows a block, the last that the former engine decided (or the genesis, height 0), and is
*the same tree under the other origin*: a quorum of those who co-signed that block co-sign its size and root once
more, with the new engine's name. So nobody signs anything that contradicts what was signed before: at that size
there is one root, under both origins, and every later block is a larger tree.

A member signs it only once it has made durable that it takes no part in the former engine any more
(``Chain.begin_handover``). When a quorum has, the former engine can decide nothing: two of its quorums have an
honest member in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError

__all__ = ["COMETBFT", "EMBEDDED", "Handover", "decides_by_votes", "decode_handover", "encode_handover"]

EMBEDDED = "embedded"
COMETBFT = "cometbft"


def decides_by_votes(engine: str) -> bool:
    """Whether what an engine decided is shown by a quorum of votes (docs/protocol.md §9) beside the block.

    Every engine but CometBFT: an unknown one must show votes, so that no name makes them unnecessary.
    """
    return engine != COMETBFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """One change of the engine, as a node keeps it.

    Attributes:
        height: of the last block that the former engine decided; 0 where it decided none.
        former: the former engine; ``engine`` orders from ``height + 1`` on.
        former_cosigns: (member, seconds, signature) ascending, a quorum, under the former origin; none at height 0.
        former_note: the checkpoint under the former origin with its signatures; empty at height 0.
        note: the same size and root under the new origin, co-signed by a quorum.
    """

    height: int
    former: str
    engine: str
    former_cosigns: tuple[tuple[int, int, bytes], ...]
    former_note: bytes
    note: bytes


def encode_handover(handover: Handover) -> bytes:
    """As it lies in the store, under its height."""
    return canonical.encode(
        [
            1,
            handover.former,
            handover.engine,
            [list(each) for each in handover.former_cosigns],
            handover.former_note,
            handover.note,
        ]
    )


def decode_handover(height: int, data: bytes) -> Handover:
    """Raises FormatError (or EncodingError) unless ``data`` is a handover."""
    value: Any = canonical.decode(data)
    if type(value) is not list or len(value) != 6 or value[0] != 1:
        raise FormatError("expected a handover [1, …] of 6 elements")
    _, former, engine, cosigns, former_note, note = value
    return Handover(
        height=height,
        former=former,
        engine=engine,
        former_cosigns=tuple((member, time_s, signature) for member, time_s, signature in cosigns),
        former_note=former_note,
        note=note,
    )
