"""Predicates whose inputs have changed become ``superseded`` (rule 11: 1 → 6). The order is that of ``outbox.py``.

    1. next versions and the signed ``amend`` are durable in one commit
    2. they are certified
    3. the vault forgets what the predicates came from

A crash after 1 leaves the transactions pending: whoever writes next brings them to their end, under the same
lock. A crash after 2 leaves rows of predicates that are superseded, which change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from taxledger.ledger import limits
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.consent import PREDICATE_KIND
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.operations import AmendChange, encode_amend
from taxledger.ledger.records import Status
from taxledger.nodes.custodian.changeset import Change
from taxledger.nodes.custodian.outbox import STAGE_CHANGE, Outbox, Settled
from taxledger.nodes.custodian.predicatebook import PredicateBook
from taxledger.nodes.custodian.staging import next_version
from taxledger.nodes.custodian.vault import StoredVersion, Vault

__all__ = ["PREDICATE_SCHEMA", "is_valid", "supersede"]

PREDICATE_SCHEMA = next(each for each in BUILTIN if each.kind == PREDICATE_KIND)

_REASON_OTHER = 5
_CHANGED_ALREADY = (9, 10, 11)
"""Somebody else was first (``record_unknown``, ``version_conflict``, ``transition_invalid``): it is not valid now."""


def is_valid(stored: StoredVersion) -> bool:
    """Whether the newest version of a record is neither superseded nor revoked."""
    return stored.status == Status.VALID and not stored.revoked


def supersede(vault: Vault, outbox: Outbox, predicates: Iterable[bytes]) -> int:
    """Supersedes those of these predicates (record keys) that are valid; returns how many.

    Under ``Vault.exclusive``, when nothing is pending. All that come together go in one transaction, sorted.

    Raises:
        RefusedError: ``ledger_refused``: the ledger takes no such change from this member.
        UnavailableError: not certified in time.
    """
    asked = sorted(set(predicates))
    valid = [stored for key in asked for stored in vault.versions(key)[-1:] if is_valid(stored)]
    settled: list[Settled] = []
    for at in range(0, len(valid), limits.amend_changes_max):
        settled += _supersede(vault, outbox, valid[at : at + limits.amend_changes_max])
    refused = [each.receipt.code for each in settled if each.receipt.code]
    if any(code not in _CHANGED_ALREADY for code in refused):
        raise RefusedError(
            "ledger_refused", f"the ledger refused to supersede predicates with code {refused[0]}"
        )
    PredicateBook(vault).forget(asked)
    return len(valid)


def _supersede(vault: Vault, outbox: Outbox, valid: Sequence[StoredVersion]) -> list[Settled]:
    entries: list[AmendChange] = []
    rows = []
    for stored in valid:
        opened = vault.record(stored.key, stored.version)
        assert opened is not None, "a version of the vault is there"
        change = Change(
            key=stored.key, version=stored.version, status=int(Status.SUPERSEDED), values=opened.values,
            content=stored.content, reason=_REASON_OTHER, file=-1, line=0,
        )  # fmt: skip
        entry, sealed, mark = next_version(vault, PREDICATE_SCHEMA, change, None, [])
        entries.append(entry)
        rows.append((stored.key, change.version + 1, change.status, 0, mark, change.content, sealed))
    transaction = outbox.prepare(STAGE_CHANGE, "amend", encode_amend(PREDICATE_KIND, entries))
    with vault.database.write() as connection:
        connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
            [(*row[:-1], transaction.sequence, row[-1]) for row in rows],
        )
        outbox.store(connection, [transaction])
    return outbox.finish(outbox.start([transaction]))
