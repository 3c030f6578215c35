"""``taxledger export | audit | record show``: the whole ledger checked from leaf 0, a record's history."""

from __future__ import annotations

import dataclasses
import datetime
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    connect,
    missing_package,
    open_home,
    print_json,
    print_table,
    read_file,
    say,
)

if TYPE_CHECKING:
    from taxledger.ledger.audit import AuditReport, Verdict
    from taxledger.nodes.folder import Stored
    from taxledger.nodes.home import Home

__all__ = ["audit_path", "parse_record_key", "register"]

_REASONS = {
    1: "correction",
    2: "voided by the parties",
    3: "reversed by a red letter",
    4: "attested in error",
    5: "other",
}


def parse_record_key(text: str) -> bytes:
    """A record key of 74 hex digits. Raises FormatError."""
    from taxledger.ledger.statekeys import split_record_key

    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise FormatError(f"expected a record key of 74 hex digits, got {text!r:.90}") from error
    split_record_key(key)
    return key


# --- export --------------------------------------------------------------------------------------


def _download(home: Home, file: BinaryIO) -> int:
    """Write the archive that the home's node gives into ``file``; its size."""
    with connect(home) as client:
        size = 0
        for piece in client.export():
            file.write(piece)
            size += len(piece)
    return size


def _is_whole(path: Path) -> bool:
    """Whether the archive ends with its last frame (what is in it is for the audit to say)."""
    from taxledger.ledger.archive import ArchiveEnd, read_archive

    with path.open("rb") as file:
        return any(isinstance(frame, ArchiveEnd) for frame in read_archive(file))


