"""TCP from one namespace into another, by this process: a way in for the test, and a slow link between two nodes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable

from namespaces import enter_namespace

__all__ = ["Relays"]

_PIECE = 64 * 1024


class _Line:
    """One direction of one connection: what comes in goes out, in order, ``delay_s()`` later."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: Callable[[], float]
    ) -> None:
        self._reader, self._writer, self._delay_s = reader, writer, delay_s
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1_024)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take())
            group.create_task(self._give())

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(ConnectionError):
                piece = await self._reader.read(_PIECE)
                await self._pieces.put((loop.time() + self._delay_s(), piece))
                if piece:
                    continue
            await self._pieces.put((loop.time(), b""))
            return

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at, piece = await self._pieces.get()
            if at > loop.time():
                await asyncio.sleep(at - loop.time())
            with contextlib.suppress(ConnectionError):
                if piece:
                    self._writer.write(piece)
                    await self._writer.drain()
                elif self._writer.can_write_eof():
                    self._writer.write_eof()
            if not piece:
                return


class Relays:
    """A thread inside a namespace, and the relays that it serves.

    Attributes:
        delay_ms: of everything that passes, in each direction; may be changed at any time.
    """

    def __init__(self, namespace: str) -> None:
        self.delay_ms = 0
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._inside = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(namespace,), name=f"relays {namespace}")
        self._thread.start()
        assert self._inside.wait(10)

    def _run(self, namespace: str) -> None:
        enter_namespace(namespace)
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._inside.set)
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # transports close some turns later

    def _do(self, coroutine: Awaitable[int]) -> int:
        async def done() -> int:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def enter(self, port: int) -> None:
        """``127.0.0.1:port`` of our own namespace leads to the same port of the thread's."""
        listening = socket.create_server(("127.0.0.1", port))  # made here, so it listens here
        self._do(self._serve("127.0.0.1", port, listening=listening))

    def forward(self, address: str, host: str, port: int) -> int:
        """A port of ``address``, in the thread's namespace, that leads to ``host:port``."""
        return self._do(self._serve(host, port, address=address))

    async def _serve(
        self, host: str, port: int, *, listening: socket.socket | None = None, address: str | None = None
    ) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers = [writer]
            delay_s = lambda: self.delay_ms / 1000  # noqa: E731
            try:
                far_reader, far_writer = await asyncio.open_connection(host, port)
                writers.append(far_writer)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_Line(reader, far_writer, delay_s).run())
                    group.create_task(_Line(far_reader, writer, delay_s).run())
            except (OSError, asyncio.CancelledError):  # nobody there; or the end of the test
                for each in writers:
                    each.transport.abort()
            finally:
                for each in writers:
                    each.close()

        if listening is not None:
            server = await asyncio.start_server(serve, sock=listening)
        else:
            server = await asyncio.start_server(serve, address, 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
