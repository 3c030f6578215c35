"""The rule for skipped tests: with CI=true a skip that ``tests/skips.txt`` does not list fails the run.

A test that silently stops running is worse than one that fails.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_LISTED = Path(__file__).with_name("skips.txt")
_skipped: list[tuple[str, str]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=("embedded", "cometbft"),
        default="embedded",
        help="the ordering engine of the networks in tests/e2e",
    )


def read_listed(path: Path) -> list[tuple[str, str]]:
    """(pattern of test ids, part of the reason) of every line that is no comment."""
    listed = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, bar, reason = (part.strip() for part in line.partition("|"))
        if not (pattern and bar and reason):
            raise pytest.UsageError(f"{path.name}:{number}: expected <test id> | <reason>, got {line!r}")
        listed.append((pattern, reason))
    return listed


def _remember(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, reason))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _remember(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _remember(report)


def _unlisted() -> list[tuple[str, str]]:
    if os.environ.get("CI") != "true":
        return []
    listed = read_listed(_LISTED)
    return [
        (test, reason)
        for test, reason in _skipped
        if not any(fnmatch.fnmatchcase(test, pattern) and part in reason for pattern, part in listed)
    ]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and _unlisted():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for test, reason in _unlisted():
        terminalreporter.write_line(
            f"FAILED {test}: skipped, and not listed in tests/skips.txt: {reason}", red=True
        )
