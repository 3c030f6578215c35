"""Schemas: documents, what fits a field, and every contradiction a document can have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxledger.ledger import canonical, limits
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import EncodingError, FormatError, InputError, LimitError
from taxledger.ledger.schemas import (
    KIND_NAMES,
    KINDS,
    Schema,
    decode_schema,
    encode_schema,
    is_date,
    kind_name,
    parse_kind,
)

INVOICE = next(schema for schema in BUILTIN if schema.name == "vat_invoice")
FILING = next(schema for schema in BUILTIN if schema.name == "tax_filing")
ROW = INVOICE.row({"direction": "sale", "number": "1", "date": "2024-02-29", "net": -1, "rate": 130_000})


@pytest.mark.parametrize("schema", BUILTIN, ids=lambda schema: schema.name)
def test_documents_decode_to_what_they_were(schema: Schema) -> None:
    document = encode_schema(schema)
    assert decode_schema(document) == schema
    assert encode_schema(decode_schema(document)) == document
    assert canonical.decode(document)[:5] == [1, "schema", schema.kind, schema.number, schema.name]
    assert document.isascii() or all(byte < 128 for text in _texts(document) for byte in text.encode())


def _texts(document: bytes) -> list[str]:
    found: list[str] = []
    stack = [canonical.decode(document)]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += value
        elif isinstance(value, str):
            found.append(value)
    return found


def test_vat_invoice_is_what_the_issuers_agreed() -> None:
    names = "direction code number date counterparty currency net tax gross rate goods original"
    assert " ".join(each.name for each in INVOICE.fields) == names
    assert [each.name for each in INVOICE.fields if each.role == 1] == ["counterparty"]
    assert INVOICE.unique == ((("number", 20),), (("code", 0), ("number", 0)))
    assert INVOICE.fingerprint == ("direction", "sale")
    assert INVOICE.period == ("month", "date")


def test_kinds_have_names_and_numbers() -> None:
    assert sorted(KINDS.values()) == list(range(1, 13))
    assert KIND_NAMES[5] == "vat_invoice"
    assert (parse_kind("vat_invoice"), parse_kind("5"), parse_kind("200")) == (5, 5, 200)
    assert (kind_name(5), kind_name(200)) == ("vat_invoice", "200")
    for text in ("", "0", "05", "256", "invoice", "-1", "٥", "5 "):
        with pytest.raises(FormatError, match="expected a kind"):
            parse_kind(text)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("direction", ["sale", "purchase"], ["", "Sale", 1, b"sale", ["sale"]]),
        ("number", ["", "1", "票", "x" * 1_024], ["x" * 1_025, "票" * 342, "\ud800", 1, True]),
        (
            "date",
            ["2024-02-29", "0001-01-01"],
            ["2023-02-29", "2024-2-1", "2024-02-30", "0000-01-01", "2024-02-29 ", "２０２４-01-01", 20240229],
        ),
        ("net", [0, 2**63 - 1, -(2**63) + 1], [2**63, -(2**63), True, "1", 1.0]),
        ("rate", [0, 1_000_000], [False, "130000"]),
    ],
)
def test_a_value_fits_its_type_or_is_refused_by_name(name: str, good: list[Any], bad: list[Any]) -> None:
    at = INVOICE.position[name]
    for value in good:
        INVOICE.check_fields((*ROW[:at], value, *ROW[at + 1 :]))
    for value in bad:
        with pytest.raises(FormatError, match=f"field {name}: expected"):
            INVOICE.check_fields((*ROW[:at], value, *ROW[at + 1 :]))


def test_months_and_years_and_booleans() -> None:
    schema = _schema(
        fields=[["m", "month", 0], ["y", "year", 0], ["b", "boolean", 0]], period=["month", "m"], unique=[]
    )
    schema.check_fields(("2024-12", 2024, False))
    for row in (
        ("2024-13", 1, True),
        ("2024-00", 1, True),
        ("0000-01", 1, True),
        ("2024-01", 0, True),
        ("2024-01", 10_000, True),
        ("2024-01", True, True),
        ("2024-01", 1, 1),
    ):
        with pytest.raises(FormatError, match="expected"):
            schema.check_fields(row)


def test_a_row_has_one_value_for_each_field_and_a_period() -> None:
    with pytest.raises(FormatError, match="expected 12 field values, got 11"):
        INVOICE.check_fields(ROW[:-1])
    with pytest.raises(FormatError, match="field date: expected a value"):
        INVOICE.check_fields((None,) * 12)
    with pytest.raises(FormatError, match="got 'price'"):
        INVOICE.row({"price": 1})
    assert INVOICE.named(ROW) == {
        "direction": "sale",
        "number": "1",
        "date": "2024-02-29",
        "net": -1,
        "rate": 130_000,
    }


def _document(**changes: Any) -> bytes:
    parts: dict[str, Any] = {
        "version": 1,
        "name_": "schema",
        "kind": 6,
        "number": 1,
        "name": "award",
        "fields": [["date", "date", 0], ["winner", "text", 1], ["kind", ["a", "b"], 0]],
        "unique": [[["winner", 8], ["date", 0]]],
        "fingerprint": ["kind", "a"],
        "period": ["month", "date"],
    }
    return canonical.encode(list({**parts, **changes}.values()))


def _schema(**changes: Any) -> Schema:
    return decode_schema(_document(fingerprint=None, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"name_": "Schema"},
        {"more": 1},
        {"kind": 0},
        {"kind": 256},
        {"kind": "5"},
        {"number": 0},
        {"number": True},
        {"name": "Award"},
        {"name": "x" * 33},
        {"name": 5},
        {"fields": []},
        {"fields": {}},
        {"fields": [[]]},
        {"fields": ["date"]},
        {"fields": [["date", "date", 0], ["date", "date", 0]]},
        {"fields": [["date", "date", 2]]},
        {"fields": [["date", "date", False]]},
        {"fields": [["date", "float", 0]]},
        {"fields": [["date", [], 0]]},
        {"fields": [["date", ["a", "a"], 0]]},
        {"fields": [["date", ["a", 1], 0]]},
        {"fields": [["date", ["a", ["b"]], 0]]},
        {"fields": [["date", ["税"], 0]]},
        {"fields": [["date", 1, 0]]},
        {"fields": [["Datum", "date", 0]]},
        {"fields": [[["date"], "date", 0]]},
        {"fields": [[f"f{n}", "date", 0] for n in range(limits.fields_max + 1)]},
        {"unique": [[]]},
        {"unique": [[["nowhere", 0]]]},
        {"unique": [[["date", 8]]]},
        {"unique": [[["winner", -1]]]},
        {"unique": [[["winner", True]]]},
        {"unique": [[["winner", 0], ["winner", 0]]]},
        {"unique": [[[["winner"], 0]]]},
        {"unique": [["winner"]]},
        {"unique": None},
        {"fingerprint": ["kind"]},
        {"fingerprint": ["kind", "c"]},
        {"fingerprint": ["kind", None]},
        {"fingerprint": ["nowhere", "a"]},
        {"fingerprint": "kind"},
        {"period": ["month"]},
        {"period": ["day", "date"]},
        {"period": ["month", "winner"]},
        {"period": ["month", "nowhere"]},
        {"period": [["month"], "date"]},
        {"period": "month"},
    ],
    ids=str,
)
def test_a_document_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    decode_schema(_document())
    with pytest.raises(FormatError):
        decode_schema(_document(**changes))


def test_other_bytes_are_refused() -> None:
    document = encode_schema(INVOICE)
    for at in range(len(document)):
        for cut in (document[:at], document[:at] + b"\xc1" + document[at + 1 :]):
            with pytest.raises(InputError):
                decode_schema(cut)
    with pytest.raises(EncodingError):
        decode_schema(document + b"\x00")
    with pytest.raises(LimitError):
        decode_schema(bytes(limits.schema_bytes_max + 1))


@given(st.text(max_size=12))
def test_is_date_never_raises(text: str) -> None:
    assert is_date(text) in (True, False)
