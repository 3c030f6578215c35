"""Which key provider a home has chosen."""

from __future__ import annotations

from taxledger.nodes.home import Home
from taxledger.nodes.sealed.providers import FileKeyProvider, KeyProvider

__all__ = ["open_key_provider"]


def open_key_provider(home: Home) -> KeyProvider:
    """The provider that wraps the data keys of every sealed store of a home: its key file."""
    return FileKeyProvider(home.vault_key_path)
