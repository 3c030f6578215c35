"""A disclosure: what one use of a consent handed out, as a file that verifies offline (docs/protocol.md §13).

    [1, "disclosure", artefact, custodian, sequence, salt32, frame, [part …], use proof]

The evidence (frame and parts) is made, and its digest is on the ledger, before anything leaves; the *use proof*
shows, at a later checkpoint, that it is. Nothing in the file is believed for itself: recipient and question are
the caller's, the consent's digest and the use's digest are proved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits, statekeys
from taxledger.ledger.answer import Answer
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.consent import PREDICATE_KIND, Artefact, ConsentTerms, decode_artefact
from taxledger.ledger.consentscope import check_scope, opened_fields
from taxledger.ledger.consentstate import ConsentValue, UseValue, decode_consent_value, decode_use_value
from taxledger.ledger.errors import FormatError, RefusedError, VerificationError
from taxledger.ledger.evidence import decoding
from taxledger.ledger.hashing import domain, domain_hash, log_leaf, sha256
from taxledger.ledger.merkle import verify_inclusion
from taxledger.ledger.parts import check_pieces, join_evidence
from taxledger.ledger.policy import Policy, verify_signatures
from taxledger.ledger.query import Query
from taxledger.ledger.shapes import array, fixed_bytes, integer, items
from taxledger.ledger.statemap.proof import verify_prefixes
from taxledger.ledger.verify import verify_decoded, verify_header

__all__ = [
    "Disclosed",
    "Disclosure",
    "UseProof",
    "close_digest",
    "decode_disclosure",
    "digest_of_pieces",
    "encode_disclosure",
    "evidence_query",
    "piece_info",
    "use_digest",
    "use_keys",
    "verify_disclosure",
]

_PARTS_MAX = limits.evidence_records_max
_CONTAINERS_MAX = 5
"""The file, its parts, the use proof, its audit path and values: no other array is in it."""
_HEIGHT_BYTES_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class UseProof:
    """Consent, holder's entry and use, proved at one checkpoint.

    Attributes:
        checkpoint, header, inclusion: as in evidence.
        entries: values of ``use_keys``, in their order.
        proof: of the state map, for exactly these keys.
    """

    checkpoint: bytes
    header: bytes
    inclusion: tuple[bytes, ...]
    entries: tuple[bytes, ...]
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """A decoded file; only its shape and the artefact's signature are checked.

    Attributes:
        artefact: what the subject signed.
        custodian: member whose consent was used; ``sequence`` the number of the use.
        salt: 32 bytes, makes the digest on the ledger a commitment.
        frame, parts: the evidence.
        use_proof: see there.
    """

    artefact: Artefact
    custodian: int
    sequence: int
    salt: bytes
    frame: bytes
    parts: tuple[bytes, ...]
    use_proof: UseProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosed:
    """What a verified disclosure says.

    Attributes:
        answer: to the question, with what was opened.
        terms: under which it was disclosed.
        consent: id, 16 bytes; ``sequence`` the number of the use.
        custodian: who disclosed.
        consent_value, use_value: as the ledger had them at ``proved_height``.
        consent_bytes: of the file, all that is not evidence: artefact and use proof.
    """

    answer: Answer
    terms: ConsentTerms
    consent: bytes
    custodian: int
    sequence: int
    consent_value: ConsentValue
    use_value: UseValue
    proved_height: int
    consent_bytes: int


def use_digest(salt: bytes, frame: bytes, parts: Sequence[bytes]) -> bytes:
    """``H("use", salt ‖ SHA256(frame) ‖ SHA256(part) …)``: all that is planned to leave."""
    return digest_of_pieces("use", salt, [sha256(frame), *map(sha256, parts)])


def close_digest(salt: bytes, frame: bytes, parts: Sequence[bytes]) -> bytes:
    """``H("use_close", salt ‖ SHA256(frame) ‖ SHA256(part) …)``: of the parts that left."""
    return digest_of_pieces("use_close", salt, [sha256(frame), *map(sha256, parts)])


def digest_of_pieces(what: str, salt: bytes, hashes: Sequence[bytes]) -> bytes:
    """``use_digest`` (``what`` is ``use``) or ``close_digest`` (``use_close``) from the pieces' SHA-256."""
    return domain_hash(what, salt + b"".join(hashes))


def piece_info(consent: bytes, sequence: int, piece: int) -> bytes:
    """HPKE's ``info`` of a piece: 0 is the frame, the parts follow."""
    return domain("disclosure") + consent + sequence.to_bytes(4, "big") + piece.to_bytes(4, "big")


