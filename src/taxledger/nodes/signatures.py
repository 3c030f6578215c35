"""Signatures between validators, each verified once.

A vote comes back within the decision, a co-signature with every answer until it has certified its block, and
our own come back too: of ten verifications a block, seven would be of something known.
"""

from __future__ import annotations

from taxledger.ledger.crypto import Signer, verify_signature

__all__ = ["SignatureMemory"]

_SIZE_MAX = 1_024


class SignatureMemory:
    """``verify_signature`` and ``Signer.sign`` that remember, within bounds, what is valid.

    What is remembered is the triple of key, signature and message, whole: nothing else can be taken for it.
    Lives on the ledger thread.
    """

    def __init__(self, size_max: int = _SIZE_MAX) -> None:
        self._known: dict[tuple[bytes, bytes, bytes], None] = {}  # oldest first
        self._size_max = size_max

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> None:
        """As ``verify_signature``. Raises VerificationError."""
        known = (public_key, signature, message)
        if known not in self._known:
            verify_signature(public_key, signature, message)
            self._remember(known)

    def sign(self, signer: Signer, message: bytes) -> bytes:
        """As ``signer.sign``."""
        signature = signer.sign(message)
        self._remember((signer.public_key, signature, message))
        return signature

    def _remember(self, known: tuple[bytes, bytes, bytes]) -> None:
        if len(self._known) >= self._size_max:
            del self._known[next(iter(self._known))]
        self._known[known] = None
