"""Changes of single records by hand: a correction, a voiding, a revocation, each with its reason in words.

The words and their salt stay in the vault; the ledger gets the reason's number and ``reason_digest``, so
that the issuer can show later what it said then. The order of durability is that of ``outbox.py``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taxledger.ledger import limits
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.hashing import domain_hash
from taxledger.ledger.operations import RevokeChange, encode_amend, encode_revoke
from taxledger.ledger.records import Status, fingerprint, identity, record_id, record_period
from taxledger.ledger.schemas import Row, Schema, Value
from taxledger.ledger.statekeys import split_record_key
from taxledger.nodes.custodian.changeset import Change
from taxledger.nodes.custodian.erasures import is_erased
from taxledger.nodes.custodian.matching import has_fingerprint
from taxledger.nodes.custodian.outbox import STAGE_CHANGE, Outbox, Receipt, Submitter
from taxledger.nodes.custodian.rids import RidKeys
from taxledger.nodes.custodian.staging import next_version
from taxledger.nodes.custodian.tags import require_accepted
from taxledger.nodes.custodian.vault import StoredVersion, TagEntry, Vault
from taxledger.nodes.identity.memberkeys import TransactionSigner

__all__ = ["REASONS", "Amender", "RecordHistory", "VersionNote", "check_reason", "record_history"]

REASONS = {
    "correction": 1,
    "voided by the parties": 2,
    "reversed by a red letter": 3,
    "attested in error": 4,
    "other": 5,
}
"""Number of every reason on the ledger (docs/protocol.md §3)."""

_ALLOWED = {
    (Status.VALID, Status.VALID), (Status.VALID, Status.VOIDED), (Status.VALID, Status.REVERSED),
    (Status.REVERSED, Status.VOIDED), (Status.REVERSED, Status.REVERSED),
}  # fmt: skip
"""Rule 11: from the present status to the next."""

_REASON_OF = {Status.VALID: 1, Status.VOIDED: 2, Status.REVERSED: 3}
_SALT_BYTES = 32


class Amender:
    """Amends and revokes records of one vault."""

    def __init__(
        self,
        vault: Vault,
        signer: TransactionSigner,
        submitter: Submitter,
        *,
        schemas: Sequence[Schema] = BUILTIN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """See ``upload.Uploader``; ``schemas`` are those that the records may name."""
        self._vault = vault
        self._signer = signer
        self._submitter = submitter
        self._schemas = {(each.kind, each.number): each for each in schemas}
        self._clock = clock

    def amend(
        self,
        key: bytes,
        *,
        reason: str,
        status: Status | None = None,
        fields: Mapping[str, Value] | None = None,
        reason_number: int | None = None,
    ) -> Receipt:
        """Makes a record's next version, and returns when it is certified.

        Args:
            key: 37 bytes.
            reason: in words, at most 1,024 bytes; stays in the vault.
            status: the new one, or None to keep it.
            fields: new values by field, None to take a value away; fields not named stay.
            reason_number: 1–5; by default what the new status suggests.

        Raises:
            FormatError: nothing would change, or a value does not fit, or would move the record to another
            key. RefusedError: ``record_unknown``, ``transition_invalid``, or the ledger's own refusal.
            UnavailableError: not certified in time; the next upload or amendment goes on with it.
        """
        check_reason(reason)
        with self._vault.exclusive():
            outbox = Outbox(self._vault, self._signer, self._submitter, self._clock)
            try:
                require_accepted(outbox.resume())
                return self._amend(outbox, key, reason, status, fields or {}, reason_number)
            finally:
                outbox.close()

    def value(self, key: bytes, field: str) -> Value:
        """The present value of a field of a record; None where it has none, or the record is not known here."""
        for _, opened in self._vault.newest(key):
            schema = self._schemas.get((split_record_key(key)[1], opened.schema))
            if schema is not None and field in schema.position:
                return opened.values[schema.position[field]]
        return None

    def revoke(self, key: bytes, *, reason: str, reason_number: int = 4) -> Receipt:
        """Takes a record back that was attested in error. Arguments and errors: see ``amend``."""
        check_reason(reason)
        with self._vault.exclusive():
            outbox = Outbox(self._vault, self._signer, self._submitter, self._clock)
            try:
                require_accepted(outbox.resume())
                return self._revoke(outbox, key, reason, reason_number)
            finally:
                outbox.close()

    def _amend(
        self,
        outbox: Outbox,
        key: bytes,
        reason: str,
        status: Status | None,
        fields: Mapping[str, Value],
        reason_number: int | None,
    ) -> Receipt:
        stored, schema, owner, values = self._present(key)
        present = Status(stored.status)
        target = present if status is None else status
        if stored.revoked or (present, target) not in _ALLOWED:
            shown = Status.REVOKED if stored.revoked else present
            raise RefusedError(
                "transition_invalid", f"a {shown.name.lower()} record can't become {target.name.lower()}"
            )
        unknown = [name for name in fields if name not in schema.position]
        if unknown:
            raise FormatError(
                f"expected fields of {schema.name}: {', '.join(schema.position)}; got {unknown[0]!r}"
            )
        new = tuple(fields.get(each.name, value) for each, value in zip(schema.fields, values, strict=True))
        if new == values and target == present:
            raise FormatError("expected another status or other fields: nothing would change")
        content, mark = self._content(key, schema, owner, values, new)
        change = Change(
            key=key, version=stored.version, status=int(target), values=new, content=content,
            reason=reason_number or _REASON_OF[target], file=-1, line=0, red=stored.red,
        )  # fmt: skip
        digest, sealed_reason = self._reason(key, stored.version + 1, change.reason, reason)
        entry, sealed, mark = next_version(self._vault, schema, change, mark, [], digest)
        transaction = outbox.prepare(STAGE_CHANGE, "amend", encode_amend(schema.kind, [entry]))
        with self._vault.database.write() as connection:
            connection.execute(
                "INSERT INTO records VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
                (
                    key, change.version + 1, change.status, change.red, mark, content, transaction.sequence,
                    sealed,
                ),
            )  # fmt: skip
            connection.execute(
                "INSERT INTO reasons VALUES (?, ?, 'amend', ?, ?)",
                (key, change.version + 1, transaction.sequence, sealed_reason),
            )
            outbox.store(connection, [transaction])
        return _accepted(outbox.finish(outbox.start([transaction]))[0].receipt)

    def _content(
        self, key: bytes, schema: Schema, owner: TagEntry, old: Row, new: Row
    ) -> tuple[bytes, bytes | None]:
        """(content, mark) of the new fields, when they may stand under the record's key."""
        schema.check_fields(new)
        if record_period(schema, new) != record_period(schema, old):
            raise FormatError("the period is part of a record's key: revoke it and attest it anew")
        before, after = identity(schema, old), identity(schema, new)
        # Where all fields are the identity, the key stays the first version's, and ``content`` finds it.
        if before != after and min(len(before), len(after)) < len(new):
            names = ", ".join(name for name, _value in before)
            raise FormatError(f"{names} is what makes the record unique: revoke it and attest it anew")
        keys = self._vault.year(owner.year)
        assert keys is not None
        everything = [(each.name, value) for each, value in zip(schema.fields, new, strict=True)]
        month = key[20]
        rids = RidKeys(self._vault, owner.tag, keys.secret, [month])
        content = record_id(rids.of(month), schema.kind, owner.tag, everything)
        mark = fingerprint(keys.secret, schema, new, after) if has_fingerprint(schema, new) else None
        return content, mark

    def _revoke(self, outbox: Outbox, key: bytes, reason: str, reason_number: int) -> Receipt:
        stored, schema, _owner, _values = self._present(key)
        if stored.revoked or stored.status not in (Status.VALID, Status.VOIDED, Status.REVERSED):
            raise RefusedError("transition_invalid", "the record is revoked already")
        digest, sealed_reason = self._reason(key, stored.version, reason_number, reason)
        entry = RevokeChange(key=key, version=stored.version, reason=reason_number, reason_digest=digest)
        transaction = outbox.prepare(STAGE_CHANGE, "revoke", encode_revoke(schema.kind, [entry]))
        with self._vault.database.write() as connection:
            connection.execute(
                "UPDATE records SET revoked = ? WHERE key = ? AND version = ?",
                (transaction.sequence, key, stored.version),
            )
            connection.execute(
                "INSERT INTO reasons VALUES (?, ?, 'revoke', ?, ?)",
                (key, stored.version, transaction.sequence, sealed_reason),
            )
            outbox.store(connection, [transaction])
        return _accepted(outbox.finish(outbox.start([transaction]))[0].receipt)

    def _present(self, key: bytes) -> tuple[StoredVersion, Schema, TagEntry, Row]:
        issuer, kind, tag, _month, _rid = split_record_key(key)
        versions = self._vault.versions(key)
        owner = self._vault.tag_owner(tag)
        if is_erased(self._vault, key):
            raise RefusedError("record_erased", f"record {key.hex()} was erased: nothing of it is left here")
        if issuer != self._vault.member or not versions or owner is None:
            raise RefusedError("record_unknown", f"this vault holds no record {key.hex()}")
        if self._vault.is_staged(key):
            raise RefusedError(
                "record_staged",
                f"record {key.hex()} is of an upload that was interrupted: run that again first",
            )
        stored = versions[-1]
        opened = self._vault.record(key, stored.version)
        schema = None if opened is None else self._schemas.get((kind, opened.schema))
        if opened is None or schema is None:
            raise FormatError(f"record {key.hex()} is of a schema that is not known here")
        return stored, schema, owner, opened.values

    def _reason(self, key: bytes, version: int, number: int, text: str) -> tuple[bytes, bytes]:
        """(digest for the ledger, sealed row)."""
        if not 1 <= number <= len(REASONS):
            raise FormatError(f"expected a reason 1–{len(REASONS)}, got {number}")
        salt = os.urandom(_SALT_BYTES)
        digest = domain_hash("reason", salt + text.encode())
        return digest, self._vault.seal_reason(key, version, number, salt, text)


