"""What an audit can find: the named invariants and a verdict on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["INVARIANTS", "AuditReport", "EngineSpan", "Failure", "Verdict"]

INVARIANTS: dict[str, str] = {
    "archive": "every frame is whole, canonical and in its place, and nothing follows the last",
    "genesis": "leaf 0 is a genesis with which a network can start",
    "heights": "blocks follow one another without a gap, from height 1",
    "time": "block time rises strictly",
    "links": "each header names the leaf hash of the one before",
    "transactions": "every leaf is a transaction of this chain, in its time, signed by a member active then",
    "repeats": "no leaf stands in the log twice",
    "results": "every result and their root are what the rules give",
    "log": "each header counts the leaves before it",
    "state": "root and size of the state map after each block are what its transactions write",
    "pledges": "open pledges of a document never exceed its value, are of one record, and each has a valid permit",
    "validators": "each header names those that co-sign it, and those of the next block",
    "header": "the header leaf is, byte for byte, the one that executing the block gives",
    "handover": "each change of engine follows a block whose validators, a quorum, co-signed that log under the new "
    "origin",
    "votes": "where the engine decides by votes, a quorum of the validators of that height voted for each header, and "
    "every vote verifies; elsewhere there are none",
    "cosignatures": "a quorum of them co-signed the log up to each header under the origin of the engine that decided "
    "it, and every co-signature verifies",
    "checkpoint": "the last checkpoint is of the last block, signed by the log and co-signed by a quorum",
    "policy": "origin, log keys and witnesses of the auditor's policy are those of the last block",
}
"""Name of every invariant, and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Where an invariant first did not hold.

    Attributes:
        height: of the block; 0 the genesis or before it.
        message: what was looked at.
        expected, got: short texts, or None.
    """

    height: int
    message: str
    expected: str | None = None
    got: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the audit found about one invariant.

    Attributes:
        name: one of ``INVARIANTS``.
        checked: how many things were found to hold.
        failure: the first that did not, or None.
        reached: whether the audit came far enough to say that it holds throughout.
    """

    name: str
    checked: int
    failure: Failure | None
    reached: bool

    @property
    def status(self) -> Literal["ok", "failed", "not_reached"]:
        """``not_reached``: no fault found, but the audit stopped before the archive's end."""
        if self.failure is not None:
            return "failed"
        return "ok" if self.reached else "not_reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpan:
    """The blocks ``first`` to ``last`` were decided by this engine; ``last`` is below ``first`` where none was yet."""

    engine: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The verdicts, in the order of ``INVARIANTS`` (``policy`` only where one was given).

    Attributes:
        verdicts: one for each invariant.
        complete: the audit followed the chain to the archive's end.
        origin: of the ledger, empty where there was no genesis.
        height: of the last block that could be followed.
        size, log_root: the log after it (root of no leaves: 32 bytes all the same).
        state_root: root of the state map after it.
        transactions: leaves of members, up to there.
        signatures: signatures verified.
        engines: which engine decided which blocks, ascending.
    """

    verdicts: tuple[Verdict, ...]
    complete: bool
    origin: str
    height: int
    size: int
    log_root: bytes
    state_root: bytes
    transactions: int
    signatures: int
    engines: tuple[EngineSpan, ...]

    @property
    def ok(self) -> bool:
        """Everything holds, to the end."""
        return self.complete and all(verdict.status == "ok" for verdict in self.verdicts)

    def verdict(self, name: str) -> Verdict:
        return next(verdict for verdict in self.verdicts if verdict.name == name)
