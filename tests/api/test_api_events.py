"""Events: made from the ledger alone; streamed by a real server, without a gap across its restarts."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator
from datetime import datetime

import chainkit
import httpx
import pytest
from fakenode import FAST, FakeNode, Keys, amend, make_app, policy_of, record, revoke

from taxledger.api.client import AsyncClient, Client, Event, EventId
from taxledger.api.client.follow import EventCursor
from taxledger.api.client.wire import RetryLimits
from taxledger.api.events import cloud_event, events_of_block
from taxledger.api.requests import ApiSettings
from taxledger.api.server import ApiServer
from taxledger.api.stream import encode_event
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.operations import encode_approve, encode_propose

QUICK = RetryLimits(total_s=5.0, first_s=0.01, pause_s_max=0.05)


def all_events(chain: chainkit.TestChain) -> list[Event]:
    return [event for block in chain.blocks for event in events_of(block)]


def events_of(block: chainkit.Block) -> list[Event]:
    executed = block.executed
    return events_of_block(executed.header.height, executed.header.time_ms, executed.leaves, executed.results)


# --- pure -----------------------------------------------------------------------------------


def test_events_of_blocks(module_chain: chainkit.TestChain) -> None:
    events = all_events(module_chain)
    assert [(str(event.id), event.type.removeprefix("taxledger.")) for event in events] == [
        ("1-0", "tag_key.published"),
        ("1-1", "block.certified"),
        ("2-0", "record.attested"),
        ("2-1", "block.certified"),
        ("4-0", "record.amended"),
        ("4-1", "block.certified"),
    ]
    attested = events[2]
    assert attested.subject == "5/5/2025"
    assert attested.data == {
        "member": 5, "transaction": module_chain.blocks[1].executed.leaf_hashes[0].hex(),
        "kind": 5, "year": 2025, "count": 3, "through": "2025-03-31",
    }  # fmt: skip
    assert events[3].data == {"height": 2, "transactions": 2, "refused": 1}
    amended = events[4]
    assert amended.subject == record(2).hex()
    assert (amended.data["version"], amended.data["status"], amended.data["reason"]) == (2, 2, 2)
    assert amended.data["reason_digest"] == "00" * 32


def test_events_of_revocations_and_governance(chain: chainkit.TestChain) -> None:
    chain.add(
        chain.sign(revoke(record(1), 1)),
        chain.sign(encode_propose(["parameter.set", "answer.age_s", 700]), 1),
    )
    proposal = chain.blocks[-1].executed.leaf_hashes[1][:16]
    chain.add(chain.sign(encode_approve(proposal), 2))
    revoked, proposed, _, approved, _ = [event for block in chain.blocks[-2:] for event in events_of(block)]
    assert (revoked.type, revoked.subject) == ("taxledger.record.revoked", record(1).hex())
    assert (revoked.data["version"], revoked.data["status"]) == (1, 4)
    assert (proposed.type, proposed.subject) == ("taxledger.parameter.proposed", "answer.age_s")
    assert (approved.type, approved.subject) == ("taxledger.proposal.approved", proposal.hex())


def test_cloud_event_form(module_chain: chainkit.TestChain) -> None:
    event = all_events(module_chain)[0]
    form = cloud_event(event, "net/00/embedded")
    assert {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"} == set(form)
    assert datetime.fromisoformat(form["time"]).timestamp() * 1_000 == event.time_ms
    assert form["time"].endswith(".000Z")


def test_ids_are_ordered_and_strict() -> None:
    assert EventId.parse("0") < EventId.parse("1-0") < EventId.parse("1-10") < EventId.parse("1")
    assert EventId.parse("1") < EventId.parse("2-0")
    assert [str(EventId.parse(text)) for text in ("7", "7-0")] == ["7", "7-0"]
    for text in ("", "-", "1-", "-1", "01", "1-01", "1_0", "1-1-1", "１", "9" * 19, "1-" + "9" * 10):
        with pytest.raises(FormatError):
            EventId.parse(text)


def test_a_cursor_takes_any_pieces_and_drops_what_came_before(module_chain: chainkit.TestChain) -> None:
    events = all_events(module_chain)
    wire = b"retry: 1\nid: 0\n\n" + b"".join(
        encode_event(event, module_chain.origin) + b": keep-alive\n\n" for event in events
    )
    seed = random.randrange(2**32)
    print("seed", seed)
    choose = random.Random(seed)
    for form in (wire, wire.replace(b"\n", b"\r\n")):
        cursor = EventCursor(module_chain.origin, None)
        found, at = [], 0
        while at < len(form):
            end = at + choose.randint(1, 80)
            found += cursor.feed(form[at:end])
            at = end
        assert found == events
        assert list(cursor.feed(form)) == []
        assert cursor.request().headers["Last-Event-ID"] == "4-1"


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"id: x\ndata: {}\n\n", "malformed"),
        (b"id: 1-0\ndata: {}\n\n", "malformed"),
        (b"id: 1-0\ndata: \xff\n\n", "malformed"),
        (b"id: 1-0\ndata: " + b"[" * 9_999 + b"\n\n", "malformed"),
        (b"x" * 1_048_577, "malformed"),
        (b"data: x\n" * 1_048_577, "malformed"),
    ],
)
def test_a_cursor_refuses_what_is_no_event(wire: bytes, code: str) -> None:
    with pytest.raises(VerificationError) as caught:
        list(EventCursor("net/00/embedded", None).feed(wire))
    assert caught.value.code == code


def test_a_cursor_refuses_another_chain(module_chain: chainkit.TestChain) -> None:
    wire = encode_event(all_events(module_chain)[0], "other/00/embedded")
    with pytest.raises(VerificationError, match="policy_mismatch"):
        list(EventCursor(module_chain.origin, None).feed(wire))


# --- a real server --------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(
    node: FakeNode, keys: Keys, port: int = 0, settings: ApiSettings = FAST
) -> AsyncIterator[ApiServer]:
    server = ApiServer(make_app(node, keys, settings=settings), host="127.0.0.1", port=port)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        await task


def url_of(server: ApiServer) -> str:
    return f"http://127.0.0.1:{server.bound_port}"


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


def client_of(server: ApiServer, node: FakeNode, keys: Keys) -> AsyncClient:
    return AsyncClient(url_of(server), keys.tokens["read"], policy_of(node.chain), retries=QUICK)


async def test_from_the_start_from_the_middle_and_from_now(
    node: FakeNode, keys: Keys, chain: chainkit.TestChain
) -> None:
    events = all_events(chain)
    async with serving(node, keys) as server, client_of(server, node, keys) as client:
        async with contextlib.aclosing(client.events(EventId.parse("0"))) as stream:
            assert await take(stream, 6) == events
        for at, event in enumerate(events[:-1]):
            async with contextlib.aclosing(client.events(event.id)) as stream:
                assert await take(stream, len(events) - at - 1) == events[at + 1 :]
        async with contextlib.aclosing(client.events()) as stream:
            waiting = asyncio.create_task(take(stream, 2))
            await asyncio.sleep(0.2)  # some keep-alives
            await node.grow(chain.sign(revoke(record(1), 1)))
            assert await waiting == events_of(chain.blocks[-1])


async def test_only_certified_blocks_are_streamed(
    node: FakeNode, keys: Keys, chain: chainkit.TestChain
) -> None:
    async with (
        serving(node, keys) as server,
        client_of(server, node, keys) as client,
        contextlib.aclosing(client.events()) as stream,
    ):
        waiting = asyncio.create_task(take(stream, 1))
        await asyncio.sleep(0.15)
        chain.add(chain.sign(revoke(record(1), 1)))
        await asyncio.sleep(0.15)
        assert not waiting.done()
        await node.certify()
        assert (await waiting)[0].subject == record(1).hex()


async def test_without_a_gap_across_restarts_of_the_node(
    node: FakeNode, keys: Keys, chain: chainkit.TestChain
) -> None:
    """The server goes away again and again while blocks come; a sync and an async consumer miss nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, policy = f"http://127.0.0.1:{port}", policy_of(chain)

    def follow_sync() -> list[Event]:
        with Client(url, keys.tokens["read"], policy, retries=QUICK) as client:
            stream = client.events(EventId.parse("0"))
            return [next(stream) for _ in range(6 + 2 * 24)]

    async def follow() -> list[Event]:
        async with (
            AsyncClient(url, keys.tokens["read"], policy, retries=QUICK) as client,
            contextlib.aclosing(client.events(EventId.parse("0"))) as stream,
        ):
            return await take(stream, 6 + 2 * 24)

    followers = [asyncio.create_task(follow()), asyncio.create_task(asyncio.to_thread(follow_sync))]
    for run in range(4):
        async with serving(node, keys, port):
            for _ in range(3):
                await node.grow(chain.sign(amend(record(3), len(chain.blocks) - 3, 1, 1)))
                await asyncio.sleep(0.02)
        for _ in range(3):  # while it is away
            await node.grow(chain.sign(amend(record(3), len(chain.blocks) - 3, 1, 1)))
        assert len(chain.blocks) == 4 + 6 * (run + 1)
    async with serving(node, keys, port):
        async with asyncio.timeout(15):
            found = await asyncio.gather(*followers)
    assert found[0] == found[1] == all_events(chain)


