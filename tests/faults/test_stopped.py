"""SIGSTOP of a member's processes: of node and engine, or of one of both. The others write on; then it catches up.

A stopped node answers none of its engine's calls, so that its engine casts no vote: as good as stopped. A stopped
engine leaves a node that hears its peers and decides nothing: it says so.
"""

from __future__ import annotations

import time

import pytest
from faultnet import FaultNetwork, latencies_ms, report
from ledgers import check_ledgers

from network import Load, until

OTHERS = ("tax", "bank1", "bank2")


@pytest.mark.slow
@pytest.mark.parametrize("what", [None, "node", "engine"])
def test_others_write_on_and_it_catches_up(net: FaultNetwork, what: str | None, long_s: int) -> None:
    with Load(net, *OTHERS, threads=3) as load:
        load.progress(4)
        net.freeze("bank3", what)
        begin = time.monotonic()
        before = len(load.acknowledged)
        if what == "engine":
            until(lambda: net.status("bank3").get("writes") == "waiting", "bank3 says that writes wait")
            report("engine stopped", reason=net.status("bank3")["reason"])
        load.progress(4)
        time.sleep(max(0.0, long_s - (time.monotonic() - begin)))
        load.progress(1)
        frozen_s = time.monotonic() - begin
        meanwhile = len(load.acknowledged) - before
        net.thaw("bank3")
        begin = time.monotonic()
        behind = net.height("tax")
        until(lambda: net.height("bank3") >= behind, "bank3 has caught up")
        caught_up_s = time.monotonic() - begin
        acknowledged = load.finish()
    net.agree()
    (slowest,) = latencies_ms(net, 1, 70_000, "bank3")
    report(
        f"SIGSTOP of {what or 'node and engine'}",
        frozen_s=round(frozen_s, 1),
        acknowledged_meanwhile=meanwhile,
        seconds_until_caught_up=round(caught_up_s, 1),
        its_next_commit_ms=slowest,
    )
    net.agree()
    net.stop()
    check_ledgers(net, acknowledged)
