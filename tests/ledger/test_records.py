"""Subjects, periods, identities, commitments, map values, each against the protocol's formula written out."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxledger.ledger import canonical
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import EncodingError, FormatError, InvariantError
from taxledger.ledger.records import (
    RecordValue,
    Status,
    check_subject,
    commit,
    decode_record_value,
    decode_record_values,
    encode_record_value,
    fingerprint,
    identity,
    parse_subject,
    record_id,
    record_period,
    record_value_parts,
    tag_message,
    tag_of,
    uscc_check_character,
)
from taxledger.ledger.schemas import Schema, decode_schema, encode_schema

FILING, RATING, INVOICE = BUILTIN[:3]
CHAIN = bytes(range(16))
KEY = bytes([1]) + bytes(36)
SECRET = bytes(range(32))
NAMED: dict[str, Any] = {
    "direction": "sale",
    "code": "011002200111",
    "number": "00000042",
    "date": "2024-02-29",
    "counterparty": "cumcm:B7",
    "currency": "CNY",
    "net": -94_340,
    "tax": 2**40,
    "gross": 2**63 - 1,
    "rate": 130_000,
    "goods": "钢材" * 20,
}
ROW = INVOICE.row(NAMED)


# --- subjects -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("91110101MA0000000?", None),
        ("cumcm:E14", "cumcm:E14"),
        (" cumcm: e14 ", "cumcm:E14"),
        ("CUMCM:E14", "cumcm:E14"),
        ("no-org:912 345 678", "no-org:912345678"),
        ("mx-rfc:aaa-010101-aaa", "mx-rfc:AAA010101AAA"),
        ("mx-rfc:ÑAA010101AAA", "mx-rfc:ÑAA010101AAA"),
        ("gb-vrn:GB 123 456 789", "gb-vrn:123456789"),
        ("eori:gb123456789000", "eori:GB123456789000"),
        ("hu-tax:12345678-2-41", "hu-tax:12345678"),
        ("kr-brn:123-45-67890", "kr-brn:1234567890"),
        ("ca-toronto:Vendor 12", "ca-toronto:Vendor 12"),
        ("ted:FR-35200012", "ted:FR-35200012"),
        ("ocds:GB-COH-1234", "ocds:GB-COH-1234"),
        ("cn-tin:110101123456789", "cn-tin:110101123456789"),
        ("name:ted.europa.eu:  Société   Générale ", "name:ted.europa.eu:Société Générale"),
    ],
)
def test_subjects_have_one_form(text: str, subject: str | None) -> None:
    if subject is None:
        text = text[:17] + uscc_check_character(text[:17])
        subject = f"uscc:{text}"
        assert parse_subject(text.lower()) == subject
    assert parse_subject(text) == subject
    assert parse_subject(subject) == subject
    check_subject(subject)


def test_a_credit_code_is_known_by_its_check_character() -> None:
    # GB 32100-2015 lists the weights; the sum over all 18 characters with weight 1 for the last is 0 mod 31.
    weights = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
    code = "91110101MA0000000"
    good = uscc_check_character(code)
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    total = sum(alphabet.index(each) * weight for each, weight in zip(code, weights, strict=True))
    assert (total + alphabet.index(good)) % 31 == 0
    for wrong in set(alphabet) - {good}:
        with pytest.raises(FormatError, match=f"expected check character {good}, got {wrong}"):
            parse_subject(code + wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "E14",
        ":E14",
        "cumcm:",
        "cumcm:B14",
        "cumcm:E014",
        "cumcm:E1\n4",
        "elsewhere:1",
        "uscc:91110101MA000000",
        "uscc:9111010IMA00000000",
        "uscc:９１110101MA0000000G",
        "no-org:12345678",
        "no-org:１２３４５６７８９",
        "name:Publisher:x",
        "name:publisher",
        "name:publisher: ",
        "name:publisher:" + "x" * 256,
        "ted:no\x00",
        "mx-rfc:AAA01010",
    ],
)
def test_other_subjects_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="expected"):
        parse_subject(text)


@pytest.mark.parametrize(
    "subject",
    ["", "x", "x:", ":x", "X:y", "x: y", "x:y ", "x:a\nb", "x:\ud800", "x:" + "y" * 255, None, b"x:y"],
)
def test_the_ledger_asks_only_for_scheme_and_identifier(subject: Any) -> None:
    check_subject("anything:at all, 任何")
    with pytest.raises(FormatError, match="expected a subject"):
        check_subject(subject)


@given(st.text(max_size=300))
def test_parse_subject_gives_a_subject_or_refuses(text: str) -> None:
    try:
        subject = parse_subject(text)
    except FormatError:
        return
    check_subject(subject)
    assert parse_subject(subject) == subject


# --- periods --------------------------------------------------------------------------------


def test_periods() -> None:
    assert record_period(INVOICE, ROW) == (2024, 2)
    assert record_period(RATING, RATING.row({"year": 2023})) == (2023, 0)
    assert record_period(FILING, FILING.row({"period": "1999-12"})) == (1999, 12)
    quarterly = replace(FILING, period=("quarter", "filed"))
    for month, quarter in ((1, 13), (3, 13), (4, 14), (6, 14), (7, 15), (9, 15), (10, 16), (12, 16)):
        assert record_period(quarterly, FILING.row({"filed": f"2024-{month:02}-28"})) == (2024, quarter)
    yearly = replace(INVOICE, period=("year", "date"))
    assert record_period(yearly, ROW) == (2024, 0)
    with pytest.raises(FormatError, match="field date"):
        record_period(INVOICE, INVOICE.row({}))


# --- identities -----------------------------------------------------------------------------


def test_a_20_digit_number_is_unique_by_itself() -> None:
    assert identity(INVOICE, INVOICE.row({**NAMED, "number": "24" + "0" * 18})) == [
        ("number", "24" + "0" * 18)
    ]
    assert identity(INVOICE, ROW) == [("code", "011002200111"), ("number", "00000042")]


@pytest.mark.parametrize("number", ["1" * 19, "1" * 21, "1" * 19 + "x", "１" * 20])
def test_without_a_unique_number_every_field_counts(number: str) -> None:
    row = INVOICE.row({**NAMED, "number": number, "code": None})
    assert identity(INVOICE, row) == list(zip([each.name for each in INVOICE.fields], row, strict=True))


def test_record_ids_follow_the_formula() -> None:
    tag = tag_of(b"sigma")
    assert tag == hashlib.sha256(b"taxledger/tag/1sigma").digest()[:16]
    packed = msgpack.packb([5, tag, [["code", "011002200111"], ["number", "00000042"]]])
    expected = hmac.new(SECRET, b"taxledger/rid/1" + packed, "sha256").digest()[:16]
    assert record_id(SECRET, 5, tag, identity(INVOICE, ROW)) == expected


def test_fingerprints_leave_parties_out() -> None:
    base = {**NAMED, "code": None}
    row = INVOICE.row(base)
    got = fingerprint(SECRET, INVOICE, row, identity(INVOICE, row))
    content = [[each.name, base.get(each.name)] for each in INVOICE.fields if each.name != "counterparty"]
    packed = b"taxledger/fingerprint/1" + msgpack.packb([5, content])
    assert got == hmac.new(SECRET, packed, "sha256").digest()[:16]
    twin = INVOICE.row({**base, "counterparty": "cumcm:B8"})
    assert fingerprint(SECRET, INVOICE, twin, identity(INVOICE, twin)) == got
    other = INVOICE.row({**base, "net": 1})
    assert fingerprint(SECRET, INVOICE, other, identity(INVOICE, other)) != got


def test_only_records_with_the_mark_have_a_fingerprint() -> None:
    bought = INVOICE.row({**NAMED, "direction": "purchase"})
    assert fingerprint(SECRET, INVOICE, bought, identity(INVOICE, bought)) is None
    unmarked = INVOICE.row({**NAMED, "direction": None})
    assert fingerprint(SECRET, INVOICE, unmarked, identity(INVOICE, unmarked)) is None
    always = replace(INVOICE, fingerprint=())
    assert fingerprint(SECRET, always, bought, identity(always, bought)) is not None
    filing = FILING.row({"tax": "vat", "period": "2024-01"})
    assert fingerprint(SECRET, FILING, filing, identity(FILING, filing)) is None


def test_tag_messages() -> None:
    assert tag_message(CHAIN, "cumcm:E1", 5, 2024) == msgpack.packb(
        ["taxledger/tag/1", CHAIN, "cumcm:E1", 5, 2024]
    )


# --- commitments ----------------------------------------------------------------------------


def protocol_commitment(schema: Schema, key: bytes, version: int, secret: bytes, row: Any) -> bytes:
    """§5, as written there."""
    digests = b""
    for index, (each, value) in enumerate(zip(schema.fields, row, strict=True)):
        if value is None:
            digests += bytes(32)
            continue
        message = b"taxledger/salt/1" + index.to_bytes(2, "big")
        salt = hmac.new(secret, message, "sha256").digest()[:16]
        packed = msgpack.packb([each.name, value])
        digests += hashlib.sha256(b"taxledger/field/1" + salt + packed).digest()
    bound = b"taxledger/commitment/1" + CHAIN + key + version.to_bytes(4, "big")
    return hashlib.sha256(bound + digests).digest()


@given(
    st.lists(st.integers(0, 11), unique=True),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=37, max_size=37),
    st.integers(1, 2**32 - 1),
    st.integers(-(2**63) + 1, 2**63 - 1),
)
def test_commitments_follow_the_formula(
    absent: list[int], secret: bytes, key: bytes, version: int, net: int
) -> None:
    row = list(INVOICE.row({**NAMED, "net": net}))
    for index in absent:
        row[index] = None
    expected = protocol_commitment(INVOICE, key, version, secret, row)
    assert commit(INVOICE, CHAIN, key, version, secret, row) == expected


def test_every_part_counts_in_a_commitment() -> None:
    base = commit(INVOICE, CHAIN, KEY, 1, SECRET, ROW)
    others = [
        commit(INVOICE, bytes(16), KEY, 1, SECRET, ROW),
        commit(INVOICE, CHAIN, KEY[:-1] + b"\x01", 1, SECRET, ROW),
        commit(INVOICE, CHAIN, KEY, 2, SECRET, ROW),
        commit(INVOICE, CHAIN, KEY, 1, bytes(32), ROW),
        *(
            commit(INVOICE, CHAIN, KEY, 1, SECRET, (*ROW[:at], other, *ROW[at + 1 :]))
            for at, value in enumerate(ROW)
            for other in ("other", 0, None if value is not None else "")
        ),
    ]
    assert len({base, *others}) == len(others) + 1
    # an absent field is not an empty one, nor a digest of zeros that somebody could open
    assert commit(INVOICE, CHAIN, KEY, 1, SECRET, (*ROW[:11], "")) != base


def test_a_secret_of_another_length_is_a_bug() -> None:
    with pytest.raises(InvariantError):
        commit(INVOICE, CHAIN, KEY, 1, SECRET[:16], ROW)


# --- map values -----------------------------------------------------------------------------

VALUE = RecordValue(
    status=Status.VALID, version=300, schema=1, commitment=bytes(32), fingerprint=bytes(16), height=70_000
)


@given(
    st.sampled_from(Status),
    st.integers(1, 2**32 - 1),
    st.integers(1, 255),
    st.binary(min_size=32, max_size=32),
    st.none() | st.binary(min_size=16, max_size=16),
    st.integers(0, 2**63 - 1),
)
def test_map_values_are_canonical(
    status: Status, version: int, schema: int, commitment: bytes, mark: bytes | None, height: int
) -> None:
    value = RecordValue(
        status=status,
        version=version,
        schema=schema,
        commitment=commitment,
        fingerprint=mark,
        height=height,
    )
    data = encode_record_value(value)
    assert data == canonical.encode([int(status), version, schema, commitment, mark, height])
    assert decode_record_value(data) == value
    assert decode_record_values(data * 3, 3) == [(data, value)] * 3
    before, after = record_value_parts(status, version, schema, height)
    packed = b"\xc0" if mark is None else b"\xc4\x10" + mark
    assert before + commitment + packed + after == data


@pytest.mark.parametrize(
    "value",
    [
        [0, 1, 1, bytes(32), None, 1],
        [7, 1, 1, bytes(32), None, 1],
        [True, 1, 1, bytes(32), None, 1],
        [1, 0, 1, bytes(32), None, 1],
        [1, 2**32, 1, bytes(32), None, 1],
        [1, 1, 0, bytes(32), None, 1],
        [1, 1, 256, bytes(32), None, 1],
        [1, 1, 1, bytes(31), None, 1],
        [1, 1, 1, "x" * 32, None, 1],
        [1, 1, 1, bytes(32), bytes(15), 1],
        [1, 1, 1, bytes(32), "", 1],
        [1, 1, 1, bytes(32), None, -1],
        [1, 1, 1, bytes(32), None, 2**63],
        [1, 1, 1, bytes(32), None],
        [1, 1, 1, bytes(32), None, 1, 1],
        {"a": 1},
        1,
    ],
)
def test_other_map_values_are_refused(value: Any) -> None:
    data = canonical.encode(value)
    with pytest.raises(FormatError):
        decode_record_value(data)
    with pytest.raises(FormatError):
        decode_record_values(data, 1)


def test_joined_values_are_cut_nowhere_and_counted() -> None:
    data = encode_record_value(VALUE)
    for end in range(1, len(data)):
        with pytest.raises((EncodingError, FormatError)):
            decode_record_values(data + data[:end], 2)
    for n in (0, 1, 3):
        with pytest.raises(FormatError, match=f"expected {n} record values"):
            decode_record_values(data * 2, n)
    assert decode_record_values(b"", 0) == []
    longer = data[:2] + b"\xcd\x00\x01" + data[5:]  # version 1 in a longer form
    with pytest.raises(EncodingError):
        decode_record_values(longer, 1)


def test_a_schema_read_from_its_document_commits_alike() -> None:
    again = decode_schema(encode_schema(INVOICE))
    assert commit(again, CHAIN, KEY, 1, SECRET, ROW) == commit(INVOICE, CHAIN, KEY, 1, SECRET, ROW)
