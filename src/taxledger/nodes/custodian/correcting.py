"""Rows that say that they replace what stands: a record's next version with other content, reason ``correction``.

Whether a row may replace is the source's to say (``SourceRow.corrects``, ``RowChange``): it has read the file. What
may not happen is decided here: a record never moves to another key, and never back from voided.
"""

from __future__ import annotations

from taxledger.ledger.errors import FormatError
from taxledger.ledger.packedrows import RowPacker
from taxledger.ledger.records import Status, record_period
from taxledger.ledger.schemas import ROLE_PARTY, Row, Schema
from taxledger.nodes.custodian.changeset import (
    AMENDED,
    DUPLICATE,
    REASON_CORRECTION,
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
    bad_row,
)
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.sources.rows import BadRow

__all__ = ["Corrector"]

_ALLOWED = {(VALID, VALID), (VALID, VOIDED), (VALID, REVERSED), (REVERSED, VOIDED), (REVERSED, REVERSED)}
"""Rule 11 of the ledger: from the present status to the next."""
_REASONS = {VOIDED: REASON_VOIDED, REVERSED: REASON_REVERSED}


class Corrector:
    """Corrects records of one schema."""

    def __init__(self, vault: Vault, schema: Schema, packer: RowPacker) -> None:
        self._vault = vault
        self._schema = schema
        self._packer = packer
        self._marks = schema.fingerprint is not None or any(each.role == ROLE_PARTY for each in schema.fields)

    def present(self, batch: Batch, known: Known) -> Row:
        """The fields of a record as they stand, or will when the batch is attested."""
        change = batch.changes.get(known.key)
        if change is not None:
            return change.values
        if known.new is not None:
            return known.new.values
        opened = self._vault.record(known.key, known.version)
        assert opened is not None, "a version of the vault is there"
        return opened.values

    def settle(
        self, batch: Batch, book: Book, known: Known, values: Row, status: int, line: int, file: int
    ) -> tuple[str, BadRow | None]:
        """(verdict, reason when rejected) of new fields and a status for a record that is known."""
        packer = self._packer
        try:
            self._schema.check_fields(values)
            moved = self._moved(self.present(batch, known), values)
        except (FormatError, ValueError) as error:
            expected, expected_zh = "fields that fit the schema", "符合模式的字段"
            return REJECTED, bad_row(line, "fields_malformed", str(error), expected, expected_zh)
        if moved:
            return REJECTED, bad_row(
                line,
                "identity_moved",
                "",
                "the period and identity that the record has",
                "与原记录相同的所属期和标识",
            )
        packed, chosen = packer.pack(values), packer.identity(values)
        content = packer.record_id(book.rids.of(known.key[20]), book.entry.tag, packed, packer.all_fields)
        target = REVERSED if status == VALID and known.status == REVERSED else status
        had = known.statuses.get(content, 0)
        if had & 1 << status or had & 1 << target:
            # As it stands, or as it once stood: files that were read before change nothing when read again.
            batch.rows.append((file, line, known.key, DUPLICATE))
            return DUPLICATE, None
        if (known.status, target) not in _ALLOWED:
            name = Status(known.status).name.lower()
            return REJECTED, bad_row(
                line, "status_backwards", Status(status).name.lower(),
                f"no way back: the record is {name}", f"状态不可回退：该记录现为 {name}",
            )  # fmt: skip
        mark = packer.mark(book.secret, packed, chosen) if self._marks else None
        self._amend(batch, known, values, content, target, mark, (file, line))
        return AMENDED, None

    def _moved(self, old: Row, new: Row) -> bool:
        """Whether the new fields would be another record's: the key of a record never changes."""
        if record_period(self._schema, old) != record_period(self._schema, new):
            return True
        chosen = self._packer.identity(old)
        if chosen is self._packer.all_fields:
            # Its identity is all of its first version: the key stays, and its new content finds it.
            return self._packer.identity(new) is not chosen
        return self._packer.identity(new) != chosen or any(old[at] != new[at] for at in chosen)

    def _amend(
        self, batch: Batch, known: Known, values: Row, content: bytes, status: int, mark: bytes | None,
        place: tuple[int, int],
    ) -> None:  # fmt: skip
        file, line = place
        # A record that was reversed and stays so is corrected; so is one that stays valid.
        reason = REASON_CORRECTION if known.status == status else _REASONS[status]
        earlier = batch.changes.get(known.key)
        if earlier is not None and earlier.status == status:
            reason = earlier.reason
        if earlier is not None:
            # Two steps within one batch become one: nobody saw the one between.
            earlier.values, earlier.content, earlier.status = values, content, status
            earlier.reason, earlier.mark, earlier.file, earlier.line = reason, mark, file, line
        else:
            batch.changes[known.key] = Change(
                key=known.key, version=known.version, status=status, values=values, content=content,
                reason=reason, file=file, line=line, red=known.red, mark=mark,
            )  # fmt: skip
            known.version += 1
        known.status, known.content = status, content
        known.statuses[content] = known.statuses.get(content, 0) | 1 << status
        batch.rows.append((file, line, known.key, AMENDED))
