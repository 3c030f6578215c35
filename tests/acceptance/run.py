"""Walk the acceptance list and print each line with its figures.

    python -m tests.acceptance.run [--only NAME]… [--report DIR] [--work DIR] [--here] [--write]
        [--engine embedded|cometbft] [--list]

Real data is looked for in ``TAXLEDGER_DATA`` (default ``../shared/data``). Exit status 0 when every line is OK.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .lines import LINES
from .stage import ROOT, Finding, Line, Stage, check


def _data() -> Path | None:
    path = Path(os.environ.get("TAXLEDGER_DATA", "../shared/data"))
    path = path if path.is_absolute() else ROOT / path
    return path.resolve() if path.is_dir() else None


def _walk(line: Line, stage: Stage) -> list[Finding]:
    """All findings of a line; printed as they come."""
    found: list[Finding] = []

    def show(finding: Finding) -> None:
        found.append(finding)
        print(f"  {'OK' if finding.ok else 'FAILED':6}  {finding.what}: {finding.figure}", flush=True)

    try:
        for finding in line.run(stage):
            show(finding)
    except Exception as error:
        show(check("stopped", f"{type(error).__name__}: {error}", False))
    return found


def _report(line: Line, found: list[Finding], seconds: float) -> dict[str, Any]:
    findings = [{"what": each.what, "figure": each.figure, "ok": each.ok} for each in found]
    ok = bool(found) and all(each.ok for each in found)
    return {
        "name": line.name,
        "title": line.title,
        "ok": ok,
        "seconds": round(seconds, 1),
        "findings": findings,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.run", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only this line; may be repeated")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write DIR/acceptance.json")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="work and stay here, not in a temporary folder"
    )
    parser.add_argument("--here", action="store_true", help="in this tree, not in a fresh clone")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/ instead of comparing")
    parser.add_argument(
        "--engine",
        choices=("embedded", "cometbft"),
        default="embedded",
        help="the ordering engine of the networks that are made",
    )
    parser.add_argument("--list", action="store_true", help="the names of all lines")
    options = parser.parse_args()
    names = {line.name: line for line in LINES}
    if options.list:
        for line in LINES:
            print(f"{line.name:13} {line.title}")
        return 0
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"expected names out of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    chosen = [names[name] for name in options.only] if options.only else list(LINES)
    work = options.work or Path(tempfile.mkdtemp(prefix="acceptance-"))
    work.mkdir(parents=True, exist_ok=True)
    stage = Stage(
        work=work.resolve(), data=_data(), here=options.here, write=options.write, engine=options.engine
    )
    reports = []
    try:
        for line in chosen:
            print(f"{line.name}: {line.title}", flush=True)
            begin = time.monotonic()
            found = _walk(line, stage)
            reports.append(_report(line, found, time.monotonic() - begin))
    finally:
        stage.close(keep=options.work is not None)
    print()
    for each in reports:
        print(
            f"{'OK' if each['ok'] else 'FAILED':6}  {each['name']:13} {each['seconds']:7.1f} s  {each['title']}"
        )
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        document = {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
            "engine": options.engine,
            "lines": reports,
        }
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        (options.report / "acceptance.json").write_text(text, "utf-8")
    return 0 if all(each["ok"] for each in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
