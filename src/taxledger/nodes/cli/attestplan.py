"""Which files an upload reads, and as what: folders to files, formats told from content, one group a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.output import missing_package

if TYPE_CHECKING:
    from taxledger.nodes.sources.rows import Source

__all__ = ["SIDES", "Group", "Plan", "make_plan"]

SIDES = ("sale", "purchase")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files that go in one upload.

    Attributes:
        source: reads them all.
        formats: name of the format by file.
    """

    source: Source
    formats: Mapping[Path, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of all files.

    Attributes:
        files: in the order they are shown.
        groups: one for each schema.
        unknown: reason by file, of those that can't be read or are of no known format.
    """

    files: Sequence[Path]
    groups: Sequence[Group]
    unknown: Mapping[Path, str]


def make_plan(
    paths: Sequence[Path],
    source: str,
    *,
    mapping: Path | None = None,
    subject: str | None = None,
    kind: str | None = None,
    side: str = "sale",
    dated: str | None = None,
) -> Plan:
    """What to do with files and folders.

    Args:
        paths: files; a folder stands for all files below it, sorted, without hidden ones.
        source: ``auto``, ``csv`` with a ``mapping``, or the name of a format.
        subject: whose records are wanted; see ``sources.formats.SourceOptions``, also for ``side`` and ``dated``.
        kind: what all of them must be, by name.

    Raises:
        InputError: the options contradict each other or the files, or a folder holds no file.
        UnavailableError: a package that sources need is not installed.
    """
    from taxledger.ledger.records import parse_subject
    from taxledger.ledger.schemas import is_date, kind_name, parse_kind

    try:
        from taxledger.nodes.sources.documents import FORMATS, DocumentSource, sort_files
        from taxledger.nodes.sources.formats import SourceOptions
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from error

    if source not in ("auto", "csv", *FORMATS):
        raise InputError(f"expected --source auto, csv or one of {', '.join(FORMATS)}; got {source!r:.40}")
    if side not in SIDES:
        raise InputError(f"expected --side {' or '.join(SIDES)}, got {side!r:.40}")
    if dated is not None and not is_date(dated):
        raise InputError(f"expected --dated YYYY-MM-DD, got {dated!r:.40}")
    files = _expand(paths)
    groups: list[Group] = []
    unknown: Mapping[Path, str] = {}
    if source == "csv":
        groups.append(Group(source=_table(mapping, subject), formats=dict.fromkeys(files, "csv")))
    elif mapping is not None:
        raise InputError(f"--mapping is for --source csv; what {source} files mean is known")
    else:
        options = SourceOptions(
            subject=parse_subject(subject) if subject is not None else None, side=side, dated=dated
        )
        sorted_ = sort_files(files, source)
        unknown = sorted_.unknown
        opened = [DocumentSource(schema, formats, options) for schema, formats in sorted_.groups]
        groups += (Group(source=each, formats=each.formats) for each in opened)
    for each in groups:
        if kind is not None and parse_kind(kind) != each.source.schema.kind:
            raise InputError(
                f"--kind {kind}: {next(iter(each.formats))} holds {kind_name(each.source.schema.kind)}"
            )
    return Plan(files=files, groups=groups, unknown=unknown)


def _table(mapping: Path | None, subject: str | None) -> Source:
    from taxledger.ledger.records import parse_subject
    from taxledger.nodes.sources.mapping import load_mapping
    from taxledger.nodes.sources.tabular import TableSource

    if mapping is None:
        raise InputError("--source csv needs --mapping FILE, which says what the columns mean")
    return TableSource(load_mapping(mapping), parse_subject(subject) if subject is not None else None)


def _expand(paths: Sequence[Path]) -> list[Path]:
    files: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            files[path] = None
            continue
        below = sorted(
            each
            for each in path.rglob("*")
            if each.is_file() and not any(part.startswith(".") for part in each.relative_to(path).parts)
        )
        if not below:
            raise InputError(f"{path}: expected files in the folder, got none")
        files.update(dict.fromkeys(below))
    return list(files)
