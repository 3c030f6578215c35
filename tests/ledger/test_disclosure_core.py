"""A disclosure end to end without any node: consent and use in a map, evidence in parts, one verification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from consentkit import make_artefact
from disclosurekit import QUERY, SPECS, build
from world import AGE_MS_MAX, NOW_MS, World, ask

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.disclosure import Disclosed, use_keys, verify_disclosure
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.evidence import encode_evidence
from taxledger.ledger.parts import join_evidence, split_evidence


def verify(world: World, data: bytes, **changes: Any) -> Disclosed:
    arguments: dict[str, Any] = {
        "recipient": 2,
        "now_ms": NOW_MS,
        "age_ms_max": AGE_MS_MAX,
        "query": QUERY,
        **changes,
    }
    query = arguments.pop("query")
    return verify_disclosure(data, world.policy, query, **arguments)


def test_all_fields() -> None:
    world, data, artefact = build()
    said = verify(world, data)
    assert len(said.answer.records) == 25
    assert said.consent == artefact.id(1)
    assert {record.opened for record in said.answer.records} == {None}
    assert sum(record.fields["net"] for record in said.answer.records if record.fields) == 25 * 100_000


def test_some_fields_stay_digests() -> None:
    world, data, _ = build(fields=("date", "net"))
    said = verify(world, data)
    for record in said.answer.records:
        assert record.fields is not None
        assert set(record.fields) == {"date", "net"}
        assert "counterparty" in record.closed
    assert b"cumcm:B" not in data


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"recipient": 3}, "consent_recipient_mismatch"),
        ({"query": ask(subject="cumcm:E14")}, "consent_subject_mismatch"),
        ({"query": ask((2,))}, "consent_kind_exceeded"),
        ({"query": ask(from_period="2023-12")}, "consent_period_exceeded"),
        ({"query": ask(from_period="2024-02")}, "query_mismatch"),
        ({"now_ms": NOW_MS + AGE_MS_MAX + 60_000}, "checkpoint_stale"),
        ({"height_min": 4}, "checkpoint_stale"),
    ],
)
def test_another_question_is_refused(changes: dict[str, Any], code: str) -> None:
    world, data, _ = build()
    with pytest.raises(VerificationError) as caught:
        verify(world, data, **changes)
    assert caught.value.code == code


def test_every_bit_counts() -> None:
    world, data, _ = build(fields=("date", "net"))
    for at in range(0, len(data), 7):
        changed = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(VerificationError):
            verify(world, changed)


def test_parts_and_evidence_say_the_same() -> None:
    world = World(specs=SPECS)
    data = world.evidence(QUERY)
    from taxledger.ledger.evidence import decode_evidence

    evidence = decode_evidence(data)
    for records_max in (1, 7, 25, 1000):
        frame, parts = split_evidence(evidence, records_max=records_max)
        assert encode_evidence(join_evidence(frame, parts)) == data
        assert len(parts) == -(-25 // records_max)


def test_a_holder_that_is_not_listed_is_refused() -> None:
    world, data, artefact = build()
    assert statekeys.holder_key(artefact.terms.holder, artefact.id(1)) == use_keys(artefact, 1, 1)[1]
    other = make_artefact(chain_id=world.chain_id, holder=bytes(16))
    value = canonical.decode(data)
    value[2] = other.raw
    with pytest.raises(VerificationError):
        verify(world, canonical.encode(value))
    assert replace(artefact.terms, holder=bytes(16)) != artefact.terms
