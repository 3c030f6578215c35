"""Permits: one form, and a signature of everything in it."""

from __future__ import annotations

import random

import pytest
from pledgecheats import TAX_KEY, permit, record, world
from world import NOW_MS

from taxledger.ledger import canonical
from taxledger.ledger.errors import EncodingError, FormatError, InputError, LimitError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.permit import decode_permit, encode_permit, verify_permit


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