async def test_the_server_ends_at_once_with_streams_open(node: FakeNode, keys: Keys) -> None:
    settings = ApiSettings(keepalive_s=60.0)
    async with httpx.AsyncClient(headers=keys.header()) as http, contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(node, keys, settings=settings))
        response = await stack.enter_async_context(http.stream("GET", f"{url_of(server)}/v1/events"))
        pieces = response.aiter_bytes()
        assert b"id: 4\n" in await anext(pieces)
        begun = time.monotonic()
        server.should_exit = True
        assert [piece async for piece in pieces] == []  # a whole answer, not a cut one
        assert time.monotonic() - begun < 3


async def test_a_stopping_node_ends_its_streams(node: FakeNode, keys: Keys) -> None:
    node.stopping = True
    async with serving(node, keys) as server, httpx.AsyncClient(headers=keys.header()) as http:
        answer = await http.get(f"{url_of(server)}/v1/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_an_id_that_is_not_reached_yet_is_waited_for(node: FakeNode, keys: Keys) -> None:
    """A consumer of a node that is ahead resumes at one that is behind: nothing comes twice."""
    chain = node.chain
    async with (
        serving(node, keys) as server,
        client_of(server, node, keys) as client,
        contextlib.aclosing(client.events(EventId.parse("5-0"))) as stream,
    ):
        waiting = asyncio.create_task(take(stream, 1))
        await asyncio.sleep(0.2)
        await node.grow(chain.sign(revoke(record(1), 1)))
        assert [str(event.id) for event in await waiting] == ["5-1"]


async def test_streams_are_counted(node: FakeNode, keys: Keys) -> None:
    async with serving(node, keys) as server, httpx.AsyncClient(headers=keys.header()) as http:
        url = f"{url_of(server)}/v1/events"
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(5):
            bodies = []  # kept: a body that is collected closes its connection
            for _ in range(FAST.streams_max):
                response = await stack.enter_async_context(http.stream("GET", url))
                bodies.append(response.aiter_bytes())
                await anext(bodies[-1])
            answer = await http.get(url)
            assert (answer.status_code, answer.json()["code"]) == (429, "streams_exhausted")
        async with asyncio.timeout(5):  # closed ones are free again
            while True:
                async with http.stream("GET", url) as response:
                    if response.status_code == 200:
                        break
                await asyncio.sleep(0.02)


async def test_a_consumer_that_takes_nothing_is_cut_off(node: FakeNode, keys: Keys) -> None:
    settings = ApiSettings(send_timeout_s=0.3, keepalive_s=0.05, streams_max=1)
    chain = node.chain
    for _ in range(3):
        chain.add(chain.sign(amend(record(3), len(chain.blocks) - 3, 1, 1)))
    await node.certify()
    # Blocks without end: the same one under every height, so that the socket's buffers fill.
    template = await node.block(6)
    assert template is not None

    async def endless(height: int) -> object:
        return type(template)(
            height=height, time_ms=template.time_ms, leaves=template.leaves, results=template.results
        )

    node.block = endless  # type: ignore[method-assign,assignment]
    async with serving(node, keys, settings=settings) as server:
        with socket.create_connection(("127.0.0.1", server.bound_port)) as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            lines = [
                "GET /v1/events?after=0 HTTP/1.1",
                "Host: x",
                f"Authorization: Bearer {keys.tokens['read']}",
            ]
            silent.sendall("\r\n".join([*lines, "", ""]).encode())
            async with httpx.AsyncClient(headers=keys.header()) as http, asyncio.timeout(20):
                await asyncio.sleep(0.1)
                while True:
                    async with http.stream("GET", f"{url_of(server)}/v1/events") as response:
                        if response.status_code == 200:
                            break
                    await asyncio.sleep(0.05)
