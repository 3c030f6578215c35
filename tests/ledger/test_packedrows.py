"""Packed rows give the bytes of the plain formulas, for every built-in schema and for one of many fields."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.packedrows import RowPacker
from taxledger.ledger.records import commit, fingerprint, identity, record_id
from taxledger.ledger.schemas import ROLE_PARTY, Field, Row, Schema

MANY = Schema(
    kind=200,
    number=3,
    name="many",
    fields=tuple(
        Field(
            name=f"f{n}", type=("text", "integer", "boolean", "date")[n % 4], role=ROLE_PARTY if n == 8 else 0
        )
        for n in range(40)
    ),
    unique=((("f4", 3),), (("f12", 0), ("f0", 0))),
    fingerprint=(),
    period=("month", "f3"),
)
VALUES = {
    "text": st.one_of(st.text(max_size=40), st.from_regex(r"[0-9]{3}|[0-9]{20}", fullmatch=True)),
    "date": st.dates().map(lambda each: each.isoformat()),
    "month": st.just("2025-03"),
    "year": st.integers(1990, 2200),
    "boolean": st.booleans(),
}
INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Schema, Row]:
    schema = draw(st.sampled_from([*BUILTIN, MANY]))
    values = []
    for field in schema.fields:
        plain = (
            st.sampled_from(field.type) if isinstance(field.type, tuple) else VALUES.get(field.type, INTEGERS)
        )
        needed = field.name == schema.period[1]
        values.append(draw(plain if needed else st.one_of(st.none(), plain)))
    return schema, tuple(values)


@given(rows(), st.binary(min_size=32, max_size=32), st.integers(1, 2**32 - 1))
def test_packed_rows_give_the_same_bytes(case: tuple[Schema, Row], secret: bytes, version: int) -> None:
    schema, values = case
    packer = RowPacker(schema)
    row, chosen, pairs = packer.pack(values), packer.identity(values), identity(schema, values)
    assert [schema.fields[at].name for at in chosen] == [name for name, _value in pairs]
    tag, key, chain_id = bytes(range(16)), bytes(range(37)), bytes(range(100, 116))
    assert packer.record_id(secret, tag, row, chosen) == record_id(secret, schema.kind, tag, pairs)
    always = replace(schema, fingerprint=())
    assert packer.mark(secret, row, chosen) == fingerprint(secret, always, values, pairs)
    plain = commit(schema, chain_id, key, version, secret, values)
    assert packer.commit(chain_id, key, version, secret, row) == plain
    assert packer.pack(values) == row


def test_one_packer_tells_values_apart_that_are_equal_in_python() -> None:
    packer = RowPacker(MANY)
    empty: list[object] = [None] * 40
    rows = []
    for value in (1, True, 0, False, None, "", "1"):
        at = 0 if isinstance(value, str) else 1 if type(value) is int else 2
        values = list(empty)
        values[at] = value
        rows.append(tuple(packer.pack(tuple(values))))  # type: ignore[arg-type]
    assert len(set(rows)) == len(rows)
