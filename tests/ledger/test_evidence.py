"""Evidence as a file: one encoding, right building, and clear errors where it can't be built."""

from __future__ import annotations

from typing import Any

import pytest
from world import (
    FILING,
    INVOICE,
    OTHER_SUBJECT,
    RATING,
    SMALL,
    World,
    ask,
    invoice,
)

from taxledger.ledger import canonical, limits
from taxledger.ledger.assemble import assemble
from taxledger.ledger.errors import LimitError, UnavailableError
from taxledger.ledger.evidence import Evidence, decode_evidence, encode_evidence
from taxledger.ledger.query import Query
from taxledger.ledger.records import RecordValue, Status

WORLD = World(specs=(*SMALL, invoice(8, "2024-02-02", status=Status.ERASED)))
QUERY = ask((FILING, RATING, INVOICE), "2023-11", "2024-02")


def build(query: Query = QUERY, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "view": WORLD.view,
        "checkpoint": WORLD.note(),
        "header": WORLD.leaves[-1],
        "inclusion": WORLD.inclusion(),
        "sigmas": {
            (kind, year): WORLD.sigma(query.subject, kind, year)
            for kind in query.kinds
            for year in query.years
        },
        "schema_document": WORLD.schema_document,
        "opener": WORLD.open_records,
    }
    return encode_evidence(assemble(query, **{**arguments, **changes}))


@pytest.mark.parametrize(
    "query",
    [QUERY, ask(), ask((RATING,)), ask(subject="cumcm:E9"), ask(from_period="2020-01", to_period="2022-12")],
    ids=lambda query: f"{query.subject} {query.kinds} {query.from_period}",
)
def test_decoding_and_encoding_gives_the_same_bytes(query: Query) -> None:
    data = build(query)
    decoded = decode_evidence(data)
    assert decoded.query == query
    assert encode_evidence(decoded) == data
    assert build(query) == data  # nothing random in it


def test_the_file_is_what_the_protocol_says() -> None:
    items = canonical.decode(build())
    assert items[:3] == [1, "evidence", [QUERY.subject, 1, [2, 3, 5], "2023-11", "2024-02"]]
    assert items[3] == WORLD.note()
    assert (items[4], items[5]) == (WORLD.leaves[-1], WORLD.inclusion())
    assert [key.hex() for key, _value in items[6]] == [
        "060001",
        "080201",
        "080301",
        "080501",
        "09000102",
        "09000105",
        "0a000107e7",
        "0a000107e8",
    ]
    assert all(WORLD.content[key] == value for key, value in items[6])
    assert items[7] == [WORLD.schema_document(kind, 1) for kind in (2, 3, 5)]
    assert [(kind, year, len(sigma)) for kind, year, sigma in items[8]] == [
        (kind, year, 384) for kind in (2, 3, 5) for year in (2023, 2024)
    ]
    for prefix, ends, values, opened, secrets, rows in items[9]:
        assert opened is None
        n = len(rows)
        assert len(ends) == n * (37 - len(prefix))
        assert len(secrets) == 32 * n
        assert len(list(canonical.decode_stream(values))) == n
        for at, (row, value) in enumerate(zip(rows, canonical.decode_stream(values), strict=True)):
            assert (row is None) == (value[0] == Status.ERASED)
            assert (secrets[32 * at : 32 * at + 32] == bytes(32)) == (row is None)
    assert any(row is None for group in items[9] for row in group[5])


def test_only_schemas_in_use_are_proved() -> None:
    decoded = decode_evidence(build(ask((RATING, INVOICE), "2024-05", "2024-06")))
    assert [key.hex() for key in decoded.entries if key[0] == 8] == ["080301"]  # the year's rating only


def test_erased_records_are_not_opened() -> None:
    asked: list[RecordValue] = []

    def opener(pairs: list[tuple[bytes, RecordValue]]) -> list[Any]:
        asked.extend(value for _key, value in pairs)
        return WORLD.open_records(pairs)

    build(opener=opener)
    assert asked
    assert all(value.status is not Status.ERASED for value in asked)
    only = ask(from_period="2024-02", to_period="2024-02", subject=OTHER_SUBJECT)
    assert decode_evidence(build(only, opener=lambda pairs: pytest.fail("nothing to open"))).groups == ()


def test_what_can_not_be_built_says_why() -> None:
    with pytest.raises(UnavailableError, match="no tag signature for kind 2 of 2023"):
        build(sigmas={})
    with pytest.raises(UnavailableError, match="no secret for record 01"):
        build(opener=lambda pairs: [None] * len(pairs))
    with pytest.raises(UnavailableError, match="no secret for record 01"):
        build(opener=lambda pairs: WORLD.open_records(pairs)[:-1])


def test_limits_hold_when_building(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(build())
    monkeypatch.setattr(limits, "evidence_bytes_max", size - 1)
    with pytest.raises(LimitError, match=f"at most {size - 1} bytes, got {size}"):
        build()
    monkeypatch.undo()
    monkeypatch.setattr(limits, "evidence_records_max", 3)
    with pytest.raises(LimitError, match="at most 3 records"):
        build()


def test_decoded_evidence_keeps_order_and_types() -> None:
    decoded = decode_evidence(build())
    assert isinstance(decoded, Evidence)
    assert list(decoded.entries) == sorted(decoded.entries)
    assert list(decoded.tags) == sorted(decoded.tags)
    assert [group.prefix for group in decoded.groups] == sorted(group.prefix for group in decoded.groups)
    for group in decoded.groups:
        assert len(group.ends) == len(group.values) == len(group.secrets) == len(group.rows) >= 1
