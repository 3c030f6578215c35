"""The lender's service: an application's way through it, who sees what, what is done once."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from consentkit import SUBJECT_KEY
from loankit import BUSY, PAYEE, REASON, SUBJECT, artefact
from servicekit import Gate, Service, accept, application, b64, later, offered, paid_out, running

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import InvariantError
from taxledger.ledger.hashing import sha256
from taxledger.lending.loans.ports import Evidence
from taxledger.lending.service.app import begin_shutdown
from taxledger.lending.service.context import ServiceSettings
from taxledger.nodes.logs import configure_logs


async def loan_of(http: httpx.AsyncClient, loan: str, wait: str = "settled") -> dict[str, Any]:
    answer = await http.get(f"/v1/loans/{loan}?wait={wait}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["title_zh"]
    return answer.status_code, body["code"]


async def test_a_platform_takes_an_enterprise_to_its_money_and_back(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        sent = application(security=["A-2024-17"])
        first = await http.post("/v1/applications", json=sent)
        assert first.status_code == 202
        loan = first.json()["loan"]
        assert first.headers["location"] == f"/v1/loans/{loan}"
        assert loan != "A-1"
        shown = await loan_of(http, loan, "decided")
        assert (shown["state"], shown["outcome"], shown["channel"]) == ("offered", "approve", "cloud")
        decision = await http.get(f"/v1/loans/{loan}/decision")
        assert sha256(decision.content).hex() == shown["decision"]
        assert decision.headers["etag"] == f'"{shown["decision"]}"'

        offer = (await http.get(f"/v1/loans/{loan}/offer")).json()
        assert (offer["limit"], offer["rate_ppm"], offer["revolving"]) == ("100000.00", 45_000, True)
        signed = {"acceptance": accept(service, base64.b64decode(offer["offer"]))}
        answer = await http.post(f"/v1/loans/{loan}/acceptance", json=signed)
        assert answer.status_code == 202
        shown = await loan_of(http, loan)
        assert shown["state"] == "paid_out"
        assert shown["accepted"]["amount"] == "60000.00"
        assert (shown["principal"], shown["room"], shown["line"]) == ("60000.00", "40000.00", "100000.00")
        assert shown["draws"][0]["reference"]

        order = service.bench.order(service.bench.engine.load(loan), 1_000_000)
        assert (await http.post(f"/v1/loans/{loan}/draws", json={"order": b64(order)})).status_code == 202
        assert (await loan_of(http, loan))["room"] == "30000.00"
        assert (await http.post(f"/v1/loans/{loan}/draws", json={"order": b64(order)})).status_code == 200
        assert len(service.bench.payments()) == 2

        later(service, 10)
        async with service.http("officer") as officer:
            assert (await officer.post(f"/v1/loans/{loan}/close")).status_code == 202
            assert (await officer.post(f"/v1/loans/{loan}/close")).status_code == 200
        async with service.http("core") as core:
            owed = (await core.get(f"/v1/loans/{loan}")).json()["owed"]
            paid = {"reference": "CB-1", "amount": owed, "value_date": "2024-03-11"}
            assert owed == "70087.50"
            assert (await core.post(f"/v1/loans/{loan}/repayments", json=paid)).status_code == 202
            assert (await core.post(f"/v1/loans/{loan}/repayments", json=paid)).status_code == 200
        shown = await loan_of(http, loan)
        assert (shown["state"], shown["principal"]) == ("closed", "0.00")
        assert shown["repayments"][0]["interest"] == "87.50"
        assert len(service.bench.effects("released")) == 1
        # The first request again: the same loan, as it is now.
        again = await http.post("/v1/applications", json=sent)
        assert (again.status_code, again.json()["loan"], again.json()["state"]) == (200, loan, "closed")
        assert len(service.bench.effects("evidence")) == 1


async def test_an_application_at_once_many_times_is_one(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        sent, named = application(None), {"Idempotency-Key": "order-77"}
        answers = await asyncio.gather(
            *(http.post("/v1/applications", json=sent, headers=named) for _ in range(8))
        )
        loans = {each.json()["loan"] for each in answers}
        assert {each.status_code for each in answers} <= {200, 202}
        assert len(loans) == 1
        await loan_of(http, loans.pop())
        assert service.bench.world.calls.count("forward") == service.bench.world.calls.count("collect") == 1
        assert len((await http.get("/v1/loans")).json()["loans"]) == 1
        conflict = await http.post("/v1/applications", json={**sent, "product": "engineering"}, headers=named)
        assert code_of(conflict) == (409, "application_conflict")
        changed = {**sent, "consent": b64(artefact(nonce=bytes(32)))}
        assert code_of(await http.post("/v1/applications", json=changed, headers=named))[0] == 409
        assert code_of(await http.post("/v1/applications", json=sent)) == (422, "request_invalid")


async def test_a_platform_sees_what_it_handed_in_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service:
        loan = await paid_out(service, "cloud")
        ours = await offered(service, "other", "A-1")  # the same id: each sender's names are its own
        assert loan != ours
        async with service.http("other") as http:
            routes = [
                ("GET", ""),
                ("GET", "/decision"),
                ("GET", "/offer"),
                ("POST", "/retry"),
                ("POST", "/consent"),
                ("POST", "/acceptance"),
                ("POST", "/draws"),
            ]
            bodies: dict[str, Any] = {
                "/retry": {"attempt": 1},
                "/consent": {"consent": b64(artefact())},
                "/acceptance": {"acceptance": b64(bytes(64))},
                "/draws": {"order": b64(bytes(64))},
            }
            for method, path in routes:
                answer = await http.request(method, f"/v1/loans/{loan}{path}", json=bodies.get(path))
                nowhere = await http.request(method, f"/v1/loans/{'L' * 21}{path}", json=bodies.get(path))
                assert code_of(answer) == code_of(nowhere) == (404, "loan_unknown"), path
            assert [each["loan"] for each in (await http.get("/v1/loans")).json()["loans"]] == [ours]
            assert (await http.get("/v1/loans?state=paid_out")).json()["loans"] == []
        async with service.http("officer") as http:
            listed = (await http.get("/v1/loans", params={"subject": SUBJECT})).json()["loans"]
            assert {each["loan"] for each in listed} == {loan, ours}
            assert len((await http.get("/v1/loans?limit=1")).json()["loans"]) == 1
            paid = (await http.get("/v1/loans?state=paid_out")).json()["loans"]
            assert [(each["loan"], each["principal"]) for each in paid] == [(loan, "60000.00")]


async def test_only_an_officer_chooses_the_decision_date(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service:
        async with service.http("cloud") as http:
            answer = await http.post("/v1/applications", json=application(as_of="2024-02-01"))
            assert code_of(answer) == (403, "as_of_not_allowed")
        async with service.http("officer") as http:
            answer = await http.post("/v1/applications", json=application(as_of="2024-03-02"))
            assert code_of(answer) == (422, "request_invalid")
            loan = (await http.post("/v1/applications", json=application(as_of="2024-02-01"))).json()["loan"]
            assert (await loan_of(http, loan))["as_of"] == "2024-02-01"


async def test_what_is_refused_leaves_no_application(tmp_path: Path) -> None:
    good = artefact()
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        for wrong, status, code in (
            (application(artefact=good[:-1] + bytes([good[-1] ^ 1])), 403, "consent_signature_invalid"),
            (application(artefact=artefact(recipient=3)), 403, "consent_recipient_mismatch"),
            (application(artefact=artefact(not_after=1_700_000_000_001)), 403, "consent_not_in_force"),
            (application(product="housing"), 404, "product_unknown"),
            (application(product="tax", security=["1"]), 422, "security_not_taken"),
            (
                application(artefact=artefact(may_pledge=False), security=["1"]),
                403,
                "consent_without_pledge",
            ),
        ):
            assert code_of(await http.post("/v1/applications", json=wrong)) == (status, code)
        assert (await http.get("/v1/loans")).json() == {"loans": []}


async def test_wrong_acceptances_are_named_and_change_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        loan = await offered(service)
        offer = base64.b64decode((await http.get(f"/v1/loans/{loan}/offer")).json()["offer"])
        flipped = base64.b64decode(accept(service, offer))
        for signed, code in (
            (accept(service, offer, 10_000_001), (422, "amount_outside_offer")),
            (accept(service, offer, months=13), (422, "term_outside_offer")),
            (accept(service, offer, signer=Signer(bytes(32))), (403, "acceptance_key_mismatch")),
            (b64(flipped[:-1] + bytes([flipped[-1] ^ 1])), (403, "acceptance_signature_invalid")),
        ):
            answer = await http.post(f"/v1/loans/{loan}/acceptance", json={"acceptance": signed})
            assert code_of(answer) == code
        assert (await loan_of(http, loan))["state"] == "offered"
        later(service, 8)
        late = await http.post(f"/v1/loans/{loan}/acceptance", json={"acceptance": accept(service, offer)})
        assert code_of(late) == (409, "offer_expired")
        assert (await loan_of(http, loan))["state"] == "expired"
        assert service.bench.payments() == []


async def test_missing_evidence_is_asked_for_once_more_and_only_once(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        came, service.bench.world.came = service.bench.world.came, Evidence(reasons=(REASON,))
        sent = application()
        loan = (await http.post("/v1/applications", json=sent)).json()["loan"]
        shown = await loan_of(http, loan)
        assert (shown["state"], shown["attempt"]) == ("incomplete", 1)
        assert shown["reasons"][0]["text_zh"] == "数据机构未答复"
        # What was sent before begins nothing anew: not the application, not its consent.
        assert (await http.post("/v1/applications", json=sent)).json()["state"] == "incomplete"
        same = await http.post(f"/v1/loans/{loan}/consent", json={"consent": sent["consent"]})
        assert (same.status_code, same.json()["state"]) == (200, "incomplete")
        early = await http.post(f"/v1/loans/{loan}/retry", json={"attempt": 2})
        assert code_of(early) == (409, "loan_state")
        service.bench.world.came = came
        assert (await http.post(f"/v1/loans/{loan}/retry", json={"attempt": 1})).status_code == 202
        assert (await loan_of(http, loan))["state"] == "offered"
        assert (await http.post(f"/v1/loans/{loan}/retry", json={"attempt": 1})).status_code == 200
        assert service.bench.world.calls.count("collect") == 2


async def test_another_consent_is_taken_after_incomplete_evidence(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        came, service.bench.world.came = service.bench.world.came, Evidence(reasons=(REASON,))
        loan = (await http.post("/v1/applications", json=application())).json()["loan"]
        await loan_of(http, loan)
        service.bench.world.came = came
        fresh = {"consent": b64(artefact(nonce=bytes(32)))}
        assert (await http.post(f"/v1/loans/{loan}/consent", json=fresh)).status_code == 202
        assert (await loan_of(http, loan))["state"] == "offered"
        assert len(service.bench.effects("consents")) == 2


async def test_trouble_outside_is_tried_again_without_anybody_asking(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        service.bench.world.fail |= {"forward": BUSY, "pay": BUSY}
        service.bench.world.lose |= {"collect": BUSY, "place": BUSY}
        await paid_out(service)
        loan = (await http.get("/v1/loans")).json()["loans"][0]["loan"]
        assert (await loan_of(http, loan))["trouble"] is None
        assert len(service.bench.payments()) == 1
        assert len(service.bench.effects("pledges")) == 1


async def test_a_long_poll_ends_with_the_step_the_time_or_the_service(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        world = service.bench.world
        world.collect = gate.around(world.collect)  # type: ignore[method-assign]
        loan = (await http.post("/v1/applications", json=application())).json()["loan"]
        at_once = await http.get(f"/v1/loans/{loan}?wait=decided&timeout_s=0")
        assert at_once.json()["working"] is True
        waiting = asyncio.ensure_future(loan_of(http, loan, "decided"))
        assert await asyncio.to_thread(gate.reached.wait, 60)
        assert not waiting.done()
        gate.open.set()
        assert (await waiting)["state"] == "offered"

        gate.open.clear()
        later(service, 8)
        second = (await http.post("/v1/applications", json=application("A-2"))).json()["loan"]
        waiting = asyncio.ensure_future(loan_of(http, second, "decided&timeout_s=60"))
        begin_shutdown(service.app)
        ended = await asyncio.wait_for(waiting, 30)  # not by its own time
        assert ended["state"] in ("applied", "consented")
        gate.open.set()


async def test_a_busy_loan_is_no_reason_to_wait_for_ever(tmp_path: Path) -> None:
    gate, settings = Gate(), ServiceSettings(idle_s_max=0.05)
    async with running(tmp_path / "desk", settings=settings) as service, service.http("cloud") as http:
        loan = await paid_out(service)
        bench = service.bench
        bench.engine._steps._ports.payments.pay = gate.around(bench.engine._steps._ports.payments.pay)  # type: ignore[method-assign]
        order = bench.order(bench.engine.load(loan), 1_000_000)
        assert (await http.post(f"/v1/loans/{loan}/draws", json={"order": b64(order)})).status_code == 202
        assert await asyncio.to_thread(gate.reached.wait, 60)
        async with service.http("officer") as officer:
            busy = await officer.post(f"/v1/loans/{loan}/close")
        assert code_of(busy) == (503, "unavailable")
        assert busy.headers["retry-after"] == "1"
        # What was handed in already is answered at once.
        assert (await http.post(f"/v1/loans/{loan}/draws", json={"order": b64(order)})).status_code == 200
        gate.open.set()
        await loan_of(http, loan)
        assert len(bench.payments()) == 2


async def test_a_service_that_stops_goes_on_where_it_was(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        loan = await offered(service)
        offer = base64.b64decode((await http.get(f"/v1/loans/{loan}/offer")).json()["offer"])
        world = service.bench.world
        world.place = gate.around(world.place)  # type: ignore[method-assign]
        signed = {"acceptance": accept(service, offer)}
        await http.post(f"/v1/loans/{loan}/acceptance", json=signed)
        assert await asyncio.to_thread(gate.reached.wait, 60)
        ending = asyncio.ensure_future(asyncio.to_thread(service.worker.stop))
        while not service.worker._stopping:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        gate.open.set()
        await ending
        # The step that ran has ended, and no other was begun.
        assert service.bench.engine.load(loan).state.value == "pledged"
        assert service.bench.payments() == []
    async with running(tmp_path / "desk") as service, service.http("cloud") as http:
        while (await loan_of(http, loan))["state"] != "paid_out":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert len(service.bench.payments()) == 1
        assert len(service.bench.effects("pledges")) == 1


async def test_papers_are_the_officers(tmp_path: Path) -> None:
    async with running(tmp_path / "desk") as service, service.http("officer") as http:
        loan = await offered(service)
        page = await http.get(f"/v1/loans/{loan}/report.html?language=en")
        assert (page.headers["content-type"], page.text) == ("text/html; charset=utf-8", "<p lang=en>")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        paper = await http.get(f"/v1/loans/{loan}/report.pdf")
        assert paper.headers["content-disposition"] == f'attachment; filename="{loan}.pdf"'
        assert (await http.get(f"/v1/loans/{loan}/archive")).content == b"archive"
        assert (await http.get("/v1/alerts")).json() == {"alerts": []}
        products = (await http.get("/v1/products")).json()["products"]
        assert {"product": "invoice", "title_zh": "发票贷"}.items() <= next(
            each for each in products if each["product"] == "invoice"
        ).items()
        shown = (await http.get("/v1/products/procurement")).json()
        assert shown["security"] == "procurement_award"
        assert any(each["feature"] == "award_public_buyer" for each in shown["rules"])


async def test_logs_name_loans_and_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    configure_logs("debug", stream)
    async with running(tmp_path / "desk") as service, service.http("officer") as http:
        loan = await paid_out(service)
        await http.get("/v1/loans", params={"subject": SUBJECT})
        wrong = {"acceptance": b64(b"\x93" + SUBJECT.encode())}
        await http.post(f"/v1/loans/{loan}/acceptance", json=wrong)
        world = service.bench.world
        world.came = None  # type: ignore[assignment]  # a bug of ours
        await http.post("/v1/applications", json=application("broken"))
        await asyncio.sleep(0)
    text = stream.getvalue()
    assert loan in text
    routes = {json.loads(line).get("route") for line in text.splitlines()}
    assert "/v1/loans/{loan}/acceptance" in routes
    for plain in (SUBJECT, SUBJECT[5:], PAYEE.name, PAYEE.number, "60000", b64(artefact())[:40]):
        assert plain not in text, plain


async def test_a_broken_invariant_ends_the_process(tmp_path: Path) -> None:
    service = Service(tmp_path / "desk")
    service.worker.start()
    try:
        world = service.bench.world

        def broken(*_arguments: Any, **_named: Any) -> Any:
            raise InvariantError("two truths")

        world.forward = broken  # type: ignore[method-assign]
        async with service.http("cloud") as http:
            loan = (await http.post("/v1/applications", json=application())).json()["loan"]
            await loan_of(http, loan)
        assert [str(each) for each in service.broken] == ["two truths"]
    finally:
        service.close()


def test_the_key_of_the_consent_is_the_enterprises() -> None:
    """What the other tests sign with."""
    assert SUBJECT_KEY.public_key in artefact()
