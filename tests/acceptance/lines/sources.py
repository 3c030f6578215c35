"""Every file of the published data through the command line: attested, or refused with a reason."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..folders import FOLDERS, Folder
from ..networks import Network
from ..stage import Finding, Line, Said, Stage, check

_SAME_FACT = ("conflict",)
"""Codes of rows that are records, of which another version stands: a document that is published twice, differently."""


def run(stage: Stage) -> Iterator[Finding]:
    if stage.data is None:
        raise AssertionError("no real data: set TAXLEDGER_DATA")
    net = Network.begin(stage, stage.work / "sources")
    for folder in (each for each in FOLDERS if each.walked):
        said, refused = _attest(net, folder, stage.data / folder.name)
        files = said.json["files"]
        silent = [each["file"] for each in files if not each["rows"] and not each["error"]]
        taken = said.json["accepted"] + said.json["amended"] + said.json["duplicates"]
        records = taken + sum(refused[code] for code in _SAME_FACT)
        reasons = ", ".join(f"{count} {code}" for code, count in sorted(refused.items())) or "none"
        yield check(
            folder.name,
            f"{len(files)} files, {said.json['rows']:,} rows, {records:,} records; refused: {reasons}",
            len(files) == folder.files and not silent and records >= folder.records,
        )
        again, _ = _attest(net, folder, stage.data / folder.name)
        # Files that state two states of one fact can amend it once more; nothing is new.
        counted = ", ".join(f"{again.json[name]:,} {name}" for name in ("accepted", "amended", "duplicates"))
        yield check(f"{folder.name} again", counted, again.json["accepted"] == 0)
    facts = net.agree()
    yield check("four nodes agree", f"height {facts['height']}, state root {facts['state_root'][:16]}…")


def _attest(net: Network, folder: Folder, path: Path) -> tuple[Said, Counter[str]]:
    """What the command said, and how many rows and files it refused, by code."""
    report = net.stage.work / f"{folder.name}.csv"
    options = ["--home", net.home("tax"), "--source", folder.source, "--report", report, "--json"]
    said = net.stage.taxledger("attest", *options, path, ok=False, timeout_s=600)
    if said.status not in (0, 1):
        raise AssertionError(f"{folder.name}: status {said.status}: {said.end}")
    with report.open(encoding="utf-8-sig", newline="") as text:
        lines = list(csv.DictReader(text))
    return said, Counter(line["code"] for line in lines if line["result"].startswith("rejected"))


LINE = Line(
    name="sources", title="every file of the published data: attested, or refused with a reason", run=run
)
