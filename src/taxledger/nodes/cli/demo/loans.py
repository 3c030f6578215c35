"""Loans of four products, from application to pay-out; a refusal; a custodian that is silent."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from taxledger.nodes.cli.demo import lender
from taxledger.nodes.cli.demo.cast import Cast, twin_sales
from taxledger.nodes.cli.demo.lender import Request
from taxledger.nodes.cli.demo.platform import accept_offer, hand_in, serving
from taxledger.nodes.cli.demo.stage import Stage
from taxledger.nodes.cli.demo.tale import Tale, tell
from taxledger.nodes.cli.lend.opening import print_decision
from taxledger.nodes.cli.output import money

if TYPE_CHECKING:
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.loans.loan import Loan

__all__ = ["PLEDGED", "invoice_loan", "procurement_loan", "silent_custodian", "tax_loan"]

PLEDGED = 4
"""How many of the twins' sales the first one pledges; the second one tries the same."""
_THOUSAND = 100_000


def _request(cast: Cast, part: str, id: str, product: str, **more: Any) -> Request:
    return Request(id=id, product=product, name=cast.actors[part].name, wallet=cast.wallets[part], **more)


def _half(limit: int) -> int:
    """Half of what is offered, in whole thousands."""
    return max(limit // 2 // _THOUSAND * _THOUSAND, min(limit, _THOUSAND))


def _pay_out(tale: Tale, desk: LendingDesk, loan: Loan, request: Request, months: int) -> Loan:
    """Accept, and show and note what came of it."""
    tale.expect(f"{request.id} after the decision", loan.state.value, "offered")
    limit = 0 if loan.offer is None else loan.offer.limit
    loan = lender.accept(desk, loan, request, amount=_half(limit), months=months)
    _paid_out(tale, desk, loan)
    return loan


def _paid_out(tale: Tale, desk: LendingDesk, loan: Loan) -> None:
    tale.expect(f"{loan.id} after the acceptance", loan.state.value, "paid_out")
    lender.show_pay_out(desk, loan)
    tale.expect("the payment file lies there", lender.payment_file(desk, loan).is_file(), True)
    tale.data.setdefault("loans", {})[loan.application.product] = lender.as_facts(desk, "bank1", loan)


def tax_loan(stage: Stage, tale: Tale, cast: Cast, desk: LendingDesk) -> Loan:
    """A tax loan that is approved and paid out; one that is refused on merit."""
    with tale.step(
        "A tax loan: application, evidence, decision, contract, pay-out", "税务贷：申请至放款"
    ) as facts:
        request = _request(cast, "tax", "D-TAX-1", "tax")
        loan = lender.apply(stage, "bank1", desk, request)
        print_decision(desk.engine.decision(loan))
        loan = _pay_out(tale, desk, loan, request, 12)
        facts["loan"] = loan.id
        weak = _request(cast, "weak", "D-TAX-2", "tax")
        refused = lender.apply(stage, "bank1", desk, weak)
        tale.expect(f"{weak.id}, grade D", refused.state.value, "refused")
        failed = [each for each in desk.engine.decision(refused).rules if each.verdict != "pass"]
        for each in failed:
            tell(f"refused 拒绝: {each.title} 不满足：{each.title_zh}")
        tale.expect("the rules that failed", [each.id for each in failed], ["grade"])
        facts["refused"] = lender.as_facts(desk, "bank1", refused)
        return loan


def invoice_loan(stage: Stage, tale: Tale, cast: Cast, desk: LendingDesk) -> Loan:
    """An invoice loan with some of the newest sales pledged."""
    with tale.step("An invoice loan, with invoices pledged on the ledger", "发票贷：发票质押") as facts:
        numbers = [str(row.fields["number"]) for row in twin_sales(cast)[-PLEDGED:]]
        request = _request(cast, "invoice", "D-INV-1", "invoice", security=numbers)
        loan = lender.apply(stage, "bank1", desk, request)
        _show_short(desk, loan)
        loan = _pay_out(tale, desk, loan, request, 6)
        tale.expect("invoices that are pledged", len(loan.pledges), PLEDGED)
        for number, pledge in lender.pledged_numbers(desk, loan):
            tell(f"pledge 质押 {pledge}: invoice {number}")
        facts |= {"loan": loan.id, "invoices": numbers}
        return loan


def procurement_loan(stage: Stage, tale: Tale, cast: Cast, desk: LendingDesk) -> Loan:
    """A procurement loan that a platform hands in; the award is pledged, and its account is paid."""
    with tale.step(
        "A procurement loan, handed in by a platform over HTTP", "政采贷：平台申请，中标合同质押"
    ) as facts:
        award = cast.actors["procurement"].award
        assert award is not None
        request = _request(
            cast,
            "procurement",
            "ORDER-1",
            "procurement",
            security=(str(award.fields["number"]),),
            channel="platform",
        )
        with serving(stage, "bank1", request.channel) as api:
            tell(f"platform, a member without a validator, calls bank1's service at {api.base_url}")
            artefact = lender.signed_consent(stage, "bank1", desk, request)
            loan_id = hand_in(api, request, artefact)
            loan = desk.engine.load(loan_id)
            tale.expect(f"{loan_id} after the decision", loan.state.value, "offered")
            _show_short(desk, loan)
            accept_offer(api, loan_id, request, amount=_half(loan.offer.limit if loan.offer else 0), months=9)
        loan = desk.engine.load(loan_id)
        _paid_out(tale, desk, loan)
        account = "" if loan.contract is None else loan.contract.acceptance.account.number
        tale.expect("the account that is paid is the award's", account, award.fields["account"])
        tell(f"award {award.fields['number']} is pledged; {award.fields['buyer']} pays to that account")
        facts |= {"loan": loan.id, "award": award.fields["number"], "account": account}
        return loan


def silent_custodian(stage: Stage, tale: Tale, cast: Cast, desk: LendingDesk) -> None:
    """Of two custodians one is down: 'incomplete', no refusal. It comes back, and the loan is approved."""
    from taxledger.nodes.local.control import start_network, stop_network

    with tale.step(
        "An electricity loan asks two custodians; one is silent: incomplete, not refused",
        "电力贷：数据机构未答复",
    ) as facts:
        stop_network(stage.network, member="electricity")
        tell("the node of electricity is stopped")
        request = _request(
            cast, "electricity", "D-ELE-1", "electricity", as_of=date.fromisoformat(cast.through)
        )
        loan = lender.apply(stage, "bank3", desk, request)
        tale.expect("with a silent custodian", loan.state.value, "incomplete")
        for each in loan.reasons:
            tell(f"incomplete 证据不全: {each.code}: {each.text_zh}")
        facts["silent"] = lender.as_facts(desk, "bank3", loan)
        start_network(stage.network, member="electricity")
        tell("it is started again; the bank decides once more, under the same consent")
        desk.engine.retry(request.id)
        loan = desk.advance(request.id)
        _show_short(desk, loan)
        tale.expect("with both custodians", loan.state.value, "offered")
        facts["answered"] = lender.as_facts(desk, "bank3", loan)


def _show_short(desk: LendingDesk, loan: Loan) -> None:
    decision = desk.engine.decision(loan)
    passed = sum(each.verdict == "pass" for each in decision.rules)
    tell(
        f"decision 审批: {decision.outcome}, {passed} of {len(decision.rules)} rules 规则通过, "
        f"limit 额度 {money(decision.limit)} {decision.currency}"
    )
