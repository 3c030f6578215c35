"""A loan from application to its end, on both kinds of database: the ways it can take, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from consentkit import make_artefact
from loankit import BANK_KEY, BUSY, LENDER, REASON, Bench, application, artefact

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError, UnavailableError, VerificationError
from taxledger.lending.decision import Decision
from taxledger.lending.loans.events import step_key
from taxledger.lending.loans.life import LoanEngine
from taxledger.lending.loans.loan import Loan, Pending, State
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.payments.port import Account


def refusal(error: pytest.ExceptionInfo[RefusedError]) -> str:
    return error.value.code


def test_the_whole_life(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    engine = bench.engine
    seen: list[State] = []
    engine.apply(application())
    engine.consent("L1", artefact())
    loan = engine.advance("L1", on_step=lambda loan: seen.append(loan.state))
    assert seen == ["consented", "consented", "evidence", "decided", "offered"]
    engine.accept("L1", bench.acceptance(loan, 6_000_000))
    loan = engine.advance("L1")
    assert (loan.state, loan.principal, loan.room) == (State.PAID_OUT, 6_000_000, 4_000_000)
    assert loan.matures == date(2024, 9, 1)
    bench.clock.day = date(2024, 3, 11)
    engine.draw("L1", bench.order(loan, 3_000_000))
    loan = engine.advance("L1")
    assert (loan.principal, loan.room, len(bench.payments())) == (9_000_000, 1_000_000, 2)
    bench.clock.day = date(2024, 3, 31)
    # 60,000.00 × 4.5 % × 10 days ÷ 360 = 75.00; then 90,000.00 × 20 days = 225.00
    loan = engine.repay("L1", reference="R1", amount=3_030_000, value_date=date(2024, 3, 31))
    assert (loan.repayments[0].split.interest, loan.principal) == (30_000, 6_000_000)
    loan = engine.repay("L1", reference="R2", amount=6_000_000, value_date=date(2024, 3, 31))
    assert engine.advance("L1").state is State.PAID_OUT  # the line stays open
    engine.close("L1")
    loan = engine.advance("L1")
    assert (loan.state, loan.principal) == (State.CLOSED, 0)
    assert len(bench.effects("pledges")) == len(bench.effects("released")) == 1
    assert bench.world.calls == ["forward", "collect", "place", "pay", "pay", "release"]
    assert engine.load("L1") == loan


@pytest.mark.parametrize("account", [None, Account(name="a", number="6200 3949")])
def test_an_approval_that_can_not_be_offered_is_a_persons(
    store: LoanStore, tmp_path: Path, account: Account | None
) -> None:
    bench = Bench(store, tmp_path)

    def fixed(loan: Loan, decision: Decision) -> Account:
        if account is None:
            raise RefusedError("accounts_differ", "records are paid to different accounts")
        return account

    engine = LoanEngine(store, bench.ports, lender=LENDER, contract_key=BANK_KEY, receiving_account=fixed)
    engine.apply(application())
    engine.consent("L1", artefact())
    loan = engine.advance("L1")
    assert loan.state is State.REFERRED
    assert [each.code for each in loan.reasons] == ["offer_impossible" if account else "accounts_differ"]
    assert engine.advance("L1") == loan


@pytest.mark.parametrize("code", ["pledge_missing", "pledge_impaired"])
def test_nothing_more_is_paid_on_security_that_is_gone(store: LoanStore, tmp_path: Path, code: str) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.paid_out()
    order = bench.order(loan, 1_000)
    bench.world.fail["check"] = RefusedError(code, "the record was revoked")
    with pytest.raises(RefusedError) as refused:
        bench.engine.draw("L1", order)
    assert refusal(refused) == code
    assert bench.engine.load("L1") == loan
    assert bench.engine.advance("L1") == loan
    assert len(bench.payments()) == 1
    bench.engine.draw("L1", order)  # mended
    assert len(bench.engine.advance("L1").draws) == 2


def test_a_term_loan_closes_by_itself(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path, revolving=False, security=())
    loan = bench.paid_out()
    with pytest.raises(RefusedError) as refused:
        bench.engine.draw("L1", bench.order(loan, 1))
    assert refusal(refused) == "line_closed"
    bench.clock.day += timedelta(days=1)
    assert loan.balance is not None
    bench.engine.repay(
        "L1", reference="all", amount=loan.balance.at(bench.clock.day).payoff, value_date=bench.clock.day
    )
    assert bench.engine.advance("L1").state is State.CLOSED
    assert bench.world.calls == ["forward", "collect", "pay"]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("refuse", State.REFUSED), ("refer", State.REFERRED), ("incomplete", State.INCOMPLETE)],
)
def test_ends_of_a_decision(store: LoanStore, tmp_path: Path, outcome: str, state: State) -> None:
    bench = Bench(store, tmp_path, outcome=outcome, reasons=(REASON,), rate_ppm=None, limit=0)
    loan = bench.offered()
    assert (loan.state, loan.reasons, loan.active) == (state, (REASON,), False)


def test_incomplete_is_tried_again(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    complete, bench.world.came = bench.world.came, replace(bench.world.came, reasons=(REASON,))
    assert bench.offered().state is State.INCOMPLETE
    bench.engine.retry("L1")
    assert bench.engine.advance("L1").state is State.INCOMPLETE
    bench.world.came = complete
    bench.engine.consent("L1", artefact(nonce=bytes(32)))  # or a new consent
    loan = bench.engine.advance("L1")
    assert (loan.state, loan.attempt, loan.reasons) == (State.OFFERED, 3, ())
    assert len(bench.effects("evidence")) == 3
    assert len(bench.effects("consents")) == 3  # whoever was silent had not got it


def test_an_offer_expires(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.offered()
    acceptance = bench.acceptance(loan)
    bench.clock.day += timedelta(days=7)
    with pytest.raises(RefusedError) as refused:
        bench.engine.accept("L1", acceptance)
    assert refusal(refused) == "offer_expired"
    assert bench.engine.load("L1").state is State.EXPIRED
    bench.offered("L2")
    bench.clock.day += timedelta(days=7)
    assert bench.engine.advance("L2").state is State.EXPIRED


def test_without_the_pledge_nothing_is_paid(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    bench.world.fail["place"] = RefusedError("already_pledged", "the award is pledged in full")
    loan = bench.paid_out()
    assert (loan.state, loan.reasons[0].code) == (State.FAILED, "already_pledged")
    assert not bench.payments()
    assert "pay" not in bench.world.calls


def test_a_refused_first_payment_releases_the_pledge(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    bench.world.fail["pay"] = RefusedError("account_unknown", "no such account")
    loan = bench.paid_out()
    assert (loan.state, loan.reasons[0].code) == (State.FAILED, "account_unknown")
    assert len(bench.effects("released")) == 1


def test_another_file_in_place_of_the_payment_stops_for_a_person(store: LoanStore, tmp_path: Path) -> None:
    """It may have been taken and paid: neither paid again, nor is the pledge let go."""
    bench = Bench(store, tmp_path)
    loan = bench.offered()
    bench.engine.accept("L1", bench.acceptance(loan))
    wrong = bench.outbox / f"{step_key('L1', 'draw/1')}.xml"
    wrong.write_bytes(b"<other/>")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="payment_file_differs"):
            bench.engine.advance("L1")
    loan = bench.engine.load("L1")
    assert (loan.state, loan.pending, bench.effects("released")) == (State.PLEDGED, Pending.DRAW, [])
    wrong.unlink()
    assert bench.engine.advance("L1").state is State.PAID_OUT


def test_a_refused_draw_leaves_the_line(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.paid_out()
    bench.world.fail["pay"] = RefusedError("account_closed", "closed")
    bench.engine.draw("L1", bench.order(loan, 1_000_000))
    loan = bench.engine.advance("L1")
    assert (loan.state, loan.principal, loan.reasons[0].code) == (State.PAID_OUT, 6_000_000, "account_closed")
    bench.engine.draw("L1", bench.order(loan, 1_000_000))
    loan = bench.engine.advance("L1")
    assert ([each.number for each in loan.draws], loan.principal) == ([1, 2, 3], 7_000_000)


@pytest.mark.parametrize("what", ["forward", "collect", "place", "pay"])
@pytest.mark.parametrize("when", ["fail", "lose"])
def test_trouble_outside_is_waited_for(store: LoanStore, tmp_path: Path, what: str, when: str) -> None:
    bench = Bench(store, tmp_path)
    getattr(bench.world, when)[what] = BUSY
    with pytest.raises(UnavailableError):
        bench.paid_out()
    loan = bench.engine.advance("L1")
    if loan.state is State.OFFERED:
        bench.engine.accept("L1", bench.acceptance(loan))
        loan = bench.engine.advance("L1")
    assert loan.state is State.PAID_OUT
    assert [len(bench.effects(each)) for each in ("consents", "evidence", "pledges")] == [1, 1, 1]
    assert len(bench.payments()) == 1


def test_asking_again_does_nothing_twice(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    engine = bench.engine
    assert engine.apply(application()) == engine.apply(application())
    with pytest.raises(RefusedError) as refused:
        engine.apply(application(product="other"))
    assert refusal(refused) == "application_conflict"
    assert engine.consent("L1", artefact()) == engine.consent("L1", artefact())
    loan = engine.advance("L1")
    assert engine.advance("L1") == loan
    signed = bench.acceptance(loan)
    assert engine.accept("L1", signed) == engine.accept("L1", signed)
    loan = engine.advance("L1")
    order = bench.order(loan, 1_000)
    assert engine.draw("L1", order) == engine.draw("L1", order)
    loan = engine.advance("L1")
    assert engine.draw("L1", order) == loan
    once = engine.repay("L1", reference="R1", amount=500, value_date=bench.clock.day)
    assert engine.repay("L1", reference="R1", amount=500, value_date=bench.clock.day) == once
    with pytest.raises(RefusedError) as refused:
        engine.repay("L1", reference="R1", amount=501, value_date=bench.clock.day)
    assert refusal(refused) == "repayment_conflict"
    bench.paid_out("L2")
    with pytest.raises(RefusedError) as refused:
        engine.repay("L2", reference="R1", amount=500, value_date=bench.clock.day)
    assert refusal(refused) == "repayment_conflict"


def test_refused_consents(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    bench.engine.apply(application(security=("C-1",)))
    for code, changes in (
        ("consent_subject_mismatch", {"subject": "cumcm:E14"}),
        ("consent_recipient_mismatch", {"recipient": 3}),
        ("consent_not_in_force", {"not_after": 1_700_000_000_001}),
        ("consent_without_pledge", {"may_pledge": False}),
    ):
        raw = make_artefact(**{"recipient": 2, "may_pledge": True, **changes}).raw
        with pytest.raises(RefusedError) as refused:
            bench.engine.consent("L1", raw)
        assert refusal(refused) == code
    assert bench.engine.load("L1").sequence == 1


def test_refused_acceptances(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.offered()

    def accept(**changes: object) -> Loan:
        return bench.engine.accept("L1", bench.acceptance(loan, **changes))  # type: ignore[arg-type]

    for code, changes in (
        ("amount_outside_offer", {"amount": 10_000_001}),
        ("term_outside_offer", {"months": 13}),
    ):
        with pytest.raises(RefusedError) as refused:
            accept(**changes)
        assert refusal(refused) == code
    for code, wrong in (
        ("acceptance_key_mismatch", {"signer": Signer(bytes(31) + b"1")}),
        ("acceptance_offer_mismatch", {"offer": b"another"}),
    ):
        with pytest.raises(VerificationError) as unverified:
            accept(**wrong)
        assert unverified.value.code == code
    assert bench.engine.load("L1") == loan
    accept()
    with pytest.raises(RefusedError) as refused:
        accept(amount=1)
    assert refusal(refused) == "loan_state"


def test_refused_draws_and_repayments(store: LoanStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.paid_out()
    today = bench.clock.day

    def code(call: object) -> str:
        with pytest.raises((RefusedError, VerificationError)) as refused:
            call()  # type: ignore[operator]
        return str(refused.value.code)

    engine = bench.engine
    assert code(lambda: engine.draw("L1", bench.order(loan, 4_000_001))) == "line_exceeded"
    assert code(lambda: engine.draw("L1", bench.order(loan, 1, number=3))) == "draw_number"
    assert code(lambda: engine.draw("L1", bench.order(loan, 1, lives_ms=0))) == "draw_expired"
    assert (
        code(lambda: engine.draw("L1", bench.order(loan, 1, contract=bytes(32)))) == "draw_contract_mismatch"
    )
    stranger = Signer(bytes(31) + b"1")
    assert code(lambda: engine.draw("L1", bench.order(loan, 1, signer=stranger))) == "draw_key_mismatch"

    def repay(amount: int, day: date) -> Loan:
        return engine.repay("L1", reference="R", amount=amount, value_date=day)

    assert code(lambda: repay(6_000_001, today)) == "overpayment"
    assert code(lambda: repay(1, today + timedelta(days=1))) == "value_date_future"
    assert code(lambda: repay(1, today - timedelta(days=1))) == "value_date_order"
    bench.clock.day = date(2024, 9, 1)
    assert code(lambda: engine.draw("L1", bench.order(loan, 1))) == "line_matured"
    assert engine.load("L1") == loan
    engine.close("L1")
    bench.clock.day = date(2024, 3, 2)
    assert code(lambda: engine.draw("L1", bench.order(loan, 1))) == "line_closed"


@pytest.mark.parametrize("id", ["", "../L1", "a/../../L1", "/tmp/L1", "L1\0", "L1\udcff", "L" * 29])
def test_what_can_be_no_loan_is_none(store: LoanStore, tmp_path: Path, id: str) -> None:
    """No name of a file is made of it, wherever it comes from."""
    bench = Bench(store, tmp_path)
    bench.engine.apply(application())
    before = {*tmp_path.rglob("*")}
    for call in (
        lambda: bench.engine.repay(id, reference="R", amount=1, value_date=bench.clock.day),
        lambda: bench.engine.close(id),
        lambda: bench.engine.retry(id),
    ):
        with pytest.raises(RefusedError) as refused:
            call()
        assert refusal(refused) == "loan_unknown"
    assert {*tmp_path.rglob("*")} == before
