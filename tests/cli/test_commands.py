"""The command line against running nodes: what a new user types, with generated data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from custodykit import row, write_cumcm
from einvoicekit import REFERENCE, ubl

from taxledger.nodes.cli.main import main
from taxledger.nodes.generated_files import write_portfolio
from taxledger.nodes.generator import Portfolio, generate

NODE_PACKAGES = [
    "plyvel",
    "fastapi",
    "starlette",
    "uvicorn",
    "aiohttp",
    "openpyxl",
    "structlog",
    "defusedxml",
]


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs a command line in this process and keeps what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Said:
        self._capsys.readouterr()
        status = main([str(each) for each in arguments])
        said = self._capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(status, said.out, said.err)

    def ok(self, *arguments: object) -> Said:
        said = self(*arguments)
        assert said.status == 0, said
        return said


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    return generate(7, enterprises=3, first_month="2024-01", last_month="2024-03")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, portfolio: Portfolio) -> Iterator[Path]:
    """A running network of two members, with the portfolio's sales attested."""
    folder = tmp_path_factory.mktemp("commands")
    net = folder / "net"
    assert main(["network", "create", str(net), "--members", "tax,bank1"]) == 0
    assert main(["network", "start", str(net)]) == 0
    try:
        (folder / "sources").mkdir()
        sales, purchases, _, ratings = write_portfolio(portfolio, folder / "sources")
        for file, through in ((sales, []), (purchases, ["--through", "2024-03-31"])):
            files = ["--mapping", str(file.mapping), *through, str(file.path)]
            assert main(["attest", "--home", str(net / "tax"), "--source", "csv", *files]) == 0
        assert ratings.path.exists()
        yield net
    finally:
        assert main(["network", "stop", str(net)]) == 0


@pytest.fixture
def question(portfolio: Portfolio) -> list[str]:
    subject = portfolio.enterprises[0].subject
    return ["--subject", subject, "--kind", "vat_invoice", "--from", "2024-01", "--to", "2024-03"]


