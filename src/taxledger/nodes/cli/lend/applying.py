"""``taxledger lend apply | decide``: from a signed consent to a decision and an offer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, RefusedError
from taxledger.nodes.cli.lend.consenting import product_wish, sign_consent
from taxledger.nodes.cli.lend.opening import (
    LoanArgument,
    loan_as_json,
    opened_desk,
    print_decision,
    print_loan,
)
from taxledger.nodes.cli.output import HomeOption, JsonOption, note, open_home, print_json, read_file, say
from taxledger.nodes.cli.walletfile import PassphraseOption, opened

if TYPE_CHECKING:
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.loans.loan import Loan

__all__ = ["register", "show_progress"]


def show_progress(*, quiet: bool) -> Callable[[Loan], None]:
    """Told of each step: says how long it took."""
    last = time.monotonic()

    def step(loan: Loan) -> None:
        nonlocal last
        now = time.monotonic()
        if not quiet and loan.pending is None:
            note(f"  {loan.state.value}: {now - last:.2f} s")
        last = now

    return step


def apply(
    home: HomeOption,
    product: Annotated[str, typer.Option("--product", metavar="ID", help="Id of the product, like invoice.")],
    wallet: Annotated[
        Path | None,
        typer.Option(
            "--wallet",
            metavar="FILE",
            help="The enterprise's wallet: signs the consent here.",
            show_default=False,
        ),
    ] = None,
    consent: Annotated[
        Path | None,
        typer.Option(
            "--consent", metavar="FILE", help="Or a consent that it has signed elsewhere.", show_default=False
        ),
    ] = None,
    security: Annotated[
        list[str] | None,
        typer.Option(
            "--security",
            metavar="NUMBER",
            help="An invoice, award or contract offered as security; may be repeated.",
            show_default=False,
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="YYYY-MM-DD", help="The decision date; today without.", show_default=False
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Id of the application; the same again goes on with it.",
            show_default=False,
        ),
    ] = None,
    channel: Annotated[str, typer.Option("--channel", metavar="NAME", help="How it came.")] = "direct",
    passphrase_file: PassphraseOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply for a loan: one signed consent, evidence of every custodian, a decision, an offer.

    With --wallet the consent says exactly what the product asks: which kinds, which months, which custodians.

    Example: taxledger lend apply --home net/bank1 --product invoice --wallet acme.wallet

    Example: taxledger lend apply --home net/bank1 --product procurement --wallet acme.wallet --security A-2025-17
    """
    if (wallet is None) == (consent is None):
        raise InputError("expected --wallet or --consent")
    day, offered = _date(as_of), tuple(sorted(set(security or ())))
    with opened_desk(home) as desk:
        from taxledger.lending.loans.ports import Application

        chosen = id or f"L{secrets.token_hex(6)}"
        known = desk.store.find(chosen)
        if known is not None and known.artefact is not None:
            _check_same(known, product, offered, day)
            note(f"{chosen} was applied for already by {known.application.subject}; going on with it")
            _go_on(desk, chosen, as_json=as_json)
            return
        _note_past(day, desk, product)
        artefact, subject = _artefact(
            desk, home, product, wallet, consent, passphrase_file, as_of=day, offers=bool(offered), yes=yes
        )
        application = Application(
            id=chosen,
            subject=subject,
            product=product,
            channel=channel,
            as_of=day,
            security=offered,
        )
        desk.apply(application, artefact)
        note(f"application {chosen}")
        _go_on(desk, chosen, as_json=as_json)


def _artefact(
    desk: LendingDesk,
    home: Path,
    product: str,
    wallet: Path | None,
    consent: Path | None,
    passphrase_file: Path | None,
    *,
    as_of: date | None,
    offers: bool,
    yes: bool,
) -> tuple[bytes, str]:
    """(the signed consent, whose it is)."""
    from taxledger.ledger.consent import decode_artefact

    if wallet is None:
        raw = read_file(consent or Path(), bytes_max=limits.consent_bytes_max)
        return raw, decode_artefact(raw).terms.subject
    chosen = desk.keeper.product(product)
    with opened(wallet, passphrase_file) as held:
        wish = product_wish(
            chosen,
            desk.settings,
            subject=held.subject,
            recipient=desk.trust.recipient,
            as_of=as_of or desk.clock.today(),
            offers=offers,
        )
        return sign_consent(held, open_home(home), wish, yes=yes).raw, held.subject


def _check_same(known: Loan, product: str, security: tuple[str, ...], as_of: date | None) -> None:
    """Raises RefusedError where the id stands for something else than is asked now."""
    had = known.application
    if (had.product, had.security, had.as_of) != (product, security, as_of):
        raise RefusedError(
            "application_conflict", f"{known.id} was applied for with another product, security or date"
        )


def _note_past(day: date | None, desk: LendingDesk, product: str) -> None:
    """Say that a decision date leaves out what the enterprise did since."""
    today = desk.clock.today()
    if day is not None and (today - day).days > desk.keeper.product(product).attested_within_days:
        note(f"as of {day}: what the enterprise did since is not looked at 该日之后的情况未纳入审批")


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"expected a date YYYY-MM-DD, got {text!r:.40}") from error


def _go_on(desk: LendingDesk, id: str, *, as_json: bool) -> None:
    """Advance and show; exit status 1 unless there is an offer, or what comes after one."""
    loan = desk.advance(id, on_step=show_progress(quiet=as_json))
    decision = None if loan.decision is None else desk.engine.decision(loan)
    if as_json:
        print_json(loan_as_json(loan, decision, desk.clock.today()))
    else:
        if decision is not None:
            print_decision(decision)
        print_loan(loan, desk.clock.today())
        if loan.state.value == "offered":
            say(f"next 下一步: taxledger lend accept {loan.id} --home DIR --wallet FILE --amount A --term M")
    if loan.state.value in ("refused", "referred", "incomplete", "failed", "expired"):
        raise typer.Exit(1)


def decide(
    loan: LoanArgument,
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """Decide on an application that was cut off, or once more on one whose evidence was incomplete.

    Example: taxledger lend decide L3f68e4a1b2c3 --home net/bank1
    """
    with opened_desk(home) as desk:
        found = desk.engine.load(loan)
        if found.state.value == "incomplete":
            desk.engine.retry(loan)
        _go_on(desk, loan, as_json=as_json)


def register(group: typer.Typer) -> None:
    """Add these commands to ``lend``."""
    group.command()(apply)
    group.command()(decide)
