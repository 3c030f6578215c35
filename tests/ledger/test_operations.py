"""Payloads: what is encoded decodes to the same, and every other shape is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chainkit import attest, entry, group
from hypothesis import given
from hypothesis import strategies as st

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.operations import (
    AmendChange,
    Approve,
    Attest,
    Propose,
    Revoke,
    RevokeChange,
    TagKey,
    decode_operation,
    encode_amend,
    encode_approve,
    encode_attest,
    encode_propose,
    encode_revoke,
    encode_tag_key,
)

KEY = b"\x01" + bytes(36)
AMENDED = AmendChange(
    key=KEY,
    version=1,
    status=2,
    schema=1,
    commitment=bytes(32),
    fingerprint=b"\x01" * 16,
    reason=2,
    reason_digest=bytes(32),
)


def test_what_is_encoded_decodes_to_the_same():
    groups = (group(1, 2), group(1, 3, tag=2))
    assert decode_operation(encode_attest(5, 2025, "2025-01-31", groups)) == Attest(
        kind=5, year=2025, through="2025-01-31", groups=groups
    )
    assert decode_operation(encode_amend(5, [AMENDED])).changes == (AMENDED,)
    revoked = RevokeChange(key=KEY, version=3, reason=4, reason_digest=None)
    assert decode_operation(encode_revoke(5, [revoked])) == Revoke(kind=5, changes=(revoked,))
    assert decode_operation(encode_tag_key(2025, bytes(384), b"\x01" * 3072)) == TagKey(
        year=2025, modulus=bytes(384), proof=b"\x01" * 3072
    )
    assert decode_operation(encode_propose(["parameter.set", "a", 1])) == Propose(
        change=["parameter.set", "a", 1]
    )
    assert decode_operation(encode_approve(bytes(16))) == Approve(proposal=bytes(16))


GROUP = [bytes(16), 3, 1, 1, entry(1)]
CHANGE = [KEY, 1, 2, 1, bytes(32), None, 1, None]

MALFORMED = {
    "no array": 1,
    "empty": [],
    "version as bool": [True, "member.approve", bytes(16)],
    "version 2": [2, "member.approve", bytes(16)],
    "operation as bin": [1, b"member.approve", bytes(16)],
    "operation unhashable": [1, ["attest"], bytes(16)],
    "one more element": [1, "member.approve", bytes(16), None],
    "proposal too short": [1, "member.approve", bytes(15)],
    "kind 0": [1, "attest", 0, 2025, None, [GROUP]],
    "kind 256": [1, "attest", 256, 2025, None, [GROUP]],
    "kind as bool": [1, "attest", True, 2025, None, [GROUP]],
    "year as text": [1, "attest", 5, "2025", None, [GROUP]],
    "year too large": [1, "attest", 5, 65_536, None, [GROUP]],
    "through not ASCII": [1, "attest", 5, 2025, "２０２５-01-01", [GROUP]],
    "through not a text": [1, "attest", 5, 2025, 20250101, [GROUP]],
    "nothing attested": [1, "attest", 5, 2025, None, []],
    "group of four": [1, "attest", 5, 2025, None, [GROUP[:4]]],
    "tag of 15": [1, "attest", 5, 2025, None, [[bytes(15), *GROUP[1:]]]],
    "month 17": [1, "attest", 5, 2025, None, [[GROUP[0], 17, *GROUP[2:]]]],
    "month as bool": [1, "attest", 5, 2025, None, [[GROUP[0], True, *GROUP[2:]]]],
    "no entries": [1, "attest", 5, 2025, None, [[*GROUP[:4], b""]]],
    "half an entry": [1, "attest", 5, 2025, None, [[*GROUP[:4], bytes(32)]]],
    "rids twice": [1, "attest", 5, 2025, None, [[*GROUP[:4], entry(1) * 2]]],
    "rids descending": [1, "attest", 5, 2025, None, [[*GROUP[:4], entry(2) + entry(1)]]],
    "groups twice": [1, "attest", 5, 2025, None, [GROUP, GROUP]],
    "no changes": [1, "amend", 5, []],
    "changes twice": [1, "amend", 5, [CHANGE, CHANGE]],
    "key of 36": [1, "amend", 5, [[KEY[:36], *CHANGE[1:]]]],
    "version 0": [1, "amend", 5, [[KEY, 0, *CHANGE[2:]]]],
    "version without a next": [1, "amend", 5, [[KEY, 2**32 - 1, *CHANGE[2:]]]],
    "reason 6": [1, "amend", 5, [[*CHANGE[:6], 6, None]]],
    "revocations twice": [1, "revoke", 5, [[KEY, 1, 1, None], [KEY, 1, 1, None]]],
    "no revocations": [1, "revoke", 5, []],
    "reason 0": [1, "revoke", 5, [[KEY, 1, 0, None]]],
    "digest of 31": [1, "revoke", 5, [[KEY, 1, 1, bytes(31)]]],
    "zero fingerprint": [1, "amend", 5, [[*CHANGE[:5], bytes(16), 1, None]]],
    "modulus of 383": [1, "tag_key", 2025, bytes(383), bytes(384)],
    "proof of 385": [1, "tag_key", 2025, bytes(384), bytes(385)],
    "change not an array": [1, "member.propose", "x"],
    "change empty": [1, "member.propose", []],
    "change not ASCII": [1, "member.propose", ["parameter.set", "ü", 1]],
    "change with a map": [1, "member.propose", ["parameter.set", {}, 1]],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_other_shapes_are_refused(what):
    with pytest.raises(FormatError):
        decode_operation(canonical.encode(MALFORMED[what]))


def test_too_many_are_refused():
    many = [replace(AMENDED, key=KEY[:-2] + at.to_bytes(2, "big")) for at in range(257)]
    assert encode_amend(5, many[: limits.amend_changes_max])
    with pytest.raises(FormatError, match="1 to 256 changes"):
        encode_amend(5, many)


def test_unsorted_is_refused_before_it_is_signed():
    with pytest.raises(FormatError, match="groups strictly ascending"):
        attest(group(1, tag=2), group(1, tag=1))


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_never_leaks_another_error(at, byte):
    payload = bytearray(encode_attest(5, 2025, "2025-01-31", [group(1, 2), group(3, tag=2)]))
    payload[at % len(payload)] = byte
    try:
        decode_operation(bytes(payload))
    except InputError:
        return


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_are_refused(data):
    try:
        decode_operation(data)
    except InputError:
        return
