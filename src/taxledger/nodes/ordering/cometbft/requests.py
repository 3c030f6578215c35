"""What the engine asks, in ABCI 2.0.

Source: CometBFT v0.39.4, proto/tendermint/abci/types.proto; names and numbers of fields are the protocol's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxledger.nodes.ordering.cometbft.values import (
    CheckTxType,
    CommitInfo,
    ConsensusParams,
    ExtendedCommitInfo,
    Misbehavior,
    Snapshot,
    ValidatorUpdate,
)
from taxledger.nodes.ordering.cometbft.wire import (
    BOOL,
    BYTES,
    INT64,
    STRING,
    TIMESTAMP,
    UINT32,
    UINT64,
    always,
    enum_of,
    message_of,
    optional,
    repeated,
    scalar,
)

__all__ = [
    "ApplySnapshotChunkRequest",
    "CheckTxRequest",
    "CommitRequest",
    "EchoRequest",
    "ExtendVoteRequest",
    "FinalizeBlockRequest",
    "FlushRequest",
    "InfoRequest",
    "InitChainRequest",
    "ListSnapshotsRequest",
    "LoadSnapshotChunkRequest",
    "OfferSnapshotRequest",
    "PrepareProposalRequest",
    "ProcessProposalRequest",
    "QueryRequest",
    "VerifyVoteExtensionRequest",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoRequest:
    message: str = scalar(1, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushRequest:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoRequest:
    version: str = scalar(1, STRING)
    block_version: int = scalar(2, UINT64)
    p2p_version: int = scalar(3, UINT64)
    abci_version: str = scalar(4, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitChainRequest:
    time_ns: int = always(1, TIMESTAMP)
    chain_id: str = scalar(2, STRING)
    consensus_params: ConsensusParams | None = optional(3, message_of(ConsensusParams))
    validators: tuple[ValidatorUpdate, ...] = repeated(4, message_of(ValidatorUpdate))
    app_state_bytes: bytes = scalar(5, BYTES)
    initial_height: int = scalar(6, INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    data: bytes = scalar(1, BYTES)
    path: str = scalar(2, STRING)
    height: int = scalar(3, INT64)
    prove: bool = scalar(4, BOOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTxRequest:
    tx: bytes = scalar(1, BYTES)
    type: CheckTxType = scalar(2, enum_of(CheckTxType))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSnapshotsRequest:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSnapshotRequest:
    """``app_hash`` is what the engine's light client verified for the snapshot's height."""

    snapshot: Snapshot | None = optional(1, message_of(Snapshot))
    app_hash: bytes = scalar(2, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSnapshotChunkRequest:
    height: int = scalar(1, UINT64)
    format: int = scalar(2, UINT32)
    chunk: int = scalar(3, UINT32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySnapshotChunkRequest:
    index: int = scalar(1, UINT32)
    chunk: bytes = scalar(2, BYTES)
    sender: str = scalar(3, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareProposalRequest:
    """``max_tx_bytes`` bounds the transactions of the answer, as the engine counts them."""

    max_tx_bytes: int = scalar(1, INT64)
    txs: tuple[bytes, ...] = repeated(2, BYTES)
    local_last_commit: ExtendedCommitInfo = always(3, message_of(ExtendedCommitInfo))
    misbehavior: tuple[Misbehavior, ...] = repeated(4, message_of(Misbehavior))
    height: int = scalar(5, INT64)
    time_ns: int = always(6, TIMESTAMP)
    next_validators_hash: bytes = scalar(7, BYTES)
    proposer_address: bytes = scalar(8, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessProposalRequest:
    txs: tuple[bytes, ...] = repeated(1, BYTES)
    proposed_last_commit: CommitInfo = always(2, message_of(CommitInfo))
    misbehavior: tuple[Misbehavior, ...] = repeated(3, message_of(Misbehavior))
    hash: bytes = scalar(4, BYTES)
    height: int = scalar(5, INT64)
    time_ns: int = always(6, TIMESTAMP)
    next_validators_hash: bytes = scalar(7, BYTES)
    proposer_address: bytes = scalar(8, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendVoteRequest:
    hash: bytes = scalar(1, BYTES)
    height: int = scalar(2, INT64)
    time_ns: int = always(3, TIMESTAMP)
    txs: tuple[bytes, ...] = repeated(4, BYTES)
    proposed_last_commit: CommitInfo = always(5, message_of(CommitInfo))
    misbehavior: tuple[Misbehavior, ...] = repeated(6, message_of(Misbehavior))
    next_validators_hash: bytes = scalar(7, BYTES)
    proposer_address: bytes = scalar(8, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyVoteExtensionRequest:
    hash: bytes = scalar(1, BYTES)
    validator_address: bytes = scalar(2, BYTES)
    height: int = scalar(3, INT64)
    vote_extension: bytes = scalar(4, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeBlockRequest:
    txs: tuple[bytes, ...] = repeated(1, BYTES)
    decided_last_commit: CommitInfo = always(2, message_of(CommitInfo))
    misbehavior: tuple[Misbehavior, ...] = repeated(3, message_of(Misbehavior))
    hash: bytes = scalar(4, BYTES)
    height: int = scalar(5, INT64)
    time_ns: int = always(6, TIMESTAMP)
    next_validators_hash: bytes = scalar(7, BYTES)
    proposer_address: bytes = scalar(8, BYTES)
