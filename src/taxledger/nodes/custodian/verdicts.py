"""What was said of every row of an upload, until the ledger has answered for it.

The ledger answers after the last file is read, and a refusal takes verdicts back. They wait in a temporary
file, because an upload may have any number of rows; sealed, because together they tell which tags stand in
one file; under a key that is gone with the process.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence

from taxledger.ledger.errors import UnavailableError
from taxledger.nodes.custodian.changeset import ACCEPTED, AMENDED, DUPLICATE
from taxledger.nodes.sealed.sealing import Sealer, new_key

__all__ = ["Verdicts"]

_ROW = struct.Struct(">IQB37s")
_NAMES = (ACCEPTED, AMENDED, DUPLICATE)
_NUMBER = {name: number for number, name in enumerate(_NAMES)}
_TABLE = b"verdicts"

Row = tuple[int, int, bytes, str]
"""(number of the file, line, record key, verdict)."""


class Verdicts:
    """Rows that are written once, and read again if something is refused."""

    def __init__(self) -> None:
        """Raises UnavailableError when there can be no temporary file."""
        self._sealer = Sealer(new_key())
        self._sizes: list[int] = []
        try:
            self._file = tempfile.TemporaryFile(prefix="taxledger-")  # noqa: SIM115
        except OSError as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """The file is gone afterwards; safe to repeat."""
        self._file.close()

    def add(self, rows: Sequence[Row]) -> None:
        """Appends the rows of one batch."""
        pack, number = _ROW.pack, _NUMBER
        content = b"".join([pack(file, line, number[verdict], key) for file, line, key, verdict in rows])
        sealed = self._sealer.seal(_TABLE, b"", len(self._sizes), content)
        try:
            self._file.write(sealed)
        except OSError as error:
            raise _unavailable(error) from error
        self._sizes.append(len(sealed))

    def __iter__(self) -> Iterator[Row]:
        """All rows, in the order in which they came."""
        try:
            self._file.seek(0)
            for number, size in enumerate(self._sizes):
                content = self._sealer.open(_TABLE, b"", number, self._file.read(size))
                for file, line, verdict, key in _ROW.iter_unpack(content):
                    yield file, line, key, _NAMES[verdict]
        except OSError as error:
            raise _unavailable(error) from error


def _unavailable(error: OSError) -> UnavailableError:
    return UnavailableError(f"temporary file of the upload: {error.strerror or error}")
