"""``taxledger pledge permit | place | confirm | release | transfer``: a lender takes records as security.

What is pledged, shown and proved, is in ``pledgeview.py``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, RefusedError
from taxledger.nodes.cli import pledgeview
from taxledger.nodes.cli.disclosed import FILE_BYTES_MAX
from taxledger.nodes.cli.ledger import parse_record_key
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    check_writable,
    connect,
    note,
    open_home,
    parse_instant,
    print_json,
    read_file,
    say,
)
from taxledger.nodes.cli.permitfile import read_permits, write_permits
from taxledger.nodes.cli.wording import refused_zh

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.api.pledging import PledgeReceipt
    from taxledger.ledger.disclosure import Disclosure
    from taxledger.ledger.permit import Permit

__all__ = ["register"]

_HOURS = 24
_AT_ONCE = 16
_PPM_WHOLE = limits.pledged_ppm_max

PermitsArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Of pledge permit.", show_default=False)
]
RecordsOption = Annotated[
    list[str] | None,
    typer.Option("--record", metavar="KEY", help="Only this one; may be repeated.", show_default=False),
]
PledgeArgument = Annotated[str, typer.Argument(metavar="ID", help="32 hex digits.", show_default=False)]


def _chosen(records: Sequence[str] | None) -> list[bytes] | None:
    return None if not records else [parse_record_key(each) for each in records]


def _pledgeable(file: Disclosure) -> list[bytes]:
    """Keys of the valid records with a fingerprint that a disclosure shows."""
    from taxledger.ledger.parts import join_evidence
    from taxledger.ledger.records import Status

    return [
        group.prefix + end
        for group in join_evidence(file.frame, file.parts).groups
        for end, (_raw, value) in zip(group.ends, group.values, strict=True)
        if value.fingerprint is not None and value.status == Status.VALID
    ]


def permit(
    home: HomeOption,
    disclosure: Annotated[
        Path,
        typer.Option("--disclosure", metavar="FILE", help="That showed the records.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The permits.", show_default=False)
    ],
    record: RecordsOption = None,
    hours: Annotated[
        int, typer.Option("--hours", metavar="N", min=1, max=_HOURS, help="For how long, from now.")
    ] = _HOURS,
    as_json: JsonOption = False,
) -> None:
    """Ask the custodian for permits to pledge records that a disclosure showed: the consent must allow it. 质押许可

    Example: taxledger pledge permit --home net/bank1 --disclosure acme.disclosure -o acme.permits
    """
    from taxledger.ledger.disclosure import decode_disclosure

    check_writable(output)
    file = decode_disclosure(read_file(disclosure, bytes_max=FILE_BYTES_MAX))
    keys = _chosen(record) or _pledgeable(file)
    if not keys:
        raise InputError(f"{disclosure} shows no record that could be pledged\n其中没有可供质押的记录")
    consent = file.artefact.id(file.custodian)
    not_after = time.time_ns() // 1_000_000 + hours * 3_600_000
    permits: list[bytes] = []
    with connect(open_home(home)) as client:
        for at in range(0, len(keys), limits.permits_max):
            part = keys[at : at + limits.permits_max]
            permits += client.request_permits(consent, file.sequence, part, not_after=not_after)
    write_permits(output, permits)
    if as_json:
        print_json({"file": str(output), "permits": len(permits), "consent": consent})
        return
    say(f"{output}: {len(permits):,} permits to pledge 质押许可 {len(permits):,} 份")


def place(
    home: HomeOption,
    file: PermitsArgument,
    ppm: Annotated[
        int,
        typer.Option(
            "--ppm", metavar="N", min=1, max=_PPM_WHOLE, help="Share of each record's value, in millionths."
        ),
    ] = _PPM_WHOLE,
    record: RecordsOption = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="INSTANT", help="A reservation that counts until then.", show_default=False
        ),
    ] = None,
    request_key: Annotated[
        str,
        typer.Option("--request-key", metavar="TEXT", help="Another text: another pledge of the same terms."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Pledge a share of each permit's record. The same command again is the same pledge, never a second. 设立质押

    Exit status 0: all are placed; 1: some were refused, each with its code.

    Example: taxledger pledge place --home net/bank1 acme.permits --ppm 800000
    """
    chosen, end = _chosen(record), parse_instant(until) if until else None
    permits = {
        raw: each for raw, each in read_permits(file).items() if chosen is None or each.record_key in chosen
    }
    if not permits:
        raise InputError(f"{file} has no such permit")

    def one(client: Client, raw: bytes) -> PledgeReceipt:
        name = _request_name(raw, ppm, end, request_key)
        return client.place_pledge(raw, ppm, not_after=end, request_key=name)

    with connect(open_home(home)) as client:
        outcomes = _all_of(list(permits), lambda raw: one(client, raw))
    _print_placed(list(permits.values()), outcomes, ppm, as_json=as_json)
    if any(isinstance(each, RefusedError) for each in outcomes):
        raise typer.Exit(1)


