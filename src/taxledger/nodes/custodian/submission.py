"""Everything staged, to certified transactions: one submission, whatever number of files and batches it came in.

The records of one kind and year are sorted by tag over all enterprises, then cut to the limits. A tag is a
pseudorandom number, another one in each year and kind, so an enterprise's place in one run, with its
transaction, block and neighbours, says nothing of its place in another. The order of one submission:

    1. ``attest``, one run of every kind and year after the other; all certified before
    2. ``amend``, sorted by key within kind and year; a record that changed twice comes again in the next
       round, when all of this one is certified

In both, step by step: the staged rows of a step become signed transactions in *one* commit, which is synced
before the first of them is submitted. So a row is either staged or in the outbox, and a crash leaves it in
exactly one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain

from taxledger.ledger import canonical, limits
from taxledger.ledger.operations import AmendChange, AttestGroup, encode_amend, encode_attest
from taxledger.nodes.custodian.outbox import (
    STAGE_ATTEST,
    STAGE_CHANGE,
    Outbox,
    Receipt,
    Settled,
    Transaction,
)
from taxledger.nodes.custodian.vault import Vault

__all__ = ["Submission"]

_ENTRY_BYTES = 64
_GROUP_BYTES = 40
"""Everything of a group but its entries: array header, tag, month, schema, status, header of the entries."""
_FRAME_BYTES = 384
"""Everything of a transaction but its groups: COSE headers, signature, kind, year."""
_HEAD_BYTES = 19
"""Of a record's place: tag, month, schema, status. What has the same is one group."""
_KEY_BYTES = 37

_STEP_TRANSACTIONS = 8
"""Local: transactions that become durable in one commit; about 9,000 records."""
_STEPS_UNDER_WAY = 2
"""Local: so that the ledger has work while the next step is cut."""

_Rows = list[tuple[bytes, bytes]]
"""(place, entry) of staged rows, ascending."""
_Step = list[tuple[Transaction, int]]
"""Durable transactions, each with the number of its records."""


