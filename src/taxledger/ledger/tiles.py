"""Tiles: the log's nodes in files of 256 hashes, C2SP ``tlog-tiles``.

A tile of level l and index n is the run of the tree's nodes of level 8·l with the indexes
``[256·n, 256·n + width)``, 32 bytes each. Only the rightmost tile of a level may be partial,
of a width below 256. A path has exactly one form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError
from taxledger.ledger.merkle import GetNode

__all__ = [
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "Tile",
    "encode_tile_path",
    "parse_tile_path",
    "tile_of",
    "tile_width_at",
]

TILE_HEIGHT = 8
TILE_WIDTH = 256
_LEVEL_MAX = 63
_PATH = re.compile(r"tile/(0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Which tile.

    Attributes:
        level: 0 for leaf hashes … 63.
        index: position within the level, from 0.
        width: number of hashes, 1 … 256; below 256 the tile is partial.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not 0 <= self.level <= _LEVEL_MAX:
            raise FormatError(f"expected a tile level from 0 to {_LEVEL_MAX}, got {self.level}")
        if not 0 <= self.index <= limits.integer_max:
            raise FormatError(f"expected a tile index of at most 63 bits, got {self.index}")
        if not 1 <= self.width <= TILE_WIDTH:
            raise FormatError(f"expected a tile width from 1 to {TILE_WIDTH}, got {self.width}")


def encode_tile_path(tile: Tile) -> str:
    """The path of a tile, e.g. ``tile/0/x001/067`` or ``tile/1/000.p/17``."""
    digits = str(tile.index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    suffix = "" if tile.width == TILE_WIDTH else f".p/{tile.width}"
    return f"tile/{tile.level}/{path}{suffix}"


def parse_tile_path(path: str) -> Tile:
    """The tile that a path names.

    Raises:
        FormatError: not the one form of a path.
    """
    found = _PATH.fullmatch(path)
    if found is None:
        raise FormatError(f"expected tile/<level>/<index>[.p/<width>], got {path[:80]!r}")
    level, index, width = found.groups()
    tile = Tile(
        level=int(level),
        index=int(index.replace("x", "").replace("/", "")),
        width=TILE_WIDTH if width is None else int(width),
    )
    if encode_tile_path(tile) != path:  # leading groups of zeros, or a full tile written as partial
        raise FormatError(f"expected the path {encode_tile_path(tile)!r}, got {path!r}")
    return tile


def tile_width_at(level: int, index: int, size: int) -> int:
    """How many hashes this tile has in a log of ``size`` leaves: 0 (there is no such tile) … 256."""
    return min(TILE_WIDTH, max(0, (size >> TILE_HEIGHT * level) - TILE_WIDTH * index))


def tile_of(get_node: GetNode, level: int, index: int, width: int) -> bytes:
    """The tile's bytes: ``32 · width``. The caller has made sure that the log is that large.

    Raises:
        FormatError: level, index or width out of range.
    """
    tile = Tile(level=level, index=index, width=width)
    first = TILE_WIDTH * tile.index
    return b"".join(get_node(TILE_HEIGHT * level, at) for at in range(first, first + tile.width))
