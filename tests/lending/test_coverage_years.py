"""What coverage says of the years in which an issuer had begun to attest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taxledger.ledger.query import Query
from taxledger.lending.evidence import facts_of


def begun(through: str | None, keyed: set[int]) -> bool:
    query = Query(subject="x:x", issuer=1, kinds=(5,), from_period="2025-03", to_period="2027-01")
    answer: Any = SimpleNamespace(
        query=query, records=(), through={5: through}, keyed_years=frozenset(keyed), age_ms=0
    )
    return facts_of("x:x", [answer]).coverage[5].begun


@pytest.mark.parametrize(
    ("through", "keyed", "expected"),
    [
        ("2026-12-31", {2025, 2026}, True),  # January: nothing of the new year is attested yet
        ("2027-01-15", {2025, 2026}, False),
        ("2027-01-15", {2025, 2026, 2027}, True),
        ("2026-12-31", {2026}, False),  # a year before: it had not begun, so absence there says nothing
        (None, {2025, 2026}, False),
    ],
)
def test_the_years_that_count(through: str | None, keyed: set[int], expected: bool) -> None:
    assert begun(through, keyed) is expected
