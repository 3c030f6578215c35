"""Answers as JSON values, as models.py describes them: hashes and keys as hex, longer bytes as base64."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from starlette.responses import JSONResponse

from taxledger.api.idempotency import Answer
from taxledger.api.reader import NodeStatus, Receipt, RecordChange, StateAnswer, TransactionAnswer

__all__ = ["change_body", "json_answer", "receipt_body", "state_body", "status_body", "transaction_body"]


def _hexes(parts: Iterable[bytes]) -> list[str]:
    return [part.hex() for part in parts]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def json_answer(status: int, body: dict[str, Any]) -> Answer:
    """A JSON body as a finished answer."""
    return Answer(status=status, media_type="application/json", body=bytes(JSONResponse(body).body))


def status_body(status: NodeStatus) -> dict[str, Any]:
    """A node's status as JSON (models.StatusBody)."""
    body = {name: getattr(status, name) for name in NodeStatus.__slots__}
    return body | {"log_root": status.log_root.hex(), "state_root": status.state_root.hex()}


def receipt_body(receipt: Receipt) -> dict[str, Any]:
    """A receipt as JSON (models.ReceiptBody)."""
    return {
        "id": receipt.id.hex(),
        "state": receipt.state,
        "code": receipt.code,
        "name": receipt.name,
        "first_refused": receipt.first_refused,
        "height": receipt.height,
        "index": receipt.index,
        "certified_time_ms": receipt.certified_time_ms,
        "checkpoint": None if receipt.checkpoint is None else receipt.checkpoint.decode(),
    }


def transaction_body(answer: TransactionAnswer) -> dict[str, Any]:
    """A certified transaction as JSON (models.TransactionBody)."""
    return {
        "receipt": receipt_body(answer.receipt),
        "transaction": _base64(answer.raw),
        "inclusion": _hexes(answer.inclusion),
    }


def state_body(answer: StateAnswer) -> dict[str, Any]:
    """A state answer as JSON (models.StateBody)."""
    return {
        "checkpoint": answer.checkpoint.decode(),
        "header": _base64(answer.header),
        "inclusion": _hexes(answer.inclusion),
        "proof": _base64(answer.proof),
        "entries": [
            {"prefix": prefix.hex(), "pairs": [[key.hex(), _base64(value)] for key, value in pairs]}
            for prefix, pairs in sorted(answer.entries.items())
        ],
    }


def change_body(change: RecordChange) -> dict[str, Any]:
    """One step of a record's history as JSON (models.RecordChangeBody)."""
    digest = change.reason_digest
    return {
        "operation": change.operation,
        "version": change.version,
        "status": change.status,
        "member": change.member,
        "transaction": change.transaction.hex(),
        "height": change.height,
        "time_ms": change.time_ms,
        "reason": change.reason,
        "reason_digest": None if digest is None else digest.hex(),
    }
