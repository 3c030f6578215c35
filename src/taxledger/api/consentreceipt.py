"""A consent's receipt: what was agreed, with whom, and what became of it, in the shape of ISO/IEC TS 27560:2023.

Its blocks and names are the standard's: the record's header, *PII processing* by purpose, *party identification*,
*events*. What the standard has no place for stands in ``uses`` and ``ledger``. A pure function: the same receipt
whether the custodian's node makes it or the enterprise itself, from its artefact and the proved state.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger.consent import Artefact, ConsentTerms
from taxledger.ledger.consentstate import ConsentStatus, ConsentValue, UseValue
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.schemas import kind_name

__all__ = ["SCHEMA_VERSION", "StatusChange", "instant", "receipt_document"]

SCHEMA_VERSION = "ISO/IEC TS 27560:2023, taxledger/consent_receipt/1"

_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_EVENT_STATES = {
    "active": "resumed",
    "paused": "paused",
    "revoked": "withdrawn",
    "superseded": "superseded",
    "expired": "expired",
}
_PROCESSING = {
    "proof_only": ["answer predicates"],
    "view": ["disclose", "view"],
    "store": ["disclose", "view", "store"],
}
_WITHDRAWAL = {
    "en": "Tell the custodian (taxledger consent revoke), or show the preimage of the revoke hash to any member "
    "(taxledger consent revoke --by-preimage). In force at the next block, free of charge, without a reason.",
    "zh-CN": "可随时向数据保管机构撤回（taxledger consent revoke），或向任一成员出示撤回原像"
    "（taxledger consent revoke --by-preimage）。下一区块即生效，不收费，无需说明理由。",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A step in a consent's life: its ``status`` after it (custody.ConsentReceipt), where and when.

    Attributes:
        height: the block; ``time_ms`` its time, None where it is not known.
        transaction: id, 32 bytes, None where it is not known.
    """

    status: str
    height: int
    time_ms: int | None
    transaction: bytes | None = None


