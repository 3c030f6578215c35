"""A node's durable ledger: how blocks are executed, voted for, committed, certified and recovered.

What lies where in the store is in ``chainreader.py``. Why nothing ever has to be undone (every ``write`` is
one synced, atomic batch):

1. ``execute``: in memory only.
2. ``journal_vote``: header hash and batch are durable *before* the vote is sent. A second vote for the height
   can therefore only repeat the first.
3. ``commit``: on q votes: leaves, nodes, results, votes, write set, the signing journal and our own
   co-signature, durable in one batch *before* the co-signature is released. ``commit_ordered`` is the same for an
   engine that decides by itself: the batch also holds how far that engine is, and the co-signature is one for
   the block before.
4. ``certify``: on q co-signatures the write set is folded into the stored map; only then do readers see it.

A crash between any two steps leaves what opening rebuilds: the stored map is that of the newest certified
block; the write sets of decided blocks above it (at most ``uncertified_blocks_max``) are laid over it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from taxledger.ledger import canonical, hashing, limits
from taxledger.ledger.chainreader import (
    CERTIFIED,
    DECIDED,
    ENGINE,
    MADE_AT,
    ChainReader,
    StoredBlock,
    at,
    engine_mark,
    node_key,
)
from taxledger.ledger.errors import FormatError, check
from taxledger.ledger.execute import Executed, Governance, Tip, execute_block, genesis_tip
from taxledger.ledger.genesis import Genesis, decode_genesis
from taxledger.ledger.governance import ProposalState, pending_proposal
from taxledger.ledger.header import decode_header
from taxledger.ledger.members import validators_of
from taxledger.ledger.merkle import Frontier, frontier_at
from taxledger.ledger.replaced import replaced_versions
from taxledger.ledger.setchanges import INDEXED, entry_at_tip, index_entries, is_last_of_its_set
from taxledger.ledger.signingjournals import begin_journals, cosign_journal_key
from taxledger.ledger.statemap import MapLayer, MapView, PageCache
from taxledger.ledger.store import Store
from taxledger.ledger.transaction import VerifiedSignatures
from taxledger.ledger.verifierkeys import make_origin

__all__ = ["Chain", "ChainReader", "StoredBlock", "Vote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What this node has voted for at a height: never changes once it is durable.

    Attributes:
        height: of the block.
        header_hash: leaf hash of the header voted for.
        time_ms: block time of the batch.
        transactions: the batch, to be proposed or executed again after a restart.
    """

    height: int
    header_hash: bytes
    time_ms: int
    transactions: tuple[bytes, ...]


