"""``taxledger lend accept | draw | repay | close | status | list``: a loan after its offer."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.lend.applying import show_progress
from taxledger.nodes.cli.lend.opening import (
    LoanArgument,
    loan_as_json,
    opened_desk,
    print_decision,
    print_loan,
)
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    money,
    note,
    print_json,
    print_table,
    read_file,
    say,
)
from taxledger.nodes.cli.walletfile import PassphraseOption, opened

if TYPE_CHECKING:
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.loans.loan import Loan
    from taxledger.lending.payments.port import Account

__all__ = ["register"]

_ORDER_MS = 86_400_000
"""How long a draw order that is signed here may be obeyed."""

_WalletOption = Annotated[
    Path | None,
    typer.Option("--wallet", metavar="FILE", help="The enterprise's wallet: signs here.", show_default=False),
]
AmountOption = Annotated[
    str, typer.Option("--amount", metavar="AMOUNT", help="Like 50,000.00.", show_default=False)
]


def _amount(text: str) -> int:
    from taxledger.lending.products.quantities import parse_money

    return parse_money(text)


def _show(desk: LendingDesk, loan: Loan, *, as_json: bool) -> None:
    if as_json:
        print_json(loan_as_json(loan, None, desk.clock.today()))
    else:
        print_loan(loan, desk.clock.today())
    if loan.state.value == "failed":
        raise typer.Exit(1)


def accept(
    loan: LoanArgument,
    home: HomeOption,
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="AMOUNT", help="Like 50,000.00.", show_default=False)
    ] = None,
    term: Annotated[
        int | None, typer.Option("--term", metavar="MONTHS", help="Within the offer.", show_default=False)
    ] = None,
    wallet: _WalletOption = None,
    acceptance: Annotated[
        Path | None,
        typer.Option(
            "--acceptance", metavar="FILE", help="Or an acceptance signed elsewhere.", show_default=False
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            "--account",
            metavar="NUMBER",
            help="Where the money goes, if the offer leaves it open.",
            show_default=False,
        ),
    ] = None,
    holder: Annotated[str, typer.Option("--holder", metavar="NAME", help="Who holds that account.")] = "",
    bank: Annotated[str, typer.Option("--bank", metavar="BIC|CNAPS", help="Its bank.")] = "",
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept an offer with amount and term, signed by the enterprise; then pledge and pay-out follow by themselves.

    Example: taxledger lend accept L3f68e4a1b2c3 --home net/bank1 --wallet acme.wallet --amount 50,000.00 --term 6
    --account 6222020200001234567 --holder "示例食品有限公司"
    """
    from taxledger.lending.loans.contract import sign_acceptance

    with opened_desk(home) as desk:
        found = desk.engine.load(loan)
        if found.contract is None:
            if acceptance is not None:
                signed = read_file(acceptance, bytes_max=limits.loan_contract_bytes_max)
            else:
                if not found.offer_raw or found.state.value != "offered":
                    raise InputError(f"{loan} is {found.state.value}: there is no offer to accept")
                if wallet is None or amount is None or term is None:
                    raise InputError("expected --wallet, --amount and --term, or --acceptance")
                chosen, months = _amount(amount), term
                payee = _payee(found, account, holder, bank)
                with opened(wallet, passphrase_file) as held:
                    signed = held.use_key(
                        lambda key: sign_acceptance(
                            key,
                            found.offer_raw,
                            amount=chosen,
                            term_months=months,
                            account=payee,
                            accepted_ms=time.time_ns() // 1_000_000,
                        )
                    )
            desk.engine.accept(loan, signed)
        else:
            note(f"{loan} was accepted already; going on with it")
        _show(desk, desk.advance(loan, on_step=show_progress(quiet=as_json)), as_json=as_json)


def _payee(loan: Loan, account: str | None, holder: str, bank: str) -> Account:
    from taxledger.lending.payments.port import Account

    if loan.offer is not None and loan.offer.account is not None:
        if account is not None and account != loan.offer.account.number:
            raise InputError("the offer fixes the receiving account: leave --account out")
        return loan.offer.account
    if account is None:
        raise InputError("expected --account: the offer leaves open where the money goes")
    return Account(name=holder or loan.application.subject, number=account, bank=bank)


