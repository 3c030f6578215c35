"""Borrowing on attested data: networks that hold it, applications for loans, and the tables in the documents.

Like ``networks.py`` it goes through the command line; applications and pledges through processes of their own.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .networks import Network, cumcm_files
from .stage import ROOT, Finding, Said, Stage, check

__all__ = [
    "AS_OF",
    "add_unrated",
    "application",
    "apply_all",
    "documented",
    "outcomes",
    "pledge_all",
    "rated_enterprises",
    "rated_network",
    "recomputed",
]

AS_OF = "2020-02-29"
_DOCUMENT_BEGIN, _DOCUMENT_END = "<!-- made by tests/acceptance/lines/{}.py -->", "<!-- end -->"
_ARREARS = """\
kind = "tax_arrears"
[subject]
column = "subject"
[columns]
category = "category"
opened = "opened"
"""


# --- networks ------------------------------------------------------------------------------------


def rated_enterprises(stage: Stage) -> dict[str, tuple[str, bool]]:
    """Grade, and whether it defaulted, of the 72 enterprises, in the order of their numbers."""
    assert stage.data is not None
    with (stage.data / "cumcm2020c" / "f1_enterprises.csv").open(encoding="utf-8-sig", newline="") as text:
        rows = {row["企业代号"]: (row["信誉评级"], row["是否违约"] == "是") for row in csv.DictReader(text)}
    return dict(sorted(rows.items(), key=lambda each: int(each[0][1:])))


def rated_network(stage: Stage) -> tuple[Network, list[dict[str, Any]]]:
    """A running network with the invoices, grades and arrears (none) of the rated enterprises, attested through
    ``AS_OF``; what the three uploads said. With a kept ``--work`` folder, that of an earlier walk again.
    """
    if "rated" not in stage.kept:
        folder, kept = stage.work / "rated", stage.work / "rated.json"
        if kept.exists():
            net = Network(stage, folder)
            net.start()
        else:
            files = cumcm_files(stage)
            net = Network.begin(stage, folder)
            stage.taxledger("lend", "init", "--home", net.home("bank1"))
            report = ("--report", stage.work / "rated-report.csv")
            said = [_attest(net, _of(files, "f1_"), "cumcm", *report), _grades(net), _arrears(net)]
            kept.write_text(json.dumps(said))
        stage.kept["rated"] = net, json.loads(kept.read_bytes())
    return stage.kept["rated"]  # type: ignore[no-any-return]


def add_unrated(stage: Stage) -> dict[str, Any]:
    """The invoices of the other 121 enterprises, on the same network; what the upload said."""
    net, _ = rated_network(stage)
    kept = stage.work / "unrated.json"
    if not kept.exists():
        report = ("--report", stage.work / "unrated-report.csv")
        kept.write_text(json.dumps(_attest(net, _of(cumcm_files(stage), "f2_"), "cumcm", *report)))
    return json.loads(kept.read_bytes())  # type: ignore[no-any-return]


def _of(files: Sequence[Path], prefix: str) -> list[Path]:
    return [each for each in files if each.parent.name.startswith(prefix)]


def _attest(net: Network, files: Sequence[Path], source: str, *options: object) -> dict[str, Any]:
    given = ("--source", source, *options, "--through", AS_OF, "--json")
    said = net.stage.taxledger("attest", "--home", net.home("tax"), *given, *files)
    return {**said.json, "seconds": said.seconds}


def _grades(net: Network) -> dict[str, Any]:
    assert net.stage.data is not None
    sheet = net.stage.data / "cumcm2020c" / "f1_enterprises.csv"
    return _attest(net, [sheet], "cumcm-grades")


def _arrears(net: Network) -> dict[str, Any]:
    """Nobody has any: an empty table, and that it is all there is."""
    mapping, table = (net.stage.work / f"arrears.{each}" for each in ("toml", "csv"))
    mapping.write_text(_ARREARS)
    table.write_text("subject,category,opened\n")
    return _attest(net, [table], "csv", "--mapping", mapping)


# --- applications --------------------------------------------------------------------------------


def application(subject: str, product: str, as_of: str = AS_OF, **more: Any) -> dict[str, Any]:
    name = f"{subject.rpartition(':')[2]}-{product}"
    return {"id": name, "subject": subject, "product": product, "as_of": as_of, **more}


def apply_all(
    stage: Stage, net: Network, name: str, applications: Sequence[Mapping[str, Any]], **options: Any
) -> list[dict[str, Any]]:
    """What became of each; what each was decided upon is left in the folder ``name`` of the walk."""
    out, job = stage.work / name, stage.work / f"{name}.job.json"
    shutil.rmtree(out, ignore_errors=True)
    wanted = {"net": str(net.folder), "bank": "bank1", "out": str(out), "applications": applications}
    job.write_text(json.dumps({**wanted, **options}))
    return _script(stage, "applications.py", job).json  # type: ignore[no-any-return]


def pledge_all(
    stage: Stage, net: Network, name: str, bank: str, offers: Sequence[Mapping[str, Any]], *, ppm: int
) -> list[dict[str, Any]]:
    """What became of each record that is offered to a bank: ``placed``, or why not. Of an earlier walk it is kept."""
    job, kept = (stage.work / f"{name}.{each}.json" for each in ("job", "said"))
    if kept.exists():
        return json.loads(kept.read_bytes())  # type: ignore[no-any-return]
    wanted = {"net": str(net.folder), "bank": bank, "out": str(stage.work / name), "offers": offers}
    job.write_text(json.dumps({**wanted, "ppm": ppm}))
    kept.write_text(_script(stage, "pledges.py", job).out)
    return json.loads(kept.read_bytes())  # type: ignore[no-any-return]


def _script(stage: Stage, name: str, *arguments: object) -> Said:
    return stage.ok([stage.python, ROOT / "tests" / "acceptance" / name, *arguments])


def recomputed(stage: Stage, net: Network, name: str) -> Finding:
    """All decisions of a folder once more from their evidence, in another process."""
    said = _script(stage, "recompute.py", stage.work / name, net.policy)
    found, differ = said.json, said.json["differ"]
    return check(
        "decided again from the evidence files alone",
        f"{found['decisions']} decisions from {found['files']} files ({found['bytes']:,} bytes) in "
        f"{said.seconds:.1f} s: " + (f"{len(differ)} differ: {differ[:3]}" if differ else "the same bytes"),
        not differ and found["decisions"] > 0,
    )


def outcomes(decision: Mapping[str, Any]) -> list[str]:
    """Codes of what spoke against it: rules that did not pass, and other reasons."""
    return [each["code"] for each in decision["reasons"]]


# --- documents -----------------------------------------------------------------------------------


def documented(stage: Stage, document: str, line: str, made: str) -> Finding:
    """What a document says between its marks is what was made; with ``--write`` it is put there."""
    path, begin = ROOT / "docs" / document, _DOCUMENT_BEGIN.format(line)
    before, mark, rest = path.read_text("utf-8").partition(begin)
    stands, end, after = rest.partition(_DOCUMENT_END)
    if not mark or not end:
        return check(f"docs/{document}", f"has no part {begin}", False)
    if stage.write:
        path.write_text(f"{before}{begin}\n{made}\n{_DOCUMENT_END}{after}", "utf-8")
    same = stage.write or stands.strip() == made.strip()
    what = "written" if stage.write else "as computed" if same else "differs: run this line with --write"
    return check(f"docs/{document}", what, same)
