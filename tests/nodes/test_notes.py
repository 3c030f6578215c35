"""Notes that a node serves: an observer takes a log signature from whoever gives a right one."""

from __future__ import annotations

from typing import Any

import chainkit
import pytest
from cluster import Cluster, running

from taxledger.ledger.checkpoint import decode_note, verify_log_signature
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.nodes.application import Keys
from taxledger.nodes.notes import Notes


def observer() -> Keys:
    return Keys(member=6)


class Validator:
    """In the place of the client of a validator; counts how often it is asked."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        signers = {use: chainkit.signer(number, use) for use in ("vote", "log", "cosign")}
        replica = cluster.nodes[number].replica
        self.notes = Notes("test.net", replica, lambda: Keys(member=number, **signers), {})
        self.asked = 0
        self.answer: bytes | None = None

    async def call(self, _verb: str, message: Any, **_limits: Any) -> bytes:
        self.asked += 1
        return await self.notes.on_log_signature(6, message) if self.answer is None else self.answer


async def test_an_observer_does_not_serve_a_false_log_signature() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        peers = {number: Validator(cluster, number) for number in (1, 2)}
        peers[1].answer = bytes(64)
        notes = Notes("test.net", cluster.nodes[4].replica, observer, peers)
        state = cluster.nodes[4].replica.certified
        note = decode_note(await notes.note(state))
        verify_log_signature(
            chainkit.signer(2, "log").public_key, note.checkpoint, note.log_lines[0].signature
        )
        assert await notes.note(state)
        assert [peer.asked for peer in peers.values()] == [1, 1]
        peers[2].answer = b""
        again = Notes("test.net", cluster.nodes[4].replica, observer, peers)
        with pytest.raises(UnavailableError):
            await again.note(state)


async def test_an_observer_that_is_a_block_behind_gets_its_signature() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        behind = cluster.nodes[4].replica.certified
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2))
        notes = Notes("test.net", cluster.nodes[4].replica, observer, {1: Validator(cluster, 1)})
        assert decode_note(await notes.note(behind)).checkpoint == behind.checkpoint


async def test_a_validator_signs_certified_checkpoints_only() -> None:
    async with running() as cluster:
        await cluster.until(cluster.certified(1))
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(2))
        notes = Validator(cluster, 1).notes
        tree = cluster.nodes[1].replica.certified.checkpoint
        good = [1, "log_signature", tree.size, tree.root]
        assert len(await notes.on_log_signature(6, good)) == 64
        for size, root in [
            (tree.size, bytes(32)),
            (tree.size - 1, tree.root),
            (tree.size + 1, tree.root),
            (2**64 - 1, tree.root),
            (0, tree.root),
            (-1, tree.root),
            ("4", tree.root),
            (tree.size, None),
        ]:
            with pytest.raises(UnavailableError):
                await notes.on_log_signature(6, [1, "log_signature", size, root])
        with pytest.raises(RefusedError, match="not_validator"):
            await Notes("test.net", cluster.nodes[1].replica, observer, {}).on_log_signature(6, good)
