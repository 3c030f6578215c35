"""Dates of certificates, over real sockets: who expired is refused, who renews is not interrupted."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from taxledger.ledger import canonical
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.nodes.identity.pki import Authorities, issue_certificate, make_authority, validity_of
from taxledger.nodes.identity.tls import TlsFiles
from taxledger.nodes.peering.transport import PeerClient, PeerServer

NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


class Pair:
    """A server of member 1 and a client of member 2, each with the certificate and clock that a test gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        born = NOW - 100 * HOUR
        self.authority = {number: make_authority("net", f"m{number}", now=born) for number in (1, 2)}
        self.hashes: dict[int, Any] = {number: each.hash for number, each in self.authority.items()}
        self.bundle = folder / "peers.pem"
        self.bundle.write_bytes(b"".join(each.pem for each in self.authority.values()))
        self.offset_s = 0.0
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()
        self.settle()

    def settle(self) -> None:
        self.authorities = Authorities(self.bundle.read_bytes(), self.hashes)

    def now(self) -> float:
        return time.time() + self.offset_s

    def node(self, number: int, *, issued: datetime.datetime = NOW, hours: int = 10, name: str = "") -> Path:
        path = self.folder / f"{number}{name}.pem"
        made = self.authority[number]
        path.write_bytes(issue_certificate(made.pem, made.key_pem, now=issued, hours=hours))
        return path

    @asynccontextmanager
    async def connected(self, server_node: Path, *client_nodes: Path) -> AsyncIterator[tuple[Any, Any]]:
        async def who(member: int, message: Any) -> Any:
            if message == "wait":
                self.waiting.set()
                await self.go_on.wait()
            return [member]

        server = PeerServer(
            TlsFiles(node=server_node, authorities=self.bundle),
            lambda: self.authorities,
            {"who": who},
            lambda _error: None,
            self.now,
        )
        await server.start("127.0.0.1", 0)
        client = PeerClient(
            number=1,
            name="m1",
            url=f"https://127.0.0.1:{server.port}",
            files=TlsFiles(node=client_nodes[0], authorities=self.bundle, others=client_nodes[1:]),
            authorities=lambda: self.authorities,
            now=self.now,
        )
        try:
            yield server, client
        finally:
            self.go_on.set()
            await client.close()
            await server.stop()


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


async def ask(client: PeerClient, message: Any = None) -> Any:
    return canonical.decode(await client.call("who", message))


async def test_an_expired_client_is_refused(pair: Pair) -> None:
    expired = pair.node(2, issued=NOW - 2 * HOUR, hours=1)
    assert validity_of(expired.read_bytes()).end_s < time.time()
    async with pair.connected(pair.node(1), expired) as (server, client):
        with pytest.raises(UnavailableError):
            await ask(client)
        assert server.seen == {}, "refused in the handshake"


async def test_an_expired_server_is_refused(pair: Pair) -> None:
    async with pair.connected(pair.node(1, issued=NOW - 2 * HOUR, hours=1), pair.node(2)) as (server, client):
        with pytest.raises(UnavailableError, match="Certificate"):
            await ask(client)
        assert server.seen == {}


@pytest.mark.parametrize("early", [1, 2])
async def test_one_that_is_not_yet_valid_is_refused(pair: Pair, early: int) -> None:
    issued = {number: NOW + 5 * HOUR if number == early else NOW for number in (1, 2)}
    nodes = [pair.node(number, issued=issued[number]) for number in (1, 2)]
    async with pair.connected(*nodes) as (_, client):
        with pytest.raises(UnavailableError):
            await ask(client)


async def test_a_client_that_expires_is_cut_off_on_its_open_connection(pair: Pair) -> None:
    async with pair.connected(pair.node(1, hours=20), pair.node(2, hours=10)) as (server, client):
        assert await ask(client) == [2]
        client._now = time.time  # it does not notice
        pair.offset_s = 10 * 3600 + 5
        with pytest.raises(RefusedError, match="peer_expired"):
            await ask(client)
        assert server.seen[2] == validity_of((pair.folder / "2.pem").read_bytes())


async def ended(under_way: asyncio.Task[Any]) -> bool:
    with pytest.raises(UnavailableError, match=r"does not answer: (?!Timeout)"):
        await under_way
    return True


