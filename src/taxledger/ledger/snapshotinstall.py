"""Verifying a snapshot against a policy, while writing it into an empty store (docs/protocol.md §19).

Invariants:

* Nothing is believed: every chunk is hashed, the run and the map are recomputed, and the checkpoint is verified
  against the policy. What the manifest says besides (the engine's height) is for the engine's light client.
* The store is a ledger only when the last, synced batch is written, and that one is written after every check.
  A store that was left before that, by a crash or a refusal, is to be deleted whole.
* From then on it is as if replayed, but for what is older: ``ChainReader`` answers ``pruned`` for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from taxledger.ledger import canonical, limits
from taxledger.ledger.chainreader import (
    CERTIFIED,
    DECIDED,
    ENGINE,
    KEPT,
    MADE_AT,
    PRESENT,
    Kept,
    at,
    encode_kept,
    engine_mark,
    node_key,
)
from taxledger.ledger.checkpoint import SignedCheckpoint, decode_note, parse_origin
from taxledger.ledger.errors import InputError, VerificationError, check
from taxledger.ledger.hashing import log_leaf, sha256
from taxledger.ledger.header import Header, decode_header
from taxledger.ledger.members import validators_of
from taxledger.ledger.merkle import Frontier
from taxledger.ledger.policy import Policy, verify_checkpoint
from taxledger.ledger.setchanges import INDEXED
from taxledger.ledger.snapshot import LOG, ChunkName, Manifest
from taxledger.ledger.statemap import MapView
from taxledger.ledger.statemap.build import MapBuilder
from taxledger.ledger.store import Store

_AGE_MS_MAX = limits.policy_trust_days_default * 86_400_000

__all__ = ["VerifiedManifest", "install_snapshot", "verify_manifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """A manifest whose checkpoint and header the policy vouches for; its chunks are not verified yet."""

    manifest: Manifest
    note: SignedCheckpoint
    header: Header

    @property
    def root(self) -> bytes:
        """Root of the log right after the block."""
        return self.note.checkpoint.root


def _invalid(message: str, *, expected: object = None, got: object = None) -> VerificationError:
    return VerificationError("snapshot_invalid", message, expected=expected, got=got)


def verify_manifest(
    manifest: Manifest, policy: Policy, *, now_ms: int, age_ms_max: int = _AGE_MS_MAX
) -> VerifiedManifest:
    """Check everything that can be checked before a chunk is there.

    Args:
        manifest: decoded.
        policy: whom to trust.
        now_ms: the present instant.
        age_ms_max: how old its co-signatures may be.

    Raises:
        VerificationError: as ``verify_checkpoint``; ``policy_outdated``; ``snapshot_invalid``.
    """
    note = decode_note(manifest.note)
    verify_checkpoint(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    try:
        header = decode_header(manifest.header_leaf)
    except InputError as error:
        raise _invalid(f"no header: {error}") from error
    chain_id = parse_origin(policy.origin).chain_id
    said = sha256(manifest.genesis_leaf)[:16]
    if not said == header.chain_id == chain_id:
        raise _invalid("another chain", expected=chain_id.hex(), got=said.hex())
    if (header.height, header.size) != (manifest.height, note.checkpoint.size):
        raise _invalid("the header is not the checkpoint's", expected=note.checkpoint.size, got=header.size)
    trusted = policy.validators_hash
    for named in (header.validators_hash, header.next_validators_hash):
        if named != trusted:
            raise VerificationError(
                "policy_outdated",
                "the snapshot's validators are not the policy's: taxledger policy update follows them",
                expected=trusted.hex(),
                got=named.hex(),
            )
    return VerifiedManifest(manifest=manifest, note=note, header=header)


def install_snapshot(store: Store, verified: VerifiedManifest, chunks: Iterable[bytes]) -> None:
    """Verify the chunks and write them.

    Args:
        store: empty; see the module text for what it is when this raises.
        verified: from ``verify_manifest``.
        chunks: in the manifest's order.

    Raises:
        VerificationError: ``snapshot_invalid``.
    """
    check(next(store.scan(b"", b"\xff"), None) is None, "a snapshot is installed into an empty store")
    manifest, header = verified.manifest, verified.header
    run, builder = _Run(verified), MapBuilder()
    for name, data in _checked(manifest.chunks, chunks):
        entries = _entries(data)
        if name.kind == LOG:
            store.write(run.add(entries), sync=False)
        else:
            try:
                store.write(builder.add(entries), sync=False)
            except InputError as error:
                raise _invalid(str(error)) from error
            # The root is known at the end only: without this a liar could fill the disk until then.
            if builder.count > header.state_count:
                raise _invalid("keys in the map", expected=header.state_count, got=builder.count)
    run.finish()
    root, last = builder.finish()
    if (root, builder.count) != (header.state_root, header.state_count):
        raise _invalid("the map is not the header's", expected=header.state_root.hex(), got=root.hex())
    store.write(last, sync=False)
    size = header.size
    kept = Kept(
        height=header.height + 1, index=size, log_height=run.first_height, log_index=manifest.first_index
    )
    batch: dict[bytes, bytes | None] = {
        at(b"L", 0): manifest.genesis_leaf,
        at(b"C", header.height): canonical.encode(_cosigns(store, verified)),
        KEPT: encode_kept(kept),
        INDEXED: b"\x01",
        PRESENT: canonical.encode([parse_origin(verified.note.checkpoint.origin).engine, header.height]),
        DECIDED: header.height.to_bytes(8, "big"),
        CERTIFIED: header.height.to_bytes(8, "big"),
    }
    if manifest.engine_height:
        batch[ENGINE] = engine_mark(manifest.engine_height, verified.root)
        batch[at(MADE_AT, header.height)] = manifest.engine_height.to_bytes(8, "big")
    store.write(batch)


def _checked(names: tuple[ChunkName, ...], chunks: Iterable[bytes]) -> Iterator[tuple[ChunkName, bytes]]:
    given = 0
    for name, data in zip(names, chunks, strict=False):
        given += 1
        if len(data) != name.size or sha256(data) != name.digest:
            raise _invalid(f"chunk {given} is another than the manifest says")
        yield name, data
    if given < len(names):
        raise _invalid("chunks are missing", expected=len(names), got=given)


def _entries(data: bytes) -> list[tuple[bytes, bytes]]:
    try:
        flat = canonical.decode(data, bytes_max=limits.snapshot_chunk_bytes_max, containers_max=1)
    except InputError as error:
        raise _invalid(f"a chunk: {error}") from error
    if type(flat) is not list or len(flat) % 2 or not all(type(each) is bytes for each in flat):
        raise _invalid("expected a chunk with an even number of byte strings")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _cosigns(store: Store, verified: VerifiedManifest) -> list[list[object]]:
    """The checkpoint's co-signatures as the store keeps them, by member."""
    network = parse_origin(verified.note.checkpoint.origin).network
    numbers = {f"{network}/{each.name}": each.number for each in validators_of(MapView.open(store))}
    lines = [(numbers.get(line.name), line) for line in verified.note.cosign_lines]
    if any(number is None for number, _ in lines):
        raise _invalid("a co-signer that the state does not name")
    return sorted([number, line.time_s, line.signature] for number, line in lines)


