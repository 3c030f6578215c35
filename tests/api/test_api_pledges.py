"""Routes of a lender: what they ask of the node, what they say of it, and that a request names its pledge."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from fakenode import FakeNode, Keys, make_app, policy_of

from taxledger.api import models_pledges as models
from taxledger.api.client import AsyncClient
from taxledger.api.client.wire import RetryLimits
from taxledger.api.pledging import PledgeReceipt
from taxledger.api.problems import PROBLEMS
from taxledger.api.routes_pledges import PLEDGES
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError, UnavailableError, VerificationError
from taxledger.ledger.permit import encode_permit, sign_permit

CONSENT, PLEDGE = bytes(range(16)), bytes(range(16, 32))
RECORD = bytes([1, 0, 1, 5]) + bytes(33)
PERMIT = encode_permit(
    sign_permit(
        Signer(bytes(32)),
        bytes(16),
        record_key=RECORD,
        version=1,
        fingerprint=bytes(16),
        lender=2,
        not_after=9,
    )
)
B64 = base64.b64encode(PERMIT).decode()


class FakePledging:
    """Implements ``Pledging``; ``failure`` is raised by every method when it is set."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    def _receipt(self, operation: str, pledge: bytes = PLEDGE) -> PledgeReceipt:
        return PledgeReceipt(
            pledge=pledge, operation=operation, transaction=bytes(32), height=3, index=9, time_ms=7
        )

    async def permits(
        self, consent: bytes, sequence: int, records: Sequence[bytes], not_after: int
    ) -> Sequence[bytes]:
        self._note("permits", consent, sequence, list(records), not_after)
        return [PERMIT for _ in records]

    async def place(self, permit: bytes, ppm: int, not_after: int | None, nonce: bytes) -> PledgeReceipt:
        self._note("place", permit, ppm, not_after, nonce)
        return self._receipt("place")

    async def confirm(self, pledge: bytes) -> PledgeReceipt:
        self._note("confirm", pledge)
        return self._receipt("confirm", pledge)

    async def release(self, pledge: bytes) -> PledgeReceipt:
        self._note("release", pledge)
        return self._receipt("release", pledge)

    async def transfer(self, pledge: bytes, permit: bytes) -> PledgeReceipt:
        self._note("transfer", pledge, permit)
        return self._receipt("transfer", pledge)

    async def proof(self, keys: Sequence[tuple[int, bytes]]) -> bytes:
        self._note("proof", list(keys))
        return b"proof"


@pytest.fixture
def pledging() -> FakePledging:
    return FakePledging()


@pytest.fixture
async def http(node: FakeNode, keys: Keys, pledging: FakePledging) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, keys, pledging=pledging))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header("pledge")
    ) as client:
        yield client


@pytest.fixture
async def client(node: FakeNode, keys: Keys, pledging: FakePledging) -> AsyncIterator[AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, keys, pledging=pledging))
    async with AsyncClient(
        "http://127.0.0.1",
        keys.tokens["all"],
        policy_of(node.chain),
        retries=RetryLimits(total_s=0.0),
        transport=transport,
    ) as client:
        yield client


async def test_a_request_names_its_pledge(http: httpx.AsyncClient, pledging: FakePledging) -> None:
    body = {"permit": B64, "ppm": 10_000, "not_after": None, "nonce": None}

    async def nonce(key: str | None, **changes: object) -> bytes:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await http.post("/v1/pledges", json=body | changes, headers=headers)
        assert models.PledgeReceiptBody.model_validate_json(answer.content).pledge == PLEDGE.hex()
        return bytes(pledging.asked[-1][-1])

    first = await nonce("a")
    assert len(first) == 16
    assert await nonce("b") != first
    assert await nonce(None) != await nonce(None)
    assert await nonce("c", nonce="07" * 16) == b"\x07" * 16
    # Forgotten answers, as after a restart: the same key gives the same nonce, so nothing is placed twice.
    pledging.failure = UnavailableError("writes wait")
    await http.post("/v1/pledges", json=body, headers={"Idempotency-Key": "d"})
    pledging.failure = None
    assert await nonce("d") == pledging.asked[-2][-1]


