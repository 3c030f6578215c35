"""The consent artefact: what a subject agreed to, signed by its key (docs/protocol.md §12). It stays off the ledger.

It takes what is best in India's ReBIT consent artefact (purpose, frequency, data life), RFC 9396 (details by type)
and ISO/IEC TS 27560 (parties, notice, legal basis). Custodian, recipient and subject hold it; whoever holds it can
check afterwards that a disclosure kept to it: the ledger has its digest, given by the custodian.

Invariants:

* ``ConsentTerms`` are only ever valid ones; ``decode_artefact(encode_artefact(…))`` gives the same bytes.
* The nonce makes the digest a commitment: without the artefact nobody can test a guess of what was agreed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.consentstate import consent_id
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.hashing import domain_hash, keyed_hash
from taxledger.ledger.query import Query
from taxledger.ledger.records import check_subject
from taxledger.ledger.shapes import array, ascending, fixed_bytes, integer, items, optional_bytes, text
from taxledger.ledger.signedbody import decode_signed_body, encode_signed_body, verify_signed_body

__all__ = [
    "FREQUENCIES",
    "MODES",
    "ONWARD",
    "PREDICATE_KIND",
    "Artefact",
    "ConsentTerms",
    "CustodianTerms",
    "Detail",
    "PredicateTerms",
    "consent_digest",
    "decode_artefact",
    "holder_of",
    "revoke_preimage",
    "sign_artefact",
]

MODES = ("proof_only", "view", "store")
"""What the recipient may do: get answers to predicates only; see the fields; keep them for ``retention_days``."""

FREQUENCIES = ("once", "periodic")
RETENTION_ENDS = ("erase",)
ONWARD = ("prohibited", "regulator")
"""To whom the recipient may pass on what it got."""

PREDICATE_KIND = 12
"""Records of this kind are answers that the custodian computed from others."""

_CODE_BYTES_MAX = 64
_TEXT_BYTES_MAX = 512
_VERSION = 1
_WHAT = "consent"
_DOMAIN = "consent_signature"
_RETENTION_DAYS_MAX = 3_660


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """Records of one kind that may be disclosed.

    Attributes:
        kind: number of the kind.
        from_period, to_period: first and last month, ``YYYY-MM``.
        fields: names of the fields that may be opened, ascending; None for all.
    """

    kind: int
    from_period: str
    to_period: str
    fields: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredicateTerms:
    """A predicate that may be answered.

    Attributes:
        name: of the predicate, like ``net_sales_at_least``.
        argument: integer (money in minor units), text, or None, as the predicate needs.
    """

    name: str
    argument: int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodianTerms:
    """A member whose node may disclose.

    Attributes:
        member: its number.
        revoke_hash: 32 bytes, of the preimage that ends the consent there; another for each custodian.
        former: the consent there that this one supersedes, 16 bytes, or None.
    """

    member: int
    revoke_hash: bytes
    former: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentTerms:
    """What was agreed.

    Attributes:
        chain_id: of the ledger, 16 bytes.
        nonce: 32 random bytes.
        subject: the enterprise, ``scheme:identifier``.
        role: of the person who acted for it, like ``legal_representative``.
        authentication: how that person was identified, like ``tax_portal_login``.
        custodians: ascending by member.
        recipient: number of the member that may ask.
        holder: 16 bytes, see ``holder_of``.
        purpose: code of the purpose; ``notice_digest`` SHA-256 of the notice that was shown, in ``language``
            (BCP 47).
        details: ascending by kind and first month.
        predicates: ascending by name, then by the canonical bytes of the argument.
        may_pledge: whether the recipient may take records as security.
        mode: one of ``MODES``; ``frequency`` one of ``FREQUENCIES``.
        max_uses: 1 for ``once``.
        not_before, not_after: milliseconds since 1970.
        retention_days: how long the recipient may keep what it stored; 0 unless the mode is ``store``.
        retention_end: what it does then.
        onward: to whom it may pass it on.
        jurisdiction, legal_basis: short texts.
        issued: when it was signed, milliseconds since 1970.
    """

    chain_id: bytes
    nonce: bytes
    subject: str
    role: str
    authentication: str
    custodians: tuple[CustodianTerms, ...]
    recipient: int
    holder: bytes
    purpose: str
    notice_digest: bytes
    language: str
    details: tuple[Detail, ...]
    predicates: tuple[PredicateTerms, ...]
    may_pledge: bool
    mode: str
    frequency: str
    max_uses: int
    not_before: int
    not_after: int
    retention_days: int
    retention_end: str
    onward: str
    jurisdiction: str
    legal_basis: str
    issued: int

    def custodian(self, member: int) -> CustodianTerms:
        """The part of one custodian. Raises RefusedError ``consent_custodian_mismatch`` where it is none."""
        for each in self.custodians:
            if each.member == member:
                return each
        raise RefusedError("consent_custodian_mismatch", f"the consent names no custodian {member}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A decoded artefact; its signature has verified.

    Attributes:
        raw: the bytes.
        terms: what was agreed.
        public_key: the subject's key, 32 bytes. That it is the subject's is the custodian's word.
    """

    raw: bytes
    terms: ConsentTerms
    public_key: bytes

    def digest(self, custodian: int) -> bytes:
        return consent_digest(self.raw, custodian)

    def id(self, custodian: int) -> bytes:
        """Of the consent at one custodian, 16 bytes."""
        return consent_id(custodian, self.digest(custodian))


