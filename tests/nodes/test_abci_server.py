"""The socket that the engine dials: order, failures, an engine that goes and comes back."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from abcikit import random_message
from fakeengine import Channel, EngineStopped

from taxledger.ledger import limits
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.nodes.local.control import socket_address
from taxledger.nodes.ordering.cometbft import ending, wire
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.server import AbciServer


class Handler:
    """Answers each request with the response of its name; ``info`` and ``finalize_block`` as a test says."""

    def __init__(self) -> None:
        self.lost = 0
        self.calls: list[str] = []
        self.gate: asyncio.Event | None = None
        self.error: BaseException | None = None
        self.running = 0

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any) -> Any:
            self.running += 1
            assert self.running == 1 or name != "finalize_block"
            try:
                await asyncio.sleep(0)
                if self.gate is not None and name == "finalize_block":
                    await self.gate.wait()
                if self.error is not None and name == "query":
                    raise self.error
            finally:
                self.running -= 1
            self.calls.append(name)
            cls: Any = getattr(abci, type(request).__name__.replace("Request", "Response"))
            if name == "finalize_block":
                return abci.FinalizeBlockResponse(app_hash=request.height.to_bytes(8, "big"))
            return cls()

        return call

    async def consensus_lost(self) -> None:
        self.lost += 1
        self.calls.append("lost")


class Served:
    def __init__(self, path: Path) -> None:
        self.handler, self.broken = Handler(), list[BaseException]()
        self.path = path
        self.server = AbciServer(path, self.handler, self.broken.append)
        self.channels: list[Channel] = []

    async def dial(self) -> Channel:
        self.channels.append(await Channel.open(self.path))
        return self.channels[-1]

    async def stop(self) -> None:
        for each in self.channels:
            await each.close()
        await self.server.stop()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 — any state
                await asyncio.sleep(0.005)


async def has_ended(channel: Channel) -> bool:
    try:
        await channel.receive()
    except EngineStopped as stopped:
        return str(stopped) == "EOF"
    return False


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path / "abci.sock")
    await made.server.start()
    yield made
    await made.stop()


async def test_every_request_gets_its_response_in_order_on_four_connections(served: Served) -> None:
    chance = random.Random(7)

    async def one(channel: Channel) -> None:
        asked = [random_message(chance, chance.choice(list(abci.REQUESTS.values()))) for _ in range(80)]
        asked = [each for each in asked if not type(each).__name__.startswith(("InitChain", "FinalizeBlock"))]
        channel.send(*asked)
        for each in asked:
            response = await channel.receive()
            assert type(response).__name__ == type(each).__name__.replace("Request", "Response")
            if isinstance(each, abci.EchoRequest):
                assert response == abci.EchoResponse(message=each.message)
        await channel.close()

    for channel in [await served.dial() for _ in range(4)]:
        await one(channel)
    # Consensus calls of one engine never overlap, so the four at once ask only the rest.
    assert not served.broken


async def test_a_slow_call_holds_up_its_own_connection_only(served: Served) -> None:
    served.handler.gate = asyncio.Event()
    consensus, mempool = await served.dial(), await served.dial()
    consensus.send(abci.FinalizeBlockRequest(height=3), abci.CommitRequest())
    for _ in range(5):
        assert await mempool.ask(abci.CheckTxRequest(tx=b"tx"), abci.CheckTxResponse)
    assert "finalize_block" not in served.handler.calls
    served.handler.gate.set()
    assert await consensus.receive() == abci.FinalizeBlockResponse(app_hash=(3).to_bytes(8, "big"))
    assert await consensus.receive() == abci.CommitResponse()
    await consensus.close()
    await mempool.close()


@pytest.mark.parametrize("error", [RefusedError("no", "because"), ValueError("bug"), AssertionError("bug")])
async def test_a_failure_of_ours_is_told_and_ends_the_connection(served: Served, error: Exception) -> None:
    served.handler.error = error
    channel = await served.dial()
    channel.send(abci.InfoRequest(), abci.QueryRequest(), abci.InfoRequest())
    assert await channel.receive() == abci.InfoResponse()
    with pytest.raises(EngineStopped, match=type(error).__name__):
        await channel.receive()
    with pytest.raises(EngineStopped, match="EOF"):
        await channel.receive()
    assert served.broken == [error]
    assert await (await served.dial()).ask(abci.InfoRequest(), abci.InfoResponse)


async def test_a_response_that_can_not_be_written_is_a_failure_of_ours(served: Served) -> None:
    async def wrong(_request: Any) -> Any:
        return abci.InfoResponse(last_block_height=2**63)

    served.handler.info = wrong  # type: ignore[attr-defined]
    with pytest.raises(EngineStopped, match="FormatError"):
        await (await served.dial()).ask(abci.InfoRequest(), abci.InfoResponse)
    assert len(served.broken) == 1


GARBAGE = {
    "no request": abci.frame(b"\x08\x01"),
    "an empty one": b"\x00",
    "of the future": abci.frame(b"\xa2\x06\x00"),
    "a length without end": b"\xff" * 20,
    "cut in the length": b"\x80",
    "cut in the message": b"\x05\x0a",
    "too long": wire.encode_varint(limits.engine_message_bytes_max + 1) + b"x",
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_ends_its_connection_and_nothing_else(served: Served, what: str) -> None:
    channel, other = await served.dial(), await served.dial()
    channel.send(abci.EchoRequest(message="before"))
    channel.writer.write(GARBAGE[what])
    channel.writer.write_eof()
    assert await channel.receive() == abci.EchoResponse(message="before")
    with pytest.raises(EngineStopped, match="EOF"):
        await channel.receive()
    assert await other.ask(abci.EchoRequest(message="after"), abci.EchoResponse)
    await other.close()
    assert not served.broken


async def test_the_largest_message_passes(served: Served) -> None:
    channel = await served.dial()
    tx = bytes(limits.engine_message_bytes_max - 64)
    assert await channel.ask(abci.CheckTxRequest(tx=tx), abci.CheckTxResponse)
    await channel.close()


async def test_random_bytes_break_nothing(served: Served) -> None:
    chance = random.Random(11)
    for _ in range(60):
        channel = await served.dial()
        channel.writer.write(chance.randbytes(chance.randrange(1, 200)))
        channel.writer.write_eof()
        while not await has_ended(channel):
            pass
        await channel.close()
    assert not served.broken


async def test_the_end_of_the_connection_that_decides_is_told(served: Served) -> None:
    query, consensus = await served.dial(), await served.dial()
    await query.ask(abci.InfoRequest(), abci.InfoResponse)
    await consensus.ask(abci.InitChainRequest(), abci.InitChainResponse)
    await query.close()
    await consensus.close()
    await served.until(lambda: served.handler.lost == 1)
    again = await served.dial()
    await again.ask(abci.FinalizeBlockRequest(height=1), abci.FinalizeBlockResponse)
    await again.close()
    await served.until(lambda: served.handler.lost == 2)


async def test_an_engine_that_dials_again_waits_for_the_last_call_of_the_one_before(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.handler.gate = asyncio.Event()
    before = await served.dial()
    before.send(abci.FinalizeBlockRequest(height=1))
    await served.until(lambda: served.handler.running == 1)
    await before.close()
    after = await served.dial()
    after.send(abci.FinalizeBlockRequest(height=1))
    assert await (await served.dial()).ask(abci.EchoRequest(message="alive"), abci.EchoResponse)
    served.handler.gate.set()
    assert isinstance(await after.receive(), abci.FinalizeBlockResponse)
    assert served.handler.calls == ["finalize_block", "lost", "finalize_block"]
    # A call that never ends is given up, so that the new engine can go on.
    monkeypatch.setattr("taxledger.nodes.ordering.cometbft.server._LEAVE_S", 0.05)
    served.handler.gate = asyncio.Event()
    after.send(abci.FinalizeBlockRequest(height=2))
    await served.until(lambda: served.handler.running == 1)
    last = await served.dial()
    last.send(abci.InitChainRequest())
    assert isinstance(await last.receive(), abci.InitChainResponse)
    assert served.handler.calls[-2:] == ["lost", "init_chain"]
    assert not served.broken


async def test_stopping_ends_what_waits_and_removes_the_socket(tmp_path: Path) -> None:
    made = Served(tmp_path / "abci.sock")
    await made.server.start()
    made.handler.gate = asyncio.Event()
    channel = await made.dial()
    channel.send(abci.FinalizeBlockRequest())
    await made.until(lambda: made.handler.running == 1)
    await made.server.stop()
    with pytest.raises(EngineStopped, match="EOF"):
        await channel.receive()
    assert not made.path.exists()
    assert made.handler.lost == 0  # the node itself ends
    await made.server.start()
    assert await (await made.dial()).ask(abci.InfoRequest(), abci.InfoResponse)
    await made.stop()


async def test_the_socket_is_the_owners_alone_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("long " * 30) / "abci.sock"
    path.parent.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    with socket_address(path) as address:
        stale.bind(address)
    stale.close()
    made = Served(path)
    await made.server.start()
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert await (await made.dial()).ask(abci.InfoRequest(), abci.InfoResponse)
    await made.stop()


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "abci.sock"
    path.write_text("mine")
    with pytest.raises(UnavailableError, match="expected a socket"):
        await Served(path).server.start()
    assert path.read_text() == "mine"
    with pytest.raises(UnavailableError, match="cannot listen"):
        await Served(tmp_path / "nowhere" / "abci.sock").server.start()


STUBBORN = """
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX) as channel:
    channel.connect(sys.argv[1])
    channel.sendall(bytes.fromhex(sys.argv[2]))
    while channel.recv(1 << 16) and sys.argv[3] == "ends":
        pass
    while sys.argv[3] == "hangs":
        signal.pause()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.parametrize(("behaviour", "status"), [("ends", 0), ("hangs", -signal.SIGKILL)])
async def test_an_engine_that_is_told_to_end_is_gone_in_the_end(
    served: Served, monkeypatch: pytest.MonkeyPatch, behaviour: str, status: int
) -> None:
    monkeypatch.setattr(ending, "ENDS_S", 20.0 if behaviour == "ends" else 0.2)
    request = abci.frame(abci.encode_request(abci.CommitRequest())).hex()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUBBORN, str(served.path), request, behaviour
    )
    try:
        await served.until(lambda: "commit" in served.handler.calls)
        served.server.disconnect()
        async with asyncio.timeout(20):
            assert await process.wait() == status
        await served.until(lambda: served.handler.lost == 1)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
