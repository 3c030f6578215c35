"""One application at a bank, in a process of its own, and how long each of its steps took; prints that as JSON.

    python -m benchmarks.lender JOB.json

The job: ``home`` of the bank, ``wallet`` of the enterprise, ``product``, ``as_of``, ``consent`` (file of the signed
artefact), ``offers`` (numbers of records offered as security) and ``names`` (of members, by number).

The clock begins when the artefact is handed to the bank, so before any custodian has it, and ends when the payment
file is synced. What the bank does after that (it begins to watch the loan) is told apart.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from taxledger.api.client import Client
from taxledger.ledger.query import Query
from taxledger.lending import assessing, desk, nodeports
from taxledger.lending.desk import LendingDesk, open_desk
from taxledger.lending.loans.contract import sign_acceptance
from taxledger.lending.loans.life import LoanEngine
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.ports import Application
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.nodeports import NodeConsents, NodePledges
from taxledger.lending.payments.outbox import PaymentOutbox
from taxledger.lending.payments.port import Account
from taxledger.lending.settings import load_settings
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.output import connect
from taxledger.nodes.enterprise.wallet import Wallet, open_wallet
from taxledger.nodes.home import Home

__all__ = ["Spans", "lend", "payee"]

_TERM_MONTHS = 6


class Spans:
    """Time of the clock spent in named calls: milliseconds without the named calls within.

    Calls of one name that run side by side count once, from the first begin to the last end.
    """

    def __init__(self) -> None:
        self._found: list[tuple[str, float, float, float]] = []
        self._local = threading.local()

    def watch(self, owner: Any, name: str, label: Callable[..., str]) -> None:
        """Time every call of ``owner.name``; ``label`` gives its name, from the arguments."""
        call = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            outer = getattr(self._local, "inner", 0.0)
            self._local.inner = 0.0
            begin = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                end = time.perf_counter()
                self._found.append((label(*arguments, **named), begin, end, self._local.inner))
                self._local.inner = outer + end - begin

        setattr(owner, name, timed)

    def milliseconds(self, until: float) -> dict[str, float]:
        """By name, of the calls that began before an instant of ``time.perf_counter``."""
        spent: dict[str, float] = {}
        last: dict[str, float] = {}
        for label, begin, end, inner in sorted(self._found, key=lambda each: each[1]):
            if begin >= until:
                break
            since = max(begin, last.get(label, begin))
            last[label] = max(end, since)
            spent[label] = spent.get(label, 0.0) + max(0.0, end - since - inner) * 1e3
        return spent


def _named(name: str) -> Callable[..., str]:
    return lambda *_, **__: name


def _watch_all(spans: Spans, names: Mapping[str, str]) -> None:
    def custodian(_client: Client, query: Query, *_: Any, **__: Any) -> str:
        return f"evidence.{names[str(query.issuer)]}"

    spans.watch(NodeConsents, "forward", _named("consent"))
    spans.watch(Client, "disclosure", custodian)
    spans.watch(Client, "pledge_proof", _named("pledge_proof"))
    for module in (nodeports, assessing, desk):
        spans.watch(module, "verify_evidence_set", _named("verification"))
    spans.watch(assessing, "add_pledges", _named("verification"))
    spans.watch(nodeports, "assess", _named("decision"))
    spans.watch(LoanEngine, "accept", _named("contract"))
    spans.watch(NodePledges, "place", _named("pledge"))
    spans.watch(PaymentOutbox, "pay", _named("payment"))
    spans.watch(LoanStore, "append", _named("books"))


def payee(loan: Loan) -> Account:
    """Where the money goes: the account that the offer names, or one of the enterprise's own."""
    account = None if loan.offer is None else loan.offer.account
    return account or Account(name="示例企业", number="6222020200112233445", bank="DEMOCNBJXXX")


def _accept(bank: LendingDesk, wallet: Wallet, loan: Loan) -> None:
    if loan.offer is None or loan.state is not State.OFFERED:
        raise SystemExit(f"expected an offer, got {loan.state}: {[each.code for each in loan.reasons]}")
    amount, offer = loan.offer.limit // 2, loan.offer_raw
    acceptance = wallet.use_key(
        lambda signer: sign_acceptance(
            signer,
            offer,
            amount=amount,
            term_months=_TERM_MONTHS,
            account=payee(loan),
            accepted_ms=time.time_ns() // 1_000_000,
        )
    )
    bank.engine.accept(loan.id, acceptance)


def lend(
    bank: LendingDesk, wallet: Wallet, application: Application, artefact: bytes
) -> tuple[float, float, float]:
    """From the signed consent to the payment file: instants of begin, payment and end."""
    paid: list[float] = []

    def on_step(loan: Loan) -> None:
        if loan.state is State.PAID_OUT and not paid:
            paid.append(time.perf_counter())

    begin = time.perf_counter()
    bank.apply(application, artefact)
    loan = bank.advance(application.id)
    _accept(bank, wallet, loan)
    loan = bank.advance(application.id, on_step=on_step)
    end = time.perf_counter()
    if loan.state is not State.PAID_OUT or not paid:
        raise SystemExit(f"expected a loan paid out, got {loan.state}")
    file = bank.settings.outbox / f"{loan.draws[0].reference}.xml"
    if not file.is_file():
        raise SystemExit(f"expected the payment file {file}")
    return begin, paid[0], end


def main(path: Path) -> dict[str, Any]:
    """The job of a file; milliseconds by step, and what was pledged."""
    job = json.loads(path.read_bytes())
    home, spans = Home(Path(job["home"])), Spans()
    _watch_all(spans, job["names"])
    settings = load_settings(lending_folder(home.path))
    with (
        open_wallet(Path(job["wallet"])) as wallet,
        connect(home) as client,
        open_desk(settings, client, policy_file=home.policy(), recipient=home.config.number) as bank,
    ):
        application = Application(
            id=f"L{path.stem}",
            subject=wallet.subject,
            product=job["product"],
            channel="direct",
            as_of=date.fromisoformat(job["as_of"]),
            security=tuple(sorted(job["offers"])),
        )
        begin, paid, end = lend(bank, wallet, application, Path(job["consent"]).read_bytes())
        return {
            "loan": application.id,
            "pledges": len(bank.engine.load(application.id).pledges),
            "total": (paid - begin) * 1e3,
            "watch": (end - paid) * 1e3,
            "steps": spans.milliseconds(paid),
        }


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1])), sys.stdout)
