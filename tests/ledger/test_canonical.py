"""Canonical msgpack: one value, one byte string, and nothing else is read."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxledger.ledger import limits
from taxledger.ledger.canonical import decode, decode_stream, encode
from taxledger.ledger.errors import EncodingError, InputError, LimitError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=300)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_every_value_comes_back(value: object) -> None:
    assert decode(encode(value)) == value


@given(VALUES, VALUES)
def test_two_values_never_share_their_bytes(one: object, other: object) -> None:
    same = encode(one) == encode(other)
    assert same == (repr(_sorted(one)) == repr(_sorted(other)))


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=str.encode)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


@given(st.binary(max_size=12))
def test_whatever_is_read_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        value = decode(data)
    except InputError:
        return
    assert encode(value) == data


def test_every_string_of_up_to_two_bytes_is_read_or_refused() -> None:
    """All 65,793 of them: what is read is canonical, nothing else ends in another error."""
    read = 0
    for size in range(3):
        for number in range(256**size):
            data = number.to_bytes(size, "big")
            try:
                value = decode(data)
            except EncodingError:
                continue
            read += 1
            assert encode(value) == data
    assert read > 300


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xcc\x01",  # 1 in two bytes
        b"\xcd\x00\xff",  # 255 in three
        b"\xd0\x01",  # a positive number as int 8
        b"\xd9\x01a",  # a short text with a long header
        b"\xc5\x00\x01a",  # a short bin with a long header
        b"\xdc\x00\x01\x01",  # a short array with a long header
        b"\x82\xa1b\x01\xa1a\x01",  # keys not ascending
        b"\x82\xa1a\x01\xa1a\x01",  # a key twice
        b"\x81\x01\x01",  # a key that is no text
        b"\x81\xc4\x01a\x01",  # a key that is a bin
        b"\xca\x00\x00\x00\x00",  # float 32
        b"\xcb" + bytes(8),  # float 64
        b"\xc1",  # never used
        b"\xd4\x05\x00",  # ext
        b"\xd6\xff\x00\x00\x00\x00",  # timestamp
        b"\xa1\xff",  # not UTF-8
        b"\xa3\xed\xa0\x80",  # a surrogate
        b"\x01\x01",  # bytes behind
        b"\x92\x01",  # cut short
        b"\xdd\xff\xff\xff\xff",  # four billion elements announced
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(EncodingError):
        decode(data)


def test_nesting_has_a_limit_on_both_ways() -> None:
    deep: list[object] = []
    for _ in range(limits.nesting_depth_max - 1):
        deep = [deep]
    assert decode(encode(deep)) == deep
    with pytest.raises(EncodingError):
        encode([deep])
    for depth in (limits.nesting_depth_max + 1, 1_000, 100_000):
        with pytest.raises(EncodingError):
            decode(b"\x91" * depth + b"\xc0")


@pytest.mark.parametrize(
    "value", [1.5, float("nan"), {1: 2}, {b"a": 1}, 2**64, -(2**63) - 1, object(), "\ud800", {1}]
)
def test_what_has_no_canonical_form_is_not_encoded(value: object) -> None:
    with pytest.raises(EncodingError):
        encode([value])


def test_the_size_is_looked_at_first() -> None:
    with pytest.raises(LimitError):
        decode(b"\xc1" * 11, bytes_max=10)


def test_a_tuple_is_an_array_and_a_bool_is_no_integer() -> None:
    assert encode((1, True, None)) == encode([1, True, None]) == b"\x93\x01\xc3\xc0"


@given(st.lists(VALUES, max_size=5), st.binary(max_size=3))
def test_items_one_behind_the_other(values: list[object], tail: bytes) -> None:
    joined = b"".join(encode(each) for each in values)
    assert list(decode_stream(joined)) == values
    with suppress(EncodingError):
        assert b"".join(encode(each) for each in decode_stream(joined + tail)) == joined + tail


def test_another_writer_of_the_same_profile_agrees() -> None:
    value = ["a", 1, None, True, b"b", [2**40, -1]]
    assert encode(value) == msgpack.packb(value, use_bin_type=True)
