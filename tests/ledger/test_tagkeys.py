"""A tag signature is the only one of its message, whatever modulus an issuer chose."""

from __future__ import annotations

import hashlib
from math import gcd

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from world import TAG_KEYS, tag_signers

from taxledger.ledger.crypto import verify_tag_signature
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.records import tag_message

DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
E = 65537


def padded(message: bytes) -> int:
    """EMSA-PKCS1-v1_5 of 384 bytes (RFC 8017, 9.2), as a number."""
    digest = hashlib.sha256(message).digest()
    return int.from_bytes(b"\x00\x01" + b"\xff" * 330 + b"\x00" + DIGEST_INFO + digest, "big")


def primes() -> list[int]:
    found = []
    for line in TAG_KEYS.read_text().splitlines():
        if not line.startswith("#"):
            key = serialization.load_der_private_key(bytes.fromhex(line), None)
            assert isinstance(key, rsa.RSAPrivateKey)
            numbers = key.private_numbers()
            found += [numbers.p, numbers.q]
    return found


def test_a_modulus_with_a_square_gives_no_second_tag() -> None:
    """n = 9 p …: of a message that 9 divides σ is divisible by 3, and σ + n/3 and σ + 2n/3 are signatures too."""
    mersenne = (2**1279 - 1) * (2**127 - 1) ** 2
    p = next(p for p in primes() if 9 * p * mersenne < 2**3072)
    n, rest = 9 * p * mersenne, p * mersenne
    order = (p - 1) * (2**1279 - 2) * (2**127 - 1) * (2**127 - 2) ** 2
    modulus = n.to_bytes(384, "big")
    assert modulus[0] & 0x80
    subjects = (tag_message(bytes(16), f"uscc:{number}", 5, 2024) for number in range(1_000))
    message = next(each for each in subjects if padded(each) % 9 == 0 and gcd(padded(each), rest) == 1)
    root = pow(padded(message), pow(E, -1, order), rest)
    signatures = [
        root + rest * ((third - root) * pow(rest, -1, 9) % 9) for third in (0, 3, 6)
    ]  # by the Chinese remainder theorem
    for signature in signatures:
        assert pow(signature, E, n) == padded(message)
        with pytest.raises(VerificationError, match=r"tag_invalid.*divisor in common"):
            verify_tag_signature(modulus, signature.to_bytes(384, "big"), message)


def test_a_number_beyond_the_modulus_is_no_signature() -> None:
    signer = tag_signers()[0]
    n = int.from_bytes(signer.modulus, "big")
    for number in range(8):
        message = b"message %d" % number
        signature = signer.sign(message)
        verify_tag_signature(signer.modulus, signature, message)
        beyond = int.from_bytes(signature, "big") + n
        if beyond < 2**3072:
            with pytest.raises(VerificationError, match="tag_invalid"):
                verify_tag_signature(signer.modulus, beyond.to_bytes(384, "big"), message)
