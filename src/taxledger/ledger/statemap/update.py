"""Applying a batch of writes to pages: from the pages a view sees to new ones in memory.

A batch walks down from the root page; each page is read and written once, whatever the number of writes in
it. A page that holds more than its entries is cut bottom-up into pages of a quarter to all of that number,
and what is left at its top goes into the page above (so only the root page adds a level). Depth of
recursion: two frames a page, and at least one bit of the key a page.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from taxledger.ledger import limits
from taxledger.ledger.errors import check
from taxledger.ledger.hashing import EMPTY_ROOT, map_leaf
from taxledger.ledger.statemap.pages import (
    Columns,
    decode_page,
    encode_page,
    entry_of,
    keys_of,
    page_hash,
    reference,
)
from taxledger.ledger.statemap.patch import hashes_replaced, leaf_inserted
from taxledger.ledger.statemap.trie import first_difference, fold, refold, split_bits

__all__ = ["ROOT_PAGE", "Update"]

ROOT_PAGE = 0

_KEY_BITS = 8 * limits.map_key_bytes_max
_LEAVES = [reference(0, length) for length in range(limits.map_key_bytes_max + 1)]


class _Edit(NamedTuple):
    """Replace the entries from ``start`` to before ``stop`` by others; the first split bit is not used."""

    start: int
    stop: int
    bits: Sequence[int]
    references: Sequence[bytes]
    keys: Sequence[bytes]
    hashes: Sequence[bytes]


class Update:
    """One batch of writes over what a view sees. ``run`` once, then read the results.

    Attributes:
        ordered: the keys written, ascending.
        pages: new content by page number; None where a page is no longer used.
        pages_next: the next free page number.
        added: how many of the keys are new.
    """

    def __init__(
        self,
        load: Callable[[int, bytes], bytes],
        writes: Mapping[bytes, bytes],
        *,
        pages_next: int,
        page_entries: int,
    ) -> None:
        self._load = load
        self._entries_max = page_entries
        self.pages: dict[int, bytes | None] = {}
        self.pages_next = pages_next
        self.added = 0
        self.ordered = keys = sorted(writes)
        check(
            all(0 < len(key) <= limits.map_key_bytes_max for key in keys),
            f"expected map keys of 1 to {limits.map_key_bytes_max} bytes",
        )
        self._numbers = [int.from_bytes(key, "big") << _KEY_BITS - 8 * len(key) for key in keys]
        self._bits = split_bits(keys)
        check(
            all(a < b for a, b in pairwise(self._numbers)),
            "two map keys differ in trailing zero bytes only",
        )
        self._hashes = [map_leaf(key, writes[key]) for key in keys]

    def run(self, root: bytes) -> bytes:
        """The new root."""
        if not self.ordered:
            return root
        if root == EMPTY_ROOT:
            self.added = len(self.ordered)
            return self._root(self._columns_of_writes(0, self.added))
        result = self._page(ROOT_PAGE, root, 0, len(self.ordered))
        return result if isinstance(result, bytes) else self._root(result)

    def _root(self, columns: Columns) -> bytes:
        if len(columns.keys) > self._entries_max:
            columns = self._cut(columns)
        self.pages[ROOT_PAGE] = encode_page(columns)
        return columns.inner[0]

    def _columns_of_writes(self, start: int, stop: int) -> Columns:
        keys, bits, hashes = self.ordered[start:stop], self._bits[start:stop], self._hashes[start:stop]
        return Columns(bits, [_LEAVES[len(key)] for key in keys], keys, hashes, fold(bits, hashes))

    # --- one page ---------------------------------------------------------------------------

    def _page(self, number: int, root: bytes, start: int, stop: int) -> bytes | Columns:
        """Put the writes from ``start`` to before ``stop`` into the sub-trie that begins in a page.

        Returns:
            the sub-trie's new hash; or, where the page had to be given up, the entries that take its place.
        """
        data = self._load(number, root)
        keys, width, at = keys_of(data), data[1], 0
        replaced: dict[int, bytes] = {}
        edits: list[_Edit] = []
        while start < stop:
            found = bisect_right(keys, self.ordered[start].ljust(width, b"\0"), at)
            entry, after = found - 1, start
            if entry >= at:
                after = self._existing(data, keys, entry, start, stop, replaced, edits)
            if after == start:
                after = self._before(keys, found, start, stop)
                edits.append(self._new_leaves(found, start, after))
            start, at = after, found
        return self._changed(number, data, keys, replaced, edits)

    def _existing(
        self,
        data: bytes,
        keys: Sequence[bytes],
        entry: int,
        start: int,
        stop: int,
        replaced: dict[int, bytes],
        edits: list[_Edit],
    ) -> int:
        """Change one entry by the writes that fall into it; the first write that doesn't."""
        number, extent, old_hash = entry_of(data, entry)
        first = int.from_bytes(keys[entry], "big") << _KEY_BITS - 8 * data[1]
        if not number:
            if self._numbers[start] != first:
                return start
            check(len(self.ordered[start]) == extent, "a map key of another length")
            replaced[entry] = self._hashes[start]
            return start + 1
        end_number = first + (1 << _KEY_BITS - extent)
        if self._numbers[start] >= end_number:
            return start
        end = start + 1
        if end < stop:
            end = bisect_left(self._numbers, end_number, end, stop)
        below = self._page(number, old_hash, start, end)
        if isinstance(below, bytes):
            replaced[entry] = below
        else:
            edits.append(_Edit(entry, entry + 1, below.bits, below.references, below.keys, below.hashes))
        return end

    def _before(self, keys: Sequence[bytes], entry: int, start: int, stop: int) -> int:
        """The first write that does not stand before an entry."""
        if entry == len(keys) or stop - start == 1:
            return stop
        key = keys[entry]
        return bisect_left(self._numbers, int.from_bytes(key, "big") << _KEY_BITS - 8 * len(key), start, stop)

    def _new_leaves(self, at: int, start: int, end: int) -> _Edit:
        keys = self.ordered[start:end]
        self.added += len(keys)
        marks = [_LEAVES[len(key)] for key in keys]
        return _Edit(at, at, self._bits[start:end], marks, keys, self._hashes[start:end])

    def _changed(
        self,
        number: int,
        data: bytes,
        keys: Sequence[bytes],
        replaced: Mapping[int, bytes],
        edits: Sequence[_Edit],
    ) -> bytes | Columns:
        """The result of ``_page``: patches what can be patched, and takes apart what must be."""
        if edits:
            edit = edits[0]
            is_one_leaf = len(edits) == len(edit.keys) == 1 and not replaced and edit.start == edit.stop
            if not is_one_leaf or data[0] >= self._entries_max or len(edit.keys[0]) > data[1]:
                return self._rebuild(number, decode_page(data), replaced, edits)
            key = edit.keys[0].ljust(data[1], b"\0")
            page = leaf_inserted(data, keys, edit.start, key, edit.references[0], edit.hashes[0])
        else:
            page = hashes_replaced(data, replaced)
        self.pages[number] = page
        return page_hash(page)

    def _rebuild(
        self, number: int, page: Columns, replaced: Mapping[int, bytes], edits: Sequence[_Edit]
    ) -> bytes | Columns:
        was_changed = [False] * len(page.keys)
        for entry, entry_hash in replaced.items():
            page.hashes[entry] = entry_hash
            was_changed[entry] = True
        columns, changed, at = Columns([], [], [], [], []), [], 0
        unsettled: list[int] = []  # entries whose split bit depends on a new neighbour
        for edit in edits:
            columns.extend(page, at, edit.start)
            changed += was_changed[at : edit.start]
            place, count = len(columns.keys), len(edit.keys)
            columns.bits += edit.bits
            columns.references += edit.references
            columns.keys += edit.keys
            columns.hashes += edit.hashes
            columns.inner += [b""] * count
            changed += [True] * count
            unsettled += (place, place + count)
            at = edit.stop
        columns.extend(page, at, len(page.keys))
        changed += was_changed[at:]
        bits, keys = columns.bits, columns.keys
        for place in unsettled:
            if 0 < place < len(keys):
                bits[place] = first_difference(keys[place - 1], keys[place])
        bits[0] = -1
        columns.inner = refold(bits, columns.hashes, columns.inner, changed)
        if len(keys) <= self._entries_max:
            self.pages[number] = encode_page(columns)
            return columns.inner[0]
        if number != ROOT_PAGE:
            self.pages[number] = None
        return self._cut(columns)

    # --- cutting ----------------------------------------------------------------------------

    def _cut(self, columns: Columns) -> Columns:
        """Move sub-tries into pages of their own until the rest fits one page."""
        top = Columns([], [], [], [], [])
        pending_bits, pending_sizes = [-1], [0]
        ends = [*columns.bits[1:], -1]
        for at, end in enumerate(ends):
            top.extend(columns, at, at + 1)
            size = 1
            while pending_bits[-1] > end:
                pending_bits.pop()
                size = self._joined(top, pending_sizes.pop(), size)
            pending_bits.append(end)
            pending_sizes.append(size)
        return top

    def _joined(self, top: Columns, left: int, right: int) -> int:
        """Join the last two runs under one inner node, cutting what is too large; the size of both."""
        if left + right <= self._entries_max:
            return left + right
        begin = len(top.keys) - left - right
        is_small = min(left, right) < max(2, self._entries_max // 4)
        keep = is_small and min(left, right) < self._entries_max
        if right > 1 and not (keep and right < left):
            self._move(top, begin + left, right)
            right = 1
        if left > 1 and not (keep and left <= right):
            self._move(top, begin, left)
            left = 1
        return left + right

    def _move(self, top: Columns, start: int, count: int) -> None:
        """Replace a run of entries, a whole sub-trie, by a reference to a new page of them."""
        stop = start + count
        page = Columns([], [], [], [], [])
        page.extend(top, start, stop)
        extent = min(page.bits[1:])
        page.inner[0] = root = page.inner[page.bits.index(extent, 1)]
        number = self.pages_next
        self.pages_next += 1
        self.pages[number] = encode_page(page)
        del top.bits[start + 1 : stop], top.inner[start + 1 : stop]
        top.references[start:stop] = [reference(number, extent)]
        top.keys[start:stop] = [shared_bits(page.keys[0], extent)]
        top.hashes[start:stop] = [root]


def shared_bits(key: bytes, extent: int) -> bytes:
    """The first ``extent`` bits of a key, the last byte filled up with zeros."""
    whole, rest = divmod(extent, 8)
    if not rest:
        return key[:whole]
    return key[:whole] + bytes((key[whole] & (0xFF00 >> rest) & 0xFF,)) if whole < len(key) else key[:whole]
