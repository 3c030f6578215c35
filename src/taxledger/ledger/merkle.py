"""The log's Merkle tree: roots, inclusion and consistency proofs; pure (RFC 6962 §2.1, RFC 9162 §2.1).

A node ``(level, index)`` is the hash over the leaves ``[index · 2^level, (index + 1) · 2^level)``; only
*complete* nodes, whose leaves are all there, are ever stored or asked for, so a stored node never changes.

Invariants: a ``Frontier`` of size n holds exactly one hash for every bit set in n, the largest subtree first;
the ``verify_*`` functions return None or raise VerificationError, whatever they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, VerificationError, check
from taxledger.ledger.hashing import EMPTY_ROOT, log_inner

__all__ = [
    "EMPTY",
    "Frontier",
    "GetNode",
    "frontier_at",
    "inclusion_root",
    "prove_consistency",
    "prove_inclusion",
    "root_of",
    "verify_consistency",
    "verify_inclusion",
]

GetNode = Callable[[int, int], bytes]
"""``get_node(level, index)``: the 32-byte hash of a complete node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """The right edge of a log: all that is needed to append to it and to know its root.

    Attributes:
        size: number of leaves.
        edge: the roots of the complete subtrees that make up the log, left (largest) to right.
    """

    size: int
    edge: tuple[bytes, ...]

    def __post_init__(self) -> None:
        check(self.size >= 0, "a frontier's size is not negative")
        check(len(self.edge) == self.size.bit_count(), "a frontier has one hash per bit set in its size")

    @property
    def root(self) -> bytes:
        """The root over all leaves (32 bytes)."""
        return _fold(self.edge)

    def extended(self, leaf_hashes: Sequence[bytes]) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
        """The log with more leaves at its end.

        Returns:
            The new frontier, and every node that became complete: ``(level, index) -> hash``, leaves too.
        """
        edge = list(self.edge)
        nodes: dict[tuple[int, int], bytes] = {}
        index = self.size
        for leaf_hash in leaf_hashes:
            nodes[0, index] = node = leaf_hash
            level, position = 0, index
            while position & 1:
                node = sha256(b"\x01" + edge.pop() + node).digest()  # log_inner, inline: the hot loop
                level, position = level + 1, position >> 1
                nodes[level, position] = node
            edge.append(node)
            index += 1
        return Frontier(size=index, edge=tuple(edge)), nodes


EMPTY = Frontier(size=0, edge=())
"""The log without leaves."""


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The RFC 6962 root over leaf hashes; ``SHA256("")`` for none.

    Pairing neighbours level by level and carrying an odd one up gives the same tree as the RFC's split at the
    largest power of two.
    """
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        above = [log_inner(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        if len(level) & 1:
            above.append(level[-1])
        level = above
    return level[0]


def frontier_at(get_node: GetNode, size: int) -> Frontier:
    """The frontier that a stored log had at an earlier (or its present) size."""
    return Frontier(size=size, edge=tuple(_complete_nodes(get_node, 0, size)))


def prove_inclusion(get_node: GetNode, index: int, size: int) -> list[bytes]:
    """The audit path of leaf ``index`` in the log of ``size`` leaves, from the leaf up (RFC 6962 §2.1.1).

    Raises:
        FormatError: there is no such leaf in a log of that size.
    """
    if not 0 <= index < size:
        raise FormatError(f"expected a leaf index below the log size {size}, got {index}")
    proof = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(_range_root(get_node, middle, end))
            end = middle
        else:
            proof.append(_range_root(get_node, begin, middle))
            begin = middle
    proof.reverse()
    return proof


def prove_consistency(get_node: GetNode, old: int, new: int) -> list[bytes]:
    """The proof that the log of ``new`` leaves begins with that of ``old`` leaves (RFC 6962 §2.1.2).

    Empty for ``old == new`` and for ``old == 0``: every log extends the empty one.

    Raises:
        FormatError: not ``0 <= old <= new``.
    """
    if not 0 <= old <= new:
        raise FormatError(f"expected an old log size from 0 to {new}, got {old}")
    if old == 0:
        return []
    proof = []
    begin, end = 0, new
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_range_root(get_node, middle, end))
            end = middle
        else:
            proof.append(_range_root(get_node, begin, middle))
            begin = middle
    if begin:  # with begin == 0 the node is the old root, which the verifier has
        proof.append(_range_root(get_node, begin, end))
    proof.reverse()
    return proof


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Returns when ``proof`` leads from the leaf at ``index`` to ``root``, as RFC 9162 §2.1.3.2 says.

    Raises:
        VerificationError: ``inclusion_invalid``.
    """
    _check_hashes("inclusion_invalid", root)
    _check_root("inclusion_invalid", "root", inclusion_root(leaf_hash, index, size, proof), root)