def consent_digest(raw: bytes, custodian: int) -> bytes:
    """``H("consent", u16be(custodian) ‖ artefact)``: another for each custodian, so that none tells of the others."""
    return domain_hash("consent", custodian.to_bytes(2, "big") + raw)


def holder_of(subject_secret: bytes, recipient: int) -> bytes:
    """``HMAC(subject secret, "holder", u16be(recipient))[:16]``: one subject's consents to one recipient."""
    return keyed_hash(subject_secret, "holder", recipient.to_bytes(2, "big"))[:16]


def revoke_preimage(subject_secret: bytes, nonce: bytes, custodian: int) -> bytes:
    """``HMAC(subject secret, "revoke_preimage", nonce ‖ u16be(custodian))``: 32 bytes that end one consent.

    Derived, so that a subject that kept its secret and the artefact can always revoke.
    """
    return keyed_hash(subject_secret, "revoke_preimage", nonce + custodian.to_bytes(2, "big"))


# --- bytes ----------------------------------------------------------------------------------


def _terms_as_list(terms: ConsentTerms) -> list[Any]:
    return [
        _VERSION,
        terms.chain_id,
        terms.nonce,
        [terms.subject, terms.role, terms.authentication],
        [[each.member, each.revoke_hash, each.former] for each in terms.custodians],
        [terms.recipient, terms.holder],
        [terms.purpose, terms.notice_digest, terms.language],
        [[each.kind, each.from_period, each.to_period, each.fields] for each in terms.details],
        [[each.name, each.argument] for each in terms.predicates],
        terms.may_pledge,
        terms.mode,
        [terms.frequency, terms.max_uses],
        [terms.not_before, terms.not_after],
        [terms.retention_days, terms.retention_end, terms.onward],
        [terms.jurisdiction, terms.legal_basis],
        terms.issued,
    ]


def sign_artefact(terms: ConsentTerms, signer: Signer) -> Artefact:
    """The artefact of these terms, signed by the subject's key.

    Raises:
        FormatError, LimitError: terms that no reader would take.
    """
    return decode_artefact(encode_signed_body(_WHAT, _DOMAIN, _terms_as_list(terms), signer))


def decode_artefact(raw: bytes) -> Artefact:
    """An artefact whose form and signature are right.

    Raises:
        LimitError, EncodingError, FormatError: not an artefact in its one form.
        VerificationError: ``consent_signature_invalid``.
    """
    signed = decode_signed_body(raw, _WHAT, bytes_max=limits.consent_bytes_max)
    terms = _decode_terms(signed.value)
    verify_signed_body(signed, _DOMAIN, "consent_signature_invalid")
    return Artefact(raw=raw, terms=terms, public_key=signed.public_key)


