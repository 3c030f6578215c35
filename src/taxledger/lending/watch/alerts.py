"""Alerts: what an officer is told, once for each event and rule.

An alert's id follows from loan, event and rule, so the same matter found again, after a crash or by a second
watcher, is the same alert.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["SEVERITIES", "Alert", "alert_id", "decode_alert", "encode_alert", "webhook_body"]

SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something about a loan that somebody should look at.

    Attributes:
        id: 32 hex characters, see ``alert_id``.
        loan: the lender's id of it.
        event: id of the event that led to it, or of the check.
        rule: a watch rule of the product, or one of the watcher's own (docs/lending.md).
        severity: one of ``SEVERITIES``.
        text, text_zh: for the officer.
        raised_ms: when, milliseconds since 1970.
        data: values behind it; nothing in it is a record's content.
    """

    id: str
    loan: str
    event: str
    rule: str
    severity: str
    text: str
    text_zh: str
    raised_ms: int
    data: Mapping[str, str | int | None] = field(default_factory=dict)


def alert_id(loan: str, event: str, rule: str) -> str:
    """The first 16 bytes of SHA-256 over the JSON array of the three, in hex."""
    return hashlib.sha256(json.dumps([loan, event, rule]).encode()).hexdigest()[:32]


def encode_alert(alert: Alert) -> str:
    return json.dumps(asdict(alert), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def decode_alert(text: str) -> Alert:
    """An alert as this program has stored it."""
    body: dict[str, Any] = json.loads(text)
    return Alert(**body)


def webhook_body(alert: Alert) -> bytes:
    """What is posted: type, timestamp and data, as Standard Webhooks recommends."""
    instant = datetime.fromtimestamp(alert.raised_ms // 1000, UTC)
    body = {
        "type": "taxledger.loan.alert",
        "timestamp": f"{instant:%Y-%m-%dT%H:%M:%S}.{alert.raised_ms % 1000:03}Z",
        "data": asdict(alert),
    }
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
