"""``taxledger vault``: the keys of a home's sealed stores."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.output import HomeOption, JsonOption, note, open_home, print_json, print_table, say

if TYPE_CHECKING:
    from taxledger.nodes.home import Home
    from taxledger.nodes.sealed.layout import StoreLayout
    from taxledger.nodes.vaultconfig import KeySource

__all__ = ["register", "store_layouts"]


def store_layouts() -> tuple[StoreLayout, ...]:
    """Every kind of sealed store that a home can have. A new kind is added here, or its data keys can't be
    replaced."""
    from taxledger.nodes.custodian.custody import CUSTODY
    from taxledger.nodes.custodian.database import VAULT
    from taxledger.nodes.recipient.store import RECEIVED

    return (VAULT, CUSTODY, RECEIVED)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _instant(time_ms: int | None) -> str:
    if time_ms is None:
        return "never"
    return f"{datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"


def _wanted(home: Home, years: bool, to: str | None, options: dict[str, str]) -> KeySource:
    """Where the new key shall be: what the options leave out is as it is for the key in force."""
    from taxledger.nodes.vaultconfig import PROVIDERS, KeySource

    now = home.config.vault.source("vault.years" if years else "vault.rows")
    provider = to or now.provider
    if provider not in PROVIDERS:
        raise InputError(f"expected --to {' or '.join(PROVIDERS)}, got {to!r}")
    given = {name: value for name, value in options.items() if value}
    if provider == "file":
        if given:
            raise InputError("--module, --token, --label and --pin-file are for --to pkcs11")
        return KeySource()
    if now.provider == "pkcs11":
        given = {"module": now.module, "token": now.token, "pin_file": now.pin_file, **given}
    if not given.get("module") or not given.get("token"):
        raise InputError("--to pkcs11 needs --module FILE and --token LABEL, the first time")
    return KeySource(provider="pkcs11", **given)


def rotate_key(
    home: HomeOption,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="PROVIDER", help="file or pkcs11; without it, as it is.", show_default=False
        ),
    ] = None,
    module: Annotated[str, typer.Option("--module", metavar="FILE", help="The PKCS#11 library.")] = "",
    token: Annotated[str, typer.Option("--token", metavar="LABEL", help="The token.")] = "",
    label: Annotated[
        str,
        typer.Option("--label", metavar="LABEL", help="A new label for the key; without it, a fresh one."),
    ] = "",
    pin_file: Annotated[
        str,
        typer.Option(
            "--pin-file",
            metavar="FILE",
            help="File of mode 0600 with the PIN; without it, TAXLEDGER_VAULT_PIN in the environment.",
        ),
    ] = "",
    years: Annotated[
        bool,
        typer.Option("--years", help="The key of the year keys alone; separates it where it is not yet."),
    ] = False,
    destroy_old: Annotated[
        bool, typer.Option("--destroy-old", help="Destroy the former key: backups from before are lost.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Put a new key-encryption key in force; the data keys are wrapped anew, no row is touched.

    Example: taxledger vault rotate-key --home net/tax
    """
    from taxledger.nodes.sealed import rotation

    opened = open_home(home)
    options = {
        "module": str(Path(module).absolute()) if module else "",
        "token": token,
        "label": label,
        "pin_file": str(Path(pin_file).absolute()) if pin_file else "",
    }
    done = rotation.rotate_key(
        opened,
        store_layouts(),
        _wanted(opened, years, to, options),
        years=years,
        now_ms=_now_ms(),
        destroy=destroy_old,
    )
    if json:
        print_json(
            {
                "key": done.name,
                "former": done.former,
                "stores": done.stores,
                "resumed": done.resumed,
                "destroyed": done.destroyed,
            }
        )
        return
    if done.resumed:
        note("a rotation that was cut off is finished now")
    say(f"{done.name} is in force, {done.stores} store(s) wrapped by it")
    if done.destroyed:
        say(f"{done.former} is destroyed: backups from before no longer open")
    elif done.former and not years:
        say(f"{done.former} is not used any more; backups from before still need it")


def rotate_data_key(home: HomeOption, json: JsonOption = False) -> None:
    """Make new data keys, and seal every row of every store anew with them.

    Example: taxledger vault rotate-data-key --home net/tax
    """
    from taxledger.nodes.sealed import rotation

    done = rotation.rotate_data_key(open_home(home), store_layouts(), now_ms=_now_ms())
    if json:
        print_json([{"store": each.store, "cells": each.cells, "scrubbed": each.scrubbed} for each in done])
        return
    if not done:
        say("this home has no sealed store yet")
    for each in done:
        say(f"{each.store}: {each.cells} rows sealed with new data keys")
        if not each.scrubbed:
            note(f"{each.store}: a reader held older pages: run it again later to remove them from the file")


def status(home: HomeOption, json: JsonOption = False) -> None:
    """Which keys there are, what they protect, and when they were rotated. Needs no key.

    Example: taxledger vault status --home net/tax
    """
    from taxledger.nodes.sealed import rotation
    from taxledger.nodes.sealed.homekeys import provider_of

    opened = open_home(home)
    vault = opened.config.vault
    facts = rotation.store_facts(opened, store_layouts())
    keys: dict[str, Any] = {}
    sources = (
        ("rows", vault.rows),
        ("rows_next", vault.rows_next),
        ("years", vault.years),
        ("years_next", vault.years_next),
    )
    for name, source in sources:
        if source is not None:
            try:
                keys[name] = {"provider": source.provider, "key": provider_of(opened.path, source).name}
            except InputError as error:
                keys[name] = {"provider": source.provider, "key": None, "error": str(error)}
    if json:
        print_json(
            {
                "keys": keys,
                "stores": [
                    {
                        "store": each.store,
                        "wrapped_by": each.keys,
                        "rows": each.rows,
                        "data_key_generation": each.generation,
                        "key_rotated_ms": each.key_rotated_ms,
                        "data_key_rotated_ms": each.data_key_rotated_ms,
                    }
                    for each in facts
                ],
            }
        )
        return
    print_table(
        ["for", "provider", "key"],
        [(name, key["provider"], key["key"] or key["error"]) for name, key in keys.items()],
    )
    if vault.rows_next or vault.years_next:
        note("a rotation was cut off: run `taxledger vault rotate-key` again to finish it")
    for each in facts:
        say("")
        print_table([each.store, "rows"], [(table, count) for table, count in each.rows.items()], right=(1,))
        say(f"key rotated: {_instant(each.key_rotated_ms)}")
        say(f"data keys rotated: {_instant(each.data_key_rotated_ms)}")
    if not facts:
        say("this home has no sealed store yet")


def register(app: typer.Typer) -> None:
    """Add ``vault`` and its commands."""
    vault = typer.Typer(no_args_is_help=True, help="The keys of a home's sealed stores.")
    vault.command()(status)
    vault.command("rotate-key")(rotate_key)
    vault.command("rotate-data-key")(rotate_data_key)
    app.add_typer(vault, name="vault")
