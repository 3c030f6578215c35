"""The key provider a home has chosen (``[vault]`` in its ``node.toml``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from taxledger.ledger.errors import FormatError, InputError, TaxledgerError, UnavailableError
from taxledger.nodes.home import Home, read_secret
from taxledger.nodes.sealed.providers import FileKeyProvider, KeyProvider, wrapped_by
from taxledger.nodes.vaultconfig import KeySource, VaultConfig

if TYPE_CHECKING:
    from taxledger.nodes.sealed.hsm import Pkcs11KeyProvider

__all__ = ["HomeKeys", "has_key_provider", "open_key_provider", "provider_of", "token_provider"]

PIN_VARIABLE = "TAXLEDGER_VAULT_PIN"


def open_key_provider(home: Home) -> KeyProvider:
    """The provider that wraps the data keys of every sealed store of a home.

    Raises:
        InputError: its key file can't be read, or others can read it.
        UnavailableError: a token is asked for, and what talks to it is not installed.
    """
    keys = HomeKeys(home)
    _ = keys.name  # said at the start, not at the first dossier
    return keys


def has_key_provider(home: Home) -> bool:
    """Whether the home names a key, or has the default one."""
    source = home.config.vault.rows
    return source.provider != "file" or (home.path / source.file).exists()


def provider_of(home: Path, source: KeySource) -> KeyProvider:
    """The provider of one entry of ``node.toml``; nothing is opened yet."""
    if source.provider == "file":
        return FileKeyProvider(home / source.file)
    return token_provider(home, source)


def token_provider(home: Path, source: KeySource) -> Pkcs11KeyProvider:
    """The provider of a key in a token."""
    try:
        from taxledger.nodes.sealed.hsm import Pkcs11KeyProvider
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "a key in a token needs python-pkcs11: pip install 'taxledger[hsm]' installs it"
        ) from error
    return Pkcs11KeyProvider(
        module=source.module, token=source.token, label=source.label, pin=lambda: _pin(home, source)
    )


def _pin(home: Path, source: KeySource) -> str:
    """Never from a command line: every process of the machine could read it there."""
    if source.pin_file:
        pin = read_secret(home / source.pin_file).decode("utf-8", "replace").strip()
    else:
        pin = os.environ.get(PIN_VARIABLE, "")
    if not pin:
        raise InputError(f"expected the PIN of token {source.token} in pin_file or {PIN_VARIABLE}")
    return pin


class HomeKeys:
    """All keys that ``node.toml`` names, as one ``KeyProvider``: the purpose says which one wraps, the wrapped
    key's own name which one unwraps.

    ``node.toml`` is read at each call, which are few: a node goes on when keys are rotated while it runs.
    While a rotation goes on, some stores are wrapped by the old key and some by the next: both unwrap.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.path

    def _config(self) -> VaultConfig:
        return Home(self._path).config.vault

    @property
    def name(self) -> str:
        """Of the key that wraps rows."""
        return provider_of(self._path, self._config().rows).name

    def name_for(self, purpose: str) -> str:
        """Of the key that wraps for a purpose."""
        return provider_of(self._path, self._config().source(purpose)).name

    def wrap(self, data_key: bytes, purpose: str) -> bytes:
        """See ``KeyProvider``."""
        return provider_of(self._path, self._config().source(purpose)).wrap(data_key, purpose)

    def unwrap(self, wrapped: bytes, purpose: str) -> bytes:
        """See ``KeyProvider``."""
        wanted = wrapped_by(wrapped)
        known: list[str] = []
        unread: list[TaxledgerError] = []
        for source in self._config().sources:
            provider = provider_of(self._path, source)
            try:
                known.append(provider.name)
            except TaxledgerError as error:
                unread.append(error)
                continue
            if known[-1] == wanted:
                return provider.unwrap(wrapped, purpose)
            if wanted == "file" and source.provider == "file":
                # A vault of the first form: it does not say which file, so each is tried.
                try:
                    return provider.unwrap(wrapped, purpose)
                except FormatError:
                    continue
        if unread:
            raise unread[0]
        raise FormatError(
            f"the vault does not open: its data key was wrapped by {wanted}, "
            f"node.toml names {', '.join(known)}: another key is not the one it was made with"
        )
