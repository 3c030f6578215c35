"""What a row means, given what is attested already: new, an amendment, a duplicate, or a conflict.

The rules, first fit (docs/sources.md):

* records of the row's month were erased → rejected ``erased``;
* a record of this identity was revoked, and the row says something else, or the record's whole batch was taken
  back → as if there were none: accepted, under the identity's next id;
* no record of this identity → accepted, with the row's status;
* other content under the same identity → a correction where the row says so (``correcting.py``), else rejected
  ``conflict``: the first stands;
* content and status of any version ever attested → duplicate (a reversed record was valid before);
* another status for content that was corrected since → ``content_outdated``;
* only the status differs: valid or reversed → voided is an amendment, valid → reversed too; back is
  ``status_backwards``.

Nothing here writes: a ``Batch`` collects what is to be attested, and ``upload`` makes it durable.
"""

from __future__ import annotations

from collections import defaultdict

from taxledger.ledger.errors import FormatError
from taxledger.ledger.packedrows import RowPacker
from taxledger.ledger.records import Status, identity, record_period
from taxledger.ledger.schemas import ROLE_PARTY, Row, Schema
from taxledger.ledger.statekeys import month_prefix, tag_prefix
from taxledger.nodes.custodian.batches import REVOKED, Batches
from taxledger.nodes.custodian.changeset import (
    ACCEPTED,
    AMENDED,
    DUPLICATE,
    ERASED,
    REASON_REVERSED,
    REASON_VOIDED,
    REJECTED,
    REVERSED,
    VALID,
    VOIDED,
    Batch,
    Book,
    Change,
    Known,
    NewRecord,
    bad_row,
)
from taxledger.nodes.custodian.correcting import Corrector
from taxledger.nodes.custodian.erasures import erased_months
from taxledger.nodes.custodian.rids import RidKeys, next_rid
from taxledger.nodes.custodian.tags import YEAR_MAX, YEAR_MIN, Keyring
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.sources.rows import BadRow, CellError, RowChange, SourceRow

__all__ = ["Matcher", "has_fingerprint", "warn_twins"]

_REVOKED = int(Status.REVOKED)
_MONTH = 20
"""Where the month byte stands in a record's key."""


