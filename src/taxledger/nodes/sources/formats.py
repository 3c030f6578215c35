"""What a file looks like, and what a format is: the words that ``documents.py`` and every source share.

A format is told from the content of a file: its root element, JSON keys, table header or zip members. The name
of a file says nothing.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.ledger.schemas import Schema
from taxledger.nodes.sources.cells import strip_cell
from taxledger.nodes.sources.jsonreader import read_json
from taxledger.nodes.sources.rows import Source, open_binary
from taxledger.nodes.sources.xmlreader import Root, read_root
from taxledger.nodes.sources.zipreader import Archive

__all__ = ["Format", "Look", "SourceOptions", "look_at"]

_HEAD_BYTES = 64 * 1024
_LINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What a person may say about files beside their format.

    Attributes:
        subject: whose records are wanted, in its one form; those of others are rejected. None: everybody's.
        side: of an invoice: the seller's ``sale`` or the buyer's ``purchase``.
        dated: ``YYYY-MM-DD``: what to take where a document names no day of its own: the day a declaration was
            received, the last day of a return's period, the year of a list of grades.
    """

    subject: str | None = None
    side: str = "sale"
    dated: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a file looks like.

    Attributes:
        path: of the file, for a format that can be told only from further inside.
        shape: ``xml``, ``json``, ``zip`` or ``table``.
        root: of XML: the root element, else None.
        keys: of JSON: the keys of the first object (of a list: of its first object).
        members: of a zip: the names in it.
        lines: of a table: the cells of its first eight lines with anything in them, stripped of blanks.
    """

    path: Path
    shape: str
    root: Root | None = None
    keys: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    lines: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        if self.root is not None:
            return f"XML with the root element {self.root.name[:80]!r} of namespace {self.root.namespace[:120]!r}"
        if self.shape == "json":
            return f"JSON with the keys {_some(self.keys)}"
        if self.shape == "zip":
            return f"a zip archive with {_some(self.members)}"
        return f"a table or text that starts with {_some(self.lines[0]) if self.lines else 'nothing'}"


def _some(names: frozenset[str] | tuple[str, ...]) -> str:
    shown = sorted(names) if isinstance(names, frozenset) else names
    return ", ".join(f"{each[:40]!r}" for each in shown[:6]) + (", …" if len(shown) > 6 else "") or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One form of file that a source reads.

    Attributes:
        name: as ``--source`` takes it, like ``ubl``.
        title: for people, like ``UBL 2.x invoices and credit notes``.
        schema: of the records.
        looks: whether a file that looks so is of this form; None: never told by itself, only asked for by name.
        open: the source that reads such files.
    """

    name: str
    title: str
    schema: Schema
    looks: Callable[[Look], bool] | None
    open: Callable[[SourceOptions], Source]


def look_at(path: Path) -> Look:
    """What a file (plain or gzip) looks like.

    Raises:
        FormatError: it can't be read, is empty, or is broken XML, JSON or zip; names the file.
    """
    try:
        with open_binary(path) as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise FormatError(f"{path}: can't be read to its end: {error}") from error
    if head.startswith(b"PK"):
        with Archive(path) as archive:
            return Look(path=path, shape="zip", members=frozenset(archive.names))
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1", "replace")
    start = text.removeprefix("ï»¿").lstrip()
    if not start:
        raise FormatError(f"{path}: expected a document or table, got an empty file")
    if start.startswith("<"):
        try:
            return Look(path=path, shape="xml", root=read_root(path))
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error
    if start[0] in "{[":
        return Look(path=path, shape="json", keys=_keys(read_json(path)[0]))
    return Look(path=path, shape="table", lines=_lines(head))


def _keys(document: object) -> frozenset[str]:
    first = document[0] if isinstance(document, list) and document else document
    return frozenset(first) if isinstance(first, dict) else frozenset()


def _lines(head: bytes) -> tuple[tuple[str, ...], ...]:
    """The cells of the first lines, separated by what separates most of them."""
    try:
        # Not final: the head may end within a character.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        text = head.decode("latin-1")  # another encoding: column names in ASCII can be told all the same
    lines = [line for line in text.splitlines() if line.strip(" \t,;")][:_LINES]
    separator = max(",;\t", key="\n".join(lines).count)
    try:
        rows = list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        rows = [[line] for line in lines]
    return tuple(tuple(strip_cell(cell) for cell in row) for row in rows)
