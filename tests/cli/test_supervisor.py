"""The supervisor, with a stand-in for the node: starts, restarts with pauses, stops, finds what was left."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taxledger.ledger.errors import InputError, UnavailableError
from taxledger.nodes.cli.network import grant_all_scopes
from taxledger.nodes.local import control
from taxledger.nodes.local.control import (
    PID_NAME,
    network_home,
    network_status,
    node_log_path,
    socket_address,
    stop_network,
)
from taxledger.nodes.local.lifeline import end_leftovers, is_node_of
from taxledger.nodes.local.network import create_network
from taxledger.nodes.local.supervisor import Supervisor

STEADY = "import time; print('up', flush=True); time.sleep(60)"
DYING = "import sys; print('cannot start'); sys.exit(3)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STEADY}"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    create_network(
        tmp_path / "net",
        members=["tax", "bank1"],
        now=datetime.datetime.now(datetime.UTC),
        grant=grant_all_scopes,
    )
    return tmp_path / "net"


def supervisor(net: Path, code: str = STEADY) -> Supervisor:
    return Supervisor(net, command=[sys.executable, "-c", code, "taxledger.nodes.node"])


async def pid_of(watched: Supervisor, member: str, *, other_than: int | None = None) -> int:
    for _ in range(400):
        pid = watched.facts()[member]["pid"]
        if pid is not None and pid != other_than:
            return int(pid)
        await asyncio.sleep(0.02)
    raise AssertionError(f"{member} does not run")


async def test_restarts_what_dies(net: Path) -> None:
    watched = supervisor(net)
    await watched.start(None, restart=True)
    first = await pid_of(watched, "bank1")
    other = await pid_of(watched, "tax")
    os.kill(first, signal.SIGKILL)
    second = await pid_of(watched, "bank1", other_than=first)
    assert json.loads((net / PID_NAME).read_bytes())["nodes"][str(net / "bank1")] == second
    assert watched.facts()["tax"]["pid"] == other
    await watched.stop(None)
    assert all(facts["pid"] is None for facts in watched.facts().values())
    assert not is_node_of(second, net / "bank1")


async def test_leaves_it_dead_when_told_so(net: Path) -> None:
    watched = supervisor(net)
    await watched.start(["bank1"], restart=False)
    os.kill(await pid_of(watched, "bank1"), signal.SIGKILL)
    await asyncio.sleep(0.6)
    facts = watched.facts()
    assert facts["bank1"] == {"pid": None, "exit_code": -9, "starts": 1, "wanted": False}
    assert facts["tax"]["starts"] == 0
    await watched.start(["bank1"], restart=True)
    await pid_of(watched, "bank1")
    await watched.stop(None)


async def test_pauses_grow(net: Path) -> None:
    watched = supervisor(net, DYING)
    await watched.start(["tax"], restart=True)
    await asyncio.sleep(1.5)
    assert 2 <= watched.facts()["tax"]["starts"] <= 4
    assert "cannot start" in node_log_path(net / "tax").read_text()
    begin = time.monotonic()
    await watched.stop(["tax"])
    assert time.monotonic() - begin < 0.5  # does not wait for the pause to end


async def test_kills_what_does_not_stop(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxledger.nodes.local.supervisor._STOP_S", 0.3)
    watched = supervisor(net, STUBBORN)
    await watched.start(["tax"], restart=True)
    pid = await pid_of(watched, "tax")
    for _ in range(200):
        await asyncio.sleep(0.02)
        if "up" in node_log_path(net / "tax").read_text():
            break
    await watched.stop(["tax"])
    assert not is_node_of(pid, net / "tax")


async def test_unknown_member(net: Path) -> None:
    with pytest.raises(InputError, match="tax, bank1"):
        await supervisor(net).start(["bank9"], restart=True)


def test_ends_only_what_is_a_node_of_the_home(net: Path) -> None:
    home = net / "tax"
    node = subprocess.Popen([sys.executable, "-c", STEADY, "taxledger.nodes.node", "--home", str(home)])
    stranger = subprocess.Popen([sys.executable, "-c", STEADY, "an editor", str(net / "bank1")])
    try:
        pids = {str(home): node.pid, str(net / "bank1"): stranger.pid}
        (net / PID_NAME).write_text(json.dumps({"pid": 1, "nodes": pids}))
        assert is_node_of(node.pid, home)
        assert not is_node_of(stranger.pid, net / "bank1")
        assert end_leftovers(net / PID_NAME, home=net / "bank1") == 0
        # Reap it while end_leftovers waits: a zombie has no command line.
        assert end_leftovers(net / PID_NAME) == 1
        assert node.wait(timeout=5) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for process in (node, stranger):
            process.kill()
            process.wait()


def test_stop_without_a_supervisor(net: Path) -> None:
    assert stop_network(net) is False
    assert stop_network(net, member="tax") is False


def test_status_of_a_network_that_does_not_run(net: Path) -> None:
    facts = network_status(net)
    assert [(each.name, each.role, each.pid) for each in facts] == [
        ("tax", "sequencer", None),
        ("bank1", "validator", None),
    ]
    assert all(each.writes == "waiting: the node is not running" for each in facts)


def test_start_says_why_a_node_does_not_come_up(net: Path) -> None:
    (net / "bank1" / "genesis.bin").write_bytes(b"damaged")
    with pytest.raises(UnavailableError, match=r"bank1[\s\S]*node\.log"):
        control.start_network(net, member="bank1", restart=False)
    assert stop_network(net) is True
    assert network_home(net, "bank1").config.name == "bank1"


def test_sockets_of_long_paths(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    folder.mkdir(parents=True)
    with socket_address(folder / "supervisor.sock") as address:
        assert len(address) < 100
