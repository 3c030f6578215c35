"""An upload: files to rows, rows to a batch, a batch to durable transactions, results back to the files.

Rows of all files are collected up to ``BATCH_RECORDS``, so that one transaction holds records of many
enterprises. While one batch is under way to the ledger the next is read. The order of one batch:

    1. the tag keys of its years are certified
    2. its records, secrets and signed transactions are durable in one commit (``outbox.py``)
    3. its ``attest`` transactions are submitted, several at a time, until all are certified
    4. then its ``amend`` transactions

Only then does the next batch begin with its 2. An upload that was interrupted anywhere goes on when it is
run again: what is pending is brought to its end first, and rows that are attested by now are duplicates.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError
from taxledger.ledger.operations import encode_attest
from taxledger.ledger.schemas import Schema, is_date
from taxledger.nodes.custodian.cutting import RecordRow, cut_attests, cut_changes
from taxledger.nodes.custodian.matching import Batch, Matcher, warn_twins
from taxledger.nodes.custodian.outbox import (
    STAGE_THROUGH,
    Outbox,
    Receipt,
    Settled,
    Submitter,
    Transaction,
)
from taxledger.nodes.custodian.redletters import match_red_letters
from taxledger.nodes.custodian.report import FileOutcome, Totaller, UploadOutcome
from taxledger.nodes.custodian.tags import Keyring, require_accepted
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.sources.rows import BadRow, Source

__all__ = ["BATCH_RECORDS", "Progress", "Uploader"]

BATCH_RECORDS = 20_000
"""Local: new records and changes collected before they are made durable; about 60 MB."""

_PROGRESS_ROWS = 1_000

Started = list[Future[tuple[Transaction, Receipt]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where an upload stands. ``certified`` counts transactions."""

    file: str
    rows: int
    certified: int


@dataclass(slots=True)
class _Flight:
    """A durable batch on its way."""

    batch: Batch
    attests: Started
    changes: list[Transaction]


