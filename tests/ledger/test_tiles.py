"""Tiles against the definition in C2SP tlog-tiles, and paths in their one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxledger.ledger import merkle, tiles
from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import log_leaf

SIZE = 256 * 3 + 17
LEAVES = [log_leaf(index.to_bytes(2, "big")) for index in range(SIZE)]
NODES = merkle.EMPTY.extended(LEAVES)[1]


def get_node(level: int, index: int) -> bytes:
    return NODES[level, index]


def test_tiles_are_the_hashes_the_specification_names() -> None:
    for level, index, width in [(0, 0, 256), (0, 2, 256), (0, 3, 17), (0, 3, 5), (1, 0, 3)]:
        assert width <= tiles.tile_width_at(level, index, SIZE)
        data = tiles.tile_of(get_node, level, index, width)
        assert len(data) == 32 * width
        for at in range(width):
            begin = (index * 256 + at) * 256**level
            expected = merkle.root_of(LEAVES[begin : begin + 256**level])
            assert data[32 * at : 32 * at + 32] == expected


def test_width_of_the_specifications_example() -> None:
    size = 70_000
    assert [tiles.tile_width_at(0, index, size) for index in (0, 272, 273, 274)] == [256, 256, 112, 0]
    assert [tiles.tile_width_at(1, index, size) for index in (0, 1, 2)] == [256, 17, 0]
    assert [tiles.tile_width_at(2, index, size) for index in (0, 1)] == [1, 0]
    assert tiles.tile_width_at(0, 0, 256) == 256
    assert tiles.tile_width_at(1, 0, 256) == 1
    assert tiles.tile_width_at(63, 0, 2**63 - 1) == 0


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (tiles.Tile(level=0, index=1_234_067), "tile/0/x001/x234/067"),
        (tiles.Tile(level=0, index=1_067), "tile/0/x001/067"),
        (tiles.Tile(level=0, index=0), "tile/0/000"),
        (tiles.Tile(level=1, index=999, width=17), "tile/1/999.p/17"),
        (tiles.Tile(level=63, index=1_000, width=255), "tile/63/x001/000.p/255"),
    ],
)
def test_paths(tile: tiles.Tile, path: str) -> None:
    assert tiles.encode_tile_path(tile) == path
    assert tiles.parse_tile_path(path) == tile


@given(st.integers(0, 63), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_every_path_reads_back(level: int, index: int, width: int) -> None:
    tile = tiles.Tile(level=level, index=index, width=width)
    assert tiles.parse_tile_path(tiles.encode_tile_path(tile)) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/1",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "/tile/0/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/entries/000",
    ],
)
def test_other_paths_refused(path: str) -> None:
    with pytest.raises(FormatError):
        tiles.parse_tile_path(path)


@given(st.text(alphabet="tile/x0129.p", max_size=40))
def test_any_text_reads_as_itself_or_is_refused(path: str) -> None:
    try:
        tile = tiles.parse_tile_path(path)
    except FormatError:
        return
    assert tiles.encode_tile_path(tile) == path


@pytest.mark.parametrize(
    ("level", "index", "width"), [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_tiles_out_of_range_refused(level: int, index: int, width: int) -> None:
    with pytest.raises(FormatError, match="got"):
        tiles.tile_of(get_node, level, index, width)
