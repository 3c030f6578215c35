"""Applications for loans at a bank's lending desk: consent, evidence, decision and, where asked for, pay-out.

    python tests/acceptance/applications.py JOB.json          prints what became of each, as JSON

The job: ``net`` (folder of the network), ``bank`` (member), ``out`` (folder for what is decided upon), ``threads``, and
``applications``: each ``id``, ``subject``, ``product``, ``as_of`` and, where wanted, ``offers`` (numbers of records
offered as security), ``closed`` (names of fields that the consent leaves closed), ``pay_out`` (accept half of what
is offered, and repay it). What is decided upon is left in ``out/<id>``, for ``recompute.py``.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.subjects import parse_subject
from taxledger.lending.decision import Decision, encode_decision
from taxledger.lending.desk import LendingDesk
from taxledger.lending.facts import Facts
from taxledger.lending.loans.contract import sign_acceptance
from taxledger.lending.loans.loan import Loan, State
from taxledger.lending.loans.ports import Application, Evidence
from taxledger.lending.payments.port import Account
from taxledger.nodes.cli.lend.consenting import product_wish, sign_consent
from taxledger.nodes.cli.lend.opening import opened_desk
from taxledger.nodes.cli.output import connect
from taxledger.nodes.enterprise.terms import Wish
from taxledger.nodes.enterprise.wallet import Wallet, create_wallet, open_wallet
from taxledger.nodes.home import Home
from taxledger.nodes.local.control import find_homes

Job = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """The lender: its home and desk, the homes of the custodians, where wallets are and what is left."""

    home: Home
    desk: LendingDesk
    custodians: Sequence[Home]
    wallets: Path
    out: Path

    @property
    def number(self) -> int:
        return int(self.home.config.number)


@contextlib.contextmanager
def open_bank(job: Job) -> Iterator[Bank]:
    homes = {home.config.name: home for home in find_homes(Path(job["net"]))}
    bank, wallets, out = homes[job["bank"]], Path(job["net"]) / "wallets", Path(job["out"])
    for folder in (wallets, out):
        folder.mkdir(parents=True, exist_ok=True)
    with opened_desk(bank.path) as desk:
        issuers = set(desk.settings.issuers.values())
        custodians = [home for home in homes.values() if home.config.number in issuers]
        yield Bank(home=bank, desk=desk, custodians=custodians, wallets=wallets, out=out)


# --- one application --------------------------------------------------------------------------


@contextlib.contextmanager
def wallet_of(bank: Bank, subject: str) -> Iterator[Wallet]:
    """The enterprise's wallet; at its first application it is made, and its key registered at every custodian."""
    path = bank.wallets / f"{subject.replace(':', '-')}.wallet"
    if not path.exists():
        made = create_wallet(path, parse_subject(subject))
        for custodian in bank.custodians:
            with connect(custodian) as client:
                client.register_subject(made.subject, made.public_key, authentication="at the counter")
    with open_wallet(path) as wallet:
        yield wallet


def apply(bank: Bank, wallet: Wallet, wanted: Job) -> dict[str, Any]:
    """From the signed consent to the decision, or the pay-out."""
    desk, id = bank.desk, f"L{secrets.token_hex(10)}"
    artefact = sign_consent(wallet, bank.home, _wish(bank, wallet.subject, wanted), yes=True)
    application = Application(
        id=id,
        subject=wallet.subject,
        product=wanted["product"],
        channel="direct",
        as_of=date.fromisoformat(wanted["as_of"]),
        security=tuple(sorted(wanted.get("offers", ()))),
    )
    begin = time.perf_counter()
    desk.apply(application, artefact.raw)
    loan = desk.advance(id)
    seconds = time.perf_counter() - begin
    decision, evidence = desk.engine.decision(loan), desk.engine.evidence(loan)
    folder = bank.out / wanted["id"]
    _keep(folder, application, evidence, decision)
    (folder / "artefact").write_bytes(artefact.raw)
    verified = desk.file(loan).verified
    facts = Facts(subject="") if verified is None else verified.facts
    invoices = facts.coverage.get(KINDS["vat_invoice"])
    return {
        **{name: wanted[name] for name in ("id", "subject", "product")},
        "loan": id,
        "state": loan.state.value,
        "decision": json.loads(encode_decision(decision)),
        "records": sum(len(each) for each in facts.records.values()),
        "bytes": sum(len(each.data) for each in evidence.files),
        "from": "" if invoices is None else invoices.from_period,
        "months": _months(facts),
        "seconds": seconds,
        "paid": _pay_out(desk, wallet, loan) if wanted.get("pay_out") else None,
    }


