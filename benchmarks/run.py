"""Runs the benchmarks, prints a table, writes ``benchmarks/results/latest.json``: ``[{name, value, unit, n}]``.

    python -m benchmarks [--quick] [--only primitive|statemap|lending|decisions|loans|network|engines …]
                         [--docs] [--results FILE]

The last column says how many SHA-256 hashes of 64 bytes the same machine would have made in that time, measured
in the same run: that is what to compare between machines and between days.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.decisions import SIZES, measure_decisions
from benchmarks.disclosure import measure_disclosure
from benchmarks.engines import measure_engines
from benchmarks.evidence import measure_evidence
from benchmarks.features import measure_features
from benchmarks.figures import Figure
from benchmarks.loans import PRODUCTS, measure_loans, running_loan_network
from benchmarks.network import measure_network, running_network
from benchmarks.primitives import primitives
from benchmarks.statemap import measure_statemap

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "latest.json"
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- last run -->\n", "<!-- end of last run -->\n"
_MICROSECONDS = {"µs": 1.0, "ms": 1e3}
_WIDTH = 100
_PARTS = ("primitive", "statemap", "lending", "decisions", "loans", "network", "engines")


def _machine() -> list[Figure]:
    return [
        Figure(name="machine.cores", value=os.cpu_count() or 1, unit="cores", n=1),
        Figure(name="machine.load_1min_before", value=os.getloadavg()[0], unit="processes", n=1),
    ]


def _network(scale: float) -> list[Figure]:
    with running_network() as net, tempfile.TemporaryDirectory(prefix="taxledger-bench-") as name:
        figures = measure_network(net, Path(name), scale)
        figures += measure_evidence(net, Path(name) / "evidence")
        return figures + measure_disclosure(net, Path(name) / "disclosure")


def _decisions(scale: float) -> list[Figure]:
    sizes = [max(10, int(size * scale)) for size in SIZES]
    with running_loan_network(1, sizes) as (net, applicants):
        return measure_decisions(net, applicants[0], sizes)


def _loans(rounds: int) -> list[Figure]:
    with running_loan_network(rounds * len(PRODUCTS)) as (net, applicants):
        return measure_loans(net, applicants)


def _in_hashes(figure: Figure, hash_us: float | None) -> str:
    if hash_us is None:
        return ""
    if figure.unit == "1/s":
        return f"{1e6 / figure.value / hash_us:,.1f}"
    factor = _MICROSECONDS.get(figure.unit)
    return "" if factor is None else f"{figure.value * factor / hash_us:,.1f}"


def _rows(figures: list[Figure]) -> list[tuple[str, str, str, str, str, str]]:
    hash_us = next((each.value for each in figures if each.name == "primitive.sha256_64"), None)
    return [
        (
            each.name,
            f"{each.value:,.0f}" if each.value >= 1_000 else f"{each.value:,.2f}",
            each.unit,
            f"{each.n:,}",
            each.aim or "",
            _in_hashes(each, hash_us),
        )
        for each in figures
    ]


_HEADS = ("figure", "value", "unit", "n", "aim", "in hashes")


def _print(figures: list[Figure]) -> None:
    table = Table(*_HEADS, title="taxledger benchmarks")
    table.columns[0].no_wrap = True
    for at in (1, 3, 4, 5):
        table.columns[at].justify = "right"
    for row in _rows(figures):
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)


def _write_docs(figures: list[Figure]) -> None:
    lines = ["| " + " | ".join(_HEADS) + " |", "|---|--:|---|--:|--:|--:|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(figures)]
    text = DOCS.read_text("utf-8")
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    DOCS.write_text(text[:begin] + "\n".join(lines) + "\n" + text[end:], "utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure taxledger.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work; the figures are rougher")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=list(_PARTS), help="some parts")
    parser.add_argument("--docs", action="store_true", help="also put the table into docs/benchmarks.md")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", default=RESULTS, help="where the figures go, as JSON"
    )
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    parts: dict[str, Callable[[], list[Figure]]] = {
        "primitive": primitives,
        "statemap": lambda: measure_statemap(100_000 if options.quick else 1_000_000),
        "lending": lambda: measure_features(3_000 if options.quick else 30_000),
        "decisions": lambda: _decisions(0.1 if options.quick else 1.0),
        "loans": lambda: _loans(1 if options.quick else 5),
        "network": lambda: _network(0.1 if options.quick else 1.0),
        "engines": lambda: measure_engines(0.1 if options.quick else 1.0),
    }
    figures = _machine()
    for name in _PARTS:
        if name in options.only:
            with console.status(f"measuring: {name}"):
                figures += parts[name]()
    _print(figures)
    options.results.parent.mkdir(exist_ok=True)
    rows = [{"name": f.name, "value": round(f.value, 4), "unit": f.unit, "n": f.n} for f in figures]
    options.results.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if options.docs:
        _write_docs(figures)
    return 0
