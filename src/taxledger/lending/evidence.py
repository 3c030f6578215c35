"""Evidence as the lender keeps it: disclosure files with the questions they answer, verified anew whenever read.

Invariants:

* ``verify_evidence_set`` is the one way from bytes to ``Facts``: each file under a policy of the lender's own, the
  present one unless it was stored under a former one (``policy_of_evidence``), asked what
  the lender asked, all about one subject and under one artefact, no kind twice.
* A file is named by its SHA-256, so a decision says exactly on what it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taxledger.ledger import limits
from taxledger.ledger.answer import Answer, AnsweredRecord
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.disclosure import Disclosed, decode_disclosure, verify_disclosure
from taxledger.ledger.errors import FormatError, InputError, UnavailableError, VerificationError
from taxledger.ledger.pledgeproof import VerifiedPledges, verify_pledges
from taxledger.ledger.pledgestate import PledgeMarks
from taxledger.ledger.policies import Policies
from taxledger.ledger.policy import Policy
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.ledger.verify import verify_header
from taxledger.lending.facts import Coverage, Fact, Facts

__all__ = [
    "EvidenceFile",
    "EvidenceSet",
    "VerifiedEvidence",
    "add_pledges",
    "check_policy_current",
    "facts_of",
    "pledge_keys",
    "policy_of_evidence",
    "secured",
    "verify_evidence_set",
]

_CONTESTED = PledgeMarks.CONTESTED


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
        digests: SHA-256 of each file, in the order of the set, and of the proof of pledges, if there is one, last.
        age_ms: of the oldest answer when it was verified.
    """

    facts: Facts
    disclosed: tuple[Disclosed, ...]
    digests: tuple[bytes, ...]
    age_ms: int


