"""The verifier: right answers for every range, and one code for every named way of cheating."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cheating import (
    ASKED,
    ENDS,
    ENTRIES,
    EVIDENCE,
    FAULTS,
    FIELDS,
    HEADER,
    RECORDS,
    SCHEMAS,
    SECRETS,
    TAGS,
    VALUES,
    WORLD,
    Fault,
    edited,
)
from world import (
    AGE_MS_MAX,
    FILING,
    INVOICE,
    ISSUER,
    NOW_MS,
    NOW_S,
    RATING,
    SMALL,
    Spec,
    World,
    ask,
    filing,
    invoice,
)

from taxledger.ledger import canonical, limits
from taxledger.ledger.answer import show_evidence
from taxledger.ledger.checkpoint import (
    Checkpoint,
)
from taxledger.ledger.errors import TaxledgerError, VerificationError
from taxledger.ledger.records import Status
from taxledger.ledger.verify import totals

# --- answers --------------------------------------------------------------------------------

MONTHS = [f"{year}-{month:02}" for year in (2023, 2024) for month in (1, 2, 3, 10, 11, 12)]


@pytest.mark.parametrize("from_period", MONTHS)
def test_every_range_finds_exactly_its_records(from_period: str) -> None:
    for to_period in MONTHS[MONTHS.index(from_period) :]:
        for kinds in ((INVOICE,), (FILING, RATING), (FILING, RATING, INVOICE)):
            query = ask(kinds, from_period, to_period)
            answer = WORLD.verify(WORLD.evidence(query), query)
            expected = WORLD.expected(query)
            got: dict[tuple[int, str], list[Any]] = {}
            for record in answer.records:
                got.setdefault((record.kind, record.status.name), []).append(record.fields)
            assert {key: sorted(map(str, rows)) for key, rows in got.items()} == {
                key: sorted(str(WORLD.schemas[key[0], 1].named(_row(key[0], row))) for row in rows)
                for key, rows in expected.items()
            }
            assert [each.key for each in answer.records] == sorted(
                (each.key for each in answer.records),
                key=lambda key: next(
                    (r.kind, r.year, r.month, r.key) for r in answer.records if r.key == key
                ),
            )


def _row(kind: int, fields: Any) -> Any:
    return WORLD.schemas[kind, 1].row(fields)


def test_the_answer_says_where_it_comes_from() -> None:
    data = WORLD.evidence(ASKED, time_s=(NOW_S, NOW_S - 7, NOW_S + 1))
    answer = WORLD.verify(data, ASKED)
    assert (answer.query, answer.size, answer.height, answer.age_ms) == (ASKED, 7, 3, 7_000)
    assert answer.through == {FILING: "2024-02-29", RATING: None, INVOICE: "2024-12-31"}
    assert [answer.complete(kind) for kind in ASKED.kinds] == [True, False, True]
    periods = {(each.kind, each.period) for each in answer.records}
    assert {(RATING, "2023"), (RATING, "2024"), (FILING, "2024-01"), (INVOICE, "2023-11")} <= periods


@pytest.mark.parametrize(
    ("through", "to_period", "complete"),
    [
        ("2024-02-28", "2024-02", False),
        ("2024-02-29", "2024-02", True),
        ("2023-02-28", "2023-02", True),
        ("2024-03-01", "2024-02", True),
        ("2024-04-29", "2024-04", False),
        ("2024-04-30", "2024-04", True),
        ("2024-12-30", "2024-12", False),
        ("2025-01-01", "2024-12", True),
    ],
)
def test_complete_needs_the_last_day(through: str, to_period: str, complete: bool) -> None:
    world = World(specs=(), through={INVOICE: through})
    query = ask(from_period="2023-01", to_period=to_period)
    assert world.verify(world.evidence(query), query).complete(INVOICE) is complete


@pytest.mark.parametrize(
    ("from_period", "to_period", "complete"),
    [("2023-01", "2024-06", True), ("2022-12", "2024-06", False), ("2022-01", "2022-12", False)],
)
def test_nothing_is_complete_before_the_issuer_began(
    from_period: str, to_period: str, complete: bool
) -> None:
    """Attested through the end of 2024; but nothing of 2022 was ever attested, about anybody."""
    query = ask(from_period=from_period, to_period=to_period)
    answer = WORLD.verify(WORLD.evidence(query), query)
    assert answer.through[INVOICE] == "2024-12-31"
    assert answer.complete(INVOICE) is complete


def test_years_without_a_tag_key_have_no_records() -> None:
    query = ask((FILING, INVOICE), "2021-06", "2026-06")
    data = WORLD.evidence(query)
    assert [tag[:2] for tag in canonical.decode(data)[TAGS]] == [
        [kind, year] for kind in (FILING, INVOICE) for year in (2023, 2024)
    ]
    assert len(WORLD.verify(data, query).records) == 7


def test_a_subject_or_issuer_without_anything_gets_an_empty_answer() -> None:
    for query in (
        ask(subject="cumcm:E999"),
        ask(issuer=2),
        ask(issuer=9),
        ask(from_period="1990-01", to_period="1990-01"),
    ):
        answer = WORLD.verify(WORLD.evidence(query), query)
        assert answer.records == ()
        if query.issuer != ISSUER:
            assert answer.through == {INVOICE: None}


def test_an_empty_state_map_answers_nothing() -> None:
    world = World(specs=(), tag_years=(), through={})
    query = ask()
    assert world.verify(world.evidence(query), query).records == ()


def test_erased_records_are_counted_apart() -> None:
    world = World(specs=(*SMALL[:3], replace(SMALL[3], status=Status.ERASED, version=2)))
    query = ask()
    answer = world.verify(world.evidence(query), query)
    erased = [each for each in answer.records if each.status is Status.ERASED]
    assert [each.fields for each in erased] == [None]
    assert [(row["status"], row["count"]) for row in totals(answer)] == [("erased", 1), ("valid", 2)]


def test_totals_are_by_kind_direction_status_and_currency() -> None:
    specs = [
        invoice(1, "2024-01-01", 100, status=Status.REVERSED, version=2),
        invoice(2, "2024-01-02", -100),
        invoice(3, "2024-01-03", 50),
        invoice(4, "2024-01-04", 7, direction="purchase"),
        invoice(5, "2024-01-05", 9, currency="EUR"),
        invoice(6, "2024-01-06", 11, status=Status.VOIDED),
        filing("2024-01", 33),
    ]
    world = World(specs=specs)
    query = ask((FILING, INVOICE))
    rows = totals(world.verify(world.evidence(query), query))
    keys = ("kind", "direction", "status", "currency", "count", "net", "tax", "gross", "payable")
    assert [tuple(row.get(key) for key in keys) for row in rows] == [
        ("tax_filing", None, "valid", "CNY", 1, None, None, None, 33),
        ("vat_invoice", "purchase", "valid", "CNY", 1, 7, 0, 7, None),
        ("vat_invoice", "sale", "valid", "CNY", 2, -50, -7, -57, None),
        ("vat_invoice", "sale", "valid", "EUR", 1, 9, 1, 10, None),
        ("vat_invoice", "sale", "voided", "CNY", 1, 11, 1, 12, None),
        ("vat_invoice", "sale", "reversed", "CNY", 1, 100, 13, 113, None),
    ]


def test_what_is_shown_without_verifying_says_so() -> None:
    answer = WORLD.verify(EVIDENCE, ASKED).as_dict()
    shown = show_evidence(EVIDENCE)
    assert shown.pop("verified") is False
    assert answer.pop("verified") is True
    assert answer.pop("age_ms") == 0
    assert shown == answer == json.loads(json.dumps(answer))
    assert set(shown) == {"query", "checkpoint", "erased", "records", "totals", "through"}
    forged = edited(EVIDENCE, lambda items: items[RECORDS][-1][FIELDS][0].__setitem__(6, 10**12))
    assert show_evidence(forged)["verified"] is False


def test_showing_what_can_not_be_read_is_an_error_of_ours() -> None:
    edits: list[Callable[[list[Any]], object]] = [
        lambda items: items[RECORDS][-1][FIELDS][0].pop(),
        lambda items: items.__setitem__(HEADER, b"\x9e"),
        lambda items: items[SCHEMAS].__setitem__(0, b"\xc0"),
        lambda items: items[RECORDS][-1].__setitem__(VALUES, b""),
        lambda items: (items[SCHEMAS].pop(), items[ENTRIES].pop(3)),
    ]
    for edit in edits:
        with pytest.raises(TaxledgerError):
            show_evidence(edited(EVIDENCE, edit))


def test_sizes_of_proof_and_records() -> None:
    world = World(specs=[invoice(n, f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}", n * 997) for n in range(2_600)])
    query = ask()
    data = world.evidence(query)
    answer = world.verify(data, query)
    assert len(answer.records) == 2_600
    items = canonical.decode(data)
    for group in items[RECORDS]:
        group[ENDS] = group[VALUES] = group[SECRETS] = b""
        group[FIELDS] = []
    # the headers of the four columns are framing: three bytes each, and empty ones take one or two
    assert abs(len(canonical.encode(items)) - answer.proof_bytes) < 16
    expected = [[5, spec.fields["date"][:7], dict(spec.fields)] for spec in world.specs]
    assert answer.record_bytes == sum(len(canonical.encode(each)) for each in expected)
    assert answer.proof_bytes <= answer.record_bytes / 100


# --- refusals ---------------------------------------------------------------------------

TELLING = ("query_mismatch", "policy_outdated", "quorum_missing", "checkpoint_stale", "record_repeated")
"""Codes that always come with what was expected and what was found."""


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_way_of_cheating_has_its_code(fault: Fault) -> None:
    WORLD.verify(EVIDENCE, ASKED)
    with pytest.raises(VerificationError) as caught:
        WORLD.verify(fault.forge(), fault.query, **dict(fault.arguments))
    error = caught.value
    assert error.code == fault.code, str(error)
    if fault.code in TELLING:
        assert error.expected is not None
        assert error.got is not None


def test_the_table_names_every_code() -> None:
    codes = (
        "malformed not_canonical policy_mismatch policy_outdated signature_invalid signer_unknown "
        "signer_repeated quorum_missing checkpoint_stale header_mismatch inclusion_invalid "
        "map_proof_invalid prefix_incomplete record_mismatch record_repeated tag_invalid query_mismatch"
    )
    assert {fault.code for fault in FAULTS} == set(codes.split())


def test_a_file_over_the_limit_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "evidence_bytes_max", len(EVIDENCE))
    WORLD.verify(EVIDENCE, ASKED)
    monkeypatch.setattr(limits, "evidence_bytes_max", len(EVIDENCE) - 1)
    with pytest.raises(VerificationError) as caught:
        WORLD.verify(EVIDENCE, ASKED)
    assert caught.value.code == "malformed"
    monkeypatch.undo()
    monkeypatch.setattr(limits, "evidence_records_max", 3)
    with pytest.raises(VerificationError, match="malformed: expected at most 3 records"):
        WORLD.verify(EVIDENCE, ASKED)


@pytest.mark.parametrize("item", [b"\x90", b"\x80"], ids=("arrays", "maps"))
def test_a_file_full_of_empty_arrays_takes_no_memory(item: bytes) -> None:
    """Each would take 64 times its byte; so many were 5 GiB in a file of 64 MiB."""
    n = limits.evidence_containers_max
    with pytest.raises(VerificationError, match=f"malformed.*at most {n} arrays"):
        WORLD.verify(b"\xdd" + (4 * n).to_bytes(4, "big") + 4 * n * item, ASKED)
    with pytest.raises(VerificationError, match=r"malformed.*evidence"):
        WORLD.verify(b"\xdd" + (n - 1).to_bytes(4, "big") + (n - 1) * item, ASKED)


def test_another_policy_with_the_same_origin_is_outdated() -> None:
    """A policy that lost a validator, or whose validator has another key."""
    others = World(validators=("tax", "bank1", "bank2", "bank3", "bank4"))
    for policy in (others.policy,):
        with pytest.raises(VerificationError) as caught:
            WORLD.verify(EVIDENCE, ASKED, policy=policy)
        assert caught.value.code == "policy_outdated"


def test_age_limits_are_inclusive() -> None:
    WORLD.verify(EVIDENCE, ASKED, now_ms=NOW_MS + AGE_MS_MAX)
    answer = WORLD.verify(EVIDENCE, ASKED, now_ms=NOW_MS - 60_000)
    assert answer.age_ms == 0


def test_a_smaller_checkpoint_that_validators_once_signed_is_no_help() -> None:
    """The old tree, its header and its co-signatures are genuine; only their age tells."""
    old = World(height=2, specs=SMALL[:-1])
    data = old.evidence(ASKED, time_s=NOW_S - 3_600)
    with pytest.raises(VerificationError) as caught:
        WORLD.verify(data, ASKED)
    assert caught.value.code == "checkpoint_stale"
    assert isinstance(old.checkpoint, Checkpoint)


def test_a_row_of_a_spec_is_what_the_answer_shows() -> None:
    spec: Spec = SMALL[2]
    answer = WORLD.verify(EVIDENCE, ASKED)
    assert dict(spec.fields) in [each.fields for each in answer.records]


def test_an_answer_names_the_issuer_or_says_that_there_is_none() -> None:
    answer = WORLD.verify(
        WORLD.evidence(ask((INVOICE,), "2024-01", "2024-12")), ask((INVOICE,), "2024-01", "2024-12")
    )
    assert answer.issuer is not None
    assert (answer.issuer.number, answer.issuer.name) == (ISSUER, "tax")
    nobody = replace(ask((INVOICE,), "2024-01", "2024-12"), issuer=9)
    empty = WORLD.verify(WORLD.evidence(nobody), nobody)
    assert empty.issuer is None
    assert empty.records == ()
    assert not empty.complete(INVOICE)
