"""``taxledger demo``: the main job from beginning to end, on this machine and with generated data.

A network of a tax office and three banks; a portfolio of enterprises is attested; an enterprise consents, a bank gets
its dossier and verifies it; a tampered copy is refused, and so is the bank once the consent is revoked; the
enterprise sees each use; a bank's node is killed and comes back to the same roots.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError, UnavailableError, VerificationError
from taxledger.nodes.cli import demoshare, evidence, ledger
from taxledger.nodes.cli.attest import upload_plan
from taxledger.nodes.cli.attestplan import make_plan
from taxledger.nodes.cli.network import make_network, require_node_packages
from taxledger.nodes.cli.output import money, say, write_file

if TYPE_CHECKING:
    from taxledger.ledger.answer import Answer
    from taxledger.ledger.query import Query
    from taxledger.nodes.control import NodeFacts
    from taxledger.nodes.generator import Portfolio

__all__ = ["register", "run_demo"]

_MEMBERS = ["tax", "bank1", "bank2", "bank3"]
_KINDS = ("vat_invoice", "tax_filing", "tax_credit_rating")
_MARKER = ".taxledger-demo"
_COUNTS = ("accepted", "amended", "duplicates", "rejected")
_CATCH_UP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Where the demo lies."""

    folder: Path

    @property
    def network(self) -> Path:
        return self.folder / "network"

    @property
    def policy(self) -> Path:
        return self.network / "policy.txt"

    def home(self, member: str) -> Path:
        return self.network / member


def _step(number: int, text: str) -> None:
    say(f"\n[{number}/8] {text}")


