"""Starting, stopping and watching the network of one machine: the supervisor's client."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taxledger.ledger.errors import InputError, TaxledgerError, UnavailableError
from taxledger.nodes.forks.halting import clear_halt, read_halt
from taxledger.nodes.home import Client, Home
from taxledger.nodes.homeconfig import host_port
from taxledger.nodes.local.lifeline import end_leftovers
from taxledger.nodes.ordering.cometbft.binary import check_engine

__all__ = [
    "NodeFacts",
    "engine_log_path",
    "find_homes",
    "network_home",
    "network_status",
    "node_log_path",
    "start_network",
    "stop_network",
]

SOCKET_NAME, LOCK_NAME, PID_NAME = "supervisor.sock", "supervisor.lock", "supervisor.json"
_SOCKET_PATH_BYTES_MAX = 100  # sun_path holds 108 on Linux, 104 elsewhere
_START_S = 60.0
_CRASHES_MAX = 4
_LOG_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """One line of ``network status``. What a node that does not answer would say is None."""

    name: str
    role: str
    """``sequencer``, ``validator`` or ``observer``."""
    pid: int | None
    url: str
    height: int | None
    log_root: str | None
    state_root: str | None
    certified_time_ms: int | None
    writes: str
    """``ok``, or ``waiting: `` with the reason."""
    engine_pid: int | None = None
    """Of an ordering engine that is a process of its own."""
    engine_height: int | None = None
    """The engine's own blocks: it makes more than the ledger has."""


# --- folders -----------------------------------------------------------------------------------


def find_homes(directory: Path) -> list[Home]:
    """The homes of a network folder, ascending by member number.

    Raises:
        InputError: no network folder.
    """
    found = sorted(directory.glob("*/node.toml")) if directory.is_dir() else []
    if not found:
        raise InputError(
            f"{directory} is not a network folder: no member's home in it (see taxledger network create)"
        )
    return sorted((Home(path.parent) for path in found), key=lambda home: home.config.number)


def network_home(directory: Path, member: str) -> Home:
    """The home of one member. Raises InputError when the network has no such member."""
    homes = {home.config.name: home for home in find_homes(directory)}
    if member not in homes:
        raise InputError(f"expected a member of {', '.join(homes)}, got {member!r}")
    return homes[member]


def node_log_path(home: Path) -> Path:
    return home / "log" / "node.log"


def engine_log_path(home: Path) -> Path:
    """Of an ordering engine that is a process of its own."""
    return home / "log" / "engine.log"


def _log_tail(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"the last lines of {path}:", *(f"  {line}" for line in lines or ["(empty)"])])


# --- the supervisor ------------------------------------------------------------------------------


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address to bind or connect ``path`` by, however long it is: the kernel takes 108 bytes."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        yield str(path)
        return
    if not Path("/proc/self/fd").is_dir():
        raise InputError(f"{path}: expected at most {_SOCKET_PATH_BYTES_MAX} bytes of path on this system")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _ask(directory: Path, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any] | None:
    """The supervisor's answer; None when there is no supervisor."""
    path = directory / SOCKET_NAME
    with socket.socket(socket.AF_UNIX) as channel, socket_address(path) as address:
        channel.settimeout(timeout_s)
        try:
            channel.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            channel.sendall(json.dumps(request).encode() + b"\n")
            with channel.makefile("rb") as lines:
                line = lines.readline()
        except OSError as error:
            raise UnavailableError(f"the supervisor of {directory} does not answer: {error}") from error
    if not line:
        return None  # it ended while we asked
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer


