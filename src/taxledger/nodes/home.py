"""A member's home: the folder in which everything of one node lies.

    node.toml               who this member is, where it listens, who its peers are
    genesis.bin             leaf 0 of the log        policy.txt     the trust root for this network
    keys/<use>.key          Ed25519 private keys (hex) of the uses transaction, vote, log, cosign; hpke.key
                            (X25519); vault.key; <use>.fresh: it has never signed (birthtokens.py)
    tls/                    ca.pem and ca.key: this member's authority; node.pem: the node's key and certificate;
                            peers.pem: the authorities of all members; <8 hex>/: a later authority
    member.json             the public part: all that this member hands to others (ceremony/memberfile.py)
    peers.json              where members said they are, since node.toml was written (addresses.py)
    api_keys.json           hashed keys of the API      client.json    URL and key for the CLI of this home
    store/ vault.sqlite log/  what the node writes; snapshots/: for members that join

Secrets have mode 0600 in folders of mode 0700; a home whose secrets others can read is refused.
Needs the standard library alone, so the CLI can use a home without a node's dependencies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.nodes.homeconfig import HomeConfig, decode_config, host_port

__all__ = [
    "Client",
    "Home",
    "HomeConfig",
    "host_port",
    "place_file",
    "read_client",
    "read_secret",
    "sync_folder",
    "write_secret",
]

_HEX_KEY = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """``client.json``: how the CLI of this home reaches its node."""

    url: str
    key: str
    ca: str | None = None
    """PEM file of the authority of an ``https`` URL's certificate; None for the system's."""

    def __repr__(self) -> str:
        return f"Client(url={self.url!r}, key=…)"


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, never readable by others in between."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def place_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put a file in the place of what is there, whole and durable when this returns: a crash in between leaves
    the old one.

    Raises:
        UnavailableError: the folder can't be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise UnavailableError(f"{path}: cannot write it: {error.strerror}") from error


def read_secret(path: Path) -> bytes:
    """The content of a secret file. Raises InputError when it is absent or others can read it."""
    try:
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path}: expected mode 0600, others can read this secret (chmod 600 it)")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error


def read_client(folder: Path) -> Client:
    """``client.json`` of a home. Raises InputError."""
    path = folder / "client.json"
    try:
        value = json.loads(read_secret(path))
        client = Client(url=value["url"], key=value["key"], ca=value.get("ca"))
        host_port(client.url)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f'{path}: expected a JSON object {{"url", "key"}}') from error
    return client


class Home:
    """Paths and settings of one member's home.

    Raises:
        InputError: ``path`` is no home.
        FormatError: its ``node.toml`` is wrong; the message names the entry.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()
        self.config = self._load()

    # --- files -------------------------------------------------------------------------------

    @property
    def genesis_path(self) -> Path:
        return self.path / "genesis.bin"

    @property
    def policy_path(self) -> Path:
        return self.path / "policy.txt"

    @property
    def store_path(self) -> Path:
        return self.path / "store"

    @property
    def vault_path(self) -> Path:
        return self.path / "vault.sqlite"

    @property
    def api_keys_path(self) -> Path:
        return self.path / "api_keys.json"

    @property
    def log_folder(self) -> Path:
        return self.path / "log"

    @property
    def engine_folder(self) -> Path:
        """The home of an ordering engine that is a process of its own."""
        return self.path / "engine"

    @property
    def keys_folder(self) -> Path:
        return self.path / "keys"

    @property
    def tls_folder(self) -> Path:
        return self.path / "tls"

    @property
    def tls_ca_path(self) -> Path:
        return self.path / "tls" / "ca.pem"

    @property
    def tls_node_path(self) -> Path:
        return self.path / "tls" / "node.pem"

    @property
    def tls_ca_key_path(self) -> Path:
        return self.path / "tls" / "ca.key"

    @property
    def tls_peers_path(self) -> Path:
        return self.path / "tls" / "peers.pem"

    # --- content -----------------------------------------------------------------------------

    def genesis(self) -> bytes:
        """Leaf 0 of the log."""
        return self._read(self.genesis_path, limits.leaf_bytes_max)

    def policy(self) -> bytes:
        """The policy file's bytes."""
        return self._read(self.policy_path, limits.policy_bytes_max)

    def key(self, use: str) -> bytes:
        """The 32 private bytes of ``transaction``, ``vote``, ``log``, ``cosign`` or ``hpke``, or the vault's
        key.
        """
        path = self.path / "keys" / f"{use}.key"
        text = read_secret(path).decode("ascii", "replace").strip()
        if not _HEX_KEY.match(text):
            raise FormatError(f"{path}: expected 64 hex digits")
        return bytes.fromhex(text)

    def has_key(self, use: str) -> bool:
        return (self.path / "keys" / f"{use}.key").exists()

    def client(self) -> Client:
        """URL and API key of this home's node, for the local CLI."""
        return read_client(self.path)

    def _read(self, path: Path, bytes_max: int) -> bytes:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot read it: {error.strerror}") from error
        if len(data) > bytes_max:
            raise InputError(f"{path}: expected at most {bytes_max} bytes, got {len(data)}")
        return data

    # --- node.toml ---------------------------------------------------------------------------

    def _load(self) -> HomeConfig:
        path = self.path / "node.toml"
        if not path.is_file():
            raise InputError(f"{self.path} is not a member's home: it has no node.toml")
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except (ValueError, OSError) as error:
            raise FormatError(f"{path}: not readable as TOML: {error}") from error
        try:
            return decode_config(document)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error
