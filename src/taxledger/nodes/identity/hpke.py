"""HPKE (RFC 9180, base mode): disclosures are sealed to the key in the recipient's entry on the ledger.

Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM. ``info`` binds what is sealed to its place: a piece
of one use does not open as a piece of another. The only file that imports these primitives.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from taxledger.ledger.errors import FormatError, VerificationError

__all__ = ["hpke_open", "hpke_seal", "public_key_of"]

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)


def public_key_of(private: bytes) -> bytes:
    """The 32 bytes that stand as ``hpke_key`` in the member's entry.

    Raises:
        FormatError: ``private`` is not 32 bytes.
    """
    if len(private) != 32:
        raise FormatError(f"expected an X25519 private key of 32 bytes, got {len(private)}")
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def hpke_seal(public_key: bytes, info: bytes, plain: bytes) -> bytes:
    """``encapsulated key ‖ ciphertext``, which only the holder of the private key opens.

    Raises:
        FormatError: not the 32 bytes of an X25519 key, or one that gives no shared secret.
    """
    try:
        return _SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(public_key), info)
    except ValueError as error:
        raise FormatError(f"not an X25519 public key: {error}") from error


def hpke_open(private: bytes, info: bytes, sealed: bytes) -> bytes:
    """What was sealed to this key for this place.

    Raises:
        VerificationError: ``seal_invalid``: to another key, for another place, or changed since.
    """
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info)
    except (InvalidTag, ValueError) as error:
        raise VerificationError("seal_invalid", "it is not sealed to this key, or was changed") from error
