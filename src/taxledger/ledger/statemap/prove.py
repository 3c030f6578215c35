"""Making map proofs: the walk of docs/protocol.md §6 over pages, iterative.

A *part* is a run of entries of one page that hang under one inner node, or one entry; an entry that refers
to the page below is the whole run of that page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from taxledger.ledger.errors import FormatError, check
from taxledger.ledger.hashing import EMPTY_ROOT, sha256
from taxledger.ledger.statemap.pages import LEAF, Columns, decode_page
from taxledger.ledger.statemap.proof import ASIDE, BRANCH, COVERED, ELSEWHERE, EMPTY, WHOLE_KEY
from taxledger.ledger.statemap.trie import bit_of, first_difference
from taxledger.ledger.statemap.update import ROOT_PAGE

__all__ = ["Prover"]

_TAIL_NODES_MAX = 255


class _Part(NamedTuple):
    page: Columns
    start: int
    stop: int

    @property
    def split(self) -> int:
        """Where the inner node on top splits the run (0: there is none, it is one entry)."""
        page, start, stop = self
        if stop - start == 1:
            return 0
        return page.bits.index(min(page.bits[start + 1 : stop]), start + 1)

    @property
    def hash(self) -> bytes:
        split = self.split
        return self.page.inner[split] if split else self.page.hashes[self.start]

    @property
    def key(self) -> bytes:
        """A key of which as many bits are right as all keys of the part share."""
        return self.page.keys[self.start]


class Prover:
    """One proof over the pages that ``load(number, hash)`` gives.

    Attributes:
        present: the prefixes met that have keys, after ``prove``.
    """

    def __init__(self, load: Callable[[int, bytes], bytes], value_of: Callable[[bytes], bytes]) -> None:
        self._load = load
        self._value_of = value_of
        self._proof = bytearray()
        self.present: set[bytes] = set()

    def prove(self, root: bytes, prefixes: Sequence[bytes]) -> bytes:
        """The proof for ascending prefixes of which none begins with another."""
        if not prefixes:
            return bytes((ASIDE,)) + root
        if root == EMPTY_ROOT:
            return bytes((EMPTY,))
        todo = [(self._whole(ROOT_PAGE, root), prefixes)]
        while todo:
            part, asked = todo.pop()
            todo += self._step(self._opened(part), asked)
        return bytes(self._proof)

    def _whole(self, number: int, root: bytes) -> _Part:
        page = decode_page(self._load(number, root))
        return _Part(page, 0, len(page.keys))

    def _opened(self, part: _Part) -> _Part:
        """The part itself, or the run of the page below where it is a reference."""
        if part.stop - part.start > 1:
            return part
        mark = part.page.references[part.start]
        if mark[:5] == LEAF:
            return part
        return self._whole(int.from_bytes(mark[:5], "big"), part.page.hashes[part.start])

    def _step(self, part: _Part, asked: Sequence[bytes]) -> list[tuple[_Part, Sequence[bytes]]]:
        """Write this part; what is to be written after it, last first."""
        split = part.split
        bit = part.page.bits[split] if split else 8 * len(_key_of(part))
        if not asked:
            self._proof += bytes((ASIDE,)) + part.hash
            return []
        within = [prefix for prefix in asked if _agrees(prefix, part.key, bit)]
        covering = [prefix for prefix in within if 8 * len(prefix) <= bit]
        if covering:
            self._proof += self._present(part, covering[0])
            return []
        if not within or not split:
            return self._elsewhere(asked, *self._descend(part, None))
        if len(asked) == 1 and self._chain(part, asked[0]):
            return []
        self._proof += bytes((BRANCH,)) + bit.to_bytes(2, "big")
        ones = [prefix for prefix in asked if bit_of(prefix, bit)]
        zeros = [prefix for prefix in asked if not bit_of(prefix, bit)]
        left, right = _Part(part.page, part.start, split), _Part(part.page, split, part.stop)
        return [(right, ones), (left, zeros)]

    def _chain(self, part: _Part, prefix: bytes) -> bool:
        """Write a part in which only one prefix is asked: the nodes down to it, all else aside; or a leaf.

        False, and nothing written, where it is absent and the leaf too deep for the tail of one proof.
        """
        bottom, path = self._descend(part, prefix)
        key = bottom.key if bottom.split else _key_of(bottom)
        if not key.startswith(prefix):
            if len(path) > _TAIL_NODES_MAX:
                return False
            self._elsewhere([prefix], bottom, path)
            return True
        after: list[bytes] = []
        for bit, sibling in path:
            self._proof += bytes((BRANCH,)) + bit.to_bytes(2, "big")
            aside = bytes((ASIDE,)) + sibling
            if bit_of(prefix, bit):
                self._proof += aside
            else:
                after.append(aside)
        self._proof += self._present(bottom, prefix)
        self._proof += b"".join(reversed(after))
        return True

    def _present(self, part: _Part, prefix: bytes) -> bytes:
        """A part that is the keys of one prefix. Of a whole key the verifier knows the hash without us."""
        self.present.add(prefix)
        if not part.split and _key_of(part) == prefix:
            return bytes((WHOLE_KEY,))
        return bytes((COVERED,)) + part.hash

    def _descend(self, part: _Part, prefix: bytes | None) -> tuple[_Part, list[tuple[int, bytes]]]:
        """The part that is a prefix's keys, or a leaf; with bit and sibling of each inner node on the way.

        Follows the bits of the prefix; without one, the smaller side (any leaf will do, that one is near).
        """
        tail = []
        while split := part.split:
            bit = part.page.bits[split]
            if prefix is not None and bit >= 8 * len(prefix) and part.key.startswith(prefix):
                break
            left, right = _Part(part.page, part.start, split), _Part(part.page, split, part.stop)
            is_left = split - part.start <= part.stop - split if prefix is None else not bit_of(prefix, bit)
            tail.append((bit, right.hash if is_left else left.hash))
            part = self._opened(left if is_left else right)
        return part, tail

    def _elsewhere(
        self, asked: Sequence[bytes], leaf: _Part, tail: Sequence[tuple[int, bytes]]
    ) -> list[tuple[_Part, Sequence[bytes]]]:
        key = _key_of(leaf)
        for prefix in asked:
            if first_difference(prefix, key[: len(prefix)]) == 8 * len(prefix):
                raise FormatError(f"expected a prefix of the keys of its namespace, got {prefix.hex()}")
        check(len(tail) <= _TAIL_NODES_MAX, "a leaf too deep for a proof of absence")
        self._proof += bytes((ELSEWHERE, len(key))) + key + sha256(self._value_of(key)) + bytes((len(tail),))
        for bit, sibling in tail:
            self._proof += bit.to_bytes(2, "big") + sibling
        return []


def _key_of(leaf: _Part) -> bytes:
    return leaf.key[: int.from_bytes(leaf.page.references[leaf.start][5:], "big")]


def _agrees(prefix: bytes, key: bytes, bits: int) -> bool:
    """Whether a prefix and a key have the same first ``bits`` bits, as far as the prefix goes."""
    return first_difference(prefix, key[: len(prefix)]) >= min(8 * len(prefix), bits)
