"""Evidence in parts: a frame with all proofs, and parts with the secrets and fields of its records in order.

A large dossier leaves its custodian part by part, and the consent is looked at before each (docs/protocol.md §13).

Invariant: ``join_evidence(*split_evidence(e)) == e``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError, LimitError
from taxledger.ledger.evidence import (
    Evidence,
    check_rows,
    cut_secrets,
    decode_frame,
    decoding,
    encode_frame,
)
from taxledger.ledger.shapes import array, items

__all__ = ["check_pieces", "join_evidence", "part_records", "split_evidence"]

_CONTAINERS_MAX = limits.disclosure_part_records_max + 2
"""Of a part: itself, its rows, each row."""

_Record = tuple[bytes, Any]
"""Secret and row of one record."""


def split_evidence(
    evidence: Evidence, *, records_max: int = limits.disclosure_part_records_max
) -> tuple[bytes, list[bytes]]:
    """(frame, parts), each part with at most ``records_max`` records and ``disclosure_part_bytes_max`` bytes.

    Raises:
        LimitError: one record alone is larger than a part may be, or all together than a file may be.
    """
    records = [
        (secret, row)
        for group in evidence.groups
        for secret, row in zip(group.secrets, group.rows, strict=True)
    ]
    parts: list[bytes] = []
    at = 0
    while at < len(records):
        count = min(records_max, len(records) - at)
        part = _encode_part(len(parts) + 1, records[at : at + count])
        while len(part) > limits.disclosure_part_bytes_max:
            if count == 1:
                raise LimitError(f"expected at most {limits.disclosure_part_bytes_max} bytes in a part")
            count = (count + 1) // 2
            part = _encode_part(len(parts) + 1, records[at : at + count])
        parts.append(part)
        at += count
    frame = encode_frame(evidence)
    check_pieces(frame, parts)
    return frame, parts


def check_pieces(frame: bytes, parts: Sequence[bytes]) -> None:
    """Raises LimitError where frame and parts together are larger than ``disclosure_pieces_bytes_max``."""
    size = len(frame) + sum(map(len, parts))
    if size > limits.disclosure_pieces_bytes_max:
        raise LimitError(
            f"expected a frame and parts of at most {limits.disclosure_pieces_bytes_max} bytes, got {size}"
        )


def _encode_part(number: int, records: Sequence[_Record]) -> bytes:
    secrets = b"".join([secret for secret, _row in records])
    return canonical.encode([1, "part", number, secrets, [row for _secret, row in records]])


def _decode_part(data: bytes, number: int) -> tuple[bytes, tuple[list[Any] | None, ...]]:
    """(secrets, rows) of a part. What it may hold is so little that nothing in it can be large when decoded."""
    decoded = canonical.decode(
        data, bytes_max=limits.disclosure_part_bytes_max, containers_max=_CONTAINERS_MAX
    )
    version, what, got, secrets, rows = items(decoded, 5, "a part")
    if type(version) is not int or [version, what] != [1, "part"] or type(got) is not int or got != number:
        raise FormatError(f"expected part {number}")
    if type(secrets) is not bytes:
        raise FormatError("expected secrets in a part")
    checked = check_rows(array(rows, 1, limits.disclosure_part_records_max, "records in a part"), len(rows))
    if any(
        row is not None and (len(row) > limits.fields_max or any(map(_has_items, row))) for row in checked
    ):
        raise FormatError(f"expected at most {limits.fields_max} values without arrays in a record's fields")
    return secrets, checked


def _has_items(value: Any) -> bool:
    return type(value) is list or type(value) is dict


def part_records(data: bytes, number: int) -> int:
    """How many records a part holds.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``.
    """
    with decoding():
        return len(_decode_part(data, number)[1])


def join_evidence(frame: bytes, parts: Sequence[bytes]) -> Evidence:
    """The evidence of a frame and all its parts, its shape checked and nothing else.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``.
    """
    evidence = decode_frame(frame)
    with decoding():
        sizes = [size for group in evidence.groups for size in group.secret_sizes()]
        secrets: list[bytes] = []
        rows: list[list[Any] | None] = []
        for number, data in enumerate(parts, start=1):
            joined, more = _decode_part(data, number)
            secrets += cut_secrets(joined, sizes[len(rows) : len(rows) + len(more)])
            rows += more
        cut, checked = tuple(secrets), check_rows(rows, len(sizes))
    groups, at = [], 0
    for group in evidence.groups:
        end = at + len(group.ends)
        groups.append(replace(group, secrets=cut[at:end], rows=checked[at:end]))
        at = end
    return replace(evidence, groups=tuple(groups))
