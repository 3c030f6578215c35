"""The supervisor of a network on one machine: starts nodes, and restarts what dies, with growing pauses.

    python -m taxledger.nodes.supervisor DIR     (``taxledger network start`` does it)

One supervisor a network, held by a lock on ``DIR/supervisor.lock``. It answers a line of JSON with a line of
JSON on the socket ``DIR/supervisor.sock``:

    {"do": "start", "members": [names] | null, "restart": bool}     {"do": "status"}
    {"do": "stop", "members": [names] | null}                       stop of all ends the supervisor too

``DIR/supervisor.json`` names the processes, so that what outlives a killed supervisor is found and ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxledger.ledger.errors import InputError, TaxledgerError
from taxledger.nodes.control import (
    LOCK_NAME,
    PID_NAME,
    SOCKET_NAME,
    find_homes,
    node_log_path,
    socket_address,
)
from taxledger.nodes.home import Home
from taxledger.nodes.lifeline import PARENT_VARIABLE, end_leftovers

__all__ = ["Supervisor", "main"]

NODE_COMMAND = (sys.executable, "-m", "taxledger.nodes.node")
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.2, 10.0
_STEADY_S = 30.0
"""A node that ran this long starts again without a pause."""
_STOP_S = 15.0
_LOG_BYTES_MAX = 16 * 1024 * 1024


@dataclass(slots=True)
class _Node:
    """One node and the task that keeps it running."""

    home: Home
    restart: bool = True
    wanted: bool = False
    process: asyncio.subprocess.Process | None = None
    exit_code: int | None = None
    starts: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    spawned: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def facts(self) -> dict[str, Any]:
        return {
            "pid": self.process.pid if self.process else None,
            "exit_code": self.exit_code,
            "starts": self.starts,
            "wanted": self.wanted,
        }


class Supervisor:
    """Keeps the nodes of ``directory`` as the last command wished."""

    def __init__(self, directory: Path, *, command: Sequence[str] = NODE_COMMAND) -> None:
        """``command`` with ``--home DIR`` behind it is what a node's process runs."""
        self._directory = directory
        self._command = tuple(command)
        self._nodes = {home.config.name: _Node(home=home) for home in find_homes(directory)}
        self._end = asyncio.Event()

    def facts(self) -> dict[str, dict[str, Any]]:
        """Per member: pid, exit code of its last process, how often it was started, whether it should run."""
        return {name: node.facts() for name, node in self._nodes.items()}

    # --- nodes ---------------------------------------------------------------------------------

    async def _spawn(self, node: _Node) -> asyncio.subprocess.Process:
        path = node_log_path(node.home.path)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._command,
                "--home",
                str(node.home.path),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                start_new_session=True,  # a Ctrl-C in the terminal is not for the nodes
            )

    async def _keep(self, node: _Node) -> None:
        pause = _PAUSE_S_MIN
        while node.wanted:
            begin = time.monotonic()
            try:
                node.process = await self._spawn(node)
            finally:
                node.starts += 1
                node.spawned.set()
            self._write_pids()
            node.exit_code = await node.process.wait()
            node.process = None
            self._write_pids()
            if not node.wanted:
                break
            print(f"{node.home.config.name} ended with status {node.exit_code}", flush=True)
            if not node.restart:
                node.wanted = False
                break
            pause = _PAUSE_S_MIN if time.monotonic() - begin > _STEADY_S else min(2 * pause, _PAUSE_S_MAX)
            try:
                await asyncio.wait_for(node.stopping.wait(), pause)
            except TimeoutError:
                continue

    async def start(self, names: list[str] | None, *, restart: bool) -> None:
        """Start these members' nodes (None: all) that don't run; returns when the processes exist."""
        for node in self._chosen(names):
            node.restart = restart
            if node.task is None or node.task.done():
                node.wanted, node.starts, node.exit_code = True, 0, None
                node.stopping.clear()
                node.spawned.clear()
                node.task = asyncio.create_task(self._keep(node))
                await node.spawned.wait()

    async def stop(self, names: list[str] | None) -> None:
        """Stop these members' nodes (None: all); returns when their processes are gone."""
        await asyncio.gather(*(self._stop(node) for node in self._chosen(names)))

    async def _stop(self, node: _Node) -> None:
        node.wanted = False
        node.stopping.set()
        if node.process is not None:
            node.process.terminate()
        if node.task is None:
            return
        done, _ = await asyncio.wait([node.task], timeout=_STOP_S)
        if not done:
            print(f"{node.home.config.name} did not stop within {_STOP_S:.0f} s: killed", flush=True)
            if node.process is not None:
                node.process.kill()
            await asyncio.wait([node.task])
        failure = node.task.exception()
        if failure is not None:
            print(f"{node.home.config.name}: {failure}", flush=True)
        node.task = None

    def _chosen(self, names: list[str] | None) -> list[_Node]:
        if names is None:
            return list(self._nodes.values())
        for name in names:
            if name not in self._nodes:
                raise InputError(f"expected a member of {', '.join(self._nodes)}, got {name!r}")
        return [self._nodes[name] for name in names]

    def _write_pids(self) -> None:
        running = {str(each.home.path): each.process.pid for each in self._nodes.values() if each.process}
        path = self._directory / PID_NAME
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": os.getpid(), "nodes": running}))
        fresh.replace(path)

    # --- commands ------------------------------------------------------------------------------

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        todo, names = request.get("do"), request.get("members")
        if todo == "start":
            await self.start(names, restart=bool(request.get("restart", True)))
        elif todo == "stop":
            await self.stop(names)
            if names is None:
                self._end.set()
        elif todo != "status":
            raise InputError(f"expected start, stop or status, got {todo!r}")
        return {"pid": os.getpid(), "nodes": self.facts()}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                answer = await self._answer(json.loads(await reader.readline()))
            except (TaxledgerError, ValueError, AttributeError, TypeError) as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except ConnectionError:
            pass  # the asker went away; what it asked for is done
        finally:
            writer.close()

    async def run(self, ready: int) -> None:
        """Serve until all is stopped, SIGTERM or SIGINT. Writes a byte to ``ready`` when it listens."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        path = self._directory / SOCKET_NAME
        path.unlink(missing_ok=True)
        with socket_address(path) as address:
            server = await asyncio.start_unix_server(self._serve, path=address)
        path.chmod(0o600)
        self._write_pids()
        os.write(ready, b"+")
        os.close(ready)
        async with server:
            await self._end.wait()
            await self.stop(None)
        path.unlink(missing_ok=True)
        (self._directory / PID_NAME).unlink(missing_ok=True)


def _detach(directory: Path) -> None:
    """Fork; the child goes on as the supervisor, the parent exits as soon as the child listens."""
    receive, send = os.pipe()
    if os.fork():
        os.close(send)
        os._exit(0 if os.read(receive, 1) == b"+" else 1)
    os.close(receive)
    os.setsid()
    log = os.open(directory / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    asyncio.run(Supervisor(directory).run(send))


def main(arguments: list[str] | None = None) -> int:
    """``DIR``: become the supervisor of this network, in the background."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("usage: python -m taxledger.nodes.supervisor DIR", file=sys.stderr)
        return 2
    directory = Path(given[0]).resolve()
    with (directory / LOCK_NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # another one was faster, and will answer
        end_leftovers(directory / PID_NAME)
        _detach(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
