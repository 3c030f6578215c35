"""``node.toml``: who a member is, where its node listens, and who its peers are. Standard library alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from taxledger.ledger.errors import FormatError
from taxledger.nodes.vaultconfig import VaultConfig, decode_vault, encode_vault

__all__ = [
    "ENGINES",
    "MEMBER_NAME",
    "NETWORK_NAME",
    "ROLES",
    "HomeConfig",
    "Peer",
    "check_address",
    "check_engine_peer",
    "decode_config",
    "encode_config",
    "host_port",
]

ROLES = ("validator", "observer")
ENGINES = ("embedded", "cometbft")
MEMBER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
NETWORK_NAME = re.compile(r"[a-z][a-z0-9.-]{0,62}\Z")
_ADDRESS = re.compile(r"(?:[0-9A-Za-z.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\]):([0-9]{1,5})\Z")
_ENGINE_PEER = re.compile(r"([0-9a-f]{40})@(.*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A member as its peers reach it (the home's own member is in the list too)."""

    number: int
    name: str
    role: str
    peer_url: str
    """``https://host:port`` for messages between nodes, mutual TLS."""
    engine: str | None = None
    """``nodeid@host:port`` at which the ordering engines of others reach its own; None without such an engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeConfig:
    """``node.toml``."""

    number: int
    name: str
    role: str
    network: str
    engine: str
    sequencer: int
    """Number of the member that orders transactions; 0 where the engine has none."""
    api_url: str
    """``http://127.0.0.1:port`` of the query API, or https with a certificate."""
    peer_url: str
    peers: tuple[Peer, ...]
    """All members with a node, ascending by number, this one included."""
    peer_listen: str | None = None
    """``host:port`` to listen at for peers, where it is not that of ``peer_url`` (another name, a port passed on)."""
    engine_address: str | None = None
    """``host:port`` at which the ordering engines of others reach its own; None without such an engine."""
    engine_listen: str | None = None
    """``host:port`` for its ordering engine to listen at, where it is not ``engine_address``."""
    keep_days: int | None = None
    """Days for which the content of blocks is kept; None for ever."""
    vault: VaultConfig = field(default_factory=VaultConfig)
    """The keys of its sealed stores."""

    @property
    def is_sequencer(self) -> bool:
        return self.number == self.sequencer

    @property
    def peer_address(self) -> tuple[str, int]:
        """Host and port to listen at for peers."""
        return host_port(self.peer_url if self.peer_listen is None else f"https://{self.peer_listen}")

    @property
    def others(self) -> tuple[Peer, ...]:
        """The peers without this member."""
        return tuple(each for each in self.peers if each.number != self.number)


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


def check_address(value: str) -> str:
    """A ``host:port``, as it is. Raises FormatError otherwise."""
    match = _ADDRESS.match(value)
    if match is None or not 1 <= int(match[1]) <= 65_535:
        raise FormatError(f"expected an address host:port, got {value!r:.300}")
    return value


def check_engine_peer(value: str) -> str:
    """A ``nodeid@host:port``, the id 40 lower-case hex digits, as it is. Raises FormatError otherwise."""
    match = _ENGINE_PEER.match(value)
    if match is None:
        raise FormatError(f"expected an engine nodeid@host:port, the id of 40 hex digits, got {value!r:.300}")
    check_address(match[2])
    return value


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


def _optional(table: Any, name: str, check: Callable[[str], str]) -> str | None:
    """An entry that may be absent, and that ``check`` must accept."""
    first, _, rest = name.partition(".")
    inner = table.get(first, {}) if rest else table
    if (rest or first) not in inner:
        return None
    try:
        return check(_entry(table, name, str))
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from error


def _sequencer(document: dict[str, Any]) -> int:
    return _number(document, "network.sequencer") if document["network"]["engine"] == "embedded" else 0


def _is_https(document: dict[str, Any]) -> bool:
    """The API has a certificate (``TAXLEDGER_API_CERTIFICATE``): then its URL says so."""
    return str(_entry(document, "api.url", str)).startswith("https://")


def _keep_days(document: dict[str, Any]) -> int | None:
    table = document.get("prune")
    if table is None:
        return None
    days: int = _entry(document, "prune.keep_days", int)
    if not 1 <= days <= 36_500:
        raise FormatError(f"expected prune.keep_days to be 1 to 36500 days, got {days}")
    return days


def decode_config(document: dict[str, Any]) -> HomeConfig:
    """The settings of a parsed ``node.toml``. Raises FormatError that names the wrong entry."""
    peers = tuple(
        Peer(
            number=_number(each, "number"),
            name=_matching(each, "name", MEMBER_NAME),
            role=_one_of(each, "role", ROLES),
            peer_url=_url(each, "peer_url", "https"),
            engine=_optional(each, "engine", check_engine_peer),
        )
        for each in _entry(document, "peers", list)
    )
    config = HomeConfig(
        number=_number(document, "member.number"),
        name=_matching(document, "member.name", MEMBER_NAME),
        role=_one_of(document, "member.role", ROLES),
        network=_matching(document, "network.name", NETWORK_NAME),
        engine=_one_of(document, "network.engine", ENGINES),
        sequencer=_sequencer(document),
        api_url=_url(document, "api.url", "https" if _is_https(document) else "http"),
        peer_url=_url(document, "peer.url", "https"),
        peers=peers,
        peer_listen=_optional(document, "peer.listen", check_address),
        engine_address=_optional(document, "engine.address", check_address),
        engine_listen=_optional(document, "engine.listen", check_address),
        keep_days=_keep_days(document),
        vault=decode_vault(document),
    )
    numbers = [each.number for each in peers]
    if numbers != sorted(set(numbers)):
        raise FormatError(f"expected peers ascending by number, each once, got {numbers}")
    for name, number in (("member.number", config.number), ("network.sequencer", config.sequencer)):
        if number and number not in numbers:
            raise FormatError(f"expected {name} {number} to be among the peers {numbers}")
    return config


def encode_config(config: HomeConfig) -> str:
    """``node.toml`` for these settings (all strings are names and URLs, which need no escapes)."""
    lines = [
        "# A taxledger node (docs/operating.md).",
        "[member]",
        f"number = {config.number}",
        f'name = "{config.name}"',
        f'role = "{config.role}"',
        "",
        "[network]",
        f'name = "{config.network}"',
        f'engine = "{config.engine}"',
        *([f"sequencer = {config.sequencer}"] if config.sequencer else []),
        "",
        "[api]",
        f'url = "{config.api_url}"',
        "",
        "[peer]",
        f'url = "{config.peer_url}"',
    ]
    if config.peer_listen is not None:
        lines.append(f'listen = "{config.peer_listen}"')
    if config.engine_address is not None:
        lines += ["", "[engine]", f'address = "{config.engine_address}"']
        if config.engine_listen is not None:
            lines.append(f'listen = "{config.engine_listen}"')
    for each in config.peers:
        lines += [
            "",
            "[[peers]]",
            f"number = {each.number}",
            f'name = "{each.name}"',
            f'role = "{each.role}"',
            f'peer_url = "{each.peer_url}"',
        ]
        if each.engine is not None:
            lines.append(f'engine = "{each.engine}"')
    if config.keep_days is not None:
        lines += ["", "[prune]", f"keep_days = {config.keep_days}"]
    return "\n".join(lines) + "\n" + encode_vault(config.vault)
