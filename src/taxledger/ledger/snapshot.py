"""Snapshots: what a node needs to go on from a certified block without replaying those before it.

A manifest ``[1, "snapshot", …]`` and chunks of at most ``limits.snapshot_chunk_bytes_max`` bytes, each named in
it by its SHA-256 (docs/protocol.md §19). First the *run*: for the blocks of the last 61 minutes and one more, each
header leaf with the ids of its transactions, so that no transaction counts twice; then the state map, ascending.

Everything is bound to the certified checkpoint: the run, put after the log's edge before it, gives the
checkpoint's root; the last header stands at the end of the log and names the state root; the map's pairs give
that root. Making, reading and writing are streams: memory holds two chunks, the headers of the run one by
one, and a few pages, whatever the size of the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.chainreader import ChainReader
from taxledger.ledger.errors import FormatError, check
from taxledger.ledger.hashing import sha256
from taxledger.ledger.merkle import frontier_at
from taxledger.ledger.statemap import MapView

__all__ = ["LOG", "MAP", "ChunkName", "Manifest", "decode_manifest", "encode_manifest", "make_snapshot"]

LOG, MAP = 0, 1
"""Kinds of chunks, in this order."""

_CHUNK_BYTES = limits.snapshot_chunk_bytes_max // 2
"""A chunk is closed when it has so many bytes: the next entry would never make it twice as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkName:
    """One chunk: its kind, its length in bytes, and its SHA-256."""

    kind: int
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a snapshot consists of; nothing in it is verified.

    Attributes:
        height: of the certified block.
        genesis_leaf: leaf 0.
        header_leaf: the block's header, the last leaf of the log.
        note: the block's certified checkpoint.
        first_index: of the run's first leaf.
        edge: the log's edge (``merkle.Frontier``) at that size.
        engine_height: of the engine's block that made this one, where the engine counts blocks of its own; else 0.
        chunks: in order, those of the run first.
    """

    height: int
    genesis_leaf: bytes
    header_leaf: bytes
    note: bytes
    first_index: int
    edge: tuple[bytes, ...]
    engine_height: int
    chunks: tuple[ChunkName, ...]


def encode_manifest(manifest: Manifest) -> bytes:
    return canonical.encode(
        [
            1,
            "snapshot",
            manifest.height,
            manifest.genesis_leaf,
            manifest.header_leaf,
            manifest.note,
            manifest.first_index,
            list(manifest.edge),
            manifest.engine_height,
            [[each.kind, each.size, each.digest] for each in manifest.chunks],
        ]
    )


def _is_number(value: Any, low: int, high: int = limits.integer_max) -> bool:
    return type(value) is int and low <= value <= high


def decode_manifest(data: bytes) -> Manifest:
    """The manifest of these bytes.

    Raises:
        EncodingError, LimitError, FormatError: they are none.
    """
    value = canonical.decode(data, bytes_max=limits.snapshot_manifest_bytes_max)
    kinds = [int, str, int, bytes, bytes, bytes, int, list, int, list]
    if type(value) is not list or [type(each) for each in value] != kinds or value[:2] != [1, "snapshot"]:
        raise FormatError("expected a manifest [1, 'snapshot', …] of 10 elements")
    _, _, height, genesis_leaf, header_leaf, note, first_index, edge, engine_height, named = value
    if any(type(each) is not bytes or len(each) != 32 for each in edge):
        raise FormatError("manifest: expected an edge of 32-byte hashes")
    if not _is_number(height, 1) or not _is_number(first_index, 1) or not _is_number(engine_height, 0):
        raise FormatError("manifest: expected a height, an index and an engine height in their ranges")
    if len(edge) != first_index.bit_count():
        raise FormatError(f"manifest: expected an edge of {first_index.bit_count()} hashes, got {len(edge)}")
    chunks = tuple(_decode_name(each) for each in named)
    order = [each.kind for each in chunks]
    if order != sorted(order) or order[:1] != [LOG] or order[-1:] != [MAP]:
        raise FormatError("manifest: expected chunks of the run, then chunks of the map")
    return Manifest(
        height=height,
        genesis_leaf=genesis_leaf,
        header_leaf=header_leaf,
        note=note,
        first_index=first_index,
        edge=tuple(edge),
        engine_height=engine_height,
        chunks=chunks,
    )


def _decode_name(value: Any) -> ChunkName:
    if type(value) is not list or len(value) != 3:
        raise FormatError("manifest: expected a chunk [kind, bytes, SHA-256]")
    kind, size, digest = value
    if not _is_number(kind, LOG, MAP) or not _is_number(size, 1, limits.snapshot_chunk_bytes_max):
        raise FormatError("manifest: expected a chunk of kind 0 or 1 and of a length within the limit")
    if type(digest) is not bytes or len(digest) != 32:
        raise FormatError("manifest: expected a chunk's SHA-256")
    return ChunkName(kind=kind, size=size, digest=digest)


# --- making -----------------------------------------------------------------------------------------


def run_begins_at(chain: ChainReader, height: int) -> int:
    """Height of the run's first block: the newest that is too old for any of its transactions to count again
    after ``height``, or the first of all.
    """
    end_ms = chain.header(height).time_ms - limits.repeat_window_ms
    while height > 1 and chain.header(height).time_ms > end_ms:
        height -= 1
    return height


def make_snapshot(
    chain: ChainReader,
    view: MapView,
    *,
    height: int,
    note: bytes,
    engine_height: int,
    put: Callable[[bytes], None],
) -> Manifest:
    """A snapshot of a certified block.

    Args:
        chain: over a snapshot of the store in which that block is the newest certified one.
        view: the state map after the block.
        height: of the block.
        note: its certified checkpoint.
        engine_height: see ``Manifest``.
        put: takes each chunk, in order.

    Raises:
        RefusedError: ``pruned``: this store lacks a part of the run itself.
    """
    first = run_begins_at(chain, height)
    names: list[ChunkName] = []
    for kind, entries in ((LOG, _run(chain, first, height)), (MAP, _pairs(view))):
        for data in _chunks(entries):
            put(data)
            names.append(ChunkName(kind=kind, size=len(data), digest=sha256(data)))
    first_index = chain.header(first).first_index
    return Manifest(
        height=height,
        genesis_leaf=chain.leaf(0),
        header_leaf=chain.header_leaf(height),
        note=note,
        first_index=first_index,
        edge=frontier_at(chain.node, first_index).edge,
        engine_height=engine_height,
        chunks=tuple(names),
    )


def _run(chain: ChainReader, first: int, last: int) -> Iterator[tuple[bytes, bytes]]:
    for height in range(first, last + 1):
        header = chain.header(height)
        yield (
            chain.header_leaf(height),
            b"".join(chain.node(0, index) for index in range(header.first_index, header.index)),
        )


def _pairs(view: MapView) -> Iterator[tuple[bytes, bytes]]:
    return view.scan(b"")


def _chunks(entries: Iterator[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Flat arrays of both halves of the entries, of a bounded number of bytes."""
    flat: list[bytes] = []
    size = 0
    for left, right in entries:
        flat += (left, right)
        size += len(left) + len(right) + 8
        if size >= _CHUNK_BYTES:
            yield _packed(flat)
            flat, size = [], 0
    if flat:
        yield _packed(flat)


def _packed(flat: list[bytes]) -> bytes:
    data = canonical.encode(flat)
    check(len(data) <= limits.snapshot_chunk_bytes_max, "a chunk is larger than a reader would take")
    return data
