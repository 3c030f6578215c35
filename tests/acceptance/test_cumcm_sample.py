"""A part of the real invoices through a network of four: counts, and sums to the cent (``make acceptance``: all)."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taxledger.nodes.cli.main import main

from .ask import ask_all
from .lines.sums import differences
from .networks import MEMBERS
from .stage import ROOT
from .totals import Totals, add_files

YEARS = range(2016, 2021)
WHOLE = ("E14", "E160", "E22", "E61", "E27", "E46", "E53", "E117", "E390", "E422", "E423")
"""Twins of one another, repeated rows, rows turned void, seller and buyer of the same invoices, small ones."""

PARTS = ("f2_output/E131", "f1_input/E13")
"""The other twin's sales, and a row that does not add up."""


def run(*arguments: object) -> Any:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(each) for each in arguments]) == 0
    return json.loads(out.getvalue()) if "--json" in arguments else out.getvalue()


@dataclass(frozen=True)
class Sample:
    data: Path
    files: list[Path]
    totals: Totals
    net: Path
    said: dict[str, Any]

    def attest(self, *files: Path) -> dict[str, Any]:
        return attest(self.net, *files)


def attest(net: Path, *files: Path) -> dict[str, Any]:
    options = ("--source", "cumcm", "--through", "2020-12-31", "--json")
    said: dict[str, Any] = run("attest", "--home", net / "tax", *options, *files)
    return said


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    data = (ROOT / os.environ.get("TAXLEDGER_DATA", "../shared/data") / "cumcm2020c").resolve()
    if not data.is_dir():
        pytest.skip(f"needs the real invoices in TAXLEDGER_DATA: no {data}")
    found = {path for name in WHOLE for path in data.glob(f"f[12]_*put/{name}.csv.gz")}
    files = sorted(found | {data / f"{part}.csv.gz" for part in PARTS})
    net = tmp_path_factory.mktemp("cumcm") / "net"
    run("network", "create", net, "--members", ",".join(MEMBERS))
    try:
        run("network", "start", net)
        yield Sample(data, files, add_files(files), net, attest(net, *files))
    finally:
        run("network", "stop", net)


def test_every_row_is_accounted_for(sample: Sample) -> None:
    said, totals = sample.said, sample.totals
    assert said["rows"] == totals.rows
    assert said["accepted"] == totals.invoices
    assert said["amended"] == totals.turned_void == 3
    assert said["duplicates"] == totals.duplicate_rows == 5_411
    assert said["rejected"] == 0
    void = sum(row["count"] for file in said["files"] for row in file["totals"] if row["status"] == "voided")
    assert void == totals.void_rows


def test_sums_equal_the_files_to_the_cent(sample: Sample) -> None:
    enterprises = sorted({enterprise for enterprise, _, _ in sample.totals.sums})
    assert len(enterprises) == 13
    asked = [(enterprise, year) for enterprise in enterprises for year in YEARS]
    questions = [(f"cumcm:{enterprise}", f"{year}-01", f"{year}-12") for enterprise, year in asked]
    answers = ask_all(sample.net / "tax", (sample.net / "policy.txt").read_bytes(), questions)
    for (enterprise, year), answer in zip(asked, answers, strict=True):
        assert differences(sample.totals, enterprise, range(year, year + 1), answer["totals"]) == []
        assert answer["complete"]
    assert sum(answer["records"] for answer in answers) == sample.totals.invoices


def test_through_the_commands(sample: Sample, tmp_path: Path) -> None:
    path, wallet, consent = (tmp_path / f"e160.{each}" for each in ("disclosure", "wallet", "consent"))
    question = ["--subject", "cumcm:E160", "--kind", "vat_invoice", "--from", "2016-01", "--to", "2020-12"]
    scope = ["--to", "bank3", "--kind", "vat_invoice", "--from", "2016-01", "--until", "2020-12", "--yes"]
    run("wallet", "create", wallet, "--subject", "cumcm:E160")
    run("subject", "register", "--home", sample.net / "tax", "--wallet", wallet)
    run("consent", "grant", "--home", sample.net / "tax", "--wallet", wallet, *scope, "-o", consent)
    run("evidence", "get", "--home", sample.net / "bank3", "--consent", consent, *question, "-o", path)
    policy = ("--policy", sample.net / "policy.txt", "--recipient", 4)
    verify = ("evidence", "verify", path, *policy, *question, "--json")
    assert differences(sample.totals, "E160", YEARS, run(*verify)["totals"]) == []


def test_again_and_in_another_split_everything_is_a_duplicate(sample: Sample) -> None:
    again = sample.attest(*sample.files)
    assert again["rows"] == again["duplicates"] == sample.totals.rows
    other = sample.attest(*sorted((sample.data / "f1_input_leading_zeros").glob("E14*")))
    assert other["rows"] == other["duplicates"] == 7_077


def test_all_four_agree(sample: Sample) -> None:
    archive = sample.net / "ledger.archive"
    run("export", "--home", sample.net / "bank1", "-o", archive)
    assert run("audit", archive, "--policy", sample.net / "policy.txt", "--json")["ok"]
    status = run("network", "status", sample.net, "--json")
    assert len({each["state_root"] for each in status if each["height"] == status[0]["height"]}) == 1
    assert all(each["writes"] == "ok" for each in status)
