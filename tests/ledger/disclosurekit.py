"""A world that holds records, a consent and a use of it, and the file that the use handed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consentkit import grant_of, make_artefact
from world import INVOICE, NAMES, World, ask, invoice

from taxledger.ledger import canonical
from taxledger.ledger.assemble import assemble
from taxledger.ledger.consent import Artefact, Detail
from taxledger.ledger.consentscope import opened_fields
from taxledger.ledger.consentstate import (
    ConsentStatus,
    ConsentValue,
    UseState,
    UseValue,
    encode_consent_value,
    encode_use_value,
)
from taxledger.ledger.disclosure import Disclosure, UseProof, encode_disclosure, use_digest, use_keys
from taxledger.ledger.parts import join_evidence, split_evidence

SPECS = [invoice(number, f"2024-{1 + number % 12:02}-15") for number in range(25)]
QUERY = ask()


def build(
    *, fields: tuple[str, ...] | None = None, validators: Sequence[str] = NAMES, **changes: Any
) -> tuple[World, bytes, Artefact]:
    """A world that holds records, a consent and a use, and the file of the use."""
    before = World(specs=SPECS, validators=validators)
    detail = Detail(kind=INVOICE, from_period="2024-01", to_period="2024-12", fields=fields)
    artefact = make_artefact(chain_id=before.chain_id, details=(detail,), **changes)
    sigmas = {(INVOICE, 2024): before.sigma(QUERY.subject, INVOICE, 2024)}
    evidence = assemble(
        QUERY,
        view=before.view,
        checkpoint=before.note(),
        header=before.leaves[-1],
        inclusion=before.inclusion(),
        sigmas=sigmas,
        schema_document=before.schema_document,
        opener=before.open_records,
        scope=lambda schema: opened_fields(artefact.terms, QUERY, schema),
    )
    frame, parts = split_evidence(evidence, records_max=10)
    assert join_evidence(frame, parts) == evidence
    salt = bytes(range(32))
    grant = grant_of(artefact)
    consent = ConsentValue(
        status=ConsentStatus.ACTIVE,
        digest=grant.digest,
        custodian=1,
        not_before=grant.not_before,
        not_after=grant.not_after,
        max_uses=grant.max_uses,
        uses=1,
        revoke_hash=grant.revoke_hash,
    )
    use = UseValue(
        state=UseState.OPEN,
        planned_digest=use_digest(salt, frame, parts),
        planned_count=len(SPECS),
        opened_height=3,
    )
    keys = use_keys(artefact, 1, 1)
    values = [encode_consent_value(consent), canonical.encode([3]), encode_use_value(use)]

    class After(World):
        def _content(self) -> dict[bytes, bytes]:
            return {**super()._content(), **dict(zip(keys, values, strict=True))}

    after = After(specs=SPECS, height=4, validators=validators)
    file = Disclosure(
        artefact=artefact,
        custodian=1,
        sequence=1,
        salt=salt,
        frame=frame,
        parts=tuple(parts),
        use_proof=UseProof(
            checkpoint=after.note(),
            header=after.leaves[-1],
            inclusion=tuple(after.inclusion()),
            entries=tuple(values),
            proof=after.view.prove(keys).proof,
        ),
    )
    return before, encode_disclosure(file), artefact
