"""Transactions between the vault and the ledger. The order of durability, for every one of them:

    1. vault rows (records, secrets, reasons): one synced SQLite commit
    2. the signed bytes: in the same commit, or, for what an upload staged, in a later one that takes them
       out of the staged rows
    3. the bytes are submitted; the same bytes as often as need be
    4. a certified receipt came back: one commit marks it certified, or refused

A crash after 2 leaves it pending. The next run submits the same bytes again, which is harmless: the ledger
counts a leaf hash once. One that expired, or whose key was rotated, and that the ledger does not know, had no
effect and is signed anew
over the same payload; its former ids are kept, so that a refusal "already there" can be told from our own
success.

A refused transaction's rows leave ``records`` (nothing may take them for attested) but are not destroyed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from taxledger.ledger import limits
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.hashing import key_id, log_leaf
from taxledger.ledger.operations import Amend, Attest, Operation, Revoke, TagKey, decode_operation
from taxledger.ledger.statekeys import month_prefix
from taxledger.ledger.transaction import decode_transaction, sign_transaction
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.identity.memberkeys import KeyInForce, TransactionSigner, signer_now

__all__ = [
    "OPERATION_ERASE",
    "STAGE_ATTEST",
    "STAGE_CHANGE",
    "STAGE_TAG_KEY",
    "STAGE_THROUGH",
    "Outbox",
    "Receipt",
    "Settled",
    "Submitter",
    "Transaction",
]

STAGE_TAG_KEY, STAGE_ATTEST, STAGE_CHANGE, STAGE_THROUGH = range(4)
"""What must be certified before what: a year's tag key, its records, their changes, attested through."""

OPERATION_ERASE = "erase"

_PENDING, _CERTIFIED, _REFUSED = range(3)
_ID_BYTES, _ENTRY_BYTES, _RID_BYTES = 32, 64, 16
_SIGNINGS_MAX = 3
_EXPIRED = "transaction_expired"
_INACTIVE = "member_inactive"
_BEHIND_S = 1.5
"""The node that is asked for the key may be a block behind the one that refused."""
_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The certified result of a transaction.

    Attributes:
        code: of docs/protocol.md §8; 0 is success.
        first_refused: number of the first refused entry, or None.
        height, index: the block, and the leaf in the log.
    """

    code: int
    first_refused: int | None = None
    height: int = 0
    index: int = 0


class Submitter(Protocol):
    """The way to the ledger. Methods are called from several threads at once and block."""

    def submit(self, raw: bytes) -> Receipt:
        """Hands in a transaction and waits until it is certified; the same bytes may come again.

        Raises:
            RefusedError: it can't count (``transaction_expired`` and others): no leaf will be made of it.
            UnavailableError: not certified in time. It may still be, until it expires.
        """

    def find(self, id: bytes) -> Receipt | None:
        """The certified result of a transaction by its id (32 bytes), None when there is none.

        Raises:
            UnavailableError: it can't be told now.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A signed transaction of the outbox.

    Attributes:
        sequence: its number in the vault; ``stage`` one of ``STAGE_…``; ``operation`` for people.
        id: leaf hash; ``former`` the ids under which the same payload was signed before.
        raw: the bytes, valid until ``exp_s``.
    """

    sequence: int
    stage: int
    operation: str
    id: bytes
    former: tuple[bytes, ...]
    raw: bytes
    exp_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A transaction whose result is certified and noted in the vault.

    Attributes:
        transaction: as it was last signed; ``receipt`` what became of it.
        refused: keys of the records that it would have written; empty when it was accepted.
    """

    transaction: Transaction
    receipt: Receipt
    refused: tuple[bytes, ...]