def use_keys(artefact: Artefact, custodian: int, sequence: int) -> list[bytes]:
    """The keys that a use proof shows, ascending: the consent, its holder's entry, the use."""
    consent = artefact.id(custodian)
    return [
        statekeys.consent_key(consent),
        statekeys.holder_key(artefact.terms.holder, consent),
        statekeys.use_key(consent, sequence),
    ]


def evidence_query(artefact: Artefact, query: Query) -> Query:
    """The question as the evidence has it.

    Answers to predicates are attested of the consent, not of the subject: under the subject's own tag each
    recipient would see how many were made for the others.

    Raises:
        RefusedError: ``consent_kind_exceeded``: predicates together with other kinds.
    """
    if PREDICATE_KIND not in query.kinds:
        return query
    if query.kinds != (PREDICATE_KIND,):
        raise RefusedError("consent_kind_exceeded", "predicates are asked for alone")
    return Query(
        subject=f"consent:{artefact.id(query.issuer).hex()}",
        issuer=query.issuer,
        kinds=query.kinds,
        from_period=query.from_period,
        to_period=query.to_period,
    )


# --- bytes ----------------------------------------------------------------------------------


def encode_disclosure(disclosure: Disclosure) -> bytes:
    """The file.

    Raises:
        LimitError: larger than a verifier would read.
    """
    check_pieces(disclosure.frame, disclosure.parts)
    proof = disclosure.use_proof
    return canonical.encode(
        [
            1,
            "disclosure",
            disclosure.artefact.raw,
            disclosure.custodian,
            disclosure.sequence,
            disclosure.salt,
            disclosure.frame,
            disclosure.parts,
            [proof.checkpoint, proof.header, proof.inclusion, proof.entries, proof.proof],
        ]
    )


def _bytes(value: Any, what: str) -> bytes:
    if type(value) is not bytes:
        raise FormatError(f"expected {what} as bytes")
    return value


def _decode_use_proof(value: Any) -> UseProof:
    checkpoint, header, inclusion, entries, proof = items(value, 5, "a use proof")
    found = UseProof(
        checkpoint=_bytes(checkpoint, "a checkpoint"),
        header=_bytes(header, "a header"),
        inclusion=tuple(fixed_bytes(each, 32, "a hash") for each in array(inclusion, 0, 64, "hashes")),
        entries=tuple(_bytes(each, "a value") for each in items(entries, 3, "values")),
        proof=_bytes(proof, "a proof"),
    )
    decode_note(found.checkpoint)
    decode_consent_value(found.entries[0])
    height = items(canonical.decode(found.entries[1], bytes_max=_HEIGHT_BYTES_MAX), 1, "a holder's entry")
    integer(height[0], 0, limits.integer_max, "a height")
    decode_use_value(found.entries[2])
    return found


def decode_disclosure(data: bytes) -> Disclosure:
    """The content of a file.

    Raises:
        VerificationError: ``malformed``, ``not_canonical`` or ``consent_signature_invalid``.
    """
    with decoding():
        decoded = canonical.decode(
            data, bytes_max=limits.disclosure_bytes_max, containers_max=_CONTAINERS_MAX
        )
        value = items(decoded, 9, "a disclosure")
        version, what, artefact, custodian, sequence, salt, frame, parts, use_proof = value
        if type(version) is not int or [version, what] != [1, "disclosure"]:
            raise FormatError("expected a disclosure of version 1")
        check_pieces(
            _bytes(frame, "a frame"),
            [_bytes(each, "a part") for each in array(parts, 0, _PARTS_MAX, "parts")],
        )
        return Disclosure(
            custodian=integer(custodian, 1, 65_535, "a custodian"),
            sequence=integer(sequence, 1, limits.consent_uses_max, "the number of a use"),
            salt=fixed_bytes(salt, 32, "a salt"),
            frame=frame,
            parts=tuple(parts),
            use_proof=_decode_use_proof(use_proof),
            artefact=decode_artefact(
                _bytes(artefact, "an artefact")
            ),  # last: its signature is no matter of form
        )


# --- verifying ------------------------------------------------------------------------------


