"""Sums of net, tax and gross straight from the CUMCM files: the second opinion of the acceptance tests.

    python tests/acceptance/totals.py DATA/cumcm2020c [E14 …]

Standard library only, and nothing of this project: what it finds must not depend on how the ledger reads files.
Rules, from the description of the data: cells are stripped of blanks; an invoice that stands twice inside one
enterprise counts once; one that is void in any of its rows is no turnover; red letters count negative.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

FOLDERS = ("f1_input", "f1_output", "f2_input", "f2_output")
_PARTY = {"销方单位代号": "purchase", "购方单位代号": "sale"}


@dataclass
class Sums:
    """What one enterprise bought or sold in one year: valid invoices, each once."""

    count: int = 0
    net: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)
    gross: Decimal = Decimal(0)
    void: int = 0


@dataclass
class Totals:
    """Sums by (enterprise, year, direction), and what was read."""

    sums: dict[tuple[str, int, str], Sums] = field(default_factory=lambda: defaultdict(Sums))
    files: int = 0
    rows: int = 0
    void_rows: int = 0
    duplicate_rows: int = 0
    turned_void: int = 0

    @property
    def invoices(self) -> int:
        """Different invoices, valid and void."""
        return sum(each.count + each.void for each in self.sums.values())

    def of(self, enterprise: str, year: int, direction: str) -> Sums:
        """Zeros where there is nothing."""
        return self.sums.get((enterprise, year, direction), Sums())


def data_files(data: Path, folders: Iterable[str] = FOLDERS) -> list[Path]:
    """The files of every enterprise and direction, in the order of their names."""
    return [path for folder in folders for path in sorted((data / folder).glob("*.csv.gz"))]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
        for row in csv.DictReader(text):
            yield {(name or "").strip(): (cell or "").strip() for name, cell in row.items()}


Invoice = tuple[str, int, str, str, int, int, str, tuple[Decimal, ...]]
"""(enterprise, year, direction, number, month, day, party, (net, tax, gross))."""


def read_invoices(paths: Iterable[Path], found: Totals) -> dict[Invoice, bool]:
    """Every different invoice, and whether it is void; ``found`` counts what was read."""
    invoices: dict[Invoice, bool] = {}
    for path in paths:
        found.files += 1
        for row in _rows(path):
            found.rows += 1
            ((party, direction),) = [(row[name], what) for name, what in _PARTY.items() if name in row]
            status = row["发票状态"]
            if status not in ("有效发票", "作废发票"):
                raise ValueError(f"{path}: unknown status {status!r}")
            void = status == "作废发票"
            found.void_rows += void
            year, month, day = map(int, row["开票日期"].replace("/", "-").split("-"))
            amounts = tuple(Decimal(row[name]) for name in ("金额", "税额", "价税合计"))
            number = row["发票号码"].lstrip("0")
            invoice = (row["企业代号"], year, direction, number, month, day, party, amounts)
            known = invoices.get(invoice)
            if known is None:
                invoices[invoice] = void
            elif void and not known:
                invoices[invoice] = True
                found.turned_void += 1
            else:
                found.duplicate_rows += 1
    return invoices


def add_files(paths: Iterable[Path]) -> Totals:
    """Totals over files. All rows of an enterprise and direction may stand in one file or in several."""
    found = Totals()
    for (enterprise, year, direction, *_, amounts), void in read_invoices(paths, found).items():
        sums = found.sums[enterprise, year, direction]
        if void:
            sums.void += 1
            continue
        net, tax, gross = amounts
        sums.count += 1
        sums.net += net
        sums.tax += tax
        sums.gross += gross
    return found


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    paths = data_files(Path(arguments[0]))
    chosen = set(arguments[1:])
    totals = add_files(path for path in paths if not chosen or path.name.split(".")[0] in chosen)
    print(
        json.dumps(
            {
                "files": totals.files,
                "rows": totals.rows,
                "void_rows": totals.void_rows,
                "invoices": totals.invoices,
                "duplicate_rows": totals.duplicate_rows,
                "turned_void": totals.turned_void,
                "sums": [
                    {
                        "enterprise": enterprise,
                        "year": year,
                        "direction": direction,
                        "count": sums.count,
                        "net": str(sums.net),
                        "tax": str(sums.tax),
                        "gross": str(sums.gross),
                        "void": sums.void,
                    }
                    for (enterprise, year, direction), sums in sorted(totals.sums.items())
                ],
            },
            ensure_ascii=False,
            indent=1,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