def _ensure_supervisor(directory: Path) -> None:
    if _ask(directory, {"do": "status"}, timeout_s=10) is not None:
        return
    started = subprocess.run(  # noqa: S603 — our own module, no shell
        [sys.executable, "-m", "taxledger.nodes.local.supervisor", str(directory)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_START_S,
    )
    for _ in range(100):  # another start may have been faster: then that one's socket comes
        if _ask(directory, {"do": "status"}, timeout_s=10) is not None:
            return
        time.sleep(0.05)
    said = started.stderr.strip() or f"see {directory / 'supervisor.log'}"
    raise UnavailableError(f"the supervisor of {directory} did not start: {said}")


def start_network(
    directory: Path, *, member: str | None = None, restart: bool = True, clear: bool = False
) -> list[str]:
    """Start all nodes, or one; returns their names when each is ready.

    Args:
        clear: also a node that halted (``halting.py``), whose reason is forgotten.

    Raises:
        InputError: no network, or no such member, or the program of its ordering engine is not here.
        UnavailableError: a node did not become ready; the message quotes its log.
    """
    directory = directory.resolve()
    homes = [network_home(directory, member)] if member else find_homes(directory)
    names = [home.config.name for home in homes]
    for home in homes:
        halted = read_halt(home.path)
        if clear:
            clear_halt(home.path)
        elif halted is not None:
            raise UnavailableError(f"{home.config.name} halted: {halted}")
    if any(home.config.engine == "cometbft" for home in homes):
        check_engine()
    _ensure_supervisor(directory)
    _ask(directory, {"do": "start", "members": names, "restart": restart}, timeout_s=_START_S)
    _wait_ready(directory, homes)
    return names


def _wait_ready(directory: Path, homes: Sequence[Home]) -> None:
    waiting = list(homes)
    end = time.monotonic() + _START_S
    looked = time.monotonic()
    while waiting:
        waiting = [home for home in waiting if not _is_ready(home)]
        if not waiting:
            return
        if time.monotonic() - looked > 0.5:
            looked = time.monotonic()
            _check_alive(directory, waiting)
        if time.monotonic() > end:
            names = ", ".join(home.config.name for home in waiting)
            raise UnavailableError(
                f"not ready within {_START_S:.0f} s: {names} (still running; see taxledger network status)\n"
                + _log_tail(node_log_path(waiting[0].path))
            )
        time.sleep(0.05)


def _check_alive(directory: Path, waiting: Sequence[Home]) -> None:
    """Stop, and say why, when a node that should come up keeps dying."""
    answer = _ask(directory, {"do": "status"}, timeout_s=10)
    nodes = answer["nodes"] if answer else {}
    for home in waiting:
        if (halted := read_halt(home.path)) is not None:  # just now: its engine was ended with it
            raise UnavailableError(f"{home.config.name} halted: {halted}")
        facts = nodes.get(home.config.name)
        if facts is None:
            raise UnavailableError(f"the supervisor of {directory} ended while its nodes started")
        for what, said, path in (
            ("", facts, node_log_path(home.path)),
            ("'s engine", facts.get("engine"), engine_log_path(home.path)),
        ):
            if said is not None and (not said["wanted"] or said["starts"] > _CRASHES_MAX):
                names = [each.config.name for each in waiting]
                _ask(directory, {"do": "stop", "members": names}, timeout_s=_START_S)
                raise UnavailableError(
                    f"{home.config.name}{what} ended with status {said['exit_code']} instead of becoming ready\n"
                    + _log_tail(path)
                )


def stop_network(directory: Path, *, member: str | None = None) -> bool:
    """Stop all nodes and the supervisor, or one node; returns when the processes are gone.

    Returns:
        False when nothing was running.
    """
    directory = directory.resolve()
    home = network_home(directory, member) if member else None
    names = [home.config.name] if home else None
    find_homes(directory)
    before = _ask(directory, {"do": "status"}, timeout_s=10)
    if before is None:
        return _end_leftovers(directory, home)
    _ask(directory, {"do": "stop", "members": names}, timeout_s=_START_S)
    if names is None:
        _wait_lock_free(directory)
        return True
    return any(before["nodes"][name]["wanted"] for name in names)


def _end_leftovers(directory: Path, home: Home | None) -> bool:
    with (directory / LOCK_NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(
                f"the supervisor of {directory} is starting or ending: try again"
            ) from error
        return end_leftovers(directory / PID_NAME, home=home.path if home else None) > 0


def _wait_lock_free(directory: Path) -> None:
    with (directory / LOCK_NAME).open("ab") as lock:
        for _ in range(200):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
                continue
            return
    raise UnavailableError(f"the supervisor of {directory} does not end")


# --- the nodes -----------------------------------------------------------------------------------


def _get(client: Client, path: str, *, timeout_s: float = 2.0) -> tuple[int, bytes]:
    host, port = host_port(client.url)
    connection: http.client.HTTPConnection
    if client.url.startswith("https://"):
        context = ssl.create_default_context(cafile=client.ca)
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {client.key}"})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{client.url} does not answer: {error}") from error
    finally:
        connection.close()


def _is_ready(home: Home) -> bool:
    try:
        return _get(home.client(), "/ready")[0] == 200
    except UnavailableError:
        return False


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket that is a file."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with socket_address(self._path) as address:
            self.sock.connect(address)


def _engine_height(home: Home) -> int | None:
    """The newest block of the member's ordering engine, as it says itself; None when it does not."""
    connection = _UnixConnection(home.engine_folder / "rpc.sock", timeout_s=2.0)
    try:
        connection.request("GET", "/status")
        said = json.loads(connection.getresponse().read())
        return int(said["result"]["sync_info"]["latest_block_height"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, InputError):
        return None
    finally:
        connection.close()


def node_facts(home: Home, pid: int | None, *, running: bool) -> NodeFacts:
    """What one node says about itself, and what is known when it says nothing."""
    config = home.config
    role = "sequencer" if config.is_sequencer else config.role
    said: dict[str, Any] = {}
    halted = read_halt(home.path)
    writes = "waiting: the node is not running" if halted is None else f"halted: {halted}"
    try:
        status, body = _get(home.client(), "/v1/status")
        if status != 200:
            raise UnavailableError(f"GET /v1/status answered {status}")
        said = json.loads(body)
        writes = (
            f"ok, but {said['reason']}"
            if said["writes"] == "ok" and said.get("reason")
            else "ok"
            if said["writes"] == "ok"
            else f"waiting: {said.get('reason') or 'no reason given'}"
        )
    except (TaxledgerError, ValueError, KeyError) as error:
        if running:
            writes = f"waiting: {error}"
    return NodeFacts(
        name=config.name,
        role=role,
        pid=pid,
        url=config.api_url,
        height=said.get("height"),
        log_root=said.get("log_root"),
        state_root=said.get("state_root"),
        certified_time_ms=said.get("certified_time_ms"),
        writes=writes,
    )


def network_status(directory: Path) -> list[NodeFacts]:
    """Every member of the network, ascending by number, whether its node runs or not."""
    directory = directory.resolve()
    homes = find_homes(directory)
    answer = _ask(directory, {"do": "status"}, timeout_s=10) or {"nodes": {}}
    facts = []
    for home in homes:
        said = answer["nodes"].get(home.config.name, {})
        found = node_facts(home, said.get("pid"), running=said.get("pid") is not None)
        engine_pid = said.get("engine", {}).get("pid")
        height = _engine_height(home) if engine_pid is not None else None
        facts.append(replace(found, engine_pid=engine_pid, engine_height=height))
    return facts
