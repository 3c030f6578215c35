"""Whether a consent covers a question, and which fields that opens (docs/protocol.md §12)."""

from __future__ import annotations

from taxledger.ledger.consent import PREDICATE_KIND, ConsentTerms, Detail
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.query import Query
from taxledger.ledger.schemas import Schema

__all__ = ["check_scope", "opened_fields"]


def check_scope(terms: ConsentTerms, query: Query) -> None:
    """Returns when the terms cover a question.

    Raises:
        RefusedError: ``consent_custodian_mismatch``, ``consent_subject_mismatch``; then of each kind in turn
            ``consent_kind_exceeded`` or ``consent_period_exceeded``.
    """
    terms.custodian(query.issuer)
    if query.subject != terms.subject:
        raise RefusedError("consent_subject_mismatch", "the consent is another subject's")
    for kind in query.kinds:
        if kind == PREDICATE_KIND and terms.predicates:
            continue
        if all(each.kind != kind for each in terms.details):
            raise RefusedError("consent_kind_exceeded", f"the consent does not cover kind {kind}")
        _covering(terms, query, kind)


def opened_fields(terms: ConsentTerms, query: Query, schema: Schema) -> tuple[int, ...] | None:
    """Positions of the fields that a covered question opens in a record of this schema; None for all.

    Raises:
        RefusedError: ``consent_fields_exceeded``: the consent names a field that the schema does not have.
    """
    if schema.kind == PREDICATE_KIND:
        return None
    part = _covering(terms, query, schema.kind)
    if part.fields is None:
        return None
    unknown = [name for name in part.fields if name not in schema.position]
    if unknown:
        raise RefusedError("consent_fields_exceeded", f"{schema.name} has no field {unknown[0]}")
    return tuple(sorted(schema.position[name] for name in part.fields))


def _covering(terms: ConsentTerms, query: Query, kind: int) -> Detail:
    """The first part of the consent that covers the whole period asked. Parts are not joined: each may open
    other fields.
    """
    for each in terms.details:
        if each.kind == kind and each.from_period <= query.from_period and query.to_period <= each.to_period:
            return each
    raise RefusedError("consent_period_exceeded", f"the consent covers kind {kind} for another period")
