"""Offer, acceptance, contract, draw order: what they say, and that no byte of them can be another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from consentkit import SUBJECT_KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from loankit import BANK_KEY, LENDER, PAYEE, SUBJECT

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, RefusedError, TaxledgerError, VerificationError
from taxledger.ledger.hashing import domain
from taxledger.lending.loans.contract import (
    Offer,
    check_loan_id,
    contract_digest,
    decode_offer,
    encode_offer,
    sign_acceptance,
    sign_contract,
    verify_acceptance,
    verify_contract,
)
from taxledger.lending.loans.draworder import sign_draw_order, verify_draw_order
from taxledger.lending.loans.interest import InterestTerms

STRANGER = Signer(bytes(31) + b"1")
OFFER = Offer(
    chain_id=bytes(16),
    loan="L1",
    lender=LENDER,
    subject=SUBJECT,
    product="invoice",
    product_version=1,
    decision=bytes(range(32)),
    currency="CNY",
    limit=10_000_000,
    interest=InterestTerms(rate_ppm=45_000, day_count=360),
    term_months_max=12,
    revolving=True,
    account=None,
    offered_ms=1_000,
    valid_until_ms=9_000,
)


def accept(offer: bytes, **changes: Any) -> bytes:
    chosen = {"amount": 6_000_000, "term_months": 6, "account": PAYEE, "accepted_ms": 2_000, **changes}
    return sign_acceptance(chosen.pop("signer", SUBJECT_KEY), offer, **chosen)


def contract(offer: bytes, acceptance: bytes, signed_ms: int = 3_000) -> Any:
    return sign_contract(
        BANK_KEY, offer, acceptance, borrower_key=SUBJECT_KEY.public_key, signed_ms=signed_ms
    )


def verify(raw: bytes) -> Any:
    return verify_contract(raw, borrower_key=SUBJECT_KEY.public_key, lender_key=BANK_KEY.public_key)


def test_there_and_back() -> None:
    offer = encode_offer(OFFER)
    assert decode_offer(offer) == OFFER
    made = contract(offer, accept(offer))
    assert verify(made.raw) == made
    assert (made.offer, made.acceptance.amount, made.acceptance.account) == (OFFER, 6_000_000, PAYEE)
    assert made.line == OFFER.limit
    fixed = encode_offer(replace(OFFER, revolving=False, account=PAYEE))
    assert contract(fixed, accept(fixed)).line == 6_000_000


def corruptions(raw: bytes) -> Any:
    for position in range(len(raw)):
        for flip in (0x01, 0x80, 0xFF):
            yield raw[:position] + bytes([raw[position] ^ flip]) + raw[position + 1 :]
    for length in range(len(raw)):
        yield raw[:length]
    yield raw + b"\x00"


def test_every_byte_of_a_contract_counts() -> None:
    offer = encode_offer(OFFER)
    raw = contract(offer, accept(offer)).raw
    found = set()
    for each in corruptions(raw):
        with pytest.raises((InputError, VerificationError)) as wrong:
            verify(each)
        found.add(getattr(wrong.value, "code", type(wrong.value).__name__))
    assert found >= {"contract_signature_invalid", "contract_key_mismatch", "EncodingError", "FormatError"}


def test_every_byte_of_an_acceptance_and_of_an_order_counts() -> None:
    offer, digest = encode_offer(OFFER), bytes(range(32))
    key = SUBJECT_KEY.public_key

    def acceptance_holds(data: bytes) -> None:
        verify_acceptance(data, offer, borrower_key=key, now_ms=2_000)

    def order_holds(data: bytes) -> None:
        verify_draw_order(data, contract=digest, borrower_key=key, now_ms=0)

    order = sign_draw_order(SUBJECT_KEY, digest, number=2, amount=5, valid_until_ms=9)
    holds: tuple[tuple[bytes, Callable[[bytes], None]], ...] = (
        (accept(offer), acceptance_holds),
        (order, order_holds),
    )
    for raw, check in holds:
        check(raw)
        for each in corruptions(raw):
            with pytest.raises((InputError, VerificationError)):
                check(each)


def test_every_byte_of_the_offer_counts_through_the_acceptance() -> None:
    offer = encode_offer(OFFER)
    signed = accept(offer)
    for each in corruptions(offer):
        with pytest.raises((InputError, VerificationError)):
            verify_acceptance(signed, each, borrower_key=SUBJECT_KEY.public_key, now_ms=2_000)


@pytest.mark.parametrize(
    ("code", "chosen", "now_ms"),
    [
        ("amount_outside_offer", {"amount": 10_000_001}, 3_000),
        ("term_outside_offer", {"term_months": 13}, 3_000),
        ("account_outside_offer", {"account": replace(PAYEE, number="999")}, 3_000),
        ("offer_expired", {}, 9_000),
    ],
)
def test_a_lender_can_not_sign_outside_its_offer(code: str, chosen: dict[str, Any], now_ms: int) -> None:
    """Neither through the function that signs, nor by signing such bytes past it."""
    offer = encode_offer(replace(OFFER, account=PAYEE))
    acceptance = accept(offer, **chosen)
    with pytest.raises(RefusedError) as refused:
        contract(offer, acceptance, now_ms)
    assert refused.value.code == code
    body = canonical.encode([1, offer, acceptance, now_ms])
    signature = BANK_KEY.sign(domain("loan_contract") + body)
    forged = canonical.encode([1, "loan_contract", body, BANK_KEY.public_key, signature])
    with pytest.raises(RefusedError) as refused:
        verify(forged)
    assert refused.value.code == code


def test_the_edges_of_an_offer_are_inside() -> None:
    offer = encode_offer(OFFER)
    contract(offer, accept(offer, amount=10_000_000, term_months=12), 8_999)
    contract(offer, accept(offer, amount=1, term_months=1), 8_999)


def test_other_keys() -> None:
    offer = encode_offer(OFFER)
    for code, call in (
        ("acceptance_key_mismatch", lambda: contract(offer, accept(offer, signer=STRANGER))),
        ("contract_key_mismatch", lambda: verify_contract(
            contract(offer, accept(offer)).raw,
            borrower_key=SUBJECT_KEY.public_key,
            lender_key=STRANGER.public_key,
        )),
        ("acceptance_key_mismatch", lambda: verify_contract(
            contract(offer, accept(offer)).raw,
            borrower_key=STRANGER.public_key,
            lender_key=BANK_KEY.public_key,
        )),
        ("acceptance_offer_mismatch", lambda: contract(
            encode_offer(replace(OFFER, limit=20_000_000)), accept(offer)
        )),
    ):  # fmt: skip
        with pytest.raises(VerificationError) as wrong:
            call()
        assert wrong.value.code == code


def test_no_signature_serves_for_another_statement() -> None:
    """The same body, signed as a draw order, is no acceptance."""
    offer = encode_offer(OFFER)
    value = canonical.decode(accept(offer))
    value[4] = SUBJECT_KEY.sign(domain("loan_draw") + value[2])
    with pytest.raises(VerificationError) as wrong:
        contract(offer, canonical.encode(value))
    assert wrong.value.code == "acceptance_signature_invalid"


@pytest.mark.parametrize(
    "changes",
    [
        {"loan": "L/1"},
        {"loan": "L" * 29},
        {"lender": 0},
        {"subject": "nobody"},
        {"product": ""},
        {"product_version": 0},
        {"decision": bytes(31)},
        {"currency": "CN"},
        {"limit": 0},
        {"limit": 10**15},
        {"limit": True},
        {"term_months_max": 361},
        {"revolving": 1},
        {"valid_until_ms": 1_000},
        {"chain_id": b""},
    ],
)
def test_offers_that_no_reader_takes(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        encode_offer(replace(OFFER, **changes))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_anything_gives_an_error_of_ours(data: bytes) -> None:
    for read in (decode_offer, verify):
        with pytest.raises(TaxledgerError):
            read(data)


@pytest.mark.parametrize("loan", ["", "-x", "a_b", "ä", 1, None, "x\n"])
def test_ids_of_loans(loan: Any) -> None:
    with pytest.raises(FormatError):
        check_loan_id(loan)


def test_a_digest_is_of_the_whole_contract() -> None:
    offer = encode_offer(OFFER)
    first, second = contract(offer, accept(offer)), contract(offer, accept(offer), 3_001)
    assert first.digest == contract_digest(first.raw) != second.digest
