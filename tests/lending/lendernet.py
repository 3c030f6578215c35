"""Lenders on a real network: two custodians, two banks, one made-up enterprise with awards to pledge.

``Lenders`` prepares jobs for ``netcrash.py``, which drives one loan in processes that are killed, and looks at what
came of them: in the loan's events, in the outbox, at the custodians, and on the ledger, proved.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from sharing import answered

from network import RealNetwork, until
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.kinds import KINDS
from taxledger.lending.desk import LendingDesk, open_desk
from taxledger.lending.evidence import secured
from taxledger.lending.loans.loan import State
from taxledger.lending.loans.store import open_store
from taxledger.lending.products.catalogue import load_products, shipped_files
from taxledger.lending.settings import LendingSettings, load_settings
from taxledger.lending.watch import WatchStore
from taxledger.nodes.cli.attest import upload_plan
from taxledger.nodes.cli.attestplan import make_plan
from taxledger.nodes.cli.lend.consenting import product_wish, sign_consent
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.main import main
from taxledger.nodes.enterprise.wallet import create_wallet, open_wallet
from taxledger.nodes.generating import GeneratedEnterprise, generate_enterprise, write_enterprises

__all__ = ["KINDS_OF_EVENTS", "Job", "Lenders", "lenders"]

AS_OF = date(2025, 12, 31)
MEMBERS = ("tax", "procurement", "bank1", "bank2")
# Filings, so that the tax office has begun in every year: there are none without, arrears not in all.
_ISSUES = {"tax": ("tax_arrears", "tax_filing"), "procurement": ("procurement_award",)}
_AWARDS = 400
_PPM = 700_000
_ARREARS = """
[[rules]]
id = "no_open_arrears"
feature = "open_arrears_count"
at_most = 0
title = "no open arrears"
title_zh = "无未结清欠税"
"""
"""Added to the shipped procurement product, so that a decision needs two custodians. Of this product an enterprise may
have several loans, as each is lent against a record of its own.
"""
_DRIVER = Path(__file__).with_name("netcrash.py")
KINDS_OF_EVENTS = [
    *("applied", "consent_given", "consented", "evidence_asked", "evidence", "decided", "offered"),
    *("accepted", "pledge_asked", "pledged", "draw_ordered", "paid"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One loan to be driven: its bank, its file for ``netcrash.py``, and the number of the award offered."""

    bank: str
    loan: str
    path: Path
    offered: str


