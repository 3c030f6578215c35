"""Networks of a walk, driven through the command line and HTTP alone."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from .stage import ROOT, Said, Stage
from .totals import Totals, add_files, data_files

__all__ = ["Network", "cumcm_files", "cumcm_network", "cumcm_totals", "fen", "sums_of"]

MEMBERS = ("tax", "bank1", "bank2", "bank3")
_PATIENCE_S = 90.0
_AGREE_S = 45.0


class Network:
    """A network folder and its commands."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self.policy = folder / "policy.txt"

    @classmethod
    def begin(cls, stage: Stage, folder: Path) -> Network:
        """A new running network of four."""
        net = cls(stage, folder)
        stage.taxledger("network", "create", folder, "--members", ",".join(MEMBERS))
        net.start()
        return net

    def start(self, *options: object) -> None:
        self.stage.closing.callback(self.stage.taxledger, "network", "stop", self.folder, ok=False)
        self.stage.taxledger("network", "start", self.folder, *options)

    def stop(self, *options: object) -> None:
        self.stage.taxledger("network", "stop", self.folder, *options)

    def home(self, member: str) -> Path:
        return self.folder / member

    def status(self) -> dict[str, dict[str, Any]]:
        said = self.stage.taxledger("network", "status", self.folder, "--json").json
        return {each["name"]: each for each in said}

    def kill(self, member: str) -> int:
        """SIGKILL to a node as soon as it runs; the process that died."""
        return int(self.wait(lambda: self._kill(member), f"{member} runs"))

    def _kill(self, member: str) -> int | None:
        pid = self.status()[member]["pid"]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid  # type: ignore[no-any-return]

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = _PATIENCE_S) -> Any:
        end = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
            time.sleep(0.2)
        return found

    def agree(self) -> dict[str, Any]:
        """The status of the first member, when all are at one height with one log root and state root."""

        def same() -> dict[str, Any] | None:
            status = self.status()
            facts = {(each["height"], each["log_root"], each["state_root"]) for each in status.values()}
            fine = all(each["writes"] == "ok" and each["pid"] for each in status.values())
            return status["tax"] if fine and len(facts) == 1 else None

        return self.wait(same, "all nodes have the same roots", _AGREE_S)  # type: ignore[no-any-return]

    def attest_arguments(self, files: Sequence[Path], *options: object) -> list[object]:
        return ["attest", "--home", self.home("tax"), "--source", "cumcm", "--json", *options, *files]

    def attest(self, files: Sequence[Path], *options: object, ok: bool = True) -> Said:
        return self.stage.taxledger(*self.attest_arguments(files, *options), ok=ok)

    def consent(self, member: str, subject: str, first: str, last: str, *options: object) -> Path:
        """The artefact of a new consent for a bank; wallet and key are made at a subject's first one."""
        run, name = self.stage.taxledger, subject.replace(":", "-")
        wallet = self.folder / f"{name}.wallet"
        if not wallet.exists():
            run("wallet", "create", wallet, "--subject", subject)
            run("subject", "register", "--home", self.home("tax"), "--wallet", wallet)
        artefact = self.folder / f"{name}-{member}-{time.monotonic_ns()}.consent"
        scope = ["--to", member, "--kind", "vat_invoice", "--from", first, "--until", last, *options]
        given = ["--home", self.home("tax"), "--wallet", wallet, "--yes", "-o", artefact]
        run("consent", "grant", *given, *scope)
        return artefact

    def ask(
        self, member: str, subject: str, first: str, last: str, output: Path, *, consent: Path | None = None
    ) -> dict[str, Any]:
        """A bank's disclosure under a consent (a new one, unless one is given), verified offline by the command;
        what it then says. Of the issuer: evidence.
        """
        question = ["--subject", subject, "--kind", "vat_invoice", "--from", first, "--to", last]
        under: list[object] = []
        verifier: list[object] = []
        if member != "tax":
            under = ["--consent", consent or self.consent(member, subject, first, last)]
            verifier = ["--recipient", MEMBERS.index(member) + 1]
        self.stage.taxledger("evidence", "get", "--home", self.home(member), *question, *under, "-o", output)
        said = self.stage.taxledger(
            "evidence", "verify", output, "--policy", self.policy, *question, *verifier, "--json"
        )
        return said.json  # type: ignore[no-any-return]

    def uses(self, member: str, subject: str) -> list[dict[str, Any]]:
        """Every use of a subject's consents, once all are closed, as its wallet proves them through a node."""
        wallet = self.folder / f"{subject.replace(':', '-')}.wallet"
        asked = ["consent", "uses", "--home", self.home(member), "--wallet", wallet, "--json"]

        def closed() -> list[dict[str, Any]] | None:
            uses: list[dict[str, Any]] = self.stage.taxledger(*asked).json["uses"]
            return None if any(each["state"] == "open" for each in uses) else uses

        return self.wait(closed, "all uses are closed", _AGREE_S)  # type: ignore[no-any-return]

    def ask_many(self, questions: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
        """The totals of many answers of the issuer's own node, each verified, through the client library
        (``ask.py``).
        """
        path = self.stage.work / "questions.json"
        path.write_text(json.dumps(questions))
        script = ROOT / "tests" / "acceptance" / "ask.py"
        said = self.stage.ok([self.stage.python, script, self.home("tax"), self.policy, path])
        return said.json  # type: ignore[no-any-return]

    def height(self, member: str) -> int:
        """Of the newest certified block, by the API."""
        _, status = self.http(member, "/v1/status")
        return int(json.loads(status)["height"])

    def http(self, member: str, path: str) -> tuple[int, bytes]:
        """GET with the home's own key."""
        access = json.loads((self.home(member) / "client.json").read_bytes())
        request = urllib.request.Request(
            access["url"] + path, headers={"Authorization": f"Bearer {access['key']}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()


def fen(amount: Decimal) -> int:
    """Exactly."""
    scaled = amount * 100
    if scaled != int(scaled):
        raise AssertionError(f"{amount} is no whole number of fen")
    return int(scaled)


def sums_of(totals: Sequence[dict[str, Any]], direction: str) -> tuple[int, int, int, int]:
    """(count, net, tax, gross) in fen of what counts: valid and reversed, each once."""
    rows = [row for row in totals if row["direction"] == direction and row["status"] in ("valid", "reversed")]
    count, net, tax, gross = (sum(row[name] for row in rows) for name in ("count", "net", "tax", "gross"))
    return count, net, tax, gross


# --- the real invoices ----------------------------------------------------------------------------


def cumcm_files(stage: Stage) -> list[Path]:
    if stage.data is None or not (stage.data / "cumcm2020c").is_dir():
        raise AssertionError("no real data: set TAXLEDGER_DATA to the folder that holds cumcm2020c")
    return data_files(stage.data / "cumcm2020c")


def cumcm_totals(stage: Stage) -> Totals:
    """The sums of the separate script, over all files."""
    if "totals" not in stage.kept:
        stage.kept["totals"] = add_files(cumcm_files(stage))
    return stage.kept["totals"]  # type: ignore[no-any-return]


def cumcm_network(stage: Stage) -> tuple[Network, dict[str, Any], float]:
    """A running network that holds all files; what ``attest --json`` said, and seconds taken.

    With a kept ``--work`` folder the network of an earlier walk is started again.
    """
    if "cumcm" not in stage.kept:
        folder, first = stage.work / "cumcm", stage.work / "cumcm.json"
        if first.exists():
            net = Network(stage, folder)
            net.start()
            said = json.loads(first.read_bytes())
        else:
            files = cumcm_files(stage)
            net = Network.begin(stage, folder)
            attested = net.attest(
                files, "--report", stage.work / "cumcm-report.csv", "--through", "2020-12-31"
            )
            said = {"seconds": attested.seconds, "said": attested.json}
            first.write_text(json.dumps(said))
        stage.kept["cumcm"] = net, said["said"], said["seconds"]
    return stage.kept["cumcm"]  # type: ignore[no-any-return]
