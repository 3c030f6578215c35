"""kill -9 of the sequencer at random moments: nothing acknowledged is lost, nothing is signed twice differently,
and writes go on by themselves."""

from __future__ import annotations

import random
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


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_killed_a_hundred_times(net: RealNetwork) -> None:
    survive(net, seed=random.SystemRandom().randrange(10**6), kills=100)
