"""Every format that is known, and which of them a file is of: told from its content, never from its name.

A source of another publisher is one line in ``FORMATS``; its module has a ``Format``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.schemas import Schema
from taxledger.nodes.sources import (
    cfdi,
    cii,
    cn_einvoice,
    cumcm,
    cumcm_derived,
    eforms,
    greenbutton,
    hmrc_customs,
    hmrc_vat,
    kr_customs,
    mx69b,
    nav,
    no_mva,
    ocds,
    ofd,
    sbd,
    ted,
    toronto,
    ubl,
    vefa,
)
from taxledger.nodes.sources.formats import Format, Look, SourceOptions, look_at
from taxledger.nodes.sources.rows import DatedSource, Item, PreparedSource, Source

__all__ = ["FORMATS", "DocumentSource", "Sorted", "detect", "sort_files"]

FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        cumcm.FORMAT,
        ubl.FORMAT,
        cii.FORMAT,
        vefa.FORMAT,
        sbd.FORMAT,
        cfdi.FORMAT,
        nav.FORMAT,
        cn_einvoice.FORMAT,
        ofd.FORMAT,
        ted.FORMAT,
        eforms.FORMAT,
        ocds.FORMAT,
        toronto.FORMAT,
        no_mva.FORMAT,
        hmrc_vat.FORMAT,
        mx69b.FORMAT,
        hmrc_customs.FORMAT,
        kr_customs.FORMAT,
        greenbutton.FORMAT,
        cumcm_derived.FILINGS,
        cumcm_derived.GRADES,
    )
}  # fmt: skip
"""By name, as ``--source`` takes it."""


def match(look: Look) -> Format:
    """The one format that a file of this look is of.

    Raises:
        FormatError: there is none, or there are several.
    """
    found = [each for each in FORMATS.values() if each.looks is not None and each.looks(look)]
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise FormatError(
            f"expected a file of one format, got one that may be any of {names}; say --source NAME"
        )
    if not found:
        known = ", ".join(name for name, each in FORMATS.items() if each.looks is not None)
        raise FormatError(f"expected a file of a known format ({known}), got {look}")
    return found[0]


def detect(path: Path) -> str:
    """The name of the format of a file. Raises FormatError, which names the file."""
    look = look_at(path)
    try:
        return match(look).name
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


class DocumentSource:
    """Files of several formats, all of one schema, as one source.

    Attributes:
        schema: of the records.
        formats: the name of the format by file, in the order in which the files are to be read.
    """

    def __init__(self, schema: Schema, formats: Mapping[Path, str], options: SourceOptions) -> None:
        """``formats``: the name of the format of every file that will be read."""
        self.schema = schema
        self._opened: dict[str, Source] = {
            name: FORMATS[name].open(options) for name in dict.fromkeys(formats.values())
        }
        self.formats: dict[Path, str] = {}
        for name, source in self._opened.items():
            paths: Sequence[Path] = [path for path, format_ in formats.items() if format_ == name]
            if isinstance(source, PreparedSource):
                paths = source.prepare(paths)
            self.formats.update(dict.fromkeys(paths, name))

    def rows(self, path: Path) -> Iterator[Item]:
        """Every row of the file by the source of its format. Raises FormatError."""
        return self._opened[self.formats[path]].rows(path)

    @property
    def through_max(self) -> str | None:
        """The earliest of its sources: see ``rows.DatedSource``."""
        days = [each.through_max for each in self._opened.values() if isinstance(each, DatedSource)]
        return min((day for day in days if day is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Files by what becomes of them.

    Attributes:
        groups: (schema, name of the format by file), one for each schema, in the order of its first file.
        unknown: reason by file.
    """

    groups: Sequence[tuple[Schema, Mapping[Path, str]]] = field(default_factory=list)
    unknown: Mapping[Path, str] = field(default_factory=dict)


def sort_files(paths: Sequence[Path], source: str = "auto") -> Sorted:
    """Files by schema and format; an unreadable or unknown one is put aside with the reason.

    Args:
        paths: files, each once.
        source: ``auto``, or the name of the format of all of them.

    Raises:
        InputError: no such format.
    """
    if source != "auto" and source not in FORMATS:
        raise InputError(f"expected a source of auto, {', '.join(FORMATS)}, got {source!r:.40}")
    groups: dict[tuple[int, int], tuple[Schema, dict[Path, str]]] = {}
    unknown: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        try:
            name = detect(path) if source == "auto" else source
        except FormatError as error:
            unknown[path] = str(error)
            continue
        schema = FORMATS[name].schema
        groups.setdefault((schema.kind, schema.number), (schema, {}))[1][path] = name
    return Sorted(groups=list(groups.values()), unknown=unknown)
