"""What a report is made of, before it is a page or a PDF: sections of tables, figures, notes and plots.

A plot is a list of marks in tenths of a millimetre, so that both forms draw the same one. Every text in here is
plain (``plain.py``); escaping it for its form is the renderer's.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "WIDTH",
    "Block",
    "Cards",
    "Cell",
    "Column",
    "Label",
    "Line",
    "Mark",
    "Note",
    "Pairs",
    "Plot",
    "Portrait",
    "Rect",
    "Section",
    "Table",
    "Tone",
]

WIDTH = 1800
"""Of a page's content: 180 mm."""

Tone = str
"""Names a colour: ink, muted, faint, grid, blue, teal, amber, good, bad, doubt, veil, white."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """A filled rectangle; ``title`` is what a pointer over it reads."""

    x: int
    y: int
    width: int
    height: int
    tone: Tone
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line of ``weight`` tenths of a millimetre."""

    x1: int
    y1: int
    x2: int
    y2: int
    tone: Tone
    weight: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text whose baseline begins, has its middle or ends at (x, y)."""

    x: int
    y: int
    text: str
    anchor: str = "start"
    tone: Tone = "ink"
    size: int = 26


Mark = Rect | Line | Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot; ``summary`` says in words what it shows."""

    width: int
    height: int
    marks: tuple[Mark, ...]
    summary: str


Cell = str | Plot


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A table's column; ``share`` is its part of the width, numbers stand to the right."""

    title: str
    share: int
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; ``tones``: colour of each row's first cell, or nothing."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    tones: tuple[Tone, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Names and values, one under the other; ``fixed``: values are codes, each character of one width."""

    rows: tuple[tuple[str, str], ...]
    fixed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Key figures side by side: (name, value, tone)."""

    cards: tuple[tuple[str, str, Tone], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence; its tone says how much it matters."""

    text: str
    tone: Tone = "muted"


Block = Table | Pairs | Cards | Note | Plot


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """A whole report.

    Attributes:
        language: ``zh`` or ``en``.
        title: of the document.
        name: of the enterprise; ``subject`` its identifier.
        outcome: in words, with its ``tone``.
        lines: under the name: product, dates.
        sections: in order.
        footer: on every page of a PDF, at the end of a page.
        digest: SHA-256 of the decision's bytes in hex.
    """

    language: str
    title: str
    name: str
    subject: str
    outcome: str
    tone: Tone
    lines: tuple[str, ...]
    sections: tuple[Section, ...]
    footer: str
    digest: str
