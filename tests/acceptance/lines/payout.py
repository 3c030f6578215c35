"""From the signed consent to the synced payment file: three products, nothing prepared before.

Once as ``make bench`` measures it (``benchmarks/loans.py``: a new enterprise, consent and bank process each, nodes that
were just started): that has to be within the aim. Once by the whole command line: there the time also holds the start
of two processes before the custodian has anything, so it is told, not judged.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..networks import Network
from ..stage import Finding, Line, Stage, check

_AS_OF = "2025-12-31"
_AIM_MS = 5_000
_TAX = ("vat_invoice", "tax_filing", "tax_credit_rating", "tax_arrears", "business_registration")
_ISSUES = {"tax": _TAX, "procurement": ("procurement_award",)}
_PRODUCTS = ("tax", "invoice", "procurement")
_SEED = 11


def run(stage: Stage) -> Iterator[Finding]:
    yield from _measured(stage)
    yield from _by_command_line(stage)


def _measured(stage: Stage) -> Iterator[Finding]:
    path = stage.work / "loans.json"
    command = [stage.python, "-m", "benchmarks", "--only", "loans", "--results", path]
    stage.ok(command, cwd=stage.clone())
    figures = {each["name"]: each for each in json.loads(path.read_bytes())}
    for product in _PRODUCTS:
        steps = {
            name.removeprefix(f"loan.{product}."): each["value"]
            for name, each in figures.items()
            if name.startswith(f"loan.{product}.")
        }
        total, slowest, _after = (steps.pop(name) for name in ("total", "slowest", "watch_after"))
        n = figures[f"loan.{product}.total"]["n"]
        spent = ", ".join(f"{name} {value:,.0f}" for name, value in steps.items())
        yield check(
            f"{product}: consent to payment file",
            f"{total:,.0f} ms, the slowest of {n} {slowest:,.0f} ms (aim ≤ {_AIM_MS:,}); of that {spent}",
            slowest <= _AIM_MS,
        )


# --- the command line -----------------------------------------------------------------------------


def _by_command_line(stage: Stage) -> Iterator[Finding]:
    files = stage.work / "payout-files"
    count = ("--enterprises", len(_PRODUCTS), "--profile", "good", "--seed", _SEED)
    made = stage.taxledger("generate", "--dir", files, *count, "--json").json
    net = _network(stage, made)
    for product, enterprise in zip(_PRODUCTS, made["enterprises"], strict=True):
        subject = enterprise["subject"]
        wallet = net.folder / f"{product}.wallet"
        stage.taxledger("wallet", "create", wallet, "--subject", subject)
        for member in _ISSUES:
            stage.taxledger("subject", "register", "--home", net.home(member), "--wallet", wallet)
        yield _lend(net, product, wallet, _offers(made["files"], product, subject))


def _network(stage: Stage, made: dict[str, Any]) -> Network:
    net = Network(stage, stage.work / "payout")
    issues = [
        option for name, kinds in _ISSUES.items() for option in ("--issues", f"{name}={','.join(kinds)}")
    ]
    members = ("--members", "tax,procurement,bank1,bank2")
    stage.taxledger("network", "create", net.folder, *members, *issues)
    net.start()
    for each in made["files"]:
        member = next((name for name, kinds in _ISSUES.items() if each["kind"] in kinds), None)
        if member is not None:
            given = ("--source", "csv", "--mapping", each["mapping"], "--through", _AS_OF, "--json")
            stage.taxledger("attest", "--home", net.home(member), *given, each["file"])
    stage.taxledger("lend", "init", "--home", net.home("bank1"))
    net.stop()
    net.start()
    return net


def _offers(files: list[dict[str, Any]], product: str, subject: str) -> list[object]:
    """The award of a procurement loan, by its number."""
    if product != "procurement":
        return []
    path = next(each["file"] for each in files if each["kind"] == "procurement_award")
    with open(path, encoding="utf-8", newline="") as text:
        rows = [row for row in csv.DictReader(text) if f"uscc:{row['统一社会信用代码']}" == subject]
    return ["--security", rows[0]["编号"]]


def _lend(net: Network, product: str, wallet: Path, offers: list[object]) -> Finding:
    home, run = ("--home", net.home("bank1"), "--wallet", wallet), net.stage.taxledger
    apply = ["lend", "apply", *home, "--product", product, "--as-of", _AS_OF, *offers, "--yes", "--json"]
    applied = run(*apply)
    offer = applied.json["offer"]
    given: list[object] = ["--amount", f"{offer['limit'] // 200}.00", "--term", 6, "--json"]
    if offer["account"] is None:
        given += ["--account", "6222020200112233445", "--holder", "示例企业", "--bank", "DEMOCNBJXXX"]
    accepted = run("lend", "accept", applied.json["loan"], *home, *given)
    paid = net.home("bank1") / "lending" / "payments" / f"{accepted.json['draws'][0]['reference']}.xml"
    seconds = applied.seconds + accepted.seconds
    return check(
        f"{product} by the command line, with the start of two processes",
        f"{seconds:.2f} s ({'within' if seconds * 1_000 <= _AIM_MS else 'beyond'} {_AIM_MS:,} ms): lend apply "
        f"{applied.seconds:.2f} s, lend accept {accepted.seconds:.2f} s; "
        f"{len(accepted.json['pledges'])} pledges, {paid.name}",
        accepted.json["state"] == "paid_out" and paid.is_file(),
    )


LINE = Line(name="payout", title="consent to payment file in at most 5 s, for three products", run=run)