class Submission:
    """Submits what is staged in a vault. Used under ``Database.exclusive`` only."""

    def __init__(self, vault: Vault, outbox: Outbox, note: Callable[[Sequence[Settled], int], None]) -> None:
        """``note`` is told what was settled, and how many records and changes that were."""
        self._vault = vault
        self._outbox = outbox
        self._note = note

    def count(self) -> int:
        """Records and changes that are staged."""
        row = self._vault.database.one("SELECT count(*) FROM staged")
        return row[0] if row else 0

    def submit(self) -> None:
        """Returns when all of it is certified or refused; the keys of all its years must be certified.

        Raises:
            RefusedError, UnavailableError: see ``Submitter``. What is left stays staged or pending.
        """
        runs = self._runs(STAGE_ATTEST)
        self._send(chain.from_iterable(self._attest_steps(kind, year) for kind, year in runs))
        while runs := self._runs(STAGE_CHANGE):
            self._send(chain.from_iterable(self._change_steps(kind, year) for kind, year in runs))

    def _runs(self, stage: int) -> list[tuple[int, int]]:
        rows = self._vault.database.all(
            "SELECT DISTINCT kind, year FROM staged WHERE stage = ? ORDER BY kind, year", (stage,)
        )
        return [(kind, year) for kind, year in rows]

    def _send(self, steps: Iterator[_Step]) -> None:
        under_way: deque[tuple[list[Future[tuple[Transaction, Receipt]]], int]] = deque()
        for step in steps:
            started = self._outbox.start([transaction for transaction, _records in step])
            under_way.append((started, sum(records for _transaction, records in step)))
            if len(under_way) == _STEPS_UNDER_WAY:
                self._land(*under_way.popleft())
        while under_way:
            self._land(*under_way.popleft())

    def _land(self, started: list[Future[tuple[Transaction, Receipt]]], records: int) -> None:
        self._note(self._outbox.finish(started), records)

    # --- new records ------------------------------------------------------------------------

    def _attest_steps(self, kind: int, year: int) -> Iterator[_Step]:
        database = self._vault.database
        size = _STEP_TRANSACTIONS * limits.attest_entries_max
        while True:
            # What was cut is gone from the table, so the next rows are always the first.
            rows = database.all(
                "SELECT place, entry FROM staged WHERE stage = ? AND kind = ? AND year = ? "
                "ORDER BY place LIMIT ?",
                (STAGE_ATTEST, kind, year, size),
            )
            if not rows:
                return
            parts = list(_parts(rows))
            if len(rows) == size and len(parts) > 1:
                del parts[-1]  # more rows may still fit in it
            step = [
                (
                    self._outbox.prepare(
                        STAGE_ATTEST, "attest", encode_attest(kind, year, None, _groups(part))
                    ),
                    len(part),
                )
                for part in parts
            ]
            with database.write() as connection:
                self._outbox.store(connection, [transaction for transaction, _records in step])
                connection.execute(
                    "DELETE FROM staged WHERE stage = ? AND kind = ? AND year = ? AND place <= ?",
                    (STAGE_ATTEST, kind, year, parts[-1][-1][0]),
                )
            yield step

    # --- changes ----------------------------------------------------------------------------

    def _change_steps(self, kind: int, year: int) -> Iterator[_Step]:
        """One round: the next change of every record that has one."""
        database = self._vault.database
        after = b""
        while True:
            rows = database.all(
                "SELECT place, entry FROM staged WHERE stage = ? AND kind = ? AND year = ? AND place > ? "
                "ORDER BY place LIMIT ?",
                (STAGE_CHANGE, kind, year, after, _STEP_TRANSACTIONS * limits.amend_changes_max),
            )
            if not rows:
                return
            after = rows[-1][0][:_KEY_BYTES] + b"\xff" * 4
            firsts = [
                row
                for before, row in zip([(b"",), *rows], rows, strict=False)
                if before[0][:_KEY_BYTES] != row[0][:_KEY_BYTES]
            ]
            step = []
            for at in range(0, len(firsts), limits.amend_changes_max):
                changes = [_change(*row) for row in firsts[at : at + limits.amend_changes_max]]
                transaction = self._outbox.prepare(STAGE_CHANGE, "amend", encode_amend(kind, changes))
                step.append((transaction, len(changes)))
            with database.write() as connection:
                self._outbox.store(connection, [transaction for transaction, _changes in step])
                connection.executemany(
                    "DELETE FROM staged WHERE stage = ? AND kind = ? AND year = ? AND place = ?",
                    [(STAGE_CHANGE, kind, year, place) for place, _entry in firsts],
                )
            yield step


def _parts(rows: Sequence[tuple[bytes, bytes]]) -> Iterator[_Rows]:
    """The rows cut where a transaction is full."""
    part: _Rows = []
    used = groups = 0
    head = b""
    for row in rows:
        opens = not part or row[0][:_HEAD_BYTES] != head
        grown = used + _ENTRY_BYTES + (_GROUP_BYTES if opens else 0)
        full = (
            grown > limits.leaf_bytes_max
            or len(part) == limits.attest_entries_max
            or (opens and groups == limits.attest_groups_max)
        )
        if part and full:
            yield part
            part = []
        if not part:
            opens, groups, grown = True, 0, _FRAME_BYTES + _ENTRY_BYTES + _GROUP_BYTES
        if opens:
            groups += 1
            head = row[0][:_HEAD_BYTES]
        used = grown
        part.append(row)
    if part:
        yield part


def _groups(part: _Rows) -> list[AttestGroup]:
    entries: dict[bytes, list[bytes]] = {}
    for place, entry in part:
        entries.setdefault(place[:_HEAD_BYTES], []).append(place[_HEAD_BYTES:] + entry)
    return [
        AttestGroup(
            tag=head[:16], month=head[16], schema=head[17], status=head[18], entries=b"".join(members)
        )
        for head, members in entries.items()
    ]


def _change(place: bytes, entry: bytes) -> AmendChange:
    status, schema, commitment, fingerprint, reason = canonical.decode(entry)
    return AmendChange(
        key=place[:_KEY_BYTES],
        version=int.from_bytes(place[_KEY_BYTES:], "big"),
        status=status,
        schema=schema,
        commitment=commitment,
        fingerprint=fingerprint,
        reason=reason,
        reason_digest=None,
    )
