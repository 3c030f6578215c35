"""The instruction's vectors: our reader takes and refuses them, and another agrees on what is signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from taxledger.ledger.errors import InputError, VerificationError
from taxledger.ledger.instruction import decode_instruction

VECTORS = json.loads((Path(__file__).parent / "instruction.json").read_text("utf-8"))


@pytest.mark.parametrize("case", VECTORS["accepted"], ids=lambda case: case["action"])
def test_accepted(case: dict[str, object]) -> None:
    raw = bytes.fromhex(str(case["instruction"]))
    order = decode_instruction(raw).order
    assert (order.action, order.number, order.issued) == (case["action"], case["number"], case["issued"])
    assert (order.chain_id.hex(), order.consent.hex()) == (VECTORS["chain_id"], VECTORS["consent"])
    # From the page alone: the body is the one bin element, the signature the last 64 bytes.
    body = bytes.fromhex(str(case["body"]))
    assert body in raw
    signed = b"taxledger/consent_change_signature/1" + body
    assert signed.hex() == case["signed"]
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTORS["public_key"])).verify(raw[-64:], signed)


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_refused(case: dict[str, str]) -> None:
    with pytest.raises((InputError, VerificationError)):
        decode_instruction(bytes.fromhex(case["instruction"]))
