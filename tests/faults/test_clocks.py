"""A node process whose clock is an hour off, either way: it says so, and the others go on without it.

libfaketime reaches the node, a Python process, and not the engine, a Go program that asks the kernel itself. So what is
tried here is a wrong time in proposals, votes on them, co-signatures and answers; the engine's own votes carry the
machine's time. Of those the engine takes the median, which one wrong clock does not move.
"""

from __future__ import annotations

import time

import pytest
from faultnet import FaultNetwork, find_faketime, latencies_ms, report
from ledgers import check_ledgers

from network import Load, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HOUR_S = 3_600
OTHERS = ("tax", "bank1", "bank2")


@pytest.mark.parametrize("hours", [1, -1])
def test_an_hour_off(net: FaultNetwork, hours: int) -> None:
    if find_faketime() is None:
        pytest.skip("needs libfaketime (make system-deps)")
    sound = latencies_ms(net, 20, 60_000, *OTHERS)
    net.stop("bank3")
    net.shift_clock("bank3", hours * HOUR_S)
    net.start("bank3")
    word = "ahead of" if hours > 0 else "behind"

    def said() -> str | None:
        reason = net.status("bank3").get("reason") or ""
        return reason if f"{word} the others" in reason else None

    with Load(net, *OTHERS, threads=3) as load:
        reason = str(until(said, "bank3 says what is wrong with its clock"))
        load.progress(20)
        begin = time.time()
        for name in OTHERS:  # no answer of theirs holds a co-signature that a verifier would refuse
            assert net.status(name)["writes"] == "ok"
            with net.client(name) as client:
                client.checkpoint()
        acknowledged = load.finish()
    wrong = latencies_ms(net, 20, 61_000, *OTHERS)
    assert all(
        abs(receipt.certified_time_ms / 1_000 - begin) < HOUR_S / 2 for receipt in acknowledged.values()
    )
    report(
        f"a node's clock {hours:+d} h",
        reason=reason,
        sound_p50_ms=sound[len(sound) // 2],
        others_p50_ms=wrong[len(wrong) // 2],
        others_longest_ms=wrong[-1],
    )
    net.stop("bank3")
    net.processes["bank3"]["node"].environment = {}
    net.start("bank3")
    until(lambda: net.status("bank3").get("writes") == "ok", "bank3 is well with its clock set right")
    (own,) = latencies_ms(net, 1, 62_000, "bank3")
    report("its clock set right", its_next_commit_ms=own)
    net.agree()
    net.stop()
    check_ledgers(net, acknowledged)
