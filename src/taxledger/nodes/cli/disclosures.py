"""``taxledger disclosure``: what a recipient's node keeps of what was disclosed to it (mode ``store``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxledger.api.consentreceipt import instant
from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.consentkeys import consent_id_of
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    check_writable,
    connect,
    open_home,
    print_json,
    print_table,
    say,
    write_file,
)

__all__ = ["register"]

ConsentOption = Annotated[
    str, typer.Option("--consent", metavar="ID", help="32 hex digits.", show_default=False)
]
UseOption = Annotated[int, typer.Option("--use", metavar="N", min=1, help="Number of the use.")]


def list_all(home: HomeOption, as_json: JsonOption = False) -> None:
    """List what this node keeps, and until when. 已保存的披露数据

    Example: taxledger disclosure list --home net/bank1
    """
    with connect(open_home(home)) as client:
        kept = client.disclosures()
    if as_json:
        print_json([{name: getattr(each, name) for name in type(each).__slots__} for each in kept])
        return
    head = ("consent 授权", "use", "subject 企业", "records", "bytes", "stored 保存", "erased after 删除期限")
    rows = [
        (
            each.consent.hex(),
            each.sequence,
            each.subject,
            each.records,
            each.file_bytes,
            instant(each.stored_ms)[:16],
            instant(each.erase_after_ms)[:16],
        )
        for each in kept
    ]
    print_table(head, rows, right=(1, 3, 4))


def get(
    home: HomeOption,
    consent: ConsentOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write it.", show_default=False)
    ],
    use: UseOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Write a kept disclosure into a file; evidence verify checks it (--max-age: it is as old as its storing).

    Example: taxledger disclosure get --home net/bank1 --consent 3f68… --use 1 -o acme.disclosure
    """
    check_writable(output)
    with connect(open_home(home)) as client:
        data = client.load_disclosure(consent_id_of(consent), use)
    write_file(output, data, private=True)
    if as_json:
        print_json({"file": str(output), "bytes": len(data)})
    else:
        say(
            f"{output}: {len(data):,} bytes; remember that the retention binds copies too 副本同样受保存期限约束"
        )


def discard(
    home: HomeOption,
    consent: ConsentOption,
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why; the ledger gets a digest.", show_default=False),
    ],
    use: UseOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Destroy a kept disclosure, and say so on the ledger. 删除已保存的披露数据

    Example: taxledger disclosure discard --home net/bank1 --consent 3f68… --use 1 --reason "loan repaid"
    """
    if not reason.strip():
        raise InputError("expected --reason in words, got an empty text")
    with connect(open_home(home)) as client:
        digest = client.discard_disclosure(consent_id_of(consent), use, reason=reason)
    if as_json:
        print_json({"consent": consent, "use": use, "digest": digest})
    else:
        say(f"use {use} of consent {consent}: destroyed; data.erased {digest.hex()} is on the ledger")
        say("已删除，并已在账本上登记")


def register(app: typer.Typer) -> None:
    """Add the commands ``disclosure …``."""
    group = typer.Typer(
        no_args_is_help=True, help="What this node keeps of what was disclosed to it. 已保存的披露数据"
    )
    group.command("list")(list_all)
    group.command()(get)
    group.command()(discard)
    app.add_typer(group, name="disclosure")