def _request_name(permit: bytes, ppm: int, not_after: int | None, more: str) -> str:
    from taxledger.ledger.hashing import sha256

    return sha256(permit + repr((ppm, not_after, more)).encode()).hex()


def _all_of(
    permits: Sequence[bytes], work: Callable[[bytes], PledgeReceipt]
) -> list[PledgeReceipt | RefusedError]:
    """Several at once, or each would wait for a block of its own; a refusal of one hides none of the others."""

    def caught(permit: bytes) -> PledgeReceipt | RefusedError:
        try:
            return work(permit)
        except RefusedError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="place") as pool:
        return list(pool.map(caught, permits))


def _print_placed(
    permits: Sequence[Permit],
    outcomes: Sequence[PledgeReceipt | RefusedError],
    ppm: int,
    *,
    as_json: bool,
) -> None:
    rows: list[dict[str, Any]] = []
    for each, made in zip(permits, outcomes, strict=True):
        about = {"record": each.record_key, "issuer": each.issuer, "fingerprint": each.fingerprint}
        if isinstance(made, RefusedError):
            rows.append({**about, "placed": False, "code": made.code})
            if not as_json:
                note(f"{each.record_key.hex()}: {made}\n{refused_zh(made.code)}")
        else:
            rows.append({**about, "placed": True, "ppm": ppm, **_as_json(made)})
            if not as_json:
                say(f"pledge {made.pledge.hex()}: {ppm:,} ppm of {each.record_key.hex()}")
    placed = sum(row["placed"] for row in rows)
    if as_json:
        print_json({"placed": placed, "refused": len(rows) - placed, "pledges": rows})
    else:
        say(
            f"{placed:,} placed, {len(rows) - placed:,} refused 已设立 {placed:,} 笔，被拒 {len(rows) - placed:,} 笔"
        )


def _as_json(receipt: PledgeReceipt) -> dict[str, Any]:
    return {name: getattr(receipt, name) for name in type(receipt).__slots__}


def pledge_of(text: str) -> bytes:
    """A pledge's id. Raises InputError."""
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise InputError(f"expected a pledge as 32 hex digits, got {text!r:.40}")
    return bytes.fromhex(text)


def _print_changed(receipt: PledgeReceipt, done: str, zh: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(receipt))
    else:
        say(f"pledge {receipt.pledge.hex()} is {done}, certified at height {receipt.height} {zh}")


def confirm(home: HomeOption, pledge: PledgeArgument, as_json: JsonOption = False) -> None:
    """Make a reservation a pledge without end. 确认质押

    Example: taxledger pledge confirm --home net/bank1 5d41402abc4b2a76b9719d911017c592
    """
    with connect(open_home(home)) as client:
        _print_changed(client.confirm_pledge(pledge_of(pledge)), "confirmed", "已确认", as_json=as_json)


def release(home: HomeOption, pledge: PledgeArgument, as_json: JsonOption = False) -> None:
    """End a pledge of this home's member. 解除质押

    Example: taxledger pledge release --home net/bank1 5d41402abc4b2a76b9719d911017c592
    """
    with connect(open_home(home)) as client:
        _print_changed(client.release_pledge(pledge_of(pledge)), "released", "已解除", as_json=as_json)


def transfer(
    home: HomeOption,
    pledge: PledgeArgument,
    file: Annotated[
        Path,
        typer.Option(
            "--permits", metavar="FILE", help="Of the lender that takes it over.", show_default=False
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Pass a pledge to the lender that asked its custodian for a permit of that record. 转让质押

    Example: taxledger pledge transfer --home net/bank1 5d41402abc4b2a76b9719d911017c592 --permits bank2.permits
    """
    wanted = pledge_of(pledge)
    permits = read_permits(file)
    with connect(open_home(home)) as client:
        issuer, fingerprint = pledgeview.place_of(client, wanted)
        raw = next(
            (
                raw
                for raw, each in permits.items()
                if (each.issuer, each.fingerprint) == (issuer, fingerprint)
            ),
            None,
        )
        if raw is None:
            raise InputError(f"{file} has no permit for the record of this pledge")
        _print_changed(client.transfer_pledge(wanted, raw), "transferred", "已转让", as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the commands ``pledge …``."""
    group = typer.Typer(no_args_is_help=True, help="Records as security for a loan. 质押")
    for command in (permit, place, confirm, release, transfer):
        group.command()(command)
    pledgeview.register(group)
    app.add_typer(group, name="pledge")
