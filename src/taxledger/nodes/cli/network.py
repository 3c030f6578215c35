"""``taxledger network``: make, start, stop and watch a network on this machine."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.output import JsonOption, missing_package, note, print_json, print_table, say

if TYPE_CHECKING:
    from taxledger.nodes.local.control import NodeFacts

__all__ = [
    "grant_all_scopes",
    "make_network",
    "register",
    "require_engine",
    "require_node_packages",
    "split_names",
]

DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The network's folder.")]
MemberOption = Annotated[
    str | None, typer.Option("--member", metavar="NAME", help="Only this member's node.", show_default=False)
]

EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", metavar="NAME", help="The ordering engine: embedded (one machine), or cometbft."
    ),
]


def grant_all_scopes(path: Path) -> str:
    """Make an API key with every scope, put its hash into the file of admitted keys, and return the key."""
    from taxledger.api.auth import SCOPES, create_key, save_keys

    token, key = create_key(SCOPES, "made with the network, for the command line of this home")
    save_keys(path, [key])
    return token


def make_network(
    directory: Path,
    *,
    members: list[str],
    observers: list[str],
    engine: str,
    network: str,
    issues: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """``create_network`` at the present instant, with API keys of every scope."""
    from taxledger.nodes.local.network import create_network

    create_network(
        directory,
        members=members,
        observers=observers,
        issues=issues,
        engine=engine,
        network=network,
        now=datetime.datetime.now(datetime.UTC),
        grant=grant_all_scopes,
    )


def split_names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise InputError(f"expected names with commas between them in {option}, got {text!r}")
    return names


def _issues(texts: Sequence[str]) -> dict[str, list[int]] | None:
    """``NAME=kind,kind`` of each option, by name; None without any."""
    from taxledger.ledger.kinds import parse_kind

    issues: dict[str, list[int]] = {}
    for text in texts:
        name, equals, kinds = text.partition("=")
        if not name or not equals or name in issues:
            raise InputError(f"expected --issues NAME=kind,kind, each name once, got {text!r}")
        issues[name] = [parse_kind(each) for each in split_names(kinds, "--issues")]
    return issues or None


def create(
    directory: DirectoryArgument,
    members: Annotated[
        str,
        typer.Option("--members", metavar="NAMES", help="Validators; embedded, the first is the sequencer."),
    ] = "tax,bank1,bank2,bank3",
    observers: Annotated[
        str,
        typer.Option("--observers", metavar="NAMES", help="Members that only follow.", show_default=False),
    ] = "",
    issues: Annotated[
        list[str] | None,
        typer.Option(
            "--issues",
            metavar="NAME=KINDS",
            help="Kinds of record that a member issues; may be repeated. Without it, the first member issues all.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = "embedded",
    network: Annotated[
        str, typer.Option("--network-name", metavar="NAME", help="Part of the origin.")
    ] = "demo",
) -> None:
    """Make a network folder: a home for every member, and DIR/policy.txt, the trust root for verifiers.

    Example: taxledger network create net --members tax,bank1,bank2,bank3 --observers auditor

    Example: taxledger network create net --members tax,procurement,bank1,bank2
    --issues tax=vat_invoice,tax_filing,tax_arrears --issues procurement=procurement_award
    """
    chosen, following = split_names(members, "--members"), split_names(observers, "--observers")
    make_network(
        directory,
        members=chosen,
        observers=following,
        issues=_issues(issues or ()),
        engine=engine,
        network=network,
    )
    for name in (*chosen, *following):
        say(f"home    {directory / name}")
    say(f"policy  {directory / 'policy.txt'}")
    note(f"start it with: taxledger network start {directory}")


def start(
    directory: DirectoryArgument,
    member: MemberOption = None,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Leave a node that dies as it is.")
    ] = False,
    clear: Annotated[
        bool,
        typer.Option(
            "--clear", help="Also a node that halted because it diverged or its store is damaged: try again."
        ),
    ] = False,
) -> None:
    """Start all nodes, or one; returns when they are ready.

    Example: taxledger network start net
    """
    require_node_packages()
    from taxledger.nodes.local.control import find_homes, start_network

    for engine in sorted({home.config.engine for home in find_homes(directory)}):
        require_engine(engine)
    for name in start_network(directory, member=member, restart=not no_restart, clear=clear):
        say(f"{name} is ready")


def stop(directory: DirectoryArgument, member: MemberOption = None) -> None:
    """Stop all nodes, or one; returns when the processes are gone.

    Example: taxledger network stop net --member bank1
    """
    from taxledger.nodes.local.control import stop_network

    what = member or "the network"
    say(f"{what} is stopped" if stop_network(directory, member=member) else f"{what} was not running")


def status(directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """What every node says: height, roots, and whether writes go on.

    Example: taxledger network status net --json
    """
    from taxledger.nodes.local.control import network_status

    facts = network_status(directory)
    if as_json:
        print_json([dataclasses.asdict(each) for each in facts])
        return
    head: tuple[str, ...] = ("member", "role", "pid", "url", "height", "log root", "certified", "writes")
    rows = [_row(each) for each in facts]
    right: tuple[int, ...] = (2, 4)
    if any(each.engine_pid for each in facts):
        head = (*head[:5], "engine pid", "engine height", *head[5:])
        rows = [
            (
                *row[:5],
                each.engine_pid or "-",
                "-" if each.engine_height is None else each.engine_height,
                *row[5:],
            )
            for each, row in zip(facts, rows, strict=True)
        ]
        right = (2, 4, 5, 6)
    print_table(head, rows, right=right)


def _row(facts: NodeFacts) -> tuple[object, ...]:
    time_ms = facts.certified_time_ms
    certified = datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC) if time_ms else None
    return (
        facts.name,
        facts.role,
        facts.pid or "-",
        facts.url,
        "-" if facts.height is None else facts.height,
        (facts.log_root or "-")[:16],
        f"{certified:%Y-%m-%d %H:%M:%SZ}" if certified else "-",
        facts.writes,
    )


def migrate(
    directory: DirectoryArgument,
    to: Annotated[str, typer.Option("--to", metavar="ENGINE", help="The engine to go to: cometbft.")],
) -> None:
    """Move a stopped network to another ordering engine, with its whole history. There is no way back.

    Killed or refused on the way: run it again. A network whose votes are split for good goes on this way too.

    Example: taxledger network migrate net --to cometbft
    """
    require_node_packages()
    from taxledger.nodes.handover.migrating import migrate_network

    done = migrate_network(directory, to)
    for name in done.members:
        say(f"{name} is ordered by {done.engine}")
    say(f"from block {done.height + 1} on; log size {done.size}, root {done.root.hex()}")
    say(f"policy  {directory / 'policy.txt'}")
    note(f"the former policy stays beside it; start the network with: taxledger network start {directory}")


def require_node_packages() -> None:
    """Say what to install before a supervisor starts nodes that can't start."""
    for package in ("plyvel", "fastapi", "uvicorn", "aiohttp"):
        if sys.modules.get(package, package) is None or importlib.util.find_spec(package) is None:
            raise missing_package(package)


def require_engine(engine: str) -> None:
    """Say what to install before a supervisor starts an ordering engine that isn't here.

    Raises:
        InputError: no such engine, or its program is missing.
    """
    from taxledger.nodes.homeconfig import ENGINES
    from taxledger.nodes.ordering.cometbft.binary import check_engine

    if engine not in ENGINES:
        raise InputError(f"expected an engine out of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "cometbft":
        check_engine()


def register(app: typer.Typer) -> None:
    """Add the commands ``network …``."""
    from taxledger.nodes.cli.ceremony import assemble, bundle

    group = typer.Typer(
        no_args_is_help=True, help="Make a network; start, stop and watch one on this machine."
    )
    for command in (create, assemble, bundle, start, stop, status, migrate):
        group.command()(command)
    app.add_typer(group, name="network")
