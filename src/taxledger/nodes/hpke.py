"""The member's HPKE key (RFC 9180, X25519): disclosures to the member are sealed to it."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from taxledger.ledger.errors import FormatError

__all__ = ["public_key_of"]


def public_key_of(private: bytes) -> bytes:
    """The 32 bytes that stand as ``hpke_key`` in the member's entry.

    Raises:
        FormatError: ``private`` is not 32 bytes.
    """
    if len(private) != 32:
        raise FormatError(f"expected an X25519 private key of 32 bytes, got {len(private)}")
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
