"""Features: what a decision is made of, each a pure function of verified records and a date (docs/features.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from taxledger.ledger.errors import check
from taxledger.lending.features.awards import AWARDS
from taxledger.lending.features.conduct import CONDUCT
from taxledger.lending.features.contracts import CONTRACTS
from taxledger.lending.features.customs import CUSTOMS
from taxledger.lending.features.feature import Basis, Feature, Unit
from taxledger.lending.features.filings import FILINGS
from taxledger.lending.features.invoices import ACTIVITY
from taxledger.lending.features.records import other_currency_records
from taxledger.lending.features.security import SECURITY
from taxledger.lending.features.standing import STANDING
from taxledger.lending.features.trade import TRADE
from taxledger.lending.features.usage import USAGE

__all__ = ["FEATURES", "Basis", "Feature", "Unit"]

_GENERAL = (
    Feature(
        id="other_currency_records",
        unit=Unit.COUNT,
        kinds=(),
        months=0,
        title="Records in another currency, left out",
        title_zh="其他币种记录数（未计入）",
        rule="counted records of every kind asked, up to as-of, whose currency is not the basis'",
        compute=other_currency_records,
    ),
)
_ALL = (
    *_GENERAL,
    *ACTIVITY,
    *TRADE,
    *FILINGS,
    *CONDUCT,
    *STANDING,
    *AWARDS,
    *CONTRACTS,
    *SECURITY,
    *USAGE,
    *CUSTOMS,
)

FEATURES: Mapping[str, Feature] = MappingProxyType(
    {each.id: each for each in sorted(_ALL, key=lambda each: each.id)}
)
"""All features by id, ascending."""

check(len(FEATURES) == len(_ALL), "two features have one id")
