"""What a node answers: ``NodeReader`` of the query API over the certified state, the engine and the
custodian.

Every answer is taken from one ``CertifiedState``. The log in its snapshot may reach further (decided blocks
that wait for their co-signatures), so each method looks at the certified size before it shows a leaf.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, Protocol

from taxledger.api.reader import (
    CertifiedBlock,
    NodeStatus,
    Receipt,
    RecordChange,
    StateAnswer,
    TransactionAnswer,
)
from taxledger.ledger.chainreader import pruned
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.header import Header
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.query import Query
from taxledger.ledger.rules import RESULT_NAMES, decode_result
from taxledger.ledger.tiles import tile_of, tile_width_at
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.application import Keys
from taxledger.nodes.custodian.dossier import Custodian
from taxledger.nodes.export import archive_pieces
from taxledger.nodes.history import history_of
from taxledger.nodes.home import HomeConfig
from taxledger.nodes.logs import get_logger
from taxledger.nodes.notes import Notes
from taxledger.nodes.peering.transport import PeerClient
from taxledger.nodes.policies import links_file
from taxledger.nodes.replica import CertifiedState, Replica

__all__ = ["Answers", "Engine"]

_REFUSALS = {
    "wrong_chain": "transaction_foreign",
    "not_yet_valid": "transaction_early",
    "expired": "transaction_expired",
    "lifetime_too_long": "transaction_expired",
}


class Engine(Protocol):
    """What the node needs of its ordering engine."""

    @property
    def writes(self) -> str | None: ...

    async def submit(self, raw: bytes) -> None: ...


class Answers:
    """Implements ``NodeReader``. Lives on the event loop.

    Args:
        policy: reads the home's policy file: ``policy update`` may replace it at any time.
        is_ready: whether the node has caught up as far as it can.
    """

    def __init__(
        self,
        *,
        config: HomeConfig,
        replica: Replica,
        keys: Callable[[], Keys],
        policy: Callable[[], bytes],
        custodian: Custodian | None,
        peers: dict[int, PeerClient],
        is_ready: Callable[[], bool],
    ) -> None:
        self.engine: Engine | None = None
        self._config = config
        self._replica = replica
        self._policy = policy
        self._custodian = custodian
        self._peers = peers
        self.notes = Notes(config.network, replica, keys, peers)
        self._is_ready = is_ready
        self._waiting: dict[bytes, asyncio.Future[Receipt]] = {}
        self._forwards: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._log = get_logger("custodian")

    # --- state --------------------------------------------------------------------------------

    async def status(self) -> NodeStatus:
        state = self._replica.certified
        chain = self._replica.application.chain
        reason = self.engine.writes if self.engine is not None else "the node is starting"
        config = self._config
        return NodeStatus(
            member=config.name,
            number=config.number,
            role="sequencer" if config.is_sequencer else config.role,
            network=config.network,
            chain_id=chain.chain_id.hex(),
            engine=config.engine,
            height=state.height,
            size=state.checkpoint.size,
            log_root=state.checkpoint.root,
            state_root=state.view.root,
            certified_time_ms=_time_ms(state.header),
            cosigned_time_ms=state.cosigned_time_ms,
            writes="ok" if reason is None else "waiting",
            reason=reason or self._replica.application.journal_lost,
            uncertified_blocks=chain.tip.height - state.height,
            ready=self._is_ready(),
        )

    def _certified(self) -> CertifiedState:
        state = self._replica.certified
        if state.height == 0:
            raise UnavailableError("no block is certified yet")
        return state

    async def checkpoint(self) -> bytes:
        return await self.notes.note(self._certified())

    async def policy(self) -> bytes:
        return await asyncio.to_thread(self._policy)

    async def policy_links(self, trusted: bytes, engine: str | None = None) -> bytes:
        state = self._certified()
        note = await self.notes.note(state)
        return await asyncio.to_thread(links_file, state, note, trusted, engine)

    async def state(self, prefixes: Sequence[bytes], *, entries_max: int) -> StateAnswer:
        state = self._certified()
        note = await self.notes.note(state)
        return await asyncio.to_thread(self._prove, state, note, prefixes, entries_max)

    def _prove(
        self, state: CertifiedState, note: bytes, prefixes: Sequence[bytes], entries_max: int
    ) -> StateAnswer:
        left = entries_max
        for prefix in prefixes:
            for _ in state.view.scan(prefix):
                left -= 1
                if left < 0:
                    raise RefusedError("answer_too_large", f"more than {entries_max} keys under the prefixes")
        proven = state.view.prove(list(prefixes))
        return StateAnswer(
            checkpoint=note,
            header=state.header_leaf,
            inclusion=state.header_inclusion(),
            proof=proven.proof,
            entries=proven.entries,
        )

    # --- transactions -------------------------------------------------------------------------

    def _index_of(self, state: CertifiedState, transaction_id: bytes) -> int | None:
        index = state.chain.transaction_index(transaction_id)
        return index if index is not None and index < state.checkpoint.size else None

    async def _receipt(self, state: CertifiedState, transaction_id: bytes, index: int) -> Receipt:
        result = decode_result(state.chain.result(index))
        height = state.chain.height_of_index(index)
        return Receipt(
            id=transaction_id,
            state="certified",
            code=result.code,
            name=RESULT_NAMES[result.code],
            first_refused=result.first_refused,
            height=height,
            index=index,
            certified_time_ms=_time_ms(state.chain.header(height)),
            checkpoint=await self.notes.note(state),
        )

    async def transaction(self, id: bytes) -> TransactionAnswer | None:
        state = self._replica.certified
        index = self._index_of(state, id)
        if index is None:
            return None
        return TransactionAnswer(
            receipt=await self._receipt(state, id, index),
            raw=state.chain.leaf(index),
            inclusion=prove_inclusion(state.chain.node, index, state.checkpoint.size),
        )

    async def submit(self, raw: bytes, *, wait: Literal["certified", "none"], timeout_s: float) -> Receipt:
        transaction_id = decode_transaction(raw).id
        if self._stopping:
            raise UnavailableError("the node is stopping")
        state = self._replica.certified
        index = self._index_of(state, transaction_id)
        if index is not None:
            return await self._receipt(state, transaction_id, index)
        if self.engine is None:
            raise UnavailableError("the node is starting")
        future = self._waiting.get(transaction_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(_consume)
            self._waiting[transaction_id] = future
            self._start(self._forward(transaction_id, raw))
        if wait == "none":
            await asyncio.sleep(0)
            if future.done():
                return future.result()
            return Receipt(id=transaction_id, state="pending")
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(future)
        except TimeoutError as error:
            reason = self.engine.writes or "it takes longer than usual"
            raise UnavailableError(f"not certified within {timeout_s:.0f} s: {reason}") from error

    def _start(self, coroutine: Awaitable[None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    async def _forward(self, transaction_id: bytes, raw: bytes) -> None:
        assert self.engine is not None
        try:
            await self.engine.submit(raw)
        except RefusedError as error:
            if error.code == "already_logged":
                await self.resolve()
            else:
                self.dropped(transaction_id, error.code, str(error))
        except Exception as error:
            self._fail(transaction_id, error)

    def dropped(self, transaction_id: bytes, code: str, text: str | None = None) -> None:
        """A transaction can't count: tell whoever waits for it."""
        if code == "already_logged":
            return  # it does count: its receipt comes when its block is certified
        detail = (text or f"the transaction can't count: {code}").removeprefix(f"{code}: ")
        self._fail(transaction_id, RefusedError(_REFUSALS.get(code, code), detail))

    def _fail(self, transaction_id: bytes, error: Exception) -> None:
        future = self._waiting.pop(transaction_id, None)
        if future is not None and not future.done():
            future.set_exception(error)

    async def resolve(self) -> None:
        """Hand their receipts to those who wait for a transaction that is certified now."""
        state = self._replica.certified
        for transaction_id in list(self._waiting):
            index = self._index_of(state, transaction_id)
            if index is None:
                continue
            try:
                receipt = await self._receipt(state, transaction_id, index)
            except UnavailableError as error:
                self._fail(transaction_id, error)
                continue
            future = self._waiting.pop(transaction_id, None)
            if future is not None and not future.done():
                future.set_result(receipt)

    async def run(self) -> None:
        """Resolve waiting submissions whenever something new is certified, for ever."""
        while True:
            await self._replica.news(1.0)
            if self._waiting:
                await self.resolve()

    # --- dossiers -----------------------------------------------------------------------------

    async def dossier(self, query: Query) -> bytes:
        """Of this member's own records: others' come under a consent (``recipient/asking.py``)."""
        if query.issuer == self._config.number:
            return await self._own_dossier(query)
        if query.issuer not in self._peers:
            raise RefusedError("issuer_unknown", f"member {query.issuer} has no node here")
        raise RefusedError("consent_missing", "another member's records are shown under a consent only")

    async def _own_dossier(self, query: Query) -> bytes:
        if self._custodian is None:
            raise RefusedError("issuer_unknown", "this member is no custodian")
        state = self._certified()
        note = await self.notes.note(state)
        return await asyncio.get_running_loop().run_in_executor(
            self._custodian.executor, self._custodian.evidence, query, state, note
        )

    # --- the log ------------------------------------------------------------------------------

    async def history(self, key: bytes) -> Sequence[RecordChange]:
        return await asyncio.to_thread(history_of, self._replica.certified, key)

    async def tile(self, level: int, index: int, width: int) -> bytes | None:
        state = self._replica.certified
        if width > tile_width_at(level, index, state.checkpoint.size):
            return None
        return tile_of(state.chain.node, level, index, width)

    async def block(self, height: int) -> CertifiedBlock | None:
        state = self._replica.certified
        if not 1 <= height <= state.height:
            return None
        block = await asyncio.to_thread(state.chain.block, height)
        return CertifiedBlock(
            height=height,
            time_ms=_time_ms(state.chain.header(height)),
            leaves=block.transactions,
            results=block.results,
        )

    async def wait_certified(self, height: int, timeout_s: float) -> int:
        end = asyncio.get_running_loop().time() + timeout_s
        while self._replica.certified.height < height:
            if self._stopping:
                raise UnavailableError("the node is stopping")
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await self._replica.news(min(left, 1.0))
        return self._replica.certified.height

    async def export(self) -> AsyncIterator[bytes]:
        state = self._certified()
        lacking = state.chain.kept().height - 1
        if lacking:
            raise pruned(f"what an archive holds of the blocks 1 to {lacking}")
        note = await self.notes.note(state)
        pieces = archive_pieces(state, note)
        while True:
            piece = await asyncio.to_thread(next, pieces, b"")
            if not piece:
                return
            yield piece

    def stop(self) -> None:
        """No new answers: those who wait are told."""
        self._stopping = True
        for transaction_id in list(self._waiting):
            self._fail(transaction_id, UnavailableError("the node is stopping"))


def _time_ms(header: Header | None) -> int:
    return 0 if header is None else header.time_ms


def _consume(future: asyncio.Future[Receipt]) -> None:
    """Nobody may be waiting any more: an exception that no one takes is not worth a warning."""
    if not future.cancelled():
        future.exception()
