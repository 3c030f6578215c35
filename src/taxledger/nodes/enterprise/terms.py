"""Terms of a consent with defaults that suit an enterprise: one use, a month, nothing stored, nothing passed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from taxledger.ledger import canonical
from taxledger.ledger.consent import (
    MODES,
    ONWARD,
    ConsentTerms,
    CustodianTerms,
    Detail,
    PredicateTerms,
    holder_of,
    revoke_preimage,
)
from taxledger.ledger.consentstate import revoke_hash_of
from taxledger.ledger.errors import InputError
from taxledger.ledger.hashing import sha256
from taxledger.nodes.enterprise.wording import notice_text

__all__ = ["Wish", "make_terms"]

_DAY_MS = 86_400_000
_CLOCK_MS = 60_000
"""A consent counts from a minute before it was signed: the ledger's clock may be behind the signer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an enterprise wants to agree to; ``make_terms`` adds what follows from it.

    Attributes:
        recipient: number of the member that may ask.
        custodians: numbers of the members that may disclose -> consent there that this one supersedes, or None.
        details, predicates: what may be disclosed, and answered.
        mode: ``proof_only``, ``view`` or ``store``; the rest as in ``ConsentTerms``.
        days: how long it may be used.
    """

    recipient: int
    custodians: Mapping[int, bytes | None]
    details: Iterable[Detail] = ()
    predicates: Iterable[PredicateTerms] = ()
    mode: str = "view"
    purpose: str = "credit_application"
    max_uses: int = 1
    days: int = 30
    retention_days: int = 0
    onward: str = "prohibited"
    may_pledge: bool = False
    role: str = "legal_representative"
    authentication: str = "wallet"
    language: str = "zh-CN"
    jurisdiction: str = "CN"
    legal_basis: str = "consent"


def make_terms(
    wish: Wish,
    *,
    subject: str,
    subject_secret: bytes,
    chain_id: bytes,
    nonce: bytes,
    now_ms: int,
    names: Mapping[int, str],
) -> tuple[ConsentTerms, str]:
    """The terms, and the notice whose digest is in them: show it before signing.

    Args:
        wish: what is agreed to.
        subject: the enterprise; ``subject_secret`` its 32 bytes.
        chain_id: of the ledger, 16 bytes.
        nonce: 32 random bytes, never used before.
        now_ms: milliseconds since 1970.
        names: of the members, by number, for the notice.

    Raises:
        InputError: a mode or a kind of onward sharing that there is not. ``Wallet.sign`` checks the rest.
    """
    if wish.mode not in MODES or wish.onward not in ONWARD:
        raise InputError(f"expected a mode of {', '.join(MODES)}, and onward sharing of {', '.join(ONWARD)}")
    terms = ConsentTerms(
        chain_id=chain_id,
        nonce=nonce,
        subject=subject,
        role=wish.role,
        authentication=wish.authentication,
        custodians=tuple(
            CustodianTerms(
                member=member,
                revoke_hash=revoke_hash_of(revoke_preimage(subject_secret, nonce, member)),
                former=former,
            )
            for member, former in sorted(wish.custodians.items())
        ),
        recipient=wish.recipient,
        holder=holder_of(subject_secret, wish.recipient),
        purpose=wish.purpose,
        notice_digest=bytes(32),
        language=wish.language,
        details=tuple(sorted(wish.details, key=lambda each: (each.kind, each.from_period))),
        predicates=tuple(
            sorted(wish.predicates, key=lambda each: (each.name, canonical.encode(each.argument)))
        ),
        may_pledge=wish.may_pledge,
        mode=wish.mode,
        frequency="once" if wish.max_uses == 1 else "periodic",
        max_uses=wish.max_uses,
        not_before=now_ms - _CLOCK_MS,
        not_after=now_ms + wish.days * _DAY_MS,
        retention_days=wish.retention_days,
        retention_end="erase",
        onward=wish.onward,
        jurisdiction=wish.jurisdiction,
        legal_basis=wish.legal_basis,
        issued=now_ms,
    )
    notice = notice_text(terms, names)
    return replace(terms, notice_digest=sha256(notice.encode())), notice
