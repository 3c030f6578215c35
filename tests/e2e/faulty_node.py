"""A node for tests: the real one, but it writes down whatever it signs, and dies where it is told to.

    python tests/e2e/faulty_node.py --home DIR

``DIR/signed.bin``: every message signed, ``public key 32 | length 4 | message``, appended *before* the signature
exists. What another node may have seen therefore stands there, whenever the process is killed.

``DIR/fault.json``: ``{"kind": "any" | "vote" | "commit" | "certify", "number": n, "when": "before" | "after"}``:
SIGKILL before or after the n-th write of that kind to the store. Read once at the start and removed, so the next
start is a healthy one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from taxledger.ledger.crypto import Signer
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.store import Batch
from taxledger.nodes import node

SIGNED_NAME, FAULT_NAME = "signed.bin", "fault.json"


def kind_of(batch: Batch) -> str:
    """What a write is, told by its keys (the layout is in ``ledger/chain.py``)."""
    if b"F" in batch:
        return "begin" if b"H" in batch else "certify"
    if b"H" in batch:
        return "commit"
    return "vote" if any(key[:1] == b"V" for key in batch) else "refresh"


def witness(home: Path) -> None:
    """Write down every message before it is signed."""
    journal = os.open(home / SIGNED_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sign = Signer.sign

    def witnessed(self: Signer, message: bytes) -> bytes:
        os.write(journal, self.public_key + len(message).to_bytes(4, "big") + message)
        return sign(self, message)

    Signer.sign = witnessed  # type: ignore[method-assign]


def inject(home: Path) -> None:
    """Arm the fault that lies in the home, if there is one."""
    path = home / FAULT_NAME
    if not path.exists():
        return
    fault = json.loads(path.read_text())
    path.unlink()
    write = LevelStore.write
    seen = 0

    def faulty(self: LevelStore, batch: Batch, *, sync: bool = True) -> None:
        nonlocal seen
        seen += fault["kind"] in ("any", kind_of(batch))
        due = seen == fault["number"] and fault["kind"] in ("any", kind_of(batch))
        if due and fault["when"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, batch, sync=sync)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)

    LevelStore.write = faulty  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home
    witness(home)
    inject(home)
    return node.main()


if __name__ == "__main__":
    sys.exit(main())
