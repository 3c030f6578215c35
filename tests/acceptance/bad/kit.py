"""What the tables of bad input work with: a running network, one invoice, evidence of it, and a judge."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["GOOD", "HEADER", "QUESTION", "SUBJECT", "Command", "Kit", "bad_kit", "judge"]

HEADER = ("企业代号", "发票号码", "开票日期", "购方单位代号", "金额", "税额", "价税合计", "发票状态")
GOOD = ("E5", "1001", "2024/1/31", "B1", "100.0", "13.0", "113.0", "有效发票")
SUBJECT = "cumcm:E5"
QUESTION = ("--subject", SUBJECT, "--kind", "vat_invoice", "--from", "2024-01", "--to", "2024-12")
_MAPPING = """\
kind = "vat_invoice"
[subject]
column = "企业代号"
scheme = "cumcm"
[columns]
number = "发票号码"
date = "开票日期"
counterparty = "购方单位代号"
net = "金额"
tax = "税额"
gross = "价税合计"
[constants]
direction = "sale"
currency = "CNY"
"""


class Outcome(Protocol):
    """What a command said."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@dataclass(kw_only=True)
class Kit:
    """A running network of two, one attested invoice, good evidence of it, and a folder for bad files."""

    folder: Path
    net: Path
    evidence: Path

    @property
    def tax(self) -> Path:
        return self.net / "tax"

    @property
    def bank(self) -> Path:
        return self.net / "bank1"

    @property
    def other_policy(self) -> Path:
        """Of a network that has nothing to do with this one."""
        return self.folder / "other-net" / "policy.txt"

    @property
    def policy(self) -> Path:
        return self.net / "policy.txt"

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def place(self, *files: tuple[str, str]) -> Path:
        """A folder of these files and no others."""
        folder = self.folder / "notes"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in files:
            (folder / name).write_text(content, encoding="utf-8")
        return folder

    def table(self, *rows: Sequence[str], header: Sequence[str] = HEADER, encoding: str = "utf-8") -> Path:
        text = io.StringIO()
        csv.writer(text).writerows([header, *rows])
        return self.file("rows.csv", text.getvalue().encode(encoding))

    def changed(self, cell: int, text: str) -> Path:
        """A table whose one row has one other cell."""
        row = list(GOOD)
        row[cell] = text
        return self.table(row)

    def other_home(self, name: str, change: Callable[[bytes], bytes] | None) -> Path:
        """A copy of the bank's home in which one file is changed, or absent."""
        home = self.folder / "other" / "bank1"
        shutil.rmtree(home.parent, ignore_errors=True)
        home.parent.mkdir()
        ignored = shutil.ignore_patterns("store", "log", "*.sqlite*")
        shutil.copytree(self.bank, home, ignore=ignored)
        content = (home / name).read_bytes()
        (home / name).unlink()
        if change is not None:
            (home / name).write_bytes(change(content))
            (home / name).chmod(0o600)
        return home

    def workbook(self, *rows: Sequence[object]) -> Path:
        from openpyxl import Workbook

        book = Workbook()
        for row in (HEADER, *rows):
            book.active.append(row)
        path = self.folder / "rows.xlsx"
        book.save(path)
        return path

    def mapping(self, old: str = "", new: str = "") -> Path:
        assert old in _MAPPING
        return self.file("mapping.toml", _MAPPING.replace(old, new, 1) if old else _MAPPING + new)


@contextmanager
def bad_kit(folder: Path, run: Run) -> Iterator[Kit]:
    """A kit in a new folder; its network is stopped at the end."""
    kit = Kit(folder=folder, net=folder / "net", evidence=folder / "good.evidence")
    folder.mkdir(exist_ok=True)

    def ok(*arguments: object) -> None:
        said = run(*arguments)
        assert said.status == 0, said

    ok("network", "create", kit.net, "--members", "tax,bank1")
    ok("network", "create", folder / "other-net", "--members", "tax,bank1")
    try:
        ok("network", "start", kit.net)
        ok("attest", "--home", kit.tax, "--source", "cumcm", kit.table(GOOD))
        ok("evidence", "get", "--home", kit.tax, *QUESTION, "-o", kit.evidence)
        yield kit
    finally:
        run("network", "stop", kit.net)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line. ``said`` must stand in what it prints, ``status`` is its exit status."""

    area: str
    what: str
    arguments: Callable[[Kit], Sequence[object]]
    status: int
    said: str


def judge(command: Command, outcome: Outcome) -> str:
    """What is wrong with the answer to bad input; "" when nothing is."""
    text = outcome.out + outcome.err
    if "Traceback" in text or "bug of ours" in text or "Error:" in outcome.err.partition("\n")[0][:40]:
        return f"a traceback or a bug: {text[-300:]}"
    if outcome.status != command.status:
        return f"exit status {outcome.status}, not {command.status}: {text[-300:]}"
    if " ".join(command.said.split()) not in " ".join(text.split()):
        return f"does not say {command.said!r}: {text[-300:]}"
    return ""
