"""The ledger in a stopped node's folder, read without running anything: for the auditor.

Nothing is recovered or written: what is durable is taken as it lies there, as the archive a running node
would give, plus what only a folder has: the stored state map and the stored nodes of the log tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from taxledger.ledger.archive import write_archive
from taxledger.ledger.chain import ChainReader, StoredBlock
from taxledger.ledger.checkpoint import Checkpoint, encode_note, make_origin, sign_checkpoint
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import InputError
from taxledger.ledger.genesis import chain_id, decode_genesis
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.members import members_of
from taxledger.ledger.merkle import frontier_at
from taxledger.ledger.statemap import MapView
from taxledger.nodes.home import Home

__all__ = ["FolderLedger", "Stored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a folder says of itself, to be compared with a replay.

    Attributes:
        height: newest certified block.
        log_root: root that the stored log nodes give at that height.
        state_root: root of the stored state map.
        state_count: number of its keys.
    """

    height: int
    log_root: bytes
    state_root: bytes
    state_count: int


class FolderLedger:
    """A stopped node's ledger. Close it when done: LevelDB is opened by one process.

    Raises:
        UnavailableError: the store is in use: the node runs.
        InputError: the folder holds no certified block.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        if not (home.store_path / "CURRENT").exists():
            raise InputError(f"{home.path} holds no ledger yet: its node has never run")
        self._store = LevelStore(home.store_path)
        self._chain = ChainReader(self._store)
        try:
            self.height = self._chain.certified_height()
            if not self.height:
                raise InputError(f"{home.path} holds no certified block yet")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._store.close()

    def stored(self) -> Stored:
        """Roots of what is stored."""
        view = MapView.open(self._store)
        return Stored(
            height=self.height,
            log_root=self._log_root(),
            state_root=view.root,
            state_count=view.count,
        )

    def _log_root(self) -> bytes:
        return frontier_at(self._chain.node, self._chain.size(self.height)).root

    def archive(self) -> Iterator[bytes]:
        """The archive, frame by frame, signed as the log by this member. Raises InputError for observers."""
        return write_archive(
            self._chain.leaf(0),
            self._blocks(),
            height=self.height,
            note=self._note(),
            handovers=self._chain.handovers(self.height),
        )

    def _blocks(self) -> Iterator[StoredBlock]:
        for height in range(1, self.height + 1):
            yield self._chain.block(height)

    def _note(self) -> bytes:
        leaf = self._chain.leaf(0)
        genesis = decode_genesis(leaf)
        checkpoint = Checkpoint(
            origin=make_origin(genesis.network, chain_id(leaf), self._chain.present_engine()[0]),
            size=self._chain.size(self.height),
            root=self._log_root(),
        )
        members = {member.number: member for member in members_of(MapView.open(self._store))}
        lines = [
            (f"{genesis.network}/{members[number].name}", key, time_s, signature)
            for number, time_s, signature in self._chain.cosigns(self.height)
            if (key := members[number].cosign_key) is not None
        ]
        signer = Signer(self._home.key("log"))
        return encode_note(checkpoint, signer.public_key, sign_checkpoint(signer, checkpoint), lines)
