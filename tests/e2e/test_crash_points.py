"""Death right before and right after each durable write, of the sequencer and of a follower, under load.

Between two writes a node only computes and sends, so these points stand for every moment it can die at. Writes are
atomic (``ledger/store.py``): the store never holds half of one.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from ledgers import check_ledgers

from network import Load, RealNetwork, until

Point = tuple[str, int, str]
"""Kind of write, its number since the start, before or after it."""

WRITES = {"embedded": ("vote", "commit", "certify"), "cometbft": ("engine", "commit", "certify")}
"""What a block takes under each engine; an engine's block without one of the ledger is a write of its own."""
EVERY_WRITE: list[Point] = [("any", number, when) for number in range(1, 10) for when in ("before", "after")]


def die_at(net: RealNetwork, victim: str, points: Iterable[Point]) -> None:
    """Kill ``victim`` at each point, one life a point; then everything must be as if nothing had happened."""
    net.stop(victim)
    helper = "bank1" if victim != "bank1" else "bank3"
    with Load(net, helper, "tax" if victim != "tax" else "bank3") as load:
        for kind, number, when in points:
            net.break_at(victim, number, when, kind=kind)
            net.launch(victim)
            until(lambda: victim not in net.pids(), f"{victim} dies {when} {kind} {number}")
        net.start(victim)
        load.progress(3)
        acknowledged = load.finish()
    net.agree()
    net.stop()
    print(check_ledgers(net, acknowledged))


@pytest.mark.parametrize("victim", ["tax", "bank2"])
def test_death_at_each_step_of_a_block(net: RealNetwork, victim: str) -> None:
    kinds = enumerate(WRITES[net.engine], start=1)
    die_at(net, victim, [(kind, number, when) for number, kind in kinds for when in ("before", "after")])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["tax", "bank2"])
def test_death_at_every_write_after_a_start(net: RealNetwork, victim: str) -> None:
    die_at(net, victim, EVERY_WRITE)
