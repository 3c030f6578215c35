"""Key providers: who wraps the data keys of a sealed store. An envelope in the sense of NIST SP 800-57: the
provider's key opens data keys only, and data keys seal the rows. So it can be changed without touching a row,
and can stay in a device that never lets it out.

What a provider wraps has one form, which names its key in the clear: canonical msgpack ``[1, name, inner]``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.hashing import domain, keyed_hash
from taxledger.nodes.home import read_secret
from taxledger.nodes.sealed import sealing

__all__ = ["FileKeyProvider", "KeyProvider", "decode_wrapped", "encode_wrapped", "wrap_context", "wrapped_by"]

_FORMAT = 1
_INNER_BYTES_MAX = 1_024
_NAME = re.compile(r"[!-~][ -~]{0,200}\Z")
_HEX_KEY = re.compile(r"[0-9a-f]{64}\Z")

_FIRST_FORM_BYTES = sealing.NONCE_BYTES + sealing.KEY_BYTES + 16
_FIRST_PURPOSE = "vault.rows"
"""Vaults made before providers: the bare ciphertext, which names no key. Any of now is longer."""


class KeyProvider(Protocol):
    """Holds one key-encryption key and uses it; the key itself never leaves the provider.

    Contract, checked by one test that every implementation runs (tests/nodes/test_keyproviders.py):

    * ``unwrap(wrap(data_key, purpose), purpose)`` is ``data_key``, in any later process too, as long as the
      key exists. ``wrap`` returns only when the key is durable: what it wrapped must open after a power cut.
    * A wrapped key opens for its purpose alone. A changed, cut or foreign one raises; never other bytes.
    * Two calls of ``wrap`` never give the same bytes, and no part of the data key stands in them.
    * Trouble that may pass (no device, no PIN) is not the same as a wrapped key that does not open.
    * No message of an error holds a key, a PIN or a data key.
    """

    @property
    def name(self) -> str:
        """Which key this is, e.g. ``file:1f0c…`` or ``pkcs11:token/label``: printable ASCII, no secret."""

    def wrap(self, data_key: bytes, purpose: str) -> bytes:
        """The data key (32 bytes) in a form that only this provider's key opens.

        Raises:
            InputError: the key or PIN can't be read. UnavailableError: the device can't be reached.
        """

    def unwrap(self, wrapped: bytes, purpose: str) -> bytes:
        """What ``wrap`` was given.

        Raises:
            FormatError: wrapped by another key, for another purpose, or changed since.
            InputError, UnavailableError: as for ``wrap``; nothing is known about ``wrapped``.
        """


def encode_wrapped(name: str, inner: bytes) -> bytes:
    """What a provider of that name returns from ``wrap``."""
    return canonical.encode([_FORMAT, name, inner])


def decode_wrapped(wrapped: bytes) -> tuple[str, bytes]:
    """(name of the key, ciphertext). Raises FormatError where it is not of that form."""
    try:
        value = canonical.decode(wrapped)
    except InputError:
        value = None
    if (
        type(value) is not list
        or [type(each) for each in value] != [int, str, bytes]
        or value[0] != _FORMAT
        or not _NAME.match(value[1])
        or len(value[2]) > _INNER_BYTES_MAX
    ):
        raise FormatError("the vault does not open: a wrapped data key is damaged")
    return value[1], value[2]


def wrapped_by(wrapped: bytes) -> str:
    """Name of the key that wrapped this; ``file`` for one of a vault made before keys had names."""
    return "file" if len(wrapped) == _FIRST_FORM_BYTES else decode_wrapped(wrapped)[0]


def wrap_context(name: str, purpose: str) -> bytes:
    """Associated data of a wrapped key: it opens for this purpose and under this name alone."""
    return canonical.encode([domain("wrapped_key").decode(), name, purpose])


class FileKeyProvider:
    """The key is the content of a file of mode 0600: 64 hex digits.

    The file is read at each call, so that no key stays in memory and a changed file counts at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """``file:`` and 16 hex digits of a hash of the key: the file may be renamed."""
        return _file_key_name(self._key())

    def wrap(self, data_key: bytes, purpose: str) -> bytes:
        """See ``KeyProvider``."""
        key = self._key()
        name = _file_key_name(key)
        return encode_wrapped(name, sealing.encrypt(key, data_key, wrap_context(name, purpose)))

    def unwrap(self, wrapped: bytes, purpose: str) -> bytes:
        """See ``KeyProvider``."""
        key = self._key()
        if len(wrapped) == _FIRST_FORM_BYTES and purpose == _FIRST_PURPOSE:
            data_key = sealing.decrypt(key, wrapped, domain("vault_key"))
        else:
            name, inner = decode_wrapped(wrapped)
            data_key = sealing.decrypt(key, inner, wrap_context(name, purpose))
            if name != _file_key_name(key):
                data_key = None
        if data_key is None or len(data_key) != sealing.KEY_BYTES:
            raise FormatError(
                f"the vault does not open: the key file {self._path} is not the one it was made with"
            )
        return data_key

    def _key(self) -> bytes:
        text = read_secret(self._path).decode("ascii", "replace").strip()
        if not _HEX_KEY.match(text):
            raise FormatError(f"{self._path}: expected 64 hex digits")
        return bytes.fromhex(text)


def _file_key_name(key: bytes) -> str:
    return f"file:{keyed_hash(key, 'key_name', b'').hex()[:16]}"