def verify_disclosure(
    data: bytes,
    policy: Policy,
    query: Query,
    *,
    recipient: int,
    now_ms: int,
    age_ms_max: int,
    engine: str | None = None,
    height_min: int = 0,
) -> Disclosed:
    """What a disclosure says, once everything about it is verified.

    Args:
        data: the file.
        policy: whom to trust; never from the node that gave the file.
        query: what was asked.
        recipient: number of the member that asked.
        now_ms, age_ms_max, engine: as of ``verify_evidence``, for both checkpoints; height_min: for the evidence.

    Raises:
        VerificationError: with the code of what is wrong, of §10's table or §13's.
    """
    file = decode_disclosure(data)
    artefact, terms = file.artefact, file.artefact.terms
    if terms.recipient != recipient:
        raise _refused("consent_recipient_mismatch", "recipient", recipient, terms.recipient)
    if file.custodian != query.issuer:
        raise _refused("consent_custodian_mismatch", "custodian", query.issuer, file.custodian)
    try:
        check_scope(terms, query)
        asked = evidence_query(artefact, query)
    except RefusedError as error:
        raise VerificationError(error.code, "the consent does not cover the question") from error
    consent, use, proved_height = _verify_use(file, policy, now_ms, age_ms_max, engine)
    evidence = join_evidence(file.frame, file.parts)
    evidence_bytes = len(file.frame) + sum(map(len, file.parts))
    answer = verify_decoded(
        evidence,
        policy,
        asked,
        now_ms=now_ms,
        age_ms_max=age_ms_max,
        file_bytes=evidence_bytes,
        engine=engine,
        height_min=height_min,
    )
    if use.planned_count != len(answer.records):
        raise _refused("use_mismatch", "records that were planned", use.planned_count, len(answer.records))
    _verify_opened(answer, terms, query)
    return Disclosed(
        answer=answer,
        terms=terms,
        consent=artefact.id(file.custodian),
        custodian=file.custodian,
        sequence=file.sequence,
        consent_value=consent,
        use_value=use,
        proved_height=proved_height,
        consent_bytes=len(data) - evidence_bytes,
    )


def _refused(code: str, what: str, expected: Any, got: Any) -> VerificationError:
    shown = [each.hex() if isinstance(each, bytes) else each for each in (expected, got)]
    return VerificationError(code, what, expected=shown[0], got=shown[1])


def _verify_use(
    file: Disclosure, policy: Policy, now_ms: int, age_ms_max: int, engine: str | None
) -> tuple[ConsentValue, UseValue, int]:
    """Consent and use as the ledger has them, and the height, when they are this file's."""
    proof, artefact = file.use_proof, file.artefact
    note = decode_note(proof.checkpoint)
    header = verify_header(proof.header, policy, note, engine)
    verify_signatures(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    point = note.checkpoint
    verify_inclusion(log_leaf(proof.header), point.size - 1, point.size, proof.inclusion, point.root)
    keys = use_keys(artefact, file.custodian, file.sequence)
    proved = {key: [(key, value)] for key, value in zip(keys, proof.entries, strict=True)}
    verify_prefixes(header.state_root, proved, proof.proof)
    if artefact.terms.chain_id != header.chain_id:
        raise _refused("consent_mismatch", "chain of the consent", header.chain_id, artefact.terms.chain_id)
    consent, use = decode_consent_value(proof.entries[0]), decode_use_value(proof.entries[2])
    _verify_consent(consent, artefact, file.custodian)
    planned = use_digest(file.salt, file.frame, file.parts)
    if use.planned_digest != planned:
        raise _refused("use_mismatch", "digest of what was planned", use.planned_digest, planned)
    return consent, use, header.height


def _verify_consent(value: ConsentValue, artefact: Artefact, custodian: int) -> None:
    terms: ConsentTerms = artefact.terms
    expected: Mapping[str, Any] = {
        "digest": value.digest,
        "custodian": value.custodian,
        "not_before": value.not_before,
        "not_after": value.not_after,
        "max_uses": value.max_uses,
        "revoke_hash": value.revoke_hash,
    }
    got = {
        "digest": artefact.digest(custodian),
        "custodian": custodian,
        "not_before": terms.not_before,
        "not_after": terms.not_after,
        "max_uses": terms.max_uses,
        "revoke_hash": terms.custodian(custodian).revoke_hash,
    }
    for name, each in expected.items():
        if got[name] != each:
            raise _refused("consent_mismatch", f"{name} of the consent", each, got[name])


def _verify_opened(answer: Answer, terms: ConsentTerms, query: Query) -> None:
    """What is open is what the consent says: no field more, and no answer to another predicate. Less would be the
    custodian's fault, and is refused too.
    """
    answered = {(each.name, each.argument) for each in terms.predicates}
    for record in answer.records:
        if record.kind == PREDICATE_KIND and record.fields is not None:
            argument = record.fields.get("amount", record.fields.get("argument"))
            if (record.fields.get("name"), argument) not in answered:
                raise VerificationError(
                    "consent_fields_exceeded", "a predicate that the consent does not name"
                )
        try:
            allowed = opened_fields(terms, query, record.schema)
        except RefusedError as error:
            raise VerificationError(error.code, "a field that the schema does not have") from error
        everything = tuple(range(len(record.schema.fields)))
        opened = everything if record.opened is None else record.opened
        if opened != (everything if allowed is None else allowed):
            raise _refused("consent_fields_exceeded", "positions of opened fields", allowed, record.opened)
