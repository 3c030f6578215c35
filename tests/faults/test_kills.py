"""``kill -9`` of any member's processes at any time, the proposer's too: writes go on at the others."""

from __future__ import annotations

import random
import time

import pytest
from faultnet import FaultNetwork, report
from ledgers import check_ledgers

from network import Load, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = int(time.time())
WHAT = (None, "node", "engine")


def back(net: FaultNetwork, member: str) -> None:
    until(lambda: net.status(member).get("writes") == "ok", f"{member} is back")


def test_each_in_turn_and_at_random(net: FaultNetwork) -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    waits: list[float] = []
    with Load(net, *net.names, threads=4) as load:
        load.progress(8)
        # Proposers take turns, one a block: over so many kills each kind of moment and role is met.
        turns = [(name, what) for name in net.names for what in WHAT]
        turns += [(chance.choice(net.names), chance.choice(WHAT)) for _ in range(8)]
        for member, what in turns:
            time.sleep(chance.random())
            before = {name: net.height(name) for name in net.names if name != member}
            net.kill(member, what)
            begin = time.monotonic()
            until(
                lambda before=before: all(net.height(name) > at for name, at in before.items()),
                f"the others go on without {what or 'node and engine'} of {member}",
            )
            waits.append(time.monotonic() - begin)
            load.progress(4)
            back(net, member)
        acknowledged = load.finish()
    net.agree()
    net.stop()
    waits.sort()
    report(
        "kill -9 under load",
        kills=len(waits),
        seed=SEED,
        p50_s=round(waits[len(waits) // 2], 2),
        longest_s=round(waits[-1], 2),
        **check_ledgers(net, acknowledged),
    )


def test_two_at_once_and_all_at_once(net: FaultNetwork) -> None:
    """With two gone writes wait; with all gone nothing acknowledged is lost."""
    with Load(net, *net.names, threads=4) as load:
        load.progress(8)
        for victims in (net.names[2:], net.names[:2], net.names):
            for member in victims:
                net.kill(member)
            for member in net.names:
                back(net, member)
            load.progress(4)
        acknowledged = load.finish()
    net.agree()
    net.stop()
    report("kill -9 of two and of all", **check_ledgers(net, acknowledged))