class Outbox:
    """Signs, stores, submits and settles transactions. Used under ``Vault.exclusive`` only."""

    def __init__(
        self,
        vault: Vault,
        signer: TransactionSigner,
        submitter: Submitter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._vault = vault
        self._signer = signer
        self._submitter = submitter
        self._clock = clock
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="submit")
        row = vault.database.one("SELECT coalesce(max(sequence), 0) FROM outbox")
        self._sequence: int = row[0] if row else 0

    def close(self) -> None:
        """Waits for what is under way. Nothing new may be started afterwards."""
        self._pool.shutdown(wait=True)

    # --- 1 and 2 ----------------------------------------------------------------------------------

    def prepare(self, stage: int, operation: str, payload: bytes) -> Transaction:
        """A signed transaction with its number; not yet durable: see ``store``."""
        self._sequence += 1
        raw, exp_s = self._sign(payload)
        return Transaction(
            sequence=self._sequence,
            stage=stage,
            operation=operation,
            id=log_leaf(raw),
            former=(),
            raw=raw,
            exp_s=exp_s,
        )

    def _sign(self, payload: bytes) -> tuple[bytes, int]:
        iat_s = int(self._clock())
        exp_s = iat_s + limits.transaction_lifetime_s_max
        vault = self._vault
        raw = sign_transaction(
            signer_now(self._signer),
            member=vault.member,
            chain_id=vault.chain_id,
            iat_s=iat_s,
            exp_s=exp_s,
            payload=payload,
        )
        return raw, exp_s

    @staticmethod
    def store(connection: sqlite3.Connection, transactions: Iterable[Transaction]) -> None:
        """Adds pending transactions to the commit that is open: the one that also writes their rows."""
        connection.executemany(
            "INSERT INTO outbox (sequence, stage, operation, id, former, raw, exp_s, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            [
                (
                    each.sequence,
                    each.stage,
                    each.operation,
                    each.id,
                    b"".join(each.former),
                    each.raw,
                    each.exp_s,
                )
                for each in transactions
            ],
        )

    # --- 3 ----------------------------------------------------------------------------------

    def start(self, transactions: Sequence[Transaction]) -> list[Future[tuple[Transaction, Receipt]]]:
        """Submits stored transactions, several at a time."""
        return [self._pool.submit(self._deliver, each) for each in transactions]

    def _deliver(self, transaction: Transaction) -> tuple[Transaction, Receipt]:
        for _ in range(_SIGNINGS_MAX):
            if transaction.exp_s <= self._clock():
                known = self._find(transaction)
                if known is not None:
                    return transaction, known
                transaction = self._sign_anew(transaction)
            try:
                receipt = self._submitter.submit(transaction.raw)
            except RefusedError as error:
                if error.code not in (_EXPIRED, _INACTIVE):
                    raise
                known = self._find(transaction)
                if known is None:
                    if error.code == _INACTIVE and not self._is_key_replaced(transaction):
                        raise
                    transaction = self._sign_anew(transaction)
                    continue
                receipt = known
            if receipt.code and transaction.former:
                # Signed anew because the first seemed lost, but that one had counted after all.
                receipt = self._find(transaction) or receipt
            return transaction, receipt
        raise UnavailableError(f"{transaction.operation}: signed {_SIGNINGS_MAX} times and expired each time")

    def _is_key_replaced(self, transaction: Transaction) -> bool:
        """The member has another transaction key now: what the former one signed has no effect any more."""
        kid = decode_transaction(transaction.raw).kid
        for pause_s in (0.0, _BEHIND_S):
            time.sleep(pause_s if isinstance(self._signer, KeyInForce) else 0.0)
            if key_id(signer_now(self._signer).public_key) != kid:
                return True
        return False

    def _find(self, transaction: Transaction) -> Receipt | None:
        """The result under any of its ids, a success before a refusal."""
        found = [self._submitter.find(each) for each in (*transaction.former, transaction.id)]
        known = [each for each in found if each is not None]
        return min(known, key=lambda each: each.code != 0, default=None)

    def _sign_anew(self, old: Transaction) -> Transaction:
        raw, exp_s = self._sign(decode_transaction(old.raw).payload)
        new = replace(old, id=log_leaf(raw), former=(*old.former, old.id), raw=raw, exp_s=exp_s)
        with self._vault.database.write() as connection:
            connection.execute(
                "UPDATE outbox SET id = ?, former = ?, raw = ?, exp_s = ? WHERE sequence = ?",
                (new.id, b"".join(new.former), new.raw, new.exp_s, new.sequence),
            )
        return new

    # --- 4 ----------------------------------------------------------------------------------

    def finish(self, started: Sequence[Future[tuple[Transaction, Receipt]]]) -> list[Settled]:
        """Waits for all, notes every result that came, then raises the first error if there was one."""
        results: list[tuple[Transaction, Receipt]] = []
        failure: BaseException | None = None
        for future in started:
            try:
                results.append(future.result())
            except Exception as error:
                failure = failure or error
        settled = self._settle(results)
        if failure is not None:
            raise failure
        return settled

    def _settle(self, results: Sequence[tuple[Transaction, Receipt]]) -> list[Settled]:
        if not results:
            return []
        settled = []
        with self._vault.database.write() as connection:
            for transaction, receipt in results:
                refused: tuple[bytes, ...] = ()
                if receipt.code and transaction.stage == STAGE_TAG_KEY:
                    self._vault.forget_year(connection, _tag_key_year(transaction))
                elif receipt.code:
                    refused = _withdraw(connection, transaction, self._vault.member)
                elif transaction.stage == STAGE_THROUGH:
                    _note_through(connection, transaction)
                if transaction.operation == OPERATION_ERASE:
                    _note_erased(connection, transaction.sequence, accepted=not receipt.code)
                connection.execute(
                    "UPDATE outbox SET state = ?, raw = NULL, code = ?, height = ?, log_index = ? "
                    "WHERE sequence = ?",
                    (
                        _REFUSED if receipt.code else _CERTIFIED,
                        receipt.code,
                        receipt.height,
                        receipt.index,
                        transaction.sequence,
                    ),
                )
                settled.append(Settled(transaction=transaction, receipt=receipt, refused=refused))
        return settled

    # --- recovery ---------------------------------------------------------------------------

    def pending(self) -> list[Transaction]:
        """What an interrupted run left, in the order in which it must be certified."""
        rows = self._vault.database.all(
            "SELECT sequence, stage, operation, id, former, raw, exp_s FROM outbox WHERE state = 0 "
            "ORDER BY stage, sequence"
        )
        return [
            Transaction(
                sequence=sequence,
                stage=stage,
                operation=operation,
                id=id_,
                former=tuple(former[at : at + _ID_BYTES] for at in range(0, len(former), _ID_BYTES)),
                raw=raw,
                exp_s=exp_s,
            )
            for sequence, stage, operation, id_, former, raw, exp_s in rows
        ]

    def resume(self) -> list[Settled]:
        """Brings everything pending to its end: the same path as a normal run takes."""
        settled: list[Settled] = []
        waiting = self.pending()
        for stage in range(STAGE_THROUGH + 1):
            these = [each for each in waiting if each.stage == stage]
            if stage in (STAGE_TAG_KEY, STAGE_ATTEST):
                settled += self.finish(self.start(these))
            else:
                # Two changes of one record may be among them: one after the other.
                for each in these:
                    settled += self.finish(self.start([each]))
        return settled


