"""Transactions: COSE_Sign1 with CWT claims (RFC 9052, RFC 9597), in one byte form (docs/protocol.md §3).

The form is fixed, so CBOR here is a template with a few holes. The reader takes the holes from where they
must be, builds the bytes again and compares: whatever is not the one form differs somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer, verify_signature
from taxledger.ledger.errors import FormatError, LimitError, VerificationError
from taxledger.ledger.hashing import key_id, log_leaf

__all__ = [
    "Transaction",
    "VerifiedSignatures",
    "decode_transaction",
    "sign_transaction",
    "verify_transaction",
]

_CONTENT_TYPE = b"application/taxledger+msgpack"
_BEFORE_KID = b"\xa4\x01\x27\x03\x78" + bytes([len(_CONTENT_TYPE)]) + _CONTENT_TYPE + b"\x04\x50"
_SIGNATURE_BYTES = 64
_MEMBER_MAX = 65_535
_UINT_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A transaction whose form is right; its signature is not verified.

    Attributes:
        raw: the bytes it came in, which are the log leaf.
        id: 32 bytes, the leaf hash of ``raw``.
        member: number of the member that claims to have signed it, 1 … 65,535.
        kid: 16 bytes, ``SHA256(public key)[:16]`` of the claimed key.
        chain_id: 16 bytes.
        iat_s, exp_s: seconds; it counts from the first (less 60) to before the second.
        protected: the protected header's bytes.
        payload: msgpack of the operation.
        signature: 64 bytes.
    """

    raw: bytes
    id: bytes
    member: int
    kid: bytes
    chain_id: bytes
    iat_s: int
    exp_s: int
    protected: bytes
    payload: bytes
    signature: bytes

    @property
    def signed_bytes(self) -> bytes:
        """The ``Sig_structure`` that the signature covers."""
        return _signed_bytes(self.protected, self.payload)


def sign_transaction(
    signer: Signer, *, member: int, chain_id: bytes, iat_s: int, exp_s: int, payload: bytes
) -> bytes:
    """The bytes of a new transaction.

    Raises:
        FormatError: member, chain id or instants out of range.
        LimitError: the transaction would be larger than a leaf may be.
    """
    if not 1 <= member <= _MEMBER_MAX:
        raise FormatError(f"expected a member number from 1 to {_MEMBER_MAX}, got {member}")
    if len(chain_id) != 16:
        raise FormatError(f"expected a chain id of 16 bytes, got {len(chain_id)}")
    for instant in (iat_s, exp_s):
        if not 0 <= instant <= _UINT_MAX:
            raise FormatError(f"expected seconds from 0 to 2^64 - 1, got {instant}")
    if len(payload) > limits.leaf_bytes_max:
        raise LimitError(f"expected a payload below {limits.leaf_bytes_max} bytes, got {len(payload)}")
    protected = _protected(key_id(signer.public_key), member, chain_id, iat_s, exp_s)
    raw = _frame(protected, payload, signer.sign(_signed_bytes(protected, payload)))
    if len(raw) > limits.leaf_bytes_max:
        raise LimitError(f"expected a transaction of at most {limits.leaf_bytes_max} bytes, got {len(raw)}")
    return raw


def decode_transaction(raw: bytes) -> Transaction:
    """The parts of a transaction in its one form.

    Raises:
        LimitError: larger than a leaf may be.
        FormatError: not in its one form.
    """
    if type(raw) is not bytes:
        raise FormatError(f"expected transaction bytes, got {type(raw).__name__}")
    if len(raw) > limits.leaf_bytes_max:
        raise LimitError(f"expected a transaction of at most {limits.leaf_bytes_max} bytes, got {len(raw)}")
    protected, at = _read_bstr(raw, 2)
    payload, at = _read_bstr(raw, at + 1)
    signature = raw[at + 2 :]
    kid, member, chain_id, iat_s, exp_s = _read_protected(protected)
    if len(signature) != _SIGNATURE_BYTES or _frame(protected, payload, signature) != raw:
        raise FormatError(
            "expected a COSE_Sign1 in its one form: D2 84, protected, A0, payload, 58 40, signature"
        )
    if _protected(kid, member, chain_id, iat_s, exp_s) != protected:
        raise FormatError("expected a protected header in its one form")
    return Transaction(
        raw=raw,
        id=log_leaf(raw),
        member=member,
        kid=kid,
        chain_id=chain_id,
        iat_s=iat_s,
        exp_s=exp_s,
        protected=protected,
        payload=payload,
        signature=signature,
    )