def export(
    home: HomeOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="ARCHIVE", help="Where to write it.", show_default=False)
    ],
) -> None:
    """Write the certified ledger of a running node into one file.

    Example: taxledger export --home net/bank1 -o ledger.archive
    """
    opened = open_home(home)
    fresh = output.with_name(f".{output.name}.partial")
    try:
        with fresh.open("wb") as file:
            size = _download(opened, file)
        if not _is_whole(fresh):
            raise UnavailableError("the archive broke off: run it again")
        fresh.replace(output)
    except OSError as error:
        raise UnavailableError(f"{output}: cannot write it: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
    say(f"{output}: {size:,} bytes")


# --- audit ---------------------------------------------------------------------------------------


class _Pieces(io.RawIOBase):
    """An iterator of byte strings as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._pieces, b"")
        part, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Stored | None]]:
    """The archive at ``path``, or of the node whose home it is, and what a stopped one stores."""
    if not path.is_dir():
        try:
            file = path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: cannot read it: {error.strerror}") from error
        with file:
            yield file, None
        return
    from taxledger.nodes.folder import FolderLedger

    home = open_home(path)
    try:
        folder = FolderLedger(home)
    except UnavailableError:
        with tempfile.TemporaryFile() as fetched:
            _download(home, fetched)
            fetched.seek(0)
            yield fetched, None
        return
    try:
        yield io.BufferedReader(_Pieces(folder.archive())), folder.stored()
    finally:
        folder.close()


def audit_path(path: Path, policy: bytes | None = None) -> tuple[AuditReport, list[str]]:
    """Replay an archive or a home; the report, and what a stopped node stores otherwise than replayed."""
    from taxledger.ledger.audit import audit_archive
    from taxledger.ledger.leveldb import LevelStore
    from taxledger.ledger.policy import decode_policy

    trusted = decode_policy(policy) if policy is not None else None
    with tempfile.TemporaryDirectory(prefix="taxledger-audit-") as scratch, _opened(path) as (stream, stored):
        store = LevelStore(Path(scratch))
        try:
            report = audit_archive(stream, store, policy=trusted)
        finally:
            store.close()
    return report, _differences(report, stored)


def _differences(report: AuditReport, stored: Stored | None) -> list[str]:
    if stored is None or not report.complete:
        return []
    compared = (
        ("the stored nodes of the log tree", report.log_root, stored.log_root),
        ("the stored state map", report.state_root, stored.state_root),
    )
    return [
        f"{what}: expected root {expected.hex()}, got {got.hex()}"
        for what, expected, got in compared
        if expected != got
    ]


def audit(
    path: Annotated[Path, typer.Argument(metavar="ARCHIVE|HOME", help="An exported archive or a home.")],
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Your trust root; without, the ledger is its own."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute everything again from leaf 0: leaves, roots, headers, results, votes, signatures, quorums.

    Example: taxledger audit ledger.archive --policy policy.txt
    """
    trusted = read_file(policy, bytes_max=limits.policy_bytes_max) if policy else None
    try:
        report, differences = audit_path(path, trusted)
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error
    holds = report.ok and not differences
    if as_json:
        print_json(_report_json(report, differences, holds=holds))
    else:
        _print_report(report, differences, holds=holds)
    if not holds:
        raise typer.Exit(1)


def _report_json(report: AuditReport, differences: list[str], *, holds: bool) -> dict[str, Any]:
    return {
        "ok": holds,
        "complete": report.complete,
        "origin": report.origin,
        "height": report.height,
        "size": report.size,
        "log_root": report.log_root,
        "state_root": report.state_root,
        "transactions": report.transactions,
        "signatures": report.signatures,
        "engines": [dataclasses.asdict(each) for each in report.engines],
        "invariants": [_verdict_json(each) for each in report.verdicts],
        "differences": differences,
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    failure = verdict.failure
    return {
        "name": verdict.name,
        "status": verdict.status,
        "checked": verdict.checked,
        "height": failure.height if failure else None,
        "message": failure.message if failure else None,
        "expected": failure.expected if failure else None,
        "got": failure.got if failure else None,
    }


def _print_report(report: AuditReport, differences: list[str], *, holds: bool) -> None:
    from taxledger.ledger.audit import INVARIANTS

    words = {"ok": "holds", "failed": "FAILED", "not_reached": "not reached"}
    print_table(
        ("invariant", "verdict", "checked", "what it says"),
        [(each.name, words[each.status], each.checked, INVARIANTS[each.name]) for each in report.verdicts],
        right=(2,),
    )
    for each in report.verdicts:
        if each.failure:
            say(f"{each.name}, height {each.failure.height}: {each.failure.message}")
            if each.failure.expected is not None or each.failure.got is not None:
                say(f"  expected {each.failure.expected}")
                say(f"  got      {each.failure.got}")
    for text in differences:
        say(text)
    for span in report.engines:
        say(f"blocks {span.first} to {span.last} decided by {span.engine}")
    verdict = "everything holds" if holds else "NOT in order"
    say(
        f"{verdict}: {report.origin or 'no ledger'}, height {report.height}, "
        f"{report.transactions:,} transactions, {report.signatures:,} signatures, "
        f"log root {report.log_root.hex()}"
    )


# --- records -------------------------------------------------------------------------------------


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As evidence show prints it: 74 hex digits.")],
    home: HomeOption,
    as_json: JsonOption = False,
) -> None:
    """The history of one record: who stated or changed it, when and why.

    Example: taxledger record show 010001… --home net/bank1
    """
    from taxledger.ledger.records import Status

    opened = open_home(home)
    names = {peer.number: peer.name for peer in opened.config.peers}
    record = parse_record_key(key)
    with connect(opened) as client:
        changes = client.history(record)
    if not changes:
        raise InputError("no record with this key is on the ledger")
    words = _words(opened, record)
    rows = [
        {
            "version": each.version,
            "operation": each.operation,
            "status": Status(each.status).name.lower(),
            "by": names.get(each.member, str(each.member)),
            "time_ms": each.time_ms,
            "height": each.height,
            "reason": _REASONS.get(each.reason or 0),
            **words.get((each.operation, each.version), {}),
            "transaction": each.transaction.hex(),
        }
        for each in changes
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("version", "operation", "status", "by", "when", "height", "why", "transaction"),
        [
            (
                row["version"],
                row["operation"],
                row["status"],
                row["by"],
                f"{datetime.datetime.fromtimestamp(each.time_ms / 1_000, datetime.UTC):%Y-%m-%d %H:%M:%SZ}",
                row["height"],
                row.get("text") or row["reason"] or row.get("source") or "",
                row["transaction"],
            )
            for row, each in zip(rows, changes, strict=True)
        ],
        right=(0, 5),
    )


def _words(home: Home, key: bytes) -> dict[tuple[str, int], dict[str, str]]:
    """What the home's vault knows of each step, by operation and version: reason in words, file and line."""
    if not home.vault_path.exists():
        return {}
    from taxledger.ledger.genesis import chain_id
    from taxledger.nodes.custodian.amend import record_history
    from taxledger.nodes.custodian.vault import Vault
    from taxledger.nodes.sealed.homekeys import open_key_provider

    vault = Vault.open(
        home.vault_path, open_key_provider(home), chain_id=chain_id(home.genesis()), member=home.config.number
    )
    try:
        history = record_history(vault, key)
    finally:
        vault.close()
    found = {}
    for step in history.steps if history else ():
        said = {"text": step.reason or "", "source": f"{step.file}:{step.line}" if step.file else ""}
        found[step.operation, step.version] = {name: value for name, value in said.items() if value}
    return found


def register(app: typer.Typer) -> None:
    """Add the commands on the ledger as a whole."""
    app.command()(export)
    app.command()(audit)
    group = typer.Typer(no_args_is_help=True, help="One record.")
    group.callback()(_record)
    group.command()(show)
    app.add_typer(group, name="record")


def _record() -> None:
    """One record."""
