"""Signatures, through the one library that implements them. The only file of ``ledger/`` that imports
``cryptography``.

Ed25519 (RFC 8032) for everything members sign; RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017), 3072 bit and e =
65537,
for tags only: its signature is deterministic and unique, so it serves as a verifiable random function.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from taxledger.ledger.errors import FormatError, VerificationError

__all__ = [
    "Signer",
    "TagSigner",
    "check_public_key",
    "check_subject_key",
    "check_tag_modulus",
    "verify_signature",
    "verify_tag_signature",
]

TAG_KEY_BITS = 3072
TAG_KEY_BYTES = TAG_KEY_BITS // 8
TAG_KEY_EXPONENT = 65537


class Signer:
    """An Ed25519 private key: 32 bytes in, signatures out. Never printed, never compared."""

    __slots__ = ("_key", "public_key")

    def __init__(self, private_bytes: bytes) -> None:
        if len(private_bytes) != 32:
            raise FormatError(f"expected an Ed25519 private key of 32 bytes, got {len(private_bytes)}")
        self._key = Ed25519PrivateKey.from_private_bytes(private_bytes)
        self.public_key: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"Signer({self.public_key.hex()[:16]}…)"


@lru_cache(maxsize=4096)
def _public_key(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def check_public_key(public_key: bytes) -> None:
    """Raises FormatError unless these are 32 bytes that can be an Ed25519 public key."""
    if type(public_key) is not bytes or len(public_key) != 32:
        raise FormatError("expected an Ed25519 public key of 32 bytes")
    try:
        _public_key(public_key)
    except ValueError as error:
        raise FormatError(f"not an Ed25519 public key: {error}") from error


_SMALL_ORDER = frozenset(
    bytes.fromhex(each)
    for each in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    )
)
"""The points of order 1, 2, 4 and 8, with the sign bit clear: under these anybody can sign."""


def check_subject_key(public_key: bytes) -> None:
    """As ``check_public_key``, and that not everybody can sign under it: a stranger brings this key.

    Raises:
        FormatError: 32 other bytes, or a point of small order.
    """
    check_public_key(public_key)
    if public_key[:31] + bytes([public_key[31] & 0x7F]) in _SMALL_ORDER:
        raise FormatError("expected an Ed25519 public key of full order, got one that anybody can sign under")


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Returns when ``signature`` (64 bytes) is ``public_key``'s over ``message``.

    Raises:
        VerificationError: ``signature_invalid``.
    """
    try:
        _public_key(public_key).verify(signature, message)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise VerificationError(
            "signature_invalid", f"not a signature of key {public_key.hex()[:16]}…"
        ) from error


class TagSigner:
    """An issuer's RSA key of one year, from its PKCS #8 DER."""

    __slots__ = ("_key", "modulus")

    def __init__(self, private_der: bytes) -> None:
        try:
            # Made here and sealed by the vault: testing its primes again at each start takes 0.1 s a year.
            key = serialization.load_der_private_key(
                private_der, password=None, unsafe_skip_rsa_key_validation=True
            )
        except ValueError as error:
            raise FormatError(f"not a PKCS #8 private key: {error}") from error
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != TAG_KEY_BITS:
            raise FormatError(f"expected an RSA key of {TAG_KEY_BITS} bits")
        self._key = key
        self.modulus: bytes = key.public_key().public_numbers().n.to_bytes(TAG_KEY_BYTES, "big")
        """384 bytes, big-endian; the exponent is always 65537."""

    @staticmethod
    def generate_der() -> bytes:
        """A new key as PKCS #8 DER (takes a second; uses the operating system's randomness)."""
        key = rsa.generate_private_key(TAG_KEY_EXPONENT, TAG_KEY_BITS)
        return key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, message: bytes) -> bytes:
        """The 384-byte RSASSA-PKCS1-v1_5 SHA-256 signature; the same for the same message."""
        return self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def check_tag_modulus(modulus: bytes) -> None:
    """Raises FormatError unless these are an odd 3072-bit modulus in 384 bytes."""
    if type(modulus) is not bytes or len(modulus) != TAG_KEY_BYTES:
        raise FormatError(f"expected an RSA modulus of {TAG_KEY_BYTES} bytes")
    if not modulus[0] & 0x80 or not modulus[-1] & 1:
        raise FormatError(f"expected an odd RSA modulus of exactly {TAG_KEY_BITS} bits")


@lru_cache(maxsize=256)
def _tag_key(modulus: bytes) -> rsa.RSAPublicKey:
    check_tag_modulus(modulus)
    return rsa.RSAPublicNumbers(TAG_KEY_EXPONENT, int.from_bytes(modulus, "big")).public_key()


def verify_tag_signature(modulus: bytes, signature: bytes, message: bytes) -> None:
    """Returns when ``signature`` (384 bytes) is the one RSA signature of ``message``.

    The length is checked first: a shorter or longer encoding of the same number would be a second tag. And it
    has no divisor in common with the modulus: under one that is divisible by p², a message (as padded) that
    p² divides has p signatures. An honest key never meets either.

    Raises:
        VerificationError: ``tag_invalid``.
    """
    if len(signature) != TAG_KEY_BYTES:
        raise VerificationError(
            "tag_invalid", "length of the tag signature", expected=TAG_KEY_BYTES, got=len(signature)
        )
    try:
        _tag_key(modulus).verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:
        raise VerificationError("tag_invalid", "not the issuer's signature for this subject") from error
    if gcd(int.from_bytes(signature, "big"), int.from_bytes(modulus, "big")) != 1:
        raise VerificationError("tag_invalid", "the signature has a divisor in common with the modulus")
