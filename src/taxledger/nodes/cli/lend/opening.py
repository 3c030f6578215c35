"""What the ``lend`` commands share: the desk of a home, options, how a loan is shown."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import UnavailableError
from taxledger.nodes.cli.output import connect, money, open_home, print_table, say
from taxledger.nodes.formerpolicies import read_former_policies

if TYPE_CHECKING:
    from datetime import date

    from taxledger.lending.decision import Decision
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.loans.loan import Loan

__all__ = [
    "LoanArgument",
    "decision_as_json",
    "lending_folder",
    "loan_as_json",
    "opened_desk",
    "print_decision",
    "print_loan",
    "require_lending_packages",
]

LoanArgument = Annotated[str, typer.Argument(metavar="LOAN", help="Its id.", show_default=False)]

_STATES_ZH = {
    "applied": "已申请",
    "consented": "已授权",
    "evidence": "已取证",
    "decided": "已审批",
    "offered": "已出要约",
    "accepted": "已签约",
    "pledged": "已质押",
    "paid_out": "已放款",
    "closed": "已结清",
    "refused": "拒绝",
    "referred": "转人工",
    "incomplete": "证据不全",
    "expired": "要约失效",
    "failed": "未能办理",
}
_OUTCOMES_ZH = {"approve": "通过", "refuse": "拒绝", "refer": "转人工", "incomplete": "证据不全（不是拒绝）"}


def require_lending_packages() -> None:
    """Say what to install before anything is begun that would need it in the end."""
    for package in ("sqlalchemy", "alembic", "jinja2", "fpdf", "fontTools", "standardwebhooks"):
        if sys.modules.get(package, package) is None or importlib.util.find_spec(package) is None:
            raise UnavailableError(
                f"this command needs {package}: pip install 'taxledger[lending]' installs it"
            )


def lending_folder(home: Path) -> Path:
    """Where the lender's settings and loans of a home lie."""
    return home / "lending"


@contextmanager
def opened_desk(home_path: Path) -> Iterator[LendingDesk]:
    """The desk of a home, with a client of its node.

    Raises:
        InputError: no home, or no settings in it (``lend init`` makes them).
        UnavailableError: the node does not run, or the packages of the lender are not installed.
    """
    try:
        from taxledger.lending.desk import open_desk
        from taxledger.lending.settings import load_settings
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"this command needs {error.name}: pip install 'taxledger[lending]' installs it"
        ) from error
    home = open_home(home_path)
    settings = load_settings(lending_folder(home.path))
    with (
        connect(home) as client,
        open_desk(
            settings,
            client,
            policy_file=home.policy(),
            former_policies=read_former_policies(home.policy_path),
            recipient=home.config.number,
        ) as desk,
    ):
        yield desk


def loan_as_json(loan: Loan, decision: Decision | None = None, today: date | None = None) -> dict[str, Any]:
    """A loan for programs; what is owed is as of ``today``, or of the last movement."""
    owed = _owed(loan, today)
    return {
        "loan": loan.id,
        "state": loan.state.value,
        "pending": None if loan.pending is None else loan.pending.value,
        "subject": loan.application.subject,
        "product": loan.application.product,
        "channel": loan.application.channel,
        "security": list(loan.application.security),
        "reasons": [{"code": each.code, "text": each.text, "text_zh": each.text_zh} for each in loan.reasons],
        "offer": None
        if loan.offer is None
        else {
            "limit": loan.offer.limit,
            "currency": loan.offer.currency,
            "rate_ppm": loan.offer.interest.rate_ppm,
            "term_months_max": loan.offer.term_months_max,
            "revolving": loan.offer.revolving,
            "valid_until_ms": loan.offer.valid_until_ms,
            "account": None if loan.offer.account is None else loan.offer.account.number,
        },
        "pledges": [each.hex() for each in loan.pledges],
        "draws": [
            {
                "number": each.number,
                "amount": each.amount,
                "value_date": each.value_date.isoformat(),
                "reference": each.reference,
            }
            for each in loan.draws
        ],
        "repayments": [
            {
                "reference": each.reference,
                "amount": each.amount,
                "value_date": each.value_date.isoformat(),
                "interest": each.split.interest,
                "principal": each.split.principal,
            }
            for each in loan.repayments
        ],
        "principal": loan.principal,
        "owed": owed,
        "room": loan.room,
        "matures": None if loan.matures is None else loan.matures.isoformat(),
        "decision": None if decision is None else decision_as_json(decision),
    }


def decision_as_json(decision: Decision) -> Any:
    """A decision for programs: its own JSON."""
    import json

    from taxledger.lending.decision import encode_decision

    return json.loads(encode_decision(decision))


def print_decision(decision: Decision) -> None:
    """Outcome, terms, and every rule with value, threshold and verdict."""
    from taxledger.lending.features.feature import Unit
    from taxledger.lending.products.quantities import show_quantity

    say(
        f"decision 审批: {decision.outcome} {_OUTCOMES_ZH[decision.outcome]}  "
        f"({decision.product}, version {decision.product_version}, as of {decision.as_of})"
    )
    for reason in decision.reasons:
        say(f"  {reason.code}: {reason.text} / {reason.text_zh}")
    if decision.rules:
        print_table(
            ("rule", "value", "", "threshold", "verdict", "", ""),
            [
                (
                    each.id,
                    show_quantity(each.value, Unit(each.unit)),
                    each.operator,
                    " ".join(show_quantity(one, Unit(each.unit)) for one in each.thresholds),
                    each.verdict,
                    each.title,
                    each.title_zh,
                )
                for each in decision.rules
            ],
            right=(1, 3),
        )
    if decision.rate_ppm is not None:
        score = (
            "" if decision.grade is None else f"  score 评分 {decision.score}, grade 等级 {decision.grade}"
        )
        say(
            f"limit 额度 {money(decision.limit, decision.currency)} {decision.currency}  "
            f"rate 年利率 {show_quantity(decision.rate_ppm, Unit.PPM)}  "
            f"term 期限 {decision.term_months} months 个月{score}"
        )


def _owed(loan: Loan, today: date | None) -> int | None:
    """What would end the loan today, minor units."""
    if loan.balance is None or loan.balance.day is None:
        return None
    return loan.balance.at(max(today or loan.balance.day, loan.balance.day)).payoff


def print_loan(loan: Loan, today: date | None = None) -> None:
    """Where a loan stands, as of today."""
    say(f"loan {loan.id}: {loan.state.value} {_STATES_ZH[loan.state.value]}")
    for reason in loan.reasons:
        say(f"  {reason.code}: {reason.text} / {reason.text_zh}")
    owed = _owed(loan, today)
    if owed is not None and loan.contract is not None:
        currency = loan.contract.offer.currency
        say(
            f"  principal 本金 {money(loan.principal, currency)}  owed 应还 {money(owed, currency)}  "
            f"may be drawn 可支用 {money(loan.room, currency)} {currency}  matures 到期 {loan.matures}"
        )
    for draw in loan.draws:
        say(
            f"  draw 支用 {draw.number}: {money(draw.amount)} on {draw.value_date}, "
            f"payment {draw.reference or 'not sent'}"
        )
    for repayment in loan.repayments:
        say(
            f"  repaid 还款 {money(repayment.amount)} on {repayment.value_date} ({repayment.reference}): "
            f"interest 利息 {money(repayment.split.interest)}, principal 本金 {money(repayment.split.principal)}"
        )