@dataclass(slots=True)
class _Tally:
    """What an upload has come to so far."""

    names: list[str] = field(default_factory=list)
    files: list[FileOutcome] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)
    refused_keys: dict[bytes, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    transactions: int = 0
    rows: int = 0


@contextmanager
def _collecting_by_batch() -> Iterator[None]:
    """No garbage collection but that of ``_flush``: a batch is a hundred thousand objects without cycles, and to
    walk through them again and again took a sixth of an upload's processor time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Rehearsal:
    """A submitter that takes everything and tells no one."""

    def submit(self, raw: bytes) -> Receipt:
        return Receipt(code=0)

    def find(self, id: bytes) -> Receipt | None:
        return None


class Uploader:
    """Attests the rows of files for one issuer."""

    def __init__(
        self,
        vault: Vault,
        signer: Signer,
        submitter: Submitter,
        *,
        progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], float] = time.time,
        batch_records: int = BATCH_RECORDS,
    ) -> None:
        """
        Args:
            vault: the issuer's; it says member and chain.
            signer: the member's transaction key.
            submitter: the way to the ledger.
            progress: called about every thousand rows and after each transaction group, from this thread.
            clock: seconds since 1970 UTC.
            batch_records: see ``BATCH_RECORDS``.
        """
        self._vault = vault
        self._signer = signer
        self._submitter = submitter
        self._progress = progress or (lambda _progress: None)
        self._clock = clock
        self._batch_records = batch_records

    def upload(
        self, paths: Sequence[Path], source: Source, *, through: str | None = None, dry_run: bool = False
    ) -> UploadOutcome:
        """Attests every row of the files that is new.

        Args:
            paths: read in this order.
            source: says how, and the kind of the records.
            through: ``YYYY-MM-DD`` up to which, after this, everything of the kind is attested.
            dry_run: go through all of it on a copy of the vault, and submit nothing.

        Raises:
            UnavailableError: the ledger can't be reached, or another upload is running. Run again: nothing
            is lost. RefusedError: the ledger takes nothing from this member (inactive, wrong key, tag key
            refused). FormatError: ``through`` is no date, or the vault is damaged.
        """
        if through is not None and not is_date(through):
            raise FormatError(f"expected a date YYYY-MM-DD to attest through, got {through!r:.40}")
        if dry_run:
            with self._vault.scratch_copy() as scratch:
                run = _Run(
                    scratch, self._signer, _Rehearsal(), self._progress, self._clock, self._batch_records
                )
                return run.upload(paths, source, through, dry_run=True)
        with self._vault.exclusive(), _collecting_by_batch():
            run = _Run(
                self._vault, self._signer, self._submitter, self._progress, self._clock, self._batch_records
            )
            return run.upload(paths, source, through, dry_run=False)


class _Run:
    """One upload, under the vault's lock."""

    def __init__(
        self,
        vault: Vault,
        signer: Signer,
        submitter: Submitter,
        progress: Callable[[Progress], None],
        clock: Callable[[], float],
        batch_records: int,
    ) -> None:
        self._vault = vault
        self._progress = progress
        self._batch_records = batch_records
        self._outbox = Outbox(vault, signer, submitter, clock)
        self._keyring = Keyring(vault, self._outbox)
        self._tally = _Tally()
        self._flight: _Flight | None = None

    def upload(
        self, paths: Sequence[Path], source: Source, through: str | None, *, dry_run: bool
    ) -> UploadOutcome:
        tally = self._tally
        try:
            resumed = self._outbox.resume()
            require_accepted(resumed)
            matcher = Matcher(self._vault, self._keyring, source.schema, tally.names)
            totaller = Totaller(source.schema)
            for path in paths:
                self._read(path, source, matcher, totaller)
                if len(matcher.batch.new) + len(matcher.batch.changes) >= self._batch_records:
                    self._flush(matcher)
            self._flush(matcher)
            self._land()
            moved = self._move_through(source.schema, through)
        finally:
            self._outbox.close()
        return UploadOutcome(
            files=tally.files,
            transactions=tally.transactions,
            refused=tally.refused,
            resumed=len(resumed),
            resumed_refused=sum(each.receipt.code != 0 for each in resumed),
            through=moved,
            notes=tally.notes,
            dry_run=dry_run,
        )

    def _read(self, path: Path, source: Source, matcher: Matcher, totaller: Totaller) -> None:
        tally = self._tally
        outcome = FileOutcome(file=str(path), money=totaller.money)
        number = len(tally.files)
        tally.files.append(outcome)
        tally.names.append(str(path))
        try:
            for row in source.rows(path):
                outcome.rows += 1
                tally.rows += 1
                if type(row) is BadRow:
                    outcome.rejected += 1
                    outcome.rejections.append(row)
                    continue
                totaller.add(outcome, row.status, row.values)  # type: ignore[union-attr]
                verdict, reason = matcher.take(row, number)  # type: ignore[arg-type]
                setattr(outcome, verdict, getattr(outcome, verdict) + 1)
                if reason is not None:
                    outcome.rejections.append(reason)
                if tally.rows % _PROGRESS_ROWS == 0:
                    self._report(outcome.file)
                    if len(matcher.batch.rows) >= 4 * self._batch_records:
                        self._flush(matcher)
        except FormatError as error:
            outcome.error = str(error)
        self._report(outcome.file)

    def _report(self, file: str) -> None:
        self._progress(Progress(file=file, rows=self._tally.rows, certified=self._tally.transactions))

    # --- one batch --------------------------------------------------------------------------

    def _flush(self, matcher: Matcher) -> None:
        schema, tally = matcher.schema, self._tally
        batch = matcher.batch
        match_red_letters(batch, self._vault, schema)
        warn_twins(batch, self._vault, tally.names)
        matcher.take_batch()
        for file, warning in batch.warnings:
            tally.files[file].warnings.append(warning)
        attests = list(cut_attests(batch, self._vault, schema, self._outbox, tally.names))
        changes = list(cut_changes(batch, self._vault, schema, self._outbox, tally.names))
        self._keyring.settle()
        self._land()
        self._make_durable(batch, attests + changes)
        self._flight = _Flight(
            batch,
            self._outbox.start([transaction for transaction, _rows in attests]),
            [transaction for transaction, _rows in changes],
        )
        # Memory: the values are in the vault now, and what follows needs keys and lines only.
        batch.new.clear()
        batch.books.clear()
        batch.changes.clear()
        gc.collect()

    def _make_durable(self, batch: Batch, parts: list[tuple[Transaction, list[RecordRow]]]) -> None:
        tags = {book.entry.tag: book.entry for book in batch.books.values()}
        attested = {new.tag for new in batch.new}
        with self._vault.database.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO tags VALUES (?, ?, ?)",
                [self._vault.tag_row(tags[tag]) for tag in sorted(attested)],
            )
            for _transaction, rows in parts:
                connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany(
                "UPDATE records SET red = 2 WHERE key = ?", [(key,) for key in batch.red_matched]
            )
            self._outbox.store(connection, [transaction for transaction, _rows in parts])

    def _land(self) -> None:
        """Waits for the batch under way, its changes after its attestations."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        self._note(self._outbox.finish(flight.attests))
        self._note(self._outbox.finish(self._outbox.start(flight.changes)))
        if self._tally.refused_keys:
            self._take_back(flight.batch)

    def _note(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            code = each.receipt.code
            if code:
                self._tally.refused.append((each.transaction.operation, code))
                self._tally.refused_keys.update(dict.fromkeys(each.refused, code))
            else:
                self._tally.transactions += 1
        if settled:
            self._report("")

    def _take_back(self, batch: Batch) -> None:
        """Rows of refused transactions, and duplicates of them, are rejected: they are not attested."""
        for file, line, key, verdict in batch.rows:
            code = self._tally.refused_keys.get(key)
            if code is None:
                continue
            outcome = self._tally.files[file]
            setattr(outcome, verdict, getattr(outcome, verdict) - 1)
            outcome.rejected += 1
            outcome.rejections.append(
                BadRow(
                    line=line, code="ledger_refused", column="", found=f"code {code}",
                    expected="a transaction that the ledger accepts (docs/protocol.md §8)",
                    expected_zh="账本接受的交易（见 docs/protocol.md 第 8 节）",
                )
            )  # fmt: skip

    # --- attested through -------------------------------------------------------------------

    def _move_through(self, schema: Schema, through: str | None) -> str | None:
        """The last transaction, when all that it vouches for is certified."""
        if through is None:
            return None
        tally = self._tally
        if any(each.error or each.rejected for each in tally.files):
            tally.notes.append(
                f"attested through was not moved to {through}: rows were rejected, so it would not be true"
            )
            return None
        present = self._vault.attested_through(schema.kind)
        if present is not None and present >= through:
            tally.notes.append(f"attested through stays at {present}")
            return None
        year = int(through[:4])
        self._keyring.require(year)
        self._keyring.settle()
        transaction = self._outbox.prepare(
            STAGE_THROUGH, "attest", encode_attest(schema.kind, year, through, ())
        )
        with self._vault.database.write() as connection:
            self._outbox.store(connection, [transaction])
        settled = self._outbox.finish(self._outbox.start([transaction]))
        self._note(settled)
        if settled[0].receipt.code:
            tally.notes.append(f"the ledger refused to move attested through: code {settled[0].receipt.code}")
            return None
        return through
