"""The same key and body: the same answer; another body: refused; at once: one does the work."""

from __future__ import annotations

import asyncio

import chainkit
import httpx
import pytest
from fakenode import FakeNode, record

from taxledger.api.idempotency import Answer, IdempotencyStore
from taxledger.api.problems import ProblemError
from taxledger.api.reader import RecordChange
from taxledger.ledger.errors import UnavailableError

ASKED = {"subject": "cumcm:E14", "issuer": 1, "kinds": [5], "from": "2017-01", "to": "2019-12"}
HISTORY = {"key": record(1).hex()}


def change(version: int) -> RecordChange:
    return RecordChange(
        operation="attest", version=version, status=1, member=5, transaction=bytes(32), height=2, time_ms=7
    )


async def test_a_repetition_gets_the_first_answer(http: httpx.AsyncClient, node: FakeNode) -> None:
    sent = {"Idempotency-Key": "a"}
    node.changes = [change(1)]
    first = await http.post("/v1/records/history", json=HISTORY, headers=sent)
    node.changes = [change(2)]
    again = await http.post("/v1/records/history", json=HISTORY, headers=sent)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (
        None,
        "true",
    )
    other = await http.post("/v1/records/history", json={"key": record(2).hex()}, headers=sent)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    newer = await http.post("/v1/records/history", json=HISTORY, headers={"Idempotency-Key": "b"})
    assert newer.json()["changes"][0]["version"] == 2


async def test_a_dossier_is_never_kept(http: httpx.AsyncClient, node: FakeNode) -> None:
    sent = {"Idempotency-Key": "a"}
    assert (await http.post("/v1/dossiers", json=ASKED, headers=sent)).content == b"evidence"
    node.evidence = b"newer"
    again = await http.post("/v1/dossiers", json=ASKED, headers=sent)
    assert (again.content, again.headers.get("idempotency-replayed")) == (b"newer", None)


async def test_another_question_is_another_body(http: httpx.AsyncClient, node: FakeNode) -> None:
    raw = node.chain.sign(chainkit.attest(chainkit.group(70)))
    sent = {"Idempotency-Key": "a", "Content-Type": "application/cose"}
    assert (await http.post("/v1/transactions", content=raw, headers=sent)).status_code == 200
    answer = await http.post("/v1/transactions?wait=none", content=raw, headers=sent)
    assert answer.json()["code"] == "idempotency_mismatch"


async def test_an_answer_that_says_pending_is_not_repeated(http: httpx.AsyncClient, node: FakeNode) -> None:
    raw = node.chain.sign(chainkit.attest(chainkit.group(71)))
    sent = {"Idempotency-Key": "a", "Content-Type": "application/cose"}
    assert (await http.post("/v1/transactions?wait=none", content=raw, headers=sent)).status_code == 202
    assert (await http.post("/v1/transactions", content=raw, headers=sent)).json()["state"] == "certified"


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
async def test_bad_keys(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post("/v1/dossiers", json=ASKED, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


async def test_repetitions_wait_for_the_one_under_way(http: httpx.AsyncClient, node: FakeNode) -> None:
    raw = node.chain.sign(chainkit.attest(chainkit.group(71)))
    sent = {"Idempotency-Key": "a", "Content-Type": "application/cose"}
    node.gate.clear()
    asked = [asyncio.create_task(http.post("/v1/transactions", content=raw, headers=sent)) for _ in range(3)]
    await asyncio.sleep(0.05)
    node.gate.set()
    answers = await asyncio.gather(*asked)
    assert node.submitted == [raw]
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].json()["code"] == 0


async def test_a_failure_is_not_kept(http: httpx.AsyncClient, node: FakeNode) -> None:
    sent = {"Idempotency-Key": "a", "Content-Type": "application/cose"}
    raw = node.chain.sign(chainkit.attest(chainkit.group(72)))
    node.failure = UnavailableError("later")
    assert (await http.post("/v1/transactions", content=raw, headers=sent)).status_code == 503
    node.failure = None
    assert (await http.post("/v1/transactions", content=raw, headers=sent)).status_code == 200


class Work:
    def __init__(self, body: bytes = b"x", status: int = 200) -> None:
        self.count = 0
        self.answer = Answer(status=status, media_type="text/plain", body=body)

    async def __call__(self) -> Answer:
        self.count += 1
        await asyncio.sleep(0)
        return self.answer


NAME = ("key", "/v1/x", "a")


async def test_what_is_kept_is_bounded_in_time_number_and_bytes() -> None:
    now = [0.0]
    store = IdempotencyStore(lambda: now[0], age_s_max=10, entries_max=4, bytes_max=800)
    work = Work()
    await store.run(NAME, b"", work)
    now[0] = 10.0
    assert (await store.run(NAME, b"", work))[1]
    now[0] = 10.1
    assert not (await store.run(NAME, b"", work))[1]
    for n in range(20):
        await store.run(("key", "/v1/x", str(n)), b"", Work(b"y" * 100))
        assert len(store._entries) <= 5
        assert store._bytes == sum(len(e.answer.body) for e in store._entries.values() if e.answer)
    large = Work(b"z" * 101)
    assert [(await store.run(("k", "p", "l"), b"", large))[1] for _ in range(2)] == [False, False]


async def test_one_that_is_given_up_leaves_its_turn() -> None:
    store = IdempotencyStore(lambda: 0.0)
    gate = asyncio.Event()

    async def slow() -> Answer:
        await gate.wait()
        raise AssertionError("cancelled before")

    work = Work()
    first = asyncio.create_task(store.run(NAME, b"", slow))
    await asyncio.sleep(0)
    second = asyncio.create_task(store.run(NAME, b"", work))
    await asyncio.sleep(0)
    with pytest.raises(ProblemError, match="another body"):
        await store.run(NAME, b"other", work)
    first.cancel()
    assert (await second)[0] == work.answer
    assert work.count == 1
