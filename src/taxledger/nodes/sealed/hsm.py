"""A key provider whose key lies in a token (PKCS#11 2.40: a hardware security module, or SoftHSM) and never
leaves it. The only file that imports ``pkcs11``.

The token wraps with AES-256-GCM under a nonce of ours, so it must allow one to be given (CKM_AES_GCM with
CK_GCM_PARAMS; a token in a strict FIPS mode may not). A data key crosses to the token and back in the clear:
the library and the way to the device are trusted, the key-encryption key is not with us.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11 import exceptions as errors

from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.nodes.sealed.providers import decode_wrapped, encode_wrapped, wrap_context
from taxledger.nodes.sealed.sealing import KEY_BYTES, NONCE_BYTES

__all__ = ["Pkcs11KeyProvider"]

_KEY_BITS = 256
_TAG_BITS = 128
_WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + _TAG_BITS // 8
_PIN_WRONG = (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange, errors.PinLocked, errors.PinExpired)

_login = threading.Lock()
"""A login counts for all sessions of a process on a token: one at a time, or the second is refused."""


class Pkcs11KeyProvider:
    """One AES-256 key of a token.

    A session is opened for each call and closed after it: no login stays behind, and a token that was away
    is found again.

    Args:
        module: path of the PKCS#11 library.
        token: label of the token.
        label: label of the key; no other key of the token may have it.
        pin: reads the user's PIN when it is needed; it is not kept.
    """

    def __init__(self, *, module: str, token: str, label: str, pin: Callable[[], str]) -> None:
        self._module = module
        self._token = token
        self._label = label
        self._pin = pin

    @property
    def name(self) -> str:
        """``pkcs11:<token>/<label of the key>``."""
        return f"pkcs11:{self._token}/{self._label}"

    def wrap(self, data_key: bytes, purpose: str) -> bytes:
        """See ``KeyProvider``."""
        with self._session() as session:
            return encode_wrapped(self.name, self._seal(self._key(session), data_key, purpose))

    def unwrap(self, wrapped: bytes, purpose: str) -> bytes:
        """See ``KeyProvider``."""
        name, inner = decode_wrapped(wrapped)
        if name != self.name or len(inner) != _WRAPPED_BYTES:
            raise FormatError(f"the vault does not open: it was wrapped by {name}, this key is {self.name}")
        with self._session() as session:
            key = self._key(session)
            try:
                return self._open(key, inner, purpose)
            except errors.PKCS11Error as error:
                # Tokens say "general error" for a wrong tag and for their own trouble alike: one that opens
                # what it has just sealed is well, and then it is the wrapped key that is wrong.
                self._open(key, self._seal(key, bytes(KEY_BYTES), purpose), purpose)
                raise FormatError(
                    f"the vault does not open: a data key was not wrapped by {self.name}, or was changed since"
                ) from error

    def exists(self) -> bool:
        """Whether the token has the key."""
        with self._session() as session:
            return bool(self._found(session))

    def create(self) -> None:
        """Makes the key in the token: sensitive, and not extractable.

        Raises:
            InputError: there is a key of that label already.
        """
        with self._session(write=True) as session:
            if self._found(session):
                raise InputError(f"expected a new label, the token has a key {self.name} already")
            session.generate_key(
                KeyType.AES,
                _KEY_BITS,
                label=self._label,
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={
                    Attribute.PRIVATE: True,
                    Attribute.SENSITIVE: True,
                    Attribute.EXTRACTABLE: False,
                },
            )

    def destroy(self) -> None:
        """Destroys the key: what only it has wrapped is lost."""
        with self._session(write=True) as session:
            self._key(session).destroy()

    # --- token ------------------------------------------------------------------------------

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[pkcs11.Session]:
        """A session that is logged in; a token's errors as ours, none with the PIN in it."""
        pin = self._pin()
        try:
            with _login:
                token = pkcs11.lib(self._module).get_token(token_label=self._token)
                with token.open(rw=write, user_pin=pin) as session:
                    yield session
        except _PIN_WRONG as error:
            raise InputError(f"token {self._token}: the PIN was refused: {type(error).__name__}") from None
        except errors.PKCS11Error as error:
            said = str(error) or type(error).__name__
            raise UnavailableError(f"token {self._token} of {self._module}: {said}") from error

    def _found(self, session: pkcs11.Session) -> list[Any]:
        # To the end of the search always: a session with an open one can't be closed cleanly.
        wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: self._label}
        return list(session.get_objects(wanted))

    def _key(self, session: pkcs11.Session) -> Any:
        found = self._found(session)
        if len(found) != 1:
            said = "several" if found else "none"
            raise InputError(f"expected one AES key {self.name}: the token has {said} of that label")
        key = found[0]
        if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
            raise InputError(f"expected a key that never leaves its token: {self.name} can be taken out")
        return key

    def _seal(self, key: Any, data_key: bytes, purpose: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + bytes(key.encrypt(data_key, **self._gcm(nonce, purpose)))

    def _open(self, key: Any, inner: bytes, purpose: str) -> bytes:
        return bytes(key.decrypt(inner[NONCE_BYTES:], **self._gcm(inner[:NONCE_BYTES], purpose)))

    def _gcm(self, nonce: bytes, purpose: str) -> dict[str, Any]:
        about = wrap_context(self.name, purpose)
        return {
            "mechanism": Mechanism.AES_GCM,
            "mechanism_param": GCMParams(nonce, about, _TAG_BITS),
        }
