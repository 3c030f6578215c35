"""``taxledger pledge show | prove | verify``: what is pledged, and what is not, proved by the ledger."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, RefusedError, VerificationError
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    check_writable,
    connect,
    open_home,
    parse_age,
    parse_instant,
    print_json,
    print_table,
    read_file,
    say,
    write_file,
)
from taxledger.nodes.cli.permitfile import read_permits
from taxledger.nodes.cli.wording import refused_zh

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.ledger.pledgeproof import PledgeKey, PledgeState, VerifiedPledges

__all__ = ["place_of", "register"]

PermitsOption = Annotated[
    Path | None,
    typer.Option("--permits", metavar="FILE", help="The records of these permits.", show_default=False),
]
IssuerOption = Annotated[int, typer.Option("--issuer", metavar="N", help="Whose fingerprints.")]
FingerprintsOption = Annotated[
    list[str] | None,
    typer.Option("--fingerprint", metavar="HEX", help="32 hex digits; may be repeated.", show_default=False),
]


def place_of(client: Client, pledge: bytes) -> PledgeKey:
    """(issuer, fingerprint) of a pledge, from the verified state. Raises RefusedError ``pledge_unknown``."""
    from taxledger.ledger.pledgestate import decode_placement
    from taxledger.ledger.statekeys import placement_key

    key = placement_key(pledge)
    pairs = client.state(key).entries[key]
    if not pairs:
        raise RefusedError("pledge_unknown", f"no pledge {pledge.hex()} was ever placed")
    placement = decode_placement(pairs[0][1])
    return placement.issuer, placement.fingerprint


def _keys(permits: Path | None, issuer: int, fingerprints: Sequence[str] | None) -> list[PledgeKey]:
    found = (
        []
        if permits is None
        else [(each.issuer, each.fingerprint) for each in read_permits(permits).values()]
    )
    for text in fingerprints or ():
        if not re.fullmatch(r"[0-9a-f]{32}", text):
            raise InputError(f"expected --fingerprint as 32 hex digits, got {text!r:.40}")
        found.append((issuer, bytes.fromhex(text)))
    if not found:
        raise InputError("expected --permits FILE, or --fingerprint")
    return sorted(set(found))


def _marks(state: PledgeState) -> list[str]:
    from taxledger.ledger.pledgestate import PledgeMarks

    return [each.name.lower() for each in PledgeMarks if each in state.marks and each and each.name]


def _states_as_json(found: VerifiedPledges) -> list[dict[str, Any]]:
    return [
        {
            "issuer": issuer,
            "fingerprint": fingerprint,
            "record": state.record_key,
            "pledged_ppm": state.pledged_ppm,
            "free_ppm": state.free_ppm,
            "marks": _marks(state),
            "pledges": [
                {"pledge": each.id, "member": each.member, "ppm": each.ppm, "not_after_ms": each.not_after}
                for each in state.pledges
            ],
        }
        for (issuer, fingerprint), state in sorted(found.states.items())
    ]


def _instant(time_ms: int | None) -> str:
    if time_ms is None:
        return "no end"
    return f"{datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"


def _rows(found: VerifiedPledges) -> Iterable[tuple[object, ...]]:
    for (issuer, fingerprint), state in sorted(found.states.items()):
        name = f"{issuer}:{fingerprint.hex()}"
        if state.is_free:
            yield (name, "free 未质押", "", "", "", "")
        for each in state.pledges:
            marks = ", ".join(_marks(state))
            yield (name, each.id.hex(), each.member, f"{each.ppm:,}", _instant(each.not_after), marks)


def _print(found: VerifiedPledges, *, as_json: bool) -> None:
    free = sum(state.is_free for state in found.states.values())
    if as_json:
        print_json(
            {
                "verified": True,
                "code": None,
                "height": found.header.height,
                "age_ms": found.age_ms,
                "free": free,
                "records": _states_as_json(found),
            }
        )
        return
    head = ("fingerprint 指纹", "pledge 质押", "member", "ppm", "until 期限", "marks")
    print_table(head, _rows(found), right=(2, 3))
    total = len(found.states)
    say(f"verified: {free:,} of {total:,} are free, as of height {found.header.height}")
    say(f"已核验：截至区块 {found.header.height}，{total:,} 项中 {free:,} 项未质押")


def show(
    home: HomeOption,
    pledge: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Pledges.", show_default=False)
    ] = None,
    permits: PermitsOption = None,
    issuer: IssuerOption = 1,
    fingerprint: FingerprintsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is pledged with a record, by pledges, permits or fingerprints; verified. 查看质押

    Example: taxledger pledge show --home net/bank1 --permits acme.permits
    """
    from taxledger.nodes.cli.pledge import pledge_of

    with connect(open_home(home)) as client:
        if pledge:
            keys = sorted({place_of(client, pledge_of(each)) for each in pledge})
        else:
            keys = _keys(permits, issuer, fingerprint)
        found = client.verified_pledges(keys)
    _print(found, as_json=as_json)


