"""The questions about subjects, consents, erasure and stored disclosures, as ``Call``s. No I/O.

What the custodian's desk answers here is the node's word; ``consents.list_consents`` proves.
"""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from typing import Any

from taxledger.api.client import reading
from taxledger.api.client.reading import get, integer, malformed, read_base64, read_hex
from taxledger.api.client.wire import Answer, Call, Request, answer_call
from taxledger.api.custody import (
    ConsentEntry,
    ConsentReceipt,
    ErasureNotice,
    ErasureReceipt,
    ForwardedConsent,
    GrantFailure,
    StoredDisclosure,
    UseEntry,
)
from taxledger.ledger import limits
from taxledger.ledger.query import Query

__all__ = ["ConsentCalls", "question_body"]

_JSON = "application/json"
_LISTING_BYTES_MAX = 64 * 1024 * 1024


def question_body(query: Query) -> dict[str, Any]:
    """A question as the API takes it (models.DossierRequest)."""
    return {
        "subject": query.subject,
        "issuer": query.issuer,
        "kinds": list(query.kinds),
        "from": query.from_period,
        "to": query.to_period,
    }


class ConsentCalls(ABC):
    """A part of ``ClientCore``."""

    @abstractmethod
    def _post(self, path: str, content: bytes, media_type: str, **more: Any) -> Request:
        """A ``POST`` with its Idempotency-Key."""

    def _json(self, path: str, body: dict[str, Any], **more: Any) -> Request:
        return self._post(path, json.dumps(body).encode(), _JSON, **more)

    def register_subject(
        self, subject: str, public_key: bytes, authentication: str, reason: str | None
    ) -> Call[int]:
        body = {
            "subject": subject,
            "public_key": public_key.hex(),
            "authentication": authentication,
            "reason": reason,
        }
        return answer_call(
            self._json("/v1/subjects", body), lambda answer: integer(reading.read_object(answer), "key")
        )

    def grant_consent(self, artefact: bytes) -> Call[ConsentReceipt]:
        body = {"artefact": base64.b64encode(artefact).decode()}
        return answer_call(self._json("/v1/consents", body), _read_receipt)

    def forward_consent(self, artefact: bytes) -> Call[ForwardedConsent]:
        body = {"artefact": base64.b64encode(artefact).decode()}
        return answer_call(self._json("/v1/consents/forward", body), _read_forwarded)

    def instruct(self, instruction: bytes) -> Call[ConsentReceipt]:
        body = {"instruction": base64.b64encode(instruction).decode()}
        return answer_call(self._json("/v1/consents/instructions", body), _read_receipt)

    def consents_of(self, subject: str) -> Call[list[ConsentEntry]]:
        request = self._json("/v1/consents/list", {"subject": subject}, bytes_max=_LISTING_BYTES_MAX)
        return answer_call(request, _read_entries)

    def consent_receipt(self, subject: str, consent: bytes) -> Call[dict[str, Any]]:
        body = {"subject": subject, "consent": consent.hex()}
        return answer_call(self._json("/v1/consents/receipt", body), reading.read_object)

    def revoke_consent(self, consent: bytes, preimage: bytes) -> Call[ConsentReceipt]:
        body = {"consent": consent.hex(), "preimage": preimage.hex()}
        return answer_call(self._json("/v1/consents/revocations", body), _read_receipt)

    def erase(self, query: Query, reason: str) -> Call[ErasureReceipt]:
        body = question_body(query) | {"reason": reason}
        body.pop("issuer")  # a custodian erases its own
        return answer_call(self._json("/v1/erasures", body), _read_erasure)

    def disclosures(self) -> Call[list[StoredDisclosure]]:
        request = Request(method="GET", path="/v1/disclosures", bytes_max=_LISTING_BYTES_MAX)
        return answer_call(request, _read_stored)

    def load_disclosure(self, consent: bytes, sequence: int) -> Call[bytes]:
        body = {"consent": consent.hex(), "sequence": sequence}
        request = self._json("/v1/disclosures/load", body, bytes_max=limits.disclosure_bytes_max)
        return answer_call(request, lambda answer: answer.body)

    def discard_disclosure(self, consent: bytes, sequence: int, reason: str) -> Call[bytes]:
        body = {"consent": consent.hex(), "sequence": sequence, "reason": reason}
        return answer_call(
            self._json("/v1/disclosures/discard", body),
            lambda answer: read_hex(reading.read_object(answer).get("digest"), "digest"),
        )


# --- answers --------------------------------------------------------------------------------


def _read_forwarded(answer: Answer) -> ForwardedConsent:
    body = reading.read_object(answer)
    return ForwardedConsent(
        receipts=tuple(_receipt_of(row) for row in _rows(body, "receipts")),
        failures=tuple(
            GrantFailure(
                member=integer(row, "member"), code=get(row, "code", str), detail=get(row, "detail", str)
            )
            for row in _rows(body, "failures")
        ),
    )


def _read_receipt(answer: Answer) -> ConsentReceipt:
    return _receipt_of(reading.read_object(answer))


def _receipt_of(body: dict[str, Any]) -> ConsentReceipt:
    return ConsentReceipt(
        consent=read_hex(body.get("consent"), "consent"),
        status=get(body, "status", str),
        transaction=read_hex(body.get("transaction"), "transaction"),
        height=integer(body, "height"),
        index=integer(body, "index"),
        time_ms=integer(body, "time_ms"),
    )


def _rows(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = get(body, name, list)
    if not all(isinstance(row, dict) for row in rows):
        raise malformed(f"{name} as objects")
    return list(rows)


def _read_entries(answer: Answer) -> list[ConsentEntry]:
    return [
        ConsentEntry(
            consent=read_hex(row.get("consent"), "consent"),
            artefact=read_base64(row.get("artefact"), "artefact"),
            status=get(row, "status", str),
            uses=integer(row, "uses"),
            max_uses=integer(row, "max_uses"),
            granted_height=integer(row, "granted_height"),
            recipient=integer(row, "recipient"),
            subject_key=read_hex(row.get("subject_key"), "subject_key"),
            uses_list=tuple(_read_use(use) for use in _rows(row, "uses_list")),
        )
        for row in _rows(reading.read_object(answer), "consents")
    ]


def _read_use(row: dict[str, Any]) -> UseEntry:
    return UseEntry(
        sequence=integer(row, "sequence"),
        state=get(row, "state", str),
        planned=integer(row, "planned"),
        count=integer(row, "count"),
        opened_height=integer(row, "opened_height"),
        closed_height=None if row.get("closed_height") is None else integer(row, "closed_height"),
    )


def _read_erasure(answer: Answer) -> ErasureReceipt:
    body = reading.read_object(answer)
    return ErasureReceipt(
        records=integer(body, "records"),
        transactions=tuple(read_hex(each, "transactions") for each in get(body, "transactions", list)),
        notices=tuple(
            ErasureNotice(member=integer(row, "member"), confirmed=get(row, "confirmed", bool))
            for row in _rows(body, "notices")
        ),
    )


def _read_stored(answer: Answer) -> list[StoredDisclosure]:
    return [
        StoredDisclosure(
            consent=read_hex(row.get("consent"), "consent"),
            sequence=integer(row, "sequence"),
            custodian=integer(row, "custodian"),
            subject=get(row, "subject", str),
            records=integer(row, "records"),
            file_bytes=integer(row, "file_bytes"),
            stored_ms=integer(row, "stored_ms"),
            erase_after_ms=integer(row, "erase_after_ms"),
        )
        for row in _rows(reading.read_object(answer), "disclosures")
    ]
