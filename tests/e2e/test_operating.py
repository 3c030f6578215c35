"""docs/operating.md, "Four machines, step by step": its commands, run as they stand there; and the systemd units."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machines, machines

from network import until
from taxledger.ledger.errors import InputError
from taxledger.nodes.local.network import free_ports
from taxledger.nodes.ordering.cometbft.binary import check_engine

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"
NAMES = ("tax", "bank1", "bank2", "bank3")


def blocks() -> list[tuple[str, list[str]]]:
    """(machine, commands) of each block of the chapter that names a machine."""
    text = (ROOT / "docs" / "operating.md").read_text("utf-8")
    chapter = text.partition("## Four machines, step by step\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```sh(?: ([a-z0-9]+))?\n(.*?)^```$", chapter, re.S | re.M)
    return [(machine, [line for line in body.splitlines() if line]) for machine, body in found]


class Book:
    """Plays the chapter: names of machines become folders, their addresses ports of this machine."""

    def __init__(self, net: Machines) -> None:
        self.net = net
        self.ports = {name: free_ports(3) for name in (*NAMES, "bank4")}
        self.proposal = ""
        self.ran = 0

    def put(self, line: str, machine: str) -> str:
        api, peer, order = self.ports[machine]
        line = line.replace("$NAME", machine).replace("PROPOSAL", self.proposal)
        line = line.replace("http://127.0.0.1:8700", f"http://127.0.0.1:{api}")
        line = re.sub(r"https://[a-z0-9]+\.example:8701", f"https://127.0.0.1:{peer}", line)
        line = re.sub(r"[a-z0-9]+\.example:8702", f"127.0.0.1:{order}", line)
        line = re.sub(r"/var/lib/taxledger/([a-z0-9]+)", rf"{self.net.folder}/\1/home", line)
        return line.replace("/var/lib/taxledger", f"{self.net.folder}/{machine}")

    def run(self, line: str, machine: str) -> str:
        self.ran += 1
        if line.startswith("printf "):
            subprocess.run(["/bin/sh", "-c", line], check=True)
            return ""
        program, *arguments = shlex.split(self.put(line, machine))
        assert program == "taxledger", line
        if arguments[:2] == ["member", "init"]:
            (self.net.folder / machine).mkdir()
            arguments += [
                "--engine",
                self.net.engine,
                *(["--issues", "vat_invoice"] if machine == "tax" else []),
            ]
        if arguments[:2] == ["network", "assemble"]:
            sequencer = ["--sequencer", "tax"] if self.net.engine == "embedded" else []
            arguments += ["--engine", self.net.engine, *sequencer]
        said = self.net.run(*arguments)
        if found := re.search(r"^proposal ([0-9a-f]{32})$", said, re.M):
            self.proposal = found[1]
        return said


@pytest.fixture(params=["embedded", pytest.param("cometbft", marks=pytest.mark.slow)])
def book(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Book]:
    if request.param == "cometbft":
        try:
            check_engine()
        except InputError:
            pytest.skip("needs CometBFT")
    monkeypatch.setenv("TAXLEDGER_WALLET_PASSPHRASE", "a passphrase of the test")
    with machines(tmp_path, capsys, engine=request.param) as net:
        monkeypatch.chdir(net.post)
        yield Book(net)


def test_the_chapter_works_as_it_is_written(book: Book) -> None:
    net, started = book.net, False
    for machine, lines in blocks():
        if not machine:  # what needs root: installing, and the services that the test plays below
            assert all(line.startswith(("sudo ", "taxledger member replace ")) for line in lines), lines
            if any("enable --now" in line for line in lines):
                net.start(*NAMES)
                net.agree(*NAMES)
                started = True
            continue
        for line in lines:
            for name in NAMES if machine == "every" else (machine,):
                if line.startswith("taxledger member approve"):
                    until(lambda name=name: book.proposal in net.proposals(name), "it is known")
                if line.startswith("taxledger policy update"):
                    net.follow(name)  # the command, again and again until the change is in force
                said = book.run(line, name)
                if "evidence verify" in line:
                    assert "verified" in said
                if line.startswith("taxledger network status"):
                    assert name in said
                    assert " ok" in said
                if line.startswith("taxledger member enter --home /var/lib/taxledger/bank4"):
                    net.start("bank4")
    assert started
    assert book.ran > 30
    net.agree(*NAMES, "bank4")


@pytest.mark.parametrize("unit", ["taxledger-node@.service", "taxledger-engine@.service"])
def test_units_are_restarted_and_confined(unit: str) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / unit).read_text())
    service = parser["Service"]
    expected = {
        "User": "taxledger",
        "Restart": "always",
        "RestartPreventExitStatus": "2",
        "NoNewPrivileges": "true",
        "ProtectSystem": "strict",
        "ReadWritePaths": "/var/lib/taxledger/%i",
        "CapabilityBoundingSet": "",
        "UMask": "0077",
    }
    assert {name: service[name] for name in expected} == expected
    module = service["ExecStart"].split()[2]
    assert module in ("taxledger.nodes.node", "taxledger.nodes.ordering.cometbft.run")
    help_said = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--home" in help_said.stdout


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    paths = []
    for kind in ("node", "engine"):
        text = (UNITS / f"taxledger-{kind}@.service").read_text()
        path = tmp_path / f"taxledger-{kind}@tax.service"
        path.write_text(text.replace("/opt/taxledger/bin/python", sys.executable))
        paths.append(str(path))
    done = subprocess.run(
        [program, "verify", *paths], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "taxledger" in line]
    assert done.returncode == 0, done.stderr
    assert not ours, ours
