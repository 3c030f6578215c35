"""Where the other members' nodes are: what ``node.toml`` says, and what they have said since.

    peers.json    {"format": "taxledger peers 1", "peers": [{"number", "peer_url", "engine"}]}

A member tells its addresses to every node it knows, over mutual TLS, so they come from the member itself; the newest
word of a member counts, also against ``node.toml``. So one that joins later becomes known to all, and one may move.
What is said is on the disk before it is used: a restart forgets nobody.

Only members that are active on the ledger get so far; each has one entry, and may change it once in ten seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, InputError, RefusedError
from taxledger.nodes.home import Home, place_file
from taxledger.nodes.homeconfig import Peer, check_engine_peer, host_port

__all__ = ["Address", "AddressBook", "known_peers", "read_address"]

_FORMAT = "taxledger peers 1"
_FILE_BYTES_MAX = 512 * limits.members_max
_URL_BYTES_MAX = 300
_CHANGE_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a member says of itself: ``peer_url``, and ``nodeid@host:port`` of its engine or None."""

    peer_url: str
    engine: str | None = None


def read_address(peer_url: Any, engine: Any) -> Address:
    """An address as a stranger may have written it. Raises FormatError."""
    if type(peer_url) is not str or len(peer_url) > _URL_BYTES_MAX or not peer_url.isascii():
        raise FormatError(f"expected a peer URL of at most {_URL_BYTES_MAX} ASCII characters")
    host, port = host_port(peer_url)
    shown = f"[{host}]" if ":" in host else host
    if peer_url != f"https://{shown}:{port}":  # no path, no user, no query: they would go into each call
        raise FormatError(f"expected a peer URL https://host:port, got {peer_url!r}")
    if engine is not None:
        if type(engine) is not str:
            raise FormatError("expected an engine nodeid@host:port, or nil")
        check_engine_peer(engine)
    return Address(peer_url=peer_url, engine=engine)


def _read(path: Path) -> dict[int, Address]:
    try:
        data = path.read_bytes()[: _FILE_BYTES_MAX + 1]
    except FileNotFoundError:
        return {}
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT:
            raise FormatError("another format")
        found = {each["number"]: read_address(each["peer_url"], each["engine"]) for each in document["peers"]}
    except (ValueError, KeyError, TypeError, InputError) as error:
        raise FormatError(f"{path}: expected what a node of this version writes there: {error}") from error
    if any(type(number) is not int or not 1 <= number <= 65_535 for number in found):
        raise FormatError(f"{path}: expected member numbers 1 to 65535")
    return found


def known_peers(home: Home, names: Mapping[int, tuple[str, str]] | None = None) -> tuple[Peer, ...]:
    """All members with a node, without this home's own, ascending by number.

    Args:
        home: whose ``node.toml`` and ``peers.json`` are read.
        names: number → (name, role) of members that ``node.toml`` does not name; others are called by number.

    Raises:
        FormatError: ``peers.json`` is not what a node writes.
    """
    peers = {peer.number: peer for peer in home.config.others}
    for number, said in _read(home.path / "peers.json").items():
        if number == home.config.number:
            continue
        name, role = (names or {}).get(number, (f"member-{number}", "validator"))
        base = peers.get(number) or Peer(number=number, name=name, role=role, peer_url=said.peer_url)
        peers[number] = replace(base, peer_url=said.peer_url, engine=said.engine or base.engine)
    return tuple(peers[number] for number in sorted(peers))


class AddressBook:
    """The node's side: answers the peer verb ``address``.

    Args:
        home: whose it is.
        on_change: called with number and address when one is new.
        now: seconds, of any beginning.
    """

    def __init__(
        self,
        home: Home,
        on_change: Callable[[int, Address], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = home.path / "peers.json"
        self._own = home.config.number
        self._said = _read(self._path)
        self._first = {
            peer.number: Address(peer_url=peer.peer_url, engine=peer.engine) for peer in home.config.others
        }
        self._changed: dict[int, float] = {}
        self._on_change = on_change
        self._now = now
        config = home.config
        mine = next(peer for peer in config.peers if peer.number == config.number)
        self.message: list[Any] = [1, "address", mine.peer_url, mine.engine]
        """What this member says of itself."""

    def learn(self, member: int, address: Address) -> bool:
        """Keep what a member says of itself, durably; whether it was new.

        Raises:
            RefusedError: it changed a moment ago.
            UnavailableError: the home can't be written; then nothing changed.
        """
        if member == self._own or address == self._said.get(member, self._first.get(member)):
            return False
        now_s = self._now()
        if now_s - self._changed.get(member, -_CHANGE_AGAIN_S) < _CHANGE_AGAIN_S:
            raise RefusedError(
                "address_too_often", "this member's address changed a moment ago: say it later"
            )
        said = {**self._said, member: address}
        if len(said) > limits.members_max:
            raise RefusedError("addresses_full", f"expected at most {limits.members_max} addresses")
        peers = [
            {"number": number, "peer_url": said[number].peer_url, "engine": said[number].engine}
            for number in sorted(said)
        ]
        document = {"format": _FORMAT, "peers": peers}
        place_file(self._path, json.dumps(document, indent=2).encode() + b"\n", mode=0o644)
        self._said, self._changed[member] = said, now_s
        self._on_change(member, address)
        return True

    async def on_address(self, member: int, message: Any) -> Any:
        """Peer verb ``address``: ``[1, "address", peer_url, engine | nil]``, answered with our own."""
        if type(message) is not list or len(message) != 4 or message[:2] != [1, "address"]:
            raise InputError('expected [1, "address", peer_url, engine]')
        self.learn(member, read_address(message[2], message[3]))
        return self.message