def prove(
    home: HomeOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The proof.", show_default=False)
    ],
    permits: PermitsOption = None,
    issuer: IssuerOption = 1,
    fingerprint: FingerprintsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a file that proves, offline, what is pledged under fingerprints and what is not. 质押证明

    Example: taxledger pledge prove --home net/bank2 --permits acme.permits -o acme.pledges
    """
    check_writable(output)
    keys = _keys(permits, issuer, fingerprint)
    with connect(open_home(home)) as client:
        data = client.pledge_proof(keys)
    write_file(output, data)
    found = _verified(data, open_home(home).policy(), keys, limits.answer_age_ms_default, None)
    _print(found, as_json=as_json)


def _verified(
    data: bytes, policy: bytes, keys: Sequence[PledgeKey], age_ms_max: int, at_ms: int | None
) -> VerifiedPledges:
    from taxledger.ledger.pledgeproof import verify_pledges
    from taxledger.ledger.policy import decode_policy

    now_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    return verify_pledges(data, decode_policy(policy), keys, now_ms=now_ms, age_ms_max=age_ms_max)


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of pledge prove.", show_default=False)],
    policy: Annotated[
        Path, typer.Option("--policy", metavar="FILE", help="Your own policy file.", show_default=False)
    ],
    permits: PermitsOption = None,
    issuer: IssuerOption = 1,
    fingerprint: FingerprintsOption = None,
    max_age: Annotated[
        str, typer.Option("--max-age", metavar="AGE", help="How old it may be, like 90s, 10m, 24h.")
    ] = "10m",
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="INSTANT", help="Judge its age at this instant.", show_default=False),
    ] = None,
    require_free: Annotated[
        bool, typer.Option("--require-free", help="Exit status 1 where anything is pledged.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a pledge proof offline: no network, no node. Exit status 0 verified, 1 refused. 核验质押证明

    Example: taxledger pledge verify acme.pledges --policy policy.txt --permits acme.permits --require-free
    """
    keys = _keys(permits, issuer, fingerprint)
    trusted = read_file(policy, bytes_max=limits.policy_bytes_max)
    data = read_file(file, bytes_max=limits.pledge_proof_bytes_max)
    try:
        found = _verified(data, trusted, keys, parse_age(max_age), parse_instant(at) if at else None)
    except VerificationError as refusal:
        if as_json:
            print_json({"verified": False, "code": refusal.code, "message": str(refusal)})
        else:
            say(f"refused: {refusal}")
            say(refused_zh(refusal.code))
        raise typer.Exit(1) from refusal
    _print(found, as_json=as_json)
    if require_free and not all(state.is_free for state in found.states.values()):
        raise typer.Exit(1)


def register(group: typer.Typer) -> None:
    """Add these commands to ``pledge``."""
    for command in (show, prove, verify):
        group.command()(command)
