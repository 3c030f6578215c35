"""The socket that the engine dials: ABCI 2.0 over a unix socket, an unsigned varint of length before each message.

The engine opens four connections (consensus, mempool, query, snapshot), sends requests without waiting for the
replies, and takes the replies strictly in order; a wrong reply or the end of a connection stops it. So each
connection is answered one request after the other, and each reply is written at once: a flush has nothing to do.
Requests of different connections interleave wherever a handler awaits.

What goes wrong on our side (any exception of a handler) is answered with an exception response, ends that
connection, and is told to ``on_broken``: the node decides. What goes wrong on the engine's side (bytes that are no
request, a connection that ends) is logged: the engine may be restarted and dial again. One that dials again before we
noticed that its predecessor is gone waits until that one's last call is over: two engines never decide at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, InputError, LimitError, UnavailableError
from taxledger.nodes.local.control import socket_address
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.ending import end_process, hold_peer

__all__ = ["AbciHandler", "AbciServer"]

_log = logging.getLogger(__name__)

_READ_BUFFER_BYTES = 1024 * 1024
_LENGTH_BYTES_MAX = 5
_LEAVE_S = 5.0
"""Time for the last call of an engine that is gone, which may be a write."""


class AbciHandler(Protocol):
    """What the engine asks. Any exception is told to the engine, which stops, and to ``on_broken``.

    Calls of one connection never overlap. Calls of different ones do wherever one awaits: ``check_tx`` (mempool)
    may come while ``finalize_block`` (consensus) waits. ``AbciServer.stop`` cancels what waits.
    """

    async def info(self, request: abci.InfoRequest) -> abci.InfoResponse: ...
    async def init_chain(self, request: abci.InitChainRequest) -> abci.InitChainResponse: ...
    async def query(self, request: abci.QueryRequest) -> abci.QueryResponse: ...
    async def check_tx(self, request: abci.CheckTxRequest) -> abci.CheckTxResponse: ...
    async def commit(self, request: abci.CommitRequest) -> abci.CommitResponse: ...
    async def list_snapshots(self, request: abci.ListSnapshotsRequest) -> abci.ListSnapshotsResponse: ...
    async def offer_snapshot(self, request: abci.OfferSnapshotRequest) -> abci.OfferSnapshotResponse: ...
    async def load_snapshot_chunk(
        self, request: abci.LoadSnapshotChunkRequest
    ) -> abci.LoadSnapshotChunkResponse: ...
    async def apply_snapshot_chunk(
        self, request: abci.ApplySnapshotChunkRequest
    ) -> abci.ApplySnapshotChunkResponse: ...
    async def prepare_proposal(
        self, request: abci.PrepareProposalRequest
    ) -> abci.PrepareProposalResponse: ...
    async def process_proposal(
        self, request: abci.ProcessProposalRequest
    ) -> abci.ProcessProposalResponse: ...
    async def extend_vote(self, request: abci.ExtendVoteRequest) -> abci.ExtendVoteResponse: ...
    async def verify_vote_extension(
        self, request: abci.VerifyVoteExtensionRequest
    ) -> abci.VerifyVoteExtensionResponse: ...
    async def finalize_block(self, request: abci.FinalizeBlockRequest) -> abci.FinalizeBlockResponse: ...

    async def consensus_lost(self) -> None:
        """The consensus connection ended and the server goes on: what wasn't committed is void."""
        ...


_CONSENSUS = (
    abci.InitChainRequest,
    abci.PrepareProposalRequest,
    abci.ProcessProposalRequest,
    abci.ExtendVoteRequest,
    abci.VerifyVoteExtensionRequest,
    abci.FinalizeBlockRequest,
    abci.CommitRequest,
)


async def answer(handler: AbciHandler, request: abci.Request) -> abci.Response:
    """The response to one request: echo and flush are answered here, all else by the handler."""
    match request:
        case abci.EchoRequest():
            return abci.EchoResponse(message=request.message)
        case abci.FlushRequest():
            return abci.FlushResponse()
        case abci.InfoRequest():
            return await handler.info(request)
        case abci.InitChainRequest():
            return await handler.init_chain(request)
        case abci.QueryRequest():
            return await handler.query(request)
        case abci.CheckTxRequest():
            return await handler.check_tx(request)
        case abci.CommitRequest():
            return await handler.commit(request)
        case abci.ListSnapshotsRequest():
            return await handler.list_snapshots(request)
        case abci.OfferSnapshotRequest():
            return await handler.offer_snapshot(request)
        case abci.LoadSnapshotChunkRequest():
            return await handler.load_snapshot_chunk(request)
        case abci.ApplySnapshotChunkRequest():
            return await handler.apply_snapshot_chunk(request)
        case abci.PrepareProposalRequest():
            return await handler.prepare_proposal(request)
        case abci.ProcessProposalRequest():
            return await handler.process_proposal(request)
        case abci.ExtendVoteRequest():
            return await handler.extend_vote(request)
        case abci.VerifyVoteExtensionRequest():
            return await handler.verify_vote_extension(request)
        case abci.FinalizeBlockRequest():
            return await handler.finalize_block(request)


