"""The keys of the state map: every business question is a prefix (docs/protocol.md §6).

    01 issuer2 kind1 tag16 month1 rid16   a record        02 consent16               a consent
    03 holder16 consent16                 whose it is     04 consent16 sequence4     a use of it
    05 issuer2 fingerprint16              pledges         06 member2                 a member
    07 name16                             a parameter     08 kind1 schema1           a schema
    09 issuer2 kind1                      attested through  0a issuer2 year2         a tag key
    0b proposal16                         a proposal      0c member2 digest16        data erased
    0d pledge16                           where a pledge was placed
    0e key16                              a key that was convicted

All keys of a namespace have one length, so no key is a prefix of another.
"""

from __future__ import annotations

from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import key_id, sha256

__all__ = [
    "RECORD_KEY_BYTES",
    "attested_through_key",
    "consent_key",
    "conviction_key",
    "data_erased_key",
    "holder_key",
    "member_key",
    "month_prefix",
    "parameter_key",
    "placement_key",
    "pledges_key",
    "proposal_key",
    "record_key",
    "schema_key",
    "split_record_key",
    "tag_key_key",
    "tag_prefix",
    "use_key",
    "uses_prefix",
]

RECORD_KEY_BYTES = 37


def tag_prefix(issuer: int, kind: int, tag: bytes) -> bytes:
    """All records of one subject, of one kind and year: 20 bytes."""
    return b"\x01" + issuer.to_bytes(2, "big") + bytes([kind]) + tag


def month_prefix(issuer: int, kind: int, tag: bytes, month: int) -> bytes:
    """Those of one month (1–12), quarter (13–16) or the year as a whole (0): 21 bytes."""
    return tag_prefix(issuer, kind, tag) + bytes([month])


def record_key(issuer: int, kind: int, tag: bytes, month: int, rid: bytes) -> bytes:
    return month_prefix(issuer, kind, tag, month) + rid


def split_record_key(key: bytes) -> tuple[int, int, bytes, int, bytes]:
    """(issuer, kind, tag, month, rid). Raises FormatError when it is no record key."""
    if type(key) is not bytes or len(key) != RECORD_KEY_BYTES or key[0] != 1 or key[20] > 16:
        raise FormatError("expected a record key: 37 bytes, 01 issuer2 kind1 tag16 month1 rid16")
    return int.from_bytes(key[1:3], "big"), key[3], key[4:20], key[20], key[21:]


def consent_key(consent: bytes) -> bytes:
    return b"\x02" + consent


def holder_key(holder: bytes, consent: bytes = b"") -> bytes:
    """Key of one consent below its holder; without a consent the prefix of all of them (17 bytes)."""
    return b"\x03" + holder + consent


def uses_prefix(consent: bytes) -> bytes:
    """All uses of a consent: 17 bytes."""
    return b"\x04" + consent


def use_key(consent: bytes, sequence: int) -> bytes:
    return uses_prefix(consent) + sequence.to_bytes(4, "big")


def pledges_key(issuer: int, fingerprint: bytes) -> bytes:
    return b"\x05" + issuer.to_bytes(2, "big") + fingerprint


def placement_key(pledge: bytes) -> bytes:
    return b"\x0d" + pledge


def member_key(member: int) -> bytes:
    return b"\x06" + member.to_bytes(2, "big")


def parameter_key(name: str) -> bytes:
    return b"\x07" + sha256(name.encode("ascii"))[:16]


def schema_key(kind: int, schema: int) -> bytes:
    return bytes([8, kind, schema])


def attested_through_key(issuer: int, kind: int) -> bytes:
    return b"\x09" + issuer.to_bytes(2, "big") + bytes([kind])


def tag_key_key(issuer: int, year: int) -> bytes:
    return b"\x0a" + issuer.to_bytes(2, "big") + year.to_bytes(2, "big")


def proposal_key(proposal: bytes) -> bytes:
    return b"\x0b" + proposal


def data_erased_key(member: int, digest: bytes) -> bytes:
    """Of the erasure that a member says it has done; ``digest`` is 32 bytes, its first half names it."""
    return b"\x0c" + member.to_bytes(2, "big") + digest[:16]


def conviction_key(public_key: bytes) -> bytes:
    """Of a signing key that fork evidence has convicted."""
    return b"\x0e" + key_id(public_key)
