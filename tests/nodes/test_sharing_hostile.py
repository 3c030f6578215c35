"""Sharing with a member that does not keep to the rules, and while the network is down: clear errors, nothing kept,
nothing that waits or grows without end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from custodykit import use_stored_keys
from sharingkit import Subject, running
from test_sharing import ask, invoices, prepared, settled, uses

from taxledger.ledger import canonical
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.nodes.custodian import disclosing
from taxledger.nodes.recipient import asking


@pytest.fixture(autouse=True)
def _stored_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)


class Lying:
    """The way to a custodian that answers as it likes."""

    def __init__(self, peer: Any, lie: Callable[[str, bytes], bytes]) -> None:
        self._peer = peer
        self._lie = lie

    async def call(self, verb: str, message: Any, **options: Any) -> bytes:
        return self._lie(verb, await self._peer.call(verb, message, **options))


def head(change: Callable[[list[Any]], None]) -> Callable[[str, bytes], bytes]:
    """Another head."""

    def lie(verb: str, answer: bytes) -> bytes:
        if verb != "disclose":
            return answer
        value = canonical.decode(answer)
        change(value)
        return canonical.encode(value)

    return lie


def put(at: int, value: Any) -> Callable[[str, bytes], bytes]:
    return head(lambda answer: answer.__setitem__(at, value))


def piece(change: Callable[[bytes], bytes]) -> Callable[[str, bytes], bytes]:
    return lambda verb, answer: change(answer) if verb == "piece" else answer


def say(error: Exception) -> Callable[[str, bytes], bytes]:
    def lie(_verb: str, _answer: bytes) -> bytes:
        raise error

    return lie


LIES: dict[str, tuple[Callable[[str, bytes], bytes], str]] = {
    "no msgpack": (lambda _verb, _answer: b"\xc1", "disclosure_invalid"),
    "nothing": (lambda _verb, _answer: b"", "disclosure_invalid"),
    "another version": (put(0, 2), "disclosure_invalid"),
    "another consent": (put(2, bytes(16)), "disclosure_invalid"),
    "number of no use": (put(3, 0), "disclosure_invalid"),
    "no pieces": (put(4, []), "disclosure_invalid"),
    "pieces without end": (put(4, [0, *[1] * 2_000]), "disclosure_invalid"),
    "empty pieces": (put(4, [0, 0, 0]), "disclosure_invalid"),
    "records in the frame": (put(4, [1, 30]), "disclosure_invalid"),
    "huge pieces": (put(4, [0, 2**40]), "disclosure_invalid"),
    "fewer pieces": (put(4, [0]), "disclosure_invalid"),
    "another salt": (put(5, bytes(32)), "disclosure_invalid"),
    "no proof": (put(7, None), "disclosure_invalid"),
    "numbers for a proof": (put(7, [1, 2, [], [3, 4, 5], 6]), "disclosure_invalid"),
    "another proof": (head(lambda value: value[7].__setitem__(4, b"\x05")), "disclosure_invalid"),
    "a changed piece": (piece(lambda data: data[:-1] + bytes([data[-1] ^ 1])), "disclosure_invalid"),
    "a cut piece": (piece(lambda data: data[:40]), "disclosure_invalid"),
    "an empty piece": (piece(lambda _data: b""), "disclosure_invalid"),
    "a word about the client": (say(RefusedError("key_unknown", "go\naway")), "custodian_refused"),
    "a word about the node": (say(RefusedError("internal", "x" * 5_000)), "custodian_refused"),
}


async def test_a_lying_custodian_gets_one_error_and_nothing_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        artefact = subject.artefact(nodes.chain_id, 2, mode="store", retention_days=30, max_uses=1)
        await nodes.grant(artefact)
        recipient = nodes.nodes["bank1"].sharing.recipient
        honest, request = recipient._peers[1], os.urandom(16)
        for what, (lie, code) in LIES.items():
            recipient._peers = {1: Lying(honest, lie)}  # type: ignore[dict-item]
            with pytest.raises(RefusedError) as caught:
                await nodes.ask("bank1", ask(), artefact, request)
            assert caught.value.code == code, what
            assert len(str(caught.value)) < 400, what
            assert str(caught.value).isprintable(), what
            assert not await recipient.stored(), what
        recipient._peers = {1: honest}
        await nodes.ask("bank1", ask(), artefact, request)
        assert len(await recipient.stored()) == 1
        assert await settled(nodes, subject) == [(1, "complete", 30, 30)]


async def test_a_hostile_recipient_gets_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        artefact = subject.artefact(nodes.chain_id, 2)
        await nodes.grant(artefact)
        consent, digest = artefact.id(1), artefact.digest(1)
        tax, bank = nodes.nodes["bank2"].peers[1], nodes.nodes["bank1"].peers[1]
        query = ask().as_list()
        garbage: list[tuple[str, Any]] = [
            ("disclose", None),
            ("disclose", [1, "disclose"]),
            ("disclose", [True, "disclose", consent, digest, query, bytes(16)]),
            ("disclose", [1, "disclose", consent, digest, [1, 2, 3, 4, 5], bytes(16)]),
            ("disclose", [1, "disclose", consent, digest, [*query[:2], "", *query[3:]], bytes(16)]),
            ("disclose", [1, "disclose", consent, digest, query, b""]),
            ("piece", [1, "piece", consent, 0, 0]),
            ("piece", [1, "piece", consent, 1, -1]),
            ("piece", [1, "piece", consent, 2**32, 0]),
        ]
        for verb, message in garbage:
            with pytest.raises(RefusedError) as caught:
                await bank.call(verb, message)
            assert caught.value.code == "malformed", message
        with pytest.raises(RefusedError, match="use_unknown"):
            await bank.call("piece", [1, "piece", consent, 1, 0])
        with pytest.raises(RefusedError, match="consent_recipient_mismatch"):
            await tax.call("disclose", [1, "disclose", consent, digest, query, bytes(16)])
        await nodes.ask("bank1", ask(), artefact)
        with pytest.raises(RefusedError, match="consent_recipient_mismatch"):
            await tax.call("piece", [1, "piece", consent, 1, 0])
        with pytest.raises(RefusedError, match="malformed"):
            await bank.call("piece", [1, "piece", consent, 1, 2])
        assert await settled(nodes, subject) == [(1, "complete", 30, 30)]
        # As often as it likes: the same bytes, and no more at once than its share.
        flood = [bank.call("piece", [1, "piece", consent, 1, 1]) for _ in range(200)]
        answers = await asyncio.gather(*flood, return_exceptions=True)
        assert {type(each) for each in answers} <= {bytes, UnavailableError}
        assert len({each for each in answers if isinstance(each, bytes)}) == 1
        discloser = nodes.nodes["tax"].sharing.custody.discloser  # type: ignore[union-attr]
        assert not +discloser._questions
        assert not len(discloser._planning)
        assert not len(discloser._uses._locks)
        assert await uses(nodes, subject) == [(1, "complete", 30, 30)]


async def test_while_writes_wait_nobody_waits_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disclosing, "ANSWER_S_MAX", 0.5)
    monkeypatch.setattr(asking, "_PATIENCE_S", 1.0)
    async with running(tmp_path / "net") as nodes:
        subject = await prepared(nodes, tmp_path)
        artefact = subject.artefact(nodes.chain_id, 2, max_uses=3)
        await nodes.grant(artefact)
        await nodes.stop("bank2")
        await nodes.stop("bank3")
        first, second = os.urandom(16), os.urandom(16)
        for request in (first, second):
            with pytest.raises(UnavailableError, match="ask again"):
                await nodes.ask("bank1", ask(), artefact, request)
        assert await uses(nodes, subject) == []
        nodes.start("bank2")
        nodes.start("bank3")
        await nodes.ready()
        monkeypatch.setattr(disclosing, "ANSWER_S_MAX", 30.0)
        numbers = []
        for request in (first, second, first):
            _, progress = await nodes.ask("bank1", ask(), artefact, request)
            numbers.append(progress[-1].sequence)
        assert sorted(numbers[:2]) == [1, 2]
        assert numbers[2] == numbers[0]
        assert [each[1:] for each in await settled(nodes, subject)] == [("complete", 30, 30)] * 2


async def test_asking_without_end_does_not_keep_a_use_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taxledger.nodes.custodian import openuses

    monkeypatch.setattr(openuses, "OPEN_MS_MAX", 1_500)
    async with running(tmp_path / "net", disclosure_idle_ms=600_000) as nodes:
        await nodes.attest(invoices(tmp_path / "e1.csv", 2_500))
        subject = Subject("cumcm:E1")
        await nodes.register(subject)
        artefact = subject.artefact(nodes.chain_id, 2)
        await nodes.grant(artefact)
        consent, bank = artefact.id(1), nodes.nodes["bank1"].peers[1]
        message = [1, "disclose", consent, artefact.digest(1), ask().as_list(), bytes(16)]
        await bank.call("disclose", message)
        while [each[1] for each in await uses(nodes, subject)] == ["open"]:
            await bank.call("piece", [1, "piece", consent, 1, 1])
        assert await uses(nodes, subject) == [(1, "partial", 2_500, 1_000)]
        await bank.call("piece", [1, "piece", consent, 1, 0])
        with pytest.raises(RefusedError, match="use_closed"):
            await bank.call("piece", [1, "piece", consent, 1, 2])
