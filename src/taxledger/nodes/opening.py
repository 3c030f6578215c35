"""Opening a node's ledger: what is damaged is said, and the node halts instead of dying again and again."""

from __future__ import annotations

import sys

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InvariantError
from taxledger.ledger.scrub import first_fault
from taxledger.ledger.statemap import PageCache
from taxledger.ledger.store import Store
from taxledger.nodes.forks.halting import HALTED_EXIT_STATUS, write_halt
from taxledger.nodes.home import Home

__all__ = ["open_chain"]


def open_chain(home: Home, store: Store, cache: PageCache | None = None) -> Chain:
    """The home's ledger, recovered, with what every rule reads proved against its state root.

    Raises:
        FormatError: the store holds another ledger.
        SystemExit: it is damaged; ``halted.json`` says how.
    """
    try:
        chain = Chain(store, home.genesis(), cache)
        fault = first_fault(chain)
    except InvariantError as error:
        fault = str(error)
    if fault is None:
        return chain
    store.close()
    print(
        f"taxledger node: halted: {write_halt(home.path, f'the store is damaged: {fault}')}", file=sys.stderr
    )
    raise SystemExit(HALTED_EXIT_STATUS)
