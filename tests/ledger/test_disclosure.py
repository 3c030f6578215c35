"""Disclosures: good ones say what was opened, each way of cheating is refused by its code, no byte can be changed."""

from __future__ import annotations

import random
import re
import time
import tracemalloc
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from disclosurecheats import FAULTS, Fault, other_use
from disclosureforge import (
    ACCEPTED,
    ARTEFACT_GIVEN,
    CUSTODIAN,
    FRAME,
    GOOD,
    INVOICES,
    KINDS,
    PARTS,
    PREDICATES,
    PROOF,
    PROOF_QUERY,
    PROVES,
    QUERY,
    SEQUENCE,
    SPECS,
    Case,
    answers,
    artefact_of,
    check,
    edited,
    forge,
    one_detail,
    with_details,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from world import AGE_MS_MAX, INVOICE, NOW_MS, RATING, SUBJECT, World, ask, filing

from taxledger.ledger import canonical, checkpoint, limits, parts, signedbody, verify
from taxledger.ledger.disclosure import Disclosure, decode_disclosure, encode_disclosure
from taxledger.ledger.errors import LimitError, UnavailableError, VerificationError
from taxledger.ledger.parts import split_evidence
from taxledger.ledger.records import Status
from taxledger.ledger.statekeys import schema_key
from taxledger.ledger.verify import totals

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
SMALL_FILE = forge(
    specs=[filing("2024-01"), SPECS[0]], artefact=with_details(one_detail(("date", "net"))), query=INVOICES
)


@pytest.fixture(autouse=True)
def _remembered_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signature is verified once: it is a pure function, and here most of the time would go into it."""
    for module, name in (
        (checkpoint, "verify_signature"),
        (signedbody, "verify_signature"),
        (verify, "verify_tag_signature"),
    ):
        monkeypatch.setattr(module, name, lru_cache(maxsize=256)(getattr(module, name)))


def code_of(data: bytes, query: Any = QUERY, **changes: Any) -> str | None:
    try:
        check(data, query, **changes)
    except VerificationError as error:
        return error.code
    return None


# --- what is accepted ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_good_files_are_accepted_and_are_what_their_content_encodes_to(case: Case) -> None:
    data = case.make()
    said = check(data, case.query)
    assert said.custodian == 1
    assert said.sequence == 1
    assert said.proved_height == 5
    assert encode_disclosure(decode_disclosure(data)) == data
    assert said.use_value.planned_count == len(said.answer.records)


def test_it_opens_what_the_consent_says_and_nothing_else() -> None:
    said = check(GOOD)
    shown = {(each.kind, each.month, each.status): each for each in said.answer.records}
    assert len(said.answer.records) == 9
    by_kind = {RATING: {"year", "grade"}, 2: {"payable", "tax"}, INVOICE: {"date", "net", "goods"}}
    for each in said.answer.records:
        assert set(each.fields or {}) <= by_kind[each.kind]
    assert shown[INVOICE, 3, Status.ERASED].fields is None
    assert shown[INVOICE, 3, Status.ERASED].opened == (3, 6, 10)
    assert shown[RATING, 0, Status.VALID].opened is None
    assert said.answer.complete(INVOICE)
    assert not said.answer.complete(2)
    for secret in (b"cumcm:B", b"011002200111", b"00000001"):
        assert secret not in GOOD
    assert SUBJECT.encode() in GOOD, "the parties know who it is about"


def test_sums_are_shown_only_where_every_amount_was_and_in_one_currency() -> None:
    closed = totals(check(GOOD).answer)
    assert all(row["net"] is None for row in closed if row["kind"] == "vat_invoice"), "no currency, no sum"
    query = ask((INVOICE,), "2024-01", "2024-03")

    def sums(*fields: str) -> list[tuple[Any, ...]]:
        names = tuple(sorted(fields)) or None
        said = check(forge(artefact=with_details(one_detail(names)), query=query), query)
        rows = [row for row in totals(said.answer) if row["status"] == "valid"]
        return [(row["direction"], row["currency"], row["count"], row["net"], row["tax"]) for row in rows]

    assert sums("currency", "direction", "net") == [
        ("purchase", "CNY", 1, 777, None),
        ("sale", "CNY", 3, 5_000 + 70 - 5_000, None),
    ]
    assert sums("currency", "net") == [(None, "CNY", 4, None, None)], "sales and purchases are not added up"
    assert sums("direction", "net") == [("purchase", None, 1, None, None), ("sale", None, 3, None, None)]
    assert [row[:4] for row in sums()] == [("purchase", "CNY", 1, 777), ("sale", "CNY", 3, 70)]
    erased = [row for row in totals(check(forge(query=query), query).answer) if row["status"] == "erased"]
    assert [(row["count"], row["net"]) for row in erased] == [(1, None)], "nobody knows what it was"


def test_answers_to_predicates_name_the_consent_only() -> None:
    data = forge(artefact=PROVES, query=PROOF_QUERY, specs=answers(PROVES))
    said = check(data, PROOF_QUERY)
    assert said.answer.query.subject == f"consent:{PROVES.id(1).hex()}"
    got = {(each.fields["name"], each.fields["result"]) for each in said.answer.records if each.fields}
    assert got == {("filings_complete", True), ("net_sales_at_least", True), ("rating_is", False)}
    assert len(PREDICATES) == 3


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_way_of_cheating_is_refused_by_its_code(fault: Fault) -> None:
    with pytest.raises(VerificationError) as caught:
        check(fault.make(), fault.query, **dict(fault.arguments))
    assert caught.value.code == fault.code, str(caught.value)
    for secret in ("cumcm:B", "011002200111", SUBJECT):
        assert secret not in str(caught.value)


def test_the_names_are_unique_and_every_code_of_the_protocols_table_is_met() -> None:
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)
    section = PROTOCOL.read_text(encoding="utf-8").split("## 13. Disclosures")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    codes = {code for row in rows for code in re.findall("`([a-z_]+)`", row)}
    assert len(codes) == 11
    assert codes <= {fault.code for fault in FAULTS}


def test_a_later_question_of_the_caller_counts_for_the_evidence() -> None:
    assert code_of(GOOD, height_min=3) is None
    assert code_of(GOOD, height_min=4) == "checkpoint_stale"
    assert code_of(GOOD, engine="embedded") is None
    assert code_of(GOOD, engine="cometbft") == "policy_mismatch"


def test_the_codes_come_in_the_order_of_the_table() -> None:
    """A file that is wrong everywhere, made right from the top: each code gives way to the next."""
    bad = forge(
        use=lambda value: value.__setitem__(2, 3),
        consent=lambda value: value.__setitem__(5, 9),
        scope=lambda schema: None,
        note={"signers": (0, 1)},
    )
    steps = [
        ({"recipient": 3, "now_ms": NOW_MS + AGE_MS_MAX + 1}, replace(QUERY, issuer=2, subject="x:y")),
        ({"now_ms": NOW_MS + AGE_MS_MAX + 1}, replace(QUERY, issuer=2, subject="x:y")),
        ({"now_ms": NOW_MS + AGE_MS_MAX + 1}, replace(QUERY, subject="x:y", kinds=(9,))),
        ({"now_ms": NOW_MS + AGE_MS_MAX + 1}, replace(QUERY, kinds=(9,), to_period="2025-01")),
        ({"now_ms": NOW_MS + AGE_MS_MAX + 1}, replace(QUERY, to_period="2025-01")),
        ({"now_ms": NOW_MS + AGE_MS_MAX + 1}, QUERY),
        ({}, QUERY),
    ]
    got = [code_of(bad, query, **changes) for changes, query in steps]
    assert got == [
        "consent_recipient_mismatch",
        "consent_custodian_mismatch",
        "consent_subject_mismatch",
        "consent_kind_exceeded",
        "consent_period_exceeded",
        "checkpoint_stale",
        "consent_mismatch",
    ]
    bad = forge(
        use=lambda value: value.__setitem__(2, 3), scope=lambda schema: None, note={"signers": (0, 1)}
    )
    assert code_of(edited(bad, lambda items: items[PARTS].pop())) == "use_mismatch"
    assert code_of(bad) == "quorum_missing"
    bad = forge(use=lambda value: value.__setitem__(2, 3), scope=lambda schema: None)
    assert code_of(bad) == "use_mismatch"
    assert code_of(forge(scope=lambda schema: None)) == "consent_fields_exceeded"


# --- every byte ---------------------------------------------------------------------------------


def test_every_byte_counts() -> None:
    """Three changes of each byte; whatever is changed is refused, and never by another exception."""
    assert code_of(SMALL_FILE, INVOICES) is None
    for at, byte in enumerate(SMALL_FILE):
        for other in (byte ^ 1, byte ^ 0x80, (byte + 85) % 256):
            data = SMALL_FILE[:at] + bytes([other]) + SMALL_FILE[at + 1 :]
            assert code_of(data, INVOICES) is not None, (at, other)


def test_every_cut_is_refused() -> None:
    for at in range(len(SMALL_FILE)):
        assert code_of(SMALL_FILE[:at], INVOICES) in ("malformed", "not_canonical")
        assert code_of(SMALL_FILE + SMALL_FILE[: at + 1], INVOICES) in ("malformed", "not_canonical")


def test_every_byte_that_was_planned_counts() -> None:
    """The custodian plans the changed bytes, so that only the evidence itself can tell."""
    frame, pieces = canonical.decode(SMALL_FILE)[FRAME], canonical.decode(SMALL_FILE)[PARTS]
    arguments: dict[str, Any] = {
        "specs": [filing("2024-01"), SPECS[0]],
        "artefact": with_details(one_detail(("date", "net"))),
        "query": INVOICES,
    }
    for at in range(0, len(frame), 23):
        changed = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]
        data = forge(planned=lambda _f, p, c=changed: (c, p), **arguments)
        assert code_of(data, INVOICES) is not None, at
    for at in range(0, len(pieces[0]), 5):
        changed = pieces[0][:at] + bytes([pieces[0][at] ^ 1]) + pieces[0][at + 1 :]
        data = forge(planned=lambda f, _p, c=changed: (f, [c]), **arguments)
        assert code_of(data, INVOICES) is not None, at


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    assert code_of(noise) in ("malformed", "not_canonical")


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_two_good_files_never_make_a_third(seed: int) -> None:
    rng = random.Random(seed)
    others = [
        other_use(artefact=artefact_of(nonce=bytes(32))),
        other_use(scope=lambda schema: None),
        other_use(query=INVOICES),
        other_use(specs=SPECS[:4]),
        other_use(artefact=artefact_of(recipient=3)),
    ]
    for _ in range(60):
        items, other = canonical.decode(GOOD), rng.choice(others)
        for at in rng.sample(range(2, 9), rng.randrange(1, 7)):
            items[at] = other[at]
        data = canonical.encode(items)
        assert data in (GOOD, canonical.encode(other)) or code_of(data) is not None
        assert code_of(data, recipient=3) is not None or items[2] == others[4][2]


def test_nothing_is_opened_under_a_consent_whose_schema_is_not_there() -> None:
    class Unregistered(World):
        def _content(self) -> dict[bytes, bytes]:
            content = super()._content()
            del content[schema_key(INVOICE, 1)]
            return content

    with pytest.raises(UnavailableError):
        forge(before=Unregistered)
    with pytest.raises(UnavailableError):
        forge(before=Unregistered, scope=lambda schema: None)
    Unregistered(specs=SPECS).evidence(QUERY)


# --- limits -------------------------------------------------------------------------------------


def _refused_quickly(data: bytes, code: str) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    assert code_of(data) == code
    assert time.monotonic() - begun < 20
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 1024 * 1024 + 2 * len(data)


def test_a_file_of_empty_arrays_is_refused_before_it_is_large() -> None:
    many = 4_000_000
    array = b"\xdd" + many.to_bytes(4, "big") + b"\x90" * many
    head = GOOD[: len(GOOD) - len(canonical.encode(canonical.decode(GOOD)[PARTS : PROOF + 1])) + 1]
    proof = canonical.encode(canonical.decode(GOOD)[PROOF])
    _refused_quickly(head + array + proof, "malformed")


def test_a_part_of_empty_arrays_is_refused_before_it_is_large() -> None:
    size = limits.disclosure_part_bytes_max - 100
    rows = b"\xdd" + size.to_bytes(4, "big") + b"\x90" * size
    part = canonical.encode([1, "part", 1, b"", []])[:-1] + rows
    _refused_quickly(forge(planned=lambda frame, _parts: (frame, [part])), "malformed")


def test_one_record_more_than_a_part_may_have() -> None:
    for number, code in ((1_000, "malformed"), (1_001, "malformed")):
        part = canonical.encode([1, "part", 1, b"", [None] * number])
        with pytest.raises(VerificationError) as caught:
            parts.part_records(part, 2)
        assert caught.value.code == code
        if number == 1_000:
            assert parts.part_records(part, 1) == number
        else:
            with pytest.raises(VerificationError):
                parts.part_records(part, 1)


def test_no_file_is_made_that_no_verifier_would_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made = decode_disclosure(GOOD)
    sizes = len(made.frame) + sum(map(len, made.parts))
    monkeypatch.setattr(limits, "disclosure_pieces_bytes_max", sizes)
    assert encode_disclosure(made) == GOOD
    assert isinstance(decode_disclosure(GOOD), Disclosure)
    evidence = parts.join_evidence(made.frame, made.parts)
    assert split_evidence(evidence, records_max=2)[0] == made.frame
    monkeypatch.setattr(limits, "disclosure_pieces_bytes_max", sizes - 1)
    with pytest.raises(LimitError):
        encode_disclosure(made)
    with pytest.raises(LimitError):
        split_evidence(evidence, records_max=2)
    assert code_of(GOOD) == "malformed"


def test_a_file_names_its_custodian_and_use() -> None:
    items = canonical.decode(GOOD)
    assert (items[CUSTODIAN], items[SEQUENCE]) == (1, 1)
    assert ARTEFACT_GIVEN.terms.custodian(1).member == 1
    assert World(specs=()).chain_id == ARTEFACT_GIVEN.terms.chain_id
    assert QUERY.kinds == KINDS
