"""A member's home: the folder in which everything of one node lies.

    node.toml               who this member is, where it listens, who its peers are
    genesis.bin             leaf 0 of the log        policy.txt     the trust root for this network
    keys/<use>.key          Ed25519 private keys (hex) of the uses transaction, vote, log, cosign; vault.key
    tls/                    ca.pem node.pem node.key, and peers.pem: the authorities of all members
    api_keys.json           hashed keys of the API      client.json    URL and key for the CLI of this home
    store/ vault.sqlite log/  what the node writes

Secrets have mode 0600 in folders of mode 0700; a home whose secrets others can read is refused.
Needs the standard library alone, so the CLI can use a home without a node's dependencies.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, InputError

__all__ = [
    "ENGINES",
    "ROLES",
    "Client",
    "Home",
    "HomeConfig",
    "Peer",
    "host_port",
    "read_secret",
    "write_secret",
]

ROLES = ("validator", "observer")
ENGINES = ("embedded",)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_NETWORK = re.compile(r"[a-z][a-z0-9.-]{0,62}\Z")
_HEX_KEY = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A member as its peers reach it (the home's own member is in the list too)."""

    number: int
    name: str
    role: str
    peer_url: str
    """``https://host:port`` for messages between nodes, mutual TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeConfig:
    """``node.toml``."""

    number: int
    name: str
    role: str
    network: str
    engine: str
    sequencer: int
    """Number of the member that orders transactions."""
    api_url: str
    """``http://127.0.0.1:port`` of the query API; loopback only."""
    peer_url: str
    peers: tuple[Peer, ...]
    """All members with a node, ascending by number, this one included."""

    @property
    def is_sequencer(self) -> bool:
        return self.number == self.sequencer

    @property
    def others(self) -> tuple[Peer, ...]:
        """The peers without this member."""
        return tuple(each for each in self.peers if each.number != self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """``client.json``: how the CLI of this home reaches its node."""

    url: str
    key: str

    def __repr__(self) -> str:
        return f"Client(url={self.url!r}, key=…)"


def host_port(url: str) -> tuple[str, int]:
    """Host and port of a URL that names both. Raises FormatError otherwise."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise FormatError(f"expected a URL with host and port, got {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not host or not port:
        raise FormatError(f"expected a URL http(s)://host:port, got {url!r}")
    return host, port


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, never readable by others in between."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)


def read_secret(path: Path) -> bytes:
    """The content of a secret file. Raises InputError when it is absent or others can read it."""
    try:
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path}: expected mode 0600, others can read this secret (chmod 600 it)")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error


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
    def vault_key_path(self) -> Path:
        return self.path / "keys" / "vault.key"

    @property
    def api_keys_path(self) -> Path:
        return self.path / "api_keys.json"

    @property
    def log_folder(self) -> Path:
        return self.path / "log"

    @property
    def tls_ca_path(self) -> Path:
        return self.path / "tls" / "ca.pem"

    @property
    def tls_node_path(self) -> Path:
        return self.path / "tls" / "node.pem"

    @property
    def tls_key_path(self) -> Path:
        return self.path / "tls" / "node.key"

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
        """The 32 private bytes of ``transaction``, ``vote``, ``log`` or ``cosign``, or the vault's key."""
        path = self.path / "keys" / f"{use}.key"
        text = read_secret(path).decode("ascii", "replace").strip()
        if not _HEX_KEY.match(text):
            raise FormatError(f"{path}: expected 64 hex digits")
        return bytes.fromhex(text)

    def has_key(self, use: str) -> bool:
        return (self.path / "keys" / f"{use}.key").exists()

    def client(self) -> Client:
        """URL and API key of this home's node, for the local CLI."""
        path = self.path / "client.json"
        try:
            value = json.loads(read_secret(path))
            return Client(url=value["url"], key=value["key"])
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f'{path}: expected a JSON object {{"url", "key"}}') from error

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


def _entry(table: Any, name: str, kind: type) -> Any:
    value: Any = table
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if type(value) is not kind:
        raise FormatError(f"expected {name} to be {kind.__name__}, got {value!r}")
    return value


def _matching(table: Any, name: str, pattern: re.Pattern[str]) -> str:
    value: str = _entry(table, name, str)
    if not pattern.match(value):
        raise FormatError(f"expected {name} to match {pattern.pattern[:-2]}, got {value!r}")
    return value


def _one_of(table: Any, name: str, allowed: tuple[str, ...]) -> str:
    value: str = _entry(table, name, str)
    if value not in allowed:
        raise FormatError(f"expected {name} to be one of {', '.join(allowed)}, got {value!r}")
    return value


def _number(table: Any, name: str) -> int:
    value: int = _entry(table, name, int)
    if not 1 <= value <= 65_535:
        raise FormatError(f"expected {name} to be a member number 1 … 65535, got {value}")
    return value


def _url(table: Any, name: str, scheme: str) -> str:
    value: str = _entry(table, name, str)
    host_port(value)
    if not value.startswith(f"{scheme}://"):
        raise FormatError(f"expected {name} to be a {scheme} URL, got {value!r}")
    return value


def decode_config(document: dict[str, Any]) -> HomeConfig:
    """The settings of a parsed ``node.toml``. Raises FormatError that names the wrong entry."""
    peers = tuple(
        Peer(
            number=_number(each, "number"),
            name=_matching(each, "name", _NAME),
            role=_one_of(each, "role", ROLES),
            peer_url=_url(each, "peer_url", "https"),
        )
        for each in _entry(document, "peers", list)
    )
    config = HomeConfig(
        number=_number(document, "member.number"),
        name=_matching(document, "member.name", _NAME),
        role=_one_of(document, "member.role", ROLES),
        network=_matching(document, "network.name", _NETWORK),
        engine=_one_of(document, "network.engine", ENGINES),
        sequencer=_number(document, "network.sequencer"),
        api_url=_url(document, "api.url", "http"),
        peer_url=_url(document, "peer.url", "https"),
        peers=peers,
    )
    numbers = [each.number for each in peers]
    if numbers != sorted(set(numbers)):
        raise FormatError(f"expected peers ascending by number, each once, got {numbers}")
    for name, number in (("member.number", config.number), ("network.sequencer", config.sequencer)):
        if number not in numbers:
            raise FormatError(f"expected {name} {number} to be among the peers {numbers}")
    return config


def encode_config(config: HomeConfig) -> str:
    """``node.toml`` for these settings (all strings are names and URLs, which need no escapes)."""
    lines = [
        "# A taxledger node. Made by `taxledger network create`.",
        "[member]",
        f"number = {config.number}",
        f'name = "{config.name}"',
        f'role = "{config.role}"',
        "",
        "[network]",
        f'name = "{config.network}"',
        f'engine = "{config.engine}"',
        f"sequencer = {config.sequencer}",
        "",
        "[api]",
        f'url = "{config.api_url}"',
        "",
        "[peer]",
        f'url = "{config.peer_url}"',
    ]
    for each in config.peers:
        lines += [
            "",
            "[[peers]]",
            f"number = {each.number}",
            f'name = "{each.name}"',
            f'role = "{each.role}"',
            f'peer_url = "{each.peer_url}"',
        ]
    return "\n".join(lines) + "\n"
