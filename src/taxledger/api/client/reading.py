"""Reading answers: their JSON shape, and the proofs in them against the policy the caller holds. No I/O.

Whatever is not exactly of the expected shape is refused as ``malformed``: what could not be checked is not
verified.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.api.client.wire import Answer
from taxledger.api.reader import Receipt, RecordChange
from taxledger.ledger.checkpoint import SignedCheckpoint, decode_note
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.header import Header
from taxledger.ledger.merkle import verify_inclusion
from taxledger.ledger.policy import Policy, check_origin, verify_checkpoint, verify_signatures
from taxledger.ledger.statemap.proof import verify_prefixes
from taxledger.ledger.verify import verify_header

__all__ = [
    "VerifiedState",
    "VerifiedTransaction",
    "get",
    "hexes",
    "integer",
    "malformed",
    "read_base64",
    "read_hex",
    "read_history",
    "read_note",
    "read_object",
    "read_receipt",
    "read_state",
    "read_transaction",
]

_HEX = re.compile(r"([0-9a-f]{2})*")
_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedState:
    """Pairs of the state map, proved against the policy.

    Attributes:
        entries: every prefix asked with *all* its pairs; none means that no key begins with it.
        header: of the block after which it was so; ``checkpoint`` the note that certifies it.
        age_ms: of the oldest co-signature counted.
    """

    entries: Mapping[bytes, Sequence[tuple[bytes, bytes]]]
    header: Header
    checkpoint: SignedCheckpoint
    age_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTransaction:
    """A transaction proved to be in the certified log.

    Attributes:
        raw: its bytes; they and ``receipt.index`` are proved.
        receipt: of it, code and height are the node's word.
        checkpoint: the note that certifies the log; ``age_ms`` that of its oldest co-signature counted.
    """

    raw: bytes
    receipt: Receipt
    checkpoint: SignedCheckpoint
    age_ms: int


# --- shapes ---------------------------------------------------------------------------------


def malformed(expected: str) -> VerificationError:
    return VerificationError("malformed", f"the node's answer: expected {expected}")


def read_object(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise malformed("a JSON object")
    return body


def get(body: dict[str, Any], name: str, type_: type) -> Any:
    value = body.get(name)
    if type(value) is not type_:
        raise malformed(f"{name} as {type_.__name__}")
    return value


def integer(body: dict[str, Any], name: str) -> int:
    value: int = get(body, name, int)
    if not 0 <= value <= _INTEGER_MAX:
        raise malformed(f"{name} of at most 63 bits")
    return value


def read_hex(value: Any, what: str) -> bytes:
    if type(value) is not str or not _HEX.fullmatch(value):
        raise malformed(f"{what} as hex")
    return bytes.fromhex(value)


def read_base64(value: Any, what: str) -> bytes:
    try:
        data = base64.b64decode(value, validate=True) if type(value) is str else None
    except (binascii.Error, ValueError):
        data = None
    if data is None:
        raise malformed(f"{what} as base64")
    return data


def hexes(body: dict[str, Any], name: str) -> list[bytes]:
    return [read_hex(item, name) for item in get(body, name, list)]


# --- answers --------------------------------------------------------------------------------


def read_note(answer: Answer, policy: Policy, *, now_ms: int, age_ms_max: int) -> SignedCheckpoint:
    """A checkpoint that a quorum of the policy signed recently."""
    note = decode_note(answer.body)
    verify_checkpoint(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    return note


def read_receipt(body: dict[str, Any], wanted: bytes) -> Receipt:
    """The receipt of the transaction with this id. Nothing in it is proved."""
    if read_hex(body.get("id"), "id") != wanted:
        raise VerificationError(
            "inclusion_invalid", "a receipt of another transaction", expected=wanted.hex()
        )
    if body.get("state") == "pending":
        return Receipt(id=wanted, state="pending")
    if body.get("state") != "certified":
        raise malformed("state as pending or certified")
    return Receipt(
        id=wanted,
        state="certified",
        code=integer(body, "code"),
        name=get(body, "name", str),
        first_refused=None if body.get("first_refused") is None else integer(body, "first_refused"),
        height=integer(body, "height"),
        index=integer(body, "index"),
        certified_time_ms=integer(body, "certified_time_ms"),
        checkpoint=get(body, "checkpoint", str).encode("utf-8", "replace"),
    )


def read_transaction(
    answer: Answer, wanted: bytes, policy: Policy, *, now_ms: int, age_ms_max: int
) -> VerifiedTransaction:
    """The transaction with this id, if the answer proves that it is in the certified log."""
    body = read_object(answer)
    receipt = read_receipt(get(body, "receipt", dict), wanted)
    raw = read_base64(body.get("transaction"), "transaction")
    if receipt.checkpoint is None or receipt.index is None:
        raise malformed("a certified receipt")
    if log_leaf(raw) != wanted:
        raise VerificationError("inclusion_invalid", "other bytes than the id names", expected=wanted.hex())
    note = decode_note(receipt.checkpoint)
    age_ms = verify_checkpoint(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    point = note.checkpoint
    verify_inclusion(wanted, receipt.index, point.size, hexes(body, "inclusion"), point.root)
    return VerifiedTransaction(raw=raw, receipt=receipt, checkpoint=note, age_ms=age_ms)


def read_state(
    answer: Answer, prefixes: Sequence[bytes], policy: Policy, *, now_ms: int, age_ms_max: int
) -> VerifiedState:
    """All pairs under the prefixes, if the answer proves it under a recent certified checkpoint."""
    body = read_object(answer)
    note = decode_note(get(body, "checkpoint", str).encode("utf-8", "replace"))
    leaf = read_base64(body.get("header"), "header")
    check_origin(policy, note)
    header = verify_header(leaf, policy, note)
    age_ms = verify_signatures(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    point = note.checkpoint
    verify_inclusion(log_leaf(leaf), point.size - 1, point.size, hexes(body, "inclusion"), point.root)
    entries = _entries(get(body, "entries", list))
    if set(entries) != set(prefixes):
        raise VerificationError("query_mismatch", "the prefixes answered are not those asked")
    verify_prefixes(header.state_root, entries, read_base64(body.get("proof"), "proof"))
    return VerifiedState(entries=entries, header=header, checkpoint=note, age_ms=age_ms)


def _entries(rows: list[Any]) -> dict[bytes, list[tuple[bytes, bytes]]]:
    entries: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise malformed("entries as objects")
        prefix = read_hex(row.get("prefix"), "prefix")
        if prefix in entries:
            raise malformed("each prefix once")
        pairs = get(row, "pairs", list)
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise malformed("pairs as arrays of two")
        entries[prefix] = [(read_hex(key, "key"), read_base64(value, "value")) for key, value in pairs]
    return entries


def read_history(answer: Answer) -> list[RecordChange]:
    """A record's history. Nothing in it is proved; each transaction can be, by its id."""
    changes = []
    for row in get(read_object(answer), "changes", list):
        if not isinstance(row, dict):
            raise malformed("changes as objects")
        digest = row.get("reason_digest")
        changes.append(
            RecordChange(
                operation=get(row, "operation", str),
                version=integer(row, "version"),
                status=integer(row, "status"),
                member=integer(row, "member"),
                transaction=read_hex(row.get("transaction"), "transaction"),
                height=integer(row, "height"),
                time_ms=integer(row, "time_ms"),
                reason=None if row.get("reason") is None else integer(row, "reason"),
                reason_digest=None if digest is None else read_hex(digest, "reason_digest"),
            )
        )
    return changes