def _decode_terms(value: Any) -> ConsentTerms:
    (
        version, chain_id, nonce, grantor, custodians, recipient, purpose, details, predicates, may_pledge,
        mode, frequency, window, afterwards, law, issued,
    ) = items(value, 16, "the terms of a consent")  # fmt: skip
    integer(version, _VERSION, _VERSION, "version of the terms")
    subject, role, authentication = items(grantor, 3, "the grantor")
    check_subject(subject)
    member, holder = items(recipient, 2, "the recipient")
    code, notice_digest, language = items(purpose, 3, "the purpose")
    often, max_uses = items(frequency, 2, "the frequency")
    not_before, not_after = items(window, 2, "the window")
    days, end, onward = items(afterwards, 3, "the retention")
    jurisdiction, legal_basis = items(law, 2, "the legal basis")
    if type(may_pledge) is not bool:
        raise FormatError("expected may_pledge as a boolean")
    terms = ConsentTerms(
        chain_id=fixed_bytes(chain_id, 16, "a chain id"),
        nonce=fixed_bytes(nonce, 32, "a nonce"),
        subject=subject,
        role=text(role, _CODE_BYTES_MAX, "a role"),
        authentication=text(authentication, _CODE_BYTES_MAX, "how the person was authenticated"),
        custodians=tuple(
            _custodian(each) for each in array(custodians, 1, limits.consent_custodians_max, "custodians")
        ),
        recipient=integer(member, 1, 65_535, "a recipient"),
        holder=fixed_bytes(holder, 16, "a holder"),
        purpose=text(code, _CODE_BYTES_MAX, "a purpose"),
        notice_digest=fixed_bytes(notice_digest, 32, "a notice's digest"),
        language=text(language, _CODE_BYTES_MAX, "a language"),
        details=tuple(_detail(each) for each in array(details, 0, limits.evidence_kinds_max, "details")),
        predicates=tuple(
            _predicate(each) for each in array(predicates, 0, limits.consent_predicates_max, "predicates")
        ),
        may_pledge=may_pledge,
        mode=_one_of(mode, MODES, "mode"),
        frequency=_one_of(often, FREQUENCIES, "frequency"),
        max_uses=integer(max_uses, 1, limits.consent_uses_max, "max_uses"),
        not_before=integer(not_before, 0, limits.integer_max, "not_before"),
        not_after=integer(not_after, 0, limits.integer_max, "not_after"),
        retention_days=integer(days, 0, _RETENTION_DAYS_MAX, "retention in days"),
        retention_end=_one_of(end, RETENTION_ENDS, "what follows retention"),
        onward=_one_of(onward, ONWARD, "onward sharing"),
        jurisdiction=text(jurisdiction, _TEXT_BYTES_MAX, "a jurisdiction"),
        legal_basis=text(legal_basis, _TEXT_BYTES_MAX, "a legal basis"),
        issued=integer(issued, 0, limits.integer_max, "issued"),
    )
    _check_terms(terms)
    return terms


def _check_terms(terms: ConsentTerms) -> None:
    ascending([each.member for each in terms.custodians], "custodians")
    ascending([(each.kind, each.from_period) for each in terms.details], "details")
    ascending([(each.name, canonical.encode(each.argument)) for each in terms.predicates], "predicates")
    if not 0 < terms.not_after - terms.not_before <= limits.consent_lifetime_ms_max:
        raise FormatError("expected not_before before not_after, at most ten years apart")
    if terms.frequency == "once" and terms.max_uses != 1:
        raise FormatError(f"expected max_uses 1 of a consent for once, got {terms.max_uses}")
    if (terms.mode == "store") != (terms.retention_days > 0):
        raise FormatError("expected days of retention exactly where the mode is store")
    if terms.mode == "proof_only":
        if terms.details or not terms.predicates:
            raise FormatError("expected predicates and no details where the mode is proof_only")
    elif not terms.details:
        raise FormatError("expected details of kinds, periods and fields")
    if any(each.kind == PREDICATE_KIND for each in terms.details):
        raise FormatError("expected predicates by their names, not as a kind of record")


def _custodian(value: Any) -> CustodianTerms:
    member, revoke_hash, former = items(value, 3, "a custodian")
    return CustodianTerms(
        member=integer(member, 1, 65_535, "a custodian"),
        revoke_hash=fixed_bytes(revoke_hash, 32, "a revoke hash"),
        former=optional_bytes(former, 16, "a former consent"),
    )


def _detail(value: Any) -> Detail:
    kind, from_period, to_period, fields = items(value, 4, "a detail")
    # The question's own checks hold for a part of a consent too: kind, months, their order and number of years.
    Query(subject="x:x", issuer=1, kinds=(kind,), from_period=from_period, to_period=to_period)
    if fields is not None:
        for each in array(fields, 1, limits.fields_max, "fields"):
            text(each, limits.field_name_bytes_max, "a field's name")
        ascending(fields, "fields")
    return Detail(
        kind=kind,
        from_period=from_period,
        to_period=to_period,
        fields=None if fields is None else tuple(fields),
    )


def _predicate(value: Any) -> PredicateTerms:
    name, argument = items(value, 2, "a predicate")
    if argument is not None and type(argument) is not int:
        text(argument, _CODE_BYTES_MAX, "a predicate's argument")
    return PredicateTerms(name=text(name, _CODE_BYTES_MAX, "a predicate"), argument=argument)


def _one_of(value: Any, allowed: tuple[str, ...], what: str) -> str:
    if type(value) is not str or value not in allowed:
        raise FormatError(f"expected {what} as one of {', '.join(allowed)}")
    return value