class Matcher:
    """Sorts the rows of one schema into a batch."""

    def __init__(self, vault: Vault, keyring: Keyring, schema: Schema, files: list[str]) -> None:
        """``files`` are the names of the upload's files by number; it may grow."""
        self.schema = schema
        self.files = files
        self.batch = Batch()
        self._vault = vault
        self._keyring = keyring
        self._revoked_batches = Batches(vault).in_state(REVOKED)
        self._packer = RowPacker(schema)
        self._corrector = Corrector(vault, schema, self._packer)
        self._marks = schema.fingerprint is not None or any(each.role == ROLE_PARTY for each in schema.fields)
        at = schema.position
        self._amounts = (at["net"], at["tax"], at["gross"]) if {"net", "tax", "gross"} <= set(at) else None

    def take_batch(self) -> Batch:
        """The batch so far; the next row begins a new one."""
        batch, self.batch = self.batch, Batch()
        return batch

    def take(self, row: SourceRow, file: int) -> tuple[str, BadRow | None]:
        """(verdict, reason when rejected) of a row of file number ``file``."""
        values = row.values
        try:
            year, month = record_period(self.schema, values)
        except (FormatError, ValueError):
            return REJECTED, bad_row(row.line, "period_missing", "", "a period", "所属期")
        if not YEAR_MIN <= year <= YEAR_MAX:
            return REJECTED, bad_row(
                row.line,
                "year_out_of_range",
                str(year),
                f"a year {YEAR_MIN}–{YEAR_MAX}",
                f"{YEAR_MIN}–{YEAR_MAX} 年",
            )
        book = self.batch.books.get((row.subject, year)) or self._open_book(row.subject, year)
        packer = self._packer
        packed, chosen = packer.pack(values), packer.identity(values)
        tag = book.entry.tag
        if month in book.erased:
            return REJECTED, _erased(row.line)
        rid_key = book.rids.of(month)
        rid = content = packer.record_id(rid_key, tag, packed, chosen)
        if chosen is not packer.all_fields:
            content = packer.record_id(rid_key, tag, packed, packer.all_fields)
        key = month_prefix(self._vault.member, self.schema.kind, tag, month) + rid
        known = book.known.get(key)
        first, attempt = rid, 0
        while known is not None and known.status == _REVOKED and self._makes_way(known, content):
            attempt += 1
            rid = next_rid(rid_key, first, attempt)
            key = key[: -len(rid)] + rid
            known = book.known.get(key)
        if known is not None:
            return self._compare(row, file, book, known, content)
        try:
            self.schema.check_fields(values)
        except FormatError as error:
            expected, expected_zh = "fields that fit the schema", "符合模式的字段"
            return REJECTED, bad_row(row.line, "fields_malformed", str(error), expected, expected_zh)
        # A mark is a fingerprint that every record has, so that twins among purchases are seen as well.
        mark = packer.mark(book.secret, packed, chosen) if self._marks else None
        new = NewRecord(
            key=key, year=year, tag=tag, month=month, rid=rid, status=row.status, values=values,
            packed=packed, content=content, file=file, line=row.line, mark=mark,
            on_ledger=has_fingerprint(self.schema, values),
        )  # fmt: skip
        self._accept(row, book, new)
        return ACCEPTED, None

    def _makes_way(self, known: Known, content: bytes) -> bool:
        """Whether what a row says is attested in the place of a revoked record: never the very thing that was taken
        back by hand, which every file of that month may hold again.
        """
        if content not in known.statuses:
            return True
        opened = self._vault.record(known.key, known.version)
        return opened is not None and opened.batch in self._revoked_batches

    def take_change(self, change: RowChange, file: int) -> tuple[str, BadRow | None]:
        """(verdict, reason when rejected) of what file number ``file`` says of a record it does not state."""
        found = self._find(change)
        if found is None:
            named = ", ".join(f"{name} {value}" for name, value in change.identity.items())
            return REJECTED, bad_row(
                change.line, "record_unknown", named,
                f"a record of {change.subject} with this identity, attested before",
                f"{change.subject} 名下已登记的同号记录",
            )  # fmt: skip
        book, known = found
        values = list(self._corrector.present(self.batch, known))
        for name, value in change.fields.items():
            values[self.schema.position[name]] = value
        status = known.status if change.status is None else change.status
        return self._corrector.settle(self.batch, book, known, tuple(values), status, change.line, file)

    def _find(self, change: RowChange) -> tuple[Book, Known] | None:
        """The record of an identity, whatever its month; of several the newest."""
        values = self.schema.row(change.identity)
        packed, chosen = self._packer.pack(values), self._packer.identity(values)
        subject, member, kind = change.subject, self._vault.member, self.schema.kind
        for year in sorted(self._vault.years(), reverse=True):
            book = self.batch.books.get((subject, year))
            if book is None and not self._vault.has_tag(subject, kind, year):
                continue
            book = book or self._open_book(subject, year)
            tag = book.entry.tag
            for month in sorted(book.months, reverse=True):
                rid_key, prefix = book.rids.of(month), month_prefix(member, kind, tag, month)
                first = self._packer.record_id(rid_key, tag, packed, chosen)
                known, attempt = book.known.get(prefix + first), 0
                while known is not None and known.status == _REVOKED:
                    attempt += 1
                    later = book.known.get(prefix + next_rid(rid_key, first, attempt))
                    if later is None:
                        break
                    known = later
                if known is not None:
                    return book, known
        return None

    def _open_book(self, subject: str, year: int) -> Book:
        keys = self._keyring.require(year)
        kind = self.schema.kind
        entry = self._vault.tag(subject, kind, year)
        assert entry is not None, "the year's keys are there"
        prefix = tag_prefix(self._vault.member, kind, entry.tag)
        known: dict[bytes, Known] = {}
        for each in self._vault.versions(prefix):
            record = known.get(each.key)
            if record is None:
                record = known[each.key] = Known(each.key, 0, 0, {}, each.content)
            record.version, record.content, record.red = each.version, each.content, each.red
            record.status = _REVOKED if each.revoked else each.status
            record.statuses[each.content] = record.statuses.get(each.content, 0) | 1 << each.status
            if each.version > 1:
                # What a correction made of it: a row that says the same belongs to this record.
                known.setdefault(each.key[:21] + each.content, record)
        months = {key[_MONTH] for key in known}
        rids = RidKeys(self._vault, entry.tag, keys.secret, months)
        erased = erased_months(self._vault, prefix)
        book = Book(subject, entry, prefix, keys.secret, rids, known, erased, months)
        self.batch.books[subject, year] = book
        return book

    def _accept(self, row: SourceRow, book: Book, new: NewRecord) -> None:
        book.months.add(new.month)
        statuses = {new.content: 1 << new.status}
        book.known[new.key] = Known(new.key, 1, new.status, statuses, new.content, 0, new)
        self.batch.new.append(new)
        self.batch.rows.append((new.file, new.line, new.key, ACCEPTED))
        if self._amounts is not None:
            self._check_amounts(row, new.file)

    def _check_amounts(self, row: SourceRow, file: int) -> None:
        assert self._amounts is not None
        net, tax, gross = (row.values[at] for at in self._amounts)
        if type(net) is int and type(tax) is int and type(gross) is int and net + tax != gross:
            bad = BadRow(
                line=row.line, code="amounts_differ", column="gross", found=str(gross),
                expected=f"net + tax = {net + tax} (minor units); attested as given",
                expected_zh=f"金额 + 税额 = {net + tax}（分）；已按原样登记",
            )  # fmt: skip
            self.batch.warnings.append((file, bad))

    def _compare(
        self, row: SourceRow, file: int, book: Book, known: Known, content: bytes
    ) -> tuple[str, BadRow | None]:
        had = known.statuses.get(content)
        status = row.status
        if had is None:
            return self._correct(row, file, book, known)
        if had & 1 << status or (status == VALID and had & 1 << REVERSED):
            self.batch.rows.append((file, row.line, known.key, DUPLICATE))
            if known.status == _REVOKED:
                self.batch.warnings.append((file, _revoked(row.line)))
            return DUPLICATE, None
        forward = (status == VOIDED and known.status in (VALID, REVERSED)) or (
            status == REVERSED and known.status == VALID
        )
        if content != known.content:
            expected, expected_zh = "the content that it was corrected to", "更正后的内容"
            return REJECTED, bad_row(row.line, "content_outdated", "", expected, expected_zh)
        if not forward:
            name = Status(known.status).name.lower()
            return REJECTED, bad_row(
                row.line,
                "status_backwards",
                Status(status).name.lower(),
                f"no way back: the record is {name}",
                f"状态不可回退：该记录现为 {name}",
            )
        self._amend(row, file, known, content)
        return AMENDED, None

    def _correct(self, row: SourceRow, file: int, book: Book, known: Known) -> tuple[str, BadRow | None]:
        if row.corrects is None:
            return REJECTED, self._conflict(row, known)
        try:
            corrected = row.corrects(self._corrector.present(self.batch, known))
        except CellError as error:
            return REJECTED, bad_row(row.line, error.code, "", error.expected, error.expected_zh)
        if corrected is None:
            return REJECTED, self._conflict(row, known)
        return self._corrector.settle(self.batch, book, known, corrected, row.status, row.line, file)

    def _amend(self, row: SourceRow, file: int, known: Known, content: bytes) -> None:
        if known.red == 2 and row.status == VOIDED:
            bad = bad_row(
                row.line, "reversal_stands", "voided red letter",
                "the original that it reversed stays reversed: amend it if that is wrong",
                "被该红字发票冲销的原发票仍为已冲销状态；如有误请另行更正",
            )  # fmt: skip
            self.batch.warnings.append((file, bad))
        earlier = self.batch.changes.get(known.key)
        reason = REASON_VOIDED if row.status == VOIDED else REASON_REVERSED
        if earlier is not None:
            # Two steps within one batch become one: nobody saw the one between.
            earlier.status, earlier.reason, earlier.line, earlier.file = row.status, reason, row.line, file
        else:
            self.batch.changes[known.key] = Change(
                key=known.key, version=known.version, status=row.status, values=row.values, content=content,
                reason=reason, file=file, line=row.line, red=known.red,
            )  # fmt: skip
            known.version += 1
        known.status = row.status
        known.statuses[content] |= 1 << row.status
        self.batch.rows.append((file, row.line, known.key, AMENDED))

    def _conflict(self, row: SourceRow, known: Known) -> BadRow:
        if known.new is not None:
            file, line = self.files[known.new.file], known.new.line
        else:
            first = self._vault.record(known.key, 1)
            file, line = ("?", 0) if first is None else (first.file, first.line)
        identified = identity(self.schema, row.values)
        found = ", ".join(f"{name} {value}" for name, value in identified)
        return bad_row(
            row.line,
            "conflict",
            f"line {row.line}: {found}",
            f"the content of {file} line {line}, attested under the same number: the first stands",
            f"与 {file} 第 {line} 行登记的同号记录内容一致；以先登记者为准",
        )


