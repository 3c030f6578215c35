"""A bank that lends: its desk, and the steps of a loan as the commands ``lend apply`` and ``lend accept`` do them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxledger.nodes.cli.demo.stage import Stage
from taxledger.nodes.cli.demo.tale import tell
from taxledger.nodes.cli.lend.consenting import product_wish, sign_consent
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.lend.setup import make_settings
from taxledger.nodes.cli.output import connect, money, open_home

if TYPE_CHECKING:
    from taxledger.ledger.pledgeproof import PledgeState
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.facts import Fact
    from taxledger.lending.loans.loan import Loan
    from taxledger.lending.loans.ports import Clock
    from taxledger.nodes.enterprise.wallet import Wallet

__all__ = [
    "Request",
    "accept",
    "apply",
    "as_facts",
    "found_lender",
    "opened_lender",
    "payment_file",
    "pledge_states",
    "pledged_numbers",
    "show_pay_out",
    "signed_acceptance",
    "signed_consent",
]

_ACCOUNT = "6222020200001234567"
_STEPS = {
    "consented": "consent",
    "evidence": "evidence",
    "decided": "decision",
    "offered": "offer",
    "accepted": "contract",
    "pledged": "pledge",
    "paid": "pay-out",
}
"""What ends with each event of a loan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an enterprise applies for.

    Attributes:
        id: of the application.
        product: of the bank.
        name: of the enterprise, as the holder of its account.
        wallet: of the enterprise.
        security: numbers of invoices or awards.
        channel: how it comes.
        as_of: the decision date; None: today.
    """

    id: str
    product: str
    name: str
    wallet: Wallet
    security: Sequence[str] = ()
    channel: str = "direct"
    as_of: date | None = None


def found_lender(
    stage: Stage, member: str, *, webhook: tuple[str, str] | None = None, wait_s: int | None = None
) -> None:
    """Make the bank's lending folder.

    Args:
        stage, member: whose.
        webhook: (address, secret) of where alerts go.
        wait_s: how long a silent custodian is waited for.
    """
    number = stage.number(member)
    path = make_settings(
        stage.home(member),
        name=f"示例银行{number}",
        bic=f"DEMOCN{number:02}",
        account=f"{1_000_000_000_000_000 + number}",
    )
    if wait_s is not None:
        text = path.read_text("utf-8")
        path.write_text(re.sub(r"wait_seconds_max = [0-9]+", f"wait_seconds_max = {wait_s}", text), "utf-8")
    if webhook is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(f'\n[[webhooks]]\nurl = "{webhook[0]}"\nsecret = "{webhook[1]}"\n')


@contextmanager
def opened_lender(stage: Stage, member: str, clock: Clock | None = None) -> Iterator[LendingDesk]:
    """The bank's desk, with a client of its own node."""
    from taxledger.lending.desk import open_desk
    from taxledger.lending.settings import load_settings

    home = open_home(stage.home(member))
    settings = load_settings(lending_folder(home.path))
    with (
        connect(home) as client,
        open_desk(
            settings, client, policy_file=home.policy(), recipient=home.config.number, clock=clock
        ) as desk,
    ):
        yield desk


# --- steps of a loan ----------------------------------------------------------------------------------


def signed_consent(stage: Stage, member: str, desk: LendingDesk, request: Request) -> bytes:
    """What the enterprise signs: exactly what the product asks, of every custodian at once."""
    wallet = request.wallet
    wish = product_wish(
        desk.keeper.product(request.product),
        desk.settings,
        subject=wallet.subject,
        recipient=desk.trust.recipient,
        as_of=request.as_of or desk.clock.today(),
    )
    home = open_home(stage.home(member))
    names = {each.number: each.name for each in home.config.peers}
    custodians = " + ".join(names[each] for each in sorted(wish.custodians))
    tell(f"{request.name} signs one consent: {member} may read at {custodians}, {wish.max_uses} uses")
    return sign_consent(wallet, home, wish, yes=True, quiet=True).raw


def apply(stage: Stage, member: str, desk: LendingDesk, request: Request) -> Loan:
    """The enterprise consents; the bank collects, verifies, decides, and offers."""
    from taxledger.lending.loans.ports import Application

    artefact = signed_consent(stage, member, desk, request)
    application = Application(
        id=request.id,
        subject=request.wallet.subject,
        product=request.product,
        channel=request.channel,
        as_of=request.as_of,
        security=tuple(sorted(set(request.security))),
    )
    desk.apply(application, artefact)
    return desk.advance(request.id)


