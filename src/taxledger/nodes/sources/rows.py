"""What every source yields: rows that fit a schema, and rows that do not, with the reason in two languages.

Invariant: a source yields exactly one item for each row of data of a file, in order, so that accepted +
amended + duplicates + rejected = rows read. It raises FormatError only where it can't go on at all.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, Protocol, cast, runtime_checkable

from taxledger.ledger.errors import FormatError
from taxledger.ledger.schemas import Row, Schema, Value

__all__ = [
    "BadRow",
    "CellError",
    "Correction",
    "DatedSource",
    "Item",
    "PreparedSource",
    "RowChange",
    "Source",
    "SourceRow",
    "open_binary",
    "open_text",
]

_GZIP_MAGIC = b"\x1f\x8b"

Correction = Callable[[Row], Row | None]
"""Given the fields that stand under a row's identity, what they become with the row; None: it does not replace
them. Raises CellError: it does not, for that reason."""


class SourceRow(NamedTuple):
    """One record as a file states it.

    Attributes:
        line: of the file, from 1 (the row's number in a sheet).
        subject: in its one form, like ``cumcm:E14``.
        status: 1 valid, 2 voided, 3 reversed (docs/protocol.md §5).
        values: one value per field of the source's schema; they fit it.
        corrects: asked where other fields stand under the row's identity; None: the row never replaces any.
    """

    line: int
    subject: str
    status: int
    values: Row
    corrects: Correction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """What a file says of a record that it does not state in full: an amendment of some fields, or a cancellation.

    Attributes:
        line: of the file, from 1.
        subject: whose record it is.
        identity: the fields that make the record unique, by name.
        fields: new values by name; the others stay.
        status: the new one, or None to keep it.
    """

    line: int
    subject: str
    identity: Mapping[str, Value]
    fields: Mapping[str, Value] = field(default_factory=dict)
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """One row that can't be a record.

    Attributes:
        line: of the file, from 1.
        code: the reason as one word, like ``money_malformed``.
        column: the file's own name of the column, or "" where it is about the row.
        found: what stands there, cut to 80 characters.
        expected: what should, in English; ``expected_zh`` in Chinese.
    """

    line: int
    code: str
    column: str
    found: str
    expected: str
    expected_zh: str


class CellError(Exception):
    """A cell does not hold what its column should; always caught by the source and made a BadRow."""

    def __init__(self, code: str, expected: str, expected_zh: str) -> None:
        super().__init__(expected)
        self.code = code
        self.expected = expected
        self.expected_zh = expected_zh

    def row(self, line: int, column: str, found: str) -> BadRow:
        """This error at its place in a file."""
        shown = found.encode("utf-8", "replace").decode()[:80]
        return BadRow(
            line=line,
            code=self.code,
            column=column,
            found=shown,
            expected=self.expected,
            expected_zh=self.expected_zh,
        )


Item = SourceRow | RowChange | BadRow
"""What becomes of one row of data."""


class Source(Protocol):
    """Reads the files of one form.

    Attributes:
        schema: of the records it yields.
    """

    @property
    def schema(self) -> Schema: ...

    def rows(self, path: Path) -> Iterator[Item]:
        """Every row of data of the file.

        Raises:
            FormatError: the file can't be read, is of another form, or is cut.
        """


@runtime_checkable
class PreparedSource(Source, Protocol):
    """A source whose files speak about one another, so that it looks at all of them first."""

    def prepare(self, paths: Sequence[Path]) -> Sequence[Path]:
        """All files of an upload, each once, in the order in which they are to be read. Raises nothing: a file
        that can't be read says so when its rows are asked for.
        """


@runtime_checkable
class DatedSource(Source, Protocol):
    """A source whose files state what is known on a day of their own.

    Attributes:
        through_max: ``YYYY-MM-DD`` after which the files read so far say nothing, or None. With them nothing can be
            attested through a later day.
    """

    @property
    def through_max(self) -> str | None: ...


def open_binary(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked when it is gzip.

    Raises:
        FormatError: it can't be opened.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
        return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")
    except OSError as error:
        raise FormatError(f"{path}: can't be read: {error.strerror or error}") from error


def open_text(path: Path, encoding: str = "utf-8") -> io.TextIOWrapper:
    """The text of a file, without a byte order mark.

    Bytes that are not of the encoding become lone surrogates: one bad cell costs one row, not the file.
    """
    form = "utf-8-sig" if encoding == "utf-8" else encoding
    return io.TextIOWrapper(open_binary(path), encoding=form, errors="surrogateescape", newline="")
