"""The header leaf that closes a block, and the message that a vote for it signs (docs/protocol.md §2, §9)."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

from taxledger.ledger import canonical, hashing, limits
from taxledger.ledger.errors import FormatError, InputError, VerificationError

__all__ = [
    "APP_VERSION",
    "HEADER_FIRST_BYTE",
    "Header",
    "decode_header",
    "encode_header",
    "header_of_chain",
    "vote_message",
]

APP_VERSION = 1
HEADER_FIRST_BYTE = 0x9E
"""An array of 14: what tells a header leaf from a transaction (0xd2) and the genesis (0x97)."""

_HEADER_BYTES_MAX = 512
_VOTE = hashing.domain("vote")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a block says of itself and of the state after it, in the order of its fields on the ledger.

    Attributes:
        chain_id: 16 bytes.
        height: from 1.
        time_ms: the engine's block time, strictly rising.
        previous_header_hash: leaf hash of the header before (of the genesis leaf for height 1).
        first_index: log index of the block's first leaf.
        transactions: number of transaction leaves; the header stands at ``first_index + transactions``.
        state_root: root of the state map after the block.
        state_count: keys in it.
        results_root: RFC 6962 root over the results.
        validators_hash: of those that co-sign this block.
        next_validators_hash: of those that co-sign the next one.
        app_version: 1.
    """

    chain_id: bytes
    height: int
    time_ms: int
    previous_header_hash: bytes
    first_index: int
    transactions: int
    state_root: bytes
    state_count: int
    results_root: bytes
    validators_hash: bytes
    next_validators_hash: bytes
    app_version: int = APP_VERSION

    @property
    def index(self) -> int:
        """Log index of the header leaf itself."""
        return self.first_index + self.transactions

    @property
    def size(self) -> int:
        """Size of the log right after the header: that of the block's checkpoint."""
        return self.index + 1


def encode_header(header: Header) -> bytes:
    """The header leaf."""
    return canonical.encode([1, "block", *astuple(header)])


def _check_integer(value: Any, low: int, high: int, what: str) -> None:
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"header: expected {what} {low} to {high}, got {value!r:.40}")


def decode_header(leaf: bytes) -> Header:
    """The header of a leaf.

    Raises:
        LimitError, EncodingError: too long or not canonical.
        FormatError: not of the shape of §2.
    """
    value = canonical.decode(leaf, bytes_max=_HEADER_BYTES_MAX)
    if type(value) is not list or len(value) != 14 or type(value[0]) is not int or value[:2] != [1, "block"]:
        raise FormatError("expected a header [1, 'block', …] of 14 elements")
    header = Header(**dict(zip(Header.__slots__, value[2:], strict=True)))
    for digest, size, what in (
        (header.chain_id, 16, "chain_id"),
        (header.previous_header_hash, 32, "previous_header_hash"),
        (header.state_root, 32, "state_root"),
        (header.results_root, 32, "results_root"),
        (header.validators_hash, 32, "validators_hash"),
        (header.next_validators_hash, 32, "next_validators_hash"),
    ):
        if type(digest) is not bytes or len(digest) != size:
            raise FormatError(f"header: expected {what} of {size} bytes")
    _check_integer(header.height, 1, limits.integer_max, "height")
    _check_integer(header.time_ms, 0, limits.integer_max, "time_ms")
    _check_integer(header.first_index, 1, limits.integer_max, "first_index")
    _check_integer(header.transactions, 0, limits.block_transactions_max, "transactions")
    _check_integer(header.state_count, 0, limits.integer_max, "state_count")
    _check_integer(header.app_version, APP_VERSION, APP_VERSION, "app_version")
    return header


def header_of_chain(leaf: bytes, chain_id: bytes) -> Header:
    """The header of a leaf that somebody else shows, of this chain.

    Raises:
        VerificationError: ``header_mismatch``.
    """
    try:
        header = decode_header(leaf)
    except InputError as error:
        raise VerificationError("header_mismatch", f"no header: {error}") from error
    if header.chain_id != chain_id:
        raise VerificationError(
            "header_mismatch", "the chain", expected=chain_id.hex(), got=header.chain_id.hex()
        )
    return header


def vote_message(chain_id: bytes, height: int, header_hash: bytes) -> bytes:
    """What a vote signs: ``"taxledger/vote/1" ‖ chain_id ‖ u64be(height) ‖ leaf hash of the header``."""
    return _VOTE + chain_id + height.to_bytes(8, "big") + header_hash