def signed_acceptance(offer: bytes, request: Request, *, amount: int, months: int) -> bytes:
    """What the enterprise signs: amount, term, and the account, which is its own unless the offer names one."""
    from taxledger.lending.loans.contract import decode_offer, sign_acceptance
    from taxledger.lending.payments.port import Account

    payee = decode_offer(offer).account or Account(name=request.name, number=_ACCOUNT, bank="")
    now_ms = time.time_ns() // 1_000_000
    return request.wallet.use_key(
        lambda key: sign_acceptance(
            key, offer, amount=amount, term_months=months, account=payee, accepted_ms=now_ms
        )
    )


def accept(desk: LendingDesk, loan: Loan, request: Request, *, amount: int, months: int) -> Loan:
    """The enterprise accepts; contract, pledge and pay-out follow by themselves."""
    desk.engine.accept(loan.id, signed_acceptance(loan.offer_raw, request, amount=amount, months=months))
    return desk.advance(loan.id)


def timing(desk: LendingDesk, loan: Loan) -> tuple[float, Mapping[str, float]]:
    """(seconds from the consent being handed on until the payment file was synced, seconds of each part).

    By the loan's own durable events: the first is written before any custodian has the consent, the last after the
    file, and its folder, are on the disk.
    """
    events = desk.store.events(loan.id)
    begin = last = next(each.at_ms for each in events if each.kind == "consent_given")
    parts: dict[str, float] = {}
    for each in events:
        if each.kind in _STEPS and each.at_ms >= begin:
            parts[_STEPS[each.kind]] = (each.at_ms - last) / 1_000
            last = each.at_ms
        if each.kind == "paid":
            break
    return (last - begin) / 1_000, parts


def show_pay_out(desk: LendingDesk, loan: Loan) -> None:
    """What was agreed, and how long it took."""
    if loan.contract is None:
        return
    agreed, (seconds, parts) = loan.contract.acceptance, timing(desk, loan)
    tell(
        f"contract 合同: {money(agreed.amount):>12} of {money(loan.contract.offer.limit)} CNY, "
        f"{agreed.term_months} months, to account {agreed.account.number}"
    )
    tell(f"payment  放款: {payment_file(desk, loan).name}, synced")
    split = ", ".join(f"{name} {each:.2f}" for name, each in parts.items())
    tell(f"from the signed consent to the payment file {seconds:.2f} s ({split})")


def security_of(desk: LendingDesk, loan: Loan) -> list[Fact]:
    """The verified records that a loan's decision stands on as security, in the order of its pledges."""
    from taxledger.lending.evidence import secured

    file = desk.file(loan)
    if file.decision is None or file.verified is None:
        return []
    return list(secured(file.verified.facts, [bytes.fromhex(each) for each in file.decision.security]))


def pledged_numbers(desk: LendingDesk, loan: Loan) -> list[tuple[str, str]]:
    """(number of the record, pledge) of each pledge of a loan."""
    records = security_of(desk, loan)
    return [
        (str(record.fields["number"]), pledge.hex())
        for record, pledge in zip(records, loan.pledges, strict=True)
    ]


def pledge_states(desk: LendingDesk, loan: Loan) -> list[PledgeState]:
    """What the ledger proves to be pledged of a loan's security."""
    keys = [
        (each.issuer, each.fingerprint) for each in security_of(desk, loan) if each.fingerprint is not None
    ]
    return list(desk.client.verified_pledges(keys).states.values())


def payment_file(desk: LendingDesk, loan: Loan) -> Path:
    """The first pay-out's message for the core banking system."""
    return desk.settings.outbox / f"{loan.draws[0].reference}.xml"


def as_facts(desk: LendingDesk, member: str, loan: Loan) -> dict[str, Any]:
    """A loan for ``demo.json``."""
    found: dict[str, Any] = {
        "loan": loan.id,
        "lender": member,
        "product": loan.application.product,
        "subject": loan.application.subject,
        "channel": loan.application.channel,
        "state": loan.state.value,
        "outcome": loan.outcome,
        "reasons": [each.code for each in loan.reasons],
        "security": list(loan.application.security),
        "pledges": [each.hex() for each in loan.pledges],
    }
    if loan.offer is not None:
        found |= {
            "currency": loan.offer.currency,
            "limit": loan.offer.limit,
            "rate_ppm": loan.offer.interest.rate_ppm,
        }
    if loan.contract is not None:
        found |= {
            "amount": loan.contract.acceptance.amount,
            "term_months": loan.contract.acceptance.term_months,
            "account": loan.contract.acceptance.account.number,
        }
    if loan.draws and loan.draws[0].reference is not None:
        seconds, parts = timing(desk, loan)
        found |= {
            "payment_file": payment_file(desk, loan).name,
            "consent_to_payment_s": seconds,
            "parts_s": dict(parts),
        }
    return found
