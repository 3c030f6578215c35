"""Ties a process to the one that started it, and finds again what a killed supervisor left behind.

Where the kernel can (Linux), a node asks to be told by SIGTERM when its supervisor dies, however it dies, and
then stops as for any SIGTERM. Elsewhere the pid file of the supervisor names the nodes, and the next start or
stop ends them: a process is only ever ended when its command line shows it is the node of that home.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["PARENT_VARIABLE", "bind_to_parent", "end_leftovers", "end_process", "is_node_of"]

PARENT_VARIABLE = "TAXLEDGER_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1


def bind_to_parent() -> None:
    """Have the kernel send this process SIGTERM when its supervisor dies. Without a supervisor: nothing."""
    supervisor = os.environ.get(PARENT_VARIABLE)
    if supervisor is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if str(os.getppid()) != supervisor:  # it died before the kernel knew of our wish
        os.kill(os.getpid(), signal.SIGTERM)


def _command_line(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        try:
            return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            return ""
    listed = subprocess.run(  # noqa: S603 — no shell, a number as argument
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return listed.stdout


def is_node_of(pid: int, home: Path) -> bool:
    """Whether this process runs now and is the taxledger node of this home, or its ordering engine."""
    line = _command_line(pid)
    ours = ("taxledger.nodes.node", "taxledger.nodes.ordering.cometbft.run", f"start --home {home}/engine")
    return any(each in line for each in ours) and str(home) in line


def end_process(pid: int, home: Path, *, patience_s: float = 10.0) -> None:
    """End a node that is not our child: ask with SIGTERM, then SIGKILL; returns when it is gone."""
    for number, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        if not is_node_of(pid, home):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        end = time.monotonic() + patience
        while is_node_of(pid, home) and time.monotonic() < end:
            time.sleep(0.05)


def end_leftovers(pid_file: Path, *, home: Path | None = None) -> int:
    """End the processes that a killed supervisor left behind, all or those of one home; how many were running.

    The caller holds the supervisor's lock.
    """
    try:
        said = json.loads(pid_file.read_bytes())
        noted = [*said.get("engines", {}).items(), *said["nodes"].items()]  # an engine before its node
        processes = [(Path(path), int(pid)) for path, pid in noted]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
    running = [(path, pid) for path, pid in processes if home in (None, path) and is_node_of(pid, path)]
    for path, pid in running:
        end_process(pid, path)
    return len(running)
