"""All real invoices through a running network of four: every row accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..networks import cumcm_network, cumcm_totals
from ..stage import Finding, Line, Stage, check

_COUNTS = ("rows", "accepted", "amended", "duplicates", "rejected")
_FIRST = {"rows": 465_227, "accepted": 459_813, "amended": 3, "duplicates": 5_411, "rejected": 0}
_AGAIN = {"rows": 465_227, "accepted": 0, "amended": 0, "duplicates": 465_227, "rejected": 0}
_FILES, _VOID, _OTHER_SPLIT, _UNEQUAL = 386, 26_410, 7_077, 2
_TWINS = (3_336 + 7_077) + (1_083 + 193) + (423 + 1_068) + 391
"""Of three pairs of enterprises, sales and purchases, and inside one enterprise."""


def _counts(said: dict[str, Any]) -> str:
    return " = ".join(
        (f"{said['rows']:,} rows", " + ".join(f"{said[name]:,} {name}" for name in _COUNTS[1:]))
    )


def run(stage: Stage) -> Iterator[Finding]:
    net, said, seconds = cumcm_network(stage)
    yield check("files", len(said["files"]), len(said["files"]) == _FILES)
    rate = said["rows"] / seconds
    yield check("first time", _counts(said), all(said[name] == _FIRST[name] for name in _COUNTS))
    yield check("took", f"{seconds:.0f} s, {rate:,.0f} rows/s from files to certified by four nodes")
    own = cumcm_totals(stage)
    yield check(
        "counted by the separate script",
        f"{own.invoices:,} invoices, {own.turned_void} turned void, {own.duplicate_rows:,} repeated",
        (own.invoices, own.turned_void, own.duplicate_rows)
        == (said["accepted"], said["amended"], said["duplicates"]),
    )
    amended = {
        each["file"].rsplit("/", 2)[-2:][0] + "/" + each["file"].rsplit("/", 1)[-1]: each["amended"]
        for each in said["files"]
        if each["amended"]
    }
    yield check("amended in", amended, set(amended) == {"f2_output/E160.csv.gz"})
    void = sum(row["count"] for each in said["files"] for row in each["totals"] if row["status"] == "voided")
    yield check("rows read void", f"{void:,}", void == _VOID == own.void_rows)
    report = (stage.work / "cumcm-report.csv").read_text("utf-8-sig")
    unequal, twins, alone = (
        report.count(f",{each},") for each in ("amounts_differ", "twin", "original_not_found")
    )
    yield check("warned of net + tax ≠ gross", unequal, unequal == _UNEQUAL)
    yield check("warned of the same invoice under another name", f"{twins:,}", twins == _TWINS)
    yield check("red letters without their original", f"{alone:,}")
    facts = net.agree()
    yield check(
        "four nodes agree",
        f"height {facts['height']}, log root {facts['log_root'][:16]}…, state root {facts['state_root'][:16]}…",
    )
    files = [each["file"] for each in said["files"]]
    again = net.attest(files)
    yield check(
        f"again ({again.seconds:.0f} s)",
        _counts(again.json),
        all(again.json[name] == _AGAIN[name] for name in _COUNTS),
    )
    assert stage.data is not None
    folder = stage.data / "cumcm2020c" / "f1_input_leading_zeros"
    other = net.attest(sorted(folder.glob("E14*"))).json
    yield check(
        "f1_input_leading_zeros/E14",
        _counts(other),
        other["rows"] == other["duplicates"] == _OTHER_SPLIT,
    )
    archive = stage.work / "cumcm.archive"
    exported = stage.taxledger("export", "--home", net.home("bank1"), "-o", archive)
    audited = stage.taxledger("audit", archive, "--policy", net.policy, "--json", ok=False)
    held = sum(each["status"] == "ok" for each in audited.json["invariants"])
    yield check(
        "exported and audited",
        f"{archive.stat().st_size:,} bytes in {exported.seconds:.0f} s; {held} invariants hold, "
        f"{audited.seconds:.0f} s",
        audited.status == 0 and held == len(audited.json["invariants"]),
    )


LINE = Line(
    name="ingest", title="386 files of real invoices through four running nodes: exact counts", run=run
)
