"""One change of one entry in a packed page, without decoding it: only the path above the entry is hashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taxledger.ledger.hashing import map_inner
from taxledger.ledger.statemap.pages import HASH_BYTES, HEAD_BYTES, REFERENCE_BYTES, bits_column

__all__ = ["hashes_replaced", "leaf_inserted"]


def hashes_replaced(data: bytes, replaced: Mapping[int, bytes]) -> bytes:
    """The page with other hashes of some entries.

    Args:
        replaced: new hash by entry, ascending.
    """
    count = data[0]
    patched = bytearray(data)
    hashes = HEAD_BYTES + count * (2 + REFERENCE_BYTES + data[1])
    bits = [*bits_column(count).unpack_from(data, HEAD_BYTES), -1]
    bits[0] = -1
    entries = list(replaced)
    for entry, following in zip(entries, [*entries[1:], 0], strict=True):
        at = hashes + HASH_BYTES * entry
        patched[at : at + HASH_BYTES] = replaced[entry]
        # What lies above the next changed entry too is left to that one.
        lowest = min(bits[entry + 1 : following + 1]) if following else -1
        _climb(patched, bits, hashes, entry, replaced[entry], lowest)
    return bytes(patched)


def leaf_inserted(
    data: bytes, keys: Sequence[bytes], entry: int, key: bytes, mark: bytes, leaf_hash: bytes
) -> bytes:
    """The page with one leaf more.

    Args:
        keys: the padded keys of the page.
        entry: where the leaf is put.
        key: padded to the page's width.
        mark: the leaf's reference.
    """
    count, width = data[0], data[1]
    bits = [*bits_column(count).unpack_from(data, HEAD_BYTES), -1]
    number = int.from_bytes(key, "big")
    before = after = -1
    if entry:
        before = 8 * width - (number ^ int.from_bytes(keys[entry - 1], "big")).bit_length()
    if entry < count:
        after = 8 * width - (number ^ int.from_bytes(keys[entry], "big")).bit_length()
    bits.insert(entry, before)
    bits[entry + 1] = after
    bits[0] = 0
    references = HEAD_BYTES + 2 * count
    slots = references + REFERENCE_BYTES * count
    hashes = slots + width * count
    inner = hashes + HASH_BYTES * count
    mark_at, slot_at = references + REFERENCE_BYTES * entry, slots + width * entry
    hash_at, inner_at = hashes + HASH_BYTES * entry, inner + HASH_BYTES * entry
    count += 1
    patched = bytearray().join(
        (
            bytes((count, width)),
            bits_column(count).pack(*bits[:-1]),
            data[references:mark_at],
            mark,
            data[mark_at:slot_at],
            key,
            data[slot_at:hash_at],
            leaf_hash,
            data[hash_at:inner_at],
            leaf_hash,  # of an inner node above the leaf: all of those are hashed now
            data[inner_at:],
        )
    )
    bits[0] = -1
    _climb(patched, bits, HEAD_BYTES + count * (2 + REFERENCE_BYTES + width), entry, leaf_hash, -1)
    return bytes(patched)


def _climb(
    page: bytearray, bits: Sequence[int], hashes: int, entry: int, current: bytes, lowest: int
) -> None:
    """Hash the inner nodes above an entry whose bit is above ``lowest`` (−1: all, and the page's hash).

    The node above a run is at the larger of the two split bits beside it; the run on the other side of that
    split ends before the next smaller bit, and its own node stands at its smallest one.

    Args:
        bits: the split bits between −1 and −1.
        hashes: where the column of hashes begins; that of the inner hashes follows it.
    """
    inner = hashes + HASH_BYTES * (len(bits) - 1)
    first, end = entry, entry + 1  # the run whose hash is ``current``
    while True:
        before, after = bits[first], bits[end]
        if before <= lowest >= after:
            break
        if before > after:
            split, at, node = first, first - 1, 0
            while bits[at] > before:
                if not node or bits[at] < bits[node]:
                    node = at
                at -= 1
            place = inner + HASH_BYTES * node if node else hashes + HASH_BYTES * at
            current = map_inner(before, bytes(page[place : place + HASH_BYTES]), current)
            first = at
        else:
            split, at, node = end, end + 1, 0
            while bits[at] > after:
                if not node or bits[at] < bits[node]:
                    node = at
                at += 1
            place = inner + HASH_BYTES * node if node else hashes + HASH_BYTES * end
            current = map_inner(after, current, bytes(page[place : place + HASH_BYTES]))
            end = at
        place = inner + HASH_BYTES * split
        page[place : place + HASH_BYTES] = current
    if lowest < 0:
        page[inner : inner + HASH_BYTES] = current