def instant(time_ms: int) -> str:
    """ISO 8601 in UTC; an instant beyond the calendar stays a number."""
    if not 0 <= time_ms <= _MS_MAX:
        return f"{time_ms} ms"
    moment = datetime.datetime.fromtimestamp(time_ms // 1_000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1_000:03}Z"


def receipt_document(
    artefact: Artefact,
    *,
    custodian: int,
    value: ConsentValue,
    uses: Mapping[int, UseValue],
    height: int,
    time_ms: int,
    names: Mapping[int, str],
    changes: Sequence[StatusChange] = (),
    times_ms: Mapping[int, int] | None = None,
    notice: str | None = None,
) -> dict[str, Any]:
    """The receipt of one consent at one custodian, as a JSON document.

    Args:
        artefact: what the subject signed.
        custodian: number of the member that granted.
        value, uses: as the ledger has them; uses by their number.
        height, time_ms: the block after which it was so.
        names: of members, by number.
        changes: what is known of when it was granted, paused, …, oldest first.
        times_ms: block times by height, of uses.
        notice: the text that was shown, where it is known.

    Raises:
        RefusedError: ``consent_changed``: the artefact is not the one that was granted.
    """
    if artefact.digest(custodian) != value.digest:
        raise RefusedError("consent_changed", "the artefact's digest is not the one on the ledger")
    terms, consent = artefact.terms, artefact.id(custodian)
    status = _status(value, time_ms)
    return {
        "schema_version": SCHEMA_VERSION,
        "receipt_id": f"{consent.hex()}-{height}",
        "record_id": consent.hex(),
        "pii_principal_id": terms.subject,
        "pii_processing": {
            "privacy_notice": {"sha256": terms.notice_digest.hex(), "text": notice},
            "language": terms.language,
            "purposes": [_purpose(terms, custodian)],
        },
        "party_identification": list(_parties(terms, custodian, names, artefact.public_key)),
        "event": list(_events(terms, status, changes, custodian)),
        "uses": [_use(number, use, times_ms or {}) for number, use in sorted(uses.items())],
        "ledger": {
            "chain_id": terms.chain_id.hex(),
            "consent": consent.hex(),
            "digest": value.digest.hex(),
            "custodian": value.custodian,
            "status": status,
            "uses": value.uses,
            "max_uses": value.max_uses,
            "height": height,
            "time": instant(time_ms),
        },
    }


def _status(value: ConsentValue, time_ms: int) -> str:
    if value.status == ConsentStatus.ACTIVE and time_ms >= value.not_after:
        return "expired"
    return value.status.name.lower()


def _purpose(terms: ConsentTerms, custodian: int) -> dict[str, Any]:
    information: list[dict[str, Any]] = [
        {
            "pii_type": kind_name(each.kind),
            "pii_attributes": "all" if each.fields is None else list(each.fields),
            "from": each.from_period,
            "to": each.to_period,
        }
        for each in terms.details
    ]
    information += [
        {"pii_type": "predicate", "predicate": each.name, "argument": each.argument}
        for each in terms.predicates
    ]
    return {
        "purpose": terms.purpose,
        "lawful_basis": terms.legal_basis,
        "pii_information": information,
        "pii_controllers": [f"member:{custodian}"],
        "processing_method": _PROCESSING[terms.mode],
        "recipient_third_parties": [f"member:{terms.recipient}"],
        "retention_period": {"days": terms.retention_days, "afterwards": terms.retention_end},
        "onward_sharing": terms.onward,
        "may_pledge": terms.may_pledge,
        "frequency": terms.frequency,
        "max_uses": terms.max_uses,
        "valid_from": instant(terms.not_before),
        "valid_until": instant(terms.not_after),
        "jurisdiction": terms.jurisdiction,
        "withdrawal_method": _WITHDRAWAL,
    }


def _parties(
    terms: ConsentTerms, custodian: int, names: Mapping[int, str], public_key: bytes
) -> Iterator[dict[str, Any]]:
    yield {
        "party_id": terms.subject,
        "party_role": "pii_principal",
        "acted_for_by": terms.role,
        "authentication": terms.authentication,
        "public_key": public_key.hex(),
    }
    for number, role in ((custodian, "pii_controller"), (terms.recipient, "recipient_third_party")):
        yield {"party_id": f"member:{number}", "party_role": role, "party_name": names.get(number)}


def _events(
    terms: ConsentTerms, status: str, changes: Sequence[StatusChange], custodian: int
) -> Iterator[dict[str, Any]]:
    yield {
        "event_time": instant(terms.issued),
        "event_type": "explicit",
        "event_state": "given",
        "entity_id": terms.subject,
        "validity_duration_ms": terms.not_after - terms.not_before,
    }
    last = "active"
    for change in changes:
        yield {
            "event_time": None if change.time_ms is None else instant(change.time_ms),
            "event_type": "explicit",
            "event_state": _change_state(change.status, last),
            "entity_id": f"member:{custodian}",
            "height": change.height,
            "transaction": None if change.transaction is None else change.transaction.hex(),
        }
        last = change.status
    if status != last:
        # The ledger's state proves that it is so; when it came about is not part of that.
        expired = status == "expired"
        yield {
            "event_time": instant(terms.not_after) if expired else None,
            "event_type": "implicit" if expired else "explicit",
            "event_state": _EVENT_STATES[status],
            "entity_id": None,
        }


def _change_state(status: str, last: str) -> str:
    """The grant makes what was given count: it is registered; active again after a pause is resumed."""
    if status == "active":
        return "resumed" if last == "paused" else "registered"
    return _EVENT_STATES[status]


def _use(number: int, use: UseValue, times_ms: Mapping[int, int]) -> dict[str, Any]:
    closed = use.closed_height
    return {
        "sequence": number,
        "state": use.state.name.lower(),
        "planned_records": use.planned_count,
        "disclosed_records": use.count,
        "opened_height": use.opened_height,
        "opened_time": instant(times_ms[use.opened_height]) if use.opened_height in times_ms else None,
        "closed_height": closed,
        "closed_time": None if closed is None or closed not in times_ms else instant(times_ms[closed]),
    }
