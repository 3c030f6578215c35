"""Headers and votes: one byte form, every field checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.header import HEADER_FIRST_BYTE, Header, decode_header, encode_header, vote_message

HEADER = Header(
    chain_id=b"c" * 16,
    height=3,
    time_ms=1_767_225_600_000,
    previous_header_hash=b"p" * 32,
    first_index=10,
    transactions=2,
    state_root=b"s" * 32,
    state_count=40,
    results_root=b"r" * 32,
    validators_hash=b"v" * 32,
    next_validators_hash=b"n" * 32,
)


def test_one_form_and_its_place_in_the_log():
    leaf = encode_header(HEADER)
    assert leaf[0] == HEADER_FIRST_BYTE
    assert decode_header(leaf) == HEADER
    assert (HEADER.index, HEADER.size) == (12, 13)
    assert canonical.decode(leaf) == [
        1, "block", b"c" * 16, 3, 1_767_225_600_000, b"p" * 32, 10, 2, b"s" * 32, 40,
        b"r" * 32, b"v" * 32, b"n" * 32, 1,
    ]  # fmt: skip


WRONG = {
    "chain_id": [b"c" * 15, None, "c" * 16],
    "height": [0, -1, True, 2**63],
    "time_ms": [-1, None, False],
    "previous_header_hash": [b"", b"p" * 33],
    "first_index": [0, "10"],
    "transactions": [-1, 513, True],
    "state_root": [b"s" * 31],
    "state_count": [-1, True],
    "results_root": [None],
    "validators_hash": [b""],
    "next_validators_hash": ["n" * 32],
    "app_version": [0, 2, True],
}


@pytest.mark.parametrize("field", WRONG)
def test_every_field_is_checked(field):
    for value in WRONG[field]:
        with pytest.raises(FormatError):
            decode_header(encode_header(replace(HEADER, **{field: value})))


def test_other_bytes_are_refused():
    leaf = encode_header(HEADER)
    for end in range(len(leaf)):
        with pytest.raises(InputError):
            decode_header(leaf[:end])
    with pytest.raises(InputError):
        decode_header(leaf + b"\x00")
    with pytest.raises(FormatError):
        decode_header(canonical.encode([True, *canonical.decode(leaf)[1:]]))


def test_a_vote_says_chain_height_and_header():
    assert vote_message(b"c" * 16, 258, b"h" * 32) == (
        b"taxledger/vote/1" + b"c" * 16 + bytes([0, 0, 0, 0, 0, 0, 1, 2]) + b"h" * 32
    )
