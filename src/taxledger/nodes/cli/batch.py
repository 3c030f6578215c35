"""``taxledger batch list | show | revoke``: uploads, what they attested, and taking a wrong one back."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError
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
    from taxledger.nodes.custodian.batches import Batch
    from taxledger.nodes.custodian.batchmembers import BatchMember
    from taxledger.nodes.custodian.batchrevoke import BatchRevocation
    from taxledger.nodes.custodian.vault import Vault

__all__ = ["register"]

NumberArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="As batch list shows it.")]
_STATES = ("interrupted", "attested", "being revoked", "revoked")
_COUNTS = ("rows", "accepted", "amended", "duplicates", "rejected")
_RECORDS_SHOWN = 20


@contextmanager
def _opened_vault(home_path: Path) -> Iterator[Vault]:
    """The home's vault, to read; no node is needed."""
    try:
        from taxledger.ledger.genesis import chain_id
        from taxledger.nodes.custodian.vault import Vault
        from taxledger.nodes.sealed.homekeys import open_key_provider
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error
    home = open_home(home_path)
    if not home.vault_path.exists():
        raise InputError(f"{home.path} has no vault: nothing was attested from it")
    vault = Vault.open(
        home.vault_path,
        open_key_provider(home),
        chain_id=chain_id(home.genesis()),
        member=home.config.number,
    )
    try:
        yield vault
    finally:
        vault.close()


def _instant(time_ms: int | None) -> str:
    if time_ms is None:
        return "-"
    return f"{datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"


def _as_json(batch: Batch) -> dict[str, Any]:
    from taxledger.ledger.kinds import kind_name

    return {
        "batch": batch.number,
        "kind": kind_name(batch.kind),
        "state": _STATES[batch.state].replace(" ", "_"),
        "begun_ms": batch.begun_ms,
        "revoked_ms": batch.revoked_ms,
        "reason": batch.reason,
        "files": [{name: getattr(each, name) for name in ("name", *_COUNTS)} for each in batch.files],
        **_sums(batch),
    }


def _sums(batch: Batch) -> dict[str, int]:
    return {name: sum(getattr(each, name) for each in batch.files) for name in _COUNTS}


def _files_text(batch: Batch) -> str:
    names = [Path(each.name).name or "(erased)" for each in batch.files]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more" if names else "-"


def list_all(home: HomeOption, as_json: JsonOption = False) -> None:
    """List every upload into this vault, oldest first. Needs no running node.

    Example: taxledger batch list --home net/tax
    """
    from taxledger.ledger.kinds import kind_name

    with _opened_vault(home) as vault:
        from taxledger.nodes.custodian.batches import Batches

        found = Batches(vault).all()
    if as_json:
        print_json({"batches": [_as_json(each) for each in found]})
        return
    print_table(
        ("batch", "uploaded", "kind", "state", *_COUNTS, "files"),
        [
            (
                each.number,
                _instant(each.begun_ms),
                kind_name(each.kind),
                _STATES[each.state],
                *_sums(each).values(),
                _files_text(each),
            )
            for each in found
        ],
        right=(0, *range(4, 4 + len(_COUNTS))),
    )


def show(home: HomeOption, number: NumberArgument, as_json: JsonOption = False) -> None:
    """Show the records of an upload by file and line, and what has become of each. Needs no running node.

    Example: taxledger batch show 3 --home net/tax --json
    """
    with _opened_vault(home) as vault:
        from taxledger.nodes.custodian.batches import Batches
        from taxledger.nodes.custodian.batchmembers import members_of_batch

        batches = Batches(vault)
        batch = batches.get(number)
        members = sorted(
            members_of_batch(vault, batches, number), key=lambda each: (each.file, each.line, each.key)
        )
    if as_json:
        print_json({**_as_json(batch), "records": [_member_as_json(batch, each) for each in members]})
        return
    say(f"batch {number}, {_STATES[batch.state]}, uploaded {_instant(batch.begun_ms)}")
    if batch.reason is not None:
        say(f"revoked {_instant(batch.revoked_ms)}: {batch.reason}")
    for at, file in enumerate((*batch.files, None)):
        of_file = [each for each in members if each.file == (-1 if file is None else at)]
        if file is not None:
            counts = ", ".join(f"{getattr(file, name):,} {name}" for name in _COUNTS)
            say(f"\n{file.name or '(erased)'}: {counts}")
        elif of_file:
            say("\nby no row of a file")
        _say_members(of_file)


def _say_members(members: Sequence[BatchMember]) -> None:
    if not members:
        return
    states = Counter(each.state for each in members)
    say("  " + ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())))
    for each in members[:_RECORDS_SHOWN]:
        say(f"  line {each.line}: {each.key.hex()} version {each.version}, {each.state}")
    if len(members) > _RECORDS_SHOWN:
        say(f"  and {len(members) - _RECORDS_SHOWN:,} more; --json lists all")


def _member_as_json(batch: Batch, member: BatchMember) -> dict[str, Any]:
    return {
        "key": member.key,
        "version": member.version,
        "file": batch.files[member.file].name if member.file >= 0 else None,
        "line": member.line or None,
        "state": member.state,
    }


def revoke(
    home: HomeOption,
    number: NumberArgument,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="In words; the ledger gets digests.", show_default=False
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Take back a wrong upload: revoke every record that it attested and that is still as it left it.

    What was changed since, and what the upload amended of others, is listed and left alone. Cut off, the same command
    goes on. After it, the right files can be uploaded.

    Example: taxledger batch revoke 3 --home net/tax --reason "columns of another year"
    """
    try:
        from taxledger.nodes.cli.submitting import open_desk
        from taxledger.nodes.custodian.batchrevoke import revoke_batch
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error
    with open_desk(open_home(home)) as desk:
        made = revoke_batch(desk.vault, desk.signer, desk.submitter, number, reason=reason)
    _print_revoked(made, as_json=as_json)


def _print_revoked(made: BatchRevocation, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                **_as_json(made.batch),
                "revoked": made.revoked,
                "transactions": made.transactions,
                "left": dict(made.left),
                "not_undone": list(made.amended),
                "changed_since": list(made.changed),
            }
        )
        return
    say(f"batch {made.batch.number} is revoked: {made.revoked:,} records in {made.transactions} transactions")
    for state, count in made.left.items():
        note(f"{count:,} left alone: {state}")
    for what, keys in (("amended by the batch, not undone", made.amended), ("changed since", made.changed)):
        for key in keys[:_RECORDS_SHOWN]:
            note(f"{what}: {key.hex()}")
        if len(keys) > _RECORDS_SHOWN:
            note(f"{what}: and {len(keys) - _RECORDS_SHOWN:,} more; --json lists all")


def register(app: typer.Typer) -> None:
    """Add the commands ``batch …``."""
    group = typer.Typer(no_args_is_help=True, help="Uploads: what each attested, and taking one back.")
    group.command("list")(list_all)
    for command in (show, revoke):
        group.command()(command)
    app.add_typer(group, name="batch")