def _wish(bank: Bank, subject: str, wanted: Job) -> Wish:
    product, as_of = bank.desk.keeper.product(wanted["product"]), date.fromisoformat(wanted["as_of"])
    wish = product_wish(
        product,
        bank.desk.settings,
        subject=subject,
        recipient=bank.number,
        as_of=as_of,
        offers=bool(wanted.get("offers")),
    )
    closed = set(wanted.get("closed", ()))
    if not closed:
        return wish
    return replace(
        wish, details=[replace(each, fields=_fields_but(each.kind, closed)) for each in wish.details]
    )


def _fields_but(kind: int, closed: set[str]) -> tuple[str, ...]:
    """All other fields of a kind, ascending; those that every version of its schema has, as a consent must."""
    versions = [{each.name for each in schema.fields} for schema in BUILTIN if schema.kind == kind]
    return tuple(sorted(set.intersection(*versions) - closed))


def _pay_out(desk: LendingDesk, wallet: Wallet, loan: Loan) -> dict[str, Any] | None:
    """Accept half of the limit; what was paid to whom, and what was pledged. None where nothing is offered."""
    if loan.state is not State.OFFERED or loan.offer is None:
        return None
    account = loan.offer.account or Account(name="示例企业", number="6222020200112233445", bank="DEMOCNBJXXX")
    amount, offer = loan.offer.limit // 2, loan.offer_raw
    begin = time.perf_counter()
    acceptance = wallet.use_key(
        lambda signer: sign_acceptance(
            signer,
            offer,
            amount=amount,
            term_months=6,
            account=account,
            accepted_ms=time.time_ns() // 1_000_000,
        )
    )
    desk.engine.accept(loan.id, acceptance)
    loan = desk.advance(loan.id)
    seconds = time.perf_counter() - begin
    return {
        "state": loan.state.value,
        "amount": amount,
        "account": account.number,
        "pledges": [each.hex() for each in loan.pledges],
        "reasons": [each.code for each in loan.reasons],
        "files": [str(desk.settings.outbox / f"{each.reference}.xml") for each in loan.draws],
        "seconds": seconds,
        "after": _repay(desk, loan) if loan.state is State.PAID_OUT else None,
    }


def _repay(desk: LendingDesk, loan: Loan) -> str:
    """Repay all on the same day, and end a line that revolves; the state after it."""
    id, today = loan.id, desk.clock.today()
    desk.engine.repay(id, reference=f"repayment of {id}", amount=loan.principal, value_date=today)
    if loan.contract is not None and loan.contract.offer.revolving:
        desk.engine.close(id)
    return str(desk.advance(id).state.value)


def _months(facts: Facts) -> dict[str, dict[str, list[int]]]:
    """By direction and month of the verified invoices that count: count, net, tax, gross."""
    found: dict[str, dict[str, list[int]]] = {"sale": {}, "purchase": {}}
    for each in facts.counted(KINDS["vat_invoice"]):
        sums = found[str(each.fields["direction"])].setdefault(str(each.fields["date"])[:7], [0, 0, 0, 0])
        for at, value in enumerate((1, *(each.fields[name] for name in ("net", "tax", "gross")))):
            assert type(value) is int
            sums[at] += value
    return found


def _keep(folder: Path, application: Application, evidence: Evidence, decision: Decision) -> None:
    folder.mkdir()
    for number, each in enumerate(evidence.files):
        (folder / f"{number}.evidence").write_bytes(each.data)
    if evidence.pledges is not None:
        (folder / "pledges").write_bytes(evidence.pledges)
    (folder / "decision.json").write_bytes(encode_decision(decision))
    asked = [
        {"issuer": one.issuer, "kinds": one.kinds, "from": one.from_period, "to": one.to_period}
        for one in (each.query for each in evidence.files)
    ]
    missing = [asdict(each) for each in evidence.reasons]
    case = {"questions": asked, "reasons": missing, "security": application.security}
    (folder / "case.json").write_text(json.dumps(case))


# --- all of them ---------------------------------------------------------------------------------


def apply_all(job: Job) -> list[dict[str, Any]]:
    """In the order of the job; those of one enterprise one after another, as it has one wallet."""
    by_subject: dict[str, list[Job]] = defaultdict(list)
    for each in job["applications"]:
        by_subject[each["subject"]].append(each)

    with open_bank(job) as bank, ThreadPoolExecutor(int(job.get("threads", 8))) as pool:

        def of_one(wanted: Sequence[Job]) -> list[dict[str, Any]]:
            with wallet_of(bank, wanted[0]["subject"]) as wallet:
                return [apply(bank, wallet, each) for each in wanted]

        found = {each["id"]: each for many in pool.map(of_one, by_subject.values()) for each in many}
    return [found[each["id"]] for each in job["applications"]]


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        became = apply_all(json.loads(Path(sys.argv[1]).read_bytes()))
    json.dump(became, sys.stdout, ensure_ascii=False)
