"""``taxledger attest``: every new row of an issuer's files becomes an attestation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.attestplan import Plan, make_plan
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    missing_package,
    money,
    note,
    open_home,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from taxledger.nodes.custodian.report import FileOutcome, UploadOutcome
    from taxledger.nodes.custodian.upload import Progress

__all__ = ["register", "upload_plan"]

_COUNTS = ("rows", "accepted", "amended", "duplicates", "rejected")
_TOTAL_KEYS = ("direction", "status", "currency", "count")
_REJECTIONS_SHOWN = 5


@contextmanager
def _progress_bar(files: Sequence[Path], *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr when a person looks at it: files that are read, then records that are attested."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    numbers = {str(path): number for number, path in enumerate(files, start=1)}
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, {task.fields[rows]:,} rows read"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as bars:
        task = bars.add_task("reading", total=len(files), unit="files", rows=0)

        def show(progress: Progress) -> None:
            if progress.staged:
                bars.update(
                    task, description="attesting", unit="records", total=progress.staged,
                    completed=progress.certified, rows=progress.rows,
                )  # fmt: skip
            else:
                bars.update(task, completed=numbers.get(progress.file), rows=progress.rows)

        yield show


def upload_plan(
    home_path: Path, plan: Plan, *, through: str | None = None, dry_run: bool = False, quiet: bool = False
) -> UploadOutcome:
    """Attest all files of a plan through the home's node, one upload a group.

    Raises:
        InputError: ``through`` with files of several kinds: it is said of one. As
        ``custodian.upload.Uploader.upload`` besides; what was attested by then stays, and counts as duplicates
        when it is run again.
    """
    try:
        from taxledger.nodes.cli.submitting import open_desk
        from taxledger.nodes.custodian.report import join_outcomes
        from taxledger.nodes.custodian.upload import Uploader
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error
    if through is not None and len(plan.groups) > 1:
        kinds = ", ".join(each.source.schema.name for each in plan.groups)
        raise InputError(f"--through is said of one kind; these files hold {kinds}")
    outcomes, notes = [], []
    if through is not None and plan.unknown:
        notes.append(
            f"attested through was not moved to {through}: {len(plan.unknown)} files could not be read"
        )
        through = None
    with open_desk(open_home(home_path)) as desk, _progress_bar(plan.files, quiet=quiet) as show:
        uploader = Uploader(desk.vault, desk.signer, desk.submitter, progress=show)
        for group in plan.groups:
            outcome = uploader.upload(list(group.formats), group.source, through=through, dry_run=dry_run)
            for file, name in zip(outcome.files, group.formats.values(), strict=True):
                file.format = name
            outcomes.append(outcome)
    unknown = {str(path): reason for path, reason in plan.unknown.items()}
    return join_outcomes(
        outcomes, unknown, order=[str(each) for each in plan.files], notes=notes, dry_run=dry_run
    )


def attest(
    home: HomeOption,
    files: Annotated[list[Path], typer.Argument(metavar="FILE|DIR…", exists=True, readable=True)],
    source: Annotated[
        str,
        typer.Option(
            "--source",
            metavar="auto|csv|FORMAT",
            help="The format of the files; auto tells it from each file's content; csv is also xlsx.",
        ),
    ] = "auto",
    mapping: Annotated[
        Path | None, typer.Option("--mapping", metavar="FILE", help="What the columns mean, for csv.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="S", help="Whose files these are, if they don't say.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="K", help="The kind of record, to be sure.")
    ] = None,
    side: Annotated[
        str,
        typer.Option("--side", metavar="sale|purchase", help="Invoices: the seller's record or the buyer's."),
    ] = "sale",
    dated: Annotated[
        str | None,
        typer.Option("--dated", metavar="YYYY-MM-DD", help="The day of documents that name none."),
    ] = None,
    through: Annotated[
        str | None,
        typer.Option("--through", metavar="YYYY-MM-DD", help="Everything up to this day is attested now."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Rejected rows and warnings, as CSV.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Attest every record of the files that is new; run it again to go on where it stopped.

    Example: taxledger attest --home net/tax --source auto invoices/ --report rejected.csv
    """
    plan = make_plan(files, source, mapping=mapping, subject=subject, kind=kind, side=side, dated=dated)
    outcome = upload_plan(home, plan, through=through, dry_run=dry_run, quiet=as_json)
    if report is not None:
        from taxledger.nodes.custodian.report import write_report

        write_report(report, outcome.files)
    if as_json:
        print_json(outcome.as_dict())
    else:
        print_outcome(outcome)
    if outcome.refused or not outcome.complete:
        raise typer.Exit(1)


def print_outcome(outcome: UploadOutcome) -> None:
    """Per file what became of its rows, then sums over all files, for people."""
    rows: list[Sequence[object]] = [
        (each.file, *(getattr(each, name) for name in _COUNTS), len(each.warnings)) for each in outcome.files
    ]
    if len(rows) > 1:
        warnings = sum(len(each.warnings) for each in outcome.files)
        rows.append(("all files", *(outcome.sum(name) for name in _COUNTS), warnings))
    print_table(("file", *_COUNTS, "warnings"), rows, right=range(1, 7))
    for kind, totals in _sum_totals(outcome).items():
        names = [name for name in totals[0] if name not in _TOTAL_KEYS]
        say("")
        print_table(
            (f"control totals, {kind}", "status", "currency", "count", *names),
            [
                (
                    each["direction"] or "",
                    each["status"],
                    each["currency"] or "",
                    each["count"],
                    *(money(each[name], each["currency"] or "CNY") for name in names),
                )
                for each in totals
            ],
            right=range(3, 4 + len(names)),
        )
    for each in outcome.files:
        if each.error:
            note(each.error if each.error.startswith(each.file) else f"{each.file}: {each.error}")
        _note_rejected(each)
    for operation, code in outcome.refused:
        note(f"the ledger refused an {operation} transaction: code {code} (docs/protocol.md §8)")
    for text in outcome.notes:
        note(text)
    if outcome.resumed:
        note(f"{outcome.resumed} transactions of an interrupted upload were brought to their end first")
    if outcome.through:
        say(f"attested through {outcome.through}")
    for number in outcome.batches:
        say(f"batch {number}: see taxledger batch show {number}")
    if outcome.dry_run:
        say("a dry run: nothing was attested")


def _note_rejected(file: FileOutcome) -> None:
    """The first rejected rows of a file, each with its place and reason."""
    rejected = sorted(file.rejections, key=lambda bad: bad.line)
    for bad in rejected[:_REJECTIONS_SHOWN]:
        column = f", column {bad.column}" if bad.column else ""
        note(f"{file.file}: line {bad.line}{column}: {bad.code}: expected {bad.expected}, got {bad.found!r}")
    if len(rejected) > _REJECTIONS_SHOWN:
        note(f"{file.file}: and {len(rejected) - _REJECTIONS_SHOWN:,} more rejected; --report FILE lists all")


def _sum_totals(outcome: UploadOutcome) -> dict[str, list[dict[str, Any]]]:
    """The control totals of all files by kind, then by direction, status and currency."""
    sums: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for file in outcome.files:
        for row in file.control_totals():
            key = (file.kind, row["direction"] or "", row["status"], row["currency"] or "")
            into = sums.get(key)
            sums[key] = (
                row
                if into is None
                else {
                    name: value if name in _TOTAL_KEYS and name != "count" else into[name] + value
                    for name, value in row.items()
                }
            )
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for key in sorted(sums):
        by_kind.setdefault(key[0], []).append(sums[key])
    return by_kind


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(attest)
