"""The font of reports, with Chinese characters: found, and cut down to the characters of one page.

It comes with the package ``pylopdf-fonts-zh-cn`` (Noto Sans SC, SIL Open Font License); ``TAXLEDGER_FONT`` names
another OpenType or TrueType file.
"""

from __future__ import annotations

import io
import os
from importlib import resources
from pathlib import Path

from fontTools import subset
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont, TTLibError, newTable

from taxledger.ledger.errors import FormatError

__all__ = ["FONT_VARIABLE", "find_font", "subset_truetype", "subset_woff2"]

FONT_VARIABLE = "TAXLEDGER_FONT"
_PACKAGE, _FILE = "pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"
_SUFFIXES = (".otf", ".ttf")


def find_font(named: str | None = None) -> Path:
    """The font file.

    Args:
        named: a path; None for that of the environment, and the package's without one.

    Raises:
        FormatError: there is none, or it is no font.
    """
    chosen = named or os.environ.get(FONT_VARIABLE)
    if chosen:
        path = Path(chosen)
        if path.suffix.lower() not in _SUFFIXES or not path.is_file():
            raise FormatError(f"{FONT_VARIABLE}: expected an .otf or .ttf file, got {chosen!r}")
        return path
    try:
        found = resources.files(_PACKAGE) / _FILE
    except ModuleNotFoundError:
        found = None
    if not isinstance(found, Path) or not found.is_file():
        raise FormatError(
            "no font with Chinese characters: install taxledger[lending], or name a font file by "
            f"{FONT_VARIABLE}"
        )
    return found


def subset_woff2(path: Path, text: str) -> bytes:
    """A WOFF2 file with the characters of a text, for a page: the same text gives the same bytes.

    Raises:
        FormatError: it is no font.
    """
    font = _subset(path, text)
    font.flavor = "woff2"
    return _bytes(font)


def subset_truetype(path: Path, text: str) -> tuple[bytes, frozenset[int]]:
    """A TrueType file with the characters of a text, for a PDF, and the code points it has.

    PDF readers find the text behind TrueType glyphs more surely than behind CFF's, which need a mapping of their own.

    Raises:
        FormatError: it is no font.
    """
    font = _subset(path, text)
    if "CFF " in font:
        _to_quadratic(font)
    return _bytes(font), frozenset(font.getBestCmap() or {})


def _subset(path: Path, text: str) -> TTFont:
    options = subset.Options(hinting=False, layout_features=["kern"], name_IDs=[1, 2, 6, 13, 14])
    options.notdef_outline = True
    try:
        font = TTFont(io.BytesIO(path.read_bytes()), recalcTimestamp=False)
    except (TTLibError, OSError) as error:
        raise FormatError(f"{path.name}: expected an OpenType font") from error
    cutter = subset.Subsetter(options)
    cutter.populate(text="".join(sorted(set(text))))
    cutter.subset(font)
    return font


def _to_quadratic(font: TTFont) -> None:
    """Cubic outlines as quadratic ones, no point of a curve further off than a thousandth of the font size."""
    order = font.getGlyphOrder()
    glyphs = font.getGlyphSet()
    drawn = {}
    for name in order:
        pen = TTGlyphPen(None)
        glyphs[name].draw(Cu2QuPen(pen, font["head"].unitsPerEm // 1_000, reverse_direction=True))
        drawn[name] = pen.glyph()
    font["loca"] = newTable("loca")
    table = font["glyf"] = newTable("glyf")
    table.glyphOrder, table.glyphs = order, drawn
    table.compile(font)
    for name, (advance, _bearing) in font["hmtx"].metrics.items():
        font["hmtx"][name] = (advance, getattr(drawn[name], "xMin", 0))
    limits = font["maxp"]
    limits.tableVersion = 0x00010000
    for each in (
        "maxTwilightPoints",
        "maxStorage",
        "maxFunctionDefs",
        "maxInstructionDefs",
        "maxStackElements",
    ):
        setattr(limits, each, 0)
    limits.maxZones, limits.maxSizeOfInstructions = 1, 0
    limits.maxComponentElements = max(
        (len(getattr(each, "components", ())) for each in drawn.values()), default=0
    )
    limits.compile(font)
    for each in ("CFF ", "VORG"):
        if each in font:
            del font[each]
    font["post"].formatType = 3.0
    font.sfntVersion = "\x00\x01\x00\x00"


def _bytes(font: TTFont) -> bytes:
    file = io.BytesIO()
    font.save(file)
    return file.getvalue()
