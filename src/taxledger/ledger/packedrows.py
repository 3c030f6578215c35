"""The formulas of ``records.py`` for whoever attests many rows: each value is packed once, for all of them.

A row's record id, fingerprint and commitment all hash msgpack ``[name, value]`` of its fields. ``RowPacker``
gives the same bytes as ``identity``, ``record_id``, ``fingerprint`` and ``commit`` in less time, and a test
compares them. A verifier has no use for it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import check
from taxledger.ledger.hashing import domain
from taxledger.ledger.schemas import ROLE_PARTY, Row, Schema, Value

__all__ = ["PackedRow", "RowPacker"]

_TEXTS_MAX = 50_000
_NIL = b"\xc0"
_RID = domain("rid")
_FINGERPRINT = domain("fingerprint")
_COMMITMENT = domain("commitment")
_FIELD = domain("field")
_SALT_OF = tuple(domain("salt") + index.to_bytes(2, "big") for index in range(limits.fields_max))
_ABSENT = bytes(32)
_XOR_36 = bytes(each ^ 0x36 for each in range(256))
_XOR_5C = bytes(each ^ 0x5C for each in range(256))
_PAD_36 = b"\x36" * 32
_PAD_5C = b"\x5c" * 32

PackedRow = Sequence[bytes]
"""msgpack ``[name, value]`` of every field, in schema order; the value is nil where it is absent."""


def _array(n: int) -> bytes:
    """The header of a msgpack array of ``n`` ≤ 64."""
    return bytes([0x90 | n]) if n < 16 else b"\xdc" + n.to_bytes(2, "big")


class RowPacker:
    """Packs the rows of one schema. Not for several threads at once."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        at = schema.position
        self.all_fields = tuple(range(len(schema.fields)))
        self._names = schema.packed_names
        self._absent = tuple(name + _NIL for name in self._names)
        self._kind = canonical.encode(schema.kind)
        self._parties = frozenset(at[each.name] for each in schema.fields if each.role == ROLE_PARTY)
        self._unique = tuple(
            tuple((at[name], digits) for name, digits in alternative) for alternative in schema.unique
        )
        # In schema order, as the identity stands on the page (docs/protocol.md §5).
        self._chosen = tuple(
            tuple(sorted(position for position, _digits in alternative)) for alternative in self._unique
        )
        self._texts: dict[str, bytes] = {}

    def pack(self, values: Row) -> list[bytes]:
        """The packed row of values that fit the schema."""
        pack = self._pack
        return [name + pack(value) for name, value in zip(self._names, values, strict=True)]

    def _pack(self, value: Value) -> bytes:
        if value is None:
            return _NIL
        if type(value) is not str:
            return canonical.encode(value)
        # Dates, counterparties and codes come again and again.
        packed = self._texts.get(value)
        if packed is None:
            packed = canonical.encode(value)
            if len(self._texts) >= _TEXTS_MAX:
                self._texts.clear()
            self._texts[value] = packed
        return packed

    def identity(self, values: Row) -> tuple[int, ...]:
        """Positions of the fields that make the record unique, ascending: ``records.identity``."""
        for alternative, chosen in zip(self._unique, self._chosen, strict=True):
            for position, digits in alternative:
                value = values[position]
                if value is None or (digits and not _is_digits(value, digits)):
                    break
            else:
                return chosen
        return self.all_fields

    def record_id(self, key: bytes, tag: bytes, row: PackedRow, chosen: Sequence[int]) -> bytes:
        """``records.record_id`` of the chosen fields (16 bytes); ``key`` is the ``records.rid_key``."""
        parts = [_RID, b"\x93", self._kind, b"\xc4\x10", tag, _array(len(chosen))]
        parts += [row[position] for position in chosen]
        return hmac.digest(key, b"".join(parts), "sha256")[:16]

    def mark(self, year_secret: bytes, row: PackedRow, chosen: Sequence[int]) -> bytes:
        """``records.fingerprint`` of the chosen fields (16 bytes), whether or not the schema asks for one."""
        content = [row[position] for position in chosen if position not in self._parties]
        parts = [_FINGERPRINT, b"\x92", self._kind, _array(len(content)), *content]
        return hmac.digest(year_secret, b"".join(parts), "sha256")[:16]

    def commit(self, chain_id: bytes, key: bytes, version: int, secret: bytes, row: PackedRow) -> bytes:
        """``records.commit`` (32 bytes)."""
        check(len(secret) == 32 and len(chain_id) == 16, "expected a secret of 32, a chain id of 16 bytes")
        inner_keyed = sha256(secret.translate(_XOR_36) + _PAD_36)
        outer_keyed = sha256(secret.translate(_XOR_5C) + _PAD_5C)
        parts = [_COMMITMENT, chain_id, key, version.to_bytes(4, "big")]
        for salt, absent, pair in zip(_SALT_OF, self._absent, row, strict=False):
            if pair == absent:
                parts.append(_ABSENT)
                continue
            inner = inner_keyed.copy()
            inner.update(salt)
            outer = outer_keyed.copy()
            outer.update(inner.digest())
            parts.append(sha256(_FIELD + outer.digest()[:16] + pair).digest())
        return sha256(b"".join(parts)).digest()


def _is_digits(value: Value, digits: int) -> bool:
    return type(value) is str and len(value) == digits and value.isascii() and value.isdigit()