def check_reason(text: str) -> None:
    """Raises FormatError where a reason is no words, or too many."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = 0
    if not text.strip() or not 0 < size <= limits.reason_text_bytes_max:
        raise FormatError(f"expected a reason in words, at most {limits.reason_text_bytes_max} bytes")


def _accepted(receipt: Receipt) -> Receipt:
    if receipt.code:
        raise RefusedError(
            "ledger_refused", f"the ledger refused the change with code {receipt.code}; nothing was changed"
        )
    return receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNote:
    """What the custodian knows about one step of a record.

    Attributes:
        operation: ``attest``, ``amend`` or ``revoke``; ``version`` the one it made (or revoked).
        status: after it.
        values: the fields by name.
        file, line: the row that it came from, "" and 0 where it was made by hand.
        reason: in words, and ``salt`` (32 bytes) to check it against the ledger's digest; None where none
        was given.
    """

    operation: str
    version: int
    status: int
    values: Mapping[str, Value]
    file: str
    line: int
    reason: str | None
    salt: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHistory:
    """A record as its custodian can show it: whose it is, and every step, oldest first."""

    key: bytes
    subject: str
    year: int
    steps: Sequence[VersionNote]


def record_history(vault: Vault, key: bytes, schemas: Sequence[Schema] = BUILTIN) -> RecordHistory | None:
    """What the vault knows about a record (37-byte key), or None when it does not hold it.

    Raises:
        FormatError: no record key, or the vault is damaged.
    """
    _issuer, kind, tag, _month, _rid = split_record_key(key)
    owner, versions = vault.tag_owner(tag), vault.versions(key)
    if owner is None or not versions:
        return None
    known = {each.number: each for each in schemas if each.kind == kind}
    reasons = vault.reasons(key)
    steps: list[VersionNote] = []
    for each in versions:
        opened = vault.record(key, each.version)
        assert opened is not None
        schema = known.get(opened.schema)
        values = {} if schema is None else schema.named(opened.values)
        operations = [("attest" if each.version == 1 else "amend", each.status)]
        if each.revoked:
            operations.append(("revoke", int(Status.REVOKED)))
        for operation, status in operations:
            said = reasons.get((operation, each.version))
            steps.append(
                VersionNote(
                    operation=operation, version=each.version, status=status, values=values,
                    file=opened.file if operation != "revoke" else "",
                    line=opened.line if operation != "revoke" else 0,
                    reason=None if said is None else said[2], salt=None if said is None else said[1],
                )
            )  # fmt: skip
    return RecordHistory(key=key, subject=owner.subject, year=owner.year, steps=steps)
