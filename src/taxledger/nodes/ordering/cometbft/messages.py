"""ABCI 2.0's messages: everything the engine asks and we answer, and the envelopes they travel in.

On the socket each envelope follows its length, an unsigned varint (``frame``). ``InsertTx`` and ``ReapTxs`` belong
to a mempool of the application's own, which we don't have: they are refused.
"""

from __future__ import annotations

from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, LimitError
from taxledger.nodes.ordering.cometbft.requests import (
    ApplySnapshotChunkRequest,
    CheckTxRequest,
    CommitRequest,
    EchoRequest,
    ExtendVoteRequest,
    FinalizeBlockRequest,
    FlushRequest,
    InfoRequest,
    InitChainRequest,
    ListSnapshotsRequest,
    LoadSnapshotChunkRequest,
    OfferSnapshotRequest,
    PrepareProposalRequest,
    ProcessProposalRequest,
    QueryRequest,
    VerifyVoteExtensionRequest,
)
from taxledger.nodes.ordering.cometbft.responses import (
    ApplySnapshotChunkResponse,
    CheckTxResponse,
    CommitResponse,
    EchoResponse,
    ExceptionResponse,
    ExtendVoteResponse,
    FinalizeBlockResponse,
    FlushResponse,
    InfoResponse,
    InitChainResponse,
    ListSnapshotsResponse,
    LoadSnapshotChunkResponse,
    OfferSnapshotResponse,
    PrepareProposalResponse,
    ProcessProposalResponse,
    QueryResponse,
    VerifyVoteExtensionResponse,
)
from taxledger.nodes.ordering.cometbft.values import (
    ApplySnapshotChunkResult,
    BlockIDFlag,
    BlockParams,
    CheckTxType,
    CommitInfo,
    ConsensusParams,
    Event,
    EventAttribute,
    EvidenceParams,
    ExecTxResult,
    ExtendedCommitInfo,
    ExtendedVoteInfo,
    Misbehavior,
    MisbehaviorType,
    OfferSnapshotResult,
    ProofOp,
    ProofOps,
    ProposalStatus,
    Snapshot,
    Validator,
    ValidatorUpdate,
    VerifyStatus,
    VoteInfo,
)
from taxledger.nodes.ordering.cometbft.wire import (
    Kind,
    encode_message,
    encode_varint,
    message_of,
    read_fields,
)

__all__ = [
    "REQUESTS",
    "RESPONSES",
    "ApplySnapshotChunkRequest",
    "ApplySnapshotChunkResponse",
    "ApplySnapshotChunkResult",
    "BlockIDFlag",
    "BlockParams",
    "CheckTxRequest",
    "CheckTxResponse",
    "CheckTxType",
    "CommitInfo",
    "CommitRequest",
    "CommitResponse",
    "ConsensusParams",
    "EchoRequest",
    "EchoResponse",
    "Event",
    "EventAttribute",
    "EvidenceParams",
    "ExceptionResponse",
    "ExecTxResult",
    "ExtendVoteRequest",
    "ExtendVoteResponse",
    "ExtendedCommitInfo",
    "ExtendedVoteInfo",
    "FinalizeBlockRequest",
    "FinalizeBlockResponse",
    "FlushRequest",
    "FlushResponse",
    "InfoRequest",
    "InfoResponse",
    "InitChainRequest",
    "InitChainResponse",
    "ListSnapshotsRequest",
    "ListSnapshotsResponse",
    "LoadSnapshotChunkRequest",
    "LoadSnapshotChunkResponse",
    "Misbehavior",
    "MisbehaviorType",
    "OfferSnapshotRequest",
    "OfferSnapshotResponse",
    "OfferSnapshotResult",
    "PrepareProposalRequest",
    "PrepareProposalResponse",
    "ProcessProposalRequest",
    "ProcessProposalResponse",
    "ProofOp",
    "ProofOps",
    "ProposalStatus",
    "QueryRequest",
    "QueryResponse",
    "Request",
    "Response",
    "Snapshot",
    "Validator",
    "ValidatorUpdate",
    "VerifyStatus",
    "VerifyVoteExtensionRequest",
    "VerifyVoteExtensionResponse",
    "VoteInfo",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "frame",
]

