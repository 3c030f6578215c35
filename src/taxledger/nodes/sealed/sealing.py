"""Encryption at rest: AES-256-GCM (NIST SP 800-38D). The only file of the nodes that imports
``cryptography``'s ciphers.

Associated data says table, key and version of a row: one that was moved or put back in an older version does
not open.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from taxledger.ledger.errors import FormatError, check
from taxledger.ledger.hashing import keyed_hash

__all__ = ["KEY_BYTES", "NONCE_BYTES", "Sealer", "decrypt", "encrypt", "lookup", "new_key"]

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random: with one key, 2^32 rows stay far below the bound for random 96-bit nonces."""


def new_key() -> bytes:
    """32 fresh random bytes."""
    return os.urandom(KEY_BYTES)


def encrypt(key: bytes, content: bytes, about: bytes) -> bytes:
    """``nonce12 ‖ ciphertext ‖ tag16``, bound to ``about``."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, about)


def decrypt(key: bytes, sealed: bytes, about: bytes) -> bytes | None:
    """What ``encrypt`` sealed; None with another key, other ``about``, or changed bytes."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
    except (InvalidTag, ValueError, TypeError):
        return None


def lookup(lookup_key: bytes, data: bytes) -> bytes:
    """16 bytes under which a row is found without its name standing in the file: a keyed hash."""
    return keyed_hash(lookup_key, "vault_lookup", data)[:16]


def _about(table: bytes, key: bytes, version: int) -> bytes:
    """The place that a sealed row is bound to. All keys of a table have one length, so no two places look alike."""
    return table + key + version.to_bytes(4 if version < 1 << 32 else 8, "big")


class Sealer:
    """Seals and opens rows with one data key."""

    __slots__ = ("_cipher",)

    def __init__(self, data_key: bytes) -> None:
        check(len(data_key) == KEY_BYTES, "a data key that is not 32 bytes")
        self._cipher = AESGCM(data_key)

    def seal(
        self, table: bytes, key: bytes, version: int, content: bytes, nonce: bytes | None = None
    ) -> bytes:
        """``nonce12 ‖ ciphertext ‖ tag16``. A ``nonce`` that is given must be fresh random bytes."""
        nonce = nonce or os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, _about(table, key, version))

    def open(self, table: bytes, key: bytes, version: int, sealed: bytes) -> bytes:
        """What was sealed at this place.

        Raises:
            FormatError: changed, cut or moved since, or sealed with another key.
        """
        try:
            about = _about(table, key, version)
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError, TypeError) as error:
            raise FormatError(
                f"the vault is damaged: {table.decode()} {key.hex()} version {version} was changed since "
                "it was written; restore it from a backup"
            ) from error
