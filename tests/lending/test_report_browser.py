"""The report in a real browser: it complains about nothing, asks nobody for anything, and shows the key figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from reportkit import HOSTILE, sample_decision, sample_facts, sample_notes

from taxledger.lending.report import make_portrait, render_html

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (make system-deps)")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    "--virtual-time-budget=3000",
)


_OWN = re.compile(r"(data|file|chrome[a-z-]*):|https?://[a-z0-9.]+\.(google|googleapis|gvt1)\.com/")
"""What a browser asks for by itself, whatever the page."""


def browse(page: Path, folder: Path) -> tuple[str, list[str], list[str]]:
    """(the document, lines of the console, addresses that were asked for)."""
    log = folder / "net.json"
    run = subprocess.run(
        [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    text = log.read_text("utf-8", "replace")
    asked = re.findall(r'"url":"([^"]+)"', text)
    return run.stdout, console, sorted({each for each in asked if not _OWN.match(each)})


@pytest.mark.parametrize("customers", ["ordinary", "hostile"])
def test_the_page_asks_nobody(tmp_path: Path, customers: str) -> None:
    facts = sample_facts(HOSTILE) if customers == "hostile" else sample_facts()
    decision = sample_decision(text=HOSTILE[0] if customers == "hostile" else "")
    page = tmp_path / "report.html"
    page.write_bytes(render_html(make_portrait(facts, sample_notes(), decision, language="zh")))
    document, console, asked = browse(page, tmp_path)
    assert console == []
    assert asked == []
    for expected in ("转人工审核", "1,234,000.00 CNY", "5.20 %", "<svg"):
        assert expected in document
    assert "<script" not in document


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://127.0.0.1:9/x.png"><script>console.error("aloud")</script>')
    _document, console, asked = browse(page, tmp_path)
    assert json.dumps(console).count("aloud") == 1
    assert asked == ["http://127.0.0.1:9/x.png"]
