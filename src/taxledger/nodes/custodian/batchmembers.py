"""What has become of the records of a batch since: each in one of a few states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from taxledger.nodes.custodian.batches import Batches, Written
from taxledger.nodes.custodian.erasures import is_erased
from taxledger.nodes.custodian.vault import Vault

__all__ = ["AMENDED", "BatchMember", "members_of_batch"]

PRESENT, CHANGED, REVOKED, ERASED, STAGED, REFUSED = (
    "attested", "changed", "revoked", "erased", "not_submitted", "not_attested",
)  # fmt: skip
AMENDED = "amended"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMember:
    """A record that a batch attested, or amended.

    Attributes:
        key: 37 bytes.
        version: the last one that the batch made of it.
        file: number of the file; ``line`` in it; -1 and 0 where no row says so.
        state: ``attested``: as the batch left it; ``changed`` since; ``revoked``; ``erased``; ``not_submitted`` of an
            upload that was interrupted; ``not_attested``: the ledger refused it, or it is another batch's; ``amended``:
            another batch's record, of which this one made a version.
    """

    key: bytes
    version: int
    file: int
    line: int
    state: str

    @property
    def is_new(self) -> bool:
        """Whether this batch attested it and still does: what a revocation is about."""
        return self.state == PRESENT


def members_of_batch(vault: Vault, batches: Batches, number: int) -> Iterator[BatchMember]:
    """Every record of a batch, ascending by key."""
    has_staged = vault.database.one("SELECT 1 FROM staged LIMIT 1") is not None
    for key, written in batches.written(number).items():
        yield _member(vault, number, key, written, has_staged=has_staged)


def _member(
    vault: Vault, number: int, key: bytes, written: list[Written], *, has_staged: bool
) -> BatchMember:
    first = written[0].version
    for last in reversed(written):
        opened = vault.record(key, last.version)
        if opened is not None and opened.batch == number:
            break
    else:
        state = ERASED if is_erased(vault, key) else REFUSED
        return BatchMember(key=key, version=first, file=written[0].file, line=0, state=state)
    present = vault.versions(key)[-1]
    if first > 1:
        state = AMENDED
    elif present.version > last.version:
        state = CHANGED
    elif present.revoked:
        state = REVOKED
    elif has_staged and vault.is_staged(key):
        state = STAGED
    else:
        state = PRESENT
    return BatchMember(key=key, version=last.version, file=written[0].file, line=opened.line, state=state)
