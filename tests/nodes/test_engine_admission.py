"""An engine that is connected with one of a removed member is started anew, in its turn, and only then."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from taxledger.ledger.errors import UnavailableError
from taxledger.nodes.ordering.cometbft.admission import end_with_outsiders
from taxledger.nodes.ordering.cometbft.rpc import EngineRpc

GONE, MEMBER = "ab" * 20, "cd" * 20


class FakeRpc:
    """Its engine is connected with these; a restart ends what is not admitted."""

    def __init__(self, *connected: str) -> None:
        self.connected, self.asked, self.restarts = list(connected), 0, 0
        self.answers: list[Any] = []

    async def call(self, method: str) -> Any:
        assert method == "net_info"
        self.asked += 1
        if self.answers:
            answer = self.answers.pop()
            if isinstance(answer, Exception):
                raise answer
            return answer
        return {"peers": [{"node_info": {"id": each}} for each in self.connected]}

    def restart(self) -> None:
        self.restarts += 1
        self.connected = [each for each in self.connected if each == MEMBER]


async def looks(rpc: FakeRpc, count: int, *, turn: int = 0, turn_s: float = 0.0) -> None:
    """Let it look so many times."""
    task = asyncio.create_task(
        end_with_outsiders(
            cast(EngineRpc, rpc),
            admits=lambda engine_id: engine_id == MEMBER,
            turn=lambda: turn,
            restart=rpc.restart,
            look_s=0,
            turn_s=turn_s,
        )
    )
    goal = rpc.asked + count
    while rpc.asked < goal and not task.done():  # noqa: ASYNC110 — a count, no event
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_restarts_once_and_then_rests() -> None:
    rpc = FakeRpc(MEMBER, GONE)
    await looks(rpc, 20)
    assert (rpc.restarts, rpc.connected) == (1, [MEMBER])


async def test_among_members_it_never_restarts() -> None:
    rpc = FakeRpc(MEMBER)
    await looks(rpc, 20)
    assert rpc.restarts == 0


async def test_it_waits_for_its_turn() -> None:
    rpc = FakeRpc(MEMBER, GONE)
    await looks(rpc, 20, turn=2, turn_s=3_600)
    assert rpc.restarts == 0


@pytest.mark.parametrize("answer", [UnavailableError("away"), {}, None, {"peers": [{}]}, {"peers": None}])
async def test_an_engine_that_says_nothing_is_left_alone(answer: Any) -> None:
    rpc = FakeRpc(MEMBER)
    rpc.answers = [answer] * 5
    await looks(rpc, 10)
    assert rpc.restarts == 0