def verify_transaction(tx: Transaction, public_key: bytes) -> None:
    """Returns when ``public_key`` (32 bytes) is the key the transaction names and signed it.

    Raises:
        VerificationError: ``signature_invalid``.
    """
    if key_id(public_key) != tx.kid:
        raise VerificationError(
            "signature_invalid", "another key's id", expected=key_id(public_key).hex(), got=tx.kid.hex()
        )
    verify_signature(public_key, tx.signature, tx.signed_bytes)


class VerifiedSignatures:
    """``verify_transaction`` that remembers, within bounds, what verified: a transaction that was checked
    before it was proposed is not verified a second time when it is executed.

    The id covers all bytes, signature included, so a remembered pair of id and key can mean nothing else.
    """

    __slots__ = ("_known", "_size_max")

    def __init__(self, size_max: int = limits.verified_signatures_default) -> None:
        self._known: dict[bytes, None] = {}  # id ‖ key, oldest first
        self._size_max = size_max

    def __call__(self, tx: Transaction, public_key: bytes) -> None:
        """As ``verify_transaction``."""
        known = tx.id + public_key
        if known in self._known:
            return
        verify_transaction(tx, public_key)
        if len(self._known) >= self._size_max:
            del self._known[next(iter(self._known))]
        self._known[known] = None


# --- the CBOR there is ----------------------------------------------------------------------


def _head(major: int, number: int) -> bytes:
    """The shortest CBOR head (RFC 8949 §3) of a major type (0 uint, 2 bstr, 3 tstr) and its number."""
    if number < 24:
        return bytes([major << 5 | number])
    for code, width in ((24, 1), (25, 2), (26, 4)):
        if number < 1 << 8 * width:
            return bytes([major << 5 | code]) + number.to_bytes(width, "big")
    return bytes([major << 5 | 27]) + number.to_bytes(8, "big")


def _protected(kid: bytes, member: int, chain_id: bytes, iat_s: int, exp_s: int) -> bytes:
    issuer = str(member).encode()
    claims = b"\x01" + _head(3, len(issuer)) + issuer + b"\x02\x78\x20" + chain_id.hex().encode()
    return _BEFORE_KID + kid + b"\x0f\xa4" + claims + b"\x04" + _head(0, exp_s) + b"\x06" + _head(0, iat_s)


def _signed_bytes(protected: bytes, payload: bytes) -> bytes:
    head = b"\x84\x6aSignature1" + _head(2, len(protected)) + protected
    return head + b"\x40" + _head(2, len(payload)) + payload


def _frame(protected: bytes, payload: bytes, signature: bytes) -> bytes:
    head = b"\xd2\x84" + _head(2, len(protected)) + protected + b"\xa0"
    return head + _head(2, len(payload)) + payload + b"\x58\x40" + signature


def _read_head(data: bytes, at: int) -> tuple[int, int]:
    """The number of the head at ``at``, of any major type and length, and where the head ends."""
    if at >= len(data):
        raise FormatError("the transaction is cut")
    low = data[at] & 0x1F
    if low < 24:
        return low, at + 1
    if low > 27:
        raise FormatError(f"expected a definite CBOR length at byte {at}")
    end = at + 1 + (1 << low - 24)
    if end > len(data):
        raise FormatError("the transaction is cut")
    return int.from_bytes(data[at + 1 : end], "big"), end


def _read_bstr(data: bytes, at: int) -> tuple[bytes, int]:
    length, begin = _read_head(data, at)
    if length > len(data) - begin:
        raise FormatError("the transaction is cut")
    return data[begin : begin + length], begin + length


def _read_protected(protected: bytes) -> tuple[bytes, int, bytes, int, int]:
    """(kid, member, chain id, iat, exp) from where they must be; the caller compares the rest."""
    at = len(_BEFORE_KID)
    kid = protected[at : at + 16]
    issuer, at = _read_bstr(protected, at + 19)  # after 0F A4 01
    sub = protected[at + 3 : at + 35]  # after 02 78 20
    exp_s, at = _read_head(protected, at + 36)  # after 04
    iat_s, _ = _read_head(protected, at + 1)  # after 06
    if not issuer.isdigit() or len(issuer) > 5 or not 1 <= int(issuer) <= _MEMBER_MAX:
        raise FormatError(f"expected an issuer from 1 to {_MEMBER_MAX}, got {issuer[:20]!r}")
    try:
        chain_id = bytes.fromhex(sub.decode("ascii"))
    except ValueError as error:
        raise FormatError(f"expected a chain id of 32 hex digits, got {sub!r}") from error
    return kid, int(issuer), chain_id, iat_s, exp_s
