"""An eraser over a test's vault and ledger; and as a process of its own, which kills itself (-9) at a step.

    python erasekit.py <folder> <step>

Steps are counted before and after each commit, scrub, forgetting, submission and notice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chainkit
from custodykit import Custody, Ledger, key_file

from taxledger.ledger import canonical
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.operations import Erase, decode_operation
from taxledger.ledger.query import Query
from taxledger.ledger.rules import decode_result
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.custodian.dossier import Custodian
from taxledger.nodes.custodian.erasing import Eraser
from taxledger.nodes.custodian.vault import Vault

BANK = chainkit.CLIENT
CONSENT = b"consent 16 bytes"


class FileLedger(Ledger):
    """A ledger that outlives its process: what is executed stands in a file before."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._replaying = True
        for line in path.read_text().split() if path.exists() else []:
            self.submit(bytes.fromhex(line))
        self.submitted.clear()
        self._replaying = False

    def _execute(self, id_: bytes, raw: bytes) -> None:
        if not self._replaying:
            with self.path.open("a") as file:
                file.write(raw.hex() + "\n")
        super()._execute(id_, raw)


class Recipients:
    """What the eraser asks of the rest of its node, and what was asked."""

    def __init__(self, told: Sequence[tuple[int, bytes]] = ((BANK, CONSENT),)) -> None:
        self.of: list[tuple[int, bytes]] = list(told)
        self.forgotten: list[list[bytes]] = []
        self.messages: list[Any] = []
        self.answer: Any = []

    def recipients(self, _subject: str) -> list[tuple[int, bytes]]:
        return self.of

    def forget(self, keys: Sequence[bytes]) -> None:
        self.forgotten.append(list(keys))

    async def tell(self, member: int, message: list[object]) -> bytes:
        self.messages.append((member, message))
        if isinstance(self.answer, Exception):
            raise self.answer
        return canonical.encode(self.answer)


def make_eraser(vault: Vault, ledger: Ledger, node: Recipients) -> Eraser:
    return Eraser(
        open_vault=lambda: vault,
        member=chainkit.ISSUER,
        signer=chainkit.signer(chainkit.ISSUER),
        submitter=ledger,
        state_value=lambda key: ledger.chain.view.get(key),
        recipients=node.recipients,
        forget=node.forget,
        tell=node.tell,
        clock=ledger.clock,
    )


def query_of(
    subject: str = "cumcm:E1", begin: str = "2019-01", end: str = "2019-12", kinds: tuple[int, ...] = (5,)
) -> Query:
    return Query(subject=subject, issuer=chainkit.ISSUER, kinds=kinds, from_period=begin, to_period=end)


def evidence(custody: Custody, query: Query) -> bytes:
    """What the custodian answers now, over the newest block."""
    chain = custody.ledger.chain
    block = chain.blocks[-1]
    size = chain.checkpoint(block.executed).size
    state = SimpleNamespace(
        view=chain.view,
        header_leaf=block.executed.header_leaf,
        header_inclusion=lambda: prove_inclusion(
            lambda level, index: chain.log_nodes[level, index], size - 1, size
        ),
    )
    custodian = Custodian(
        custody.folder / "vault.sqlite",
        key_file(custody.folder),
        chain_id=chain.chain_id,
        member=chainkit.ISSUER,
        genesis=chain.genesis,
    )
    try:
        return custodian.evidence(query, state, chain.note(block, 3))
    finally:
        custodian.close()


def erase_transactions(ledger: Ledger) -> list[tuple[Erase, int]]:
    """Every ``erase`` in the log, with its code."""
    found = []
    for block in ledger.chain.blocks:
        for leaf, result in zip(block.executed.leaves, block.executed.results, strict=True):
            operation = decode_operation(decode_transaction(leaf).payload)
            if isinstance(operation, Erase):
                found.append((operation, decode_result(result).code))
    return found


def sealed_cells(vault: Vault, prefix: bytes) -> list[bytes]:
    """Sealed cells, and keyed hashes that stand nowhere else, of everything below a record prefix."""
    below = (prefix, prefix + b"\xff" * 20)
    found = []
    for table, columns in (
        ("records", ("sealed", "content", "mark")),
        ("refused_records", ("sealed",)),
        ("reasons", ("sealed",)),
    ):
        for column in columns:
            rows = vault.database.all(
                f"SELECT {column} FROM {table} WHERE key >= ? AND key < ? AND {column} IS NOT NULL "
                # Where all fields are the identity, the keyed hash of the content is the rid, which is public.
                f"AND {column} != substr(key, 22)",
                below,
            )
            found += [row[0] for row in rows]
    tag = prefix[4:20]
    found += [row[0] for row in vault.database.all("SELECT sealed FROM tags WHERE tag = ?", (tag,))]
    found += [row[0] for row in vault.database.all("SELECT lookup FROM tags WHERE tag = ?", (tag,))]
    seeds = "SELECT sealed FROM rid_seeds WHERE substr(place, 1, 16) = ?"
    return found + [row[0] for row in vault.database.all(seeds, (tag,))]


def vault_bytes(folder: Path) -> bytes:
    """The vault's files, write-ahead log and all."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("vault.sqlite*")))


class Steps:
    """Kills this process at one of its steps."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def around(self, target: Any, name: str) -> None:
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


def main(folder: Path, last: int) -> None:
    ledger = FileLedger(folder / "ledger.txt")
    custody = Custody(folder, ledger)
    steps = Steps(last)
    node = Recipients()
    steps.commits(custody.vault.database)
    steps.around(custody.vault.store, "scrub")
    steps.around(ledger, "submit")
    steps.around(node, "forget")
    eraser = make_eraser(custody.vault, ledger, node)
    asyncio.run(eraser.erase(query_of(), reason="asked by the enterprise"))
    eraser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
