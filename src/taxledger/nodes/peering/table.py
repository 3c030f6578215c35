"""The clients of the other members' nodes: one for each member whose address is known, also those that join later.

Our own address is told to every one of them, again and again until it has said that it knows it; a member that we
did not know before tells us in the same way (``addresses.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.errors import InputError, TaxledgerError
from taxledger.ledger.members import MemberStatus, StateReader, member_of
from taxledger.nodes.home import Home
from taxledger.nodes.identity.pki import Authorities
from taxledger.nodes.logs import get_logger
from taxledger.nodes.peering.addresses import Address, AddressBook, known_peers, read_address
from taxledger.nodes.peering.transport import PeerClient, TlsFiles

__all__ = ["PeerTable"]

_EVERY_S = 3.0
_TELL_MS = 2_000
_ANSWER_BYTES_MAX = 1_024


class PeerTable:
    """Made on the event loop.

    Args:
        home: whose node it is.
        files: its TLS files at the start.
        authorities: those that count now.
        state: the newest certified state.

    Attributes:
        clients: by member number; grows while the node runs, never shrinks: who may be called is the ledger's
            to say (``PeerClient`` refuses a member that is not active).
        on_new: called with each client that is added.
    """

    def __init__(
        self,
        home: Home,
        *,
        files: TlsFiles,
        authorities: Callable[[], Authorities],
        state: Callable[[], StateReader],
    ) -> None:
        self._home = home
        self._files = files
        self._authorities = authorities
        self._state = state
        self._told: dict[int, Address] = {}  # to whom, at which address of theirs, our own was told
        self._moves: set[asyncio.Task[None]] = set()
        self._log = get_logger("peers")
        self.on_new: Callable[[PeerClient], None] = lambda _client: None
        self.book = AddressBook(home, self._take)
        self.clients: dict[int, PeerClient] = {}
        self._engines: dict[int, str | None] = {}
        for peer in known_peers(home):
            name = self._name(peer.number, peer.name)
            self.clients[peer.number] = self._client(peer.number, name, peer.peer_url)
            self._engines[peer.number] = peer.engine

    def _name(self, number: int, fallback: str) -> str:
        member = member_of(self._state(), number)
        return fallback if member is None else member.name

    def _client(self, number: int, name: str, url: str) -> PeerClient:
        return PeerClient(number=number, name=name, url=url, files=self._files, authorities=self._authorities)

    def handlers(self) -> dict[str, Callable[[int, Any], Awaitable[Any]]]:
        """Peer verbs of this module."""
        return {"address": self.book.on_address}

    def admits(self, engine_id: str) -> bool:
        """Whether an ordering engine of this id is that of a member that was not removed."""
        named = [
            number
            for number, engine in self._engines.items()
            if engine is not None and engine.partition("@")[0] == engine_id
        ]
        members = [member_of(self._state(), number) for number in named]
        # None: this node may not have come so far. Any of them: one that was removed may have named another's engine.
        return any(member is None or member.status != MemberStatus.REMOVED for member in members)

    def _take(self, number: int, address: Address) -> None:
        """A member said where it is, and it is on the disk."""
        self._log.info("address learned", member=number, url=address.peer_url)
        self._engines[number] = address.engine or self._engines.get(number)
        client = self.clients.get(number)
        if client is not None:
            task = asyncio.get_running_loop().create_task(client.move(address.peer_url))
            self._moves.add(task)
            task.add_done_callback(self._moves.discard)
            return
        client = self._client(number, self._name(number, f"member-{number}"), address.peer_url)
        self.clients[number] = client
        self.on_new(client)

    async def run(self) -> None:
        """Tell everybody our address, for ever: whoever is new, or was away, hears it when it can be reached."""
        while True:
            await asyncio.gather(*(self._tell(client) for client in list(self.clients.values())))
            await asyncio.sleep(_EVERY_S)

    async def _tell(self, client: PeerClient) -> None:
        if client.number in self._told:
            return
        with contextlib.suppress(TaxledgerError):
            data = await client.call(
                "address", self.book.message, timeout_ms=_TELL_MS, answer_bytes_max=_ANSWER_BYTES_MAX
            )
            value = canonical.decode(data, bytes_max=_ANSWER_BYTES_MAX)
            if type(value) is not list or len(value) != 4 or value[:2] != [1, "address"]:
                raise InputError('expected [1, "address", peer_url, engine]')
            self._told[client.number] = read_address(value[2], value[3])
            # Its own word, on a connection that only it can have answered: it may have moved as well.
            self.book.learn(client.number, self._told[client.number])

    async def close(self) -> None:
        """End all connections."""
        for client in self.clients.values():
            await client.close()