def has_fingerprint(schema: Schema, values: Row) -> bool:
    """Whether the schema puts this record's fingerprint on the ledger."""
    if not schema.fingerprint:
        return schema.fingerprint is not None
    name, value = schema.fingerprint
    return values[schema.position[name]] == value


def _erased(line: int) -> BadRow:
    """The seed of the month's record ids is destroyed: whether this row is one of the erased can't be told."""
    return bad_row(
        line, ERASED, "", "a month of which no record was erased: what was erased is not attested again",
        "该所属期内无已删除的记录；已删除者不再登记",
    )  # fmt: skip


def _revoked(line: int) -> BadRow:
    return bad_row(
        line, "revoked", "", "no record that was revoked as attested in error: it stays revoked",
        "未被撤销的记录；该记录已作为误登记撤销，仍为撤销状态",
    )  # fmt: skip


def warn_twins(batch: Batch, vault: Vault, files: list[str]) -> None:
    """Warns where a new record's number, date and amounts stand under another counterparty or subject."""
    first: dict[bytes, NewRecord] = {}
    again: dict[bytes, list[NewRecord]] = defaultdict(list)
    for each in batch.new:
        if each.mark is None:
            continue
        if each.mark in first:
            again[each.mark].append(each)
        else:
            first[each.mark] = each
    stored = vault.marked(list(first))
    for mark, new in first.items():
        key = stored.get(mark)
        if key is not None:
            _warn_twin(batch, new, f"record {key.hex()}", f"记录 {key.hex()}")
        for each in again.get(mark, ()):
            name = files[new.file]
            _warn_twin(batch, each, f"{name} line {new.line}", f"{name} 第 {new.line} 行")


def _warn_twin(batch: Batch, new: NewRecord, where: str, where_zh: str) -> None:
    bad = bad_row(
        new.line,
        "twin",
        "",
        f"no other record with this number, date and amounts; {where} has them under another "
        "counterparty or subject",
        f"号码、日期、金额不与其他记录相同；{where_zh} 以其他交易方或主体登记了相同内容",
    )
    batch.warnings.append((new.file, bad))