@pytest.fixture
def evidence(net: Path, shell: Shell, question: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "answer.evidence"
    said = shell.ok("evidence", "get", "--home", net / "tax", *question, "-o", path)
    assert "verified: height" in said.out
    return path


def test_status(net: Path, shell: Shell) -> None:
    members = shell.ok("network", "status", net, "--json").json
    assert [(each["name"], each["role"]) for each in members] == [
        ("tax", "sequencer"),
        ("bank1", "validator"),
    ]
    for each in members:
        assert set(each) == {
            *(
                "name",
                "role",
                "pid",
                "url",
                "height",
                "engine_pid",
                "engine_height",
                "log_root",
                "state_root",
                "certified_time_ms",
                "writes",
            )
        }
        assert each["writes"] == "ok"
        assert each["pid"] > 0
        assert len(each["log_root"]) == len(each["state_root"]) == 64
    assert "writes" in shell.ok("network", "status", net).out


def test_attest_again_is_duplicates(net: Path, shell: Shell) -> None:
    sources = net.parent / "sources"
    mapping = sources / "sales.toml"
    files = ["--source", "csv", "--mapping", mapping, sources / "sales.csv"]
    said = shell.ok("attest", "--home", net / "tax", *files, "--json").json
    assert said["rows"] == said["duplicates"] > 0
    assert said["files"][0]["totals"][0]["direction"] == "sale"
    text = shell.ok("attest", "--home", net / "tax", *files).out
    assert "duplicates" in text
    assert "control totals" in text


def test_dry_run_and_report(net: Path, shell: Shell, tmp_path: Path) -> None:
    sources = net.parent / "sources"
    lines = (sources / "ratings.csv").read_text("utf-8").splitlines()
    bad = tmp_path / "ratings.csv"
    bad.write_text("\n".join([*lines, lines[1].replace("2024", "MMXX")]) + "\n", "utf-8")
    report = tmp_path / "rejected.csv"
    files = ["--source", "csv", "--mapping", sources / "ratings.toml", "--report", report, bad]
    said = shell("attest", "--home", net / "tax", *files, "--dry-run", "--json")
    assert said.status == 1
    assert (said.json["accepted"], said.json["rejected"], said.json["dry_run"]) == (3, 1, True)
    assert "年度" in report.read_text("utf-8-sig")
    again = shell("attest", "--home", net / "tax", *files, "--dry-run", "--json")
    assert again.json["accepted"] == 3


def test_files_of_any_format_are_told_from_their_content(net: Path, shell: Shell, tmp_path: Path) -> None:
    credit = ubl(root="CreditNote", number="C-1", references=REFERENCE.format("R-1"))
    made = {"a/invoice.csv": ubl(), "a/credit": credit, "broken": ubl()[:-9], "notes.txt": "nothing"}
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name, text in made.items():
        (tmp_path / "in" / name).write_text(text, "utf-8")
    write_cumcm(tmp_path / "in" / "table", [row(1), row("x")])
    report = tmp_path / "report.csv"
    files = ["attest", "--home", net / "tax", "--source", "auto", tmp_path / "in", "--report", report]
    said = shell(*files, "--through", "2024-03-31", "--json")
    assert said.status == 1, "two files and a row were refused"
    counted = ("rows", "accepted", "amended", "duplicates", "rejected")
    assert [said.json[name] for name in counted] == [4, 3, 0, 0, 1]
    told = {Path(each["file"]).name: (each["format"], each["kind"]) for each in said.json["files"]}
    invoice = "vat_invoice"
    assert told == {
        "credit": ("ubl", invoice), "invoice.csv": ("ubl", invoice), "broken": ("ubl", invoice),
        "notes.txt": (None, None), "table": ("cumcm", invoice),
    }  # fmt: skip
    errors = {Path(each["file"]).name: each["error"] for each in said.json["files"] if each["error"]}
    assert "not well-formed" in errors["broken"]
    assert "expected a file of a known format" in errors["notes.txt"]
    assert any("not moved to 2024-03-31" in note for note in said.json["notes"])
    assert report.read_text("utf-8-sig").count("file_unreadable") == 2
    again = shell(*files)
    assert again.status == 1
    assert "control totals, vat_invoice" in again.out
    assert "EUR" in again.out
    assert "notes.txt: expected a file of a known format" in again.err
    side = shell.ok(*files[:5], tmp_path / "in" / "a", "--side", "purchase", "--dry-run", "--json").json
    assert {total["direction"] for each in side["files"] for total in each["totals"]} == {"purchase"}


AWARD = """{"uri": "x", "publishedDate": "2024-01-01T00:00:00Z", "publisher": {"name": "P"}, "version": "1.1",
"releases": [{"ocid": "ocds-213czf-1", "id": "1", "date": "2024-01-05T00:00:00Z", "tag": ["award"], "language": "en",
"buyer": {"id": "B1", "name": "City"}, "parties": [{"id": "S1", "name": "Supplier Ltd", "roles": ["supplier"],
"identifier": {"scheme": "GB-COH", "id": "01234567"}}], "awards": [{"id": "A1", "title": "Works", "status": "active",
"date": "2024-01-04T00:00:00Z", "value": {"amount": 1000.50, "currency": "GBP"},
"suppliers": [{"id": "S1", "name": "Supplier Ltd"}]}]}]}"""


def test_files_of_several_kinds_are_one_command(net: Path, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "award").write_text(AWARD, "utf-8")
    (tmp_path / "invoice").write_text(ubl(number="R-7"), "utf-8")
    files = ["attest", "--home", net / "tax", tmp_path]
    mixed = shell(*files, "--through", "2024-03-31")
    assert mixed.status == 2
    assert "--through is said of one kind" in mixed.err
    said = shell.ok(*files, "--json").json
    assert (said["accepted"], len(said["batches"])) == (2, 2)
    assert [each["kind"] for each in said["files"]] == ["procurement_award", "vat_invoice"]
    text = shell.ok(*files).out
    assert "control totals, procurement_award" in text
    assert "control totals, vat_invoice" in text
    assert "1,000.50" in text
    assert "holds" in shell(*files, "--kind", "vat_invoice").err


def test_evidence(evidence: Path, net: Path, shell: Shell, question: list[str], portfolio: Portfolio) -> None:
    verify = ["evidence", "verify", evidence, "--policy", net / "policy.txt", *question]
    said = shell.ok(*verify, "--json").json
    assert (said["verified"], said["code"], said["complete"]) == (True, None, {"vat_invoice": True})
    shown = shell.ok("evidence", "show", evidence, "--json").json
    assert shown["totals"] == said["totals"]
    code = portfolio.enterprises[0].code
    rows = {row for row in portfolio.invoices if row.enterprise == code}
    assert len(shown["records"]) == len(rows)
    for name in ("net", "tax", "gross"):
        expected = sum(getattr(row, name) for row in rows if not row.voided)
        assert sum(row[name] for row in said["totals"] if row["status"] != "voided") == expected
    assert "not verified" in shell.ok("evidence", "show", evidence).out
    assert "complete through 2024-03-31 (the whole range)" in shell.ok(*verify).out


def test_verifies_without_the_packages_of_a_node(evidence: Path, net: Path, question: list[str]) -> None:
    """As after ``pip install taxledger`` alone: importing any of them fails."""
    code = f"""
import sys
for name in {NODE_PACKAGES!r}:
    sys.modules[name] = None
from taxledger.nodes.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    verify = ["evidence", "verify", evidence, "--policy", net / "policy.txt", *question]
    run = partial(subprocess.run, capture_output=True, text=True, check=False)
    said = run([sys.executable, "-c", code, *map(str, verify)])
    assert said.returncode == 0, said
    assert said.stdout.startswith("verified: height")
    said = run([sys.executable, "-c", code, "network", "start", str(net)])
    assert said.returncode == 1
    assert said.stderr.startswith("taxledger: this command needs")
    said = run([sys.executable, "-c", code, "attest", "--home", str(net / "tax"), str(evidence)])
    assert said.stderr.startswith("taxledger: this command needs defusedxml")
    archive = net / "tax" / "genesis.bin"
    said = run([sys.executable, "-c", code, "audit", str(archive)])
    assert said.stderr == "taxledger: this command needs plyvel: pip install 'taxledger[node]' installs it\n"


def test_refusals(evidence: Path, net: Path, shell: Shell, question: list[str], tmp_path: Path) -> None:
    verify = ["evidence", "verify", evidence, "--policy", net / "policy.txt"]
    later = shell(*verify, *question, "--at", "2099-01-01T00:00:00Z", "--json")
    assert later.status == 1
    assert (later.json["verified"], later.json["code"]) == (False, "checkpoint_stale")
    assert shell(*verify, *question, "--at", "2099-01-01T00:00:00Z", "--max-age", "40000d").status == 0
    engine = shell(*verify, *question, "--require-engine", "cometbft")
    assert engine.status == 1
    assert "refused: policy_mismatch" in engine.out
    other = [*question[:-1], "2024-02"]
    assert "refused: query_mismatch" in shell(*verify, *other).out
    forged = tmp_path / "forged"
    data = bytearray(evidence.read_bytes())
    data[-40] ^= 1
    forged.write_bytes(data)
    said = shell("evidence", "verify", forged, "--policy", net / "policy.txt", *question, "--json")
    assert said.status == 1
    assert said.json["code"]


def test_verified_get_only(net: Path, shell: Shell, question: list[str], tmp_path: Path) -> None:
    unknown = ["--subject", "cumcm:E9", *question[2:]]
    said = shell.ok(
        "evidence", "get", "--home", net / "tax", *unknown, "-o", tmp_path / "none.evidence", "--json"
    )
    assert said.json["records"] == 0
    for home, issuer in (("tax", "9"), ("bank1", "9"), ("bank1", "1")):
        asked = [*question, "--issuer", issuer, "-o", tmp_path / "no"]
        said = shell("evidence", "get", "--home", net / home, *asked)
        assert said.status == 1
        assert "consent_missing" in said.err
    assert not (tmp_path / "no").exists()


def test_change_and_history(evidence: Path, net: Path, shell: Shell) -> None:
    records = shell.ok("evidence", "show", evidence, "--json").json["records"]
    first, second = [each["key"] for each in records if each["status"] == "valid"][:2]
    issuer = ["--home", net / "tax"]
    said = shell.ok(
        "amend", *issuer, "--record", first, "--reason", "typing error", "--set", "goods=*纸*纸箱"
    )
    assert "amend is certified at height" in said.out
    shell.ok("amend", *issuer, "--record", first, "--reason", "voided by both", "--status", "voided")
    shell.ok("revoke", *issuer, "--record", second, "--reason", "someone else's")
    history = shell.ok("record", "show", first, *issuer, "--json").json
    assert [(each["operation"], each["version"], each["status"]) for each in history] == [
        ("attest", 1, "valid"),
        ("amend", 2, "valid"),
        ("amend", 3, "voided"),
    ]
    assert [each.get("text") for each in history] == [None, "typing error", "voided by both"]
    assert all(each["by"] == "tax" for each in history)
    revoked = shell.ok("record", "show", second, *issuer, "--json").json[-1]
    assert (revoked["operation"], revoked["status"], revoked["text"]) == (
        "revoke",
        "revoked",
        "someone else's",
    )
    seen = shell.ok("record", "show", second, "--home", net / "bank1")
    assert "attested in error" in seen.out
    assert "someone else's" not in seen.out
    back = shell("amend", *issuer, "--record", first, "--reason", "undo", "--status", "valid")
    assert back.status == 1
    assert "transition_invalid" in back.err


def test_export_and_audit(net: Path, shell: Shell, tmp_path: Path) -> None:
    archive = tmp_path / "ledger.archive"
    shell.ok("export", "--home", net / "bank1", "-o", archive)
    said = shell.ok("audit", archive, "--policy", net / "policy.txt", "--json").json
    assert said["ok"]
    assert all(each["status"] == "ok" for each in said["invariants"])
    assert "everything holds" in shell.ok("audit", net / "bank1").out
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    damaged = shell("audit", tmp_path / "damaged")
    assert damaged.status == 1
    assert "NOT in order" in damaged.out


def test_a_bank_is_no_issuer(net: Path, shell: Shell) -> None:
    sources = net.parent / "sources"
    files = ["--source", "csv", "--mapping", sources / "sales.toml", sources / "sales.csv"]
    said = shell("attest", "--home", net / "bank1", *files)
    assert said.status == 2
    assert "bank1 is no issuer" in said.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["attest", "--home", "HOME", "--source", "pdf", "FILE"], "auto, csv or one of cumcm"),
        (["attest", "--home", "HOME", "--source", "csv", "FILE"], "needs --mapping"),
        (["attest", "--home", "HOME", "--source", "cumcm", "--mapping", "FILE", "FILE"], "for --source csv"),
        (["attest", "--home", "HOME", "--source", "cumcm", "--kind", "tax_filing", "FILE"], "vat_invoice"),
        (["attest", "--home", "HOME", "--source", "cumcm", "--subject", "E1", "FILE"], "scheme"),
        (["attest", "--home", "NET", "--source", "cumcm", "FILE"], "one of its homes: bank1, tax"),
        (["attest", "--home", "HOME", "--source", "cumcm", "/nowhere"], "/nowhere"),
        (["network", "create", "NET"], "not an empty folder"),
        (["network", "create", "NET/x", "--members", "a,,b"], "commas"),
        (["network", "start", "NET", "--member", "bank9"], "tax, bank1"),
        (["record", "show", "00", "--home", "HOME"], "37 bytes"),
        (["record", "show", "02" * 37, "--home", "HOME"], "record key"),
        (["amend", "--home", "HOME", "--record", "KEY", "--reason", "x", "--status", "new"], "valid|voided"),
        (
            ["amend", "--home", "HOME", "--record", "KEY", "--reason", "x", "--set", "colour=red"],
            "FIELD=VALUE",
        ),
        (["amend", "--home", "HOME", "--record", "KEY", "--reason", "x", "--set", "net=1.234"], "--set net"),
        (["audit", "/nowhere"], "cannot read"),
    ],
)
def test_wrong_usage(net: Path, shell: Shell, arguments: list[str], expected: str) -> None:
    key = (b"\x01\x00\x01\x05" + bytes(33)).hex()
    known = {"HOME": net / "tax", "NET": net, "FILE": net / "policy.txt", "KEY": key, "NET/x": net / "x"}
    said = shell(*(known.get(each, each) for each in arguments))
    assert said.status == 2, said
    assert expected in said.err


def test_member_stops_and_starts(net: Path, shell: Shell) -> None:
    assert "bank1 is stopped" in shell.ok("network", "stop", net, "--member", "bank1").out
    tax, bank = shell.ok("network", "status", net, "--json").json
    assert (bank["pid"], bank["height"]) == (None, None)
    assert tax["pid"] > 0
    assert "bank1 was not running" in shell.ok("network", "stop", net, "--member", "bank1").out
    assert "everything holds" in shell.ok("audit", net / "bank1").out  # the folder itself
    assert "does the network run?" in shell("export", "--home", net / "bank1", "-o", net / "x").err
    shell.ok("network", "start", net, "--member", "bank1", "--no-restart")
    bank = shell.ok("network", "status", net, "--json").json[1]
    os.kill(bank["pid"], signal.SIGKILL)
    time.sleep(1)
    assert shell.ok("network", "status", net, "--json").json[1]["pid"] is None
    shell.ok("network", "start", net)
    assert shell.ok("network", "status", net, "--json").json[1]["pid"]


def test_a_killed_supervisor_leaves_nothing_behind(net: Path, shell: Shell) -> None:
    supervisor = json.loads((net / "supervisor.json").read_bytes())
    os.kill(supervisor["pid"], signal.SIGKILL)
    time.sleep(0.2)
    shell.ok("network", "start", net)
    members = shell.ok("network", "status", net, "--json").json
    assert {each["pid"] for each in members}.isdisjoint(supervisor["nodes"].values())
    assert [each["height"] is not None for each in members] == [True, True]
