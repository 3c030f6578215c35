"""Whom the engine talks with. It asks before each connection: blocks hold what is for members alone.

It does not ask during one. When a member was removed, the engines that are connected with its engine are started
anew, one after the other, so that the others go on deciding: it can't connect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from taxledger.ledger.errors import TaxledgerError
from taxledger.nodes.application import Application
from taxledger.nodes.logs import get_logger
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft.rpc import EngineRpc

__all__ = ["answer_query", "end_with_outsiders", "turn_of"]

_LOOK_S = 3.0
_TURN_S = 10.0
"""An engine is back within a third of it."""

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


def turn_of(application: Application) -> int:
    """Our place among the validators, by number; who is none comes last."""
    numbers, own = sorted(application.validators), application.keys.member
    return numbers.index(own) if own in numbers else len(numbers)


async def end_with_outsiders(
    rpc: EngineRpc,
    *,
    admits: Callable[[str], bool],
    turn: Callable[[], int],
    restart: Callable[[], None],
    look_s: float = _LOOK_S,
    turn_s: float = _TURN_S,
) -> None:
    """Have the engine restart when it is connected with one that is not admitted any more, for ever.

    Args:
        rpc: the engine's.
        admits: as in ``answer_query``.
        turn: how many others go first, ``turn_s`` each.
        restart: ends the engine; its supervisor starts it again.
    """
    loop = asyncio.get_running_loop()
    since: float | None = None
    while True:
        await asyncio.sleep(look_s)
        outsiders = [each for each in await _connected(rpc) if not admits(each)]
        if not outsiders:
            since = None
            continue
        since = loop.time() if since is None else since
        if loop.time() - since >= turn() * turn_s:
            _log.warning("restarting the engine: it is connected with one of no member", engines=outsiders)
            since = None
            restart()


async def _connected(rpc: EngineRpc) -> list[str]:
    """Ids of the engines that ours is connected with; none where it does not run."""
    try:
        peers = (await rpc.call("net_info"))["peers"]
        return [str(each["node_info"]["id"]) for each in peers]
    except (TaxledgerError, KeyError, TypeError):
        return []
