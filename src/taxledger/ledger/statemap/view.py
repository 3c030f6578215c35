"""The state map as readers see it: the stored map, with the writes of newer blocks in memory above it.

    b"m" key      → value
    b"p" number5  → page (pages.py); number 0 is the root page
    b"M"          → root32 count8 pages_next5

Invariants: a view never changes; ``apply`` stores nothing; a layer fits exactly the view it was computed
from; the root is a function of the keys and values alone, whatever the pages or the order in which they
were written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import pairwise

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, check
from taxledger.ledger.hashing import EMPTY_ROOT
from taxledger.ledger.statemap.pages import PageCache, page_hash, page_key
from taxledger.ledger.statemap.prove import Prover
from taxledger.ledger.statemap.update import Update
from taxledger.ledger.store import Reader, prefix_end

__all__ = ["MapLayer", "MapProof", "MapView"]

META_KEY = b"M"
VALUE = b"m"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapProof:
    """An answer and its proof.

    Attributes:
        proof: the bytes of docs/protocol.md §6.
        entries: for each prefix asked all pairs below it, ascending; ``[]`` where there are none.
    """

    proof: bytes
    entries: dict[bytes, list[tuple[bytes, bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLayer:
    """The writes of one block and what they change in the map, over the view they were applied to.

    Attributes:
        root: of the map with these writes.
        count: number of keys with these writes.
        writes: value by key.
        base_root: the root of the view below.
        ordered: the keys of ``writes``, ascending.
        pages: new pages by number; None where a page is no longer used. Opaque.
        pages_next: the next free page number.
    """

    root: bytes
    count: int
    writes: dict[bytes, bytes]
    base_root: bytes
    ordered: list[bytes] = field(repr=False)
    pages: dict[int, bytes | None] = field(repr=False)
    pages_next: int

    def store_batch(self) -> dict[bytes, bytes | None]:
        """The batch that folds this layer, the lowest one, into the store it was computed over.

        Written atomically; views opened on the store afterwards equal a view over this layer.
        """
        batch: dict[bytes, bytes | None] = {VALUE + key: self.writes[key] for key in self.ordered}
        for number, page in self.pages.items():
            batch[page_key(number)] = page
        batch[META_KEY] = self.root + self.count.to_bytes(8, "big") + self.pages_next.to_bytes(5, "big")
        return batch

    def enter(self, cache: PageCache) -> None:
        """Keep this layer's pages at hand, once its ``store_batch`` is written: then they are the store's
        own, and the next blocks begin with most of them.
        """
        for page in self.pages.values():
            if page is not None:
                cache.put(page_hash(page), page)


class MapView:
    """An immutable view of the map in a Reader (a store nobody writes to meanwhile, or a snapshot), plus
    layers.

    Attributes:
        root: 32 bytes.
        count: number of keys.
    """

    __slots__ = ("_cache", "_layers", "_page_entries", "_pages_next", "_reader", "count", "root")

    def __init__(
        self,
        reader: Reader,
        cache: PageCache,
        page_entries: int,
        layers: tuple[MapLayer, ...],
        meta: tuple[bytes, int, int],
    ) -> None:
        self._reader = reader
        self._cache = cache
        self._page_entries = page_entries
        self._layers = layers  # newest first
        self.root, self.count, self._pages_next = meta

    @classmethod
    def open(
        cls,
        reader: Reader,
        cache: PageCache | None = None,
        *,
        page_entries: int = limits.page_entries_default,
    ) -> MapView:
        """The stored map; reads one key.

        Args:
            reader: the store, or a snapshot of it.
            cache: of this store only; a small one of the view's own where None.
            page_entries: entries of the pages that ``apply`` makes, 2 to 255.
        """
        check(2 <= page_entries <= 255, f"expected 2 to 255 entries a page, got {page_entries}")
        meta = reader.get(META_KEY)
        state = (EMPTY_ROOT, 0, 1)
        if meta is not None:
            check(len(meta) == 45, "the stored map's state is not 45 bytes")
            state = (meta[:32], int.from_bytes(meta[32:40], "big"), int.from_bytes(meta[40:], "big"))
        return cls(reader, cache or PageCache(), page_entries, (), state)

    def over(self, layer: MapLayer) -> MapView:
        """This view with one more layer on top; the layer must come from a view with this root."""
        check(layer.base_root == self.root, "a layer over another view than the one it was computed from")
        meta = (layer.root, layer.count, layer.pages_next)
        return MapView(self._reader, self._cache, self._page_entries, (layer, *self._layers), meta)

    # --- reading ----------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        for layer in self._layers:
            value = layer.writes.get(key)
            if value is not None:
                return value
        return self._reader.get(VALUE + key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """``get`` of each key, in their order."""
        if self._layers:
            return [self.get(key) for key in keys]
        stored = self._reader.get
        return [stored(VALUE + key) for key in keys]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with a prefix, ascending."""
        if not self._layers:
            yield from self._scan_stored(prefix)
            return
        sources: list[Iterator[tuple[bytes, int, bytes]]] = [
            _scan_layer(layer, prefix, age) for age, layer in enumerate(self._layers)
        ]
        sources.append((key, len(self._layers), value) for key, value in self._scan_stored(prefix))
        before = None
        for key, _, value in merge(*sources):
            if key != before:
                yield key, value
                before = key

    def _scan_stored(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        begin = VALUE + prefix
        for key, value in self._reader.scan(begin, prefix_end(begin)):
            yield key[1:], value

    # --- writing ----------------------------------------------------------------------------

    def apply(self, writes: Mapping[bytes, bytes]) -> MapLayer:
        """What the map becomes with some keys set. Pure: nothing is stored; keys are never removed.

        Args:
            writes: keys of 1 to ``limits.map_key_bytes_max`` bytes; all keys that begin with the same byte
                have one length.
        """
        update = Update(self._load, writes, pages_next=self._pages_next, page_entries=self._page_entries)
        root = update.run(self.root)
        return MapLayer(
            root=root,
            count=self.count + update.added,
            writes=dict(writes),
            base_root=self.root,
            ordered=update.ordered,
            pages=update.pages,
            pages_next=update.pages_next,
        )

    def _load(self, number: int, root: bytes) -> bytes:
        """The page where a sub-trie with this hash begins."""
        for layer in self._layers:
            page = layer.pages.get(number)
            if page is not None:
                return page
        page = self._cache.get(root)
        if page is None:
            page = self._reader.get(page_key(number)) or b""
            check(page and page_hash(page) == root, f"page {number} of the stored map is missing, or another")
            self._cache.put(root, page)
        return page

    # --- proving ----------------------------------------------------------------------------

    def prove(self, prefixes: Sequence[bytes]) -> MapProof:
        """All pairs below each of some prefixes, with one proof of that; verified by ``verify_prefixes``.

        Raises:
            FormatError: a prefix that begins with another one, or is longer than the keys where it would be.
        """
        ordered = sorted(set(prefixes))
        for before, prefix in pairwise(ordered):
            if prefix.startswith(before):
                raise FormatError(f"expected no prefix within another, got {before.hex()}, {prefix.hex()}")
        prover = Prover(self._load, self._present_value)
        proof = prover.prove(self.root, ordered)
        return MapProof(
            proof=proof,
            entries={
                prefix: list(self.scan(prefix)) if prefix in prover.present else [] for prefix in prefixes
            },
        )

    def _present_value(self, key: bytes) -> bytes:
        value = self.get(key)
        check(value is not None, "a key of the map without a value")
        return value or b""


def _scan_layer(layer: MapLayer, prefix: bytes, age: int) -> Iterator[tuple[bytes, int, bytes]]:
    at = bisect_left(layer.ordered, prefix)
    while at < len(layer.ordered) and layer.ordered[at].startswith(prefix):
        key = layer.ordered[at]
        yield key, age, layer.writes[key]
        at += 1
