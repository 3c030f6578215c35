"""What commands share: answers on stdout, everything else on stderr, and options that several of them have.

An answer is text for people, or with ``--json`` one JSON document and nothing else.
"""

from __future__ import annotations

import datetime
import json
import re
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError, UnavailableError
from taxledger.nodes.sources.currencies import MINOR_DIGITS

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.nodes.home import Home

__all__ = [
    "HomeOption",
    "JsonOption",
    "check_writable",
    "connect",
    "missing_package",
    "money",
    "note",
    "open_home",
    "parse_age",
    "parse_instant",
    "print_json",
    "print_table",
    "read_file",
    "say",
    "write_file",
]

HomeOption = Annotated[
    Path, typer.Option("--home", help="A member's home, like net/bank1.", metavar="DIR", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]

_AGE = re.compile(r"([0-9]{1,6})(ms|s|m|h|d)")
_AGE_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


_UNSHOWN = dict.fromkeys(
    [*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)],
    "\ufffd",
)
"""What could move the cursor or turn text around: an issuer's texts are shown, not obeyed."""


def plain(text: str) -> str:
    """The text with a replacement character for each that a terminal would obey; line feeds stay."""
    return text.translate(_UNSHOWN)


def say(text: str) -> None:
    """A line of the answer."""
    print(plain(text))


def note(text: str) -> None:
    """A line for the person at the terminal; never part of the answer."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON document; bytes as lower-case hex."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_as_json))


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> None:
    """Aligned columns without frames, ready to be copied; ``right`` names the columns of numbers."""
    from rich.cells import cell_len  # Chinese text is two columns wide

    cells = [[str(each) for each in row] for row in (head, *rows)]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(head))]
    numbers = set(right)
    for row in cells:
        parts = []
        for column, (text, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - cell_len(text))
            parts.append(blanks + text if column in numbers else text + blanks)
        print(plain("  ".join(parts).rstrip()).replace("\n", "\ufffd"))


def money(minor: int, currency: str = "CNY") -> str:
    """Minor units with thousands separated: ``-1,234.50``."""
    digits = MINOR_DIGITS.get(currency, 2)
    sign, whole = "-" if minor < 0 else "", abs(minor)
    if not digits:
        return f"{sign}{whole:,}"
    return f"{sign}{whole // 10**digits:,}.{whole % 10**digits:0{digits}d}"


def parse_age(text: str) -> int:
    """Milliseconds of an age like ``10m``, ``90s``, ``24h``. Raises InputError."""
    match = _AGE.fullmatch(text)
    if not match:
        raise InputError(f"expected an age like 90s, 10m, 24h or 7d, got {text!r}")
    return int(match[1]) * _AGE_MS[match[2]]


def parse_instant(text: str) -> int:
    """Milliseconds since 1970, given so or as an ISO 8601 instant with a time zone. Raises InputError."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    try:
        instant = datetime.datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InputError(
            f"expected an instant like 2026-03-01T09:00:00Z or milliseconds since 1970, got {text!r}"
        )
    return int(instant.timestamp() * 1_000)


def check_writable(path: Path) -> None:
    """Raise UnavailableError where ``write_file`` would: before something is asked for that can be asked for once."""
    import tempfile

    if path.is_dir():
        raise UnavailableError(f"{path}: cannot write it: expected a file, got a folder")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UnavailableError(f"{path}: cannot write it: {error.strerror}") from error


def write_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Put a file in place as a whole, or not at all; it is on the disk when this returns.

    Args:
        path: where; a file there is replaced.
        data: its content.
        private: it names an enterprise or shows its records, so nobody else on the machine may read it.

    Raises:
        UnavailableError: the folder can't be written.
    """
    import os
    import tempfile

    try:
        descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(fresh).chmod(0o600 if private else 0o644)
            Path(fresh).replace(path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UnavailableError(f"{path}: cannot write it: {error.strerror}") from error


def read_file(path: Path, *, bytes_max: int) -> bytes:
    """The content of a file of bounded size. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error
    if len(data) > bytes_max:
        raise InputError(f"{path}: expected at most {bytes_max} bytes")
    return data


def open_home(path: Path) -> Home:
    """The home at ``path``; when it is a network folder, says which homes are in it."""
    from taxledger.nodes.home import Home

    if not (path / "node.toml").exists():
        homes = sorted(each.parent.name for each in path.glob("*/node.toml")) if path.is_dir() else []
        if homes:
            raise InputError(f"{path} is a network folder; expected one of its homes: {', '.join(homes)}")
    return Home(path)


def connect(home: Home) -> Client:
    """A client of this home's own node, that verifies under this home's policy.

    Raises:
        UnavailableError: the node does not run.
    """
    from taxledger.api.client import Client
    from taxledger.ledger.policy import decode_policy
    from taxledger.nodes.homeconfig import host_port

    access = home.client()
    try:
        # Once, at the start: a node that does not run is said at once; one that restarts later is waited for.
        socket.create_connection(host_port(access.url), timeout=5).close()
    except OSError as error:
        raise UnavailableError(
            f"the node of {home.config.name} does not answer at {access.url}: does the network run?"
        ) from error
    ca = Path(access.ca) if access.ca else None
    return Client(access.url, access.key, decode_policy(home.policy()), ca=ca)


def missing_package(package: str | None) -> UnavailableError:
    """The error to raise when a command needs a package that is not installed."""
    return UnavailableError(f"this command needs {package}: pip install 'taxledger[node]' installs it")
