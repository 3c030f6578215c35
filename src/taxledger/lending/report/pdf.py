"""A portrait as a PDF: the same sections and plots as the page, on A4, with the font embedded.

Invariant: characters that the font does not have are shown as their code point, so no text silently disappears.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, WrapMode

from taxledger.ledger.errors import check
from taxledger.lending.report.blocks import (
    Block,
    Cards,
    Cell,
    Label,
    Line,
    Note,
    Pairs,
    Plot,
    Portrait,
    Rect,
    Section,
    Table,
)
from taxledger.lending.report.fonts import find_font, subset_truetype
from taxledger.lending.report.texts import TEXTS, Language, text

__all__ = ["render_pdf"]

_MARGIN_MM, _WIDTH_MM, _BOTTOM_MM = 15, 180, 16
_FAMILY = "report"
_COLOURS = {
    "ink": (27, 39, 51),
    "muted": (92, 107, 122),
    "faint": (154, 167, 180),
    "grid": (227, 232, 237),
    "blue": (47, 109, 181),
    "teal": (58, 157, 143),
    "amber": (217, 154, 43),
    "good": (31, 122, 77),
    "bad": (179, 49, 44),
    "doubt": (154, 100, 0),
    "veil": (238, 242, 246),
    "white": (255, 255, 255),
}
_ALWAYS = "".join(map(chr, range(0x20, 0x7F))) + TEXTS["page"][1]
"""Beside the portrait's own: page numbers, and how a character that the font does not have is shown."""
_POINTS_PER_UNIT = 72 / 254
"""A plot's font sizes are tenths of a millimetre."""