async def test_every_operation_reaches_the_node(client: AsyncClient, pledging: FakePledging) -> None:
    assert await client.request_permits(CONSENT, 2, [RECORD], not_after=9) == [PERMIT]
    assert (await client.place_pledge(PERMIT, 50_000, not_after=8, request_key="k")).operation == "place"
    assert (await client.confirm_pledge(PLEDGE)).pledge == PLEDGE
    assert (await client.release_pledge(PLEDGE)).height == 3
    assert (await client.transfer_pledge(PLEDGE, PERMIT)).operation == "transfer"
    assert await client.pledge_proof([(1, CONSENT), (1, CONSENT)]) == b"proof"
    assert [each[:2] for each in pledging.asked] == [
        ("permits", CONSENT), ("place", PERMIT), ("confirm", PLEDGE), ("release", PLEDGE),
        ("transfer", PLEDGE), ("proof", [(1, CONSENT)]),
    ]  # fmt: skip
    with pytest.raises(VerificationError, match="not_canonical"):
        await client.verified_pledges([(1, CONSENT)])
    with pytest.raises(VerificationError, match="one permit for each record"):
        await client.request_permits(CONSENT, 2, [RECORD[:-1] + b"x"], not_after=9)


@pytest.mark.parametrize(
    "code", [code for code in PROBLEMS if code.startswith(("pledge", "permit", "record_not"))]
)
async def test_a_rule_that_refuses_is_a_problem_of_its_name(
    client: AsyncClient, http: httpx.AsyncClient, pledging: FakePledging, code: str
) -> None:
    pledging.failure = RefusedError(code, "rule so and so")
    answer = await http.post("/v1/pledges", json={"permit": B64, "ppm": 10_000})
    assert (answer.status_code, answer.json()["code"]) == (PROBLEMS[code].status, code)
    with pytest.raises(RefusedError) as caught:
        await client.place_pledge(PERMIT, 10_000)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/permits", {"consent": "00" * 16, "sequence": 0, "records": ["00" * 37], "not_after": 1}),
        ("/v1/permits", {"consent": "00" * 16, "sequence": 1, "records": [], "not_after": 1}),
        ("/v1/permits", {"consent": "00" * 16, "sequence": 1, "records": ["00" * 36], "not_after": 1}),
        ("/v1/pledges", {"permit": "*", "ppm": 1}),
        ("/v1/pledges", {"permit": B64, "ppm": 0}),
        ("/v1/pledges", {"permit": B64, "ppm": 1_000_001}),
        ("/v1/pledges", {"permit": B64, "ppm": 1.5}),
        ("/v1/pledges", {"permit": B64, "ppm": 1, "nonce": "00"}),
        ("/v1/pledges/proof", {"keys": [{"issuer": 1, "fingerprint": "00"}]}),
        ("/v1/pledges/" + "00" * 15 + "/release", {}),
        ("/v1/pledges/" + "00" * 16 + "/transfer", {"permit": 1}),
    ],
)
async def test_bad_requests_reach_nobody(
    http: httpx.AsyncClient, pledging: FakePledging, path: str, body: dict[str, object]
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code in (400, 422), answer.text
    assert not pledging.asked


async def test_many_fingerprints_fit_one_question(http: httpx.AsyncClient, pledging: FakePledging) -> None:
    keys = [{"issuer": 1, "fingerprint": f"{n:032x}"} for n in range(10_000)]
    answer = await http.post("/v1/pledges/proof", json={"keys": keys})
    assert (answer.status_code, answer.headers["content-type"]) == (200, PLEDGES)
    assert len(pledging.asked[0][1]) == 10_000
    more = await http.post("/v1/pledges", json={"permit": "A" * 200_000, "ppm": 1})
    assert (more.status_code, more.json()["code"]) == (413, "body_too_large")


async def test_a_node_without_pledges_says_so(node: FakeNode, keys: Keys) -> None:
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=keys.header("pledge")
    ) as http:
        answer = await http.post("/v1/pledges", json={"permit": B64, "ppm": 10_000})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