def verify_evidence_set(
    files: Sequence[EvidenceFile],
    policy: Policy,
    *,
    recipient: int,
    now_ms: int,
    age_ms_max: int,
    artefact: bytes | None = None,
) -> VerifiedEvidence:
    """Verify every file and join what they say.

    Args:
        files: at least one, all about one subject.
        policy: whom the lender trusts, its own file.
        recipient: the lender's member number.
        now_ms, age_ms_max: as of ``verify_disclosure``: freshness is judged against now, never against a decision date.
        artefact: the signed consent under which it has to be; None: under any, the same for all files.

    Raises:
        VerificationError: a file does not verify; its code says why. ``evidence_consent_mismatch``: it was disclosed
            under another consent.
        FormatError: no file, several subjects or consents, or a kind that two files answer.
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
    terms = [each.terms for each in disclosed]
    if any(each != terms[0] for each in terms):
        raise FormatError("expected evidence files under one consent")
    if artefact is not None and decode_artefact(artefact).terms != terms[0]:
        raise VerificationError("evidence_consent_mismatch", "disclosed under another consent than was asked")
    return VerifiedEvidence(
        facts=facts_of(files[0].query.subject, [each.answer for each in disclosed]),
        disclosed=disclosed,
        digests=tuple(each.digest for each in files),
        age_ms=max(each.answer.age_ms for each in disclosed),
    )


def policy_of_evidence(files: Sequence[EvidenceFile], policies: Policies) -> Policy:
    """The policy under which a loan's stored evidence verifies: one for all of a decision, as when it was made.

    Never for fresh evidence, which is verified under the present policy alone.

    Args:
        files: of one decision; the first says which it is, and the others fail where they are of another.
        policies: the lender's own.

    Raises:
        VerificationError: ``policy_outdated``: the lender holds no policy of these validators.
    """
    try:
        proof = decode_disclosure(files[0].data).use_proof
    except (IndexError, VerificationError, InputError):
        return policies.present
    return policies.under(proof.checkpoint, proof.header)


def check_policy_current(files: Sequence[EvidenceFile], policies: Policies) -> None:
    """Returns unless the validators have changed since the present policy: nothing that a borrower is answerable for.

    What else is wrong with a file is for ``verify_evidence_set`` to say; so it is of a file that former validators
    certified before they left: to wait would not help, to ask again will. A forged file gains a delay by this, and the
    operator's eye.

    Raises:
        UnavailableError: the lender's policy has to be followed first.
    """
    for each in files:
        try:
            proof = decode_disclosure(each.data).use_proof
        except VerificationError:
            continue
        try:
            verify_header(proof.header, policies.present, decode_note(proof.checkpoint))
        except VerificationError as error:
            if error.code == "policy_outdated" and not policies.is_superseded(proof.checkpoint, proof.header):
                raise UnavailableError(
                    "the validators have changed since this lender's policy file: an operator runs `taxledger policy "
                    f"update` and starts the lending service anew; until then nothing is decided ({error})"
                ) from error


def add_pledges(
    verified: VerifiedEvidence,
    pledges: bytes,
    policy: Policy,
    security: Sequence[bytes],
    *,
    now_ms: int,
    age_ms_max: int,
) -> VerifiedEvidence:
    """The evidence with what is pledged on the records offered as security.

    Args:
        verified: the evidence.
        pledges: the proof (docs/protocol.md §16), of exactly the records offered that the evidence has.
        policy, now_ms, age_ms_max: as of ``verify_evidence_set``.
        security: keys of the records offered, 37 bytes each.

    Raises:
        VerificationError: it does not verify; its code says why.
        FormatError: the evidence has none of the records.
    """
    keys = pledge_keys(verified.facts, security)
    proved = verify_pledges(pledges, policy, keys, now_ms=now_ms, age_ms_max=age_ms_max)
    return replace(
        verified,
        facts=replace(
            verified.facts,
            pledged_ppm=_pledged(verified.facts, security, proved),
            contested=tuple(
                key for key in keys if proved.states[key].pledges and proved.states[key].marks & _CONTESTED
            ),
        ),
        digests=(*verified.digests, hashlib.sha256(pledges).digest()),
        age_ms=max(verified.age_ms, proved.age_ms),
    )


def secured(facts: Facts, security: Sequence[bytes]) -> tuple[Fact, ...]:
    """The records offered as security that the evidence has and that can be pledged, ascending by key."""
    offered = set(security)
    return tuple(
        sorted(
            (
                each
                for kind in sorted(facts.records)
                for each in facts.of(kind)
                if each.key in offered and each.fingerprint is not None
            ),
            key=lambda each: each.key,
        )
    )


def pledge_keys(facts: Facts, security: Sequence[bytes]) -> tuple[tuple[int, bytes], ...]:
    """What to ask about pledges: (issuer, fingerprint) of each record offered, ascending, each once."""
    return tuple(
        sorted({(each.issuer, each.fingerprint) for each in secured(facts, security) if each.fingerprint})
    )


def _pledged(
    facts: Facts, security: Sequence[bytes], proved: VerifiedPledges
) -> dict[tuple[int, bytes], int]:
    """Shares that are taken. Where another record with the same fingerprint is pledged, nothing is free: the same
    fact was filed twice, and a pledge on this side would be refused.
    """
    found: dict[tuple[int, bytes], int] = {}
    for each in secured(facts, security):
        if each.fingerprint is not None:
            state = proved.states[each.issuer, each.fingerprint]
            others = state.record_key not in (None, each.key) and bool(state.pledges)
            found[each.issuer, each.fingerprint] = limits.pledged_ppm_max if others else state.pledged_ppm
    return found


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
                begun=_has_begun(answer, kind),
                erased=sum(each.status is Status.ERASED for each in found),
                closed=tuple(sorted({name for each in found for name in each.closed})),
            )
    return Facts(subject=subject, records=records, coverage=coverage)


def _has_begun(answer: Answer, kind: int) -> bool:
    """Whether the issuer has attested something in each year asked for which it vouches: in January it may have
    nothing of the new year yet, and says so by the day through which it attested.
    """
    through = answer.through[kind]
    years = [each for each in answer.query.years if through is None or each <= int(through[:4])]
    return answer.keyed_years.issuperset(years)


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
