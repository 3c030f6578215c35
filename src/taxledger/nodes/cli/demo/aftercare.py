"""After pay-out: red letters raise alerts; a loan is repaid with interest by the day, and closed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from taxledger.nodes.cli.demo import lender
from taxledger.nodes.cli.demo.cast import Cast, attest, red_letters
from taxledger.nodes.cli.demo.receiver import Receiver
from taxledger.nodes.cli.demo.stage import Stage
from taxledger.nodes.cli.demo.tale import Tale, tell
from taxledger.nodes.cli.lend.watching import catch_up
from taxledger.nodes.cli.output import money

if TYPE_CHECKING:
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.loans.loan import Loan
    from taxledger.lending.watch import Alert

__all__ = ["REPAID_DAYS", "LaterClock", "look", "red_letter", "repayment"]

REPAID_DAYS = (30, 61)
"""When the borrower repays, in days after pay-out."""


def look(desk: LendingDesk) -> list[Alert]:
    """``lend watch --once``: the alerts that are new."""
    before = {each.id for each in desk.watch.alerts()}
    courier = desk.courier()
    try:
        catch_up(desk, desk.watcher(), courier)
    finally:
        courier.close()
    return [each for each in desk.watch.alerts() if each.id not in before]


def red_letter(
    stage: Stage, tale: Tale, cast: Cast, desk: LendingDesk, loan: Loan, receiver: Receiver
) -> None:
    """The borrower takes back last month's sales, pledged ones among them: the watch finds it, the officer is told."""
    from taxledger.nodes.generating import write_enterprises

    with tale.step(
        "After pay-out: red letters are attested; the watch raises alerts", "贷后：红字发票触发预警"
    ) as facts:
        contested = [each.rule for each in look(desk)]
        tell(f"before: {', '.join(contested) or 'no alerts'} 贷后监测")
        day = datetime.now(UTC).date().isoformat()
        letters = stage.folder / "sources" / "red-letters"
        letters.mkdir()
        file = next(
            each
            for each in write_enterprises([red_letters(cast, day)], letters)
            if each.kind == "vat_invoice"
        )
        done = attest(stage.home("tax"), file)
        tell(f"tax attests {done['accepted']} red letters of {day}: the originals become reversed 红冲")
        tale.expect("red letters that were attested", done["accepted"], done["rows"])
        alerts = look(desk)
        _show(alerts)
        rules = {each.rule for each in alerts if each.loan == loan.id}
        for rule in ("watch_red_letters", "pledge_impaired"):
            tale.expect(f"the alert {rule}", rule in rules, True)
        told = {each["data"]["id"] for each in receiver.got}
        tale.expect("alerts that were delivered", {each.id for each in desk.watch.alerts()} <= told, True)
        tell(
            f"webhook: {len(receiver.got)} alerts delivered to {receiver.url}, every signature verified 签名已验证"
        )
        facts |= {
            "red_letters": done,
            "alerts": [_as_facts(each) for each in desk.watch.alerts()],
            "delivered": len(receiver.got),
        }


def _show(alerts: list[Alert]) -> None:
    for each in alerts:
        tell(f"{each.severity:8} {each.loan:9} {each.rule}: {each.text_zh}")


def _as_facts(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in ("id", "loan", "rule", "severity", "text", "text_zh")}


# --- repayment ----------------------------------------------------------------------------------------


class LaterClock:
    """``Clock``: the bank's calendar, some days on. What the ledger does happens now."""

    def __init__(self, days: int) -> None:
        from taxledger.lending.nodeports import SystemClock

        self._clock, self._days = SystemClock("Asia/Shanghai"), days

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._days * 86_400_000

    def today(self) -> date:
        return self._clock.today() + timedelta(days=self._days)


def repayment(stage: Stage, tale: Tale, loan: Loan) -> None:
    """Two repayments, interest first; the line is closed, and what was pledged is free again."""
    with (
        tale.step(
            "Repaid with interest by the day, closed, the pledge released", "还本付息，结清，解除质押"
        ) as facts,
        lender.opened_lender(stage, "bank1", LaterClock(REPAID_DAYS[-1])) as desk,
    ):
        paid = loan.draws[0]
        tell(f"the bank's calendar is set {REPAID_DAYS[-1]} days on")
        tell(f"paid   放款 {money(paid.amount):>12} on {paid.value_date}")
        part = paid.amount // 3
        first = paid.value_date + timedelta(days=REPAID_DAYS[0])
        desk.engine.repay(loan.id, reference="CB-1", amount=part, value_date=first)
        last = paid.value_date + timedelta(days=REPAID_DAYS[1])
        balance = desk.engine.load(loan.id).balance
        assert balance is not None
        desk.engine.repay(loan.id, reference="CB-2", amount=balance.at(last).payoff, value_date=last)
        desk.engine.close(loan.id)
        done = desk.advance(loan.id)
        for each in done.repayments:
            tell(
                f"repaid 还款 {money(each.amount):>12} on {each.value_date}: interest 利息 "
                f"{money(each.split.interest):>9}, principal 本金 {money(each.split.principal):>12}"
            )
        wanted = _interest_by_hand(done)
        got = [each.split.interest for each in done.repayments]
        tale.expect("interest, computed by hand", got, wanted)
        tale.expect("the loan", done.state.value, "closed")
        free = [each.is_free for each in lender.pledge_states(desk, done)]
        tale.expect("what was pledged is proved free", free, [True])
        tell(f"loan {done.id} closed 已结清; its award is proved free 质押已解除")
        facts |= {
            "loan": done.id,
            "repayments": [
                {
                    "reference": each.reference,
                    "amount": each.amount,
                    "value_date": each.value_date.isoformat(),
                    "interest": each.split.interest,
                    "principal": each.split.principal,
                }
                for each in done.repayments
            ],
        }


def _interest_by_hand(loan: Loan) -> list[int]:
    """principal × rate × days ÷ (day count × 1,000,000), half up, of each repayment."""
    assert loan.contract is not None
    terms = loan.contract.offer.interest
    principal, day, found = loan.draws[0].amount, loan.draws[0].value_date, []
    for each in loan.repayments:
        exact = principal * terms.rate_ppm * (each.value_date - day).days
        whole = terms.day_count * 1_000_000
        found.append((2 * exact + whole) // (2 * whole))
        principal, day = principal - (each.amount - found[-1]), each.value_date
    return found
