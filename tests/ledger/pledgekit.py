"""Pledges for tests: a chain with banks and invoices, permits and payloads made from docs/protocol.md alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from chainkit import (
    CLIENT,
    INVOICE,
    ISSUER,
    TIME_MS,
    TestChain,
    attest,
    client,
    digest,
    group,
    make_genesis,
    tag_key,
)

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer
from taxledger.ledger.operations import AmendChange, RevokeChange, encode_amend, encode_erase, encode_revoke

BANK, BANK2, BANK3 = CLIENT, 8, 9
BANKS = (BANK, BANK2, BANK3)
ISSUER2 = 10
MINUTE, DAY = 60_000, 86_400_000
NOW = TIME_MS + DAY
PERMIT_END = NOW + 30 * DAY
OK = (0, None)
RIDS = (2, 4, 6, 8)
"""Invoices with a fingerprint (an even rid has one); each stands under tag 1, and its twin under tag 2."""
PLAIN = 3
"""An invoice without one."""


def pledge_chain() -> TestChain:
    """Three banks, two issuers, the invoices of both enterprises; the next block is of ``NOW``."""
    base = make_genesis()
    others = (
        client(BANK2, "bank2"),
        client(BANK3, "bank3"),
        client(ISSUER2, "tax2", role=2, kinds=(INVOICE,)),
    )
    chain = TestChain(replace(base, members=(*base.members, *others)))
    for issuer in (ISSUER, ISSUER2):
        assert chain.result(tag_key(chain.chain_id, issuer=issuer), issuer) == OK
    invoices = attest(group(2, PLAIN, 4, 6, 8), group(*RIDS, tag=2))
    assert chain.result(invoices) == OK
    assert chain.result(attest(group(2)), ISSUER2) == OK, "another issuer attests the same invoice"
    return chain.at(NOW)


def key_of(rid: int, *, tag: int = 1, issuer: int = ISSUER) -> bytes:
    tag_bytes, rid_bytes = tag.to_bytes(16, "big"), rid.to_bytes(16, "big")
    return b"\x01" + issuer.to_bytes(2, "big") + bytes([INVOICE]) + tag_bytes + b"\x03" + rid_bytes


def mark_of(rid: int) -> bytes:
    return digest("fingerprint", rid)[:16]


def tagged(what: str, data: bytes) -> bytes:
    return hashlib.sha256(b"taxledger/" + what.encode() + b"/1" + data).digest()


def id_of(nonce: object, member: int = BANK, rid: int = 2, issuer: int = ISSUER) -> bytes:
    named = member.to_bytes(2, "big") + issuer.to_bytes(2, "big") + mark_of(rid) + digest("nonce", nonce)[:16]
    return tagged("pledge_id", named)[:16]


def entry_key(rid: int = 2, issuer: int = ISSUER) -> bytes:
    return b"\x05" + issuer.to_bytes(2, "big") + mark_of(rid)


def permit(
    chain: TestChain,
    rid: int = 2,
    *,
    lender: int = BANK,
    tag: int = 1,
    issuer: int = ISSUER,
    version: int = 1,
    end: int = PERMIT_END,
    mark: bytes | None = None,
    chain_id: bytes | None = None,
    by: Signer | None = None,
) -> bytes:
    by = by or chain.signer(issuer, "transaction")
    body = [key_of(rid, tag=tag, issuer=issuer), version, mark or mark_of(rid), lender, end]
    message = canonical.encode(["taxledger/permit/1", chain_id or chain.chain_id, *body])
    key_id = hashlib.sha256(by.public_key).digest()[:16]
    return canonical.encode([1, "permit", *body, key_id, by.sign(message)])


def payload(*items: Any) -> bytes:
    return canonical.encode([1, *items])


def place(
    chain: TestChain,
    nonce: object,
    rid: int = 2,
    *,
    ppm: int = 500_000,
    until: int | None = None,
    lender: int = BANK,
    **permitted: Any,
) -> bytes:
    permitted = {"lender": lender, **permitted}
    return payload("pledge.place", permit(chain, rid, **permitted), ppm, until, digest("nonce", nonce)[:16])


def confirm(pledge: bytes) -> bytes:
    return payload("pledge.confirm", pledge)


def release(pledge: bytes) -> bytes:
    return payload("pledge.release", pledge)


def transfer(pledge: bytes, permitted: bytes) -> bytes:
    return payload("pledge.transfer", pledge, permitted)


def amend(
    rid: int,
    *,
    version: int = 1,
    status: int = 1,
    tag: int = 1,
    mark: bytes | None = None,
    none: bool = False,
) -> AmendChange:
    return AmendChange(
        key=key_of(rid, tag=tag),
        version=version,
        status=status,
        schema=1,
        commitment=digest("amended", rid, version),
        fingerprint=None if none else mark or mark_of(rid),
        reason=1,
        reason_digest=None,
    )


def amended(*changes: AmendChange) -> bytes:
    return encode_amend(INVOICE, sorted(changes, key=lambda each: each.key))


def revoked(rid: int, *, version: int = 1, tag: int = 1) -> bytes:
    change = RevokeChange(key=key_of(rid, tag=tag), version=version, reason=4, reason_digest=None)
    return encode_revoke(INVOICE, [change])


def erased(rid: int, *, version: int = 1, tag: int = 1) -> bytes:
    change = RevokeChange(key=key_of(rid, tag=tag), version=version, reason=5, reason_digest=None)
    return encode_erase(INVOICE, [change])


def entry(chain: TestChain, rid: int = 2, issuer: int = ISSUER) -> list[Any] | None:
    found = chain.view.get(entry_key(rid, issuer))
    return None if found is None else canonical.decode(found)


def content(chain: TestChain) -> dict[bytes, bytes]:
    """All that the map holds about pledges."""
    proven = chain.view.prove([b"\x05", b"\x0d"])
    return {key: value for pairs in proven.entries.values() for key, value in pairs}
