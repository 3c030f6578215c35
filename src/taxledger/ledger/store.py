"""The one Protocol through which the core touches storage, and its in-memory implementation.

Contract, for every implementation (tests/ledger/test_store_contract.py runs all of them through it):

* ``write(batch)`` is atomic and durable: when it returns, all of it survives a power cut; when the process
  dies inside it, all or nothing is there. A ``None`` value deletes.
* If ``write`` raises, its outcome is unknown: the caller stops the process and recovers at the next start.
* ``snapshot()`` sees exactly the writes that returned before it was taken, and none after.
* Keys ascend by bytes. ``scan`` is lazy and its iterator must be exhausted or closed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Protocol

__all__ = ["MemoryStore", "Reader", "Store", "prefix_end"]

Batch = Mapping[bytes, bytes | None]


class Reader(Protocol):
    """A consistent view of a store."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with ``begin <= key < end``, ascending."""
        ...


class Snapshot(Reader, Protocol):
    def close(self) -> None: ...


class Store(Reader, Protocol):
    """A durable ordered map of bytes to bytes, owned by one process."""

    def write(self, batch: Batch, *, sync: bool = True) -> None:
        """Apply a batch, atomically, and durably unless ``sync`` is False (then with the next synced one)."""
        ...

    def snapshot(self) -> Snapshot: ...

    def close(self) -> None: ...


def prefix_end(prefix: bytes) -> bytes:
    """The smallest byte string above every string that starts with ``prefix`` (not all 0xff)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\xff" * 256
    return stripped[:-1] + bytes([stripped[-1] + 1])


class MemoryStore:
    """A Store in memory, for tests and for replays that fit."""

    def __init__(self, content: dict[bytes, bytes] | None = None) -> None:
        self._content: dict[bytes, bytes] = dict(content or {})
        self._keys: list[bytes] | None = None

    def get(self, key: bytes) -> bytes | None:
        return self._content.get(key)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self._keys is None:
            self._keys = sorted(self._content)
        chosen = self._keys[bisect.bisect_left(self._keys, begin) : bisect.bisect_left(self._keys, end)]
        return iter([(key, self._content[key]) for key in chosen])

    def write(self, batch: Batch, *, sync: bool = True) -> None:
        for key, value in batch.items():
            if value is None:
                self._content.pop(key, None)
            else:
                self._content[key] = value
        self._keys = None

    def snapshot(self) -> MemoryStore:
        return MemoryStore(self._content)

    def close(self) -> None:
        return None
