"""Content under a passphrase: scrypt (RFC 7914) and AES-256-GCM, of the one library. Nothing of our own."""

from __future__ import annotations

import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from taxledger.ledger.errors import FormatError, InputError

__all__ = ["open_sealed", "seal"]

_N = 2**15
"""Cost: 32 MiB of memory and about a tenth of a second a guess."""
_R, _P = 8, 1
_N_MAX = 2**20
_SALT_BYTES, _NONCE_BYTES = 16, 12


def _key(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    try:
        secret = passphrase.encode()
    except UnicodeEncodeError:
        # Not the error itself: it holds the passphrase.
        raise InputError("expected a passphrase in UTF-8") from None
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(secret)


def seal(passphrase: str, content: bytes, associated: bytes) -> dict[str, Any]:
    """The content, sealed, as a JSON object; ``associated`` is bound to it and not kept in it.

    Raises:
        InputError: an empty passphrase.
    """
    if not passphrase:
        raise InputError("expected a passphrase that is not empty")
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(passphrase, salt, _N, _R, _P)).encrypt(nonce, content, associated)
    return {"kdf": ["scrypt", _N, _R, _P], "salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}


def open_sealed(passphrase: str, value: Any, associated: bytes) -> bytes:
    """The content.

    Raises:
        FormatError: ``value`` is not what ``seal`` makes.
        InputError: another passphrase, or a changed file.
    """
    try:
        name, n, r, p = value["kdf"]
        salt, nonce, sealed = (bytes.fromhex(value[each]) for each in ("salt", "nonce", "sealed"))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("expected what a passphrase sealed: kdf, salt, nonce, sealed") from error
    # A file that asks for a huge cost would stop the machine before the passphrase is even looked at.
    if name != "scrypt" or type(n) is not int or not 2 <= n <= _N_MAX or n & (n - 1) or (r, p) != (_R, _P):
        raise FormatError(f"expected scrypt with n up to {_N_MAX}, r {_R} and p {_P}")
    if len(nonce) != _NONCE_BYTES:
        raise FormatError(f"expected a nonce of {_NONCE_BYTES} bytes")
    try:
        return AESGCM(_key(passphrase, salt, n, r, p)).decrypt(nonce, sealed, associated)
    except InvalidTag as error:
        raise InputError("the passphrase does not open the wallet (or the file was changed)") from error