def render_pdf(portrait: Portrait, decided_ms: int, font: Path | None = None) -> bytes:
    """The document.

    Args:
        portrait: what it shows.
        decided_ms: becomes its creation date: no clock is asked.
        font: the file to embed; None for the one that ``find_font`` finds.

    Raises:
        FormatError: there is no font.
    """
    file, known = subset_truetype(font or find_font(), "".join(_words(portrait)) + _ALWAYS)
    with tempfile.NamedTemporaryFile(suffix=".ttf") as holder:  # the library reads fonts from files only
        holder.write(file)
        holder.flush()
        page = _Page(portrait, holder.name, known)
        page.set_creation_date(datetime.fromtimestamp(decided_ms // 1000, UTC))
        page.add_page()
        page.put_header()
        for section in portrait.sections:
            page.put_section(section)
        return bytes(page.output())


def _words(value: object) -> Iterator[str]:
    """Every text in blocks, whatever holds it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _words(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _words(getattr(value, field.name))


class _Page(FPDF):
    """Puts blocks one under the other, and begins a page where one has no room."""

    def __init__(self, portrait: Portrait, font: str, known: frozenset[int]) -> None:
        super().__init__(orientation="portrait", unit="mm", format="A4")
        self._portrait = portrait
        self._known = known
        self._language: Language = "zh" if portrait.language == "zh" else "en"
        self.set_margins(_MARGIN_MM, _MARGIN_MM, _MARGIN_MM)
        self.set_auto_page_break(False)
        self.c_margin = 0.0
        self.add_font(_FAMILY, "", font)
        self.set_title(self._clean(f"{portrait.title} · {portrait.name}"))
        self.set_lang("zh-CN" if portrait.language == "zh" else "en")
        self.set_creator("taxledger")

    # --- helpers ----------------------------------------------------------------------------

    def _clean(self, words: str) -> str:
        return "".join(each if ord(each) in self._known else f"[U+{ord(each):04X}]" for each in words)

    def _style(self, tone: str, points: float) -> None:
        self.set_font(_FAMILY, size=points)
        self.set_text_color(*_COLOURS[tone])

    def _room(self, height: float) -> bool:
        """Begins a page unless so much is left on this one; whether it did."""
        if self.get_y() + height <= self.h - _BOTTOM_MM:
            return False
        self.add_page()
        return True

    def _lines(self, words: str, width: float, points: float) -> list[str]:
        self.set_font(_FAMILY, size=points)
        found = self.multi_cell(
            width, 5, self._clean(words), dry_run=True, output=MethodReturnValue.LINES, wrapmode=WrapMode.WORD
        )
        check(isinstance(found, list), "lines of a dry run")
        return [str(each) for each in cast("list[str]", found)] or [""]

    def _write(
        self, x: float, y: float, lines: list[str], width: float, step: float, *, right: bool = False
    ) -> None:
        for at, each in enumerate(lines):
            left = x + width - self.get_string_width(each) if right else x
            self.text(left, y + step * at + step * 0.72, each)

    def footer(self) -> None:
        self._style("muted", 7)
        self.text(_MARGIN_MM, self.h - 10, self._clean(self._portrait.footer))
        number = text("page", self._language, n=self.page_no())
        self.text(_MARGIN_MM + _WIDTH_MM - self.get_string_width(number), self.h - 10, number)

    # --- blocks -----------------------------------------------------------------------------

    def put_header(self) -> None:
        portrait = self._portrait
        top = self.get_y()
        self._style("white", 13)
        badge = self._clean(portrait.outcome)
        width = self.get_string_width(badge) + 12
        self.set_fill_color(*_COLOURS[portrait.tone])
        self.rect(_MARGIN_MM + _WIDTH_MM - width, top, width, 11, style="F")
        self.text(_MARGIN_MM + _WIDTH_MM - width + 6, top + 7.4, badge)
        self._style("muted", 9)
        self.text(_MARGIN_MM, top + 3, self._clean(portrait.title))
        lines = self._lines(portrait.name, _WIDTH_MM - width - 8, 18)
        self._style("ink", 18)
        self._write(_MARGIN_MM, top + 5, lines, 0, 8.5)
        y = top + 6 + 8.5 * len(lines)
        self._style("muted", 9)
        named = () if portrait.subject == portrait.name else (portrait.subject,)
        for each in (*named, "    ".join(portrait.lines)):
            lines = self._lines(each, _WIDTH_MM, 9)
            self._write(_MARGIN_MM, y, lines, 0, 5)
            y += 5 * len(lines)
        self.set_draw_color(*_COLOURS["ink"])
        self.set_line_width(0.5)
        self.line(_MARGIN_MM, y + 2, _MARGIN_MM + _WIDTH_MM, y + 2)
        self.set_y(y + 6)

    def put_section(self, section: Section) -> None:
        if section.title:
            first = section.blocks[0] if section.blocks else None
            self._room(13 + min(sum(self._height(each) for each in section.blocks[:2]) if first else 0, 90))
            y = self.get_y() + 3
            self.set_fill_color(*_COLOURS["blue"])
            self.rect(_MARGIN_MM, y, 1, 6, style="F")
            self._style("ink", 13)
            self.text(_MARGIN_MM + 3, y + 4.7, self._clean(section.title))
            self.set_y(y + 9)
        for block in section.blocks:
            self._put(block)
        self.set_y(self.get_y() + 2)

    def _height(self, block: Block) -> float:
        match block:
            case Plot():
                return block.height / 10 + 3
            case Note():
                return 5 * len(self._lines(block.text, _WIDTH_MM, 9)) + 1
            case _:
                return 16

    def _put(self, block: Block) -> None:
        match block:
            case Plot():
                self._room(block.height / 10 + 3)
                self._draw(block, _MARGIN_MM, self.get_y())
                self.set_y(self.get_y() + block.height / 10 + 3)
            case Note():
                lines = self._lines(block.text, _WIDTH_MM, 9)
                self._room(5 * len(lines) + 1)
                self._style(block.tone, 9)
                self._write(_MARGIN_MM, self.get_y(), lines, 0, 5)
                self.set_y(self.get_y() + 5 * len(lines) + 1)
            case Cards():
                self._put_cards(block)
            case Pairs():
                self._put_pairs(block)
            case Table():
                self._put_table(block)

    def _put_cards(self, block: Cards) -> None:
        self._room(18)
        y, gap = self.get_y(), 3
        width = (_WIDTH_MM - gap * (len(block.cards) - 1)) / len(block.cards)
        for at, (name, value, tone) in enumerate(block.cards):
            x = _MARGIN_MM + at * (width + gap)
            self.set_fill_color(*_COLOURS["veil"])
            self.rect(x, y, width, 15, style="F")
            self._style("muted", 8)
            self.text(x + 3, y + 5.2, self._clean(name))
            self._style(tone, 12)
            shown = self._clean(value)
            while self.get_string_width(shown) > width - 6 and self.font_size_pt > 6:
                self.set_font(_FAMILY, size=self.font_size_pt - 0.5)
            self.text(x + 3, y + 11.6, shown)
        self.set_y(y + 18)

    def _put_pairs(self, block: Pairs) -> None:
        points = 8 if block.fixed else 9
        step = 4.4 if block.fixed else 5.2
        self.set_font(_FAMILY, size=points)
        left = max(self.get_string_width(self._clean(name)) for name, _value in block.rows) + 6
        for name, value in block.rows:
            lines = self._lines(value, _WIDTH_MM - left, points)
            self._room(step * len(lines))
            y = self.get_y()
            self._style("muted", points)
            self._write(_MARGIN_MM, y, [self._clean(name)], 0, step)
            self._style("ink", points)
            self._write(_MARGIN_MM + left, y, lines, 0, step)
            self.set_y(y + step * len(lines))
        self.set_y(self.get_y() + 3)

    def _put_table(self, block: Table) -> None:
        whole = sum(each.share for each in block.columns)
        widths = [_WIDTH_MM * each.share / whole for each in block.columns]
        self._put_row(block, widths, tuple(each.title for each in block.columns), "muted", "muted", "faint")
        for at, row in enumerate(block.rows):
            if self._room(self._row_height(row, widths)):
                heads = tuple(each.title for each in block.columns)
                self._put_row(block, widths, heads, "muted", "muted", "faint")
            self._put_row(block, widths, row, block.tones[at] if block.tones else "ink", "ink", "grid")
        self.set_y(self.get_y() + 2)

    def _row_height(self, row: tuple[Cell, ...], widths: list[float]) -> float:
        texts = [
            len(self._lines(cell, width - 3, 8.5))
            for cell, width in zip(row, widths, strict=True)
            if isinstance(cell, str)
        ]
        return 4.4 * max(texts, default=1) + 2

    def _put_row(
        self, block: Table, widths: list[float], row: tuple[Cell, ...], first: str, tone: str, line: str
    ) -> None:
        height = self._row_height(row, widths)
        x, y = float(_MARGIN_MM), self.get_y()
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            numeric = block.columns[at].numeric
            inner = width if at == len(row) - 1 and numeric else width - 3
            if isinstance(cell, str):
                lines = self._lines(cell, width - 3, 8.5)
                self._style(first if at == 0 else tone, 8.5)
                self._write(x, y + 1, lines, inner, 4.4, right=numeric)
            else:
                self._draw(cell, x, y + 1.4)
            x += width
        self.set_draw_color(*_COLOURS[line])
        self.set_line_width(0.2)
        self.line(_MARGIN_MM, y + height, _MARGIN_MM + _WIDTH_MM, y + height)
        self.set_y(y + height)

    def _draw(self, plot: Plot, left: float, top: float) -> None:
        for mark in plot.marks:
            match mark:
                case Rect():
                    self.set_fill_color(*_COLOURS[mark.tone])
                    self.rect(
                        left + mark.x / 10, top + mark.y / 10, mark.width / 10, mark.height / 10, style="F"
                    )
                case Line():
                    self.set_draw_color(*_COLOURS[mark.tone])
                    self.set_line_width(mark.weight / 10)
                    self.line(
                        left + mark.x1 / 10, top + mark.y1 / 10, left + mark.x2 / 10, top + mark.y2 / 10
                    )
                case Label():
                    self._style(mark.tone, mark.size * _POINTS_PER_UNIT)
                    shown = self._clean(mark.text)
                    width = self.get_string_width(shown)
                    moved = {"start": 0.0, "middle": width / 2, "end": width}[mark.anchor]
                    self.text(left + mark.x / 10 - moved, top + mark.y / 10, shown)
