"""Holding a loan: one worker at a time, among threads, processes and, with PostgreSQL, machines.

The kernel (a lock on a file) or the database server (an advisory lock of the session) lets go when the holder dies:
nothing has to time out, and nobody takes a slow worker for a dead one. Holding keeps two workers from asking a port
at the same time; that nothing is done twice does not hang on it: events are compared and set, effects have keys.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taxledger.ledger.errors import UnavailableError

__all__ = ["hold_file"]


@contextmanager
def hold_file(folder: Path, name: str) -> Iterator[bool]:
    """Whether this one holds the name now, until the block ends; does not wait.

    A lock belongs to the opened file, so two threads that open it hold it against each other. Files stay: removing
    one while another opens it would give two holders.

    Raises:
        UnavailableError: the folder can't be written.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"the locks of the database of loans: {error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
