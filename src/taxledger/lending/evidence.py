"""Evidence as the lender keeps it: disclosure files with the questions they answer, verified anew whenever read.

Invariants:

* ``verify_evidence_set`` is the one way from bytes to ``Facts``: each file under the lender's own policy, asked what
  the lender asked, all about one subject and under one artefact, no kind twice.
* A file is named by its SHA-256, so a decision says exactly on what it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from taxledger.ledger.answer import Answer, AnsweredRecord
from taxledger.ledger.disclosure import Disclosed, verify_disclosure
from taxledger.ledger.errors import FormatError
from taxledger.ledger.policy import Policy
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.lending.facts import Coverage, Fact, Facts

__all__ = ["EvidenceFile", "EvidenceSet", "VerifiedEvidence", "facts_of", "verify_evidence_set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """A disclosure and what was asked for it.

    Attributes:
        query: the question (subject, issuer, kinds, months).
        data: the file of docs/protocol.md §13.
    """

    query: Query
    data: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).digest()


EvidenceSet = tuple[EvidenceFile, ...]
"""Ascending by issuer and kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEvidence:
    """What an evidence set says.

    Attributes:
        facts: the records, and how far they are complete.
        disclosed: what each file said, in the order of the set.
        digests: SHA-256 of each file, in the order of the set.
        age_ms: of the oldest answer when it was verified.
    """

    facts: Facts
    disclosed: tuple[Disclosed, ...]
    digests: tuple[bytes, ...]
    age_ms: int


def verify_evidence_set(
    files: Sequence[EvidenceFile], policy: Policy, *, recipient: int, now_ms: int, age_ms_max: int
) -> VerifiedEvidence:
    """Verify every file and join what they say.

    Args:
        files: at least one, all about one subject.
        policy: whom the lender trusts, its own file.
        recipient: the lender's member number.
        now_ms, age_ms_max: as of ``verify_disclosure``: freshness is judged against now, never against a decision date.

    Raises:
        VerificationError: a file does not verify; its code says why.
        FormatError: no file, several subjects, or a kind that two files answer.
    """
    if not files or len({each.query.subject for each in files}) != 1:
        raise FormatError("expected evidence files about one subject")
    kinds = [kind for each in files for kind in each.query.kinds]
    if len(set(kinds)) != len(kinds):
        raise FormatError("expected each kind in one evidence file only")
    disclosed = tuple(
        verify_disclosure(
            each.data,
            policy,
            each.query,
            recipient=recipient,
            now_ms=now_ms,
            age_ms_max=age_ms_max,
        )
        for each in files
    )
    return VerifiedEvidence(
        facts=facts_of(files[0].query.subject, [each.answer for each in disclosed]),
        disclosed=disclosed,
        digests=tuple(each.digest for each in files),
        age_ms=max(each.answer.age_ms for each in disclosed),
    )


def facts_of(subject: str, answers: Sequence[Answer]) -> Facts:
    """The facts of verified answers about one subject."""
    records: dict[int, tuple[Fact, ...]] = {}
    coverage: dict[int, Coverage] = {}
    for answer in answers:
        query = answer.query
        for kind in query.kinds:
            found = [each for each in answer.records if each.kind == kind]
            records[kind] = tuple(
                sorted((_fact(each, query.issuer) for each in found), key=lambda each: each.key)
            )
            coverage[kind] = Coverage(
                issuer=query.issuer,
                from_period=query.from_period,
                to_period=query.to_period,
                through=answer.through[kind],
                begun=answer.keyed_years.issuperset(query.years),
                erased=sum(each.status is Status.ERASED for each in found),
            )
    return Facts(subject=subject, records=records, coverage=coverage)


def _fact(record: AnsweredRecord, issuer: int) -> Fact:
    return Fact(
        kind=record.kind,
        issuer=issuer,
        key=record.key,
        version=record.version,
        status=record.status,
        fingerprint=record.fingerprint,
        schema=record.schema.number,
        fields=record.fields or {},
        closed=record.closed,
        period=record.period,
    )
