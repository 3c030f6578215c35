"""A node begins from another member's snapshot instead of replaying the ledger: for a new home, or a lost disk.

The order, each step durable before the next: the snapshot is verified while it is written into ``store.sync``; the
signing journals that the home still has go with it; what the engine needs is written; the journals go with it as they
are then; ``store`` becomes ``store.old``, while no node can open it; ``store.sync`` becomes ``store``. A crash leaves
the old store, or the new one, or (between the last two steps) none: the same command again puts things right. Nothing
begins a journal here: a key whose journal is lost stays silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from taxledger.ledger import canonical, limits
from taxledger.ledger.chainreader import ChainReader, at
from taxledger.ledger.errors import (
    InputError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
    VerificationError,
)
from taxledger.ledger.genesis import decode_genesis
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.policy import Policy, decode_policy
from taxledger.ledger.setchanges import link_entries
from taxledger.ledger.snapshot import decode_manifest
from taxledger.ledger.snapshotinstall import VerifiedManifest, install_snapshot, verify_manifest
from taxledger.ledger.store import prefix_end
from taxledger.nodes.forks.halting import clear_halt, read_halt
from taxledger.nodes.home import Home, sync_folder
from taxledger.nodes.logs import get_logger
from taxledger.nodes.peering.transport import PeerClient

__all__ = ["fetch_snapshot", "place_store", "stored_height"]

_JOURNALS = (b"S", b"J", b"V")
"""What a store holds of our own keys (``ledger/signingjournals.py``): it never comes from anybody else."""
_CHUNK_MS = 60_000


def stored_height(home: Home) -> int:
    """How far the home's own store is; 0 for none. Raises UnavailableError while its node runs."""
    if not any(home.store_path.glob("CURRENT")):
        return 0
    store = LevelStore(home.store_path)
    try:
        if store.get(at(b"L", 0)) is None:
            return 0
        return ChainReader(store).decided_height()
    finally:
        store.close()


