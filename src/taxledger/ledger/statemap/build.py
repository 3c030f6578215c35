"""The stored map from all its pairs, ascending, in one pass and bottom-up: what a snapshot is read into.

Each pair is hashed once and each page written once, so this costs a small part of applying the pairs as writes.
The root is the same, and the pages are of the same kind, cut by the same rule as in ``update.py``.
Memory: the entries of unfinished runs, at most a page for each bit of a key, whatever the number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterable

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import EMPTY_ROOT, map_inner, map_leaf
from taxledger.ledger.statemap.pages import Columns, encode_page, page_key, reference
from taxledger.ledger.statemap.update import ROOT_PAGE, shared_bits
from taxledger.ledger.statemap.view import META_KEY, VALUE

__all__ = ["MapBuilder"]

_KEY_BITS = 8 * limits.map_key_bytes_max
_LEAVES = [reference(0, length) for length in range(limits.map_key_bytes_max + 1)]


class MapBuilder:
    """``add`` pairs, writing what it returns; then ``finish`` and write that. Into a store without a map.

    Attributes:
        count: pairs so far.
    """

    def __init__(self, page_entries: int = limits.page_entries_default) -> None:
        self.count = 0
        self._entries_max = page_entries
        self._pages_next = ROOT_PAGE + 1
        self._top = Columns([], [], [], [], [])
        self._before = -1  # the key before, as a number
        # The inner nodes above the last pair: their bits, and size and hash of what is left of each.
        self._bits: list[int] = []
        self._sizes: list[int] = []
        self._hashes: list[bytes] = []
        self._last = b""  # hash of the last pair, not yet joined
        self._batch: dict[bytes, bytes | None] = {}

    def add(self, pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes | None]:
        """Take the next pairs, and give what is to be written for them, in any order.

        Raises:
            FormatError: keys that don't ascend, or are no keys of a map.
        """
        top, before = self._top, self._before
        for key, value in pairs:
            if not 0 < len(key) <= limits.map_key_bytes_max:
                raise FormatError(
                    f"expected map keys of 1 to {limits.map_key_bytes_max} bytes, got {len(key)}"
                )
            number = int.from_bytes(key, "big") << _KEY_BITS - 8 * len(key)
            if number <= before:
                raise FormatError(f"expected map keys that ascend, got {key.hex()}")
            if before >= 0:
                split = _KEY_BITS - (before ^ number).bit_length()
                self._join(split)
                top.bits.append(split)
            else:
                top.bits.append(-1)
            top.references.append(_LEAVES[len(key)])
            top.keys.append(key)
            self._last = leaf = map_leaf(key, value)
            top.hashes.append(leaf)
            top.inner.append(b"")
            self._batch[VALUE + key] = value
            self.count += 1
            before = number
        self._before = before
        batch, self._batch = self._batch, {}
        return batch

    def finish(self) -> tuple[bytes, dict[bytes, bytes | None]]:
        """The map's root, and the last of what is to be written: without it the store has no map."""
        root = EMPTY_ROOT
        if self.count:
            self._join(-1)
            root = self._top.inner[0] = self._last
            self._batch[page_key(ROOT_PAGE)] = encode_page(self._top)
        self._batch[META_KEY] = root + self.count.to_bytes(8, "big") + self._pages_next.to_bytes(5, "big")
        return root, self._batch

    def _join(self, split: int) -> None:
        """Close every inner node below the split that comes next, then leave the run so far to its left."""
        size, current = 1, self._last
        bits, sizes, hashes, inner = self._bits, self._sizes, self._hashes, self._top.inner
        while bits and bits[-1] > split:
            left = sizes.pop()
            current = inner[len(inner) - size] = map_inner(bits.pop(), hashes.pop(), current)
            size = self._joined(left, size)
        if split < 0:
            self._last = current
            return
        bits.append(split)
        sizes.append(size)
        hashes.append(current)

    def _joined(self, left: int, right: int) -> int:
        """As in ``update.py``: what is too large together moves into pages of its own; the size of what stays."""
        if left + right <= self._entries_max:
            return left + right
        begin = len(self._top.keys) - left - right
        smaller = min(left, right)
        keep = smaller < max(2, self._entries_max // 4) and smaller < self._entries_max
        if right > 1 and not (keep and right < left):
            self._move(begin + left, right)
            right = 1
        if left > 1 and not (keep and left <= right):
            self._move(begin, left)
            left = 1
        return left + right

    def _move(self, start: int, count: int) -> None:
        top, stop = self._top, start + count
        page = Columns([], [], [], [], [])
        page.extend(top, start, stop)
        extent = min(page.bits[1:])
        page.inner[0] = root = page.inner[page.bits.index(extent, 1)]
        number = self._pages_next
        self._pages_next += 1
        self._batch[page_key(number)] = encode_page(page)
        del top.bits[start + 1 : stop], top.inner[start + 1 : stop]
        top.references[start:stop] = [reference(number, extent)]
        top.keys[start:stop] = [shared_bits(page.keys[0], extent)]
        top.hashes[start:stop] = [root]
