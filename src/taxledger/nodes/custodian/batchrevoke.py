"""A wrong upload taken back: every record that it attested, and that stands as it left it, is revoked on the ledger.

What was changed since is somebody's later word, and stays, as does what the upload amended of other uploads: a record
has no way back to an earlier version. Both are reported. The order of durability:

    1. that the batch is revoked, and why
    2. step by step: the signed ``revoke`` transactions, the reasons, and the mark on each record, in one commit
    3. they are submitted; what is certified or refused is noted (``outbox.py``)
    4. that it is done

A crash leaves it between; the same command goes on. No upload is taken meanwhile: what it called a duplicate would be
revoked after it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taxledger.ledger import limits
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.hashing import domain_hash
from taxledger.ledger.operations import RevokeChange, encode_revoke
from taxledger.nodes.custodian.amend import REASONS, check_reason
from taxledger.nodes.custodian.batches import INTERRUPTED, REVOKED, REVOKING, Batch, Batches
from taxledger.nodes.custodian.batchmembers import BatchMember, members_of_batch
from taxledger.nodes.custodian.outbox import STAGE_CHANGE, Outbox, Submitter, Transaction
from taxledger.nodes.custodian.tags import require_accepted
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.identity.memberkeys import TransactionSigner

__all__ = ["BatchRevocation", "revoke_batch"]

_REASON = REASONS["attested in error"]
_SALT_BYTES = 32
_STEP_TRANSACTIONS = 8
"""Local: transactions that become durable in one commit, and are under way at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRevocation:
    """What became of it.

    Attributes:
        batch: as it is now.
        revoked: records that are revoked, those of an earlier, interrupted attempt included.
        transactions: how many this attempt needed.
        left: by state (``batchmembers.py``), how many records were left alone.
        amended: keys of records of other batches that this one amended; that is not undone.
        changed: keys of records that were changed since.
    """

    batch: Batch
    revoked: int
    transactions: int
    left: Mapping[str, int]
    amended: tuple[bytes, ...]
    changed: tuple[bytes, ...]


def revoke_batch(
    vault: Vault,
    signer: TransactionSigner,
    submitter: Submitter,
    number: int,
    *,
    reason: str,
    clock: Callable[[], float] = time.time,
) -> BatchRevocation:
    """Revokes what a batch attested, and returns when all of it is certified.

    Args:
        vault: the issuer's; ``signer``, ``submitter`` as of ``upload.Uploader``.
        number: of the batch.
        reason: in words; stays in the vault, the ledger gets a salted digest for each record. Of a revocation that was
            interrupted, the first reason counts.
        clock: seconds since 1970.

    Raises:
        FormatError: no reason in words.
        RefusedError: ``batch_unknown``; ``batch_revoked``: it was; ``batch_interrupted``: its upload has to be run
            again first; ``ledger_refused``.
        UnavailableError: not certified in time; run it again.
    """
    check_reason(reason)
    with vault.exclusive():
        batches = Batches(vault)
        batch = batches.get(number)
        if batch.state == REVOKED:
            raise RefusedError("batch_revoked", f"batch {number} is revoked already: nothing is left to do")
        if batch.state == INTERRUPTED:
            raise RefusedError(
                "batch_interrupted",
                f"batch {number} was interrupted: run its upload again, then there is a whole batch to revoke",
            )
        if batch.state != REVOKING:
            batches.begin_revocation(number, reason, int(clock() * 1_000))
        outbox = Outbox(vault, signer, submitter, clock)
        try:
            require_accepted(outbox.resume())
            members = list(members_of_batch(vault, batches, number))
            made = _revoke(vault, outbox, batches.get(number), [each for each in members if each.is_new])
        finally:
            outbox.close()
        batches.end_revocation(number)
        return _outcome(vault, batches, number, members, made)


def _revoke(vault: Vault, outbox: Outbox, batch: Batch, members: Sequence[BatchMember]) -> int:
    size = limits.amend_changes_max
    groups = [members[at : at + size] for at in range(0, len(members), size)]
    for at in range(0, len(groups), _STEP_TRANSACTIONS):
        step = _store(vault, outbox, batch, groups[at : at + _STEP_TRANSACTIONS])
        for each in outbox.finish(outbox.start(step)):
            if each.receipt.code:
                raise RefusedError(
                    "ledger_refused", f"the ledger refused a revocation with code {each.receipt.code}"
                )
    return len(groups)


def _store(
    vault: Vault, outbox: Outbox, batch: Batch, groups: Sequence[Sequence[BatchMember]]
) -> list[Transaction]:
    """Step 2 for some transactions: no record is marked without its transaction, none sent without the marks."""
    made, marks, reasons = [], [], []
    for group in groups:
        changes = []
        for each in group:
            salt = os.urandom(_SALT_BYTES)  # one each: equal digests would show what was uploaded together
            text = batch.reason or ""
            digest = domain_hash("reason", salt + text.encode())
            sealed = vault.seal_reason(each.key, each.version, _REASON, salt, text)
            changes.append(
                RevokeChange(key=each.key, version=each.version, reason=_REASON, reason_digest=digest)
            )
            reasons.append((each, sealed))
        transaction = outbox.prepare(STAGE_CHANGE, "revoke", encode_revoke(batch.kind, changes))
        made.append(transaction)
        marks += [(transaction.sequence, each.key, each.version) for each in group]
    with vault.database.write() as connection:
        connection.executemany("UPDATE records SET revoked = ? WHERE key = ? AND version = ?", marks)
        connection.executemany(
            "INSERT INTO reasons VALUES (?, ?, 'revoke', ?, ?)",
            [
                (each.key, each.version, sequence, sealed)
                for (each, sealed), (sequence, _key, _version) in zip(reasons, marks, strict=True)
            ],
        )
        outbox.store(connection, made)
    return made


def _outcome(
    vault: Vault, batches: Batches, number: int, members: Sequence[BatchMember], transactions: int
) -> BatchRevocation:
    after = list(members_of_batch(vault, batches, number)) if transactions else list(members)
    states = Counter(each.state for each in after)
    revoked = states.pop("revoked", 0)
    return BatchRevocation(
        batch=batches.get(number),
        revoked=revoked,
        transactions=transactions,
        left=dict(sorted(states.items())),
        amended=tuple(each.key for each in after if each.state == "amended"),
        changed=tuple(each.key for each in after if each.state == "changed"),
    )
