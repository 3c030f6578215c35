"""A loan under watch: by which keys of the ledger its borrower's records, consents and pledges are recognised.

Records are named by pseudonyms. The lender knows those of the kinds and years that were disclosed to it (each
disclosure carries σ, which gives the tag), so below ``01 issuer2 kind1 tag16`` it sees every record of its borrower of
that kind and year come and change, without reading any of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taxledger.ledger.answer import AnsweredRecord
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.disclosure import decode_disclosure
from taxledger.ledger.errors import FormatError
from taxledger.ledger.parts import join_evidence
from taxledger.ledger.query import record_prefixes
from taxledger.ledger.records import decode_record_value, tag_of
from taxledger.ledger.statekeys import tag_prefix
from taxledger.lending.evidence import EvidenceFile, VerifiedEvidence

__all__ = [
    "Covered",
    "TagPrefix",
    "WatchedLoan",
    "WatchedPledge",
    "covered_by",
    "digest_of_entries",
    "digest_of_records",
    "watched_of",
]

Pair = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPrefix:
    """The 20 bytes below which all records of the borrower, of one issuer, kind and year are."""

    prefix: bytes
    issuer: int
    kind: int
    year: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPledge:
    """A pledge for the loan: its id (16 bytes), the entry it stands in, and the record (37 bytes)."""

    id: bytes
    issuer: int
    fingerprint: bytes
    record_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedLoan:
    """A loan under watch.

    Attributes:
        loan: the lender's id, printable ASCII.
        subject, product: of the loan; ``as_of`` the decision date, ``YYYY-MM-DD``.
        artefact: the signed consent under which is read again; ``consents``: its id at each custodian, ascending.
        security: record keys offered as security.
        pledges: those placed for it.
        prefixes: of the evidence that decided, ascending.
        ranges: the parts of these that the evidence covers (20 or 21 bytes).
        known: ``digest_of_records`` of what it said.
        height: of the oldest answer: what happened up to it, the evidence knew.
    """

    loan: str
    subject: str
    product: str
    as_of: str
    artefact: bytes
    consents: tuple[bytes, ...]
    security: tuple[bytes, ...]
    pledges: tuple[WatchedPledge, ...]
    prefixes: tuple[TagPrefix, ...]
    ranges: tuple[bytes, ...]
    known: bytes
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """Where on the ledger an evidence set is: its tags, the parts of them it covers, and what is there.

    Attributes: as of ``WatchedLoan``.
    """

    prefixes: tuple[TagPrefix, ...] = ()
    ranges: tuple[bytes, ...] = ()
    known: bytes = b""


def watched_of(
    loan: str,
    product: str,
    as_of: str,
    files: Sequence[EvidenceFile],
    verified: VerifiedEvidence,
    *,
    security: Sequence[bytes] = (),
    pledges: Sequence[WatchedPledge] = (),
) -> WatchedLoan:
    """A loan from the evidence that decided on it.

    Args:
        loan, product, as_of: of the loan.
        files, verified: the evidence and what it said; it must have been verified.
        security: record keys offered.
        pledges: those placed.

    Raises:
        FormatError: the files stand under several artefacts.
    """
    artefacts = sorted({decode_disclosure(each.data).artefact.raw for each in files})
    if len(artefacts) != 1:
        raise FormatError(f"expected evidence under one artefact, got {len(artefacts)}")
    artefact = decode_artefact(artefacts[0])
    covered = covered_by(files, verified)
    return WatchedLoan(
        loan=loan,
        subject=files[0].query.subject,
        product=product,
        as_of=as_of,
        artefact=artefact.raw,
        consents=tuple(sorted(artefact.id(each.member) for each in artefact.terms.custodians)),
        security=tuple(sorted(security)),
        pledges=tuple(pledges),
        prefixes=covered.prefixes,
        ranges=covered.ranges,
        known=covered.known,
        height=min(each.answer.height for each in verified.disclosed),
    )


def covered_by(files: Sequence[EvidenceFile], verified: VerifiedEvidence) -> Covered:
    """Where the records of evidence are; it must have been verified."""
    found: dict[bytes, TagPrefix] = {}
    ranges: list[bytes] = []
    for each in files:
        prefixes, parts = _prefixes_of(each)
        found.update({prefix.prefix: prefix for prefix in prefixes})
        ranges += parts
    records = [record for each in verified.disclosed for record in each.answer.records]
    return Covered(
        prefixes=tuple(found[key] for key in sorted(found)),
        ranges=tuple(sorted(ranges)),
        known=digest_of_records(records),
    )


def _prefixes_of(file: EvidenceFile) -> tuple[list[TagPrefix], list[bytes]]:
    disclosure = decode_disclosure(file.data)
    evidence = join_evidence(disclosure.frame, disclosure.parts)
    tags = {key: tag_of(sigma) for key, sigma in evidence.tags.items()}
    issuer = file.query.issuer
    found = [
        TagPrefix(prefix=tag_prefix(issuer, kind, tag), issuer=issuer, kind=kind, year=year)
        for (kind, year), tag in tags.items()
    ]
    return found, list(record_prefixes(file.query, tags))


def digest_of_records(records: Iterable[AnsweredRecord]) -> bytes:
    """SHA-256 over key, version and status of records, ascending."""
    return _digest({each.key: (each.version, int(each.status)) for each in records})


def digest_of_entries(entries: Iterable[Pair], ranges: Sequence[bytes] | None = None) -> bytes:
    """The same of entries of the state map; ``ranges``: of those below these prefixes only.

    Raises:
        InputError: a value is no record's.
    """
    wanted = None if ranges is None else tuple(ranges)
    found = {}
    for key, value in entries:
        if wanted is None or key.startswith(wanted):
            record = decode_record_value(value)
            found[key] = (record.version, int(record.status))
    return _digest(found)


def _digest(found: Mapping[bytes, tuple[int, int]]) -> bytes:
    state = hashlib.sha256()
    for key in sorted(found):
        version, status = found[key]
        state.update(key + version.to_bytes(4, "big") + bytes([status]))
    return state.digest()
