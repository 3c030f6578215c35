"""Vectors of a subject's instruction (docs/protocol.md §12)."""

from __future__ import annotations

import hashlib
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer
from taxledger.ledger.hashing import domain
from taxledger.ledger.instruction import ACTIONS, ConsentOrder, sign_instruction


def key(name: str) -> Signer:
    return Signer(hashlib.sha256(f"taxledger test vector key {name}".encode()).digest())


CHAIN_ID = hashlib.sha256(b"taxledger test vector chain").digest()[:16]
CONSENT = hashlib.sha256(b"taxledger test vector consent").digest()[:16]
ISSUED = 1_750_000_000_000


def _accepted() -> list[dict[str, Any]]:
    signer = key("subject")
    rows = []
    for number, action in enumerate(ACTIONS, 1):
        order = ConsentOrder(
            chain_id=CHAIN_ID, consent=CONSENT, action=action, number=number, issued=ISSUED + number
        )
        raw = sign_instruction(order, signer).raw
        body = canonical.decode(raw)[2]
        rows.append(
            {
                "instruction": raw.hex(),
                "body": body.hex(),
                "signed": (domain("consent_change_signature") + body).hex(),
                "action": action,
                "number": number,
                "issued": order.issued,
            }
        )
    return rows


def _refused() -> list[dict[str, str]]:
    signer, other = key("subject"), key("another subject")
    good = [1, CHAIN_ID, CONSENT, "pause", 1, ISSUED]

    def raw(
        body: Any = good,
        *,
        what: str = "consent_change",
        over: str = "consent_change_signature",
        public: bytes = signer.public_key,
        version: int = 1,
        extra: bytes = b"",
    ) -> str:
        encoded = canonical.encode(body)
        signature = signer.sign(domain(over) + encoded)
        return (canonical.encode([version, what, encoded, public, signature]) + extra).hex()

    return [
        {"why": "version 2", "instruction": raw(version=2)},
        {"why": "says it is a consent", "instruction": raw(what="consent")},
        {"why": "signed as a consent", "instruction": raw(over="consent_signature")},
        {"why": "another public key", "instruction": raw(public=other.public_key)},
        {"why": "a byte behind it", "instruction": raw(extra=b"\x00")},
        {"why": "order of version 2", "instruction": raw([2, *good[1:]])},
        {"why": "an action that is none", "instruction": raw([*good[:3], "supersede", 1, ISSUED])},
        {"why": "number 0", "instruction": raw([*good[:4], 0, ISSUED])},
        {"why": "a consent of 17 bytes", "instruction": raw([1, CHAIN_ID, bytes(17), "pause", 1, ISSUED])},
        {"why": "an element more", "instruction": raw([*good, 0])},
    ]


def instructions() -> dict[str, Any]:
    return {
        "public_key": key("subject").public_key.hex(),
        "chain_id": CHAIN_ID.hex(),
        "consent": CONSENT.hex(),
        "accepted": _accepted(),
        "refused": _refused(),
    }


VECTORS = {"instruction.json": instructions}
