"""The verifier of map proofs: bytes and listed pairs against a root; no storage (docs/protocol.md §6).

Invariants: iterative, so nothing in a proof makes it recurse; every step eats at least one byte; whatever
the input, the outcome is None or a VerificationError with ``prefix_incomplete`` or ``map_proof_invalid``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from taxledger.ledger.errors import VerificationError
from taxledger.ledger.hashing import EMPTY_ROOT, map_inner, map_leaf_from_value_hash
from taxledger.ledger.statemap.trie import bit_of, first_difference, split_bits, subtree_root

__all__ = ["ASIDE", "BRANCH", "COVERED", "ELSEWHERE", "EMPTY", "WHOLE_KEY", "verify_prefixes"]

ASIDE, BRANCH, COVERED, ELSEWHERE, EMPTY, WHOLE_KEY = range(6)
"""The first byte of a part of a proof: 00 … 05 of the protocol."""

_KEY_BYTES_MAX = 255

Pairs = Sequence[tuple[bytes, bytes]]


def verify_prefixes(root: bytes, entries: Mapping[bytes, Pairs], proof: bytes) -> None:
    """Check that under each prefix there are exactly the listed pairs.

    Args:
        root: the state root, 32 bytes, from a certified header.
        entries: for every prefix asked its pairs, ascending; empty where it is to be absent.
        proof: as ``MapView.prove`` makes it.

    Raises:
        VerificationError: ``prefix_incomplete`` (the pairs of a prefix are not exactly those below it) or
            ``map_proof_invalid`` (anything else).
    """
    if type(proof) is not bytes:
        _invalid("expected bytes", got=type(proof).__name__)
    prefixes = sorted(entries)
    for before, prefix in pairwise(prefixes):
        if prefix.startswith(before):
            _invalid("expected prefixes of which none begins with another", got=prefix)
    got = _Walk(proof, entries).root(prefixes)
    if got != root:
        _invalid("the proof leads to another root", expected=root, got=got)


def _invalid(message: str, *, expected: Any = None, got: Any = None) -> NoReturn:
    raise VerificationError("map_proof_invalid", message, expected=expected, got=got)


def _incomplete(message: str, *, expected: Any = None, got: Any = None) -> NoReturn:
    raise VerificationError("prefix_incomplete", message, expected=expected, got=got)


@dataclass(slots=True)
class _Branch:
    """An inner node above the part being read; ``left`` is its hash once the walk is in the right one."""

    bit: int
    right_prefixes: list[bytes]
    left: bytes | None = None


class _Walk:
    """One pre-order walk. ``_above`` holds the inner nodes from the root to the part being read."""

    def __init__(self, proof: bytes, entries: Mapping[bytes, Pairs]) -> None:
        self._proof = proof
        self._entries = entries
        self._at = 0
        self._above: list[_Branch] = []

    def root(self, prefixes: list[bytes]) -> bytes:
        above = self._above
        while True:
            operation = self._number(1)
            if operation == BRANCH:
                prefixes = self._branch(prefixes)
                continue
            part = self._part(operation, prefixes)
            while above and above[-1].left is not None:
                branch = above.pop()
                part = map_inner(branch.bit, branch.left or b"", part)
            if not above:
                break
            above[-1].left, prefixes = part, above[-1].right_prefixes
        if self._at != len(self._proof):
            _invalid("bytes after the proof", expected=self._at, got=len(self._proof))
        return part

    def _take(self, count: int) -> bytes:
        data = self._proof[self._at : self._at + count]
        if len(data) != count:
            _invalid("the proof ends too early", expected=self._at + count, got=len(self._proof))
        self._at += count
        return data

    def _number(self, count: int) -> int:
        return int.from_bytes(self._take(count), "big")

    def _bit(self, lowest: int) -> int:
        bit = self._number(2)
        if bit < lowest:
            _invalid("expected bits that rise downwards", expected=lowest, got=bit)
        return bit

    def _lowest(self) -> int:
        return self._above[-1].bit + 1 if self._above else 0

    def _branch(self, prefixes: list[bytes]) -> list[bytes]:
        bit = self._bit(self._lowest())
        # Also bounds the depth; an empty set fails here too.
        if not any(bit < 8 * len(prefix) for prefix in prefixes):
            _invalid("an inner node below all that was asked", got=bit)
        sides: tuple[list[bytes], list[bytes]] = ([], [])
        for prefix in prefixes:
            sides[bit_of(prefix, bit)].append(prefix)
        self._above.append(_Branch(bit, sides[1]))
        return sides[0]

    def _part(self, operation: int, prefixes: list[bytes]) -> bytes:
        if operation == ASIDE or not prefixes:
            if operation != ASIDE or prefixes:
                _invalid("a part is left aside exactly where nothing was asked", got=operation)
            return self._take(32)
        if operation in (COVERED, WHOLE_KEY):
            return self._present(operation, prefixes)
        if operation != ELSEWHERE and (operation != EMPTY or self._above):
            _invalid("no such part here", got=operation)
        for prefix in prefixes:
            if self._entries[prefix]:
                _incomplete("keys are listed for a prefix that has none", expected=0, got=prefix)
        return self._elsewhere(prefixes) if operation == ELSEWHERE else EMPTY_ROOT

    def _present(self, operation: int, prefixes: list[bytes]) -> bytes:
        """All keys of this part begin with one prefix; none begins with another, as no prefix does."""
        expected = self._take(32) if operation == COVERED else None
        present = [prefix for prefix in prefixes if self._entries[prefix]]
        if len(present) != 1:
            _incomplete("expected keys of exactly one prefix in a part", expected=1, got=len(present))
        prefix = present[0]
        if self._lowest() > 8 * len(prefix):
            _invalid("an inner node within a prefix that is present", got=prefix)
        pairs = self._entries[prefix]
        # One form only: bytes that say nothing would be bytes that anybody may add.
        form = WHOLE_KEY if len(pairs) == 1 and pairs[0][0] == prefix else COVERED
        if operation != form:
            _invalid("a part of another form than its listed keys ask for", expected=form, got=operation)
        _check_listed(prefix, pairs)
        got = subtree_root(pairs)
        if expected is not None and got != expected:
            _incomplete("the listed keys are not all those of the prefix", expected=expected, got=got)
        return got

    def _elsewhere(self, prefixes: list[bytes]) -> bytes:
        """A leaf where their keys would be: had a prefix any, this leaf's path would branch towards them."""
        key = self._take(self._number(1))
        part = map_leaf_from_value_hash(key, self._take(32))
        lowest, tail = self._lowest(), []
        for _ in range(self._number(1)):
            tail.append((self._bit(lowest), self._take(32)))
            lowest = tail[-1][0] + 1
        for branch in self._above:
            if bit_of(key, branch.bit) != (branch.left is not None):
                _invalid("a leaf on the wrong side of an inner node", got=key)
        tail_bits = {bit for bit, _ in tail}
        for prefix in prefixes:
            difference = first_difference(prefix, key[: len(prefix)])
            if difference == 8 * len(prefix):
                _invalid("a leaf with the prefix that it should show absent", got=prefix)
            if difference in tail_bits:
                _invalid("the prefix may have keys beside this leaf", got=prefix)
        for bit, sibling in reversed(tail):
            part = map_inner(bit, sibling, part) if bit_of(key, bit) else map_inner(bit, part, sibling)
        return part


def _check_listed(prefix: bytes, pairs: Pairs) -> None:
    keys = [key for key, _ in pairs]
    for key, value in pairs:
        if type(key) is not bytes or type(value) is not bytes or len(key) > _KEY_BYTES_MAX:
            _incomplete("expected keys of at most 255 bytes, and values of bytes")
        if not key.startswith(prefix):
            _incomplete("a listed key without its prefix", expected=prefix, got=key)
    for before, key in pairwise(keys):
        if before >= key:
            _incomplete("expected keys strictly ascending", expected=before, got=key)
    if max(split_bits(keys)) >= 8 * max(map(len, keys)):
        _incomplete("two listed keys differ in trailing zero bytes only")
