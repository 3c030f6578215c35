"""A subject's signed instruction about a consent, to its custodian (docs/protocol.md §12). It stays off the ledger.

    [1, "consent_change", body, public_key32, signature64],   body = [1, chain_id16, consent16, action, number, issued]

``number`` rises strictly with each instruction about a consent, so that an old one can't be played again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError
from taxledger.ledger.shapes import fixed_bytes, integer, items
from taxledger.ledger.signedbody import decode_signed_body, encode_signed_body, verify_signed_body

__all__ = ["ACTIONS", "ConsentOrder", "Instruction", "decode_instruction", "sign_instruction"]

ACTIONS = ("pause", "resume", "revoke")

_VERSION = 1
_WHAT = "consent_change"
_DOMAIN = "consent_change_signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentOrder:
    """What is to be done.

    Attributes:
        chain_id: of the ledger, 16 bytes.
        consent: its id, 16 bytes.
        action: one of ``ACTIONS``.
        number: higher than in any instruction about this consent before.
        issued: when it was signed, milliseconds since 1970.
    """

    chain_id: bytes
    consent: bytes
    action: str
    number: int
    issued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A decoded instruction; its signature has verified.

    Attributes:
        raw: the bytes.
        order: what is to be done.
        public_key: who signed, 32 bytes. That it is the subject's key is the custodian's to check.
    """

    raw: bytes
    order: ConsentOrder
    public_key: bytes


def sign_instruction(order: ConsentOrder, signer: Signer) -> Instruction:
    """The instruction, signed by the subject's key.

    Raises:
        FormatError: an order that no reader would take.
    """
    value = [_VERSION, order.chain_id, order.consent, order.action, order.number, order.issued]
    return decode_instruction(encode_signed_body(_WHAT, _DOMAIN, value, signer))


def decode_instruction(raw: bytes) -> Instruction:
    """An instruction whose form and signature are right.

    Raises:
        LimitError, EncodingError, FormatError: not an instruction in its one form.
        VerificationError: ``consent_signature_invalid``.
    """
    signed = decode_signed_body(raw, _WHAT, bytes_max=limits.instruction_bytes_max)
    order = _decode_order(signed.value)
    verify_signed_body(signed, _DOMAIN, "consent_signature_invalid")
    return Instruction(raw=raw, order=order, public_key=signed.public_key)


def _decode_order(value: Any) -> ConsentOrder:
    version, chain_id, consent, action, number, issued = items(value, 6, "an order")
    integer(version, _VERSION, _VERSION, "version of the order")
    if type(action) is not str or action not in ACTIONS:
        raise FormatError(f"expected an action as one of {', '.join(ACTIONS)}")
    return ConsentOrder(
        chain_id=fixed_bytes(chain_id, 16, "a chain id"),
        consent=fixed_bytes(consent, 16, "a consent"),
        action=action,
        number=integer(number, 1, limits.integer_max, "a number"),
        issued=integer(issued, 0, limits.integer_max, "issued"),
    )