async def fetch_snapshot(
    home: Home, peers: Mapping[int, PeerClient], *, now_ms: int | None = None
) -> VerifiedManifest:
    """Get the newest snapshot that any peer has and that the home's policy vouches for, into ``store.sync``.

    It is newer than the store. Where the node halted any will do: its store is not to be believed, however far it
    is, and the journals that come along keep its keys from signing again what they have signed. A sequencer does
    not go back: it would be without what only it orders, and nobody brings it blocks.

    Raises:
        UnavailableError: no peer has such a one.
        VerificationError: what the peers have does not verify; the reason of the last.
    """
    policy = decode_policy(home.policy())
    own = await asyncio.to_thread(stored_height, home)
    if read_halt(home.path) is not None and not home.config.is_sequencer:
        own = 0
    offers = await asyncio.gather(*(_heights(peer) for peer in peers.values()))
    ranked = sorted(
        (
            (-height, number)
            for number, heights in zip(peers, offers, strict=True)
            for height in heights
            if height > own
        ),
    )
    if not ranked:
        raise UnavailableError(f"no member's node has a snapshot of a block above {own}")
    log = get_logger("statesync")
    failure: TaxledgerError | None = None
    for height, number in ranked:
        peer = peers[number]
        try:
            verified = await _fetch(home, peer, -height, policy, now_ms or time.time_ns() // 1_000_000)
        except (UnavailableError, RefusedError, InputError, VerificationError) as error:
            log.warning("no snapshot from there", peer=peer.name, height=-height, reason=str(error))
            failure = error
            continue
        log.info("snapshot verified", peer=peer.name, height=-height)
        return verified
    raise failure or UnavailableError("no member's node has a snapshot")


async def _heights(peer: PeerClient) -> list[int]:
    try:
        answer = canonical.decode(
            await peer.call("snapshot_list", [1, "snapshot_list"], timeout_ms=_CHUNK_MS, answer_bytes_max=256)
        )
        _, _, heights = answer
        return [each for each in heights if type(each) is int and 0 < each < 2**63]
    except (TaxledgerError, ValueError, TypeError):
        return []


async def _fetch(home: Home, peer: PeerClient, height: int, policy: Policy, now_ms: int) -> VerifiedManifest:
    async def part(number: int) -> bytes:
        bytes_max = limits.snapshot_chunk_bytes_max if number else limits.snapshot_manifest_bytes_max
        return await peer.call(
            "snapshot_chunk",
            [1, "snapshot_chunk", height, number],
            timeout_ms=_CHUNK_MS,
            answer_bytes_max=bytes_max,
        )

    verified = verify_manifest(decode_manifest(await part(0)), policy, now_ms=now_ms)
    if verified.manifest.genesis_leaf != home.genesis():
        raise InputError(f"{peer.name} gave a snapshot of another ledger")
    links = await _links(peer)
    loop = asyncio.get_running_loop()

    def chunks() -> Iterator[bytes]:
        """In the installing thread; the next chunk is under way while one is verified and written."""
        ahead: Future[bytes] = asyncio.run_coroutine_threadsafe(part(1), loop)
        count = len(verified.manifest.chunks)
        for number in range(1, count + 1):
            data = ahead.result()
            if number < count:
                ahead = asyncio.run_coroutine_threadsafe(part(number + 1), loop)
            yield data

    await asyncio.to_thread(_install, home, verified, chunks())
    await asyncio.to_thread(_finish, home, links, now_ms)
    return verified


def _fresh_path(home: Home) -> Path:
    return home.store_path.with_name("store.sync")


def _former_path(home: Home) -> Path:
    return home.store_path.with_name("store.old")


def _install(home: Home, verified: VerifiedManifest, chunks: Iterator[bytes]) -> None:
    fresh, former = _fresh_path(home), _former_path(home)
    if former.exists() and not any(home.store_path.glob("CURRENT")):
        shutil.rmtree(home.store_path, ignore_errors=True)
        former.rename(home.store_path)  # an attempt before this one ended between its last two steps
    shutil.rmtree(fresh, ignore_errors=True)
    store = LevelStore(fresh)
    try:
        install_snapshot(store, verified, chunks)
        store.write(_journals(home))
    finally:
        store.close()


async def _links(peer: PeerClient) -> list[bytes]:
    """The links between sets of validators that a peer has: what it says proves itself, or is not kept."""
    try:
        data = await peer.call(
            "set_links",
            [1, "set_links"],
            timeout_ms=_CHUNK_MS,
            answer_bytes_max=limits.policy_links_bytes_max,
        )
        _, _, links = canonical.decode(data, bytes_max=limits.policy_links_bytes_max)
        return [each for each in links if type(each) is bytes]
    except (TaxledgerError, ValueError, TypeError):
        return []


def _finish(home: Home, links: list[bytes], now_ms: int) -> None:
    """Add the links, so that this node too leads from an old policy to the newest; then make it all durable."""
    fresh = _fresh_path(home)
    store = LevelStore(fresh)
    try:
        store.write(
            dict(link_entries(ChainReader(store), decode_genesis(home.genesis()), links, now_ms=now_ms))
        )
    except (InputError, VerificationError) as error:
        get_logger("statesync").warning("no links between sets of validators", reason=str(error))
    finally:
        store.close()
    _sync_store(fresh)


def _sync_store(folder: Path) -> None:
    """What was written unsynced may be in files that no later sync covers: sync them all, then the names."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def _journals(home: Home) -> dict[bytes, bytes | None]:
    if not any(home.store_path.glob("CURRENT")):
        return {}
    store = LevelStore(home.store_path)
    try:
        return {key: value for prefix in _JOURNALS for key, value in store.scan(prefix, prefix_end(prefix))}
    finally:
        store.close()


def _renew_journals(home: Home, fresh: Path) -> None:
    """The journals as they are now: the node may have run, and signed, since the snapshot was begun."""
    journals = _journals(home)
    if journals:
        store = LevelStore(fresh)
        try:
            store.write(journals)
        finally:
            store.close()
        _sync_store(fresh)


@contextlib.contextmanager
def _locked(home: Home) -> Iterator[None]:
    """Hold the lock of the present store, if there is one. Raises UnavailableError while its node runs."""
    try:
        lock = (home.store_path / "LOCK").open("r+b")
    except FileNotFoundError:
        yield
        return
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UnavailableError(f"{home.config.name} runs: stop its node first") from error
        yield


def place_store(home: Home) -> None:
    """Put what ``fetch_snapshot`` made into the place of the store, with the journals as they are now.

    Raises:
        UnavailableError: the node runs, or the home can't be written.
    """
    fresh, former = _fresh_path(home), _former_path(home)
    try:
        shutil.rmtree(former, ignore_errors=True)
        _renew_journals(home, fresh)
        with _locked(home):
            if home.store_path.exists():
                home.store_path.rename(former)
            fresh.rename(home.store_path)
        sync_folder(home.path)
        clear_halt(home.path)  # it was about the store that is gone now
        shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        raise UnavailableError(f"{home.path}: cannot place the new store: {error.strerror}") from error
