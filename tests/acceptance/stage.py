"""Where the acceptance lines work: a fresh clone with its own environment, and folders beside it.

Nothing of the project is imported here: everything goes through the commands, files and URLs that a user has.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Finding", "Line", "Said", "Stage", "check"]

ROOT = Path(__file__).resolve().parents[2]
_SHOWN = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One figure of a line, and whether it is what it has to be."""

    what: str
    figure: str
    ok: bool


def check(what: str, figure: object, ok: bool = True) -> Finding:
    return Finding(what=what, figure=str(figure), ok=ok)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the list. ``run`` gives its findings one after another."""

    name: str
    title: str
    run: Callable[[Stage], Iterator[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command said."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def end(self) -> str:
        """The last of it, for a report of a failure."""
        return (self.err.strip() or self.out.strip())[-_SHOWN:]


@dataclass(kw_only=True)
class Stage:
    """The place of one walk.

    Attributes:
        work: everything is written below it.
        data: the folder of ``TAXLEDGER_DATA``, None where there is none.
        here: work in this tree, not in a fresh clone of it.
        write: put tables that the documents hold into them, instead of comparing.
        engine: what orders the networks that are made.
    """

    work: Path
    data: Path | None
    here: bool = False
    write: bool = False
    engine: str = "embedded"
    kept: dict[str, Any] = field(default_factory=dict)
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    # --- the clone ------------------------------------------------------------------------------

    def clone(self) -> Path:
        """The clone, made and installed at the first call."""
        if self.here:
            return ROOT
        clone = self.work / "clone"
        if clone.exists() and "installed_s" not in self.kept:  # of an earlier walk
            self.ok(["git", "pull", "--quiet", "--ff-only"], cwd=clone)
        elif not clone.exists():
            self.ok(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], cwd=self.work)
        if "installed_s" not in self.kept:
            make = ["make", ".venv/.ready", f"PYTHON={sys.executable}"]
            self.kept["installed_s"] = self.ok(make, cwd=clone, data=False).seconds
            if self.engine == "cometbft":
                self.ok(["make", "engine"], cwd=clone, data=False)
        return clone

    @property
    def python(self) -> Path:
        return self.clone() / ".venv" / "bin" / "python"

    # --- commands -------------------------------------------------------------------------------

    def environment(self, *, data: bool) -> dict[str, str]:
        """Ours without what would change the result; ``data``: whether the real data is shown."""
        unwanted = ("PYTHON", "PYTEST_", "VIRTUAL_ENV", "TAXLEDGER", "COVERAGE", "MAKE", "MFLAGS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        if data and self.data is not None:
            kept["TAXLEDGER_DATA"] = str(self.data)
        return kept

    def run(
        self,
        command: Sequence[object],
        *,
        cwd: Path | None = None,
        data: bool = True,
        timeout_s: float = 3_600,
        env: Mapping[str, str] | None = None,
    ) -> Said:
        """Run a command to its end; ``env`` is added to the environment."""
        begin = time.monotonic()
        done = subprocess.run(
            [str(each) for each in command],
            cwd=cwd or self.work,
            env={**self.environment(data=data), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        return Said(
            status=done.returncode, out=done.stdout, err=done.stderr, seconds=time.monotonic() - begin
        )

    def ok(self, command: Sequence[object], **options: Any) -> Said:
        """Run a command that has to succeed."""
        said = self.run(command, **options)
        if said.status != 0:
            shown = " ".join(map(str, command))[:_SHOWN]
            raise AssertionError(f"exit status {said.status} of {shown}: {said.end}")
        return said

    def taxledger(self, *arguments: object, ok: bool = True, timeout_s: float = 3_600) -> Said:
        """A command line of ``taxledger``."""
        command = [self.python.with_name("taxledger"), *arguments]
        if arguments[:2] == ("network", "create"):
            command += ["--engine", self.engine]
        return (self.ok if ok else self.run)(command, timeout_s=timeout_s)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command line of ``taxledger`` in the background; killed at the end of the walk."""
        process = subprocess.Popen(
            [str(self.python.with_name("taxledger")), *map(str, arguments)],
            cwd=self.work,
            env=self.environment(data=True),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.closing.callback(process.kill)
        return process

    def pytest(
        self, what: str, *targets: str, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Iterator[Finding]:
        """Run tests of the clone; how many passed, and each that did not."""
        clone = self.clone()
        report = self.work / f"pytest-{len(list(self.work.glob('pytest-*')))}.xml"
        command = [self.python, "-m", "pytest", "-q", f"--engine={self.engine}", *options, *targets]
        said = self.run([*command, f"--junitxml={report}"], cwd=clone, env=env)
        if not report.exists():
            yield check(what, said.end, False)
            return
        passed, seconds = 0, 0.0
        for case in ElementTree.parse(report).iter("testcase"):
            seconds += float(case.get("time", "0"))
            problem = next((each for each in case if each.tag in ("failure", "error", "skipped")), None)
            if problem is None:
                passed += 1
                continue
            text = (problem.get("message") or "").strip().splitlines()
            yield check(
                f"{problem.tag}: {case.get('name')}", text[0][:200] if text else "", problem.tag == "skipped"
            )
        yield check(what, f"{passed} passed, {seconds:.0f} s", said.status == 0 and passed > 0)
        self.kept[what] = said.out

    def close(self, *, keep: bool) -> None:
        """Stop what runs, and remove what was written."""
        self.closing.close()
        if not keep:
            shutil.rmtree(self.work, ignore_errors=True)
