"""Pages: runs of the trie as packed bytes, and the bounded cache of them.

A page holds a sub-trie of entries (leaves, or references to the pages below) with its inner hashes, so that
a change re-hashes one path. Columns of n entries, big-endian:

    n1 width1 | split bit 2 | reference 5, extent 2 | key, zero-padded to width | hash 32 | inner hash 32

``reference`` is 0 for a leaf, else the number of the page below; ``extent`` is the leaf's key length in
bytes, or the first bit in which the keys below the reference differ, and the key then holds the bits they
share. The first inner hash is the whole page's; the first split bit is not used.

Page numbers are given out in ascending order and never again. A page is rewritten in place, and with it all
pages above, so a reference's hash names the content of the page below.
"""

from __future__ import annotations

import struct
import threading
from functools import lru_cache

from taxledger.ledger import limits

__all__ = [
    "HASH_BYTES",
    "HEAD_BYTES",
    "LEAF",
    "REFERENCE_BYTES",
    "Columns",
    "PageCache",
    "bits_column",
    "bytes_column",
    "decode_page",
    "encode_page",
    "entry_of",
    "keys_of",
    "page_hash",
    "page_key",
    "reference",
]

LEAF = bytes(5)
HEAD_BYTES = 2
REFERENCE_BYTES = 7
HASH_BYTES = 32


class Columns:
    """The columns of a page, or of a longer run on its way to pages; all of one length.

    Attributes:
        bits: the split bit before each entry (−1 before the first).
        references: 7 bytes each.
        keys: padded or not.
        hashes: of each entry.
        inner: hash of the inner node that splits before each entry; of the whole run for the first.
    """

    __slots__ = ("bits", "hashes", "inner", "keys", "references")

    def __init__(
        self,
        bits: list[int],
        references: list[bytes],
        keys: list[bytes],
        hashes: list[bytes],
        inner: list[bytes],
    ) -> None:
        self.bits = bits
        self.references = references
        self.keys = keys
        self.hashes = hashes
        self.inner = inner

    def extend(self, other: Columns, start: int, stop: int) -> None:
        """Append a part of other columns."""
        self.bits += other.bits[start:stop]
        self.references += other.references[start:stop]
        self.keys += other.keys[start:stop]
        self.hashes += other.hashes[start:stop]
        self.inner += other.inner[start:stop]


@lru_cache(maxsize=1024)
def bits_column(count: int) -> struct.Struct:
    return struct.Struct(f">{count}H")


@lru_cache(maxsize=1024)
def bytes_column(count: int, width: int) -> struct.Struct:
    """A column of ``count`` byte strings of ``width`` bytes."""
    return struct.Struct(f"{width}s" * count)


def reference(number: int, extent: int) -> bytes:
    """The 7 bytes of a reference: page number (0: a leaf) and extent."""
    return number.to_bytes(5, "big") + extent.to_bytes(2, "big")


def page_key(number: int) -> bytes:
    """Where a page is stored."""
    return b"p" + number.to_bytes(5, "big")


def encode_page(page: Columns) -> bytes:
    width = max(map(len, page.keys))
    count = len(page.keys)
    return b"".join(
        (
            bytes((count, width)),
            bits_column(count).pack(0, *page.bits[1:]),
            *page.references,
            *[key.ljust(width, b"\0") for key in page.keys],
            *page.hashes,
            *page.inner,
        )
    )


def decode_page(data: bytes) -> Columns:
    """The columns of our own bytes (they are not checked; ``page_hash`` was). Keys come padded."""
    count, width = data[0], data[1]
    at = HEAD_BYTES
    bits = list(bits_column(count).unpack_from(data, at))
    bits[0] = -1
    at += 2 * count
    references = list(bytes_column(count, REFERENCE_BYTES).unpack_from(data, at))
    at += REFERENCE_BYTES * count
    keys = list(bytes_column(count, width).unpack_from(data, at))
    at += width * count
    hashes = list(bytes_column(count, HASH_BYTES).unpack_from(data, at))
    inner = list(bytes_column(count, HASH_BYTES).unpack_from(data, at + HASH_BYTES * count))
    return Columns(bits, references, keys, hashes, inner)


def keys_of(data: bytes) -> tuple[bytes, ...]:
    """The keys of a page, padded to its width."""
    count, width = data[0], data[1]
    at = HEAD_BYTES + (2 + REFERENCE_BYTES) * count
    return bytes_column(count, width).unpack_from(data, at)


def entry_of(data: bytes, entry: int) -> tuple[int, int, bytes]:
    """Page number (0: a leaf), extent and hash of one entry of a page."""
    at = HEAD_BYTES + 2 * data[0] + REFERENCE_BYTES * entry
    mark = int.from_bytes(data[at : at + REFERENCE_BYTES], "big")
    at = HEAD_BYTES + data[0] * (2 + REFERENCE_BYTES + data[1]) + HASH_BYTES * entry
    return mark >> 16, mark & 0xFFFF, data[at : at + HASH_BYTES]


def page_hash(data: bytes) -> bytes:
    """The hash of the sub-trie that begins in this page."""
    at = HEAD_BYTES + data[0] * (2 + REFERENCE_BYTES + data[1] + HASH_BYTES)
    return data[at : at + HASH_BYTES]


class PageCache:
    """Pages lately read from **one** store, as bytes, of bounded size; shared by all views and threads.

    A page is found by the hash of its sub-trie, which the page above (or the root) names. So a view of an
    old snapshot and one of the newest never see each other's pages: where the hash is the same, so are the
    keys below it, and keys are never removed, so the page was not cut in between either. Only pages that are in
    the store may enter (read from it, or of a layer just folded into it): those of a layer that is dropped
    later would name page numbers that were given out twice.

    Two generations instead of a chain of uses: when the young one holds half of the bytes, it becomes the
    old one.
    """

    def __init__(self, bytes_max: int = limits.page_cache_bytes_default) -> None:
        self._half_bytes = bytes_max // 2
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._young_bytes = 0
        self._old_bytes = 0
        self._lock = threading.Lock()
        self.hits = self.misses = 0  # for metrics: a lost count does no harm

    @property
    def cached_bytes(self) -> int:
        return self._young_bytes + self._old_bytes

    def get(self, root: bytes) -> bytes | None:
        page = self._young.get(root)
        if page is None:
            page = self._old.get(root)
            if page is None:
                self.misses += 1
                return None
            self.put(root, page)
        self.hits += 1
        return page

    def put(self, root: bytes, page: bytes) -> None:
        with self._lock:
            if root in self._young:
                return
            self._young[root] = page
            self._young_bytes += len(page) + 256  # two bytes objects, a dictionary entry
            if self._young_bytes > self._half_bytes:
                self._old, self._young = self._young, {}
                self._old_bytes, self._young_bytes = self._young_bytes, 0
