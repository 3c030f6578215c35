"""``taxledger erase``: an issuer destroys what it keeps of a subject, on the ledger and at recipients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.output import HomeOption, JsonOption, connect, open_home, print_json, say

if TYPE_CHECKING:
    from taxledger.api.custody import ErasureReceipt

__all__ = ["register"]


def erase(
    home: HomeOption,
    subject: Annotated[
        str, typer.Option("--subject", metavar="SUBJECT", help="Whose records.", show_default=False)
    ],
    kinds: Annotated[
        list[str], typer.Option("--kind", metavar="KIND", help="Repeat it for several.", show_default=False)
    ],
    begin: Annotated[str, typer.Option("--from", metavar="YYYY-MM", help="First month.", show_default=False)],
    end: Annotated[str, typer.Option("--to", metavar="YYYY-MM", help="Last month.", show_default=False)],
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="In words; stays sealed in the vault.", show_default=False
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Destroy a subject's records: fields, secrets, and what recipients were shown. There is no way back.

    A record of a quarter or a year goes with any of its months. The ledger keeps that there was a record. The same
    command again shows which recipients have confirmed by now. Backups of the vault are yours to destroy.

    Example: taxledger erase --home net/tax --subject cumcm:E14 --kind vat_invoice --from 2019-01 --to 2019-12
    --reason "asked by the enterprise"
    """
    from taxledger.ledger.query import Query
    from taxledger.ledger.records import parse_subject
    from taxledger.ledger.schemas import parse_kind

    opened = open_home(home)
    if not kinds:
        raise InputError("expected at least one --kind")
    if not reason.strip():
        raise InputError("expected --reason in words, got an empty text")
    query = Query(
        subject=parse_subject(subject),
        issuer=opened.config.number,
        kinds=tuple(sorted({parse_kind(each) for each in kinds})),
        from_period=begin,
        to_period=end,
    )
    with connect(opened) as client:
        receipt = client.erase(query, reason=reason)
    if as_json:
        print_json(
            {
                "records": receipt.records,
                "transactions": [each.hex() for each in receipt.transactions],
                "notices": [{"member": each.member, "confirmed": each.confirmed} for each in receipt.notices],
            }
        )
    else:
        _print(receipt)


def _print(receipt: ErasureReceipt) -> None:
    if not receipt.records:
        say("no records: nothing to erase\n没有记录：无可删除")
        return
    say(
        f"{receipt.records:,} records erased here and on the ledger\n已删除 {receipt.records:,} 条记录，账本已确认"
    )
    for each in receipt.notices:
        told = "has destroyed what it held" if each.confirmed else "is told, and has not confirmed yet"
        told_zh = "已销毁所存数据" if each.confirmed else "已通知，尚未确认"
        say(f"member {each.member} {told}\n{each.member} 号成员{told_zh}")


def register(app: typer.Typer) -> None:
    """Add the command ``erase``."""
    app.command()(erase)
