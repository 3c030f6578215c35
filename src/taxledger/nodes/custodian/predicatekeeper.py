"""A custodian node's predicates: answered when they are asked for, superseded when an input changes.

One thread has the vault for both, so that they never wait for each other's lock; only an upload makes them wait.
"""

from __future__ import annotations

import asyncio
from calendar import monthrange
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from taxledger.ledger.consent import Artefact
from taxledger.ledger.errors import InputError, RefusedError, UnavailableError
from taxledger.ledger.query import Query
from taxledger.nodes.custodian.outbox import Receipt, Submitter
from taxledger.nodes.custodian.predicateinputs import CertifiedFacts
from taxledger.nodes.custodian.predicates import answer_predicates
from taxledger.nodes.custodian.predicatewatch import Blocks, watch_blocks
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.identity.memberkeys import TransactionSigner
from taxledger.nodes.logs import get_logger
from taxledger.nodes.replica import CertifiedState, Replica

__all__ = ["PredicateKeeper", "as_of_date"]

_RETRY_S = 2.0
_REFUSED_RETRY_S = 60.0
_NEWS_S = 60.0


def as_of_date(query: Query) -> str:
    """The last day of the last month asked."""
    year, month = int(query.to_period[:4]), int(query.to_period[5:])
    return f"{query.to_period}-{monthrange(year, month)[1]:02}"


class _Gate:
    """Lets nothing more through once the node is stopping: nobody would answer."""

    def __init__(self, inner: Submitter) -> None:
        self._inner = inner
        self.closed = False

    def submit(self, raw: bytes) -> Receipt:
        self._check()
        return self._inner.submit(raw)

    def find(self, id: bytes) -> Receipt | None:
        self._check()
        return self._inner.find(id)

    def _check(self) -> None:
        if self.closed:
            raise UnavailableError("the node is stopping")


class PredicateKeeper:
    """Lives on the event loop; what blocks runs on its own thread.

    Args:
        open_vault: opens the vault, or gives None while there is none; called on that thread.
        signer, submitter: as of ``outbox.Outbox``.
        replica: the newest certified state, and news of it.
    """

    def __init__(
        self,
        *,
        open_vault: Callable[[], Vault | None],
        signer: TransactionSigner,
        submitter: Submitter,
        replica: Replica,
    ) -> None:
        self._open_vault = open_vault
        self._signer = signer
        self._gate = _Gate(submitter)
        self._replica = replica
        self._vault: Vault | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predicates")
        self._log = get_logger("predicates")

    async def answer(self, artefact: Artefact, query: Query) -> CertifiedState:
        """Sees to it that a consent's predicates are attested as of ``as_of_date``; the state that holds them.

        Raises:
            RefusedError, UnavailableError: see ``answer_predicates``.
        """
        loop = asyncio.get_running_loop()
        height = await loop.run_in_executor(self._executor, self._answer, artefact, query)
        state = self._replica.certified
        if state.height < height:
            raise UnavailableError("what was certified just now is not seen here yet: try again")
        return state

    def _answer(self, artefact: Artefact, query: Query) -> int:
        vault = self._opened()
        if vault is None:
            raise UnavailableError("this member has attested nothing yet: it has no vault")
        if query.from_period != query.to_period:
            self._catch_up(vault)
        answers = answer_predicates(
            vault,
            self._signer,
            self._gate,
            certified=lambda: CertifiedFacts.of(self._replica.certified),
            artefact=artefact,
            as_of=as_of_date(query),
        )
        return max((each.attested_height for each in answers), default=0)

    def _catch_up(self, vault: Vault) -> None:
        """A question over several months shows answers as of earlier dates too, which nobody computes again now: every
        change so far has to be acted upon first.
        """
        state = self._replica.certified
        if watch_blocks(vault, self._signer, self._gate, state.chain, state.height):
            raise UnavailableError("answers as of earlier dates were superseded just now: try again")

    async def run(self) -> None:
        """Watches each certified block, until it is cancelled."""
        loop = asyncio.get_running_loop()
        watched = -1
        while True:
            state = self._replica.certified
            if state.height == watched:
                await self._replica.news(_NEWS_S)
                continue
            pause_s = await loop.run_in_executor(self._executor, self._watch, state.chain, state.height)
            if pause_s:
                await asyncio.sleep(pause_s)
            else:
                watched = state.height

    def _watch(self, blocks: Blocks, height: int) -> float:
        """Watches up to a height; seconds to wait before trying again, 0 when it is done."""
        try:
            vault = self._opened()
            if vault is None:
                return 0.0
            superseded = watch_blocks(vault, self._signer, self._gate, blocks, height)
        except UnavailableError as error:
            self._log.info("predicates wait", reason=str(error))
            return _RETRY_S
        except (RefusedError, InputError) as error:
            self._log.error("predicates are not superseded", exc_info=error)
            return _REFUSED_RETRY_S
        if superseded:
            self._log.info("superseded", predicates=superseded, height=height)
        return 0.0

    def _opened(self) -> Vault | None:
        if self._vault is None:
            self._vault = self._open_vault()
        return self._vault

    def close(self) -> None:
        """Waits for what is under way; not on the event loop, which has to be running."""
        self._gate.closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._vault is not None:
            self._vault.close()
