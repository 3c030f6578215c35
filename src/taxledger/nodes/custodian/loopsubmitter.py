"""The way from a thread of a node to the ledger: ``outbox.Submitter`` through the node's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, Protocol, TypeVar

from taxledger.api.reader import Receipt as NodeReceipt
from taxledger.api.reader import TransactionAnswer
from taxledger.nodes.custodian.outbox import Receipt

__all__ = ["LoopSubmitter"]

_SUBMIT_S = 50.0
_Said = TypeVar("_Said")


class _Node(Protocol):
    """What ``LoopSubmitter`` needs of ``NodeReader``."""

    async def submit(
        self, raw: bytes, *, wait: Literal["certified", "none"], timeout_s: float
    ) -> NodeReceipt: ...

    async def transaction(self, id: bytes) -> TransactionAnswer | None: ...


class LoopSubmitter:
    """The way from a thread of a node to the ledger: through the node's own event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, node: _Node) -> None:
        self._loop = loop
        self._node = node

    def submit(self, raw: bytes) -> Receipt:
        """See ``custodian.outbox.Submitter``."""
        return _receipt(self._call(self._node.submit(raw, wait="certified", timeout_s=_SUBMIT_S)))

    def find(self, id: bytes) -> Receipt | None:
        """See ``custodian.outbox.Submitter``."""
        found = self._call(self._node.transaction(id))
        return None if found is None else _receipt(found.receipt)

    def _call(self, coroutine: Coroutine[Any, Any, _Said]) -> _Said:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _receipt(said: NodeReceipt) -> Receipt:
    return Receipt(
        code=said.code or 0, first_refused=said.first_refused, height=said.height or 0, index=said.index or 0
    )
