"""A Store on LevelDB. The only file that imports ``plyvel``; needs the extra ``node``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel

from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.store import Batch

__all__ = ["LevelStore"]


class _LevelReader:
    """Reads, over a database or one of its snapshots."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def get(self, key: bytes) -> bytes | None:
        return self._handle.get(key)  # type: ignore[no-any-return]

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._handle.iterator(start=begin, stop=end) as pairs:
            yield from pairs


class _LevelSnapshot(_LevelReader):
    def close(self) -> None:
        self._handle.close()


class LevelStore(_LevelReader):
    """LevelDB in a folder, opened by this process alone.

    ``transaction=True`` matters: without it plyvel writes a batch even when the ``with`` block raises.
    """

    def __init__(self, folder: Path, *, cache_bytes: int = 16 * 1024 * 1024) -> None:
        try:
            database = plyvel.DB(
                str(folder),
                create_if_missing=True,
                bloom_filter_bits=10,
                lru_cache_size=cache_bytes,
                # Snappy finds nothing in hashes, and took more of the CPU than executing the blocks did. The
                # larger buffer halves the bytes written again by compactions.
                compression=None,
                write_buffer_size=16 * 1024 * 1024,
                max_open_files=256,
            )
        except plyvel.Error as error:
            raise UnavailableError(
                f"cannot open the store {folder}: {error} (is another process using it?)"
            ) from error
        super().__init__(database)

    def write(self, batch: Batch, *, sync: bool = True) -> None:
        with self._handle.write_batch(transaction=True, sync=sync) as writes:
            for key, value in batch.items():
                if value is None:
                    writes.delete(key)
                else:
                    writes.put(key, value)

    def snapshot(self) -> _LevelSnapshot:
        return _LevelSnapshot(self._handle.snapshot())

    def close(self) -> None:
        self._handle.close()