class _Run:
    """The blocks of the run, one after the other; each follows the one before in height, hash, place and time.

    Attributes:
        first_height: of the first block.
    """

    def __init__(self, verified: VerifiedManifest) -> None:
        manifest = verified.manifest
        self.first_height = 0
        self._verified = verified
        self._frontier = Frontier(size=manifest.first_index, edge=manifest.edge)
        self._nodes = _edge_nodes(self._frontier)
        self._before: Header | None = None
        self._before_hash = b""

    def add(self, entries: list[tuple[bytes, bytes]]) -> dict[bytes, bytes | None]:
        """What is to be written for these blocks."""
        batch: dict[bytes, bytes | None] = {node_key(*place): value for place, value in self._nodes.items()}
        self._nodes = {}
        for leaf, ids in entries:
            try:
                header = decode_header(leaf)
            except InputError as error:
                raise _invalid(f"the run: {error}") from error
            self._check(header, ids)
            hashes = [ids[place : place + 32] for place in range(0, len(ids), 32)]
            for index, leaf_hash in enumerate(hashes, header.first_index):
                batch[b"X" + leaf_hash] = index.to_bytes(8, "big")
            self._before, self._before_hash = header, log_leaf(leaf)
            self._frontier, nodes = self._frontier.extended([*hashes, self._before_hash])
            batch.update((node_key(*place), value) for place, value in nodes.items())
            batch[at(b"L", header.index)] = leaf
            batch[at(b"B", header.height)] = header.index.to_bytes(8, "big")
        return batch

    def _check(self, header: Header, ids: bytes) -> None:
        end = self._verified.header
        if header.first_index != self._frontier.size or len(ids) != 32 * header.transactions:
            raise _invalid(f"the run: block {header.height} does not stand where its header says")
        before = self._before
        if before is None:
            self.first_height = header.height
            covered = header.height == 1 or header.time_ms <= end.time_ms - limits.repeat_window_ms
            if not covered or (header.height == 1) != (header.first_index == 1):
                raise _invalid("the run begins too late: a transaction could count twice")
        elif (
            header.height != before.height + 1
            or header.previous_header_hash != self._before_hash
            or header.time_ms <= before.time_ms
        ):
            raise _invalid(f"the run: block {header.height} does not follow the one before")

    def finish(self) -> None:
        """Returns when the run ends the certified log."""
        if self._before != self._verified.header or self._frontier.root != self._verified.root:
            raise _invalid(
                "the run does not end in the checkpoint",
                expected=self._verified.root.hex(),
                got=self._frontier.root.hex(),
            )


def _edge_nodes(frontier: Frontier) -> dict[tuple[int, int], bytes]:
    """Where the hashes of an edge stand in the tree."""
    nodes, begin = {}, 0
    levels = [level for level in range(frontier.size.bit_length() - 1, -1, -1) if frontier.size >> level & 1]
    for level, value in zip(levels, frontier.edge, strict=True):
        nodes[level, begin >> level] = value
        begin += 1 << level
    return nodes
