"""The crit-bit trie as arithmetic on sorted columns; no storage.

The trie over sorted keys is fixed by the *split bits*: element i is the first bit in which key i − 1 and
key i differ. The inner node of a run of keys stands at its smallest split bit, so the trie is the Cartesian
tree of that column. A column of entries has one inner node per split, addressed by the index of the entry
right of it; element 0 of a column of inner hashes is the hash of the whole run. An entry is a leaf, or a
whole sub-trie with the bits its keys share; both have a hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from taxledger.ledger.hashing import EMPTY_ROOT, map_inner, map_leaf

__all__ = ["bit_of", "first_difference", "fold", "refold", "split_bits", "subtree_root"]


def bit_of(key: bytes, bit: int) -> int:
    """Bit ``7 − bit mod 8`` of byte ``bit div 8``; 0 past the key's end."""
    at = bit >> 3
    return key[at] >> (7 - (bit & 7)) & 1 if at < len(key) else 0


def first_difference(left: bytes, right: bytes) -> int:
    """The first bit in which two keys differ; 8 × the longer length where they don't."""
    width = max(len(left), len(right))
    if len(left) != len(right):
        left, right = left.ljust(width, b"\0"), right.ljust(width, b"\0")
    return 8 * width - (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_length()


def split_bits(keys: Sequence[bytes]) -> list[int]:
    """The split bits of ascending keys; element 0, before the first, is −1.

    Two keys that differ in trailing zero bytes only give 8 × the longest key's length.
    """
    width = max(map(len, keys), default=0)
    numbers = [int.from_bytes(key, "big") << 8 * (width - len(key)) for key in keys]
    width *= 8
    bits = [-1]
    bits += [width - (a ^ b).bit_length() for a, b in pairwise(numbers)]
    return bits


def fold(bits: Sequence[int], hashes: Sequence[bytes]) -> list[bytes]:
    """The hash of every inner node of a run of at least one entry; element 0 is the whole run's."""
    inner = [b""] * len(hashes)
    pending_bits, pending_hashes, pending_at = [-1], [b""], [0]
    current = b""
    ends = [*bits[1:], -1]
    for at, current in enumerate(hashes):
        end = ends[at]
        while pending_bits[-1] > end:
            current = map_inner(pending_bits.pop(), pending_hashes.pop(), current)
            inner[pending_at.pop()] = current
        pending_bits.append(end)
        pending_hashes.append(current)
        pending_at.append(at + 1)
    inner[0] = current
    return inner


def refold(
    bits: Sequence[int], hashes: Sequence[bytes], known: Sequence[bytes], changed: Sequence[bool]
) -> list[bytes]:
    """``fold``, hashing only the inner nodes above a changed entry.

    Args:
        known: the earlier inner hashes. Each split between two unchanged entries has its own; the others
            are not read.
        changed: whether an entry is new, or its hash is.
    """
    inner = [b""] * len(hashes)
    pending_bits, pending_hashes, pending_at, pending_changed = [-1], [b""], [0], [False]
    current = b""
    ends = [*bits[1:], -1]
    for at, current in enumerate(hashes):
        end, is_changed = ends[at], changed[at]
        while pending_bits[-1] > end:
            bit, left, split = pending_bits.pop(), pending_hashes.pop(), pending_at.pop()
            is_changed = pending_changed.pop() or is_changed
            current = inner[split] = map_inner(bit, left, current) if is_changed else known[split]
        pending_bits.append(end)
        pending_hashes.append(current)
        pending_at.append(at + 1)
        pending_changed.append(is_changed)
    inner[0] = current
    return inner


def subtree_root(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The root over pairs of key and value, keys strictly ascending (docs/protocol.md §6)."""
    if not pairs:
        return EMPTY_ROOT
    return fold(split_bits([key for key, _ in pairs]), [map_leaf(key, value) for key, value in pairs])[0]
