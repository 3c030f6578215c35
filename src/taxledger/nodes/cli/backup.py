"""``taxledger backup`` and ``taxledger restore``: a member's home in one file, and back (docs/operating.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxledger.nodes.cli.output import note, open_home, say

__all__ = ["register"]


def backup(
    home: Annotated[Path, typer.Argument(metavar="HOME", help="A member's home, like net/bank1.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", show_default=False)],
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Private keys too: the file is as secret as the home.")
    ] = False,
    with_journal: Annotated[
        bool,
        typer.Option(
            "--with-journal",
            help="Move a stopped node: its signing journal too. The old home never runs again.",
        ),
    ] = False,
) -> None:
    """Write a home's settings and sealed stores into one file; the node may run.

    Without the signing journal, a node restored from it follows the others and signs only with new keys.

    Example: taxledger backup net/bank1 -o bank1.backup --with-keys
    """
    from taxledger.nodes.backup import backup_home

    facts = backup_home(open_home(home), output, with_keys=with_keys, with_journal=with_journal)
    say(f"backup  {output}: {facts.files} files of {facts.member}")
    say(f"digest  {facts.digest}")
    note(
        "the file is not encrypted; " + ("it holds private keys" if with_keys else "it holds no private key")
    )
    if with_journal:
        note(
            f"WARNING: {home} does not start again. Restore this file once, with --with-journal, and destroy it: "
            "two nodes with one journal contradict each other, and their member is suspended for it"
        )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="HOME", help="A new folder.", show_default=False)
    ],
    digest: Annotated[
        str | None,
        typer.Option("--digest", metavar="HEX", help="The digest that was noted down.", show_default=False),
    ] = None,
    with_journal: Annotated[
        bool,
        typer.Option(
            "--with-journal", help="The node that this was taken of has not run since, and never will again."
        ),
    ] = False,
) -> None:
    """Make a home of a backup.

    Example: taxledger restore bank1.backup -o net/bank1
    """
    from taxledger.nodes.backup import restore_home

    facts = restore_home(file, output, digest=digest, with_journal=with_journal)
    say(f"home    {output}: {facts.member} of {facts.network}, ledger {facts.chain_id}")
    if not facts.with_keys:
        note("without private keys: put them back into keys/ and tls/ before the node starts")
    if not with_journal:
        note(
            "without signing journal: the node follows, and signs only once the members gave it new keys "
            "(taxledger member rotate --key cosign, then --key vote)"
        )
    else:
        note("WARNING: destroy the backup now; restored again, it would sign what contradicts this node")


def register(app: typer.Typer) -> None:
    """Add the commands ``backup`` and ``restore``."""
    app.command()(backup)
    app.command()(restore)
