"""Reading a node's ledger: blocks, leaves, votes and co-signatures, over a store or a snapshot of one.

Layout of the store (numbers big-endian; the map's own keys begin with ``m``, ``p`` and ``M``):

    L index8 → leaf                      D height8 → votes [[member, signature] …]
    N level1 index8 → log node           C height8 → co-signatures [[member, time_s, signature] …]
    X id32 → index8 of a transaction     W height8 → write set of a decided, uncertified block
    R index8 → its result                A key37 height8 → height8 of the version it replaced
    B height8 → index8 of its header     V height8 → vote journal
    H → decided height8                  Y height8 → own co-signature
    F → certified height8                E → height8 of an engine that counts its own blocks, log root32
    S, J → signingjournals.py            T → [engine] that this node is about to be handed over to
    G → [engine, from height]            G height8 → handover after that block (handover.py)
    K height8 → link to the next validators, K → 1 (setchanges.py)
    Q height8 → height8 of the engine's block that made it      P → what older content is not kept (``Kept``)
"""

from __future__ import annotations

from dataclasses import dataclass

from taxledger.ledger import canonical
from taxledger.ledger.errors import InvariantError, RefusedError, check
from taxledger.ledger.genesis import decode_genesis
from taxledger.ledger.handover import Handover, decode_handover
from taxledger.ledger.header import Header, decode_header
from taxledger.ledger.store import Reader

__all__ = ["ChainReader", "Kept", "StoredBlock", "pruned"]

DECIDED = b"H"
CERTIFIED = b"F"
ENGINE = b"E"
KEPT = b"P"
MADE_AT = b"Q"
PRESENT = b"G"
HANDING_OVER = b"T"


def at(letter: bytes, number: int) -> bytes:
    """The store's key of something numbered."""
    return letter + number.to_bytes(8, "big")


def engine_mark(height: int, root: bytes) -> bytes:
    """What stands under ``ENGINE``: the engine's height, and the log root after it."""
    return height.to_bytes(8, "big") + root