async def test_a_server_that_expires_is_left_also_by_calls_under_way(pair: Pair) -> None:
    half_an_hour = pair.node(1, issued=NOW - HOUR / 2, hours=1)
    async with pair.connected(half_an_hour, pair.node(2, hours=20)) as (_, client):
        assert await ask(client) == [2]
        line = client._line
        under_way = asyncio.create_task(ask(client, "wait"))
        await pair.waiting.wait()
        assert client._line is line
        pair.offset_s = 1_805
        await ask(client)  # the handshake goes by the true clock; what counts is that there was another
        assert client._line is not line
        assert await ended(under_way)


async def test_what_an_authority_that_counts_no_more_vouched_for_is_ended(pair: Pair) -> None:
    async with pair.connected(pair.node(1), pair.node(2)) as (_, client):
        under_way = asyncio.create_task(ask(client, "wait"))
        await pair.waiting.wait()
        fresh = make_authority("net", "m1", now=NOW)
        pair.bundle.write_bytes(pair.bundle.read_bytes() + fresh.pem)
        pair.hashes[1] = fresh.hash
        pair.settle()
        with pytest.raises(UnavailableError):
            await ask(client)
        assert await ended(under_way)


async def test_a_renewal_interrupts_no_call(pair: Pair) -> None:
    async with pair.connected(pair.node(1, hours=10), pair.node(2, hours=10)) as (server, client):
        assert await ask(client) == [2]
        under_way = asyncio.create_task(ask(client, "wait"))
        await pair.waiting.wait()
        server.use(pair.node(1, hours=30, name="new"))
        await client.use((pair.node(2, hours=40, name="new"),))
        assert await ask(client) == [2]
        for seen, hours in ((client.seen, 30), (server.seen[2], 40)):
            assert abs(seen.end_s - NOW.timestamp() - hours * 3600) <= 1
        assert not under_way.done()
        pair.go_on.set()
        assert await under_way == [2]


async def test_a_new_certificate_is_seen_within_an_hour_also_where_the_connection_never_rests(
    pair: Pair,
) -> None:
    async with pair.connected(pair.node(1, hours=10), pair.node(2)) as (server, client):
        assert await ask(client) == [2]
        server.use(pair.node(1, hours=30, name="new"))
        assert await ask(client) == [2]
        assert client.seen.end_s < time.time() + 11 * 3600, "the connection stands"
        pair.offset_s = 3_601
        assert await ask(client) == [2]
        assert client.seen.end_s > time.time() + 29 * 3600


async def test_a_broken_file_leaves_the_certificate_in_use(pair: Pair) -> None:
    async with pair.connected(pair.node(1), pair.node(2)) as (server, client):
        half = pair.folder / "half.pem"
        half.write_bytes((pair.folder / "1.pem").read_bytes()[:300])
        with pytest.raises(OSError, match=r"PEM|SSL"):
            server.use(half)
        assert await ask(client) == [2]


async def test_while_an_authority_changes_both_count_and_then_the_new_one_alone(pair: Pair) -> None:
    old = pair.node(2, name="old")
    former = pair.authority[2]
    pair.authority[2] = make_authority("net", "m2", now=NOW)
    new = pair.node(2, name="new")
    pair.bundle.write_bytes(pair.bundle.read_bytes() + pair.authority[2].pem)
    async with pair.connected(pair.node(1), old, new) as (server, client):
        assert await ask(client) == [2]
        pair.hashes[2] = (former.hash, pair.authority[2].hash)
        pair.settle()
        assert await ask(client) == [2], "the old one, under way"
        pair.hashes[2] = (pair.authority[2].hash,)
        pair.settle()
        assert await ask(client) == [2], "a client that is refused shows its other certificate at once"
        assert server.seen[2] == validity_of(new.read_bytes())
        del pair.hashes[2]
        pair.settle()
        for _ in range(3):
            with pytest.raises(RefusedError, match="peer_unknown"):
                await ask(client)


async def test_a_client_shows_its_former_certificate_to_a_peer_that_is_behind(pair: Pair) -> None:
    old = pair.node(2, name="old")
    pair.authority[2] = make_authority("net", "m2", now=NOW)  # the server has never heard of it
    new = pair.node(2, name="new")
    async with pair.connected(pair.node(1), new, old) as (_, client):
        with pytest.raises(UnavailableError):
            await ask(client)
        assert await ask(client) == [2]