def _prepare(folder: Path) -> None:
    """An empty folder; one that an earlier demo left is cleared, anything else is kept."""
    from taxledger.nodes.control import stop_network

    if (folder / _MARKER).exists():
        if (folder / "network" / "policy.txt").exists():
            stop_network(folder / "network")
        shutil.rmtree(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not an earlier demo: choose another with --dir")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text("A folder of `taxledger demo`; the next demo replaces it.\n", "utf-8")


@contextmanager
def _running(network: Path) -> Iterator[None]:
    """The network runs inside, and never outlives it."""
    from taxledger.nodes.control import start_network, stop_network

    try:
        start_network(network)
        yield
    finally:
        stop_network(network)


def _facts(stage: _Stage, member: str) -> NodeFacts:
    from taxledger.nodes.control import network_status

    return next(each for each in network_status(stage.network) if each.name == member)


def _wait(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _CATCH_UP_S
    while not condition():
        if time.monotonic() > end:
            raise UnavailableError(f"{what} did not happen within {_CATCH_UP_S:.0f} s")
        time.sleep(0.1)


def _show_status(stage: _Stage) -> None:
    from taxledger.nodes.control import network_status

    for each in network_status(stage.network):
        say(f"  {each.name:6} {each.role:10} pid {each.pid}  height {each.height}  writes {each.writes}")


def _attest(stage: _Stage, portfolio: Portfolio) -> None:
    from taxledger.nodes.generated_files import write_portfolio

    sources = stage.folder / "sources"
    sources.mkdir()
    for file in write_portfolio(portfolio, sources):
        plan = make_plan([file.path], "csv", mapping=file.mapping, kind=file.kind)
        begin = time.monotonic()
        through = file.through or None
        outcome = upload_plan(stage.home("tax"), plan, through=through, quiet=True)
        taken = time.monotonic() - begin
        counts = ", ".join(f"{outcome.sum(name):,} {name}" for name in _COUNTS)
        warnings = sum(len(each.warnings) for each in outcome.files)
        say(
            f"  {file.path.name}: {outcome.sum('rows'):,} rows = {counts}; {warnings} warnings; {taken:.1f} s"
        )


def _compare(portfolio: Portfolio, query: Query, answer: Answer) -> None:
    """Hold the verified answer against sums taken straight from the generated rows."""
    from taxledger.ledger.answer import totals

    code = query.subject.removeprefix("uscc:")
    rows = {row for row in portfolio.invoices if row.enterprise == code and not row.voided}
    for direction in ("sale", "purchase"):
        chosen = [row for row in rows if row.direction == direction]
        expected = tuple(sum(getattr(row, name) for row in chosen) for name in ("net", "tax", "gross"))
        found = [
            row
            for row in totals(answer)
            if row["kind"] == "vat_invoice"
            and row["direction"] == direction
            and row["status"] in ("valid", "reversed")
        ]
        got = tuple(sum(row[name] for row in found) for name in ("net", "tax", "gross"))
        if got != expected:
            raise VerificationError("record_mismatch", f"sums of {direction}", expected=expected, got=got)
        sums = " ".join(
            f"{name} {money(value)}" for name, value in zip(("net", "tax", "gross"), got, strict=True)
        )
        say(f"  {direction} sums equal those of the source files to the cent: {sums}")


def _question(portfolio: Portfolio) -> Query:
    chosen = portfolio.enterprises[2]
    return evidence.make_query(chosen.subject, _KINDS, portfolio.first_month, portfolio.last_month, 1)


def _ask(stage: _Stage, query: Query, sharing: demoshare.Sharing) -> tuple[Path, Answer]:
    path = stage.folder / f"{query.subject.removeprefix('uscc:')}.disclosure"
    say(f"  bank1 asks for {', '.join(_KINDS)}, {query.from_period} to {query.to_period}")
    demoshare.disclose(stage.home("bank1"), query, sharing, path)
    disclosed = demoshare.verify_file(path, stage.policy.read_bytes(), query, sharing.recipient)
    answer = disclosed.answer
    say(
        f"  {path.stat().st_size:,} bytes, {len(answer.records)} records, {answer.proof_bytes:,} bytes of proof, "
        f"{disclosed.consent_bytes:,} of consent and use"
    )
    evidence.print_answer(answer)
    return path, answer


def _tamper(stage: _Stage, path: Path, query: Query, answer: Answer, recipient: int) -> None:
    """Make one invoice larger by a yuan, as someone on the way could, and verify that copy."""
    from taxledger.ledger import canonical

    data = path.read_bytes()
    record = next(each for each in answer.records if each.values and "gross" in each.schema.position)
    values = list(record.values or ())
    at = record.schema.position["gross"]
    before = canonical.encode(values)
    values[at] = int(values[at] or 0) + 100
    after = canonical.encode(values)
    forged = stage.folder / "tampered.disclosure"
    write_file(forged, data.replace(before, after, 1), private=True)
    say(f"  one invoice made larger by 1.00 in {forged}")
    try:
        demoshare.verify_file(forged, stage.policy.read_bytes(), query, recipient)
    except VerificationError as refusal:
        say(f"  refused: {refusal}")
        say(f"    expected {refusal.expected}")
        say(f"    got      {refusal.got}")
        return
    raise VerificationError("use_mismatch", "a tampered file was not refused")


def _kill_and_restart(stage: _Stage) -> None:
    before = _facts(stage, "bank2")
    if before.pid is None:
        raise UnavailableError("bank2 does not run")
    os.kill(before.pid, signal.SIGKILL)
    say(f"  bank2 (pid {before.pid}) killed with SIGKILL")
    _wait("the restart of bank2", lambda: _facts(stage, "bank2").pid not in (None, before.pid))
    leader = _facts(stage, "tax")

    def caught_up() -> bool:
        now = _facts(stage, "bank2")
        return (now.height or 0) >= (leader.height or 0) and now.writes == "ok"

    _wait("the catching up of bank2", caught_up)
    after, leader = _facts(stage, "bank2"), _facts(stage, "tax")
    say(f"  the supervisor started it again (pid {after.pid}); height {after.height}")
    same = (after.log_root, after.state_root) == (leader.log_root, leader.state_root)
    say(f"  log root   {after.log_root}")
    say(f"  state root {after.state_root}")
    if after.height == leader.height and not same:
        raise VerificationError("map_proof_invalid", "bank2 came back to other roots than tax")
    say("  the same as the tax office's" if same else f"  tax is at height {leader.height} by now")


def _audit(stage: _Stage) -> None:
    report, differences = ledger.audit_path(stage.home("bank3"), stage.policy.read_bytes())
    if not report.ok or differences:
        raise VerificationError("inclusion_invalid", "the audit of bank3 found something: " + str(report))
    held = sum(each.status == "ok" for each in report.verdicts)
    say(
        f"  bank3's ledger replayed from leaf 0: {held} invariants hold, "
        f"{report.transactions} transactions, {report.signatures:,} signatures"
    )


def run_demo(folder: Path, *, seed: int, enterprises: int) -> None:
    """Everything ``taxledger demo`` does; the network is stopped at the end, whatever happens."""
    from taxledger.nodes.generator import generate

    begin = time.monotonic()
    _prepare(folder)
    stage = _Stage(folder=folder)
    _step(1, "A network of four members, each its own process")
    make_network(stage.network, members=_MEMBERS, observers=[], engine="embedded", network="demo")
    with _running(stage.network):
        _show_status(stage)
        portfolio = generate(seed, enterprises=enterprises)
        _step(2, f"The tax office attests a portfolio of {enterprises} made-up enterprises (seed {seed})")
        _attest(stage, portfolio)
        query = _question(portfolio)
        _step(3, "An enterprise makes a wallet, registers its key, and consents that a bank may ask")
        sharing = demoshare.give_consent(stage.home("tax"), stage.home("bank1"), query, stage.folder)
        _step(
            4, "The bank asks under the consent, and verifies the disclosure offline with its own policy file"
        )
        path, answer = _ask(stage, query, sharing)
        _compare(portfolio, query, answer)
        _step(5, "A tampered copy is refused")
        _tamper(stage, path, query, answer, sharing.recipient)
        _step(
            6,
            "The enterprise revokes; it sees all its consents and uses, proved, through another bank's node",
        )
        demoshare.revoke(stage.home("tax"), stage.home("bank1"), query, sharing)
        demoshare.show_uses(stage.home("bank3"), sharing)
        _step(7, "A bank's node is killed and comes back")
        _kill_and_restart(stage)
        _show_status(stage)
    _step(8, "The network is stopped; an auditor replays a bank's folder")
    _audit(stage)
    say(f"\ndone in {time.monotonic() - begin:.0f} s. The disclosure: {path}")
    say("verify it yourself (within ten minutes, or with --max-age):")
    kinds = " ".join(f"--kind {kind}" for kind in _KINDS)
    say(
        f"  taxledger evidence verify {path} --policy {stage.policy} --recipient {sharing.recipient} "
        f"--subject {query.subject} {kinds} --from {query.from_period} --to {query.to_period}"
    )


def demo(
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to leave the files.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the generated portfolio.")] = 2026,
    enterprises: Annotated[int, typer.Option("--enterprises", min=3, max=500, help="How many.")] = 12,
) -> None:
    """The main job: four nodes, a portfolio, a consent, a verified answer, a refused forgery, a revocation.

    Example: taxledger demo --dir demo
    """
    require_node_packages()
    folder = directory or Path(tempfile.mkdtemp(prefix="taxledger-demo-"))
    run_demo(folder.absolute(), seed=seed, enterprises=enterprises)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
