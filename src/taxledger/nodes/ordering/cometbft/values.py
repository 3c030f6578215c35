"""What ABCI's requests and responses are made of. Names and numbers of fields are the protocol's own.

Source: CometBFT v0.39.4, proto/tendermint/{abci,types,crypto}. Times and durations are nanoseconds (``…_ns``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from taxledger.ledger.errors import FormatError
from taxledger.nodes.ordering.cometbft.wire import (
    BOOL,
    BYTES,
    DURATION,
    INT32,
    INT64,
    STRING,
    TIMESTAMP,
    UINT32,
    UINT64,
    always,
    enum_of,
    inside,
    message_of,
    optional,
    repeated,
    scalar,
)

__all__ = [
    "ABCIParams",
    "ApplySnapshotChunkResult",
    "AuthorityParams",
    "BlockIDFlag",
    "BlockParams",
    "CheckTxType",
    "CommitInfo",
    "ConsensusParams",
    "Event",
    "EventAttribute",
    "EvidenceParams",
    "ExecTxResult",
    "ExtendedCommitInfo",
    "ExtendedVoteInfo",
    "Misbehavior",
    "MisbehaviorType",
    "OfferSnapshotResult",
    "ProofOp",
    "ProofOps",
    "ProposalStatus",
    "Snapshot",
    "Validator",
    "ValidatorParams",
    "ValidatorUpdate",
    "VerifyStatus",
    "VersionParams",
    "VoteInfo",
]

# --- enumerations ------------------------------------------------------------------------------


class CheckTxType(IntEnum):
    NEW = 0
    RECHECK = 1


class ProposalStatus(IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    REJECT = 2


class VerifyStatus(IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    REJECT = 2


class OfferSnapshotResult(IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    ABORT = 2
    REJECT = 3
    REJECT_FORMAT = 4
    REJECT_SENDER = 5


class ApplySnapshotChunkResult(IntEnum):
    UNKNOWN = 0
    ACCEPT = 1
    ABORT = 2
    RETRY = 3
    RETRY_SNAPSHOT = 4
    REJECT_SNAPSHOT = 5


class BlockIDFlag(IntEnum):
    """What a validator's precommit was for."""

    UNKNOWN = 0
    ABSENT = 1
    COMMIT = 2
    NIL = 3


class MisbehaviorType(IntEnum):
    UNKNOWN = 0
    DUPLICATE_VOTE = 1
    LIGHT_CLIENT_ATTACK = 2


# --- validators and votes ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _PublicKey:
    ed25519: bytes = scalar(1, BYTES)
    secp256k1: bytes = scalar(2, BYTES)
    bls12381: bytes = scalar(3, BYTES)

    def __post_init__(self) -> None:
        if self.secp256k1 or self.bls12381:
            raise FormatError("expected an Ed25519 key, got one of another type")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorUpdate:
    """A validator's voting power from now on; 0 removes it. ``pub_key`` is an Ed25519 key, 32 bytes."""

    pub_key: bytes = always(1, inside(_PublicKey, "ed25519"))
    power: int = scalar(2, INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """``address``: the first 20 bytes of SHA-256 of the public key."""

    address: bytes = scalar(1, BYTES)
    power: int = scalar(3, INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteInfo:
    validator: Validator = always(1, message_of(Validator))
    block_id_flag: BlockIDFlag = scalar(3, enum_of(BlockIDFlag))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """Who voted for the block before, and in which round it was decided."""

    round: int = scalar(1, INT32)
    votes: tuple[VoteInfo, ...] = repeated(2, message_of(VoteInfo))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedVoteInfo:
    validator: Validator = always(1, message_of(Validator))
    vote_extension: bytes = scalar(3, BYTES)
    extension_signature: bytes = scalar(4, BYTES)
    block_id_flag: BlockIDFlag = scalar(5, enum_of(BlockIDFlag))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedCommitInfo:
    round: int = scalar(1, INT32)
    votes: tuple[ExtendedVoteInfo, ...] = repeated(2, message_of(ExtendedVoteInfo))


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehavior:
    """What the engine itself found a validator guilty of."""

    type: MisbehaviorType = scalar(1, enum_of(MisbehaviorType))
    validator: Validator = always(2, message_of(Validator))
    height: int = scalar(3, INT64)
    time_ns: int = always(4, TIMESTAMP)
    total_voting_power: int = scalar(5, INT64)


# --- results --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAttribute:
    key: str = scalar(1, STRING)
    value: str = scalar(2, STRING)
    index: bool = scalar(3, BOOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    type: str = scalar(1, STRING)
    attributes: tuple[EventAttribute, ...] = repeated(2, message_of(EventAttribute))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecTxResult:
    """Of one transaction. The engine hashes ``code``, ``data`` and the gas: they must be deterministic."""

    code: int = scalar(1, UINT32)
    data: bytes = scalar(2, BYTES)
    log: str = scalar(3, STRING)
    info: str = scalar(4, STRING)
    gas_wanted: int = scalar(5, INT64)
    gas_used: int = scalar(6, INT64)
    events: tuple[Event, ...] = repeated(7, message_of(Event))
    codespace: str = scalar(8, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOp:
    type: str = scalar(1, STRING)
    key: bytes = scalar(2, BYTES)
    data: bytes = scalar(3, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOps:
    ops: tuple[ProofOp, ...] = repeated(1, message_of(ProofOp))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """``height`` is the engine's; ``hash`` is equal only for identical snapshots."""

    height: int = scalar(1, UINT64)
    format: int = scalar(2, UINT32)
    chunks: int = scalar(3, UINT32)
    hash: bytes = scalar(4, BYTES)
    metadata: bytes = scalar(5, BYTES)


# --- parameters -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockParams:
    max_bytes: int = scalar(1, INT64)
    max_gas: int = scalar(2, INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceParams:
    max_age_num_blocks: int = scalar(1, INT64)
    max_age_duration_ns: int = always(2, DURATION)
    max_bytes: int = scalar(3, INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorParams:
    pub_key_types: tuple[str, ...] = repeated(1, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionParams:
    app: int = scalar(1, UINT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ABCIParams:
    vote_extensions_enable_height: int = scalar(1, INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityParams:
    authority: str = scalar(1, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusParams:
    """A part that is None stays as it is."""

    block: BlockParams | None = optional(1, message_of(BlockParams))
    evidence: EvidenceParams | None = optional(2, message_of(EvidenceParams))
    validator: ValidatorParams | None = optional(3, message_of(ValidatorParams))
    version: VersionParams | None = optional(4, message_of(VersionParams))
    abci: ABCIParams | None = optional(5, message_of(ABCIParams))
    authority: AuthorityParams | None = optional(6, message_of(AuthorityParams))
