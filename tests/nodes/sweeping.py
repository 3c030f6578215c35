"""A recipient's sweeper as a process of its own, which kills itself (-9) at a step that it is told.

    python sweeping.py <folder> <notice|retention> <step>

Steps are counted before and after each commit, each scrub and each submission. Its ledger is a file: one line for
each transaction that counted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custodykit import key_file

from taxledger.ledger.operations import decode_operation
from taxledger.ledger.records import RecordValue, Status, encode_record_value
from taxledger.nodes.custodian.outbox import Receipt
from taxledger.nodes.recipient.store import ReceivedStore
from taxledger.nodes.recipient.sweeper import Sweeper

BANK, CUSTODIAN = 2, 1
NOTICE = b"notice 16 bytes."
LATE_MS = 4_000_000_000_000


class FileLedger:
    """``data.erased`` in a file: hex digest, count."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    async def submit(self, payload: bytes) -> Receipt:
        erased: Any = decode_operation(payload)
        line = f"{erased.digest.hex()} {erased.count}"
        if line in self.lines():
            return Receipt(code=34)
        with self.path.open("a") as file:
            file.write(line + "\n")
        return Receipt(code=0)

    def value(self, key: bytes) -> bytes | None:
        """Every record is erased; what is in the file is on the ledger."""
        if key[0] == 1:
            return encode_record_value(
                RecordValue(
                    status=Status.ERASED,
                    version=1,
                    schema=1,
                    commitment=bytes(32),
                    fingerprint=None,
                    height=9,
                )
            )
        digests = [line.split()[0] for line in self.lines()]
        return b"" if key[3:].hex() in [each[:32] for each in digests] else None


def open_store(folder: Path) -> ReceivedStore:
    return ReceivedStore.open(folder / "received.sqlite", key_file(folder))


def make_sweeper(folder: Path, store: ReceivedStore, now_ms: int = LATE_MS) -> Sweeper:
    ledger = FileLedger(folder / "ledger.txt")
    return Sweeper(store, member=BANK, submit=ledger.submit, state_value=ledger.value, now_ms=lambda: now_ms)


class Steps:
    """Kills this process at one of its steps."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def around(self, target: Any, name: str) -> None:
        """A method, with a step before and one after."""
        method = getattr(target, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.step()
            result = method(*arguments, **options)
            self.step()
            return result

        setattr(target, name, counted)

    def commits(self, target: Any) -> None:
        method = target.write

        @contextmanager
        def counted() -> Iterator[Any]:
            with method() as connection:
                yield connection
                self.step()
            self.step()

        target.write = counted


def main(folder: Path, what: str, last: int) -> None:
    store = open_store(folder)
    steps = Steps(last)
    steps.commits(store._store)
    steps.commits(store.database)
    steps.around(store._store, "scrub")
    sweeper = make_sweeper(folder, store, LATE_MS if what == "retention" else 0)
    submit = sweeper._submit

    async def counted(payload: bytes) -> Any:
        steps.step()
        receipt = await submit(payload)
        steps.step()
        return receipt

    sweeper._submit = counted
    if what == "retention":
        asyncio.run(sweeper.sweep())
    else:
        keys = [bytes.fromhex(each) for each in (folder / "keys.txt").read_text().split()]
        asyncio.run(sweeper.on_erase_notice(CUSTODIAN, [1, "erase_notice", NOTICE, keys]))
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
