"""A PostgreSQL server of the tests' own: a folder of its own, a Unix socket, no port; stopped when they are through."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

_USER = "taxledger"


def server_programs() -> Path:
    """Folder of initdb and pg_ctl; skips the test where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("needs PostgreSQL: make system-deps")
    return found[-1].parent


def _command(*words: str | Path) -> list[str]:
    """The server refuses to run as root: then as the user that Debian's package makes."""
    plain = [str(each) for each in words]
    return ["runuser", "-u", "postgres", "--", *plain] if os.geteuid() == 0 else plain


def memory_folder() -> Path:
    """Where files are kept in memory, if the machine has room there: a sync costs nothing then, and for a killed
    process it is all the same. Paths are short: that of a Unix socket has at most 107 bytes.
    """
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and shutil.disk_usage(shared).free > 2**30 else Path("/tmp")


@contextmanager
def run_server() -> Iterator[str]:
    """Folder of the socket of a running server; its fsync is on, as the store demands."""
    programs = server_programs()
    folder = Path(
        tempfile.mkdtemp(prefix="taxledger-pg-", dir="/tmp")
    )  # a socket's path has at most 107 bytes
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        made = _command(
            programs / "initdb", "-D", data, "-U", _USER, "--auth=trust", "-E", "UTF8", "--locale=C"
        )
        subprocess.run(made, check=True, capture_output=True, timeout=120, cwd="/")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c shared_buffers=16MB"
        control = _command(programs / "pg_ctl", "-D", data, "-w", "-t", "60")
        # Without a file for its output the server would keep our pipe open.
        start = [*control, "-o", options, "-l", str(folder / "log"), "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/")
        try:
            yield str(folder)
        finally:
            subprocess.run(
                [*control, "-m", "immediate", "stop"],
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=120,
                cwd="/",
            )
    finally:
        shutil.rmtree(folder)


def new_database(server: str) -> str:
    """URL of an empty database: one for each process, emptied each time, which is faster than to make another.

    What used it before must be closed, or dead.
    """
    name = f"loans_{os.getpid()}"
    with psycopg.connect(host=server, user=_USER, dbname="postgres", autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(host=server, user=_USER, dbname=name, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return f"postgresql+psycopg://{_USER}@/{name}?host={server}"
