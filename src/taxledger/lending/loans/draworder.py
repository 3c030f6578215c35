"""A draw order: the enterprise's signed word to pay out more of an open line (docs/lending.md).

    [1, "loan_draw", body, key, signature],   body = [1, contract digest32, number, amount, valid until]

``number`` is that of the draw (1 is the first pay-out, which the contract itself orders), so that an order is obeyed
once, and never after a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError, VerificationError
from taxledger.ledger.shapes import fixed_bytes, integer, items
from taxledger.ledger.signedbody import decode_signed_body, encode_signed_body, verify_signed_body
from taxledger.lending.payments.port import AMOUNT_MINOR_MAX

__all__ = ["DRAWS_MAX", "DrawOrder", "decode_draw_order", "sign_draw_order", "verify_draw_order"]

DRAWS_MAX = 999_999
"""Draws of one loan, so that the number fits a payment's end-to-end id."""

_VERSION = 1
_WHAT = "loan_draw"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOrder:
    """A decoded order; its signature has verified.

    Attributes:
        raw: the bytes.
        contract: digest of the contract, 32 bytes.
        number: of the draw, from 2.
        amount: minor units.
        valid_until_ms: milliseconds since 1970; it is obeyed only if it arrives before.
        public_key: who signed, 32 bytes.
    """

    raw: bytes
    contract: bytes
    number: int
    amount: int
    valid_until_ms: int
    public_key: bytes


def sign_draw_order(
    signer: Signer, contract: bytes, *, number: int, amount: int, valid_until_ms: int
) -> bytes:
    """The order, signed by the key that signed the consent; ``contract`` is the digest.

    Raises:
        FormatError: what no reader would take.
    """
    raw = encode_signed_body(_WHAT, _WHAT, [_VERSION, contract, number, amount, valid_until_ms], signer)
    decode_draw_order(raw)
    return raw


def decode_draw_order(raw: bytes) -> DrawOrder:
    """An order whose form and signature are right; whose key it is remains to be checked.

    Raises:
        LimitError, EncodingError, FormatError: not an order in its one form.
        VerificationError: ``draw_signature_invalid``.
    """
    signed = decode_signed_body(raw, _WHAT, bytes_max=limits.loan_contract_bytes_max)
    version, contract, number, amount, until = items(signed.value, 5, "a draw order")
    integer(version, _VERSION, _VERSION, "version of the order")
    order = DrawOrder(
        raw=raw,
        contract=fixed_bytes(contract, 32, "a contract's digest"),
        number=integer(number, 2, DRAWS_MAX, "number of the draw"),
        amount=integer(amount, 1, AMOUNT_MINOR_MAX, "an amount in minor units"),
        valid_until_ms=integer(until, 0, limits.integer_max, "valid until"),
        public_key=signed.public_key,
    )
    verify_signed_body(signed, _WHAT, "draw_signature_invalid")
    return order


def verify_draw_order(raw: bytes, *, contract: bytes, borrower_key: bytes, now_ms: int) -> DrawOrder:
    """An order under this contract by this enterprise, in time; whether there is room is not looked at.

    Raises:
        LimitError, EncodingError, FormatError, VerificationError: as ``decode_draw_order``.
        VerificationError: ``draw_key_mismatch``, ``draw_contract_mismatch``.
        RefusedError: ``draw_expired``.
    """
    order = decode_draw_order(raw)
    if order.public_key != borrower_key:
        raise VerificationError("draw_key_mismatch", "not signed by the key that signed the consent")
    if order.contract != contract:
        raise VerificationError("draw_contract_mismatch", "it names another contract")
    if now_ms >= order.valid_until_ms:
        raise RefusedError("draw_expired", f"expected it before {order.valid_until_ms}, got it at {now_ms}")
    return order
