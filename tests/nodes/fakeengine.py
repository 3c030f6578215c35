"""The engine's side of ABCI, in Python: what CometBFT would call, over the real unix socket.

``Channel`` is one connection, ``FakeEngine`` the four of one engine with what the engine keeps on its disk: the
blocks it decided, how far its own state is, and the app hash it got. It stops, as the engine does, on an exception,
on the end of a connection, on a wrong kind of reply, on a wrong number of results, and on an app hash that is not
that of the next block; after a crash it shakes hands and replays as the engine does (replay.go of v0.39.4).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from taxledger.nodes.local.control import socket_address
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.server import read_message

Reply = TypeVar("Reply")
MAX_TX_BYTES = 4_500_000


class EngineStopped(Exception):
    """What makes the real engine's process end."""


class Channel:
    """One connection: a request is followed by a flush, replies come in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, path: Path) -> Channel:
        with socket_address(path) as address:
            return cls(*await asyncio.open_unix_connection(address))

    def send(self, *requests: abci.Request) -> None:
        for each in requests:
            self.writer.write(abci.frame(abci.encode_request(each)))

    async def receive(self) -> abci.Response:
        """Raises EngineStopped: an exception, or the end."""
        try:
            data = await read_message(self.reader)
        except ConnectionError:
            data = None
        if data is None:
            raise EngineStopped("EOF")
        response = abci.decode_response(data)
        if isinstance(response, abci.ExceptionResponse):
            raise EngineStopped(response.error)
        return response

    async def ask(self, request: abci.Request, expected: type[Reply]) -> Reply:
        self.send(request, abci.FlushRequest())
        response = await self.receive()
        flushed = await self.receive()
        if not isinstance(response, expected) or not isinstance(flushed, abci.FlushResponse):
            raise EngineStopped(f"expected {expected.__name__}, got {response} and {flushed}")
        return response

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@dataclass(frozen=True, kw_only=True)
class Block:
    """A decided block; ``app_hash`` in its header is that after the block before."""

    height: int
    time_ns: int
    txs: tuple[bytes, ...]
    app_hash: bytes
    proposer: bytes = bytes(20)
    votes: tuple[abci.VoteInfo, ...] = ()

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(repr(self).encode()).digest()

    def request(self, cls: type[Any]) -> Any:
        """As a request of ProcessProposal, FinalizeBlock or ExtendVote."""
        commit = {
            abci.ProcessProposalRequest: "proposed_last_commit",
            abci.ExtendVoteRequest: "proposed_last_commit",
            abci.FinalizeBlockRequest: "decided_last_commit",
        }[cls]
        return cls(
            txs=self.txs,
            hash=self.hash,
            height=self.height,
            time_ns=self.time_ns,
            next_validators_hash=bytes(32),
            proposer_address=self.proposer,
            **{commit: abci.CommitInfo(votes=self.votes)},
        )


@dataclass
class Disk:
    """What an engine keeps: blocks, and its state after those whose Commit it saw answered."""

    chain_id: str
    validators: tuple[abci.ValidatorUpdate, ...]
    blocks: list[Block] = field(default_factory=list)
    state_height: int = 0
    app_hash: bytes = b""
    responses: dict[int, abci.FinalizeBlockResponse] = field(default_factory=dict)

    def copy(self) -> Disk:
        return replace(self, blocks=list(self.blocks), responses=dict(self.responses))


class FakeEngine:
    """One engine process. A crash is ``close``; another ``FakeEngine`` with the same disk is its restart."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path, self.disk = path, disk
        self.channels: list[Channel] = []

    async def dial(self) -> None:
        self.channels = [await Channel.open(self.path) for _ in range(4)]
        self.query, self.snapshot, self.mempool, self.consensus = self.channels

    async def close(self) -> None:
        for each in self.channels:
            await each.close()
        self.channels = []

    # --- start ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Dial, shake hands, and replay what the application lacks."""
        await self.dial()
        disk = self.disk
        info = await self.query.ask(abci.InfoRequest(version="0.39.4", block_version=11), abci.InfoResponse)
        app_height, app_hash, stored = info.last_block_height, info.last_block_app_hash, len(disk.blocks)
        if app_height == 0:
            app_hash = await self.init_chain()
        if app_height > stored:
            raise EngineStopped(f"the application is at {app_height}, ahead of the block store at {stored}")
        if not disk.state_height <= stored <= disk.state_height + 1:
            raise AssertionError("a fake engine's disk that no engine has")
        for block in disk.blocks[app_height : disk.state_height]:
            if block.height > app_height + 1 and block.app_hash != app_hash:
                raise EngineStopped("block.AppHash does not match AppHash after replay")
            app_hash = (await self._execute(block)).app_hash
        if stored == disk.state_height + 1:  # the block was stored, the state was not
            if app_height == stored:
                self._advance(disk.blocks[-1], disk.responses[stored])
            else:
                await self._apply(disk.blocks[-1])
            app_hash = disk.app_hash
        if stored and app_hash != disk.app_hash:
            raise EngineStopped("state.AppHash does not match AppHash after replay")

    async def state_sync(self, offers: Sequence[tuple[abci.Snapshot, bytes]], synced: Disk) -> list[str]:
        """Dial, and offer snapshots until one is taken whole: then the engine's state is ``synced``.

        Returns:
            The application's word on each that was offered.
        """
        await self.dial()
        words = []
        for snapshot, app_hash in offers:
            request = abci.OfferSnapshotRequest(snapshot=snapshot, app_hash=app_hash)
            offered = await self.snapshot.ask(request, abci.OfferSnapshotResponse)
            words.append(offered.result.name)
            if offered.result == abci.OfferSnapshotResult.ABORT:
                return words
            if offered.result != abci.OfferSnapshotResult.ACCEPT:
                continue
            for index in range(snapshot.chunks):
                chunk = abci.ApplySnapshotChunkRequest(index=index, chunk=b"chunk", sender="peer")
                applied = await self.snapshot.ask(chunk, abci.ApplySnapshotChunkResponse)
                if applied.result != abci.ApplySnapshotChunkResult.ACCEPT:
                    raise EngineStopped(f"chunk {index}: {applied.result.name}")
            info = await self.query.ask(abci.InfoRequest(), abci.InfoResponse)
            if (info.last_block_height, info.last_block_app_hash) != (snapshot.height, app_hash):
                raise EngineStopped("app hash or height of the restored application do not match")
            self.disk = synced
            return words
        return words

    async def init_chain(self) -> bytes:
        request = abci.InitChainRequest(
            time_ns=1_767_225_600_000_000_000,
            chain_id=self.disk.chain_id,
            consensus_params=abci.ConsensusParams(block=abci.BlockParams(max_bytes=5_000_000, max_gas=-1)),
            validators=self.disk.validators,
            app_state_bytes=b"{}",
            initial_height=1,
        )
        response = await self.consensus.ask(request, abci.InitChainResponse)
        if self.disk.state_height == 0:
            self.disk.app_hash = response.app_hash
        return response.app_hash

    # --- a round --------------------------------------------------------------------------------

    async def prepare(self, height: int, time_ns: int, txs: Sequence[bytes]) -> tuple[bytes, ...]:
        request = abci.PrepareProposalRequest(
            max_tx_bytes=MAX_TX_BYTES, txs=tuple(txs), height=height, time_ns=time_ns
        )
        proposed = (await self.consensus.ask(request, abci.PrepareProposalResponse)).txs
        if sum(len(each) + len(_varint_length(each)) + 1 for each in proposed) > MAX_TX_BYTES:
            raise EngineStopped("transactions of the proposal exceed the limit")
        return proposed

    async def process(self, block: Block) -> bool:
        if block.app_hash != self.disk.app_hash:  # the engine itself prevotes nil
            return False
        response = await self.consensus.ask(
            block.request(abci.ProcessProposalRequest), abci.ProcessProposalResponse
        )
        if response.status == abci.ProposalStatus.UNKNOWN:
            raise EngineStopped("ProcessProposal responded with status UNKNOWN")
        return response.status == abci.ProposalStatus.ACCEPT

    async def extend(self, block: Block) -> None:
        await self.consensus.ask(block.request(abci.ExtendVoteRequest), abci.ExtendVoteResponse)

    async def got_vote(self, height: int) -> None:
        request = abci.VerifyVoteExtensionRequest(height=height, hash=bytes(32), validator_address=bytes(20))
        response = await self.consensus.ask(request, abci.VerifyVoteExtensionResponse)
        if response.status == abci.VerifyStatus.UNKNOWN:
            raise EngineStopped("VerifyVoteExtension responded with status UNKNOWN")
        assert response.status == abci.VerifyStatus.ACCEPT

    # --- a decision -----------------------------------------------------------------------------

    async def decide(self, block: Block) -> abci.FinalizeBlockResponse:
        """Store the block, finalize, commit."""
        self.store(block)
        return await self._apply(block)

    def store(self, block: Block) -> None:
        if block.app_hash != self.disk.app_hash:
            raise EngineStopped(f"wrong Block.Header.AppHash at {block.height}")
        assert block.height == len(self.disk.blocks) + 1
        self.disk.blocks.append(block)

    async def finalize(self, block: Block) -> abci.FinalizeBlockResponse:
        response = await self.consensus.ask(
            block.request(abci.FinalizeBlockRequest), abci.FinalizeBlockResponse
        )
        if len(response.tx_results) != len(block.txs):
            raise EngineStopped(f"expected {len(block.txs)} results, got {len(response.tx_results)}")
        for each in response.validator_updates:
            if each.power < 0 or len(each.pub_key) != 32:
                raise EngineStopped(f"error in validator updates: {each}")
        self.disk.responses[block.height] = response
        return response

    async def commit(self) -> None:
        await self.mempool.ask(abci.FlushRequest(), abci.FlushResponse)  # the engine empties this pipe before
        await self.consensus.ask(abci.CommitRequest(), abci.CommitResponse)

    async def _execute(self, block: Block) -> abci.FinalizeBlockResponse:
        response = await self.finalize(block)
        await self.commit()
        return response

    async def _apply(self, block: Block) -> abci.FinalizeBlockResponse:
        response = await self._execute(block)
        self._advance(block, response)
        return response

    def _advance(self, block: Block, response: abci.FinalizeBlockResponse) -> None:
        self.disk.state_height, self.disk.app_hash = block.height, response.app_hash

    # --- the mempool ----------------------------------------------------------------------------

    async def check_tx(self, raw: bytes, *, again: bool = False) -> abci.CheckTxResponse:
        kind = abci.CheckTxType.RECHECK if again else abci.CheckTxType.NEW
        return await self.mempool.ask(abci.CheckTxRequest(tx=raw, type=kind), abci.CheckTxResponse)


def _varint_length(raw: bytes) -> bytes:
    return abci.frame(raw)[: len(abci.frame(raw)) - len(raw)]
