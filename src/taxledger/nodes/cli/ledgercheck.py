"""``taxledger ledger check``: hash a stopped node's store again, from the first leaf to the last value."""

from __future__ import annotations

import typer

from taxledger.ledger.errors import InvariantError, VerificationError
from taxledger.nodes.cli.output import HomeOption, missing_package, open_home, say

__all__ = ["register"]

_SHOWN_MAX = 20


def check(home: HomeOption) -> None:
    """Look a stopped node's store over for what was changed by hand or by a bad disk. Status 1: something was.

    Example: taxledger ledger check --home net/bank1
    """
    try:
        from taxledger.ledger.leveldb import LevelStore
    except ImportError as error:
        raise missing_package(error.name) from error
    from taxledger.ledger.chain import Chain
    from taxledger.ledger.scrub import scrub

    opened = open_home(home)
    store = LevelStore(opened.store_path)
    found = 0
    try:
        try:
            chain = Chain(store, opened.genesis())
            height, count = chain.tip.height, chain.view.count
            for found, fault in enumerate(scrub(chain), start=1):
                if found <= _SHOWN_MAX:
                    say(fault)
        except InvariantError as error:  # it can't even be opened
            found += 1
            say(str(error))
    finally:
        store.close()
    if found:
        raise VerificationError("store_damaged", f"{found} things are wrong in {opened.store_path}")
    say(f"whole: {height} blocks, {count} keys of the map")


def register(app: typer.Typer) -> None:
    """Add the commands ``ledger …``."""
    group = typer.Typer(no_args_is_help=True, help="A node's own copy of the ledger.")
    group.command()(check)
    app.add_typer(group, name="ledger")
