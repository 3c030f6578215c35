"""Messages between nodes over real mutual TLS: who is let in, who is cut off, and what is not even read."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from taxledger.ledger import canonical
from taxledger.ledger.errors import InvariantError, RefusedError, UnavailableError
from taxledger.nodes.identity.pki import Authorities, Credentials, make_credentials
from taxledger.nodes.identity.tls import TlsFiles
from taxledger.nodes.peering.transport import PeerClient, PeerServer

NOW = datetime.datetime.now(datetime.UTC)


class Members:
    """Credentials of three members, and the ledger's word on which of them are active."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.of = {number: make_credentials("net", f"m{number}", now=NOW) for number in (1, 2, 3)}
        self.bundle = folder / "peers.pem"
        self.set_active(1, 2)

    def set_active(self, *numbers: int) -> None:
        self.bundle.write_bytes(b"".join(self.of[number].ca_pem for number in numbers))
        hashes = {number: self.of[number].ca_hash for number in numbers}
        self.authorities = Authorities(self.bundle.read_bytes(), hashes)

    def files(self, number: int, credentials: Credentials | None = None) -> TlsFiles:
        chosen = credentials or self.of[number]
        node = self.folder / f"{number}.pem"
        node.write_bytes(chosen.node_pem)
        return TlsFiles(node=node, authorities=self.bundle)

    def client(self, sender: int, port: int, files: TlsFiles | None = None) -> PeerClient:
        return PeerClient(
            number=1,
            name="m1",
            url=f"https://127.0.0.1:{port}",
            files=files or self.files(sender),
            authorities=lambda: self.authorities,
        )


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path)


@asynccontextmanager
async def serving(members: Members, broken: list[InvariantError] | None = None) -> AsyncIterator[int]:
    async def who(member: int, _message: Any) -> Any:
        return [member]

    async def bug(_member: int, _message: Any) -> Any:
        raise InvariantError("a bug of ours")

    seen = broken if broken is not None else []
    server = PeerServer(
        members.files(1), lambda: members.authorities, {"who": who, "step": who, "bug": bug}, seen.append
    )
    await server.start("127.0.0.1", 0)
    try:
        yield server.port
    finally:
        await server.stop()


async def ask(client: PeerClient, verb: str = "who", message: Any = None) -> Any:
    return canonical.decode(await client.call(verb, [1, verb, message]))


async def test_a_member_is_cut_off_on_its_open_connection_when_it_is_suspended(members: Members) -> None:
    async with serving(members) as port:
        client = members.client(2, port)
        assert await ask(client) == [2]
        members.set_active(1)
        with pytest.raises(RefusedError, match="peer_unknown"):
            await ask(client)
        members.set_active(1, 2)
        assert await ask(client) == [2]
        await client.close()


async def test_nobody_talks_to_a_member_that_was_suspended(members: Members) -> None:
    async with serving(members) as port:
        client = members.client(2, port)
        assert await ask(client) == [2]
        members.set_active(2)
        with pytest.raises(UnavailableError, match="not active"):
            await ask(client)
        await client.close()


async def test_a_new_member_is_let_in_without_a_restart(members: Members) -> None:
    async with serving(members) as port:
        stranger, known = members.client(3, port), members.client(2, port)
        with pytest.raises(UnavailableError):
            await ask(stranger)
        members.set_active(1, 2, 3)
        assert await ask(known) == [2]  # the ledger's change is seen with the next message of anybody
        assert await ask(stranger) == [3]
        await stranger.close()
        await known.close()


async def test_a_member_that_changed_its_authority_is_trusted_under_the_new_one_only(
    members: Members,
) -> None:
    async with serving(members) as port:
        client = members.client(2, port)
        assert await ask(client) == [2]
        members.of[1] = make_credentials("net", "m1", now=NOW)
        members.set_active(1, 2)
        with pytest.raises(UnavailableError):
            await ask(client)
        await client.close()


async def test_a_certificate_that_names_another_member_speaks_for_its_issuer_only(members: Members) -> None:
    forged = make_credentials("net", "m1", now=NOW)  # says m1, signed by an authority of its own
    members.of[2] = forged
    members.set_active(1, 2)
    async with serving(members) as port:
        client = members.client(2, port, members.files(2, forged))
        assert await ask(client) == [2]
        await client.close()


async def test_only_the_largest_messages_may_be_large(members: Members) -> None:
    async with serving(members) as port:
        client = members.client(2, port)
        with pytest.raises(RefusedError, match="at most 8192"):
            await ask(client, message=bytes(9_000))
        assert await ask(client, "step", bytes(9_000)) == [2]
        await client.close()


async def test_a_broken_invariant_ends_the_process(members: Members) -> None:
    broken: list[InvariantError] = []
    async with serving(members, broken) as port:
        client = members.client(2, port)
        with pytest.raises(RefusedError):
            await ask(client, "bug")
        assert [str(error) for error in broken] == ["a bug of ours"]
        await client.close()


async def test_a_peer_cannot_send_our_messages_elsewhere(members: Members) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, handle_signals=False)
    await runner.setup()
    files = members.files(1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.node)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    client = members.client(2, runner.addresses[0][1])
    with pytest.raises(RefusedError):
        await ask(client)
    assert asked == ["/peer/1/who"]
    await client.close()
    await runner.cleanup()
