"""One bad link among six: packets lost, packets late. Writes go on; what that costs is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from faultnet import FaultNetwork, fault_network, latencies_ms, report
from ledgers import check_ledgers

from network import Load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def shown(times: list[int]) -> dict[str, int]:
    return {"p50_ms": times[len(times) // 2], "p95_ms": times[len(times) * 95 // 100], "n": len(times)}


def finish(net: FaultNetwork) -> None:
    """Load through every node, then the ledgers compared."""
    with Load(net, *net.names, threads=4) as load:
        load.progress(20)
        acknowledged = load.finish()
    net.agree()
    net.stop()
    check_ledgers(net, acknowledged)


def test_two_percent_lost_between_two_nodes(net: FaultNetwork) -> None:
    before = latencies_ms(net, 40, 60_000, *net.names)
    net.lose("tax", "bank1", 2)
    after = latencies_ms(net, 40, 61_000, *net.names)
    lost = net.spaces.lost()
    report("2 % of one link lost", packets=lost, sound=shown(before), lossy=shown(after))
    assert lost > 0
    finish(net)


def test_200_ms_between_two_nodes(tmp_path: Path, namespaces: None) -> None:
    with fault_network(tmp_path / "net", slow_link=("tax", "bank1")) as net:
        before = latencies_ms(net, 40, 60_000, *net.names)
        net.slow.delay_ms = 200
        after = latencies_ms(net, 40, 61_000, *net.names)
        report("one link 200 ms late each way", relayed=shown(before), late=shown(after))
        finish(net)
