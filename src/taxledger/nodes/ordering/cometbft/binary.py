"""The engine's program: where it is, whether it is the right one, and how it gets here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from taxledger.ledger.errors import InputError, UnavailableError

__all__ = ["ENGINE_VARIABLE", "VERSION", "check_engine", "find_engine", "install_engine", "version_of"]

VERSION = "0.39.4"
"""What every member runs: another could order the same blocks otherwise."""
PACKAGE = f"github.com/cometbft/cometbft/cmd/cometbft@v{VERSION}"
ENGINE_VARIABLE = "TAXLEDGER_ENGINE"
_PROGRAM = "cometbft"
_VERSION_S = 20.0
_INSTALL_S = 1_800.0
_HOW = (
    f"install CometBFT {VERSION}: with Go (https://go.dev/dl), `taxledger engine install`; "
    f"or set {ENGINE_VARIABLE} to its path"
)


def _beside() -> Path:
    """The folder of programs of this environment, in which ``taxledger`` lies too."""
    return Path(sys.executable).parent


def find_engine() -> Path:
    """The engine's program: as ``TAXLEDGER_ENGINE`` says, else beside the interpreter, else on ``PATH``.

    Raises:
        InputError: there is none; the message says what to install.
    """
    told = os.environ.get(ENGINE_VARIABLE)
    if told:
        path = Path(told).absolute()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise InputError(f"{ENGINE_VARIABLE}: expected a program, found none at {path}")
        return path
    own = _beside() / _PROGRAM
    if own.is_file() and os.access(own, os.X_OK):
        return own
    found = shutil.which(_PROGRAM)
    if found is None:
        raise InputError(f"the ordering engine is not installed here: {_HOW}")
    return Path(found).absolute()


def version_of(program: Path) -> str:
    """What the program says of itself.

    Raises:
        UnavailableError: it does not run.
    """
    try:
        done = subprocess.run(  # noqa: S603 — a path of this machine's own, no shell
            [str(program), "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_VERSION_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{program} does not say its version: {error}") from error
    return done.stdout.strip()


def check_engine(program: Path | None = None) -> Path:
    """The engine's program, of the one version that all members run.

    Raises:
        InputError: none, or another version.
        UnavailableError: it does not run.
    """
    program = program or find_engine()
    version = version_of(program)
    if version.removeprefix("v").partition("+")[0] != VERSION:
        raise InputError(f"{program}: expected CometBFT {VERSION}, got {version!r:.80}; {_HOW}")
    return program


def install_engine() -> Path:
    """Build the engine with Go, beside ``taxledger``; Go's own settings say where its sources come from.

    Raises:
        InputError: no Go here; the message says what to install.
        UnavailableError: the build fails.
    """
    go = shutil.which("go")
    if go is None:
        raise InputError(
            f"expected Go to build CometBFT {VERSION} with: install Go (https://go.dev/dl, or your system's "
            f"package golang-go), or put the program there yourself and set {ENGINE_VARIABLE} to its path"
        )
    folder = _beside()
    try:
        subprocess.run(  # noqa: S603 — Go, and a package that this file names
            [go, "install", PACKAGE],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=True,
            timeout=_INSTALL_S,
            env={**os.environ, "GOBIN": str(folder)},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"go install {PACKAGE} failed: {error}") from error
    return check_engine(folder / _PROGRAM)