def draw(
    loan: LoanArgument,
    home: HomeOption,
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="AMOUNT", help="Like 50,000.00.", show_default=False)
    ] = None,
    wallet: _WalletOption = None,
    order: Annotated[
        Path | None,
        typer.Option("--order", metavar="FILE", help="Or an order signed elsewhere.", show_default=False),
    ] = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw on an open line; the enterprise signs the order.

    Example: taxledger lend draw L3f68e4a1b2c3 --home net/bank1 --wallet acme.wallet --amount 20,000.00
    """
    from taxledger.lending.loans.draworder import sign_draw_order

    with opened_desk(home) as desk:
        found = desk.engine.load(loan)
        if order is not None:
            signed = read_file(order, bytes_max=limits.loan_contract_bytes_max)
        else:
            if wallet is None or amount is None:
                raise InputError("expected --wallet and --amount, or --order")
            contract = found.contract
            if contract is None:
                raise InputError(f"{loan} is {found.state.value}: there is no contract to draw under")
            chosen = _amount(amount)
            until = time.time_ns() // 1_000_000 + _ORDER_MS
            with opened(wallet, passphrase_file) as held:
                signed = held.use_key(
                    lambda key: sign_draw_order(
                        key,
                        contract.digest,
                        number=len(found.draws) + 1,
                        amount=chosen,
                        valid_until_ms=until,
                    )
                )
        desk.engine.draw(loan, signed)
        _show(desk, desk.advance(loan), as_json=as_json)


def repay(
    loan: LoanArgument,
    home: HomeOption,
    amount: AmountOption,
    reference: Annotated[
        str,
        typer.Option("--reference", metavar="TEXT", help="Of the core banking system.", show_default=False),
    ],
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="YYYY-MM-DD", help="Value date; today without.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Record a repayment that arrived: interest first, then principal. The same reference again changes nothing.

    Example: taxledger lend repay L3f68e4a1b2c3 --home net/bank1 --amount 10,000.00 --reference CB20260105-77
    """
    with opened_desk(home) as desk:
        try:
            day = desk.clock.today() if on is None else date.fromisoformat(on)
        except ValueError as error:
            raise InputError(f"expected a date YYYY-MM-DD, got {on!r:.40}") from error
        desk.engine.repay(loan, reference=reference, amount=_amount(amount), value_date=day)
        _show(desk, desk.advance(loan), as_json=as_json)


def close(loan: LoanArgument, home: HomeOption, as_json: JsonOption = False) -> None:
    """Close a revolving line: nothing more is paid out; it ends, and its pledges, once nothing is owed.

    Example: taxledger lend close L3f68e4a1b2c3 --home net/bank1
    """
    with opened_desk(home) as desk:
        desk.engine.close(loan)
        _show(desk, desk.advance(loan), as_json=as_json)


def status(loan: LoanArgument, home: HomeOption, as_json: JsonOption = False) -> None:
    """Where a loan stands, with its decision and what the watch has found.

    Example: taxledger lend status L3f68e4a1b2c3 --home net/bank1
    """
    from dataclasses import asdict

    with opened_desk(home) as desk:
        found = desk.engine.load(loan)
        decision = None if found.decision is None else desk.engine.decision(found)
        alerts = desk.watch.alerts(loan)
        if as_json:
            shown: dict[str, Any] = loan_as_json(found, decision, desk.clock.today())
            print_json({**shown, "alerts": [asdict(each) for each in alerts]})
            return
        if decision is not None:
            print_decision(decision)
        print_loan(found, desk.clock.today())
        for each in alerts:
            say(f"  {each.severity} {each.rule}: {each.text} / {each.text_zh}")


def list_loans(
    home: HomeOption,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only these.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The loans, the newest first.

    Example: taxledger lend list --home net/bank1 --state paid_out
    """
    from dataclasses import asdict

    with opened_desk(home) as desk:
        from taxledger.lending.loans.loan import State

        if state is not None and state not in set(State):
            raise InputError(f"expected a state of {', '.join(State)}, got {state!r:.40}")
        rows = desk.loans(state=state)
        if as_json:
            print_json([asdict(each) for each in rows])
            return
        print_table(
            ("loan", "state", "product", "subject", "line", "principal", "currency"),
            [
                (
                    each.id,
                    each.state,
                    each.product,
                    each.subject,
                    money(each.line, each.currency or "CNY"),
                    money(each.principal, each.currency or "CNY"),
                    each.currency or "",
                )
                for each in rows
            ],
            right=(4, 5),
        )


def resume(home: HomeOption) -> None:
    """Go on with every loan that was cut off: nothing is done twice.

    Example: taxledger lend resume --home net/bank1
    """
    with opened_desk(home) as desk:
        outcome = desk.resume()
    for id, error in outcome.items():
        say(f"{id}: {error or 'done'}")
    note(f"{len(outcome)} loans had something to do")
    if any(outcome.values()):
        raise typer.Exit(1)


def register(group: typer.Typer) -> None:
    """Add these commands to ``lend``."""
    for command in (accept, draw, repay, close, status):
        group.command()(command)
    group.command("list")(list_loans)
    group.command()(resume)
