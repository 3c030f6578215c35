"""``taxledger attest``: every new row of an issuer's files becomes an attestation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError
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
    from taxledger.nodes.sources.rows import Source

__all__ = ["open_source", "register", "upload_files"]

_COUNTS = ("rows", "accepted", "amended", "duplicates", "rejected")
_SOURCES = ("cumcm", "csv")
_REJECTIONS_SHOWN = 5


def open_source(source: str, *, mapping: Path | None, subject: str | None, kind: str | None) -> Source:
    """The source of these options. Raises InputError."""
    from taxledger.ledger.records import parse_subject
    from taxledger.ledger.schemas import kind_name, parse_kind
    from taxledger.nodes.sources.cumcm import CumcmSource
    from taxledger.nodes.sources.mapping import load_mapping
    from taxledger.nodes.sources.tabular import TableSource

    chosen = parse_subject(subject) if subject is not None else None
    if source not in _SOURCES:
        raise InputError(f"expected --source {' or '.join(_SOURCES)}, got {source!r}")
    opened: Source
    if source == "cumcm":
        if mapping is not None:
            raise InputError("--mapping is for --source csv; the columns of cumcm files are known")
        opened = CumcmSource(chosen)
    else:
        if mapping is None:
            raise InputError("--source csv needs --mapping FILE, which says what the columns mean")
        opened = TableSource(load_mapping(mapping), chosen)
    if kind is not None and parse_kind(kind) != opened.schema.kind:
        raise InputError(f"--kind {kind}: these files hold {kind_name(opened.schema.kind)}")
    return opened


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


def upload_files(
    home_path: Path,
    source: Source,
    files: Sequence[Path],
    *,
    through: str | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> UploadOutcome:
    """Attest files through the home's node; see ``custodian.upload.Uploader.upload`` for the errors."""
    try:
        from taxledger.nodes.cli.submitting import open_desk
        from taxledger.nodes.custodian.upload import Uploader
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error
    with open_desk(open_home(home_path)) as desk, _progress_bar(files, quiet=quiet) as show:
        uploader = Uploader(desk.vault, desk.signer, desk.submitter, progress=show)
        return uploader.upload(files, source, through=through, dry_run=dry_run)


def attest(
    home: HomeOption,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", exists=True, dir_okay=False, readable=True)],
    source: Annotated[
        str, typer.Option("--source", metavar="cumcm|csv", help="The form of the files; csv is also xlsx.")
    ],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", metavar="FILE", help="What the columns mean, for csv.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="S", help="Whose files these are, if they don't say.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="K", help="The kind of record, to be sure.")
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
    """Attest every row of the files that is new; run it again to go on where it stopped.

    Example: taxledger attest --home net/tax --source cumcm f1_input/*.csv.gz --report rejected.csv
    """
    opened = open_source(source, mapping=mapping, subject=subject, kind=kind)
    outcome = upload_files(home, opened, files, through=through, dry_run=dry_run, quiet=as_json)
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
    totals = _sum_totals(outcome)
    if totals:
        names = [name for name in totals[0] if name not in ("direction", "status", "count")]
        say("")
        print_table(
            ("control totals", "status", "count", *names),
            [
                (
                    each["direction"] or "",
                    each["status"],
                    each["count"],
                    *(money(each[name]) for name in names),
                )
                for each in totals
            ],
            right=range(2, 3 + len(names)),
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


def _sum_totals(outcome: UploadOutcome) -> list[dict[str, Any]]:
    """The control totals of all files, by direction and status."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for file in outcome.files:
        for row in file.control_totals():
            key = (row["direction"] or "", row["status"])
            into = sums.get(key)
            sums[key] = (
                row
                if into is None
                else {
                    name: value if name in ("direction", "status") else into[name] + value
                    for name, value in row.items()
                }
            )
    return [sums[key] for key in sorted(sums)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(attest)
