"""The supervisor of a network on one machine: starts nodes and engines, restarts what dies, with growing pauses.

    python -m taxledger.nodes.local.supervisor DIR     (``taxledger network start`` does it)

One supervisor a network, held by a lock on ``DIR/supervisor.lock``. It answers a line of JSON with a line of
JSON on the socket ``DIR/supervisor.sock``:

    {"do": "start", "members": [names] | null, "restart": bool}     {"do": "status"}
    {"do": "stop", "members": [names] | null}                       stop of all ends the supervisor too

A member whose ordering engine is a process of its own is two processes. The node starts first and stops last; an
engine ends with its node, and is started anew with it.

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
from taxledger.nodes.forks.halting import HALTED_EXIT_STATUS
from taxledger.nodes.home import Home
from taxledger.nodes.local.control import (
    LOCK_NAME,
    PID_NAME,
    SOCKET_NAME,
    engine_log_path,
    find_homes,
    node_log_path,
    socket_address,
)
from taxledger.nodes.local.lifeline import PARENT_VARIABLE, end_leftovers

__all__ = ["Supervisor", "main"]

NODE_COMMAND = (sys.executable, "-m", "taxledger.nodes.node")
ENGINE_COMMAND = (sys.executable, "-m", "taxledger.nodes.ordering.cometbft.run")
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.2, 10.0
_STEADY_S = 30.0
"""A process that ran this long starts again without a pause."""
_STOP_S = 15.0
_ENGINE_ENDS_S = 5.0
"""An engine whose node died ends by itself; one that does not within this is killed."""
_LOG_BYTES_MAX = 16 * 1024 * 1024


@dataclass(slots=True)
class _Process:
    """One process of a member, and the task that keeps it running."""

    label: str
    command: tuple[str, ...]
    log_path: Path
    restart: bool = True
    wanted: bool = False
    process: asyncio.subprocess.Process | None = None
    exit_code: int | None = None
    starts: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    spawned: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def facts(self) -> dict[str, Any]:
        return {"pid": self.pid, "exit_code": self.exit_code, "starts": self.starts, "wanted": self.wanted}

    async def spawn(self) -> asyncio.subprocess.Process:
        self.log_path.parent.mkdir(mode=0o700, exist_ok=True)
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                start_new_session=True,  # a Ctrl-C in the terminal is not for the nodes
            )


@dataclass(slots=True, kw_only=True)
class _Member:
    """A member's node, and its ordering engine where that is a process of its own."""

    home: Home
    node: _Process
    engine: _Process | None

    @property
    def processes(self) -> list[_Process]:
        """The node comes first: its engine dials it."""
        return [self.node] if self.engine is None else [self.node, self.engine]

    def facts(self) -> dict[str, Any]:
        return {**self.node.facts(), **({"engine": self.engine.facts()} if self.engine else {})}


class Supervisor:
    """Keeps the nodes of ``directory``, and their engines, as the last command wished."""

    def __init__(
        self,
        directory: Path,
        *,
        command: Sequence[str] = NODE_COMMAND,
        engine_command: Sequence[str] = ENGINE_COMMAND,
    ) -> None:
        """``command`` with ``--home DIR`` behind it is what a node's process runs; so for its engine."""
        self._directory = directory
        self._members = {
            home.config.name: _member(home, tuple(command), tuple(engine_command))
            for home in find_homes(directory)
        }
        self._end = asyncio.Event()

    def facts(self) -> dict[str, dict[str, Any]]:
        """Per member: pid, exit code of its last process, how often it was started, whether it should run; the same
        of its engine.
        """
        return {name: member.facts() for name, member in self._members.items()}

    # --- processes -----------------------------------------------------------------------------

    async def _keep(self, member: _Member, process: _Process) -> None:
        pause = _PAUSE_S_MIN
        while process.wanted:
            begin = time.monotonic()
            try:
                process.process = await process.spawn()
            finally:
                process.starts += 1
                process.spawned.set()
            self._write_pids()
            process.exit_code = await process.process.wait()
            process.process = None
            self._write_pids()
            if process is member.node and member.engine is not None:
                if process.exit_code == HALTED_EXIT_STATUS:  # it orders for nobody until somebody has looked
                    member.engine.wanted = False
                    member.engine.stopping.set()
                await _ended(member.engine, _ENGINE_ENDS_S)
            if not process.wanted:
                break
            print(f"{process.label} ended with status {process.exit_code}", flush=True)
            if not process.restart or process.exit_code == HALTED_EXIT_STATUS:
                process.wanted = False
                break
            pause = _PAUSE_S_MIN if time.monotonic() - begin > _STEADY_S else min(2 * pause, _PAUSE_S_MAX)
            try:
                await asyncio.wait_for(process.stopping.wait(), pause)
            except TimeoutError:
                continue

    async def start(self, names: list[str] | None, *, restart: bool) -> None:
        """Start these members' processes (None: all) that don't run; returns when they exist."""
        for member in self._chosen(names):
            for process in member.processes:
                process.restart = restart
                if process.task is None or process.task.done():
                    process.wanted, process.starts, process.exit_code = True, 0, None
                    process.stopping.clear()
                    process.spawned.clear()
                    process.task = asyncio.create_task(self._keep(member, process))
                    await process.spawned.wait()

    async def stop(self, names: list[str] | None) -> None:
        """Stop these members' processes (None: all); returns when they are gone."""
        await asyncio.gather(*(self._stop(member) for member in self._chosen(names)))

    async def _stop(self, member: _Member) -> None:
        for process in reversed(member.processes):  # an engine without its node would only complain
            await _stop_process(process)

    def _chosen(self, names: list[str] | None) -> list[_Member]:
        if names is None:
            return list(self._members.values())
        for name in names:
            if name not in self._members:
                raise InputError(f"expected a member of {', '.join(self._members)}, got {name!r}")
        return [self._members[name] for name in names]

    def _write_pids(self) -> None:
        members = self._members.values()
        nodes = {str(each.home.path): each.node.pid for each in members if each.node.pid}
        engines = {
            str(each.home.path): each.engine.pid for each in members if each.engine and each.engine.pid
        }
        path = self._directory / PID_NAME
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": os.getpid(), "nodes": nodes, "engines": engines}))
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


def _member(home: Home, command: tuple[str, ...], engine_command: tuple[str, ...]) -> _Member:
    name, arguments = home.config.name, ("--home", str(home.path))
    engine = None
    if home.config.engine != "embedded":
        engine = _Process(f"{name}'s engine", engine_command + arguments, engine_log_path(home.path))
    return _Member(
        home=home, node=_Process(name, command + arguments, node_log_path(home.path)), engine=engine
    )


async def _ended(process: _Process, patience_s: float) -> None:
    """Wait until the present process is gone; kill it when that takes too long."""
    running = process.process
    if running is None:
        return
    try:
        await asyncio.wait_for(running.wait(), patience_s)
    except TimeoutError:
        running.kill()
        await running.wait()


async def _stop_process(process: _Process) -> None:
    process.wanted = False
    process.stopping.set()
    if process.process is not None:
        process.process.terminate()
    if process.task is None:
        return
    done, _ = await asyncio.wait([process.task], timeout=_STOP_S)
    if not done:
        print(f"{process.label} did not stop within {_STOP_S:.0f} s: killed", flush=True)
        if process.process is not None:
            process.process.kill()
        await asyncio.wait([process.task])
    failure = process.task.exception()
    if failure is not None:
        print(f"{process.label}: {failure}", flush=True)
    process.task = None


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
        print("usage: python -m taxledger.nodes.local.supervisor DIR", file=sys.stderr)
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
