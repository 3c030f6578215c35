"""The day as of which a feature is computed: the decision date, but for flows no later than the issuer vouches for.

Sales, filings, meter readings and declarations come day by day, and an issuer is weeks behind with them. Three silent
weeks may be an issuer that is late, so nothing is concluded from them: a window of months ends, for such kinds, on the
day through which the issuer says that it attested everything. States (arrears, grades, awards, contracts,
certificates, loans elsewhere) are taken as of the decision date: what is known of them counts at once.
"""

from __future__ import annotations

from datetime import date

from taxledger.ledger.kinds import KINDS
from taxledger.lending.facts import Facts
from taxledger.lending.features.feature import Feature

__all__ = ["FLOWS", "known_until", "known_until_kind"]

FLOWS = frozenset(
    KINDS[name] for name in ("vat_invoice", "tax_filing", "utility_usage", "customs_declaration")
)
"""Kinds whose records come day by day."""


def known_until_kind(kind: int, facts: Facts, as_of: date) -> date:
    """The last day, not after ``as_of``, of which all records of a kind are known."""
    coverage = facts.coverage.get(kind)
    if kind not in FLOWS or coverage is None or coverage.through is None:
        return as_of
    return min(as_of, date.fromisoformat(coverage.through))


def known_until(feature: Feature, facts: Facts, as_of: date) -> date:
    """The day as of which a feature is computed: the earliest of its kinds."""
    return min((known_until_kind(kind, facts, as_of) for kind in feature.kinds), default=as_of)