Request = (
    EchoRequest
    | FlushRequest
    | InfoRequest
    | InitChainRequest
    | QueryRequest
    | CheckTxRequest
    | CommitRequest
    | ListSnapshotsRequest
    | OfferSnapshotRequest
    | LoadSnapshotChunkRequest
    | ApplySnapshotChunkRequest
    | PrepareProposalRequest
    | ProcessProposalRequest
    | ExtendVoteRequest
    | VerifyVoteExtensionRequest
    | FinalizeBlockRequest
)
Response = (
    ExceptionResponse
    | EchoResponse
    | FlushResponse
    | InfoResponse
    | InitChainResponse
    | QueryResponse
    | CheckTxResponse
    | CommitResponse
    | ListSnapshotsResponse
    | OfferSnapshotResponse
    | LoadSnapshotChunkResponse
    | ApplySnapshotChunkResponse
    | PrepareProposalResponse
    | ProcessProposalResponse
    | ExtendVoteResponse
    | VerifyVoteExtensionResponse
    | FinalizeBlockResponse
)

REQUESTS: dict[int, type[Request]] = {
    1: EchoRequest,
    2: FlushRequest,
    3: InfoRequest,
    5: InitChainRequest,
    6: QueryRequest,
    8: CheckTxRequest,
    11: CommitRequest,
    12: ListSnapshotsRequest,
    13: OfferSnapshotRequest,
    14: LoadSnapshotChunkRequest,
    15: ApplySnapshotChunkRequest,
    16: PrepareProposalRequest,
    17: ProcessProposalRequest,
    18: ExtendVoteRequest,
    19: VerifyVoteExtensionRequest,
    20: FinalizeBlockRequest,
}
"""By the field number in the envelope."""
RESPONSES: dict[int, type[Response]] = {
    1: ExceptionResponse,
    2: EchoResponse,
    3: FlushResponse,
    4: InfoResponse,
    6: InitChainResponse,
    7: QueryResponse,
    9: CheckTxResponse,
    12: CommitResponse,
    13: ListSnapshotsResponse,
    14: OfferSnapshotResponse,
    15: LoadSnapshotChunkResponse,
    16: ApplySnapshotChunkResponse,
    17: PrepareProposalResponse,
    18: ProcessProposalResponse,
    19: ExtendVoteResponse,
    20: VerifyVoteExtensionResponse,
    21: FinalizeBlockResponse,
}

_REQUEST_KINDS = {number: message_of(cls) for number, cls in REQUESTS.items()}
_RESPONSE_KINDS = {number: message_of(cls) for number, cls in RESPONSES.items()}
_REQUEST_NUMBERS = {cls: number for number, cls in REQUESTS.items()}
_RESPONSE_NUMBERS = {cls: number for number, cls in RESPONSES.items()}


def _encode(number: int, message: Request | Response) -> bytes:
    body = encode_message(message)
    return encode_varint(number << 3 | 2) + encode_varint(len(body)) + body


def _decode(data: bytes, known: dict[int, Kind], what: str) -> Any:
    if len(data) > limits.engine_message_bytes_max:
        raise LimitError(
            f"expected {what} of at most {limits.engine_message_bytes_max} bytes, got {len(data)}"
        )
    found = list(read_fields(data))
    if len(found) != 1:
        raise FormatError(f"expected one message in {what}, got {len(found)}")
    ((number, wire_type, raw),) = found
    if number not in known or wire_type != 2:
        raise FormatError(f"expected {what} of ABCI 2.0, got field {number} of wire type {wire_type}")
    return known[number].decode(raw)


def encode_request(request: Request) -> bytes:
    return _encode(_REQUEST_NUMBERS[type(request)], request)


def decode_request(data: bytes) -> Request:
    """Raises FormatError or LimitError unless ``data`` is a request we know."""
    request: Request = _decode(data, _REQUEST_KINDS, "a request")
    return request


def encode_response(response: Response) -> bytes:
    """Raises FormatError when a number is out of its type's range."""
    return _encode(_RESPONSE_NUMBERS[type(response)], response)


def decode_response(data: bytes) -> Response:
    """Raises FormatError or LimitError unless ``data`` is a response we know."""
    response: Response = _decode(data, _RESPONSE_KINDS, "a response")
    return response


def frame(message: bytes) -> bytes:
    """An encoded envelope as it goes over the socket: behind its length."""
    return encode_varint(len(message)) + message
