"""Runs a member's ordering engine: ``python -m taxledger.nodes.ordering.cometbft.run --home DIR``.

Writes the engine's files, waits until the node listens (the engine itself would look again only every three
seconds), and becomes the engine. It ends by itself when its node ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from taxledger.ledger.errors import InputError, TaxledgerError
from taxledger.nodes.home import Home
from taxledger.nodes.local.control import socket_address
from taxledger.nodes.local.lifeline import bind_to_parent
from taxledger.nodes.ordering.cometbft.binary import check_engine
from taxledger.nodes.ordering.cometbft.files import check_config, prepare_engine

__all__ = ["main", "run_engine"]

_LOOK_S = 0.05
_THROWAWAY = (
    "this engine signs nothing: the state of the vote key (engine/data/priv_validator_state.json) is not here, "
    "and the key is not new"
)


def _listens(path: Path) -> bool:
    """Whether the node takes connections at its socket."""
    with socket.socket(socket.AF_UNIX) as channel, contextlib.suppress(OSError):
        with socket_address(path) as address:
            channel.connect(address)
        return True
    return False


def run_engine(home: Home) -> NoReturn:
    """Become the engine of this home, once its node listens; never returns.

    Raises:
        InputError: the program is missing or another, or the home has no such engine.
        UnavailableError: a file can't be written, or the program does not run.
    """
    check_config(home.config)  # before the wait, which would have no end
    program = check_engine()
    socket_path = home.engine_folder / "abci.sock"
    while not _listens(socket_path):
        time.sleep(_LOOK_S)
    prepared = prepare_engine(home)
    if home.config.role == "validator" and not prepared.votes:
        print(_THROWAWAY, file=sys.stderr, flush=True)
    os.chdir(prepared.folder)
    # What it writes is for its owner alone, its socket too.
    os.umask(0o077)
    os.execv(program, [str(program), "start", "--home", str(prepared.folder)])  # noqa: S606 — no shell


def main(arguments: list[str] | None = None) -> int:
    """Returns only on failure: the exit status."""
    parser = argparse.ArgumentParser(
        prog="taxledger.nodes.ordering.cometbft.run", description="Run one member's ordering engine."
    )
    parser.add_argument("--home", type=Path, required=True, help="the member's home folder")
    options = parser.parse_args(arguments)
    bind_to_parent()
    try:
        run_engine(Home(options.home))
    except InputError as error:
        print(f"taxledger: {error}", file=sys.stderr)
        return 2
    except (TaxledgerError, OSError) as error:
        print(f"taxledger: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
