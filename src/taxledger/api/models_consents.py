"""The JSON bodies of the routes about subjects, consents, erasure and stored disclosures.

Subjects, artefacts and preimages stand in bodies only. Hashes, keys and ids are hex, longer bytes base64.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from taxledger.api.models import ConsentId, Digest, Period, StrictModel, example
from taxledger.ledger import limits

__all__ = [
    "ConsentBody",
    "ConsentReceiptBody",
    "ConsentRequest",
    "Consents",
    "DiscardBody",
    "DiscardRequest",
    "DisclosureBody",
    "DisclosureRequest",
    "Disclosures",
    "ErasureBody",
    "ErasureRequest",
    "ForwardedBody",
    "GrantFailureBody",
    "GrantRequest",
    "InstructionRequest",
    "NoticeBody",
    "ReceiptDocument",
    "RevocationRequest",
    "SubjectBody",
    "SubjectKeyRequest",
    "SubjectRequest",
    "UseBody",
]

_CONSENT = "5d41402abc4b2a76b9719d911017c592"
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_SUBJECT = "uscc:91110101MA00000005"
_BASE64_MAX = 4 * -(-limits.consent_bytes_max // 3)

ConsentStatusName = Literal["active", "paused", "revoked", "superseded"]
Subject = Annotated[str, Field(min_length=3, max_length=limits.subject_bytes_max)]
Reason = Annotated[str, Field(min_length=1, max_length=512)]
Sequence = Annotated[int, Field(ge=1, le=limits.consent_uses_max)]


class SubjectKeyRequest(StrictModel):
    """A subject's key, and how the person who brought it was identified."""

    model_config = example(subject=_SUBJECT, public_key=_HASH, authentication="tax_portal_login", reason=None)
    subject: Subject
    public_key: Digest = Field(description="Ed25519, 32 bytes as hex")
    authentication: str = Field(min_length=1, max_length=64)
    reason: Reason | None = Field(default=None, description="why it changes, where another key is registered")


class SubjectBody(StrictModel):
    """The number of the subject's key, from 1."""

    model_config = example(key=1)
    key: int


class GrantRequest(StrictModel):
    """What the subject signed."""

    model_config = example(artefact="lQGnY29uc2VudMUC…")
    artefact: str = Field(max_length=_BASE64_MAX, description="base64 (docs/protocol.md §12)")


class InstructionRequest(StrictModel):
    """A subject's signed instruction."""

    model_config = example(instruction="lQGuY29uc2VudF9jaGFuZ2XE…")
    instruction: str = Field(max_length=4_096, description="base64 (docs/protocol.md §12)")


class ConsentReceiptBody(StrictModel):
    """What became of a grant, an instruction or a revocation; certified."""

    model_config = example(
        consent=_CONSENT,
        status="active",
        transaction=_HASH,
        height=412,
        index=1023,
        time_ms=1_767_225_600_000,
    )
    consent: ConsentId
    status: ConsentStatusName
    transaction: Digest
    height: int
    index: int
    time_ms: int


class GrantFailureBody(StrictModel):
    """A custodian that did not grant, with the code of a problem."""

    member: int
    code: str
    detail: str


class ForwardedBody(StrictModel):
    """What became of an artefact at each custodian it names."""

    model_config = example(
        receipts=[],
        failures=[{"member": 2, "code": "unavailable", "detail": "procurement does not answer"}],
    )
    receipts: list[ConsentReceiptBody]
    failures: list[GrantFailureBody]


class SubjectRequest(StrictModel):
    """Whose consents are asked for."""

    model_config = example(subject=_SUBJECT)
    subject: Subject


class UseBody(StrictModel):
    """One use of a consent; the node's word, the ledger proves it under the prefix 04."""

    sequence: int
    state: Literal["open", "complete", "partial", "none"]
    planned: int
    count: int
    opened_height: int
    closed_height: int | None


class ConsentBody(StrictModel):
    """A consent as its custodian knows it."""

    consent: ConsentId
    artefact: str = Field(description="base64")
    status: ConsentStatusName
    uses: int
    max_uses: int
    granted_height: int
    recipient: int
    subject_key: Digest
    uses_list: list[UseBody]


class Consents(StrictModel):
    """Every consent of a subject at this custodian."""

    consents: list[ConsentBody]


class ConsentRequest(StrictModel):
    """Which consent of which subject."""

    model_config = example(subject=_SUBJECT, consent=_CONSENT)
    subject: Subject
    consent: ConsentId


ReceiptDocument = dict[str, Any]
"""A receipt in the shape of ISO/IEC TS 27560 (docs/protocol.md §12)."""


class RevocationRequest(StrictModel):
    """A consent and the preimage of its revoke hash."""

    model_config = example(consent=_CONSENT, preimage=_HASH)
    consent: ConsentId
    preimage: Digest


class ErasureRequest(StrictModel):
    """Which of this custodian's records are destroyed, and why."""

    model_config = example(
        subject=_SUBJECT, kinds=[5], to="2019-12", reason="retention ended", **{"from": "2017-01"}
    )
    subject: Subject
    kinds: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        min_length=1, max_length=limits.evidence_kinds_max
    )
    from_: Period = Field(alias="from", description="first period, YYYY-MM")
    to: Period = Field(description="last period, YYYY-MM")
    reason: Reason


class NoticeBody(StrictModel):
    """A recipient that was told to destroy what it holds."""

    member: int
    confirmed: bool


class ErasureBody(StrictModel):
    """What was erased, by which transactions, and which recipients have confirmed by now."""

    model_config = example(records=2, transactions=[_HASH], notices=[{"member": 2, "confirmed": False}])
    records: int
    transactions: list[Digest]
    notices: list[NoticeBody]


class DisclosureBody(StrictModel):
    """A disclosure that this node keeps, until it is discarded or its time is over."""

    consent: ConsentId
    sequence: int
    custodian: int
    subject: str
    records: int
    file_bytes: int
    stored_ms: int
    erase_after_ms: int


class Disclosures(StrictModel):
    """What this node keeps."""

    disclosures: list[DisclosureBody]


class DisclosureRequest(StrictModel):
    """Which stored disclosure."""

    model_config = example(consent=_CONSENT, sequence=1)
    consent: ConsentId
    sequence: Sequence


class DiscardRequest(StrictModel):
    """Which stored disclosure is destroyed, and why."""

    model_config = example(consent=_CONSENT, sequence=1, reason="loan repaid")
    consent: ConsentId
    sequence: Sequence
    reason: Reason


class DiscardBody(StrictModel):
    """The digest of ``data.erased`` on the ledger."""

    model_config = example(digest=_HASH)
    digest: Digest
