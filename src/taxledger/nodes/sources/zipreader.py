"""Zip archives to the bytes of their members: the one reader for every source whose files are zip.

Sizes that an archive states are not believed: each member is read to its limit at most, and packing is undone only for
members that a source asks for.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from taxledger.ledger.errors import FormatError

__all__ = ["MEMBERS_MAX", "ZIP_BYTES_MAX", "Archive"]

MEMBERS_MAX = 10_000
ZIP_BYTES_MAX = 64 * 1024 * 1024
"""Local: of a whole archive, packed."""

_BROKEN = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises for damaged, encrypted and oddly packed archives."""


class Archive:
    """An archive that is open for reading; use as a context.

    Attributes:
        names: of its members, in order.
    """

    def __init__(self, path: Path) -> None:
        """Raises FormatError when it is no readable archive, or one beyond a limit; names the file."""
        self._path = path
        try:
            if path.stat().st_size > ZIP_BYTES_MAX:
                raise FormatError(
                    f"{path}: expected at most {ZIP_BYTES_MAX:,} bytes of zip archive, got more"
                )
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise FormatError(f"{path}: not a readable zip archive: {error}") from error
        self.names = self._zip.namelist()
        if len(self.names) > MEMBERS_MAX:
            self._zip.close()
            raise FormatError(f"{path}: expected at most {MEMBERS_MAX:,} members of a zip archive, got more")

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, bytes_max: int) -> bytes:
        """The bytes of a member, unpacked.

        Raises:
            FormatError: it is not there, stands there twice, is damaged, or larger.
        """
        if self.names.count(name) != 1:
            raise FormatError(
                f"{self._path}: expected a member {name!r:.80} once, got {self.names.count(name)}"
            )
        try:
            with self._zip.open(name) as member:
                data = member.read(bytes_max + 1)
        except _BROKEN as error:
            raise FormatError(f"{self._path}: member {name!r:.80} can't be read: {error}") from error
        if len(data) > bytes_max:
            raise FormatError(f"{self._path}: expected at most {bytes_max:,} bytes of {name!r:.80}, got more")
        return data
