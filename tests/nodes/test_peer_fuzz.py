"""Messages of the engine, changed at random places: whatever comes in, nobody ends and the ledger goes on."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from cluster import Cluster, running

from taxledger.ledger import canonical
from taxledger.ledger.errors import TaxledgerError
from taxledger.nodes import replica as replica_module

JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    2**63 - 1,
    2**63,
    2**64 - 1,
    "",
    "x" * 300,
    b"",
    bytes(32),
    bytes(64),
]
JUNK += [[], [[]], {}, {"a": 1}, [0] * 40, [b""] * 40, b"\xd2\x84" + bytes(200)]


def mutated(chance: random.Random, message: Any) -> Any:
    """The message with one to three parts replaced, left out or repeated."""
    value = copy.deepcopy(message)
    for _ in range(chance.randint(1, 3)):
        places: list[tuple[list[Any], int]] = []
        _collect(value, places)
        if not places:
            return chance.choice(JUNK)
        where, at = chance.choice(places)
        match chance.randrange(4):
            case 0:
                del where[at]
            case 1:
                where.insert(at, copy.deepcopy(where[at]))
            case 2 if type(where[at]) is int:
                where[at] += chance.choice([-1, 1, 2, 1_000_000])
            case 2 if type(where[at]) is bytes and where[at]:
                flipped = bytearray(where[at])
                flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
                where[at] = bytes(flipped)
            case _:
                where[at] = copy.deepcopy(chance.choice(JUNK))
    return value


def _collect(value: Any, places: list[tuple[list[Any], int]]) -> None:
    if type(value) is list:
        for at, each in enumerate(value):
            places.append((value, at))
            _collect(each, places)


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Statuses with which a node would have ended its process."""
    statuses: list[int] = []
    monkeypatch.setattr(replica_module.os, "_exit", statuses.append)
    return statuses


async def _history(cluster: Cluster) -> list[tuple[int, int, str, Any]]:
    """Real messages of some rounds, with one node that had to catch up."""
    await cluster.until(cluster.certified(1))
    await cluster.nodes[3].stop()
    for day in range(1, 6):
        await cluster.submit(cluster.through(day))
        await cluster.until(cluster.certified(day + 1, 1, 2, 4))
    await cluster.nodes[3].start()
    await cluster.until(cluster.certified(6))
    return [each for each in cluster.wire.seen if each[2] in ("step", "votes", "journal")]


@pytest.mark.parametrize("seed", range(3))
async def test_changed_questions(seed: int, ended: list[int]) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with running(seed=seed) as cluster:
        seen = await _history(cluster)
        for number in range(400):
            sender, receiver, verb, message = chance.choice(seen)
            if receiver not in cluster.wire.handlers or verb not in cluster.wire.handlers[receiver]:
                continue
            try:
                changed = canonical.decode(canonical.encode(mutated(chance, message)))
                await cluster.wire.handlers[receiver][verb](sender, changed)
            except TaxledgerError:
                pass
            if number % 100 == 50:
                await cluster.submit(cluster.through(100 + number))
        last = cluster.nodes[1].chain.tip.height
        await cluster.submit(cluster.through(1_000))
        await cluster.until(cluster.certified(last + 1))
        assert not ended
        cluster.check_agreement()


@pytest.mark.parametrize("seed", range(3))
async def test_changed_answers_of_one_member(seed: int, ended: list[int]) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with running(seed=seed) as cluster:
        await cluster.until(cluster.certified(1))
        for verb, honest in list(cluster.wire.handlers[4].items()):

            async def changed(member: int, message: Any, honest: Any = honest) -> Any:
                answer = await honest(member, message)
                if chance.random() < 0.5:
                    return answer
                try:
                    data = canonical.encode(mutated(chance, answer))
                except TaxledgerError:
                    data = b"\xc1"
                return data if chance.random() < 0.9 else data[:-1] + b"\xff"

            cluster.wire.handlers[4][verb] = changed
        for day in range(1, 25):
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(day + 1, 1, 2, 3))
        assert not ended
        assert not cluster.nodes[1]._task.done()
        cluster.check_agreement()
