"""The state map against a naive reference: roots, reads, layers, folding, pages of any size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger.errors import InvariantError
from taxledger.ledger.hashing import EMPTY_ROOT, map_inner, map_leaf
from taxledger.ledger.statemap import MapView, PageCache, subtree_root
from taxledger.ledger.store import MemoryStore


def bits_of(key: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in key).ljust(8 * 48, "0")


def naive_root(content: Mapping[bytes, bytes]) -> bytes:
    """docs/protocol.md §6 word by word: recursive, on strings of bits."""
    if not content:
        return EMPTY_ROOT
    if len(content) == 1:
        [(key, value)] = content.items()
        return map_leaf(key, value)
    texts = {key: bits_of(key) for key in content}
    bit = next(at for at in range(8 * 48) if len({text[at] for text in texts.values()}) == 2)
    left = {key: value for key, value in content.items() if texts[key][bit] == "0"}
    right = {key: value for key, value in content.items() if texts[key][bit] == "1"}
    return map_inner(bit, naive_root(left), naive_root(right))


def fold(store: MemoryStore, writes: Mapping[bytes, bytes], page_entries: int = 4) -> MapView:
    store.write(MapView.open(store, page_entries=page_entries).apply(writes).store_batch())
    return MapView.open(store, page_entries=page_entries)


SMALL = [bytes(key) for key in ([0], [1, 0], [1, 1], [1, 128], [2, 0, 0], [2, 0, 1], [2, 3, 7], [255])]


def namespaced(number: int) -> bytes:
    """A key of a namespace: its length follows from its first byte."""
    first = number % 4
    return bytes([first]) + (number * 2654435761 % 2**32).to_bytes(8, "big")[: first + 5]


def test_every_subset_of_few_keys_has_the_naive_root() -> None:
    for size in range(len(SMALL) + 1):
        for chosen in itertools.combinations(SMALL, size):
            content = {key: b"v" + key for key in chosen}
            view = fold(MemoryStore(), content, 2)
            assert view.root == naive_root(content) == subtree_root(sorted(content.items()))
            assert view.count == size
            assert list(view.scan(b"")) == sorted(content.items())


@pytest.mark.parametrize("page_entries", [2, 3, 4, 7, 24, 255])
def test_the_root_does_not_depend_on_pages_batches_or_order(page_entries: int) -> None:
    randomness = random.Random(page_entries)
    content = {namespaced(number): number.to_bytes(4, "big") for number in range(600)}
    expected = naive_root(content)
    for _ in range(3):
        keys = list(content)
        randomness.shuffle(keys)
        store, begin = MemoryStore(), 0
        while begin < len(keys):
            end = begin + randomness.choice([1, 1, 3, 20, 200, 900])
            view = fold(store, {key: content[key] for key in keys[begin:end]}, page_entries)
            begin = end
        assert view.root == expected
        assert view.count == len(content)


def test_records_of_a_few_groups_in_many_blocks() -> None:
    randomness = random.Random(5)
    store, content = MemoryStore(), {}
    for _ in range(25):
        group = b"\x01\x00\x01\x05" + randomness.randbytes(16) + bytes([randomness.randrange(1, 13)])
        groups = [group, *([randomness.choice(list(content))[:21]] if content else [])]
        writes = {
            each + randomness.randbytes(16): randomness.randbytes(9) for each in groups for _ in range(40)
        }
        content |= writes
        view = fold(store, writes, 24)
    assert view.root == naive_root(content)
    assert view.count == len(content)
    pages = [value for key, value in store.scan(b"p", b"q")]
    assert sum(page[0] for page in pages) == len(content) + len(pages) - 1, (
        "a page is reached once, and all are"
    )
    assert max(page[0] for page in pages) <= 24


@pytest.mark.parametrize("page_entries", [2, 5, 24])
def test_a_comb_of_keys_that_branch_at_every_bit(page_entries: int) -> None:
    keys = [((1 << 295) | (1 << bit)).to_bytes(37, "big") for bit in range(295)]
    content = dict.fromkeys(keys, b"x")
    expected = subtree_root(sorted(content.items()))
    for batches in ([keys], [keys[::2], keys[1::2]], [keys[3:], *([key] for key in keys[:3])]):
        store = MemoryStore()
        for batch in batches:
            view = fold(store, dict.fromkeys(batch, b"x"), page_entries)
        assert view.root == expected


class Model:
    """Random operations on a store with layers, next to a dict per state."""

    def __init__(self, seed: int, page_entries: int) -> None:
        self.randomness = random.Random(seed)
        self.page_entries = page_entries
        self.cache = PageCache(20_000)
        self.store = MemoryStore()
        self.view = self.open(self.store)
        self.states: list[dict[bytes, bytes]] = [{}]
        self.layers: list = []
        self.old: list[tuple[MapView, dict[bytes, bytes]]] = []

    def open(self, reader: MemoryStore) -> MapView:
        return MapView.open(reader, self.cache, page_entries=self.page_entries)

    def writes(self) -> dict[bytes, bytes]:
        known = list(self.states[-1])
        count = self.randomness.choice([0, 1, 1, 2, 5, 30, 120])
        fresh = [namespaced(self.randomness.randrange(1_500)) for _ in range(count)]
        changed = self.randomness.sample(known, min(len(known), self.randomness.choice([0, 1, 4])))
        return {key: self.randomness.randbytes(2) for key in fresh + changed}

    def step(self) -> None:
        choice = self.randomness.random()
        if choice < 0.5 and len(self.layers) < 16:
            writes = self.writes()
            self.view.apply(self.writes())  # a block that is dropped leaves no trace
            layer = self.view.apply(writes)
            self.view = self.view.over(layer)
            self.layers.append(layer)
            self.states.append(self.states[-1] | writes)
        elif choice < 0.9 and self.layers:
            self.old.append((self.open(self.store.snapshot()), self.states[0]))
            self.store.write(self.layers.pop(0).store_batch())
            self.states.pop(0)
            self.view = self.open(self.store.snapshot())
            for layer in self.layers:
                self.view = self.view.over(layer)
        elif choice > 0.95:
            self.cache = PageCache(10_000)
        self.check(self.view, self.states[-1])
        if self.old:
            self.check(*self.randomness.choice(self.old))

    def check(self, view: MapView, content: dict[bytes, bytes]) -> None:
        assert view.root == subtree_root(sorted(content.items()))
        assert view.count == len(content)
        some = [namespaced(self.randomness.randrange(1_500)) for _ in range(20)]
        assert view.get_many(some) == [content.get(key) for key in some] == [view.get(key) for key in some]
        prefix = self.randomness.choice([b"", b"\x02", namespaced(self.randomness.randrange(1_500))[:2]])
        assert list(view.scan(prefix)) == sorted(
            pair for pair in content.items() if pair[0].startswith(prefix)
        )


@pytest.mark.parametrize(("seed", "page_entries"), [(1, 2), (2, 4), (3, 24), (4, 8)])
def test_random_operations_with_layers_folds_and_reopening(seed: int, page_entries: int) -> None:
    model = Model(seed, page_entries)
    for _ in range(70):
        model.step()
    assert model.view.root == naive_root(model.states[-1])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.binary(min_size=3, max_size=3), st.binary(max_size=3), max_size=40), max_size=6
    ),
    st.integers(2, 9),
)
def test_any_batches_give_the_naive_root(batches: list[dict[bytes, bytes]], page_entries: int) -> None:
    store, content = MemoryStore(), {}
    view = MapView.open(store, page_entries=page_entries)
    for batch in batches:
        content |= batch
        view = view.over(view.apply(batch))
        stored = fold(store, batch, page_entries)
        assert view.root == stored.root == naive_root(content)


def test_nothing_is_written_by_apply_and_an_empty_batch_changes_nothing() -> None:
    store = MemoryStore()
    view = fold(store, {b"k1": b"v"})
    before = dict(store.scan(b"", b"\xff"))
    assert view.apply({}).root == view.root
    view.apply({b"k2": b"w"})
    assert dict(store.scan(b"", b"\xff")) == before
    assert fold(store, {}).root == view.root


def test_a_layer_goes_only_over_the_view_it_comes_from() -> None:
    view = MapView.open(MemoryStore())
    layer = view.apply({b"k1": b"v"})
    with pytest.raises(InvariantError, match="another view"):
        view.over(layer).over(layer)


@pytest.mark.parametrize("key", [b"", bytes(49)])
def test_keys_out_of_range_are_a_bug(key: bytes) -> None:
    with pytest.raises(InvariantError, match="1 to 48 bytes"):
        MapView.open(MemoryStore()).apply({key: b""})


def test_keys_that_differ_in_trailing_zeros_are_a_bug() -> None:
    with pytest.raises(InvariantError, match="trailing zero"):
        MapView.open(MemoryStore()).apply({b"a": b"", b"a\0": b""})
    with pytest.raises(InvariantError, match="another length"):
        fold(MemoryStore(), {b"a": b"", b"b": b""}).apply({b"a\0": b""})


def test_a_lost_or_foreign_page_stops_the_process() -> None:
    store = MemoryStore()
    fold(store, {namespaced(number): b"" for number in range(50)})
    numbers = [key for key, _ in store.scan(b"p", b"q")]
    store.write({numbers[0]: store.get(numbers[1])})
    with pytest.raises(InvariantError, match="page 0 of the stored map"):
        MapView.open(store).apply({b"key": b""})
    store.write({numbers[0]: None})
    with pytest.raises(InvariantError, match="page 0 of the stored map"):
        MapView.open(store).prove([b"key"])


def test_the_cache_is_bounded_and_opening_reads_one_key() -> None:
    cache, store = PageCache(30_000), MemoryStore()
    content = {namespaced(number): b"" for number in range(1_000)}
    fold(store, content, 8)
    view = MapView.open(store, cache)
    for key in content:
        view.prove([key])
    assert sum(map(len, [*cache._young.values(), *cache._old.values()])) <= 30_000
    asked: list[bytes] = []

    class Counting(MemoryStore):
        def get(self, key: bytes) -> bytes | None:
            asked.append(key)
            return store.get(key)

    assert MapView.open(Counting()).count == len(content)
    assert asked == [b"M"]
