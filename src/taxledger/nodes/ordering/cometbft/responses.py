"""What we answer the engine, in ABCI 2.0. A response of defaults says nothing, and often stops the engine.

Source: CometBFT v0.39.4, proto/tendermint/abci/types.proto; names and numbers of fields are the protocol's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxledger.nodes.ordering.cometbft.values import (
    ApplySnapshotChunkResult,
    ConsensusParams,
    Event,
    ExecTxResult,
    OfferSnapshotResult,
    ProofOps,
    ProposalStatus,
    Snapshot,
    ValidatorUpdate,
    VerifyStatus,
)
from taxledger.nodes.ordering.cometbft.wire import (
    BYTES,
    INT64,
    STRING,
    UINT32,
    UINT64,
    enum_of,
    message_of,
    optional,
    repeated,
    scalar,
)

__all__ = [
    "ApplySnapshotChunkResponse",
    "CheckTxResponse",
    "CommitResponse",
    "EchoResponse",
    "ExceptionResponse",
    "ExtendVoteResponse",
    "FinalizeBlockResponse",
    "FlushResponse",
    "InfoResponse",
    "InitChainResponse",
    "ListSnapshotsResponse",
    "LoadSnapshotChunkResponse",
    "OfferSnapshotResponse",
    "PrepareProposalResponse",
    "ProcessProposalResponse",
    "QueryResponse",
    "VerifyVoteExtensionResponse",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionResponse:
    """The engine stops when it gets this."""

    error: str = scalar(1, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoResponse:
    message: str = scalar(1, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushResponse:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoResponse:
    """``last_block_height`` is the engine's height of the last ``Commit``, 0 before the first."""

    data: str = scalar(1, STRING)
    version: str = scalar(2, STRING)
    app_version: int = scalar(3, UINT64)
    last_block_height: int = scalar(4, INT64)
    last_block_app_hash: bytes = scalar(5, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitChainResponse:
    consensus_params: ConsensusParams | None = optional(1, message_of(ConsensusParams))
    validators: tuple[ValidatorUpdate, ...] = repeated(2, message_of(ValidatorUpdate))
    app_hash: bytes = scalar(3, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResponse:
    code: int = scalar(1, UINT32)
    log: str = scalar(3, STRING)
    info: str = scalar(4, STRING)
    index: int = scalar(5, INT64)
    key: bytes = scalar(6, BYTES)
    value: bytes = scalar(7, BYTES)
    proof_ops: ProofOps | None = optional(8, message_of(ProofOps))
    height: int = scalar(9, INT64)
    codespace: str = scalar(10, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTxResponse:
    """``code`` 0 admits the transaction to the mempool."""

    code: int = scalar(1, UINT32)
    data: bytes = scalar(2, BYTES)
    log: str = scalar(3, STRING)
    info: str = scalar(4, STRING)
    gas_wanted: int = scalar(5, INT64)
    gas_used: int = scalar(6, INT64)
    events: tuple[Event, ...] = repeated(7, message_of(Event))
    codespace: str = scalar(8, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResponse:
    """The engine may drop its blocks below ``retain_height``; 0 keeps all."""

    retain_height: int = scalar(3, INT64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSnapshotsResponse:
    snapshots: tuple[Snapshot, ...] = repeated(1, message_of(Snapshot))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSnapshotResponse:
    result: OfferSnapshotResult = scalar(1, enum_of(OfferSnapshotResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSnapshotChunkResponse:
    chunk: bytes = scalar(1, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySnapshotChunkResponse:
    result: ApplySnapshotChunkResult = scalar(1, enum_of(ApplySnapshotChunkResult))
    refetch_chunks: tuple[int, ...] = repeated(2, UINT32)
    reject_senders: tuple[str, ...] = repeated(3, STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareProposalResponse:
    txs: tuple[bytes, ...] = repeated(1, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessProposalResponse:
    """Say ACCEPT or REJECT: the default, UNKNOWN, stops the engine."""

    status: ProposalStatus = scalar(1, enum_of(ProposalStatus))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendVoteResponse:
    vote_extension: bytes = scalar(1, BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyVoteExtensionResponse:
    """Say ACCEPT or REJECT: the default, UNKNOWN, stops the engine."""

    status: VerifyStatus = scalar(1, enum_of(VerifyStatus))


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeBlockResponse:
    """``tx_results``: one for each transaction of the request, in order."""

    events: tuple[Event, ...] = repeated(1, message_of(Event))
    tx_results: tuple[ExecTxResult, ...] = repeated(2, message_of(ExecTxResult))
    validator_updates: tuple[ValidatorUpdate, ...] = repeated(3, message_of(ValidatorUpdate))
    consensus_param_updates: ConsensusParams | None = optional(4, message_of(ConsensusParams))
    app_hash: bytes = scalar(5, BYTES)
