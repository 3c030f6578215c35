"""Snapshots that a node takes of its certified state, keeps as files, and gives to other members' nodes.

    snapshots/<height>/manifest, 0, 1, …      the newest two

One is taken every so many blocks, and when a member asks and there is none. It reads one state that never changes, in
a thread of its own: the ledger thread goes on meanwhile. A folder is written under another name, synced, and renamed:
a snapshot is whole or not there. What is in it proves itself to whoever takes it (``ledger/snapshotinstall.py``).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from taxledger.ledger.chainreader import at
from taxledger.ledger.errors import FormatError, InputError, RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.setchanges import is_last_of_its_set
from taxledger.ledger.snapshot import Manifest, decode_manifest, encode_manifest, make_snapshot
from taxledger.nodes.background import Background
from taxledger.nodes.home import sync_folder
from taxledger.nodes.logs import get_logger
from taxledger.nodes.replica import CertifiedState, Replica

__all__ = ["SnapshotKeeper", "kept_heights", "read_chunk", "read_manifest", "snapshot_folder"]

_KEPT = 2
_LOOK_S = 5.0
_AGAIN_S = 60.0


def snapshot_folder(home: Path) -> Path:
    return home / "snapshots"


def kept_heights(folder: Path) -> list[int]:
    """Heights of the snapshots in a folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((int(each.name) for each in folder.iterdir() if each.name.isdecimal()), reverse=True)


def read_manifest(folder: Path, height: int) -> bytes:
    return _read(folder / str(height) / "manifest")


def read_chunk(folder: Path, height: int, number: int) -> bytes:
    """A chunk by its place in the manifest, from 0."""
    return _read(folder / str(height) / str(number))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefusedError("snapshot_unknown", f"no such part of a snapshot here: {path.name}") from error


class SnapshotKeeper:
    """Lives on the event loop.

    Args:
        folder: where the snapshots lie.
        replica: whose certified state is taken.
        note: makes the certified checkpoint of a state.
        blocks: a new one is taken when the newest is so many blocks old.
    """

    engine_height_min = 0
    """Of the engine's block of the oldest snapshot; 0 for none, or where the engine counts none."""

    def __init__(
        self,
        folder: Path,
        replica: Replica,
        note: Callable[[CertifiedState], Awaitable[bytes]],
        blocks: int,
    ) -> None:
        self.folder = folder
        self._replica = replica
        self._note = note
        self._blocks = blocks
        self._taking: asyncio.Task[Any] | None = None
        self._background = Background()
        self._log = get_logger("snapshots")

    def handlers(self) -> dict[str, Callable[[int, Any], Awaitable[Any]]]:
        """Peer verbs."""
        return {"snapshot_list": self.on_list, "snapshot_chunk": self.on_chunk, "set_links": self.on_links}

    async def run(self) -> None:
        """Take snapshots, for ever."""
        for left in self.folder.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)
        await asyncio.to_thread(self.manifests)
        while True:
            await self._replica.news(_LOOK_S)
            newest = next(iter(kept_heights(self.folder)), 0)
            if self._replica.certified.height >= newest + self._blocks and await self._start():
                await asyncio.sleep(_AGAIN_S)  # a full disk does not empty itself within a block

    async def _start(self) -> bool:
        """Take one, unless that is under way; wait for it, and tell whether it failed."""
        if self._taking is None or self._taking.done():
            self._taking = self._background.start(self.take())
        await asyncio.wait([self._taking])
        return self._taking.cancelled() or self._taking.exception() is not None

    async def take(self) -> Manifest | None:
        """Take a snapshot of the newest certified state, if it can be one.

        Raises:
            UnavailableError: no note can be made now, or the folder can't be written.
        """
        state = self._replica.certified
        if state.header is None or is_last_of_its_set(state.header):
            return None  # no policy is both that of this block and that of the next: wait for it
        if state.height in kept_heights(self.folder):
            return None
        try:
            note = await self._note(state)
            manifest = await asyncio.to_thread(self._write, state, note)
        except TaxledgerError as error:
            self._log.warning("no snapshot taken", height=state.height, reason=str(error))
            raise
        await asyncio.to_thread(self.manifests)
        self._log.info("snapshot taken", height=state.height, chunks=len(manifest.chunks))
        return manifest

    def _write(self, state: CertifiedState, note: bytes) -> Manifest:
        fresh, place = self.folder / f".{state.height}", self.folder / str(state.height)
        number = 0

        def put(data: bytes) -> None:
            nonlocal number
            _write_synced(fresh / str(number), data)
            number += 1

        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700, parents=True)
            manifest = make_snapshot(
                state.chain,
                state.view,
                height=state.height,
                note=note,
                engine_height=state.chain.made_at(state.height),
                put=put,
            )
            _write_synced(fresh / "manifest", encode_manifest(manifest))
            sync_folder(fresh)
            fresh.rename(place)
            sync_folder(self.folder)
            for old in kept_heights(self.folder)[_KEPT:]:
                shutil.rmtree(self.folder / str(old), ignore_errors=True)
        except OSError as error:
            raise UnavailableError(f"{self.folder}: cannot write the snapshot: {error.strerror}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return manifest

    async def on_list(self, _member: int, message: Any) -> Any:
        """Peer verb ``snapshot_list``: heights, newest first. One is taken first where there is none.

        Those from before a handover count as none: they verify under the former origin alone.
        """
        if message != [1, "snapshot_list"]:
            raise FormatError('expected [1, "snapshot_list"]')
        if not self._offered():
            await self._start()
        return [1, "snapshot_list", self._offered()]

    def _offered(self) -> list[int]:
        first = self._replica.application.chain.engine_from
        return [each for each in kept_heights(self.folder) if each >= first]

    async def on_chunk(self, _member: int, message: Any) -> bytes:
        """Peer verb ``snapshot_chunk``: a chunk by its place, from 1; 0 is the manifest."""
        if type(message) is not list or [type(each) for each in message] != [int, str, int, int]:
            raise FormatError('expected [1, "snapshot_chunk", height, number]')
        version, what, height, number = message
        if (version, what) != (1, "snapshot_chunk") or not 1 <= height < 2**63 or not 0 <= number < 2**31:
            raise InputError('expected [1, "snapshot_chunk", height, number]')
        if number == 0:
            return await asyncio.to_thread(read_manifest, self.folder, height)
        return await asyncio.to_thread(read_chunk, self.folder, height, number - 1)

    async def on_links(self, _member: int, message: Any) -> Any:
        """Peer verb ``set_links``: every link from one set of validators to the next, in order."""
        if message != [1, "set_links"]:
            raise FormatError('expected [1, "set_links"]')
        reader = self._replica.certified.chain.reader
        pairs = await asyncio.to_thread(lambda: list(reader.scan(at(b"K", 0), at(b"K", 2**64 - 1))))
        return [1, "set_links", [value for _, value in pairs]]

    def manifests(self) -> list[Manifest]:
        """Those kept, newest first. Reads files."""
        found = [decode_manifest(read_manifest(self.folder, each)) for each in kept_heights(self.folder)]
        self.engine_height_min = min((each.engine_height for each in found), default=0)
        return found


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
