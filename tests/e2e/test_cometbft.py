"""The real engine on four nodes, in the normal suite: any node killed at any time, writes go on.

All other tests of this folder run on it with ``make test-engine``.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from ledgers import check_ledgers

from network import Load, real_network, until
from taxledger.nodes.local.control import network_status

pytestmark = pytest.mark.usefixtures("cometbft")


def test_any_node_or_engine_is_killed_and_writes_go_on(tmp_path: Path) -> None:
    """Each node once, each engine once, in an order of chance: whoever proposes is among them."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with real_network(tmp_path / "net") as net:
        victims = [(name, part) for name in net.names for part in ("node", "engine")]
        chance.shuffle(victims)
        with Load(net, *net.names, threads=4) as load:
            for name, part in victims:
                load.progress(chance.randint(1, 6))
                if part == "node":
                    until(lambda name=name: name in net.pids(), f"{name} runs")
                    net.kill(name)
                else:
                    facts = {each.name: each for each in network_status(net.directory)}
                    pid = facts[name].engine_pid
                    if pid is not None:
                        os.kill(pid, signal.SIGKILL)
            load.progress(4)
            acknowledged = load.finish()
        net.agree()
        net.stop()
        print(check_ledgers(net, acknowledged))
