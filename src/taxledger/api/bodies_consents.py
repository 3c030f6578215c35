"""Answers about consents and disclosures as JSON values, as models_consents.py describes them."""

from __future__ import annotations

import base64
from typing import Any

from taxledger.api.custody import (
    ConsentEntry,
    ConsentReceipt,
    DossierProgress,
    ErasureReceipt,
    ForwardedConsent,
    GrantFailure,
    StoredDisclosure,
    UseEntry,
)

__all__ = [
    "consent_body",
    "consent_receipt_body",
    "disclosure_body",
    "erasure_body",
    "forwarded_body",
    "progress_row",
]


def consent_receipt_body(receipt: ConsentReceipt) -> dict[str, Any]:
    """A receipt as JSON (models_consents.ConsentReceiptBody)."""
    body = {name: getattr(receipt, name) for name in ConsentReceipt.__slots__}
    return body | {"consent": receipt.consent.hex(), "transaction": receipt.transaction.hex()}


def forwarded_body(forwarded: ForwardedConsent) -> dict[str, Any]:
    """What became of an artefact at each custodian as JSON (models_consents.ForwardedBody)."""
    return {
        "receipts": [consent_receipt_body(each) for each in forwarded.receipts],
        "failures": [
            {name: getattr(each, name) for name in GrantFailure.__slots__} for each in forwarded.failures
        ],
    }


def consent_body(entry: ConsentEntry) -> dict[str, Any]:
    """A consent as JSON (models_consents.ConsentBody)."""
    body = {name: getattr(entry, name) for name in ConsentEntry.__slots__}
    return body | {
        "consent": entry.consent.hex(),
        "artefact": base64.b64encode(entry.artefact).decode(),
        "subject_key": entry.subject_key.hex(),
        "uses_list": [{name: getattr(use, name) for name in UseEntry.__slots__} for use in entry.uses_list],
    }


def erasure_body(receipt: ErasureReceipt) -> dict[str, Any]:
    """What became of an erasure as JSON (models_consents.ErasureBody)."""
    return {
        "records": receipt.records,
        "transactions": [each.hex() for each in receipt.transactions],
        "notices": [{"member": each.member, "confirmed": each.confirmed} for each in receipt.notices],
    }


def disclosure_body(stored: StoredDisclosure) -> dict[str, Any]:
    """A stored disclosure as JSON (models_consents.DisclosureBody)."""
    body = {name: getattr(stored, name) for name in StoredDisclosure.__slots__}
    return body | {"consent": stored.consent.hex()}


def progress_row(progress: DossierProgress) -> list[Any]:
    """A frame of a dossier's stream (docs/api.md)."""
    return [1, "progress", *(getattr(progress, name) for name in DossierProgress.__slots__)]
