"""Permits: one form, and a signature of everything in it; and every parser about pledges, given anything."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pledgecheats import GOOD, PLEDGED, TAX_KEY, permit, record, world
from world import NOW_MS

from taxledger.ledger import canonical
from taxledger.ledger.errors import EncodingError, FormatError, InputError, LimitError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.operations import decode_operation, encode_pledge
from taxledger.ledger.permit import decode_permit, encode_permit, verify_permit
from taxledger.ledger.pledgeoperations import PledgeConfirm, PledgePlace, PledgeRelease, PledgeTransfer
from taxledger.ledger.pledgeproof import decode_pledge_proof
from taxledger.ledger.pledgestate import (
    Placement,
    decode_placement,
    decode_pledge_entry,
    encode_placement,
    encode_pledge_entry,
)


def refused(data: bytes, chain_id: bytes | None = None, key: bytes = TAX_KEY.public_key) -> None:
    with pytest.raises((InputError, VerificationError)) as caught:
        verify_permit(decode_permit(data), world().chain_id if chain_id is None else chain_id, key)
    assert not isinstance(caught.value, VerificationError) or caught.value.code == "permit_invalid"


def test_what_is_signed_is_encoded_decoded_and_verified() -> None:
    made = permit()
    data = encode_permit(made)
    assert decode_permit(data) == made
    assert (made.issuer, made.kind, made.lender, len(data)) == (1, 5, 2, 161)
    assert made.key == sha256(TAX_KEY.public_key)[:16]
    verify_permit(made, world().chain_id, TAX_KEY.public_key)
    refused(data, bytes(16))
    refused(data, key=permit(signer=world().logs[0]).key * 2)
    refused(encode_permit(permit(signer=world().logs[0])))


def test_every_byte_and_every_cut() -> None:
    data, rng = encode_permit(permit()), random.Random(3)
    for at, byte in enumerate(data):
        for other in {byte ^ 1, byte ^ 0x80, (byte + rng.randrange(1, 256)) % 256}:
            refused(data[:at] + bytes([other]) + data[at + 1 :])
        refused(data[:at])
    refused(data + b"\x00")


def test_only_its_shape_can_be_signed() -> None:
    for wrong in (
        {"record_key": bytes(37)},
        {"record_key": record("x")[:-1]},
        {"version": 0},
        {"version": 2**32},
        {"fingerprint": bytes(15)},
        {"lender": 0},
        {"lender": 65_536},
        {"not_after": -1},
        {"not_after": 2**63},
    ):
        with pytest.raises(FormatError):
            permit(**wrong)
    for good in ({"version": 2**32 - 1}, {"lender": 65_535}, {"not_after": 0}, {"not_after": 2**63 - 1}):
        made = permit(**good)
        verify_permit(decode_permit(encode_permit(made)), world().chain_id, TAX_KEY.public_key)


def test_what_can_not_be_read() -> None:
    with pytest.raises(LimitError):
        decode_permit(bytes(257))
    with pytest.raises(EncodingError):
        decode_permit(b"\x81")
    with pytest.raises(FormatError):
        decode_permit(canonical.encode([1, "permit", NOW_MS]))


# --- every parser about pledges, fed with anything ---------------------------------------------------

PLACE = PledgePlace(permit=permit(), ppm=250_000, not_after=NOW_MS, nonce=bytes(16))
OPERATIONS = (
    PLACE,
    replace(PLACE, not_after=None),
    PledgeConfirm(pledge=bytes(16)),
    PledgeRelease(pledge=bytes(16)),
    PledgeTransfer(pledge=bytes(16), permit=permit(lender=3)),
)
PARSERS = (decode_permit, decode_pledge_entry, decode_placement, decode_pledge_proof, decode_operation)


def test_operations_decode_to_what_was_encoded() -> None:
    for operation in OPERATIONS:
        assert decode_operation(encode_pledge(operation)) == operation
    with pytest.raises(FormatError, match="ppm 1 to 1000000"):
        encode_pledge(replace(PLACE, ppm=1_000_001))


def test_values_decode_to_what_was_encoded() -> None:
    for value in PLEDGED.values():
        assert encode_pledge_entry(decode_pledge_entry(value)) == value
    placed = Placement(issuer=1, fingerprint=bytes(16), version=2, height=3)
    assert decode_placement(encode_placement(placed)) == placed


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in PARSERS:
        try:
            parse(data)
        except (InputError, VerificationError):
            continue


@given(st.integers(0, 4_000), st.integers(0, 255))
def test_a_changed_byte_never_leaks_another_error(at: int, byte: int) -> None:
    good = (
        (decode_permit, encode_permit(permit())),
        (decode_pledge_entry, next(iter(PLEDGED.values()))),
        (decode_placement, canonical.encode([1, bytes(16), 2, 3])),
        (decode_pledge_proof, GOOD),
        *((decode_operation, encode_pledge(operation)) for operation in OPERATIONS),
    )
    for parse, data in good:
        changed = bytearray(data)
        changed[at % len(data)] = byte
        try:
            parse(bytes(changed))
        except (InputError, VerificationError):
            continue
