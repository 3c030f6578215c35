"""Bad CSV, xlsx and mapping files."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .commands import attest_arguments
from .kit import GOOD, HEADER, Command, Kit

__all__ = ["FILES"]


def _mapped(kit: Kit, file: Path, mapping: Path) -> list[object]:
    return ["attest", "--home", kit.tax, "--source", "csv", "--mapping", mapping, "--dry-run", file]


def _of_cell(what: str, cell: int, text: str) -> Command:
    def arguments(kit: Kit) -> list[object]:
        return attest_arguments(kit, kit.changed(cell, text))

    return Command(area="CSV", what=what, arguments=arguments, status=1, said="line 2, column")


def _of_file(what: str, said: str, file: Callable[[Kit], Path], status: int = 1) -> Command:
    def arguments(kit: Kit) -> list[object]:
        return attest_arguments(kit, file(kit))

    return Command(area="CSV", what=what, arguments=arguments, status=status, said=said)


def _of_xlsx(
    what: str, said: str, file: Callable[[Kit], Path], mapping: str = "", status: int = 1
) -> Command:
    def arguments(kit: Kit) -> list[object]:
        return _mapped(kit, file(kit), kit.mapping("[subject]", f"{mapping}\n[subject]"))

    return Command(area="xlsx", what=what, arguments=arguments, status=status, said=said)


def _of_mapping(what: str, said: str, old: str, new: str) -> Command:
    def arguments(kit: Kit) -> list[object]:
        return _mapped(kit, kit.table(GOOD), kit.mapping(old, new))

    return Command(area="mapping", what=what, arguments=arguments, status=2, said=said)


def _zip(names: Sequence[str]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in names:
            archive.writestr(name, "<worksheet/>")
    return held.getvalue()


FILES: tuple[Command, ...] = (
    # --- CSV
    _of_file("nothing in it", "columns", lambda kit: kit.file("rows.csv", b"")),
    _of_file("a column is missing", "columns", lambda kit: kit.table(GOOD[1:], header=HEADER[1:])),
    _of_file(
        "a column too many", "unknown column", lambda kit: kit.table((*GOOD, "x"), header=(*HEADER, "备注"))
    ),
    _of_file("a column twice", "columns", lambda kit: kit.table((*GOOD, "1"), header=(*HEADER, "税额"))),
    _of_file("in GB18030", "", lambda kit: kit.table(GOOD, encoding="gb18030")),
    _of_file(
        "a row too short", "line 2: columns_differ: expected 8 columns", lambda kit: kit.table(GOOD[:5])
    ),
    _of_file(
        "a NUL byte",
        "line 2, column",
        lambda kit: kit.file("rows.csv", kit.table(GOOD).read_bytes().replace(b"B1", b"B\0")),
    ),
    _of_file(
        "a quote that never ends",
        "",
        lambda kit: kit.file("rows.csv", kit.table(GOOD).read_bytes() + b'"' + b"x" * 200_000),
    ),
    _of_file(
        "gzip cut off",
        "read",
        lambda kit: kit.file("rows.csv.gz", gzip.compress(kit.table(GOOD).read_bytes() * 9)[:-12]),
    ),
    _of_file("no gzip", "columns", lambda kit: kit.file("rows.csv.gz", b"rows")),
    _of_file(
        "an enterprise that is none",
        "line 2, column 企业代号: subject_malformed",
        lambda kit: kit.changed(0, "E 7"),
    ),
    _of_file("a bad row among good ones", "line 3, column", lambda kit: kit.table(GOOD, ("X5", *GOOD[1:]))),
    _of_cell("a date 2024-02-30", 2, "2024-02-30"),
    _of_cell("a date of words", 2, "yesterday"),
    _of_cell("an amount NaN", 4, "NaN"),
    _of_cell("an amount 1e5", 4, "1e5"),
    _of_cell("an amount of Arabic digits", 4, "١٠٠"),
    _of_cell("an amount of a tenth of a fen", 4, "0.001"),
    _of_cell("an amount beyond 63 bits", 6, "99999999999999999999"),
    _of_cell("no amount", 5, ""),
    _of_cell("a status that is none", 7, "有效"),
    _of_cell("a number of letters", 1, "10-01"),
    _of_cell("no counterparty", 3, ""),
    _of_cell("a counterparty of two kilobytes", 3, "B" * 2_048),
    _of_cell("no enterprise", 0, ""),
    # --- xlsx
    _of_xlsx("no zip", "xlsx", lambda kit: kit.file("rows.xlsx", b"PK but no zip")),
    _of_xlsx("nothing in it", "xlsx", lambda kit: kit.file("rows.xlsx", b"")),
    _of_xlsx("another zip", "xlsx", lambda kit: kit.file("rows.xlsx", _zip(["a.txt"]))),
    _of_xlsx("cut off", "xlsx", lambda kit: kit.file("rows.xlsx", kit.workbook(GOOD).read_bytes()[:2_000])),
    _of_xlsx("a sheet that is not there", "Rows", lambda kit: kit.workbook(GOOD), '[file]\nsheet = "Rows"'),
    _of_xlsx("a header far below", "", lambda kit: kit.workbook(GOOD), "[file]\nheader_row = 9"),
    _of_xlsx(
        "an error in a cell",
        "line 2, column 金额: money_malformed",
        lambda kit: kit.workbook((*GOOD[:4], "#DIV/0!", *GOOD[5:])),
    ),
    _of_xlsx(
        "a number with too many digits",
        "line 2, column 发票号码: number_rounded",
        lambda kit: kit.workbook((GOOD[0], 12345678901234567890, *GOOD[2:])),
    ),
    # --- mapping
    _of_mapping("no TOML", "TOML", 'kind = "vat_invoice"', "kind = vat_invoice"),
    _of_mapping("an unknown kind", "kind", "vat_invoice", "invoice"),
    _of_mapping(
        "a field that is none", "colour", 'number = "发票号码"', 'number = "发票号码"\ncolour = "颜色"'
    ),
    _of_mapping("a field is missing", "gross", 'gross = "价税合计"\n', ""),
    _of_mapping("a field twice", "both", 'direction = "sale"', 'direction = "sale"\nnet = "1"'),
    _of_mapping("a word that is none", "subjects", "[subject]", "[subjects]"),
    _of_mapping("an unknown scheme", "scheme", '"cumcm"', '"cumc"'),
    _of_mapping("an unknown encoding", "encoding", "[subject]", '[file]\nencoding = "ebcdic"\n[subject]'),
    _of_mapping("a date form that is none", "dates", "[subject]", '[forms]\ndates = ["whenever"]\n[subject]'),
    _of_mapping("a header row 0", "header_row", "[subject]", "[file]\nheader_row = 0\n[subject]"),
    _of_mapping("a delimiter of two", "delimiter", "[subject]", '[file]\ndelimiter = ";;"\n[subject]'),
    Command(
        area="mapping",
        what="names a column that is not in the file",
        arguments=lambda kit: _mapped(kit, kit.table(GOOD), kit.mapping("发票号码", "号码")),
        status=1,
        said="号码",
    ),
    Command(
        area="mapping",
        what="no file",
        arguments=lambda kit: _mapped(kit, kit.table(GOOD), Path("/nowhere")),
        status=2,
        said="/nowhere",
    ),
    Command(
        area="mapping",
        what="binary",
        arguments=lambda kit: _mapped(kit, kit.table(GOOD), kit.file("mapping.toml", b"\xff\x00")),
        status=2,
        said="UTF-8",
    ),
)