def _withdraw(connection: sqlite3.Connection, transaction: Transaction, member: int) -> tuple[bytes, ...]:
    """Takes back what a refused transaction would have written; the sealed rows are kept aside.

    With a version goes every later one: it can't count either.
    """
    sequence = transaction.sequence
    operation = decode_operation(decode_transaction(transaction.raw).payload)
    if isinstance(operation, Revoke):
        revoked = [(each.key, sequence) for each in operation.changes]
        connection.executemany("UPDATE records SET revoked = 0 WHERE key = ? AND revoked = ?", revoked)
        return tuple(key for key, _sequence in revoked)
    written = list(_written(operation, member))
    connection.executemany(
        "INSERT OR REPLACE INTO refused_records SELECT key, version, ?, sealed FROM records "
        "WHERE key = ? AND version >= ?",
        [(sequence, *each) for each in written],
    )
    connection.executemany("DELETE FROM records WHERE key = ? AND version >= ?", written)
    connection.executemany(
        "DELETE FROM staged WHERE stage = ? AND kind = ? AND year IN (SELECT year FROM years) "
        "AND place >= ? AND place <= ?",
        [
            (STAGE_CHANGE, key[3], key + version.to_bytes(4, "big"), key + b"\xff" * 4)
            for key, version in written
        ],
    )
    return tuple(key for key, _version in written)


def _written(operation: Operation, member: int) -> Iterator[tuple[bytes, int]]:
    """(key, version) of every record version that an ``attest`` or ``amend`` makes."""
    if isinstance(operation, Attest):
        for group in operation.groups:
            prefix = month_prefix(member, operation.kind, group.tag, group.month)
            for at in range(0, len(group.entries), _ENTRY_BYTES):
                yield prefix + group.entries[at : at + _RID_BYTES], 1
    elif isinstance(operation, Amend):
        for each in operation.changes:
            yield each.key, each.version + 1


def _tag_key_year(transaction: Transaction) -> int:
    operation = decode_operation(decode_transaction(transaction.raw).payload)
    assert isinstance(operation, TagKey)
    return operation.year


def _note_erased(connection: sqlite3.Connection, sequence: int, *, accepted: bool) -> None:
    """See ``erasures.py``: the ledger knows (2), or must be told anew (0), by a transaction that fits it."""
    connection.execute("UPDATE erased SET state = ? WHERE sequence = ?", (2 if accepted else 0, sequence))


def _note_through(connection: sqlite3.Connection, transaction: Transaction) -> None:
    operation = decode_operation(decode_transaction(transaction.raw).payload)
    assert isinstance(operation, Attest)
    connection.execute(
        "INSERT INTO throughs VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET date = max(date, excluded.date)",
        (operation.kind, operation.through),
    )
