"""Who can sign a checkpoint: origins, key names and vkeys of C2SP ``signed-note``, each in one text form."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from taxledger.ledger import canonical
from taxledger.ledger.crypto import check_public_key
from taxledger.ledger.errors import FormatError
from taxledger.ledger.hashing import domain_hash, sha256

__all__ = [
    "COSIGNATURE_TYPE",
    "LOG_TYPE",
    "Origin",
    "VerifierKey",
    "canonical_base64",
    "cosigner_name",
    "is_key_name",
    "make_origin",
    "note_key_id",
    "parse_origin",
    "parse_vkey",
    "validators_hash",
    "vkey",
]

LOG_TYPE = 1
"""Ed25519 over the note text (signed-note)."""
COSIGNATURE_TYPE = 4
"""Timestamped Ed25519 co-signature (tlog-cosignature v1)."""

_NETWORK = re.compile(r"[a-z][a-z0-9.-]{0,62}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_CHAIN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a checkpoint's first line pins: ``<network>/<chain id>/<engine>``."""

    network: str
    chain_id: bytes
    engine: str


def make_origin(network: str, chain_id: bytes, engine: str) -> str:
    """The origin line of a chain; ``chain_id`` is 16 bytes.

    Raises:
        FormatError: a part is not in its form.
    """
    text = f"{network}/{chain_id.hex()}/{engine}"
    parse_origin(text)
    return text


def parse_origin(origin: str) -> Origin:
    """The parts of an origin.

    Raises:
        FormatError: not ``<network>/<32 hex digits>/<engine>``.
    """
    parts = origin.split("/")
    if len(parts) != 3:
        raise FormatError(f"expected an origin <network>/<chain id>/<engine>, got {origin[:160]!r}")
    network, chain_id, engine = parts
    if not _NETWORK.fullmatch(network):
        raise FormatError(f"expected a network name [a-z][a-z0-9.-]{{0,62}}, got {network[:80]!r}")
    if not _CHAIN_ID.fullmatch(chain_id):
        raise FormatError(f"expected a chain id of 32 lower-case hex digits, got {chain_id[:80]!r}")
    if not _NAME.fullmatch(engine):
        raise FormatError(f"expected an engine name [a-z][a-z0-9-]{{0,31}}, got {engine[:80]!r}")
    return Origin(network=network, chain_id=bytes.fromhex(chain_id), engine=engine)


def cosigner_name(network: str, member_name: str) -> str:
    """The key name of a validator's co-signing key: ``<network>/<member name>``.

    Raises:
        FormatError: a part is not in its form.
    """
    if not _NETWORK.fullmatch(network) or not _NAME.fullmatch(member_name):
        raise FormatError(f"expected <network>/<member name>, got {f'{network}/{member_name}'[:160]!r}")
    return f"{network}/{member_name}"


def note_key_id(name: str, type_: int, public_key: bytes) -> bytes:
    """``SHA256(name ‖ 0A ‖ type ‖ public key)[:4]`` (signed-note)."""
    return sha256(name.encode() + b"\n" + bytes([type_]) + public_key)[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with the name and signature type it is for.

    Attributes:
        name: the key name in signature lines.
        key_id: 4 bytes, see ``note_key_id``.
        type: 1 log, 4 co-signature.
        public_key: 32 bytes, Ed25519.
    """

    name: str
    key_id: bytes
    type: int
    public_key: bytes

    @property
    def text(self) -> str:
        """The vkey: ``name+hex(key id)+base64(type ‖ public key)``."""
        return vkey(self.name, self.type, self.public_key)


def vkey(name: str, type_: int, public_key: bytes) -> str:
    """A verifier key as text (signed-note): ``name+hex(key id)+base64(type ‖ public key)``."""
    material = b64encode(bytes([type_]) + public_key).decode()
    return f"{name}+{note_key_id(name, type_, public_key).hex()}+{material}"


def parse_vkey(text: str) -> VerifierKey:
    """The key that a vkey names.

    Raises:
        FormatError: not the one form of a vkey of type 1 or 4, or its key id is not that of the key.
    """
    parts = text.split("+", 2)
    if len(parts) != 3 or not is_key_name(parts[0]):
        raise FormatError(f"expected a vkey <name>+<key id>+<key>, got {text[:160]!r}")
    name, key_id, encoded = parts
    material = canonical_base64(encoded)
    if material is None:
        raise FormatError(f"expected canonical base64 in the vkey, got {encoded[:80]!r}")
    if len(material) != 33 or material[0] not in (LOG_TYPE, COSIGNATURE_TYPE):
        raise FormatError(f"expected a vkey of type 1 or 4 with 32 key bytes, got {encoded[:80]!r}")
    type_, public_key = material[0], material[1:]
    check_public_key(public_key)
    expected = note_key_id(name, type_, public_key)
    if key_id != expected.hex():
        raise FormatError(f"expected the key id {expected.hex()} in the vkey, got {key_id[:80]!r}")
    return VerifierKey(name=name, key_id=expected, type=type_, public_key=public_key)


def validators_hash(vkeys: Iterable[str]) -> bytes:
    """``H("validators", msgpack(sorted vkeys))`` of the co-signing keys (docs/protocol.md §2)."""
    return domain_hash("validators", canonical.encode(sorted(vkeys, key=str.encode)))


def is_key_name(name: str) -> bool:
    """Whether this can be a key name of signed-note: not empty, no spaces, no plus."""
    return bool(name) and "+" not in name and not any(char.isspace() for char in name)


def canonical_base64(text: str) -> bytes | None:
    """The bytes of base64 in its one form, else None (b64decode alone takes several texts for the same)."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if b64encode(data).decode() == text else None