def node_key(level: int, index: int) -> bytes:
    return b"N" + bytes([level]) + index.to_bytes(8, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """From where on a store is whole: it began with a snapshot, or older blocks were pruned.

    Attributes:
        height: of the first block whose transactions, results and votes are kept.
        index: of the first leaf of that block.
        log_height: of the first block whose header is kept.
        log_index: of the first leaf whose hash is kept.
    """

    height: int = 1
    index: int = 0
    log_height: int = 1
    log_index: int = 0


EVERYTHING = Kept()


def encode_kept(kept: Kept) -> bytes:
    return canonical.encode([kept.height, kept.index, kept.log_height, kept.log_index])


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """One decided block as it lies in the store.

    Attributes:
        height: from 1.
        transactions: leaves in log order, without the header.
        header_leaf: the header's bytes.
        results: one for each transaction, bytes.
        votes: ``(member, signature)`` ascending, a quorum or more; none of an engine that decides by itself.
        cosigns: ``(member, time_s, signature)`` ascending; empty until certified; under the origin of the engine
            that decided it.
    """

    height: int
    transactions: tuple[bytes, ...]
    header_leaf: bytes
    results: tuple[bytes, ...]
    votes: tuple[tuple[int, bytes], ...]
    cosigns: tuple[tuple[int, int, bytes], ...]


class ChainReader:
    """Reads of a ledger over a store or a snapshot of one. Cheap to make; holds no state of its own."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def decided_height(self) -> int:
        return self._number(DECIDED)

    def certified_height(self) -> int:
        return self._number(CERTIFIED)

    def engine_height(self) -> int:
        """How far an engine is that counts blocks of its own, also those that make none of the ledger; else 0."""
        found = self.reader.get(ENGINE)
        return 0 if found is None else int.from_bytes(found[:8], "big")

    def engine_root(self) -> bytes | None:
        """The log root that such an engine was told of last."""
        found = self.reader.get(ENGINE)
        return None if found is None else found[8:] or None

    def present_engine(self) -> tuple[str, int]:
        """The engine that orders now, and the first height that it orders."""
        found = self.reader.get(PRESENT)
        if found is None:
            return decode_genesis(self.leaf(0)).engine, 1
        engine, from_height = canonical.decode(found)
        return engine, from_height

    def handing_over(self) -> str | None:
        """The engine that this node is about to be handed over to: it takes no part in the present one."""
        found = self.reader.get(HANDING_OVER)
        return None if found is None else str(canonical.decode(found)[0])

    def handover(self, height: int) -> Handover | None:
        """The handover to another engine after a block (0: after the genesis), if there was one."""
        found = self.reader.get(at(PRESENT, height))
        return None if found is None else decode_handover(height, found)

    def handovers(self, up_to: int) -> list[Handover]:
        """All after blocks up to a height, ascending."""
        pairs = self.reader.scan(at(PRESENT, 0), at(PRESENT, up_to + 1))
        return [decode_handover(int.from_bytes(key[1:], "big"), value) for key, value in pairs]

    def kept(self) -> Kept:
        """From where on the store is whole. Whatever lies before that raises RefusedError, ``pruned``."""
        found = self.reader.get(KEPT)
        if found is None:
            return EVERYTHING
        height, index, log_height, log_index = canonical.decode(found)
        return Kept(height=height, index=index, log_height=log_height, log_index=log_index)

    def made_at(self, height: int) -> int:
        """Height of the engine's block that made this one, where the engine counts its own and the block's content is
        kept; else 0.
        """
        found = self.reader.get(at(MADE_AT, height))
        return 0 if found is None else int.from_bytes(found, "big")

    def leaf(self, index: int) -> bytes:
        """The bytes of a leaf. Raises InvariantError when the log does not reach that far."""
        return self._must(at(b"L", index), f"leaf {index}", index=index)

    def node(self, level: int, index: int) -> bytes:
        """A complete node of the log tree (``merkle.GetNode``)."""
        found = self.reader.get(node_key(level, index))
        if found is None:
            if index << level < self.kept().log_index:
                raise pruned(f"log node {level}/{index}")
            raise InvariantError(f"the store has no log node {level}/{index}")
        return found

    def header_index(self, height: int) -> int:
        return int.from_bytes(self._must(at(b"B", height), f"block {height}", height=height), "big")

    def header_leaf(self, height: int) -> bytes:
        return self.leaf(self.header_index(height))

    def header(self, height: int) -> Header:
        return decode_header(self.header_leaf(height))

    def header_hash(self, height: int) -> bytes:
        """Leaf hash of a block's header: what votes name."""
        return self.node(0, self.header_index(height))

    def size(self, height: int) -> int:
        """Log size right after the block: that of its checkpoint (1 after genesis)."""
        return self.header_index(height) + 1 if height else 1

    def transaction_index(self, transaction_id: bytes) -> int | None:
        found = self.reader.get(b"X" + transaction_id)
        return None if found is None else int.from_bytes(found, "big")

    def result(self, index: int) -> bytes:
        return self._must(at(b"R", index), f"result {index}", index=index)

    def results(self, height: int) -> list[bytes]:
        """The results of a block's transactions, in log order."""
        header = self.header(height)
        begin, end = header.first_index, header.first_index + header.transactions
        found = [value for _, value in self.reader.scan(at(b"R", begin), at(b"R", end))]
        if len(found) < header.transactions and height < self.kept().height:
            raise pruned(f"block {height}")
        return found

    def height_of_index(self, index: int) -> int:
        """The height of the block that leaf ``index`` (≥ 1) belongs to, by bisection."""
        kept = self.kept()
        if index < kept.log_index:
            raise pruned(f"the block of leaf {index}")
        low, high = kept.log_height, self.decided_height()
        while low < high:
            middle = (low + high) // 2
            if self.header_index(middle) < index:
                low = middle + 1
            else:
                high = middle
        return low

    def cosigns(self, height: int) -> tuple[tuple[int, int, bytes], ...]:
        found = self.reader.get(at(b"C", height))
        return () if found is None else tuple((m, t, s) for m, t, s in canonical.decode(found))

    def votes(self, height: int) -> tuple[tuple[int, bytes], ...]:
        """``(member, signature)`` ascending: the quorum that decided a block."""
        votes = canonical.decode(self._must(at(b"D", height), f"votes of block {height}", height=height))
        return tuple((member, signature) for member, signature in votes)

    def block(self, height: int) -> StoredBlock:
        """A decided block. Raises InvariantError when there is none at this height."""
        header_leaf = self.header_leaf(height)
        header = decode_header(header_leaf)
        begin, end = header.first_index, header.first_index + header.transactions
        results = tuple(self.results(height))
        leaves = tuple(value for _, value in self.reader.scan(at(b"L", begin), at(b"L", end)))
        handover = self.handover(height)
        check(len(leaves) == len(results) == header.transactions, f"block {height} is incomplete")
        return StoredBlock(
            height=height,
            transactions=leaves,
            header_leaf=header_leaf,
            results=results,
            votes=self.votes(height),
            cosigns=self.cosigns(height) if handover is None else handover.former_cosigns,
        )

    def replaced_at(self, key: bytes, height: int) -> int | None:
        """Height at which the version stood that was replaced at ``height``; None for a first version."""
        found = self.reader.get(at(b"A" + key, height))
        return None if found is None else int.from_bytes(found, "big")

    def _number(self, key: bytes) -> int:
        return int.from_bytes(self._must(key, repr(key)), "big")

    def _must(self, key: bytes, what: str, *, height: int | None = None, index: int | None = None) -> bytes:
        value = self.reader.get(key)
        if value is not None:
            return value
        kept = self.kept()
        if (height is not None and height < kept.height) or (index is not None and index < kept.index):
            raise pruned(what)
        raise InvariantError(f"the store has no {what}")


def pruned(what: str) -> RefusedError:
    """The error for what was there once, and is not kept here."""
    return RefusedError("pruned", f"{what} is older than what this node keeps; ask a node that keeps it")
