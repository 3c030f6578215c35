"""Transactions: the one byte form, an independent reading of it, and refusal of every other."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, LimitError, VerificationError
from taxledger.ledger.transaction import (
    VerifiedSignatures,
    decode_transaction,
    sign_transaction,
    verify_transaction,
)

SIGNER = Signer(bytes(range(32)))
CHAIN_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
IAT_S = 1_750_000_000


def signed(**changes) -> bytes:
    arguments = {
        "member": 7,
        "chain_id": CHAIN_ID,
        "iat_s": IAT_S,
        "exp_s": IAT_S + 600,
        "payload": b"\x92\x01\xa1x",
    }
    return sign_transaction(SIGNER, **(arguments | changes))


def refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        decode_transaction(raw)


def test_the_bytes_are_those_of_the_protocol() -> None:
    protected = (
        bytes.fromhex("a4 01 27 03 78 1d")
        + b"application/taxledger+msgpack"
        + bytes.fromhex("04 50")
        + hashlib.sha256(SIGNER.public_key).digest()[:16]
        + bytes.fromhex("0f a4 01 61 37 02 78 20")
        + b"00112233445566778899aabbccddeeff"
        + bytes.fromhex("04 1a")
        + (IAT_S + 600).to_bytes(4, "big")
        + bytes.fromhex("06 1a")
        + IAT_S.to_bytes(4, "big")
    )
    payload = b"\x92\x01\xa1x"
    raw = signed()
    head = b"\xd2\x84\x58" + bytes([len(protected)]) + protected + b"\xa0\x44" + payload + b"\x58\x40"
    assert raw[:-64] == head
    message = b"\x84\x6aSignature1\x58" + bytes([len(protected)]) + protected + b"\x40\x44" + payload
    Ed25519PublicKey.from_public_bytes(SIGNER.public_key).verify(raw[-64:], message)
    assert decode_transaction(raw).signed_bytes == message


def test_parts() -> None:
    raw = signed()
    tx = decode_transaction(raw)
    assert (tx.raw, tx.id) == (raw, hashlib.sha256(b"\x00" + raw).digest())
    assert (tx.member, tx.chain_id, tx.iat_s, tx.exp_s) == (7, CHAIN_ID, IAT_S, IAT_S + 600)
    assert (tx.kid, tx.payload) == (hashlib.sha256(SIGNER.public_key).digest()[:16], b"\x92\x01\xa1x")
    verify_transaction(tx, SIGNER.public_key)


@given(
    st.integers(1, 65_535),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=400),
)
@settings(max_examples=100, deadline=None)
def test_every_transaction_reads_back(
    member: int, chain_id: bytes, iat_s: int, exp_s: int, payload: bytes
) -> None:
    raw = signed(member=member, chain_id=chain_id, iat_s=iat_s, exp_s=exp_s, payload=payload)
    tx = decode_transaction(raw)
    assert (tx.member, tx.chain_id, tx.iat_s, tx.exp_s, tx.payload) == (
        member,
        chain_id,
        iat_s,
        exp_s,
        payload,
    )
    verify_transaction(tx, SIGNER.public_key)


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65_300])
def test_payload_lengths_at_the_edges_of_heads(length: int) -> None:
    assert decode_transaction(signed(payload=bytes(length))).payload == bytes(length)


@pytest.mark.parametrize("instant", [0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1])
def test_instants_at_the_edges_of_heads(instant: int) -> None:
    tx = decode_transaction(signed(iat_s=instant, exp_s=instant))
    assert (tx.iat_s, tx.exp_s) == (instant, instant)


def test_every_bit_flipped_is_refused_or_does_not_verify() -> None:
    raw = signed()
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            tx = decode_transaction(bytes(flipped))
        except FormatError:
            continue
        assert tx.id != decode_transaction(raw).id
        with pytest.raises(VerificationError, match="signature_invalid"):
            verify_transaction(tx, SIGNER.public_key)


def test_every_length_but_its_own_refused() -> None:
    raw = signed()
    for length in range(len(raw)):
        refused(raw[:length])
    refused(raw + b"\x00")
    refused(b"\x00" + raw)
    refused(raw + raw)


def test_every_byte_left_out_or_repeated_refused() -> None:
    raw = signed()
    for at in range(len(raw)):
        refused(raw[:at] + raw[at + 1 :])
        refused(raw[:at] + raw[at : at + 1] + raw[at:])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa0\x44\x92", b"\xa0\x58\x04\x92"),  # a longer head for the payload
        (b"\xd2\x84", b"\xd8\x12\x84"),  # a longer head for the tag
        (b"\xd2\x84", b"\x84"),  # no tag
        (b"\xd2\x84\x58", b"\xd2\x84\x59\x00"),  # a longer head for the protected header
        (b"\xa0\x44", b"\xa1\x01\x27\x44"),  # something in the unprotected header
        (b"\x01\x61\x37\x02", b"\x01\x62\x30\x37\x02"),  # iss 07 (the header's length does not fit either)
        (b"\x01\x61\x37\x02", b"\x01\x61\x30\x02"),  # iss 0
        (b"\x01\x61\x37\x02", b"\x01\x41\x37\x02"),  # iss as a byte string
        (b"ccddeeff", b"CCDDEEFF"),  # sub in upper case
        (b"ccddeeff", b"ccddee f"),  # what bytes.fromhex would skip
        (b"taxledger+msgpack", b"taxledger+msgpacK"),
    ],
)
def test_other_forms_refused(old: bytes, new: bytes) -> None:
    raw = signed()
    assert raw.count(old) == 1
    refused(raw.replace(old, new))


@pytest.mark.parametrize("issuer", [b"07", b"0", b"65536", b"99999", b"100000", b"", b"+7", b" 7", b"7_0"])
def test_issuers_out_of_form_refused(issuer: bytes) -> None:
    """With every length adjusted, so that nothing else is wrong."""
    raw = signed()
    protected = raw[4 : 4 + raw[3]]
    changed = protected.replace(
        b"\x0f\xa4\x01\x61\x37", b"\x0f\xa4\x01" + bytes([0x60 + len(issuer)]) + issuer
    )
    assert changed != protected
    refused(b"\xd2\x84\x58" + bytes([len(changed)]) + changed + raw[4 + raw[3] :])


@pytest.mark.parametrize("head", [b"\x1b\x00\x00\x00\x00", b"\x1c", b"\x1f", b"\x3a"])
def test_instants_out_of_form_refused(head: bytes) -> None:
    raw = signed()
    protected = raw[4 : 4 + raw[3]]
    changed = protected[:-5] + head + protected[-4:]
    refused(b"\xd2\x84\x58" + bytes([len(changed)]) + changed + raw[4 + raw[3] :])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_cleanly(data: bytes) -> None:
    refused(data)


@given(st.integers(0, 250), st.binary(max_size=12), st.integers(0, 12))
@settings(deadline=None)
def test_any_damage_is_refused_or_read_as_what_it_is(at: int, inserted: bytes, dropped: int) -> None:
    raw = signed()
    damaged = raw[:at] + inserted + raw[at + dropped :]
    try:
        tx = decode_transaction(damaged)
    except FormatError:
        return
    assert tx.raw == damaged


def test_limits() -> None:
    overhead = len(signed(payload=bytes(60_000))) - 60_000
    largest = signed(payload=bytes(limits.leaf_bytes_max - overhead))
    assert len(largest) == limits.leaf_bytes_max
    decode_transaction(largest)
    for length in (limits.leaf_bytes_max - overhead + 1, limits.leaf_bytes_max + 1):
        with pytest.raises(LimitError):
            signed(payload=bytes(length))
    with pytest.raises(LimitError):
        decode_transaction(largest + b"\x00")


@pytest.mark.parametrize(
    "changes",
    [{"member": 0}, {"member": 65_536}, {"chain_id": bytes(15)}, {"iat_s": -1}, {"exp_s": 2**64}],
)
def test_signing_what_nobody_would_read_refused(changes: dict) -> None:
    with pytest.raises(FormatError, match="got"):
        signed(**changes)


def test_an_issuer_of_thousands_of_digits_refused() -> None:
    raw = signed()
    protected = raw[4 : 4 + raw[3]]
    issuer = b"1" * 5_000
    changed = protected.replace(b"\x01\x61\x37", b"\x01\x79" + len(issuer).to_bytes(2, "big") + issuer)
    refused(b"\xd2\x84\x59" + len(changed).to_bytes(2, "big") + changed + raw[4 + raw[3] :])


def test_a_signature_under_another_keys_id_does_not_verify() -> None:
    raw = signed()
    stranger = hashlib.sha256(bytes(32)).digest()[:16]
    renamed = decode_transaction(raw.replace(decode_transaction(raw).kid, stranger))
    resigned = decode_transaction(renamed.raw[:-64] + SIGNER.sign(renamed.signed_bytes))
    with pytest.raises(VerificationError) as caught:
        verify_transaction(resigned, SIGNER.public_key)
    assert caught.value.code == "signature_invalid"


def test_another_key_does_not_verify() -> None:
    with pytest.raises(VerificationError) as caught:
        verify_transaction(decode_transaction(signed()), Signer(bytes(32)).public_key)
    assert caught.value.code == "signature_invalid"


def test_verified_signatures_are_remembered_with_their_key_and_forgotten_in_order() -> None:
    other = Signer(bytes(32))
    verify = VerifiedSignatures(size_max=2)
    first, second, third = (decode_transaction(signed(exp_s=IAT_S + each)) for each in (1, 2, 3))
    verify(first, SIGNER.public_key)
    with pytest.raises(VerificationError):
        verify(first, other.public_key)
    # Its id no longer covers its bytes, so only memory can let it pass: decode_transaction never makes one.
    forged = replace(first, signature=bytes(64))
    verify(forged, SIGNER.public_key)
    verify(second, SIGNER.public_key)
    verify(third, SIGNER.public_key)
    with pytest.raises(VerificationError):
        verify(forged, SIGNER.public_key)
