"""``taxledger engine``: get, check and run the ordering engine that is a program of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from taxledger.nodes.cli.output import HomeOption, note, open_home, say

__all__ = ["register"]


def install(
    force: Annotated[bool, typer.Option("--force", help="Build it again, though it is here.")] = False,
) -> None:
    """Build CometBFT with Go, in the one version that all members run, beside the program taxledger.

    Example: taxledger engine install
    """
    from taxledger.ledger.errors import TaxledgerError
    from taxledger.nodes.ordering.cometbft.binary import VERSION, check_engine, install_engine

    if not force:
        try:
            say(f"CometBFT {VERSION} is here: {check_engine()}")
        except TaxledgerError as error:
            note(f"{error}")
        else:
            return
    note(f"building CometBFT {VERSION} with Go: it takes a few minutes the first time")
    say(f"CometBFT {VERSION} is installed: {install_engine()}")


def check() -> None:
    """Whether the ordering engine is here, in the one version that all members run; exit status 2 if not.

    Example: taxledger engine check
    """
    from taxledger.nodes.ordering.cometbft.binary import VERSION, check_engine

    say(f"CometBFT {VERSION}: {check_engine()}")


def run(home: HomeOption) -> None:
    """Run the ordering engine of a member, in the foreground, as a service manager wants it; ends with its node.

    Example: taxledger engine run --home /srv/taxledger/bank1
    """
    from taxledger.nodes.ordering.cometbft.run import run_engine

    run_engine(open_home(home))


def register(app: typer.Typer) -> None:
    """Add the commands ``engine …``."""
    group = typer.Typer(no_args_is_help=True, help="The ordering engine for several machines, CometBFT.")
    for command in (install, check, run):
        group.command()(command)
    app.add_typer(group, name="engine")
