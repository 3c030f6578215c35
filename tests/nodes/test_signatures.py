"""What a signature memory remembers can't be taken for anything else."""

from __future__ import annotations

import pytest

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import VerificationError
from taxledger.nodes.signatures import SignatureMemory

SIGNER, OTHER = Signer(bytes(32)), Signer(bytes(range(32)))


def test_only_the_whole_triple_is_known() -> None:
    memory = SignatureMemory()
    signature = memory.sign(SIGNER, b"message")
    memory.verify(SIGNER.public_key, signature, b"message")
    for key, given, message in (
        (OTHER.public_key, signature, b"message"),
        (SIGNER.public_key, bytes(64), b"message"),
        (SIGNER.public_key, signature, b"another"),
        (SIGNER.public_key, signature + b"m", b"essage"),
    ):
        for _ in range(2):
            with pytest.raises(VerificationError):
                memory.verify(key, given, message)


def test_it_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SignatureMemory(size_max=2)
    signatures = [memory.sign(SIGNER, bytes([number])) for number in range(3)]
    verified: list[bytes] = []
    monkeypatch.setattr(
        "taxledger.nodes.signatures.verify_signature",
        lambda _key, _signature, message: verified.append(message),
    )
    for number in (1, 2, 0):
        memory.verify(SIGNER.public_key, signatures[number], bytes([number]))
    assert verified == [bytes([0])]
