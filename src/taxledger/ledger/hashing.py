"""Every hash of the protocol, each with its formula and source. Nothing else computes one.

Domain strings have the form ``taxledger/<what>/1`` and no ``<what>`` contains a slash, so none is a prefix of
another: what was hashed for one purpose can never be taken for something else.
"""

from __future__ import annotations

import hashlib
import hmac

__all__ = [
    "EMPTY_ROOT",
    "domain",
    "domain_hash",
    "key_id",
    "keyed_hash",
    "log_inner",
    "log_leaf",
    "map_inner",
    "map_leaf",
    "map_leaf_from_value_hash",
    "sha256",
]

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the empty log (RFC 6962 §2.1) and of the empty state map."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def domain(what: str) -> bytes:
    """``taxledger/<what>/1`` as ASCII."""
    return f"taxledger/{what}/1".encode("ascii")


def domain_hash(what: str, data: bytes) -> bytes:
    """``SHA256("taxledger/<what>/1" ‖ data)``."""
    return hashlib.sha256(domain(what) + data).digest()


def keyed_hash(secret: bytes, what: str, data: bytes) -> bytes:
    """``HMAC-SHA256(secret, "taxledger/<what>/1" ‖ data)`` (RFC 2104)."""
    return hmac.digest(secret, domain(what) + data, "sha256")


def key_id(public_key: bytes) -> bytes:
    """``SHA256(public key)[:16]``: the COSE ``kid`` of a transaction key."""
    return hashlib.sha256(public_key).digest()[:16]


def log_leaf(data: bytes) -> bytes:
    """``SHA256(0x00 ‖ data)``, RFC 6962 §2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def log_inner(left: bytes, right: bytes) -> bytes:
    """``SHA256(0x01 ‖ left ‖ right)``, RFC 6962 §2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def map_leaf(key: bytes, value: bytes) -> bytes:
    """``SHA256(0x00 ‖ SHA256(key) ‖ SHA256(value))``: 65 bytes hashed, whatever the key's length.

    With a length-prefixed key, part of it could be moved into the prefix and a membership forged.
    """
    digest = hashlib.sha256
    return digest(b"\x00" + digest(key).digest() + digest(value).digest()).digest()


def map_leaf_from_value_hash(key: bytes, value_hash: bytes) -> bytes:
    """``map_leaf`` where only ``SHA256(value)`` is known (absence proofs)."""
    return hashlib.sha256(b"\x00" + hashlib.sha256(key).digest() + value_hash).digest()


def map_inner(bit: int, left: bytes, right: bytes) -> bytes:
    """``SHA256(0x01 ‖ u16be(bit) ‖ left ‖ right)``: an inner node of the crit-bit state map."""
    return hashlib.sha256(b"\x01" + bit.to_bytes(2, "big") + left + right).digest()
