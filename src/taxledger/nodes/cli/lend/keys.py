"""``taxledger lend key create | list | revoke``: who may call the lender's service, and as which channel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    missing_package,
    note,
    open_home,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from taxledger.api.auth import ApiKey

__all__ = ["keys_path", "register"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_OWN_CHANNEL = "direct"
"""Of what is handed in at the lender's own command line."""


def keys_path(folder: Path) -> Path:
    """The file of keys in a lender's folder. A node's keys are elsewhere, and open nothing here."""
    return folder / "api_keys.json"


def _folder(home: Path) -> Path:
    folder = lending_folder(open_home(home).path)
    if not (folder / "lending.toml").exists():
        raise InputError(f"{folder} has no lending.toml; `taxledger lend init` makes one")
    return folder


def _load(path: Path) -> list[ApiKey]:
    from taxledger.api.auth import load_keys

    return load_keys(path) if path.exists() else []


def create(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Whose it is: the channel of what it hands in.", show_default=False
        ),
    ],
    home: HomeOption,
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="lend_apply (a platform), lend_officer or lend_core (core banking); may be repeated.",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a key; it is shown once. Two keys of one name are one channel: make the new one, then revoke the old.

    Example: taxledger lend key create shopcloud --scope lend_apply --home net/bank1
    """
    try:
        from taxledger.api.auth import LEND_SCOPES, create_key, save_keys
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error
    if not _NAME.fullmatch(name):
        raise InputError(f"expected a name of lower-case letters, digits, dots and hyphens, got {name!r:.60}")
    if not scope or not set(scope) <= set(LEND_SCOPES):
        raise InputError(
            f"expected --scope out of {', '.join(LEND_SCOPES)}, got {', '.join(scope) or 'none'}"
        )
    if name == _OWN_CHANNEL and "lend_apply" in scope:
        raise InputError(f"the channel {_OWN_CHANNEL!r} is the lender's own: choose another name")
    path = keys_path(_folder(home))
    token, key = create_key(scope, name)
    save_keys(path, [*_load(path), key])
    if as_json:
        print_json({"id": key.id, "name": name, "scopes": sorted(key.scopes), "key": token})
        return
    say(token)
    note(f"key {key.id} of {name}, {', '.join(sorted(key.scopes))}; it is not shown again")


def list_keys(home: HomeOption, as_json: JsonOption = False) -> None:
    """The keys of the service, without their secrets.

    Example: taxledger lend key list --home net/bank1
    """
    rows = [(each.id, each.note, sorted(each.scopes)) for each in _load(keys_path(_folder(home)))]
    if as_json:
        print_json([{"id": id, "name": name, "scopes": scopes} for id, name, scopes in rows])
        return
    print_table(("key", "name", "scopes"), [(id, name, ", ".join(scopes)) for id, name, scopes in rows])


def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, of `list`.", show_default=False)],
    home: HomeOption,
) -> None:
    """Take a key away; a running service knows at once.

    Example: taxledger lend key revoke 3f2a9c1b --home net/bank1
    """
    from taxledger.api.auth import save_keys

    path = keys_path(_folder(home))
    known = _load(path)
    left = [each for each in known if each.id != key]
    if len(left) == len(known):
        raise InputError(f"no key {key!r:.20}; `taxledger lend key list` lists them")
    save_keys(path, left)
    say(f"key {key} is revoked")


def register(group: typer.Typer) -> None:
    """Add the group ``key`` to ``lend``."""
    keys = typer.Typer(no_args_is_help=True, help="Keys of the lender's service.")
    keys.command("create")(create)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke)
    group.add_typer(keys, name="key")
