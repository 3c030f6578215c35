"""The separate script that sums up the real files, on files made for its rules."""

from __future__ import annotations

import ast
import gzip
import sys
from decimal import Decimal
from pathlib import Path

from . import totals
from .totals import Sums, add_files

HEAD = ",企业代号,发票号码,开票日期,购方单位代号,金额,税额,价税合计,发票状态\n"


def write(path: Path, *rows: str) -> Path:
    with gzip.open(path, "wt", encoding="utf-8-sig") as text:
        text.write(HEAD + "".join(f"{at},E1,{row}\n" for at, row in enumerate(rows)))
    return path


def test_rules(tmp_path: Path) -> None:
    path = write(
        tmp_path / "E1.csv.gz",
        "1,2017/1/3,B1,100.0,17.0,117.0,有效发票",
        "01,2017-1-3,B1,100,17,117.00,有效发票 ",  # the same in another form
        "2,2017/1/3,B1,100.0,17.0,117.0, 作废发票",
        "3,2017/1/3,B1,50.1,0.0,50.1,有效发票",
        "3,2017/1/3,B1,50.1,0.0,50.1,作废发票",  # turned void
        "1,2017/1/3,B2,100.0,17.0,117.0,有效发票",  # another party: another invoice
        "4,2018/1/3,B1,-0.1,-0.2,-0.3,有效发票",
    )
    found = add_files([path])
    assert (found.rows, found.void_rows, found.duplicate_rows, found.turned_void) == (7, 2, 1, 1)
    assert found.invoices == 5
    assert found.of("E1", 2017, "sale") == Sums(2, Decimal(200), Decimal(34), Decimal(234), void=2)
    assert found.of("E1", 2018, "sale") == Sums(1, Decimal("-0.1"), Decimal("-0.2"), Decimal("-0.3"))
    assert found.of("E1", 2018, "purchase") == Sums()


def test_needs_the_standard_library_alone() -> None:
    tree = ast.parse(Path(totals.__file__).read_text("utf-8"))
    names = [each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
    names += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)
