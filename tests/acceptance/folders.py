"""What becomes of every file of the published data: one row a folder, and the table of counts in docs/sources.md.

    python -m tests.acceptance.folders            prints the table
    python -m tests.acceptance.folders --write    puts it into docs/sources.md

Every document of a file is a record, or refused with one reason; a file is refused as a whole with one reason. A
publisher's folder is one row of ``FOLDERS``.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.nodes.sources.documents import DocumentSource, sort_files
from taxledger.nodes.sources.formats import SourceOptions
from taxledger.nodes.sources.rows import BadRow, RowChange

from .stage import ROOT

__all__ = ["FOLDERS", "Counts", "Folder", "count_folder", "data_folder", "documented_table", "table"]

_DOCUMENT = ROOT / "docs" / "sources.md"
_BEGIN, _END = "<!-- counts: made by tests/acceptance/folders.py -->", "<!-- counts end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What a folder of ``TAXLEDGER_DATA`` must give.

    Attributes:
        name: of the folder.
        files: in it, exactly: one that is lost on the way is a fault.
        records: at least; attested, duplicate or conflict.
        source: as ``--source`` takes it.
        walked: also through the command line (``lines/sources.py``), not only by the reader.
    """

    name: str
    files: int
    records: int
    source: str = "auto"
    walked: bool = True


FOLDERS: tuple[Folder, ...] = (
    Folder(name="cfdi_mx", files=15, records=3),
    Folder(name="cumcm2020c", files=391, records=465_227, walked=False),
    Folder(name="customs_hmrc", files=97, records=25),
    Folder(name="customs_kr_synthetic", files=1, records=8_055),
    Folder(name="en16931", files=182, records=37),
    Folder(name="nav_hu", files=14, records=13),
    Folder(name="ofd_einvoice_cn", files=1, records=0),
    Folder(name="peppol_bis3", files=68, records=38),
    Folder(name="procurement_ocds", files=72, records=60),
    Folder(name="procurement_ted", files=66, records=90),
    Folder(name="procurement_ted_eforms", files=18, records=10),
    Folder(name="procurement_toronto", files=1, records=410),
    Folder(name="tax_mx_69b", files=1, records=5_900),
    Folder(name="tax_no_mva", files=26, records=22),
    Folder(name="tax_uk_hmrc", files=2, records=0),
    Folder(name="ubl_oasis", files=19, records=7),
    Folder(name="utility_greenbutton", files=10, records=10),
    Folder(name="xrechnung", files=24, records=24),
)


@dataclass(slots=True)
class Counts:
    """What became of a folder's files.

    Attributes:
        files: read or refused.
        records: rows that can be attested, by format.
        rows_refused: rows by code.
        files_refused: files that gave no row, by reason.
        silent: files that gave neither a row nor a reason: there must be none.
    """

    files: int = 0
    records: Counter[str] = field(default_factory=Counter)
    rows_refused: Counter[str] = field(default_factory=Counter)
    files_refused: Counter[str] = field(default_factory=Counter)
    silent: list[Path] = field(default_factory=list)


def data_folder() -> Path | None:
    """The folder of ``TAXLEDGER_DATA``, None where there is none."""
    path = Path(os.environ.get("TAXLEDGER_DATA", "../shared/data"))
    path = path if path.is_absolute() else ROOT / path
    return path if path.is_dir() else None


def count_folder(path: Path, source: str = "auto") -> Counts:
    """Reads every file below a folder as ``taxledger attest`` does; any error but FormatError goes through."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    sorted_ = sort_files(files, source)
    counts = Counts(files=len(files))
    for file, reason in sorted_.unknown.items():
        counts.files_refused[_reason(reason.removeprefix(f"{file}: "))] += 1
    for schema, formats in sorted_.groups:
        read = DocumentSource(schema, formats, SourceOptions())
        for file, name in read.formats.items():
            _count_file(file, name, read, counts)
    return counts


def _count_file(file: Path, name: str, source: DocumentSource, counts: Counts) -> None:
    rows = 0
    try:
        for row in source.rows(file):
            rows += 1
            if isinstance(row, BadRow):
                assert row.code, file
                assert row.expected, file
                assert row.expected_zh, file
                counts.rows_refused[row.code] += 1
            elif isinstance(row, RowChange):
                source.schema.row({**row.identity, **row.fields})
                counts.records[f"{name} changes"] += 1
            else:
                source.schema.check_fields(row.values)
                counts.records[name] += 1
    except FormatError as error:
        counts.files_refused[_reason(str(error).removeprefix(f"{file}: "))] += 1
        return
    if not rows:
        counts.silent.append(file)


def _reason(message: str) -> str:
    """The reason for a whole file without what is particular to it."""
    if "expected a file of a known format" in message:
        seen = message.rpartition(", got ")[2] if "root element" not in message else ""
        # Which keys or columns it has is the file's own matter.
        shape = next((each for each in ("JSON", "zip archive", "table or text") if each in seen), "")
        root = message.rpartition("root element ")[2].partition(" of namespace")[0].strip("'")
        return f"{shape or root}: no known format"
    for words in ("not JSON", "not well-formed XML", "can't be read to its end", "expected no DOCTYPE"):
        if words in message:
            return words
    return message.partition(", got ")[0][:80]


def table(data: Path) -> str:
    """The counts of all folders as a table of Markdown."""
    lines = [
        "| folder | files | records | rows refused | files refused |",
        "|---|---:|---|---|---|",
    ]
    for folder in FOLDERS:
        counts = count_folder(data / folder.name, folder.source)
        shown = (counts.records, counts.rows_refused, counts.files_refused)
        cells = [folder.name, str(counts.files), *(_shown(each) for each in shown)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counter.items())) or "–"


def documented_table() -> str:
    """The table that stands in docs/sources.md."""
    return _DOCUMENT.read_text("utf-8").partition(_BEGIN)[2].partition(_END)[0].strip()


def _main() -> None:
    data = data_folder()
    if data is None:
        sys.exit("expected real data in TAXLEDGER_DATA")
    made = table(data)
    print(made)
    if "--write" in sys.argv[1:]:
        text = _DOCUMENT.read_text("utf-8")
        before, _, rest = text.partition(_BEGIN)
        _DOCUMENT.write_text(f"{before}{_BEGIN}\n{made}\n{_END}{rest.partition(_END)[2]}", "utf-8")


if __name__ == "__main__":
    _main()
