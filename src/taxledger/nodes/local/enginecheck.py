"""Whether a home is set for the engine that orders its ledger: nothing falls back to another one silently."""

from __future__ import annotations

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InputError
from taxledger.nodes.home import Home
from taxledger.nodes.ordering.cometbft.files import has_engine_begin

__all__ = ["check_engine"]


def check_engine(home: Home, chain: Chain) -> None:
    """Returns when the node may start. Otherwise the store is closed.

    Raises:
        InputError: ``node.toml`` names another engine, or the ledger is on its way to another; says what to do.
    """
    problem = _problem(home, chain)
    if problem is not None:
        chain.store.close()
        raise InputError(f"{home.path}: {problem}")


def _problem(home: Home, chain: Chain) -> str | None:
    named, next_engine = home.config.engine, chain.handing_over()
    if next_engine is not None:
        return (
            f"this ledger is being handed over to the engine {next_engine} and takes no part in {chain.engine} any "
            "more: finish with `taxledger network migrate`"
        )
    if named != chain.engine and not chain.tip.height and has_engine_begin(home):
        return (
            f"this ledger was handed over to {named}, and its first blocks are replayed by nobody: begin from a "
            f"snapshot with `taxledger member sync --home {home.path}`"
        )
    if named != chain.engine:
        return (
            f"node.toml names the engine {named}, but since block {chain.engine_from} this ledger is ordered by "
            f"{chain.engine}: finish the move with `taxledger network migrate`; there is no way back"
        )
    return None
