"""The supervisor where an ordering engine is a second process of each member, with stand-ins for both."""

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

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.main import main
from taxledger.nodes.cli.network import grant_all_scopes
from taxledger.nodes.local import control
from taxledger.nodes.local.control import PID_NAME, engine_log_path, network_status
from taxledger.nodes.local.lifeline import end_leftovers, is_node_of
from taxledger.nodes.local.network import create_network
from taxledger.nodes.local.supervisor import Supervisor
from taxledger.nodes.ordering.cometbft.binary import ENGINE_VARIABLE

STEADY = "import time; print('up', flush=True); time.sleep(60)"
TELLS_ITS_END = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print('end', time.monotonic()), sys.exit(0)));"
    + STEADY
)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    create_network(
        tmp_path / "net",
        members=["tax", "bank1"],
        engine="cometbft",
        now=datetime.datetime.now(datetime.UTC),
        grant=grant_all_scopes,
    )
    return tmp_path / "net"


def supervisor(net: Path, code: str = STEADY) -> Supervisor:
    return Supervisor(
        net,
        command=[sys.executable, "-c", code, "taxledger.nodes.node"],
        engine_command=[sys.executable, "-c", code, "taxledger.nodes.ordering.cometbft.run"],
    )


async def pids_of(watched: Supervisor, member: str, *, node: int = 0, engine: int = 0) -> tuple[int, int]:
    """Processes of the node and of the engine, when both run and are other ones than these."""
    for _ in range(1000):
        facts = watched.facts()[member]
        found = facts["pid"], facts["engine"]["pid"]
        if None not in found and found[0] != node and found[1] != engine:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"{member} does not run")


async def test_an_engine_is_restarted_alone(net: Path) -> None:
    watched = supervisor(net)
    await watched.start(None, restart=True)
    node, engine = await pids_of(watched, "bank1")
    os.kill(engine, signal.SIGKILL)
    node_after, engine_after = await pids_of(watched, "bank1", engine=engine)
    assert node_after == node
    said = json.loads((net / PID_NAME).read_bytes())
    assert (said["nodes"][str(net / "bank1")], said["engines"][str(net / "bank1")]) == (node, engine_after)
    async with asyncio.timeout(20):
        while "up" not in engine_log_path(net / "bank1").read_text():  # noqa: ASYNC110 — a file of another process
            await asyncio.sleep(0.02)
    await watched.stop(None)
    assert not any(is_node_of(pid, net / "bank1") for pid in (node, engine_after))


async def test_an_engine_ends_with_its_node(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one does not end by itself."""
    monkeypatch.setattr("taxledger.nodes.local.supervisor._ENGINE_ENDS_S", 0.1)
    watched = supervisor(net)
    await watched.start(["tax"], restart=True)
    node, engine = await pids_of(watched, "tax")
    os.kill(node, signal.SIGKILL)
    both = await pids_of(watched, "tax", node=node, engine=engine)
    assert not is_node_of(engine, net / "tax")
    await watched.stop(["tax"])
    assert not any(is_node_of(pid, net / "tax") for pid in both)


async def test_both_stay_dead_when_told_so(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxledger.nodes.local.supervisor._ENGINE_ENDS_S", 0.1)
    watched = supervisor(net)
    await watched.start(["tax"], restart=False)
    node, _ = await pids_of(watched, "tax")
    os.kill(node, signal.SIGKILL)
    for _ in range(500):
        facts = watched.facts()["tax"]
        if not facts["wanted"] and not facts["engine"]["wanted"]:
            break
        await asyncio.sleep(0.02)
    assert (facts["pid"], facts["engine"]["pid"]) == (None, None)
    assert (facts["starts"], facts["engine"]["starts"]) == (1, 1)
    await watched.stop(None)


async def test_an_engine_stops_before_its_node(net: Path) -> None:
    watched = supervisor(net, TELLS_ITS_END)
    await watched.start(["tax"], restart=True)
    logs = [engine_log_path(net / "tax"), control.node_log_path(net / "tax")]
    for _ in range(500):
        await asyncio.sleep(0.02)
        if all("up" in log.read_text() for log in logs):
            break
    await watched.stop(["tax"])
    ends = [float(log.read_text().split()[-1]) for log in logs]
    assert ends == sorted(ends)


def test_ends_an_engine_that_was_left(net: Path) -> None:
    home = net / "tax"
    engine = subprocess.Popen([sys.executable, "-c", STEADY, "start", "--home", f"{home}/engine"])
    stranger = subprocess.Popen([sys.executable, "-c", STEADY, "an editor", str(home)])
    try:
        (net / PID_NAME).write_text(
            json.dumps({"pid": 1, "nodes": {str(home): stranger.pid}, "engines": {str(home): engine.pid}})
        )
        end = time.monotonic() + 10
        while not is_node_of(engine.pid, home) and time.monotonic() < end:
            time.sleep(0.02)  # between fork and exec
        assert end_leftovers(net / PID_NAME) == 1
        assert engine.wait(timeout=5) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for process in (engine, stranger):
            process.kill()
            process.wait()


def test_start_says_what_to_install(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, str(net / "nothing"))
    with pytest.raises(InputError, match=ENGINE_VARIABLE):
        control.start_network(net)
    assert main(["network", "start", str(net)]) == 2
    assert main(["engine", "check"]) == 2
    assert "found none at" in capsys.readouterr().err
    assert not (net / PID_NAME).exists()
    assert {(each.role, each.engine_pid, each.engine_height) for each in network_status(net)} == {
        ("validator", None, None)
    }
