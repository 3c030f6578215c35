"""The contract of ``store.Store``, run by every implementation; what a process death leaves is tested in tests/e2e."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.store import MemoryStore, Store, prefix_end

KEYS = st.binary(min_size=1, max_size=3)


@pytest.fixture(params=["memory", "leveldb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def open_one() -> Store:
        store: Store = (
            MemoryStore() if request.param == "memory" else LevelStore(tmp_path / f"store{len(opened)}")
        )
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


def test_a_batch_puts_and_deletes(make: Callable[[], Store]) -> None:
    store = make()
    store.write({b"a": b"1", b"b": b"2"})
    store.write({b"a": None, b"c": b""})
    assert [store.get(key) for key in (b"a", b"b", b"c", b"d")] == [None, b"2", b"", None]


def test_a_snapshot_sees_what_was_written_before_it_and_nothing_after(make: Callable[[], Store]) -> None:
    store = make()
    store.write({b"a": b"old", b"b": b"gone"})
    snapshot = store.snapshot()
    store.write({b"a": b"new", b"b": None, b"c": b"later"})
    assert [snapshot.get(key) for key in (b"a", b"b", b"c")] == [b"old", b"gone", None]
    assert list(snapshot.scan(b"", b"\xff")) == [(b"a", b"old"), (b"b", b"gone")]
    assert [store.get(key) for key in (b"a", b"b", b"c")] == [b"new", None, b"later"]
    snapshot.close()


def test_a_batch_that_can_not_be_written_changes_nothing(tmp_path: Path) -> None:
    """Without ``transaction`` plyvel would have written the first half."""
    store = LevelStore(tmp_path / "store")
    store.write({b"a": b"1"})
    with pytest.raises(TypeError):
        store.write({b"a": b"2", b"b": "text"})  # type: ignore[dict-item]
    assert store.get(b"a") == b"1"
    assert store.get(b"b") is None
    store.close()


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(KEYS, st.binary(max_size=4), max_size=20), KEYS, KEYS)
def test_a_scan_is_half_open_and_sorted(content: dict[bytes, bytes], begin: bytes, end: bytes) -> None:
    store = MemoryStore()
    store.write(dict(content))
    expected = sorted((key, value) for key, value in content.items() if begin <= key < end)
    assert list(store.scan(begin, end)) == expected


def test_both_scan_alike(tmp_path: Path) -> None:
    content: dict[bytes, bytes | None] = {
        bytes([a, b]): bytes([b]) for a in range(0, 256, 17) for b in (0, 127, 255)
    }
    memory, level = MemoryStore(), LevelStore(tmp_path / "store")
    for store in (memory, level):
        store.write(content)
    bounds = [b"", b"\x00", b"\x11", b"\x11\x7f", b"\x80", b"\xff", b"\xff\xff", b"\xff" * 9]
    for begin in bounds:
        for end in bounds:
            assert list(memory.scan(begin, end)) == list(level.scan(begin, end)), (begin, end)
    level.close()


def test_a_store_is_opened_by_one_process(tmp_path: Path) -> None:
    store = LevelStore(tmp_path / "store")
    with pytest.raises(UnavailableError, match="cannot open the store"):
        LevelStore(tmp_path / "store")
    store.close()
    reopened = LevelStore(tmp_path / "store")
    assert reopened.get(b"a") is None
    reopened.close()


@given(KEYS)
def test_the_end_of_a_prefix_is_above_all_that_begin_with_it(prefix: bytes) -> None:
    end = prefix_end(prefix)
    assert prefix < end
    assert prefix + b"\xff" * 40 < end
    assert end <= b"\xff" * 256
