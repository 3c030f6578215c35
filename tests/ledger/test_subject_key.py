"""A key under which anybody can sign is nobody's."""

from __future__ import annotations

import pytest

from taxledger.ledger.crypto import _SMALL_ORDER, Signer, check_subject_key, verify_signature
from taxledger.ledger.errors import FormatError, VerificationError

_FORGED = bytes([1]) + bytes(63)
"""R is the neutral point, S is 0: no private key was needed."""


def _is_forged(public_key: bytes) -> bool:
    for number in range(200):
        try:
            verify_signature(public_key, _FORGED, number.to_bytes(2, "big"))
        except VerificationError:
            continue
        return True
    return False


@pytest.mark.parametrize("point", sorted(_SMALL_ORDER), ids=bytes.hex)
def test_a_point_of_small_order_is_refused_because_anybody_signs_under_it(point: bytes) -> None:
    assert _is_forged(point)
    for key in (point, point[:31] + bytes([point[31] | 0x80])):
        with pytest.raises(FormatError, match="Ed25519 public key"):
            check_subject_key(key)


def test_a_key_that_was_made_is_taken() -> None:
    key = Signer(bytes(range(32))).public_key
    assert not _is_forged(key)
    check_subject_key(key)
