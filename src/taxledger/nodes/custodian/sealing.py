"""Encryption at rest: AES-256-GCM (NIST SP 800-38D) in an envelope. The only file here that imports
``cryptography``'s ciphers.

The key file's key opens nothing but the data key; the data key seals every row. So the key file can be
changed without touching the rows. Associated data says table, key and version of a row: one that was moved
or put back in an older version does not open.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import domain, keyed_hash

__all__ = ["Sealer", "new_data_key", "unwrap_data_key"]

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random: with one key, 2^32 rows stay far below the bound for random 96-bit nonces."""

_WRAP = domain("vault_key")


def new_data_key(key: bytes) -> tuple[bytes, bytes]:
    """A fresh data key: (the 32 bytes, the same wrapped by the key file's key)."""
    data_key = os.urandom(KEY_BYTES)
    nonce = os.urandom(NONCE_BYTES)
    return data_key, nonce + AESGCM(_checked(key)).encrypt(nonce, data_key, _WRAP)


def unwrap_data_key(key: bytes, wrapped: bytes) -> bytes:
    """The data key of an existing vault.

    Raises:
        FormatError: the key file is not that of this vault.
    """
    try:
        return AESGCM(_checked(key)).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _WRAP)
    except (InvalidTag, ValueError) as error:
        raise FormatError("the vault does not open: the key file is not the one it was made with") from error


def _checked(key: bytes) -> bytes:
    if type(key) is not bytes or len(key) != KEY_BYTES:
        raise FormatError(f"expected a vault key of {KEY_BYTES} bytes")
    return key


class Sealer:
    """Seals and opens rows with the data key."""

    __slots__ = ("_cipher", "_lookup_key")

    def __init__(self, data_key: bytes) -> None:
        self._cipher = AESGCM(data_key)
        self._lookup_key = keyed_hash(data_key, "vault_lookup", b"")

    def lookup(self, data: bytes) -> bytes:
        """16 bytes under which a row is found without its name standing in the file: a keyed hash."""
        return keyed_hash(self._lookup_key, "vault_lookup", data)[:16]

    def seal(
        self, table: bytes, key: bytes, version: int, content: bytes, nonce: bytes | None = None
    ) -> bytes:
        """``nonce12 ‖ ciphertext ‖ tag16``. A ``nonce`` that is given must be fresh random bytes."""
        nonce = nonce or os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, table + key + version.to_bytes(4, "big"))

    def open(self, table: bytes, key: bytes, version: int, sealed: bytes) -> bytes:
        """What was sealed at this place.

        Raises:
            FormatError: changed, cut or moved since.
        """
        try:
            about = table + key + version.to_bytes(4, "big")
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError, TypeError) as error:
            raise FormatError(
                f"the vault is damaged: {table.decode()} {key.hex()} version {version} was changed since "
                "it was written; restore it from a backup"
            ) from error