class Lenders:
    """The network with its lenders.

    Attributes:
        network: running.
        subject: the enterprise.
    """

    def __init__(self, network: RealNetwork, folder: Path) -> None:
        self.network, self._folder = network, folder
        made = _with_awards(generate_enterprise(3))
        files = folder / "files"
        files.mkdir()
        for each in write_enterprises([made], files):
            for member, kinds in _ISSUES.items():
                if each.kind in kinds:
                    plan = make_plan([each.path], "csv", mapping=each.mapping)
                    outcome = upload_plan(network.homes[member].path, plan, through=each.through, quiet=True)
                    assert outcome.complete
                    assert not outcome.refused
        self._awards = [str(each.fields["number"]) for each in made.rows["procurement_award"]]
        self._wallet = folder / "wallet"
        wallet = create_wallet(self._wallet, made.subject)
        self.subject = made.subject
        for member in _ISSUES:
            body = {"subject": made.subject, "public_key": wallet.public_key.hex(), "authentication": "card"}
            answered(network.request("POST", member, "/v1/subjects", json=body))

    def open_lender(self, bank: str, database_url: str | None = None) -> None:
        """A bank's lending folder, with another database than its own file where one is given."""
        home = self.network.homes[bank]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert main(["lend", "init", "--home", str(home.path)]) == 0
        folder = lending_folder(home.path)
        (folder / "products").mkdir()
        shipped = shipped_files().products["procurement"].decode()
        (folder / "products" / "procurement.toml").write_text(shipped + _ARREARS)
        path = folder / "lending.toml"
        text = path.read_text()
        if database_url is not None:
            text = re.sub('url = "sqlite[^"]*"', f'url = "{database_url}"', text)
        path.write_text(f'products = "products"\n{text}')

    def is_lender(self, bank: str) -> bool:
        """Whether ``open_lender`` was asked for it."""
        return lending_folder(self.network.homes[bank].path).exists()

    def settings(self, bank: str) -> LendingSettings:
        return load_settings(lending_folder(self.network.homes[bank].path))

    def job(self, bank: str) -> Job:
        """A new application with a new consent, signed and handed to nobody, and an award nobody has pledged."""
        home, number = self.network.homes[bank], self._awards.pop()
        loan, settings = f"L{len(self._awards)}", self.settings(bank)
        assert settings.products is not None
        wish = product_wish(
            load_products(settings.products).product("procurement"),
            settings,
            subject=self.subject,
            recipient=home.config.number,
            as_of=AS_OF,
        )
        with open_wallet(self._wallet) as wallet, contextlib.redirect_stderr(io.StringIO()):
            artefact = sign_consent(wallet, home, wish, yes=True)
        path = self._folder / f"{loan}.json"
        document = {
            "network": str(self.network.directory),
            "bank": bank,
            "home": str(home.path),
            "loan": loan,
            "subject": self.subject,
            "as_of": AS_OF.isoformat(),
            "offered": number,
            "wallet": str(self._wallet),
            "consent": artefact.raw.hex(),
        }
        path.write_text(json.dumps(document))
        return Job(bank=bank, loan=loan, path=path, offered=number)

    @staticmethod
    def drive(mode: str, *arguments: object) -> Any:
        """Run ``netcrash.py``; what it printed."""
        done = subprocess.run(
            [sys.executable, str(_DRIVER), mode, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr[-4_000:]
        if done.stderr:
            print(done.stderr[-4_000:])
        return json.loads(done.stdout)

    # --- what came of it ------------------------------------------------------------------------

    def check(self, job: Job) -> None:
        """The loan was paid out, and everything on the way was done once."""
        settings = self.settings(job.bank)
        store = open_store(settings.database_url)
        try:
            loan, events = store.load(job.loan), store.events(job.loan)
        finally:
            store.close()
        assert loan.state is State.PAID_OUT, [each.code for each in loan.reasons]
        assert [each.kind for each in events] == KINDS_OF_EVENTS  # each step once, the contract among them
        assert len(loan.draws) == len(loan.pledges) == 1
        self._check_payment(settings, loan.draws[0].reference, loan.id)
        self._check_pledge(job, loan.pledges[0])
        self._check_watch(settings, loan.id)
        self._check_uses(job)

    @staticmethod
    def _check_payment(settings: LendingSettings, reference: str, loan: str) -> None:
        ours = [
            each
            for each in settings.outbox.glob("*.xml")
            if f"<EndToEndId>{loan}/" in each.read_text("utf-8")
        ]
        assert [each.name for each in ours] == [f"{reference}.xml"]
        assert not list(settings.outbox.glob(f"{reference}.*.part"))

    @contextlib.contextmanager
    def desk(self, bank: str) -> Iterator[LendingDesk]:
        """A bank's desk in this process."""
        home = self.network.homes[bank]
        with (
            self.network.client(bank, patience_s=60.0) as client,
            open_desk(
                self.settings(bank), client, policy_file=home.policy(), recipient=home.config.number
            ) as desk,
        ):
            yield desk

    def _check_pledge(self, job: Job, pledge: bytes) -> None:
        """On the ledger, proved: the record is pledged once, to this bank."""
        with self.desk(job.bank) as desk:
            file = desk.file(desk.engine.load(job.loan))
            assert file.decision is not None
            assert file.verified is not None
            (record,) = secured(file.verified.facts, [bytes.fromhex(each) for each in file.decision.security])
            assert record.fields["number"] == job.offered
            assert record.fingerprint is not None
            asked = [(record.issuer, record.fingerprint)]
            (state,) = desk.client.verified_pledges(asked).states.values()
        assert [(each.id, each.member, each.ppm) for each in state.pledges] == [
            (pledge, self.network.homes[job.bank].config.number, _PPM)
        ]

    @staticmethod
    def _check_watch(settings: LendingSettings, loan: str) -> None:
        watch = WatchStore(settings.folder / "watch.sqlite")
        try:
            assert [each.loan for each, _ in watch.loans()].count(loan) == 1
        finally:
            watch.close()

    def _check_uses(self, job: Job) -> None:
        """Each custodian disclosed once under this consent."""
        artefact = decode_artefact(bytes.fromhex(json.loads(job.path.read_bytes())["consent"]))
        for member in _ISSUES:
            number = self.network.homes[member].config.number
            body = {"subject": self.subject}
            said = answered(self.network.request("POST", member, "/v1/consents/list", json=body))
            (ours,) = (each for each in said["consents"] if each["consent"] == artefact.id(number).hex())
            assert len(ours["uses_list"]) == 1

    def break_node(self, bank: str, number: int, when: str) -> int:
        """Have a bank's node, started anew, die before or after its n-th write; the process that will."""
        before = until(lambda: self._writing(bank), f"{bank} runs")
        self.network.break_at(bank, number, when)
        self.network.kill(bank)
        return int(until(lambda: (pid := self._writing(bank)) != before and pid, f"{bank} is back"))

    def _writing(self, bank: str) -> int | None:
        """The process of a node that is in time with the others."""
        return self.network.pids().get(bank) if self.network.status(bank).get("writes") == "ok" else None


def _with_awards(made: GeneratedEnterprise) -> GeneratedEnterprise:
    """The enterprise with its good award many times over, each another contract."""
    award = made.award
    assert award is not None
    rows = tuple(
        replace(award, fields={**award.fields, "number": f"A{number}", "contract": f"C{number}"})
        for number in range(_AWARDS)
    )
    return replace(made, rows={**made.rows, "procurement_award": rows})


@contextlib.contextmanager
def lenders(folder: Path) -> Iterator[Lenders]:
    """A running network with everything attested; no bank lends yet."""
    network = RealNetwork(
        folder / "net",
        members=MEMBERS,
        issues={member: [KINDS[each] for each in kinds] for member, kinds in _ISSUES.items()},
    )
    try:
        network.start()
        yield Lenders(network, folder)
    finally:
        network.close()
