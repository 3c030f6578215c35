"""kill -9 of the sequencer at random moments: nothing acknowledged is lost, nothing is signed twice differently,
and writes go on by themselves."""

from __future__ import annotations

import random
import shutil
import time

import pytest
from ledgers import check_ledgers

from network import Load, RealNetwork, until


def survive(net: RealNetwork, seed: int, kills: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Load(net, "tax", "bank1", "bank2", threads=3) as load:
        for _ in range(kills):
            if chance.random() < 0.3:  # anywhere in a start, or in the recovery
                until(lambda: "tax" in net.pids(), "the supervisor starts the sequencer again")
                time.sleep(chance.uniform(0.0, 1.5))
            else:  # in the middle of work
                load.progress(chance.randint(1, 4))
                time.sleep(chance.uniform(0.0, 0.1))
            until(lambda: "tax" in net.pids(), "the supervisor starts the sequencer again")
            net.kill("tax")
        load.progress(3)
        acknowledged = load.finish()
    net.agree()
    net.stop()
    print(check_ledgers(net, acknowledged))


def test_killed_again_and_again(net: RealNetwork) -> None:
    survive(net, seed=random.SystemRandom().randrange(10**6), kills=12)


def test_a_lost_store_stops_writes_until_it_is_restored(net: RealNetwork) -> None:
    """A sequencer that has forgotten what it voted for must not order anything: it would vote a second time."""
    if net.engine != "embedded":
        pytest.skip("of the embedded engine only")
    with Load(net, "bank1", "bank2") as load:
        load.progress(3)
        acknowledged = load.finish()
    height = net.agree()["height"]
    store = net.homes["tax"].store_path
    net.stop("tax")
    kept = store.with_name("kept")
    store.rename(kept)
    store.mkdir()
    for name in ("bank1", "bank2", "bank3"):
        net.stop(name)
    net.start("tax")  # alone: nobody can tell it yet what it has lost
    assert net.status("tax")["height"] == 0
    for name in ("bank1", "bank2", "bank3"):
        net.start(name)
    with Load(net, "bank2", "bank3", first=1_000_000) as load:
        until(
            lambda: "old copy" in (net.status("tax").get("reason") or ""), "the sequencer says what is wrong"
        )
        until(lambda: "old copy" in (net.status("bank1").get("reason") or ""), "and the others repeat it")
        assert {net.height(name) for name in net.names[1:]} == {height}
        net.stop("tax")
        net.stop("bank1")
        shutil.rmtree(store)
        shutil.copytree(net.homes["bank1"].store_path, store)
        net.start("bank1")
        net.start("tax")
        until(
            lambda: "signing journal" in (net.status("tax").get("reason") or ""),
            "another's store has the blocks, and not what this sequencer has voted for",
        )
        net.stop("tax")
        shutil.rmtree(store)
        kept.rename(store)
        net.start("tax")
        load.progress(3)
        acknowledged |= load.finish()
    net.agree()
    net.stop()
    print(check_ledgers(net, acknowledged))


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_killed_a_hundred_times(net: RealNetwork) -> None:
    survive(net, seed=random.SystemRandom().randrange(10**6), kills=100)
