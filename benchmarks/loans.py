"""Loans on a real network of four nodes, two of them custodians: what an application takes, step by step.

Each application is a new enterprise's, with a new consent, at a bank's process that was started for it, and at nodes
that were started after everything was attested: nothing is prepared before.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.figures import Figure
from taxledger.ledger.kinds import KINDS
from taxledger.lending.products.catalogue import shipped_files
from taxledger.lending.settings import load_settings
from taxledger.nodes.cli.attest import upload_plan
from taxledger.nodes.cli.attestplan import make_plan
from taxledger.nodes.cli.lend.consenting import product_wish, sign_consent
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.main import main
from taxledger.nodes.cli.network import make_network
from taxledger.nodes.cli.output import connect
from taxledger.nodes.enterprise.wallet import create_wallet, open_wallet
from taxledger.nodes.generating import GeneratedEnterprise, generate_enterprise, write_enterprises
from taxledger.nodes.home import Home
from taxledger.nodes.local import control

__all__ = ["AS_OF", "PRODUCTS", "Applicant", "LoanNetwork", "measure_loans", "running_loan_network"]

AS_OF = date(2025, 12, 31)
PRODUCTS = ("tax", "invoice", "procurement")
MEMBERS = ("tax", "procurement", "bank1", "bank2")
_ISSUES = {
    "tax": ("vat_invoice", "tax_filing", "tax_credit_rating", "tax_arrears", "business_registration"),
    "procurement": ("procurement_award",),
}
_STEPS = (
    *("consent", "evidence.tax", "evidence.procurement", "verification", "decision", "pledge_proof"),
    *("contract", "pledge", "payment", "books"),
)
_INVOICES_OFFERED = 3
_AIM_MS = 5_000
_HEADER = ("企业代号", "发票号码", "开票日期", "购方单位代号", "金额", "税额", "价税合计", "发票状态")
_DAYS = 730


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """An enterprise that applies: its wallet, and numbers of what it can offer, by product."""

    subject: str
    wallet: Path
    offers: dict[str, tuple[str, ...]]


class LoanNetwork:
    """The network in a folder; ``begin`` it, fill it, ``start`` it.

    Attributes:
        folder: of the network; ``homes`` by name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        issues = {member: [KINDS[each] for each in kinds] for member, kinds in _ISSUES.items()}
        make_network(
            folder, members=list(MEMBERS), observers=[], engine="embedded", network="loans", issues=issues
        )
        self.homes = {home.config.name: home for home in control.find_homes(folder)}

    @property
    def bank(self) -> Home:
        return self.homes["bank1"]

    def attest(self, enterprises: Sequence[GeneratedEnterprise], folder: Path) -> None:
        """Everything that there is about generated enterprises, each kind by its custodian."""
        folder.mkdir()
        for each in write_enterprises(enterprises, folder):
            member = next((name for name, kinds in _ISSUES.items() if each.kind in kinds), None)
            if member is not None:
                self._upload(member, each.path, "csv", each.mapping, each.through)

    def attest_invoices(self, path: Path) -> None:
        """Invoices of a file in the form of ``--source cumcm``."""
        self._upload("tax", path, "cumcm", None, AS_OF.isoformat())

    def _upload(self, member: str, path: Path, source: str, mapping: Path | None, through: str) -> None:
        plan = make_plan([path], source, mapping=mapping)
        outcome = upload_plan(self.homes[member].path, plan, through=through, quiet=True)
        if outcome.refused or not outcome.complete:
            raise SystemExit(f"{path}: could not be attested: {outcome.as_dict()}")

    def enter(self, subject: str, offers: dict[str, tuple[str, ...]] | None = None) -> Applicant:
        """A wallet for an enterprise, its key known to every custodian."""
        path = self.folder / f"{subject.replace(':', '-')}.wallet"
        made = create_wallet(path, subject)
        for member in _ISSUES:
            with connect(self.homes[member]) as client:
                client.register_subject(made.subject, made.public_key, authentication="at the counter")
        return Applicant(subject=made.subject, wallet=path, offers=offers or {})

    def open_lender(self) -> None:
        """The bank's lending folder."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if main(["lend", "init", "--home", str(self.bank.path)]) != 0:
                raise SystemExit("lend init failed")

    def consent(self, applicant: Applicant, product: str) -> bytes:
        """A new consent to what a product asks, signed and handed to nobody."""
        chosen = shipped_files().product(product)
        wish = product_wish(
            chosen,
            load_settings(lending_folder(self.bank.path)),
            subject=applicant.subject,
            recipient=self.bank.config.number,
            as_of=AS_OF,
        )
        with open_wallet(applicant.wallet) as wallet, contextlib.redirect_stderr(io.StringIO()):
            return sign_consent(wallet, self.bank, wish, yes=True).raw

    def lend(self, applicant: Applicant, product: str, name: str) -> dict[str, Any]:
        """An application at a new process of the bank (``lender.py``)."""
        job, consent = (self.folder / f"{name}.{suffix}" for suffix in ("json", "consent"))
        consent.write_bytes(self.consent(applicant, product))
        document = {
            "home": str(self.bank.path),
            "wallet": str(applicant.wallet),
            "product": product,
            "as_of": AS_OF.isoformat(),
            "consent": str(consent),
            "offers": applicant.offers.get(product, ()),
            "names": {str(home.config.number): name for name, home in self.homes.items()},
        }
        job.write_text(json.dumps(document))
        command = [sys.executable, "-m", "benchmarks.lender", str(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise SystemExit(f"a loan of the benchmark failed: {done.stderr[-2_000:]}")
        return dict(json.loads(done.stdout))


@contextlib.contextmanager
def running_loan_network(
    enterprises: int, sizes: Sequence[int] = ()
) -> Iterator[tuple[LoanNetwork, list[Applicant]]]:
    """The network with generated enterprises, and one of each size (``cumcm:E<size>``), all attested.

    Its nodes are started anew after that. Stopped at the end.
    """
    with tempfile.TemporaryDirectory(prefix="taxledger-loans-") as name:
        net = LoanNetwork(Path(name) / "net")
        try:
            control.start_network(net.folder)
            made = [generate_enterprise(seed) for seed in range(1, enterprises + 1)]
            net.attest(made, Path(name) / "files")
            if sizes:
                net.attest_invoices(_write_invoices(Path(name) / "invoices.csv", sizes))
            applicants = [net.enter(each.subject, _offers(each)) for each in made]
            net.open_lender()
            control.stop_network(net.folder)
            control.start_network(net.folder)
            yield net, applicants
        finally:
            control.stop_network(net.folder)


def _offers(made: GeneratedEnterprise) -> dict[str, tuple[str, ...]]:
    rows = made.records("vat_invoice")
    reversed_ = {each.fields.get("original") for each in rows}
    sales = [
        str(each.fields["number"])
        for each in rows
        if each.status == 1
        and each.fields["direction"] == "sale"
        and int(str(each.fields["net"])) > 0
        and each.fields["number"] not in reversed_
    ]
    award = made.award
    return {
        "invoice": tuple(sales[-_INVOICES_OFFERED:]),
        "procurement": () if award is None else (str(award.fields["number"]),),
    }


def _write_invoices(path: Path, sizes: Sequence[int]) -> Path:
    """Sales of the last 24 months; of the enterprise ``cumcm:E<size>`` so many."""
    made = Random(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for size in sizes:
            for number in range(size):
                day = AS_OF - timedelta(days=number * _DAYS // size)
                net = made.randrange(1_000, 5_000_000)
                tax = net * 13 // 100
                amounts = [f"{each / 100:.2f}" for each in (net, tax, net + tax)]
                party = f"B{made.randrange(1, 60):05}"
                writer.writerow(
                    (f"E{size}", f"{10_000_000 + number}", day.isoformat(), party, *amounts, "有效发票")
                )
    return path


def measure_loans(net: LoanNetwork, applicants: Sequence[Applicant]) -> list[Figure]:
    """Each applicant applies once, for one of the products in turn: medians by product and step."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, each in enumerate(applicants):
        product = PRODUCTS[number % len(PRODUCTS)]
        found[product].append(net.lend(each, product, f"bench{number}"))
    return [figure for product, loans in found.items() for figure in _figures(product, loans)]


def _figures(product: str, loans: Sequence[dict[str, Any]]) -> list[Figure]:
    n, totals = len(loans), [each["total"] for each in loans]
    figures = [
        Figure(
            name=f"loan.{product}.total",
            value=statistics.median(totals),
            unit="ms",
            n=n,
            aim=f"≤ {_AIM_MS}",
        ),
        Figure(name=f"loan.{product}.slowest", value=max(totals), unit="ms", n=n),
    ]
    for step in _STEPS:
        times = [each["steps"][step] for each in loans if step in each["steps"]]
        if times:
            figures.append(
                Figure(name=f"loan.{product}.{step}", value=statistics.median(times), unit="ms", n=len(times))
            )
    figures.append(
        Figure(
            name=f"loan.{product}.watch_after",
            value=statistics.median(each["watch"] for each in loans),
            unit="ms",
            n=n,
        )
    )
    return figures
