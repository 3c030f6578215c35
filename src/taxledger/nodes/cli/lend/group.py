"""The group ``taxledger lend``."""

from __future__ import annotations

import typer

from taxledger.nodes.cli.lend import applying, keys, loans, papers, serve, setup, watching

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="The lender: products, applications, loans, archive.")
    for part in (setup, applying, loans, papers, watching, serve, keys):
        part.register(group)
    app.add_typer(group, name="lend")
