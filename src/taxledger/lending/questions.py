"""Which questions a product asks of which custodians, as of a date: what a consent has to cover, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from taxledger.ledger.consent import Detail
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import kind_name
from taxledger.ledger.query import Query
from taxledger.lending.features.windows import months_before
from taxledger.lending.known import FLOWS
from taxledger.lending.products.product import Product

__all__ = ["consent_details", "questions"]

_RANGES_MONTHS = (13, 25, 37, 61, 121, 241)
"""Kinds with nearly the same need share a question, so that a custodian is asked seldom; a month more than the
window, because a window that begins within a month needs that month too.
"""


def questions(product: Product, subject: str, issuers: Mapping[int, int], as_of: date) -> tuple[Query, ...]:
    """The questions, ascending by issuer and kinds; no kind stands in two of them.

    Args:
        product: what decides.
        subject: ``scheme:identifier``.
        issuers: kind -> member that attests it, as the lender trusts it.
        as_of: the decision date.

    Raises:
        FormatError: a kind that the lender has no issuer for.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for kind, months in product.months.items():
        if kind not in issuers:
            raise FormatError(
                f"expected an issuer of {kind_name(kind)} records in the lender's settings, got none"
            )
        wide = next((each for each in _RANGES_MONTHS if months < each), months + 1)
        groups.setdefault((issuers[kind], wide), []).append(kind)
    return tuple(
        Query(
            subject=subject,
            issuer=issuer,
            kinds=tuple(sorted(kinds)),
            from_period=_first_month(_earliest(as_of, kinds, product), wide - 1),
            to_period=f"{as_of:%Y-%m}",
        )
        for (issuer, wide), kinds in sorted(groups.items(), key=lambda each: (each[0][0], sorted(each[1])))
    )


def _earliest(as_of: date, kinds: Iterable[int], product: Product) -> date:
    """The earliest day on which the windows of these kinds may end: an issuer of flows may be behind."""
    if FLOWS.isdisjoint(kinds):
        return as_of
    return as_of - timedelta(days=product.attested_within_days)


def _first_month(as_of: date, months: int) -> str:
    return f"{months_before(as_of, months) + timedelta(days=1):%Y-%m}"


def consent_details(asked: tuple[Query, ...]) -> tuple[Detail, ...]:
    """What a consent has to say so that these questions are covered: all fields of their kinds and months."""
    return tuple(
        Detail(kind=kind, from_period=each.from_period, to_period=each.to_period, fields=None)
        for each in asked
        for kind in each.kinds
    )