async def read_message(reader: asyncio.StreamReader) -> bytes | None:
    """The next message; None when the stream ends before it.

    Raises:
        FormatError: the stream ends within a message, or the length is no varint.
        LimitError: longer than we read.
    """
    size = shift = 0
    try:
        for count in range(_LENGTH_BYTES_MAX):
            byte = await reader.read(1)
            if not byte:
                if count == 0:
                    return None
                raise FormatError("the stream ends within the length of a message")
            size |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        else:
            raise FormatError(f"expected a length of at most {_LENGTH_BYTES_MAX} bytes")
        if size > limits.engine_message_bytes_max:
            raise LimitError(
                f"expected a message of at most {limits.engine_message_bytes_max} bytes, got {size}"
            )
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise FormatError(f"expected a message of {size} bytes, got {len(error.partial)}") from error


class AbciServer:
    """Serves one handler on one socket, which only the owner of the process may open (mode 0600)."""

    def __init__(self, path: Path, handler: AbciHandler, on_broken: Callable[[BaseException], None]) -> None:
        self._path = path
        self._handler = handler
        self._on_broken = on_broken
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._deciding: asyncio.Task[None] | None = None
        self._engine: int | None = None  # the process of the connection that decides
        self._ending: asyncio.Future[None] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Listen. A socket that a process before left behind is replaced.

        Raises:
            UnavailableError: something else is at the path, or the system refuses.
        """
        self._is_stopping = False
        self._remove_socket()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket_address(self._path) as address:
                listening.bind(address)
            # Nobody can connect before start_unix_server listens: there is no moment with another mode.
            self._path.chmod(0o600)
            listening.setblocking(False)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listening, limit=_READ_BUFFER_BYTES
            )
        except OSError as error:
            listening.close()
            raise UnavailableError(f"cannot listen on {self._path}: {error}") from error

    def disconnect(self) -> None:
        """End the connections that there are: the engine stops, and whoever started it starts it anew."""
        for each in self._connections:
            each.cancel()
        if self._engine is not None:
            self._ending = asyncio.ensure_future(end_process(self._engine))
            self._engine = None

    def _release_engine(self) -> None:
        if self._engine is not None:
            os.close(self._engine)
            self._engine = None

    async def stop(self) -> None:
        """End all connections, also those a handler is busy with, and remove the socket."""
        if self._server is None:
            return
        self._is_stopping = True
        self._server.close()
        self._server = None
        self._release_engine()
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)
        connections = [each for each in self._connections if each is not asyncio.current_task()]
        for each in connections:
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        self._remove_socket()

    def _remove_socket(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
                raise UnavailableError(f"expected a socket or nothing at {self._path}")
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        connection = _Connection(self._handler, reader, writer, self._succeed)
        try:
            await connection.run()
        except InputError as error:
            _log.warning("the engine sent no request of ABCI 2.0, its connection is closed: %s", error)
        except OSError as error:
            _log.info("a connection of the engine ended: %s", error)
        except _Broken as broken:
            self._on_broken(broken.cause)
        except asyncio.CancelledError:
            _log.info("a connection of the engine was ended")
        finally:
            if self._is_stopping:
                writer.transport.abort()  # an engine that doesn't read holds up nobody
            else:
                writer.close()
            self._connections.discard(task)
            if connection.is_consensus and not self._is_stopping:
                await self._tell_lost()

    async def _succeed(self, writer: asyncio.StreamWriter) -> None:
        """The present connection decides from now on; an earlier one's engine must be gone."""
        earlier, self._deciding = self._deciding, asyncio.current_task()
        if earlier is not None and not earlier.done():
            _, waiting = await asyncio.wait([earlier], timeout=_LEAVE_S)
            if waiting:
                earlier.cancel()
                await asyncio.wait(waiting)
        self._release_engine()
        self._engine = hold_peer(writer.get_extra_info("socket").fileno())

    async def _tell_lost(self) -> None:
        try:
            await self._handler.consensus_lost()
        except Exception as error:
            self._on_broken(error)


class _Broken(Exception):
    def __init__(self, cause: BaseException) -> None:
        self.cause = cause


class _Connection:
    def __init__(
        self,
        handler: AbciHandler,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        succeed: Callable[[asyncio.StreamWriter], Awaitable[None]],
    ) -> None:
        self._handler, self._reader, self._writer, self._succeed = handler, reader, writer, succeed
        self.is_consensus = False

    async def run(self) -> None:
        """Answer until the engine goes. Raises InputError, OSError, or _Broken with a handler's error."""
        while (data := await read_message(self._reader)) is not None:
            request = abci.decode_request(data)
            if isinstance(request, _CONSENSUS) and not self.is_consensus:
                await self._succeed(self._writer)
                self.is_consensus = True
            try:
                reply = abci.encode_response(await answer(self._handler, request))
            except Exception as error:
                _log.error("%s failed, and the engine is told: %s", type(request).__name__, error)
                failure = abci.ExceptionResponse(error=f"{type(error).__name__}: {error}")
                with contextlib.suppress(OSError):
                    await self._send(abci.encode_response(failure))
                raise _Broken(error) from error
            await self._send(reply)

    async def _send(self, reply: bytes) -> None:
        self._writer.write(abci.frame(reply))
        await self._writer.drain()
