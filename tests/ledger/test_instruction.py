"""A subject's instruction: what is read is what was signed, and every change of a byte is refused for its reason."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from world import seeded

from taxledger.ledger import canonical, limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, LimitError, VerificationError
from taxledger.ledger.hashing import domain
from taxledger.ledger.instruction import ACTIONS, ConsentOrder, decode_instruction, sign_instruction

KEY = Signer(seeded("subject key"))
OTHER = Signer(seeded("another key"))


def order(**changes: Any) -> ConsentOrder:
    values: dict[str, Any] = {
        "chain_id": seeded("chain")[:16],
        "consent": seeded("consent")[:16],
        "action": "pause",
        "number": 7,
        "issued": 1_750_000_000_000,
    }
    return ConsentOrder(**values | changes)


def items(**changes: Any) -> list[Any]:
    return [1, *(getattr(order(**changes), name) for name in ConsentOrder.__slots__)]


def signed(
    body: bytes, *, what: str = "consent_change", domain_of: str = "consent_change_signature"
) -> bytes:
    return canonical.encode([1, what, body, KEY.public_key, KEY.sign(domain(domain_of) + body)])


@pytest.mark.parametrize(
    ("action", "number", "issued"),
    list(itertools.product(ACTIONS, (1, 255, limits.integer_max), (0, limits.integer_max))),
)
def test_what_is_read_is_what_was_signed(action: str, number: int, issued: int) -> None:
    given = order(action=action, number=number, issued=issued)
    instruction = sign_instruction(given, KEY)
    assert decode_instruction(instruction.raw) == instruction
    assert (instruction.order, instruction.public_key) == (given, KEY.public_key)
    assert len(instruction.raw) < limits.instruction_bytes_max


def test_the_form_is_the_pages() -> None:
    body = canonical.encode(items())
    assert sign_instruction(order(), KEY).raw == signed(body)


def test_every_changed_byte_and_every_cut_is_refused() -> None:
    raw = sign_instruction(order(), KEY).raw
    for at in range(len(raw)):
        with pytest.raises(InputError):
            decode_instruction(raw[:at])
        for bit in range(8):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            with pytest.raises((InputError, VerificationError)) as caught:
                decode_instruction(bytes(changed))
            if isinstance(caught.value, VerificationError):
                assert caught.value.code == "consent_signature_invalid"
    with pytest.raises(InputError):
        decode_instruction(raw + b"\x00")


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": bytes(15)},
        {"chain_id": "x" * 16},
        {"consent": bytes(17)},
        {"consent": None},
        {"action": "supersede"},
        {"action": "grant"},
        {"action": 1},
        {"action": b"pause"},
        {"number": 0},
        {"number": -1},
        {"number": True},
        {"number": 2**63},
        {"number": "7"},
        {"issued": -1},
        {"issued": None},
    ],
)
def test_what_no_reader_takes_is_not_signed(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        sign_instruction(order(**change), KEY)


@pytest.mark.parametrize(
    "body",
    [
        items()[:-1],
        [*items(), 1],
        [2, *items()[1:]],
        [True, *items()[1:]],
        {"action": "pause"},
        "pause",
    ],
)
def test_other_bodies_are_refused_though_they_are_signed(body: Any) -> None:
    with pytest.raises(FormatError):
        decode_instruction(signed(canonical.encode(body)))


def test_a_signature_counts_for_its_own_purpose_and_key() -> None:
    body = canonical.encode(items())
    with pytest.raises(VerificationError, match="consent_signature_invalid"):
        decode_instruction(signed(body, domain_of="consent_signature"))
    with pytest.raises(FormatError):
        decode_instruction(signed(body, what="consent"))
    stolen = canonical.encode(
        [1, "consent_change", body, OTHER.public_key, KEY.sign(domain("consent_change_signature") + body)]
    )
    with pytest.raises(VerificationError, match="consent_signature_invalid"):
        decode_instruction(stolen)


def test_large_ones_are_refused_unread() -> None:
    with pytest.raises(LimitError):
        decode_instruction(bytes(limits.instruction_bytes_max + 1))
