"""The JSON bodies of the routes about permits and pledges. Keys, ids and fingerprints are hex, permits base64."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from taxledger.api.models import ConsentId, Digest, Hex, StrictModel, example
from taxledger.ledger import limits

__all__ = [
    "ChangeRequest",
    "FingerprintBody",
    "PermitsBody",
    "PermitsRequest",
    "PledgeReceiptBody",
    "PledgeRequest",
    "ProofRequest",
    "TransferRequest",
]

_KEY = "01000105" + "aa" * 16 + "07" + "bb" * 16
_ID = "5d41402abc4b2a76b9719d911017c592"
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

RecordKey = Annotated[Hex, Field(min_length=74, max_length=74)]
Permit = Annotated[str, Field(max_length=4 * -(-limits.permit_bytes_max // 3), description="base64 (§15)")]
Instant = Annotated[int, Field(ge=0, le=limits.integer_max, description="milliseconds since 1970")]


class PermitsRequest(StrictModel):
    """For which records that were shown in a use of a consent, and until when."""

    model_config = example(consent=_ID, sequence=1, records=[_KEY], not_after=1_767_225_600_000)
    consent: ConsentId
    sequence: Annotated[int, Field(ge=1, le=limits.consent_uses_max)]
    records: list[RecordKey] = Field(min_length=1, max_length=limits.permits_max)
    not_after: Instant


class PermitsBody(StrictModel):
    """One permit for each record, in their order."""

    model_config = example(permits=["mQGmcGVybWl0xCU…"])
    permits: list[str]


class PledgeRequest(StrictModel):
    """A share of a permit's record."""

    model_config = example(permit="mQGmcGVybWl0xCU…", ppm=1_000_000, not_after=None, nonce=None)
    permit: Permit
    ppm: Annotated[int, Field(ge=1, le=limits.pledged_ppm_max, description="in millionths of its value")]
    not_after: Instant | None = Field(
        default=None, description="of a reservation: until when it counts; null: a pledge without end"
    )
    nonce: ConsentId | None = Field(
        default=None, description="16 bytes that name this pledge; null: they follow from the Idempotency-Key"
    )


class ChangeRequest(StrictModel):
    """Nothing more than the path says: ``{}``."""

    model_config = example()


class TransferRequest(StrictModel):
    """The permit of the lender that takes the pledge over."""

    model_config = example(permit="mQGmcGVybWl0xCU…")
    permit: Permit


class PledgeReceiptBody(StrictModel):
    """What was done with a pledge; certified."""

    model_config = example(
        pledge=_ID,
        operation="place",
        transaction=_HASH,
        height=412,
        index=1023,
        time_ms=1_767_225_600_000,
    )
    pledge: ConsentId
    operation: Literal["place", "confirm", "release", "transfer"]
    transaction: Digest
    height: int
    index: int
    time_ms: int


class FingerprintBody(StrictModel):
    """Whose fingerprint."""

    issuer: Annotated[int, Field(ge=1, le=65_535)]
    fingerprint: ConsentId


class ProofRequest(StrictModel):
    """Of which fingerprints it is proved what is pledged."""

    model_config = example(keys=[{"issuer": 1, "fingerprint": _ID}])
    keys: list[FingerprintBody] = Field(min_length=1, max_length=limits.pledge_proof_keys_max)
