"""The real supervisor in the foreground, keeping ``faulty_node.py`` running instead of the plain node.

    python tests/e2e/supervise.py DIR     one byte on standard output: it listens; it ends with its parent

Pauses between restarts are short: a test that kills often would spend its time waiting.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from pathlib import Path

from taxledger.nodes.local import supervisor
from taxledger.nodes.local.control import LOCK_NAME
from taxledger.nodes.local.lifeline import bind_to_parent


def main() -> int:
    directory = Path(sys.argv[1])
    bind_to_parent()
    supervisor._PAUSE_S_MAX = 0.2
    ready = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    command = (sys.executable, str(Path(__file__).with_name("faulty_node.py")))
    with (directory / LOCK_NAME).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        asyncio.run(supervisor.Supervisor(directory, command=command).run(ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
