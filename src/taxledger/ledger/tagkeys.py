"""Proof that an issuer's RSA tag key of a year gives every enterprise at most one tag.

σ ↦ σᵉ mod n is one-to-one only if e does not divide φ(n). An issuer could look for a modulus with 65537 | φ(n):
then some messages have 65,537 signatures, so as many tags, and others have none. Of such a modulus at most one
message in 65,537 has a signature at all; so whoever shows signatures of eight messages that the modulus itself
determines has a key that is no such modulus, but for a chance of 2⁻¹²⁸ for each modulus tried (the idea of
Goldberg, Reyzin, Sagga and Baldimtsi, "Efficient Noninteractive Certification of RSA Moduli", 2018).
"""

from __future__ import annotations

from taxledger.ledger import canonical
from taxledger.ledger.crypto import TAG_KEY_BYTES, TagSigner, check_tag_modulus, verify_tag_signature
from taxledger.ledger.errors import VerificationError

__all__ = ["TAG_KEY_PROOF_BYTES", "prove_tag_key", "verify_tag_key"]

_PROOFS_N = 8
TAG_KEY_PROOF_BYTES = _PROOFS_N * TAG_KEY_BYTES


def _message(chain_id: bytes, issuer: int, year: int, modulus: bytes, number: int) -> bytes:
    return canonical.encode(["taxledger/tag_key/1", chain_id, issuer, year, modulus, number])


def prove_tag_key(signer: TagSigner, chain_id: bytes, issuer: int, year: int) -> bytes:
    """The proof of a year's key: eight signatures joined, 3,072 bytes."""
    return b"".join(
        signer.sign(_message(chain_id, issuer, year, signer.modulus, number)) for number in range(_PROOFS_N)
    )


def verify_tag_key(modulus: bytes, proof: bytes, chain_id: bytes, issuer: int, year: int) -> None:
    """Returns when the issuer holds the key of ``modulus`` and the key gives one tag at most.

    Raises:
        FormatError: not an odd modulus of 3072 bits.
        VerificationError: ``tag_invalid``.
    """
    check_tag_modulus(modulus)
    if len(proof) != TAG_KEY_PROOF_BYTES:
        raise VerificationError(
            "tag_invalid", "length of a tag key's proof", expected=TAG_KEY_PROOF_BYTES, got=len(proof)
        )
    for number in range(_PROOFS_N):
        signature = proof[number * TAG_KEY_BYTES : (number + 1) * TAG_KEY_BYTES]
        verify_tag_signature(modulus, signature, _message(chain_id, issuer, year, modulus, number))