def inclusion_root(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The one root that ``proof`` leads to from the leaf at ``index``: what a signature must then cover.

    Raises:
        VerificationError: ``inclusion_invalid``: the proof has not the length for that place.
    """
    code = "inclusion_invalid"
    _check_sizes(code, index, size)
    _check_hashes(code, leaf_hash)
    if index == size:
        raise VerificationError(code, "the leaf is not in the log", expected=f"below {size}", got=index)
    path = _checked_proof(code, proof)
    node, position, last = leaf_hash, index, size - 1
    for sibling in path:
        if last == 0:
            raise VerificationError(code, "the proof is too long", got=len(path))
        if position & 1 or position == last:
            node = log_inner(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = log_inner(node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise VerificationError(code, "the proof is too short", got=len(path))
    return node


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Returns when the new log begins with the old one, as RFC 9162 §2.1.4.2 says.

    Raises:
        VerificationError: ``consistency_invalid``.
    """
    code = "consistency_invalid"
    _check_sizes(code, old, new)
    _check_hashes(code, old_root, new_root)
    path = _checked_proof(code, proof)
    if old == 0:
        _check_root(code, "root of the empty log", EMPTY_ROOT, old_root)
    if old == new:
        _check_root(code, "root of one size", old_root, new_root)
    if old in (0, new):
        if path:
            raise VerificationError(code, "a proof where none is needed", expected=0, got=len(path))
        return
    if old & (old - 1) == 0:  # a complete subtree: the old root itself is the first node
        path.insert(0, old_root)
    if not path:
        raise VerificationError(code, "the proof is too short", got=0)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise VerificationError(code, "the proof is too long", got=len(proof))
        if position & 1 or position == last:
            old_node = log_inner(sibling, old_node)
            new_node = log_inner(sibling, new_node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_node = log_inner(new_node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise VerificationError(code, "the proof is too short", got=len(proof))
    _check_root(code, "old root", old_node, old_root)
    _check_root(code, "new root", new_node, new_root)


def _split(count: int) -> int:
    """The largest power of two smaller than ``count`` (at least 2)."""
    return 1 << (count - 1).bit_length() - 1


def _complete_nodes(get_node: GetNode, begin: int, end: int) -> Iterator[bytes]:
    """The complete nodes of ``[begin, end)``, left to right; ``begin`` is a multiple of the largest."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        yield get_node(level, begin >> level)
        begin += 1 << level


def _range_root(get_node: GetNode, begin: int, end: int) -> bytes:
    return _fold(tuple(_complete_nodes(get_node, begin, end)))


def _fold(edge: tuple[bytes, ...]) -> bytes:
    if not edge:
        return EMPTY_ROOT
    node = edge[-1]
    for left in reversed(edge[:-1]):
        node = log_inner(left, node)
    return node


def _check_sizes(code: str, lower: int, upper: int) -> None:
    for number in (lower, upper):
        if type(number) is not int or not 0 <= number <= limits.integer_max:
            raise VerificationError(code, "expected a log position of at most 63 bits")
    if lower > upper:
        raise VerificationError(code, "beyond the log's size", expected=f"at most {upper}", got=lower)


def _check_hashes(code: str, *hashes: bytes) -> None:
    for each in hashes:
        if type(each) is not bytes or len(each) != 32:
            raise VerificationError(code, "expected hashes of 32 bytes")


def _checked_proof(code: str, proof: Sequence[bytes]) -> list[bytes]:
    if not isinstance(proof, list | tuple):
        raise VerificationError(code, f"expected a list of hashes, got {type(proof).__name__}")
    _check_hashes(code, *proof)
    return list(proof)


def _check_root(code: str, what: str, computed: bytes, given: bytes) -> None:
    if computed != given:
        raise VerificationError(code, f"{what} differs", expected=given.hex(), got=computed.hex())
