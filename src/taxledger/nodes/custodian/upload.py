"""An upload: files to rows, rows to durable records, all of them to one submission, results back to the files.

Two phases. The order of the first, part by part, once the batch has its number (``batches.py``):

    1. the tag keys of the part's years are certified
    2. its records and secrets, and what is to be submitted of them, are durable in one commit (``staging.py``)

Nothing of a record is submitted before the last file is read. Then, over everything staged (``submission.py``):

    3. signed transactions are durable, in the commit that takes their rows out of the staged ones
    4. they are submitted, several at a time, until all are certified: new records first, then changes

So records are sorted over all files, and neither the order of files nor where a batch ended shows on the
ledger. An upload that was interrupted anywhere goes on when it is run again: what is pending is brought to its
end first; rows that were staged or attested by then are duplicates; what is still staged goes with the rest.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from taxledger.ledger.errors import FormatError
from taxledger.ledger.operations import encode_attest
from taxledger.ledger.schemas import is_date
from taxledger.nodes.custodian.batches import Batches
from taxledger.nodes.custodian.changeset import ERASED
from taxledger.nodes.custodian.matching import Matcher, warn_twins
from taxledger.nodes.custodian.outbox import STAGE_THROUGH, Outbox, Receipt, Settled, Submitter
from taxledger.nodes.custodian.redletters import match_red_letters
from taxledger.nodes.custodian.report import FileOutcome, Totaller, UploadOutcome
from taxledger.nodes.custodian.staging import stage
from taxledger.nodes.custodian.submission import Submission
from taxledger.nodes.custodian.tags import Keyring, require_accepted
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.custodian.verdicts import Verdicts
from taxledger.nodes.identity.memberkeys import TransactionSigner
from taxledger.nodes.sources.rows import BadRow, DatedSource, RowChange, Source

__all__ = ["BATCH_RECORDS", "Progress", "Uploader"]

BATCH_RECORDS = 20_000
"""Local: new records and changes collected before they are made durable; about 60 MB."""

_PROGRESS_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where an upload stands.

    Attributes:
        file: the one that is being read; empty when all are read.
        rows: read so far.
        staged: records and changes to submit; 0 while files are read.
        certified: how many of those the ledger has answered for.
    """

    file: str
    rows: int
    staged: int
    certified: int


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
    staged: int = 0
    certified: int = 0


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
        signer: TransactionSigner,
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
            progress: called about every thousand rows and some thousand records submitted, from this thread.
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
            refused); ``batch_revoking``: a revocation has to be brought to its end first. FormatError: no
            date to attest through, or the vault is damaged.
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
        signer: TransactionSigner,
        submitter: Submitter,
        progress: Callable[[Progress], None],
        clock: Callable[[], float],
        batch_records: int,
    ) -> None:
        self._vault = vault
        self._progress = progress
        self._batch_records = batch_records
        self._clock = clock
        self._batches = Batches(vault)
        self._number = 0
        self._outbox = Outbox(vault, signer, submitter, clock)
        self._keyring = Keyring(vault, self._outbox)
        self._submission = Submission(vault, self._outbox, self._note)
        self._tally = _Tally()
        self._verdicts = Verdicts()

    def upload(
        self, paths: Sequence[Path], source: Source, through: str | None, *, dry_run: bool
    ) -> UploadOutcome:
        tally = self._tally
        try:
            self._batches.require_none_revoking()
            resumed = self._outbox.resume()
            require_accepted(resumed)
            self._number = self._batches.begin(
                source.schema.kind, [str(each) for each in paths], int(self._clock() * 1_000)
            )
            left = self._submission.count()
            if left:
                tally.notes.append(
                    f"{left:,} records and changes that an interrupted upload had prepared went with this one"
                )
            self._stage(paths, source)
            tally.staged = self._submission.count()
            self._report("")
            self._submission.submit()
            if tally.refused_keys:
                self._take_back()
            self._batches.note_counts(self._number, tally.files, done=True)
            moved = self._move_through(source, through)
        finally:
            self._outbox.close()
            self._verdicts.close()
        return UploadOutcome(
            files=tally.files,
            transactions=tally.transactions,
            refused=tally.refused,
            resumed=len(resumed),
            resumed_refused=sum(each.receipt.code != 0 for each in resumed),
            through=moved,
            notes=tally.notes,
            dry_run=dry_run,
            batches=() if dry_run else (self._number,),
        )

    # --- files to staged records ------------------------------------------------------------

    def _stage(self, paths: Sequence[Path], source: Source) -> None:
        matcher = Matcher(self._vault, self._keyring, source.schema, self._tally.names)
        totaller = Totaller(source.schema)
        for path in paths:
            self._read(path, source, matcher, totaller)
            if len(matcher.batch.new) + len(matcher.batch.changes) >= self._batch_records:
                self._flush(matcher)
        self._flush(matcher)

    def _read(self, path: Path, source: Source, matcher: Matcher, totaller: Totaller) -> None:
        tally = self._tally
        outcome = FileOutcome(file=str(path), money=totaller.money, kind=totaller.kind)
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
                if type(row) is RowChange:
                    verdict, reason = matcher.take_change(row, number)
                else:
                    totaller.add(outcome, row.status, row.values)  # type: ignore[union-attr, arg-type]
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
        tally = self._tally
        self._progress(Progress(file=file, rows=tally.rows, staged=tally.staged, certified=tally.certified))

    def _flush(self, matcher: Matcher) -> None:
        schema, tally = matcher.schema, self._tally
        batch = matcher.batch
        match_red_letters(batch, self._vault, schema)
        warn_twins(batch, self._vault, tally.names)
        matcher.take_batch()
        for file, warning in batch.warnings:
            tally.files[file].warnings.append(warning)
        self._keyring.settle()
        stage(batch, self._vault, schema, tally.names, self._number)
        self._batches.note_counts(self._number, tally.files)
        self._verdicts.add(batch.rows)
        del batch
        gc.collect()

    # --- results back to the files ----------------------------------------------------------

    def _note(self, settled: Sequence[Settled], records: int) -> None:
        tally = self._tally
        tally.certified += records
        for each in settled:
            code = each.receipt.code
            if code:
                tally.refused.append((each.transaction.operation, code))
                tally.refused_keys.update(dict.fromkeys(each.refused, code))
            else:
                tally.transactions += 1
        self._report("")

    def _take_back(self) -> None:
        """Rows of refused transactions, and duplicates of them, are rejected: they are not attested."""
        for file, line, key, verdict in self._verdicts:
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

    def _move_through(self, source: Source, through: str | None) -> str | None:
        """The last transaction, when all that it vouches for is certified."""
        if through is None:
            return None
        tally, schema = self._tally, source.schema
        known = source.through_max if isinstance(source, DatedSource) else None
        if known is not None and known < through:
            tally.notes.append(
                f"attested through was not moved to {through}: the files say nothing of what came after {known}"
            )
            return None
        # A row of an erased month is no omission: the erased records are there, and are counted.
        wanting = any(bad.code != ERASED for each in tally.files for bad in each.rejections)
        if tally.refused or wanting or any(each.error for each in tally.files):
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
        self._note(settled, 0)
        if settled[0].receipt.code:
            tally.notes.append(f"the ledger refused to move attested through: code {settled[0].receipt.code}")
            return None
        return through
