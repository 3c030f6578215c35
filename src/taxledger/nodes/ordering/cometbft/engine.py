"""The node's side of CometBFT: answers the engine's ABCI calls, and passes it what is submitted here.

The engine is a process of its own that orders bytes among the members' machines, whatever up to f of them do. It
calls this node over a unix socket, one call after another: ``server.py`` reads them, this module says what each
means, ``blocks.py`` does it on the ledger thread. A wrong answer stops the engine, an unknown outcome stops the node.

When a co-signature leaves. ``Commit`` of engine block e makes its block of the ledger durable; our co-signature
of it is made when ``FinalizeBlock`` of e + 1 arrives (the engine makes that block at once, because the app hash
changed), made durable by ``Commit`` of e + 1, and only then released. A node whose state differs never comes so far:
its engine refuses e + 1, whose header has the app hash that the others arrived at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from taxledger.ledger.errors import InputError, RefusedError, TaxledgerError, UnavailableError, check
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.members import validators_of
from taxledger.nodes.application import decode_cosign
from taxledger.nodes.background import Background
from taxledger.nodes.certification import Fork
from taxledger.nodes.logs import get_logger
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.admission import answer_query, end_with_outsiders, turn_of
from taxledger.nodes.ordering.cometbft.blocks import Blocks, is_cosign
from taxledger.nodes.ordering.cometbft.peering import Peering
from taxledger.nodes.ordering.cometbft.rpc import EngineRpc
from taxledger.nodes.ordering.cometbft.server import AbciServer
from taxledger.nodes.ordering.cometbft.settings import chain_name, node_id
from taxledger.nodes.ordering.cometbft.shares import Shares
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.replica import Replica

__all__ = ["CometBft", "SnapshotService"]

_PENDING_MAX = 4_096
_LAYERS_MAX = 64
"""Uncertified blocks in memory past which a replay waits for co-signatures."""
_LOOK_S = 0.5
_CERTIFY_LATE_S = 1.5
"""A block that is uncertified for so long gets our co-signature through the engine too."""
_STALLED_AFTER_S = 6.0


class SnapshotService(Protocol):
    """State sync, as the engine asks for it."""

    async def list_snapshots(self, request: abci.ListSnapshotsRequest) -> abci.ListSnapshotsResponse: ...
    async def offer_snapshot(self, request: abci.OfferSnapshotRequest) -> abci.OfferSnapshotResponse: ...
    async def load_snapshot_chunk(
        self, request: abci.LoadSnapshotChunkRequest
    ) -> abci.LoadSnapshotChunkResponse: ...
    async def apply_snapshot_chunk(
        self, request: abci.ApplySnapshotChunkRequest
    ) -> abci.ApplySnapshotChunkResponse: ...


class CometBft:
    """The ordering engine as the node sees it, and the application as the engine sees it. On the event loop.

    Args:
        replica: this node's ledger.
        folder: the engine's home; its sockets are ``abci.sock`` (ours) and ``rpc.sock`` (the engine's).
        peers: clients of the other members' nodes, by number.
        on_dropped: called with the id of a transaction submitted here that can't count any more, and why.
        on_release: sends a co-signature message to the other members' nodes.
        on_broken: ends the process: a call of the engine failed in a way we did not expect.
        admits: whether the engine may talk with one of this id (``settings.node_id``).
    """

    def __init__(
        self,
        replica: Replica,
        *,
        folder: Path,
        peers: Mapping[int, PeerClient],
        on_dropped: Callable[[bytes, str], None],
        on_release: Callable[[bytes], Awaitable[None]],
        on_broken: Callable[[BaseException], None],
        admits: Callable[[str], bool] = lambda _engine_id: True,
    ) -> None:
        self.replica = replica
        self.blocks = Blocks(replica)
        self.peering = Peering(replica, peers)
        folder.mkdir(mode=0o700, exist_ok=True)
        self.rpc = EngineRpc(folder / "rpc.sock")
        self.snapshots: SnapshotService | None = None
        self.retain_height: Callable[[], int] = lambda: 0
        self.on_misbehaviour: Callable[[str], None] = lambda _name: None
        self.on_timing: Callable[[str, float], None] = lambda _what, _seconds: None
        self._server = AbciServer(folder / "abci.sock", self, on_broken)
        self._admits = admits
        self._on_dropped = on_dropped
        self._on_release = on_release
        self._background = Background()
        self._loop = asyncio.get_running_loop()
        self._connected = False
        self._decided_at = self._loop.time()
        self._tip_since = (replica.application.chain.tip.height, self._decided_at)
        self._pending: dict[bytes, tuple[bytes, float]] = {}  # id → transaction submitted here, since when
        self._sent: set[bytes] = set()
        self._shares = Shares()
        self._log = get_logger("engine")

    # --- the node's side ------------------------------------------------------------------------

    def restart(self) -> None:
        """Have the engine stop; its supervisor starts it anew, and it reads its files and keys then."""
        self._server.disconnect()

    def handlers(self) -> dict[str, Callable[[int, Any], Awaitable[Any]]]:
        """Peer verbs of this engine."""
        return {"hello": self.peering.on_hello, "cosigns": self.peering.on_cosigns}

    async def submit(self, raw: bytes) -> None:
        """Pass a transaction to the engine. While that is away it waits here.

        Raises:
            InputError, RefusedError: it can't count.
            UnavailableError: too many wait.
        """
        transaction = await self.replica.run(self.replica.application.check, raw)
        if transaction.id not in self._pending and len(self._pending) >= _PENDING_MAX:
            raise UnavailableError(f"too many transactions wait: {_PENDING_MAX}")
        self._pending.setdefault(transaction.id, (raw, self._loop.time()))
        try:
            await self._send(transaction.id, raw)
        except RefusedError:
            self._pending.pop(transaction.id, None)
            raise

    async def _send(self, transaction_id: bytes, raw: bytes) -> None:
        try:
            await self.rpc.broadcast(raw)
            self._sent.add(transaction_id)
        except UnavailableError as error:
            self._log.debug("waits for the engine", reason=str(error))

    async def run(self) -> None:
        """Serve the engine, for ever."""
        await self._server.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.peering.run(), name="peering")
                group.create_task(self._look_after(), name="pending")
                group.create_task(self._end_with_outsiders(), name="outsiders")
        finally:
            await self._background.stop()
            await self._server.stop()
            await self.rpc.close()

    async def _end_with_outsiders(self) -> None:
        turn = partial(turn_of, self.replica.application)
        await end_with_outsiders(self.rpc, admits=self._admits, turn=turn, restart=self.restart)

    async def _look_after(self) -> None:
        """Send again what the engine may have lost, and certify what is late."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._connected:
                for transaction_id, (raw, _) in list(self._pending.items()):
                    if transaction_id not in self._sent:
                        await self._resend(transaction_id, raw)
            chain, now = self.replica.application.chain, self._loop.time()
            if chain.tip.height != self._tip_since[0]:
                self._tip_since = (chain.tip.height, now)
            if chain.certified < chain.tip.height and now - self._tip_since[1] > _CERTIFY_LATE_S:
                await self._certify_late()

    async def _resend(self, transaction_id: bytes, raw: bytes) -> None:
        try:
            await self.replica.run(self.replica.application.check, raw)
            await self._send(transaction_id, raw)
        except TaxledgerError as error:
            self._pending.pop(transaction_id, None)
            self._on_dropped(transaction_id, getattr(error, "code", "malformed"))

    async def _certify_late(self) -> None:
        """Our own co-signatures through the engine, which reaches members whose address we don't know."""
        for raw in await self.replica.run(self.replica.certification.own):
            try:
                await self.rpc.broadcast(raw)
            except TaxledgerError as error:
                self._log.debug("co-signature not taken", reason=str(error))
        await self.peering.ask_cosigns()

    # --- state ----------------------------------------------------------------------------------

    @property
    def forks(self) -> Sequence[Fork]:
        """Contradictions among votes: the engine keeps those itself."""
        return ()

    @property
    def hears(self) -> bool:
        """Whether as many validators answer as it takes to decide."""
        return self.peering.hears_quorum

    @property
    def current(self) -> bool:
        """Whether it was asked around, the engine runs, and nobody has certified much more."""
        return self.peering.is_warm and self._connected and not self.peering.is_behind

    @property
    def catching_up(self) -> bool:
        """Whether the engine is still bringing blocks that others have certified."""
        return self.peering.is_behind

    @property
    def writes(self) -> str | None:
        """None while writes go on, else why they wait."""
        if not self._connected:
            return "the ordering engine does not run (see log/engine.log)"
        if self.peering.problem is not None:
            return self.peering.problem
        if self.blocks.is_full:
            return "too many blocks wait for their co-signatures"
        now = self._loop.time()
        asked = min((each for _, each in self._pending.values()), default=now)
        since = self._decided_at if self.peering.is_behind else max(self._decided_at, asked)
        if now - since > _STALLED_AFTER_S:
            behind = "; others have certified more" if self.peering.is_behind else ""
            return f"the engine has decided nothing for {now - since:.0f} s{behind} (see log/engine.log)"
        return None

    # --- ABCI: handshake and queries -------------------------------------------------------------

    async def info(self, _request: abci.InfoRequest) -> abci.InfoResponse:
        chain = self.replica.application.chain
        self._connected, height = True, await self.replica.run(chain.engine_height)
        self._log.info("engine connected", engine_height=height, height=chain.tip.height)
        root = chain.tip.frontier.root if height else b""
        return abci.InfoResponse(
            data="taxledger", app_version=1, last_block_height=height, last_block_app_hash=root
        )

    async def init_chain(self, request: abci.InitChainRequest) -> abci.InitChainResponse:
        """Raises InvariantError where the engine's genesis is not of this ledger."""
        chain = self.replica.application.chain
        check(request.chain_id == chain_name(chain.chain_id), f"an engine of {request.chain_id}")
        # Those of the tip, also where a handover came with a change accepted: its own block updates them.
        signers = await self.replica.run(validators_of, chain.view)
        present = sorted((each.vote_key, 1) for each in signers if each.vote_key)
        given = sorted((each.pub_key, each.power) for each in request.validators)
        check(
            given == present, "the engine's genesis does not name the ledger's validators, each with power 1"
        )
        return abci.InitChainResponse(app_hash=chain.tip.frontier.root)

    async def query(self, request: abci.QueryRequest) -> abci.QueryResponse:
        return answer_query(request.path, self._admits)

    async def check_tx(self, request: abci.CheckTxRequest) -> abci.CheckTxResponse:
        again = request.type == abci.CheckTxType.RECHECK
        try:
            member = await self.replica.run(self._check, request.tx, again)
            if not again:
                self._shares.admit(log_leaf(request.tx), member, is_cosign=is_cosign(request.tx))
        except (InputError, RefusedError) as error:
            self._shares.release(log_leaf(request.tx))
            code = getattr(error, "code", "malformed")
            return abci.CheckTxResponse(code=1, log=f"{code}: {str(error).removeprefix(f'{code}: ')}"[:500])
        return abci.CheckTxResponse()

    def _check(self, raw: bytes, again: bool) -> int:
        """On the ledger thread. Whose it is, if it may wait in the mempool."""
        application = self.replica.application
        if is_cosign(raw):
            member = decode_cosign(raw, application.chain.chain_id).member
            if application.chain.certified == application.chain.tip.height:
                raise RefusedError("not_needed", "every block is certified")
            problems = [] if again else self.replica.receive([raw])
            if problems:
                raise RefusedError("cosignature_refused", problems[0])
            # What is of no use was not verified either: in whose name it comes, and how often, anybody may make up.
            if not self.replica.certification.counts(raw):
                raise RefusedError(
                    "not_needed", "it is not counted for a block that waits, or the newest certified"
                )
            return member
        return application.check(raw).member

    # --- ABCI: consensus ------------------------------------------------------------------------

    async def prepare_proposal(self, request: abci.PrepareProposalRequest) -> abci.PrepareProposalResponse:
        if self.blocks.is_full:
            await self.replica.news(_LOOK_S)  # else block follows upon empty block while transactions wait
        chosen = await self.replica.run(
            self.blocks.prepare, request.time_ns, request.txs, request.max_tx_bytes
        )
        return abci.PrepareProposalResponse(txs=tuple(chosen))

    async def process_proposal(self, request: abci.ProcessProposalRequest) -> abci.ProcessProposalResponse:
        refusal = await self.replica.run(self.blocks.refusal, request.time_ns, request.txs)
        if refusal is None:
            return abci.ProcessProposalResponse(status=abci.ProposalStatus.ACCEPT)
        self._log.warning("proposal refused", proposer=self._name(request.proposer_address), reason=refusal)
        return abci.ProcessProposalResponse(status=abci.ProposalStatus.REJECT)

    async def extend_vote(self, _request: abci.ExtendVoteRequest) -> abci.ExtendVoteResponse:
        return abci.ExtendVoteResponse()

    async def verify_vote_extension(
        self, request: abci.VerifyVoteExtensionRequest
    ) -> abci.VerifyVoteExtensionResponse:
        accepted = not request.vote_extension
        return abci.VerifyVoteExtensionResponse(
            status=abci.VerifyStatus.ACCEPT if accepted else abci.VerifyStatus.REJECT
        )

    async def finalize_block(self, request: abci.FinalizeBlockRequest) -> abci.FinalizeBlockResponse:
        self._connected = True  # told lost only now, when an engine before it had not ended in time
        chain = self.replica.application.chain
        while chain.tip.height - chain.certified >= _LAYERS_MAX:  # a replay that ran ahead
            await self.peering.ask_cosigns()
            if chain.tip.height - chain.certified >= _LAYERS_MAX:
                await self.replica.news(_LOOK_S)
        for each in request.misbehavior:
            name = self._name(each.validator.address)
            self._log.error("misbehaviour seen by the engine", member=name, height=each.height)
            self.on_misbehaviour(name)
        done = await self.replica.run(self.blocks.finalize, request.height, request.time_ns, request.txs)
        return abci.FinalizeBlockResponse(
            tx_results=tuple(abci.ExecTxResult(code=0 if counted else 1) for counted in done.counted),
            validator_updates=tuple(
                abci.ValidatorUpdate(pub_key=key, power=int(votes)) for key, votes in done.changes
            ),
            app_hash=done.app_hash,
        )

    async def commit(self, _request: abci.CommitRequest) -> abci.CommitResponse:
        begin = self._loop.time()
        done = await self.replica.run(self.blocks.commit)
        self._decided_at = self._loop.time()
        self.on_timing("commit", self._decided_at - begin)
        if done.own is not None:
            self._background.start(self._released(done.own))
        if done.executed is not None:
            for leaf_hash in done.executed.leaf_hashes:
                self._forget(leaf_hash)
            for transaction_id, reason in done.executed.skipped:
                self._forget(transaction_id)
                self._on_dropped(transaction_id, reason)
        for raw in done.cosigns:
            self._shares.release(log_leaf(raw))
        return abci.CommitResponse(retain_height=self.retain_height())

    async def _released(self, message: bytes) -> None:
        await self._on_release(message)

    def _forget(self, transaction_id: bytes) -> None:
        self._pending.pop(transaction_id, None)
        self._sent.discard(transaction_id)
        self._shares.release(transaction_id)

    async def consensus_lost(self) -> None:
        """The engine's connection ended: what it had not committed, it decides again."""
        self._connected = False
        await self.replica.run(self.blocks.forget)  # after a call of the old connection that may still run
        self._sent.clear()  # its mempool is gone
        self._shares.clear()
        self._log.warning("engine gone")

    def _name(self, address: bytes) -> str:
        for each in self.replica.application.validators.values():
            if each.vote_key is not None and node_id(each.vote_key) == address.hex():
                return each.name
        return address.hex()

    # --- ABCI: state sync -----------------------------------------------------------------------

    async def list_snapshots(self, request: abci.ListSnapshotsRequest) -> abci.ListSnapshotsResponse:
        if self.snapshots is None:
            return abci.ListSnapshotsResponse()
        return await self.snapshots.list_snapshots(request)

    async def offer_snapshot(self, request: abci.OfferSnapshotRequest) -> abci.OfferSnapshotResponse:
        if self.snapshots is None:
            return abci.OfferSnapshotResponse(result=abci.OfferSnapshotResult.ABORT)
        return await self.snapshots.offer_snapshot(request)

    async def load_snapshot_chunk(
        self, request: abci.LoadSnapshotChunkRequest
    ) -> abci.LoadSnapshotChunkResponse:
        if self.snapshots is None:
            return abci.LoadSnapshotChunkResponse()
        return await self.snapshots.load_snapshot_chunk(request)

    async def apply_snapshot_chunk(
        self, request: abci.ApplySnapshotChunkRequest
    ) -> abci.ApplySnapshotChunkResponse:
        if self.snapshots is None:
            return abci.ApplySnapshotChunkResponse(result=abci.ApplySnapshotChunkResult.ABORT)
        return await self.snapshots.apply_snapshot_chunk(request)
