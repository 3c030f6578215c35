"""The node's own transactions: signed with its member's present key, delivered through its own engine.

Who needs durability stores the signed bytes first, and delivers the same ones again after a crash: a leaf hash
counts once. One that expired without being seen had no effect, and may be signed anew.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from taxledger.api.reader import Receipt, TransactionAnswer
from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.rules import RESULT_NAMES
from taxledger.ledger.transaction import decode_transaction, sign_transaction
from taxledger.nodes.sealed.database import Database

__all__ = ["SENT_TABLE", "OwnTransactions", "Sent", "Signed", "StoredTransactions", "require_accepted"]

SENT_TABLE = """
    CREATE TABLE IF NOT EXISTS sent (
        place BLOB PRIMARY KEY, raw BLOB NOT NULL, id BLOB NOT NULL, exp_s INTEGER NOT NULL,
        code INTEGER, height INTEGER, log_index INTEGER, time_ms INTEGER) WITHOUT ROWID
"""
"""For the store of whoever uses ``StoredTransactions``."""

_DELIVER_S = 30.0
_PAUSE_S = 0.2
_DISTINCT = 600
"""Transactions of one payload and second that differ, by when they expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed transaction: its bytes, its id (32 bytes), and until when it can count (seconds since 1970)."""

    raw: bytes
    id: bytes
    exp_s: int


class _Submitting(Protocol):
    async def submit(
        self, raw: bytes, *, wait: Literal["certified", "none"], timeout_s: float
    ) -> Receipt: ...

    async def transaction(self, id: bytes) -> TransactionAnswer | None: ...


class OwnTransactions:
    """Signs and delivers.

    Args:
        member: this member's number; ``chain_id`` of the ledger.
        signer: the key that is in force now.
        answers: submits through the node's engine; returns when the block is certified at this node.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        member: int,
        chain_id: bytes,
        signer: Callable[[], Signer],
        answers: _Submitting,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._member = member
        self._chain_id = chain_id
        self._signer = signer
        self._answers = answers
        self._clock = clock
        self._pause = pause
        # Not from 0: a node that was started again within the second makes no bytes of before.
        self._made = itertools.count(secrets.randbelow(_DISTINCT))

    def sign(self, payload: bytes) -> Signed:
        """The transaction of a payload, valid for nearly an hour from now; another one each time.

        Pause, resume and pause again within a second would else be two transactions: the last has the bytes of the
        first, which counts once, and gets its receipt.
        """
        iat_s = int(self._clock())
        exp_s = iat_s + limits.transaction_lifetime_s_max - next(self._made) % _DISTINCT
        raw = sign_transaction(
            self._signer(),
            member=self._member,
            chain_id=self._chain_id,
            iat_s=iat_s,
            exp_s=exp_s,
            payload=payload,
        )
        return Signed(raw=raw, id=log_leaf(raw), exp_s=exp_s)

    async def deliver(self, signed: Signed, *, for_good: bool = True) -> Receipt:
        """The certified receipt.

        Args:
            for_good: go on as long as it can count; else half a minute.

        Raises:
            RefusedError: it can't count any more: ``transaction_expired``, ``member_inactive`` and the like.
            UnavailableError: not ``for_good``, and writes wait. It may count still.
        """
        while True:
            try:
                return await self._answers.submit(signed.raw, wait="certified", timeout_s=_DELIVER_S)
            except UnavailableError:
                if self._clock() >= signed.exp_s + limits.clock_skew_early_s:
                    raise RefusedError("transaction_expired", "not certified before it expired") from None
                if not for_good:
                    raise
            await self._pause(_PAUSE_S)

    async def find(self, id: bytes) -> Receipt | None:
        """The certified receipt of a transaction (32 bytes), or None."""
        found = await self._answers.transaction(id)
        return None if found is None else found.receipt

    async def submit(self, payload: bytes) -> Receipt:
        """Sign and deliver, for half a minute; for what may be signed anew after that, or after a crash.

        Raises:
            RefusedError, UnavailableError: see ``deliver``.
        """
        return await self.deliver(self.sign(payload), for_good=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A stored transaction; the last four are None until its result is certified and noted."""

    signed: Signed
    code: int | None
    height: int | None
    index: int | None
    time_ms: int | None


class StoredTransactions:
    """Transactions that survive a crash between being decided on and being certified. The order:

    1. the signed bytes, and the rows that explain them, in one synced commit (``store``, in the caller's)
    2. they are delivered, the same ones as often as need be (``bring``)
    3. the certified result is noted

    A crash after 1 leaves them for the next ``bring``; what expired unseen is signed anew, over the same payload.
    """

    def __init__(self, database: Database, own: OwnTransactions) -> None:
        self._database = database
        self._own = own

    def sign(self, payload: bytes) -> Signed:
        return self._own.sign(payload)

    @staticmethod
    def store(connection: sqlite3.Connection, place: bytes, signed: Signed) -> None:
        """Adds it to the commit that is open; ``place`` says what it is for, and is used once."""
        connection.execute(
            "INSERT INTO sent (place, raw, id, exp_s) VALUES (?, ?, ?, ?)",
            (place, signed.raw, signed.id, signed.exp_s),
        )

    def sent(self, place: bytes) -> Sent | None:
        row = self._database.one(
            "SELECT raw, id, exp_s, code, height, log_index, time_ms FROM sent WHERE place = ?", (place,)
        )
        if row is None:
            return None
        signed = Signed(raw=row[0], id=row[1], exp_s=row[2])
        return Sent(signed=signed, code=row[3], height=row[4], index=row[5], time_ms=row[6])

    def unsettled(self, prefix: bytes) -> list[bytes]:
        """Places that begin with ``prefix`` and have no result yet."""
        rows = self._database.all(
            "SELECT place FROM sent WHERE code IS NULL AND place >= ? AND place < ? ORDER BY place",
            (prefix, prefix + b"\xff" * 32),
        )
        return [row[0] for row in rows]

    async def bring(self, place: bytes) -> Sent:
        """Brings a stored transaction to its end, whatever happened before.

        Raises:
            RefusedError: no leaf can be made of it (this member is no longer active, say).
        """
        while True:
            sent = await asyncio.to_thread(self.sent, place)
            if sent is None:
                raise UnavailableError("this transaction was never stored")
            if sent.code is not None:
                return sent
            try:
                receipt = await self._own.deliver(sent.signed)
            except RefusedError as error:
                if error.code != "transaction_expired":
                    raise
                # It may have counted before it expired: only when the ledger does not know it, it is signed anew.
                found = await self._own.find(sent.signed.id)
                if found is None:
                    payload = decode_transaction(sent.signed.raw).payload
                    await asyncio.to_thread(self._renew, place, self._own.sign(payload))
                    continue
                receipt = found
            await asyncio.to_thread(self._settle, place, receipt)

    def _renew(self, place: bytes, signed: Signed) -> None:
        with self._database.write() as connection:
            connection.execute(
                "UPDATE sent SET raw = ?, id = ?, exp_s = ? WHERE place = ?",
                (signed.raw, signed.id, signed.exp_s, place),
            )

    def _settle(self, place: bytes, receipt: Receipt) -> None:
        with self._database.write() as connection:
            connection.execute(
                "UPDATE sent SET code = ?, height = ?, log_index = ?, time_ms = ? WHERE place = ?",
                (receipt.code, receipt.height, receipt.index, receipt.certified_time_ms, place),
            )


def require_accepted(code: int | None) -> None:
    """Raises RefusedError with the rule's name when the ledger refused."""
    if code:
        name = RESULT_NAMES.get(code, "refused")
        raise RefusedError(name, f"the ledger refused it: rule {code}, {name}")
