"""``taxledger demo``: lending from beginning to end, on this machine and with generated data.

Eight members: a tax office and three banks validate; procurement, electricity, customs and a platform follow. Four of
them attest made-up enterprises, and three loans go from application to pay-out. Fraud is stopped, a red letter raises
an alert, a loan is repaid and closed, archives are verified offline. Whatever is not as it is told ends the demo with
exit status 1; ``demo.json`` has every step with its time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from taxledger.nodes.cli.lend.opening import require_lending_packages
from taxledger.nodes.cli.network import require_engine, require_node_packages

__all__ = ["register"]

_ENTERPRISES_MIN = 6
"""As many have a part of their own (``cast.py``)."""


def demo(
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to leave the files.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the made-up enterprises.")] = 2026,
    enterprises: Annotated[
        int, typer.Option("--enterprises", min=_ENTERPRISES_MIN, max=100, help="How many.")
    ] = 8,
    engine: Annotated[
        str, typer.Option("--engine", metavar="embedded|cometbft", help="The ordering engine.")
    ] = "embedded",
) -> None:
    """The whole story of lending: eight members, three loans from consent to pay-out, fraud stopped, alerts, archives.

    Example: taxledger demo --dir demo

    Example: taxledger demo --dir demo --engine cometbft
    """
    require_node_packages()
    require_engine(engine)
    require_lending_packages()
    # Imported here: no other command needs it.
    from taxledger.nodes.cli.demo.story import run_demo

    folder = directory or Path(tempfile.mkdtemp(prefix="taxledger-demo-"))
    run_demo(folder.absolute(), seed=seed, enterprises=enterprises, engine=engine)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
