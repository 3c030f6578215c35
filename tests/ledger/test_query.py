"""Queries: what is refused, and that the keys of a range are exactly those of its months."""

from __future__ import annotations

from typing import Any

import pytest

from taxledger.ledger.errors import FormatError
from taxledger.ledger.query import Query, record_prefixes, single_keys

BASE: dict[str, Any] = {
    "subject": "cumcm:E1",
    "issuer": 1,
    "kinds": (2, 5),
    "from_period": "2023-11",
    "to_period": "2025-02",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "E1"},
        {"subject": None},
        {"issuer": 0},
        {"issuer": 65_536},
        {"issuer": True},
        {"kinds": ()},
        {"kinds": (5, 2)},
        {"kinds": (5, 5)},
        {"kinds": (0,)},
        {"kinds": (256,)},
        {"kinds": ("5",)},
        {"kinds": tuple(range(1, 18))},
        {"from_period": "2023-13"},
        {"from_period": "2023"},
        {"from_period": "2023-1"},
        {"from_period": "1989-12"},
        {"to_period": "2201-01"},
        {"to_period": "2023-10"},
        {"to_period": "２０２５-02"},
        {"to_period": 2025},
        {"from_period": "1990-01", "to_period": "2020-01"},
    ],
    ids=str,
)
def test_a_query_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    Query(**BASE)
    with pytest.raises(FormatError, match="expected"):
        Query(**{**BASE, **changes})


def test_month_bytes_of_every_range_of_two_years() -> None:
    months = [f"{year}-{month:02}" for year in (2023, 2024) for month in range(1, 13)]
    for first, from_period in enumerate(months):
        for to_period in months[first:]:
            query = Query(**{**BASE, "from_period": from_period, "to_period": to_period})
            assert list(query.years) == sorted({int(from_period[:4]), int(to_period[:4])})
            for year in query.years:
                touched = {int(m[5:]) for m in months if from_period <= m <= to_period and m[:4] == str(year)}
                got = query.month_bytes(year)
                if len(touched) == 12:
                    assert got is None
                    continue
                assert got is not None
                assert got == tuple(sorted(set(got)))
                quarters = {13 + (month - 1) // 3 for month in touched}
                assert set(got) == {0} | touched | quarters


def test_single_keys() -> None:
    keys = single_keys(Query(**BASE), [(5, 2), (2, 1), (5, 2)])
    assert keys == sorted(keys)
    assert [key.hex() for key in keys] == [
        "060001",
        "080201",
        "080502",
        "09000102",
        "09000105",
        "0a000107e7",
        "0a000107e8",
        "0a000107e9",
    ]


def test_record_prefixes() -> None:
    tags = {(kind, year): bytes([kind, year % 256]) * 8 for kind in (2, 5) for year in (2023, 2024, 2025)}
    prefixes = record_prefixes(Query(**BASE), tags)
    assert list(prefixes) == sorted(prefixes)
    for (kind, year), tag in tags.items():
        start = bytes([1, 0, 1, kind]) + tag
        here = [prefix[20:] for prefix, owner in prefixes.items() if owner == (kind, year)]
        assert all(prefix.startswith(start) for prefix, o in prefixes.items() if o == (kind, year))
        assert (
            here
            == {
                2023: [bytes([month]) for month in (0, 11, 12, 16)],
                2024: [b""],
                2025: [bytes([month]) for month in (0, 1, 2, 13)],
            }[year]
        )
    assert record_prefixes(Query(**BASE), {}) == {}
