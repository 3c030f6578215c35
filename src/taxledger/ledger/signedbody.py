"""What a subject signs: ``[1, what, body, public key, signature]`` (docs/protocol.md §12). It stays off the ledger.

Invariant: the signature is over the domain of ``what`` and the body's bytes as they were received.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer, check_public_key, verify_signature
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.hashing import domain
from taxledger.ledger.shapes import fixed_bytes, items

__all__ = ["SignedBody", "decode_signed_body", "encode_signed_body", "verify_signed_body"]

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBody:
    """A statement whose form is right; its signature is not verified yet.

    Attributes:
        raw: all bytes.
        body: the signed bytes, canonical msgpack; ``value`` what they say.
        public_key: who signed, 32 bytes.
        signature: 64 bytes.
    """

    raw: bytes
    body: bytes
    value: Any
    public_key: bytes
    signature: bytes


def encode_signed_body(what: str, signature_domain: str, value: Any, signer: Signer) -> bytes:
    """The bytes of a statement, signed."""
    body = canonical.encode(value)
    signature = signer.sign(domain(signature_domain) + body)
    return canonical.encode([_VERSION, what, body, signer.public_key, signature])


def decode_signed_body(raw: bytes, what: str, *, bytes_max: int) -> SignedBody:
    """A statement of its bytes.

    Raises:
        LimitError, EncodingError, FormatError: not in its one form, or under a key of small order.
    """
    version, named, body, public_key, signature = items(
        canonical.decode(raw, bytes_max=bytes_max), 5, f"a signed {what}"
    )
    if type(version) is not int or [version, named] != [_VERSION, what] or type(body) is not bytes:
        raise FormatError(f"expected [1, {what!r}, body, public key, signature]")
    check_public_key(fixed_bytes(public_key, 32, "a public key"))
    return SignedBody(
        raw=raw,
        body=body,
        value=canonical.decode(body, bytes_max=bytes_max),
        public_key=public_key,
        signature=fixed_bytes(signature, 64, "a signature"),
    )


def verify_signed_body(signed: SignedBody, signature_domain: str, code: str) -> None:
    """Returns when the key that is named has signed the body.

    Raises:
        VerificationError: with this code.
    """
    try:
        verify_signature(signed.public_key, signed.signature, domain(signature_domain) + signed.body)
    except VerificationError as error:
        raise VerificationError(code, "not signed by the key it names") from error
