"""Consents for tests: terms, artefacts and the operations that put them on a ledger. Everything follows from seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from world import seeded

from taxledger.ledger.consent import (
    Artefact,
    ConsentTerms,
    CustodianTerms,
    Detail,
    holder_of,
    revoke_preimage,
    sign_artefact,
)
from taxledger.ledger.consentoperations import ConsentGrant
from taxledger.ledger.consentstate import revoke_hash_of
from taxledger.ledger.crypto import Signer

SUBJECT_KEY = Signer(seeded("subject key"))
SUBJECT_SECRET = seeded("subject secret")
INVOICE_KIND = 5


def make_terms(**changes: Any) -> ConsentTerms:
    """A consent of every invoice field of 2024, to member 2 by custodian 1, for three uses."""
    nonce = changes.pop("nonce", seeded("nonce"))
    recipient = changes.pop("recipient", 2)
    terms = ConsentTerms(
        chain_id=bytes(16),
        nonce=nonce,
        subject="uscc:91110101MA00000005",
        role="legal_representative",
        authentication="tax_portal_login",
        custodians=(
            CustodianTerms(
                member=1, revoke_hash=revoke_hash_of(revoke_preimage(SUBJECT_SECRET, nonce, 1)), former=None
            ),
        ),
        recipient=recipient,
        holder=holder_of(SUBJECT_SECRET, recipient),
        purpose="credit_application",
        notice_digest=seeded("notice"),
        language="zh-CN",
        details=(Detail(kind=INVOICE_KIND, from_period="2024-01", to_period="2024-12", fields=None),),
        predicates=(),
        may_pledge=False,
        mode="view",
        frequency="periodic",
        max_uses=3,
        not_before=1_700_000_000_000,
        not_after=1_800_000_000_000,
        retention_days=0,
        retention_end="erase",
        onward="prohibited",
        jurisdiction="CN",
        legal_basis="consent",
        issued=1_700_000_000_000,
    )
    return replace(terms, **changes)


def make_artefact(**changes: Any) -> Artefact:
    return sign_artefact(make_terms(**changes), SUBJECT_KEY)


def grant_of(artefact: Artefact, custodian: int = 1) -> ConsentGrant:
    """The operation by which a custodian puts the consent on the ledger."""
    terms = artefact.terms
    part = terms.custodian(custodian)
    return ConsentGrant(
        digest=artefact.digest(custodian),
        holder=terms.holder,
        not_before=terms.not_before,
        not_after=terms.not_after,
        max_uses=terms.max_uses,
        revoke_hash=part.revoke_hash,
        former=part.former,
    )
