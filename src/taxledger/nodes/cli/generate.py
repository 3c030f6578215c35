"""``taxledger generate``: files of made-up enterprises, with every kind of record, to try the product with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxledger.nodes.cli.output import JsonOption, print_json, print_table, say

__all__ = ["register"]

_SEEDS = 100_000
"""Seeds of one run's enterprises, so that two runs share none."""


def generate(
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to write the files.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same files.")] = 1,
    enterprises: Annotated[int, typer.Option("--enterprises", min=1, max=2_000, help="How many.")] = 10,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", metavar="P", help="What they are like, in turn; left out: every profile."),
    ] = None,
    first_month: Annotated[
        str, typer.Option("--from", metavar="YYYY-MM", help="The first month.")
    ] = "2023-07",
    last_month: Annotated[str, typer.Option("--to", metavar="YYYY-MM", help="The last month.")] = "2025-12",
    traps: Annotated[
        bool, typer.Option("--traps", help="Also rows that can't be records, as real files hold.")
    ] = False,
    twins: Annotated[
        bool, typer.Option("--twins", help="And two more, of which one files sales of the other as its own.")
    ] = False,
    profiles: Annotated[bool, typer.Option("--profiles", help="List the profiles and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write files of made-up enterprises, with the mappings that explain their columns.

    Example: taxledger generate --dir made-up --seed 7 --enterprises 3 --profile good --profile edge_gap
    """
    from taxledger.ledger.errors import InputError
    from taxledger.nodes.generating import (
        PROFILES,
        generate_enterprise,
        generate_twins,
        write_enterprises,
    )

    if profiles:
        _list_profiles(as_json=as_json)
        return
    if directory is None:
        raise InputError("expected --dir DIR, where to write the files")
    names = profile or list(PROFILES)
    made = [
        generate_enterprise(seed * _SEEDS + at, names[at % len(names)], first_month, last_month, traps=traps)
        for at in range(enterprises)
    ]
    if twins:
        made += generate_twins(seed * _SEEDS + _SEEDS - 1, first_month, last_month)
    directory.mkdir(parents=True, exist_ok=True)
    files = write_enterprises(made, directory)
    who = [
        {"subject": each.subject, "name": each.name, "profile": each.profile.name, "through": each.through}
        for each in made
    ]
    if as_json:
        shown = [
            {
                "file": str(each.path), "mapping": str(each.mapping), "kind": each.kind, "rows": each.rows,
                "through": each.through,
            }
            for each in files
        ]  # fmt: skip
        print_json({"enterprises": who, "files": shown})
        return
    print_table(
        ("file", "kind", "rows"), [(each.path.name, each.kind, each.rows) for each in files], right=(2,)
    )
    say("")
    print_table(
        ("subject", "profile", "name"), [(each["subject"], each["profile"], each["name"]) for each in who]
    )
    say("\nattest them, each by the member that issues its kind:")
    for each in files:
        through = f" --through {each.through}" if each.through else ""
        say(f"  taxledger attest --home HOME --source csv --mapping {each.mapping} {each.path}{through}")


def _list_profiles(*, as_json: bool) -> None:
    from taxledger.nodes.generating import PROFILES

    if as_json:
        print_json(
            [
                {
                    "profile": each.name,
                    "title": each.title,
                    "breaks": {k: list(v) for k, v in each.breaks.items()},
                }
                for each in PROFILES.values()
            ]
        )
        return
    rows = [
        (
            each.name,
            each.title,
            "; ".join(f"{product}: {', '.join(rules)}" for product, rules in each.breaks.items()) or "–",
        )
        for each in PROFILES.values()
    ]
    print_table(("profile", "what it is", "rules that fail"), rows)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(generate)
