"""A permit: an issuer's word that one lender may take one record as security (docs/protocol.md §15).

    [1, "permit", record key37, version, fingerprint16, lender, not_after, key id16, signature64]

The issuer signs, with its present transaction key, which record at which version under which fingerprint, who may
pledge it, and until when. It is handed out under a consent that allows pledging; the ledger sees neither consent
nor subject. Who holds a permit that names another lender can do nothing with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from taxledger.ledger import canonical, limits
from taxledger.ledger.crypto import Signer, verify_signature
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.hashing import domain, key_id
from taxledger.ledger.shapes import fixed_bytes, integer, items
from taxledger.ledger.statekeys import RECORD_KEY_BYTES, split_record_key

__all__ = ["Permit", "decode_permit", "encode_permit", "permit_message", "sign_permit", "verify_permit"]

_DOMAIN = domain("permit").decode("ascii")
_VERSION_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A permit whose shape is right; its signature is not verified.

    Attributes:
        record_key: 37 bytes; names the issuer.
        version: of the record, at which it may be pledged.
        fingerprint: 16 bytes, the record's.
        lender: number of the member that may pledge.
        not_after: milliseconds since 1970; it counts in blocks before this instant.
        key: 16 bytes, ``SHA256(public key)[:16]`` of the issuer's transaction key.
        signature: 64 bytes, over ``permit_message``.
    """

    record_key: bytes
    version: int
    fingerprint: bytes
    lender: int
    not_after: int
    key: bytes
    signature: bytes

    @property
    def issuer(self) -> int:
        """Number of the member whose record it is."""
        return int.from_bytes(self.record_key[1:3], "big")

    @property
    def kind(self) -> int:
        return self.record_key[3]


def permit_message(
    chain_id: bytes, *, record_key: bytes, version: int, fingerprint: bytes, lender: int, not_after: int
) -> bytes:
    """What the issuer signs: msgpack ``["taxledger/permit/1", chain_id, record key, version, fingerprint, lender,
    not_after]``.
    """
    return canonical.encode([_DOMAIN, chain_id, record_key, version, fingerprint, lender, not_after])


def sign_permit(
    signer: Signer,
    chain_id: bytes,
    *,
    record_key: bytes,
    version: int,
    fingerprint: bytes,
    lender: int,
    not_after: int,
) -> Permit:
    """A permit under the issuer's transaction key.

    Raises:
        FormatError: what ``decode_permit`` would refuse.
    """
    message = permit_message(
        chain_id,
        record_key=record_key,
        version=version,
        fingerprint=fingerprint,
        lender=lender,
        not_after=not_after,
    )
    permit = Permit(
        record_key=record_key,
        version=version,
        fingerprint=fingerprint,
        lender=lender,
        not_after=not_after,
        key=key_id(signer.public_key),
        signature=signer.sign(message),
    )
    decode_permit(encode_permit(permit))
    return permit


def encode_permit(permit: Permit) -> bytes:
    """The bytes that are handed to the lender, and stand in its transaction."""
    return canonical.encode(
        [
            1,
            "permit",
            permit.record_key,
            permit.version,
            permit.fingerprint,
            permit.lender,
            permit.not_after,
            permit.key,
            permit.signature,
        ]
    )


def decode_permit(data: bytes) -> Permit:
    """The content of a permit; nothing is verified.

    Raises:
        LimitError, EncodingError: too long or not canonical.
        FormatError: another shape.
    """
    value = items(canonical.decode(data, bytes_max=limits.permit_bytes_max), 9, "a permit")
    head, what, record_key, version, fingerprint, lender, not_after, key, signature = value
    if type(head) is not int or [head, what] != [1, "permit"]:
        raise FormatError("expected a permit of version 1")
    split_record_key(fixed_bytes(record_key, RECORD_KEY_BYTES, "a record key"))
    return Permit(
        record_key=record_key,
        version=integer(version, 1, _VERSION_MAX, "version"),
        fingerprint=fixed_bytes(fingerprint, 16, "a fingerprint"),
        lender=integer(lender, 1, 65_535, "a lender"),
        not_after=integer(not_after, 0, limits.integer_max, "not_after"),
        key=fixed_bytes(key, 16, "a key id"),
        signature=fixed_bytes(signature, 64, "a signature"),
    )


def verify_permit(permit: Permit, chain_id: bytes, issuer_key: bytes) -> None:
    """Returns when ``issuer_key`` (32 bytes, the issuer's present transaction key) signed it for this chain.

    Raises:
        VerificationError: ``permit_invalid``.
    """
    if permit.key != key_id(issuer_key):
        raise VerificationError(
            "permit_invalid", "another key's id", expected=key_id(issuer_key).hex(), got=permit.key.hex()
        )
    message = permit_message(
        chain_id,
        record_key=permit.record_key,
        version=permit.version,
        fingerprint=permit.fingerprint,
        lender=permit.lender,
        not_after=permit.not_after,
    )
    try:
        verify_signature(issuer_key, permit.signature, message)
    except VerificationError as error:
        raise VerificationError("permit_invalid", "not signed by the issuer for this chain") from error
