"""A node for tests: the real one, but it writes down whatever it signs, and dies where it is told to.

    python tests/e2e/faulty_node.py --home DIR

``DIR/signed.bin``: every message signed, ``public key 32 | length 4 | message``, appended *before* the signature
exists. What another node may have seen therefore stands there, whenever the process is killed.

``DIR/fault.json``: ``{"kind": "any" | "vote" | "engine" | "commit" | "certify", "number": n, "when": …}``: SIGKILL
"before" or "after" the n-th write of that kind to the store. Read once at the start and removed, so the next start is
a healthy one. Other kinds name a step of a disclosure: ``STEPS``; ``answer.…`` is a peer's question that is answered,
and dies before the answer leaves. ``malicious``: it doesn't die, it lies (``malicious.py``).

``DIR/left.jsonl``: every piece of a disclosure that is about to leave, and whether its use is certified here then.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from malicious import lie

from taxledger.ledger.consentstate import use_of
from taxledger.ledger.crypto import Signer
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.store import Batch
from taxledger.nodes import node
from taxledger.nodes.custodian.custody import CustodyBook
from taxledger.nodes.custodian.disclosing import Discloser
from taxledger.nodes.own import StoredTransactions
from taxledger.nodes.recipient.store import ReceivedStore

SIGNED_NAME, FAULT_NAME, LEFT_NAME = "signed.bin", "fault.json", "left.jsonl"

STEPS: dict[str, tuple[type, str]] = {
    "custody.plan": (CustodyBook, "plan"),
    "custody.leaves": (CustodyBook, "leaves"),
    "custody.close": (CustodyBook, "close"),
    "sent.settle": (StoredTransactions, "_settle"),
    "received.keep": (ReceivedStore, "keep"),
    "answer.disclose": (Discloser, "on_disclose"),
    "answer.piece": (Discloser, "on_piece"),
}
"""Where a node can be killed in a disclosure: the durable commits of both sides, and the custodian's answers."""


def kind_of(batch: Batch) -> str:
    """What a write is, told by its keys (the layout is in ``ledger/chain.py``)."""
    if b"F" in batch:
        return "begin" if b"H" in batch else "certify"
    if b"H" in batch:
        return "commit"
    if b"E" in batch:
        return "engine"
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
    if fault["kind"] == "malicious":
        lie()
        return
    if fault["kind"] in STEPS:
        arm(fault)
        return
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


def arm(fault: dict[str, Any]) -> None:
    """SIGKILL before or after the n-th call of a step."""
    owner, name = STEPS[fault["kind"]]
    step: Callable[..., Any] = getattr(owner, name)
    seen = 0

    def due() -> bool:
        nonlocal seen
        seen += 1
        return bool(seen == fault["number"])

    def faulty(self: Any, *arguments: Any, **named: Any) -> Any:
        dies = due()
        if dies and fault["when"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = step(self, *arguments, **named)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    async def faulty_answer(self: Any, *arguments: Any) -> Any:
        result = await step(self, *arguments)
        if due():
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, faulty_answer if name.startswith("on_") else faulty)


def watch_pieces(home: Path) -> None:
    """Write down every piece that is about to leave, and what the certified state here says of its use."""
    journal = os.open(home / LEFT_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    on_piece = Discloser.on_piece

    async def watched(self: Discloser, member: int, message: Any) -> bytes:
        piece = await on_piece(self, member, message)
        consent, sequence, number = message[2:]
        certified = use_of(self._gate._replica.certified.view, consent, sequence) is not None
        line = {"consent": consent.hex(), "use": sequence, "piece": number, "certified": certified}
        os.write(journal, json.dumps({**line, "bytes": len(piece)}).encode() + b"\n")
        return piece

    Discloser.on_piece = watched  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home
    witness(home)
    watch_pieces(home)  # below the faults: what dies before its answer leaves was about to leave all the same
    inject(home)
    return node.main()


if __name__ == "__main__":
    sys.exit(main())
