"""The one thread on which a node's ledger is written, and the certified state that readers see.

Everything that touches ``Chain``, ``Application`` or ``Certification`` runs on this thread, one call after
another. What readers see is one immutable ``CertifiedState``, replaced as a whole after a block has been
folded into the stored map.

An exception outside ``TaxledgerError`` on this thread means that the outcome of a write is unknown, or that
we have a bug.
Both are fatal: the process stops at once, and the next start recovers from what is durable.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from taxledger.ledger.chain import ChainReader
from taxledger.ledger.checkpoint import Checkpoint
from taxledger.ledger.errors import InputError, TaxledgerError, VerificationError
from taxledger.ledger.execute import Executed
from taxledger.ledger.header import Header
from taxledger.ledger.members import Member
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.statemap import MapView
from taxledger.nodes.application import Application, CosignMessage
from taxledger.nodes.certification import Certification

__all__ = ["FATAL_EXIT_STATUS", "CertifiedState", "Replica"]

FATAL_EXIT_STATUS = 70
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedState:
    """The newest certified block and its state: one snapshot of the store, never changing.

    Attributes:
        height: 0 is the genesis, which nobody co-signs.
        checkpoint: right after the block.
        header: None at height 0; ``header_leaf`` its bytes.
        chain: reads of the log as of the snapshot.
        view: the state map after the block.
        cosigns: the q newest co-signatures, newest first.
        validators: those that co-sign this block, by number.
    """

    height: int
    checkpoint: Checkpoint
    header: Header | None
    header_leaf: bytes
    chain: ChainReader
    view: MapView
    cosigns: tuple[CosignMessage, ...]
    validators: Mapping[int, Member]

    @property
    def cosigned_time_ms(self) -> int | None:
        """Time of the q-th newest co-signature: the age of an answer is counted from it."""
        return self.cosigns[-1].time_s * 1000 if self.cosigns else None

    def header_inclusion(self) -> list[bytes]:
        """Audit path of the header, which stands at index size - 1."""
        size = self.checkpoint.size
        return prove_inclusion(self.chain.node, size - 1, size)


class Replica:
    """A node's ledger behind its thread. Made on the event loop; see the module text."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.certification = Certification(application)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._news: set[asyncio.Future[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.certified = self._capture()
        self.on_halt: Callable[[str], None] = lambda _reason: None

    @property
    def quorum(self) -> int:
        return self.application.quorum

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run on the ledger thread. ``TaxledgerError`` comes back; anything else stops the process."""
        return await asyncio.shield(
            self._loop.run_in_executor(self._executor, self._guarded, function, *arguments)
        )

    def _guarded(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return function(*arguments)
        except TaxledgerError:
            raise
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            print(
                "fatal: the ledger thread failed; stopping so that the next start recovers", file=sys.stderr
            )
            sys.stderr.flush()
            os._exit(FATAL_EXIT_STATUS)

    # --- on the ledger thread ---------------------------------------------------------------

    def commit(
        self, executed: Executed, votes: Sequence[tuple[int, bytes]], cosigns: Sequence[bytes] = ()
    ) -> None:
        """Commit a decided block, then count what co-signatures there are for it."""
        own = self.application.commit(executed, votes)
        self.certification.committed(executed, own)
        self.receive(cosigns)

    def commit_ordered(
        self, engine_height: int, executed: Executed | None, own: bytes | None, cosigns: Sequence[bytes]
    ) -> None:
        """Commit what the engine decided at its height, whether it makes a block of the ledger or not.

        Args:
            own: our co-signature of the tip before, if any: it may be released when this returns.
            cosigns: co-signature messages that stood in the engine's block.
        """
        self.application.commit_ordered(engine_height, executed, own)
        if executed is not None:
            self.certification.committed(executed, None)
        self.receive([*cosigns, own] if own is not None else cosigns)

    def receive(self, cosigns: Sequence[bytes]) -> list[str]:
        """Count co-signature messages and certify what has its quorum; returns what was wrong with any."""
        problems = []
        renewed = False
        for raw in cosigns:
            try:
                renewed |= self.certification.receive(raw)
            except (InputError, VerificationError) as error:
                problems.append(str(error))
        diverged = self.certification.contradictions.divergence()
        if diverged is not None:
            self.halt(diverged.text)
            return [*problems, diverged.text]
        done = self.certification.advance()
        if renewed and not done:
            self.certification.renewed()
        if renewed or done:
            self.certified = self._capture()
            self._loop.call_soon_threadsafe(self._wake)
        return problems

    def halt(self, reason: str) -> None:
        """Sign nothing more from here on, and have the process stopped; the first reason counts."""
        if self.application.halted is None:
            self.application.halt(reason)
            self._loop.call_soon_threadsafe(self.on_halt, reason)

    def _capture(self) -> CertifiedState:
        chain = self.application.chain
        height = chain.certified
        snapshot = chain.store.snapshot()
        reader = ChainReader(snapshot)
        return CertifiedState(
            height=height,
            checkpoint=self.application.checkpoint(height),
            header=reader.header(height) if height else None,
            header_leaf=reader.header_leaf(height) if height else b"",
            chain=reader,
            view=MapView.open(snapshot, chain.cache),
            cosigns=tuple(self.certification.newest(height)) if height else (),
            validators=self.certification.validators_at(height),
        )

    # --- on the event loop --------------------------------------------------------------------

    def _wake(self) -> None:
        for future in self._news:
            if not future.done():
                future.set_result(None)
        self._news.clear()

    async def news(self, timeout_s: float) -> None:
        """Wait until the certified state changes, at most so long."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._news.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            pass
        finally:
            self._news.discard(future)

    def close(self) -> None:
        """Wait for the call under way, then close the store."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self.application.chain.store.close()
