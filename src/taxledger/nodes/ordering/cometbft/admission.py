"""Whom the engine talks with. It asks before each connection: blocks hold what is for members alone."""

from __future__ import annotations

from collections.abc import Callable

from taxledger.nodes.logs import get_logger
from taxledger.nodes.ordering.cometbft import messages as abci

__all__ = ["answer_query"]

_ADDRESS, _ID = "/p2p/filter/addr/", "/p2p/filter/id/"
_log = get_logger("engine")


def answer_query(path: str, admits: Callable[[str], bool]) -> abci.QueryResponse:
    """The answer to a query of the engine, whose only ones are about its peers.

    Args:
        path: what it asks.
        admits: whether it may talk with the engine of this id (``settings.node_id``). A peer proves its id, so its
            address says nothing more.
    """
    if path.startswith(_ADDRESS):
        return abci.QueryResponse()
    if not path.startswith(_ID):
        return abci.QueryResponse(code=1, log="ask the node's own API: its answers come with proofs")
    engine_id = path.removeprefix(_ID)
    if admits(engine_id):
        return abci.QueryResponse()
    _log.warning("an engine of no member was refused", engine=engine_id[:40])
    return abci.QueryResponse(code=1, log="not an engine of a member")