class Chain(ChainReader):
    """The ledger of one node, written by one thread. See the module text for the order of its writes.

    Attributes:
        genesis: the decoded leaf 0.
        genesis_leaf: its bytes.
        chain_id: 16 bytes.
        tip: after the newest decided block.
        view: state map after the newest decided block.
        certified: height of the newest certified block; the stored map is its state.
        engine: the engine that orders now: the genesis names it unless the ledger was handed over.
        engine_from: the first height that it orders.
        origin: of checkpoints now; its last part is ``engine``.
    """

    def __init__(self, store: Store, genesis_leaf: bytes, cache: PageCache | None = None) -> None:
        """Open the ledger in ``store``, beginning it when the store is empty, and recover.

        Raises:
            FormatError: the store holds the ledger of another genesis.
        """
        super().__init__(store)
        self.store = store
        self.genesis_leaf = genesis_leaf
        self.genesis: Genesis = decode_genesis(genesis_leaf)
        self.chain_id = hashing.sha256(genesis_leaf)[:16]
        self.cache = cache
        self._layers: list[MapLayer] = []
        self._signing: bytes | None = None
        self.verified = VerifiedSignatures()
        found = store.get(at(b"L", 0))
        if found is None:
            self._begin()
        elif found != genesis_leaf:
            raise FormatError(
                f"this store belongs to another ledger: expected chain {self.chain_id.hex()}, "
                f"got {hashing.sha256(found)[:16].hex()}"
            )
        self._recover()

    def _begin(self) -> None:
        _, layer, nodes = genesis_tip(self.genesis_leaf)
        batch: dict[bytes, bytes | None] = {
            at(b"L", 0): self.genesis_leaf,
            DECIDED: bytes(8),
            CERTIFIED: bytes(8),
            INDEXED: b"\x01",
            **{node_key(level, index): value for (level, index), value in nodes.items()},
            **layer.store_batch(),
        }
        self.store.write(batch)

    def _recover(self) -> None:
        """Rebuild what is only in memory from what is durable."""
        decided, self.certified = self.decided_height(), self.certified_height()
        self.read_engine()
        self.tip: Tip = self._tip_at(decided)
        root = self.engine_root()
        # The engine takes our word for it once after a start, and a co-signature would follow: so it must be the same.
        check(root in (None, self.tip.frontier.root), "the log is not the one that the engine was told of")
        self.view = MapView.open(self.store, self.cache)
        self._layers = []
        for height in range(self.certified + 1, decided + 1):
            pairs = canonical.decode(self._must(at(b"W", height), f"write set of block {height}"))
            layer = self.view.apply(dict(pairs))
            check(
                layer.root == self.header(height).state_root,
                f"the write set of block {height} does not give its state root",
            )
            self._layers.append(layer)
            self.view = self.view.over(layer)
        if decided:
            check(
                self.view.root == self.header(decided).state_root, "the stored map is not that of its block"
            )
        governance = Governance(
            validators=tuple(validators_of(self.view)), pending=pending_proposal(self.view)
        )
        self.tip = replace(self.tip, governance=governance)
        if self.store.get(INDEXED) is None:
            entries = index_entries(
                self, self.genesis, self._tip_at(self.certified), self.view_after(self.certified)
            )
            self.store.write({INDEXED: b"\x01", **entries})

    def read_engine(self) -> None:
        """Take from the store who orders (``handover.py`` changes it)."""
        self.engine, self.engine_from = self.present_engine()
        self.origin = self.origin_of(self.engine)

    def origin_of(self, engine: str) -> str:
        """The origin of this ledger's checkpoints under an engine."""
        return make_origin(self.genesis.network, self.chain_id, engine)

    def view_after(self, height: int) -> MapView:
        """The state map after the newest certified block or one above it."""
        view = MapView.open(self.store, self.cache)
        for layer in self._layers[: height - self.certified]:
            view = view.over(layer)
        return view

    def _tip_at(self, height: int) -> Tip:
        if height == 0:
            return genesis_tip(self.genesis_leaf)[0]
        leaf = self.header_leaf(height)
        header = decode_header(leaf)
        frontier: Frontier = frontier_at(self.node, self.size(height))
        return Tip(
            chain_id=self.chain_id,
            network=self.genesis.network,
            height=height,
            time_ms=header.time_ms,
            header_hash=hashing.log_leaf(leaf),
            frontier=frontier,
        )

    def is_logged(self, transaction_id: bytes) -> bool:
        return self.transaction_index(transaction_id) is not None

    def change_pending(self) -> bool:
        """Whether an accepted change waits for its turn: empty blocks are cut until it is in force."""
        governance = self.tip.governance
        pending = pending_proposal(self.view) if governance is None else governance.pending
        return pending is not None and pending.state == ProposalState.ACCEPTED

    def begin_journals(self, keys: Mapping[str, bytes], fresh: frozenset[str]) -> frozenset[str]:
        """``signingjournals.begin_journals`` for this node's keys; the journal read and written from now on is
        that of its co-signing key.
        """
        begun = begin_journals(self.store, keys, fresh, hashing.log_leaf(self.genesis_leaf))
        self._signing = cosign_journal_key(keys["cosign"]) if "cosign" in begun else None
        return begun

    # --- 1. execute ---------------------------------------------------------------------------

    def execute(self, time_ms: int, transactions: Sequence[bytes]) -> Executed:
        """The block that would follow the tip. Nothing is stored.

        Raises:
            FormatError: block time or size outside the limits.
        """
        return execute_block(
            self.tip,
            self.view,
            time_ms=time_ms,
            transactions=transactions,
            is_logged=self.is_logged,
            verify=self.verified,
        )

    # --- 2. vote ------------------------------------------------------------------------------

    def voted(self, height: int) -> Vote | None:
        """The journalled vote for a height, if there is one."""
        found = self.store.get(at(b"V", height))
        if found is None:
            return None
        header_hash, time_ms, transactions = canonical.decode(found)
        return Vote(height=height, header_hash=header_hash, time_ms=time_ms, transactions=tuple(transactions))

    def journal_vote(self, vote: Vote) -> None:
        """Make a vote durable. When this returns it may be sent.

        Raises:
            InvariantError: another vote for this height is journalled; a caller must look first.
        """
        check(vote.height == self.tip.height + 1, "a vote is for the height after the tip")
        earlier = self.voted(vote.height)
        check(
            earlier is None or earlier.header_hash == vote.header_hash,
            f"two different votes for height {vote.height}",
        )
        entry = canonical.encode([vote.header_hash, vote.time_ms, list(vote.transactions)])
        # The journal of the height before is not needed any more: that block is durable.
        self.store.write({at(b"V", vote.height): entry, at(b"V", vote.height - 1): None})

    # --- 3. commit a decided block --------------------------------------------------------------

    def commit(
        self,
        executed: Executed,
        votes: Sequence[tuple[int, bytes]],
        *,
        cosign: bytes | None = None,
    ) -> None:
        """Make a decided block durable. When this returns ``cosign`` may be released.

        Args:
            executed: from ``execute`` on the present tip.
            votes: the quorum that decided it, already verified, ascending.
            cosign: our own co-signature message for the block's checkpoint (validators only).
        """
        header, tip = executed.header, executed.tip
        check(
            header.height - self.certified <= limits.uncertified_blocks_max,
            "too many uncertified blocks",
        )
        batch = self._block_batch(executed, votes)
        if cosign is not None:
            batch.update(self._signing_batch(header.height, header.size, tip.frontier.root, cosign))
        self.store.write(batch)
        self._enter(executed)

    def commit_ordered(
        self, engine_height: int, executed: Executed | None, *, cosign: bytes | None = None
    ) -> None:
        """Make durable what an engine that decides by itself has decided. When this returns ``cosign`` may be
        released.

        Args:
            engine_height: of the engine's block, the one after ``engine_height()``.
            executed: the block of the ledger that it makes, from ``execute`` on the present tip; None where it
                makes none.
            cosign: our own co-signature message for the checkpoint of the *present* tip: the engine would not
                have come this far had not over two thirds of its validators arrived at that tip's root.
        """
        check(engine_height == self.engine_height() + 1, "the engine's blocks are committed in order")
        tip = self.tip if executed is None else executed.tip
        batch: dict[bytes, bytes | None] = {ENGINE: engine_mark(engine_height, tip.frontier.root)}
        if executed is not None:
            batch.update(self._block_batch(executed, ()))
            batch[at(MADE_AT, executed.header.height)] = engine_height.to_bytes(8, "big")
        if cosign is not None:
            frontier = self.tip.frontier
            batch.update(self._signing_batch(self.tip.height, frontier.size, frontier.root, cosign))
        self.store.write(batch)
        if executed is not None:
            self._enter(executed)

    def _enter(self, executed: Executed) -> None:
        """What is durable is now the tip."""
        self._layers.append(executed.layer)
        self.view = self.view.over(executed.layer)
        self.tip = executed.tip

    def _signing_batch(self, height: int, size: int, root: bytes, cosign: bytes) -> dict[bytes, bytes | None]:
        signed = self.signed()
        check(signed is None or signed[0] < size, "a validator never co-signs a smaller tree than before")
        check(self._signing is not None, "a co-signature without a journal")
        return {self._signing or b"": canonical.encode([size, root]), at(b"Y", height): cosign}

    def _block_batch(
        self, executed: Executed, votes: Sequence[tuple[int, bytes]]
    ) -> dict[bytes, bytes | None]:
        header = executed.header
        check(header.height == self.tip.height + 1, "blocks are committed in order")
        header_index = header.first_index + header.transactions
        batch: dict[bytes, bytes | None] = {}
        for offset, (leaf, leaf_hash) in enumerate(zip(executed.leaves, executed.leaf_hashes, strict=True)):
            index = header.first_index + offset
            batch[at(b"L", index)] = leaf
            batch[at(b"R", index)] = executed.results[offset]
            batch[b"X" + leaf_hash] = index.to_bytes(8, "big")
        batch[at(b"L", header_index)] = executed.header_leaf
        for (level, index), value in executed.nodes.items():
            batch[node_key(level, index)] = value
        batch[at(b"B", header.height)] = header_index.to_bytes(8, "big")
        batch[at(b"D", header.height)] = canonical.encode([list(vote) for vote in votes])
        batch[at(b"W", header.height)] = canonical.encode(list(executed.layer.writes.items()))
        batch[DECIDED] = header.height.to_bytes(8, "big")
        for key, earlier_height in replaced_versions(executed, self.view):
            batch[at(b"A" + key, header.height)] = earlier_height.to_bytes(8, "big")
        return batch

    def signed(self) -> tuple[int, bytes] | None:
        """The signing journal: size and root of the largest tree this node has co-signed with its present key; the
        genesis while there is none, None where there is no journal.
        """
        found = None if self._signing is None else self.store.get(self._signing)
        if found is None:
            return None
        size, root = canonical.decode(found)
        return size, root

    def own_cosign(self, height: int) -> bytes | None:
        """Our stored co-signature of a decided block: the same bytes may be sent again."""
        return self.store.get(at(b"Y", height))

    # --- 4. certify ---------------------------------------------------------------------------

    def certify(self, height: int, cosigns: Sequence[tuple[int, int, bytes]]) -> None:
        """Fold the next block into the stored map: it is now what readers see.

        Args:
            height: the one after ``certified``.
            cosigns: a quorum or more, verified, ascending by member.
        """
        check(height == self.certified + 1 <= self.tip.height, "blocks are certified in order")
        layer = self._layers[0]
        batch: dict[bytes, bytes | None] = {
            **layer.store_batch(),
            at(b"C", height): canonical.encode([list(cosign) for cosign in cosigns]),
            at(b"W", height): None,
            at(b"Y", height - 1): None,
            CERTIFIED: height.to_bytes(8, "big"),
        }
        if is_last_of_its_set(self.header(height)):
            batch.update(entry_at_tip(self, self._tip_at(height), self.view_after(height), cosigns))
        self.store.write(batch)
        if self.cache is not None:
            layer.enter(self.cache)
        self.certified = height
        self._layers.pop(0)
        self.view = MapView.open(self.store, self.cache)
        for each in self._layers:
            self.view = self.view.over(each)

    def refresh_cosigns(self, cosigns: Sequence[tuple[int, int, bytes]]) -> None:
        """Keep newer co-signatures of the newest certified block (heartbeats).

        Not synced: what a crash loses here, the next heartbeat brings again.
        """
        value = canonical.encode([list(cosign) for cosign in cosigns])
        self.store.write({at(b"C", self.certified): value}, sync=False)
