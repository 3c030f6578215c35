"""A node that must not go on stops for good: ``halted.json`` in its home says why, until somebody has acted on it.

Written when more validators contradict this node's log than can lie, or when its store is damaged. While the file
is there the node does not start and the supervisor does not try again. State sync removes it with the state it
was about; ``taxledger network start --clear`` removes it where the cause was something else.

Needs the standard library alone.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from taxledger.nodes.home import place_file

__all__ = ["HALTED_EXIT_STATUS", "clear_halt", "read_halt", "write_halt"]

HALTED_EXIT_STATUS = 71
"""Of a node that stopped for such a reason, or finds that it did."""

_NAME = "halted.json"
_BYTES_MAX = 65_536
_ADVICE = (
    "Keep a copy of the home for whoever looks for the cause, see what is wrong with `taxledger ledger check "
    "--home DIR`, then fetch the state anew from the others (docs/operating.md, a node that halted)."
)


def write_halt(home: Path, reason: str) -> str:
    """Make the reason durable; the first one stays. Returns what stands there."""
    found = read_halt(home)
    if found is not None:
        return found
    text = f"{reason}. {_ADVICE}"
    document = {"reason": text, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    place_file(home / _NAME, json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
    return text


def read_halt(home: Path) -> str | None:
    """Why the node of this home halted, or None. What can't be read halts, too."""
    path = home / _NAME
    try:
        data = path.read_bytes()[:_BYTES_MAX]
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path}: cannot read it: {error.strerror}"
    try:
        document = json.loads(data)
        return f"{document['reason']} (since {document['at']})"
    except (ValueError, KeyError, TypeError):
        return f"{path} says so, and cannot be read"


def clear_halt(home: Path) -> bool:
    """Let the node start again; whether there was anything to clear."""
    try:
        (home / _NAME).unlink()
    except FileNotFoundError:
        return False
    return True
