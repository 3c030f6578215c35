"""The built wheel in empty environments outside the clone."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from ..stage import Finding, Line, Stage, check

_NODE_PACKAGES = ("plyvel", "fastapi")


def _environment(stage: Stage, folder: Path, name: str, requirement: str) -> Path:
    stage.ok([sys.executable, "-m", "venv", name], cwd=folder)
    binaries = folder / name / "bin"
    stage.ok([binaries / "python", "-m", "pip", "install", "--quiet", requirement], cwd=folder)
    return binaries


def _packages(stage: Stage, binaries: Path) -> set[str]:
    said = stage.ok([binaries / "python", "-m", "pip", "list", "--format=freeze"])
    return {line.partition("==")[0].lower() for line in said.out.splitlines()}


def run(stage: Stage) -> Iterator[Finding]:
    folder = stage.work / "installed"
    folder.mkdir(exist_ok=True)
    build = [stage.python, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, stage.clone()]
    stage.ok(build, cwd=folder)
    wheel = next(folder.glob("*.whl"))
    yield check("wheel", f"{wheel.name}, {wheel.stat().st_size:,} bytes")

    node = _environment(stage, folder, "node", f"{wheel}[node,lending]")
    demo = stage.run([node / "taxledger", "demo", "--dir", folder / "demo"], cwd=folder, data=False)
    yield check(
        "taxledger demo, with the extras", f"exit {demo.status}, {demo.seconds:.0f} s", demo.status == 0
    )

    archived = re.search(r"taxledger (lend verify-archive .*)", demo.out)
    said = stage.run([node / "taxledger", *(shlex.split(archived[1]) if archived else [])], cwd=folder)
    yield check("the printed verify-archive command", said.end, said.status == 0 and archived is not None)

    plain = _environment(stage, folder, "plain", str(wheel))
    present = _packages(stage, plain)
    absent = not present & set(_NODE_PACKAGES)
    yield check("packages without the extras", f"{len(present)}, neither plyvel nor fastapi", absent)
    printed = re.search(r"taxledger (evidence verify .*)", demo.out)
    command = shlex.split(printed[1]) if printed else []
    said = stage.run([plain / "taxledger", *command], cwd=folder)
    figure = said.out.splitlines()[0] if said.out else said.end
    yield check("the printed evidence verify command there", figure, said.status == 0 and bool(command))
    forged = [
        str(folder / "demo" / "tampered.disclosure") if each.endswith(".disclosure") else each
        for each in command
    ]
    said = stage.run([plain / "taxledger", *forged], cwd=folder)
    figure = said.out.splitlines()[0] if said.out else said.end
    yield check("the tampered copy there", f"exit {said.status}: {figure}", said.status == 1 and not said.err)
    said = stage.run([plain / "taxledger", "demo"], cwd=folder)
    yield check("taxledger demo there", said.end, said.status == 1 and "taxledger[node]" in said.err)


LINE = Line(
    name="wheel",
    title="the wheel in empty environments: verify without a node's packages, demo with",
    run=run,
)
