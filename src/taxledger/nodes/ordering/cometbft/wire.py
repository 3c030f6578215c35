"""Protocol Buffers (proto3), as far as ABCI needs them: frozen dataclasses that carry their field numbers.

A dataclass names each of its fields' number and kind: ``height: int = scalar(5, INT64)``. Encoding is in the
order of the numbers and leaves out defaults, so that equal messages are equal bytes. Decoding follows the rules
of proto3 (unknown fields are skipped, the last of several wins, parts of one embedded message are merged,
repeated numbers come packed or not), and refuses what no encoder writes: groups, field number 0, varints of more
than 64 bits, lengths beyond the data, text that is no UTF-8, enumerators we don't know.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

from taxledger.ledger.errors import FormatError

__all__ = [
    "BOOL",
    "BYTES",
    "DURATION",
    "INT32",
    "INT64",
    "STRING",
    "TIMESTAMP",
    "UINT32",
    "UINT64",
    "Kind",
    "always",
    "decode_message",
    "encode_message",
    "encode_varint",
    "enum_of",
    "inside",
    "message_of",
    "optional",
    "read_fields",
    "read_varint",
    "repeated",
    "scalar",
]

VARINT, FIXED64, SIZED, FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
_VARINT_BYTES_MAX = 10
_FIELD_NUMBER_MAX = 2**29 - 1

# --- varints and fields --------------------------------------------------------------------------


def encode_varint(value: int) -> bytes:
    """``value`` (0 … 2^64 - 1) in groups of seven bits, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it). Raises FormatError when cut off or of more than 64 bits."""
    value = shift = 0
    for position in range(at, at + _VARINT_BYTES_MAX):
        if position >= len(data):
            raise FormatError("a varint is cut off")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + 1
        shift += 7
    raise FormatError("expected a varint of at most 64 bits")


def read_fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, raw value) of each field in order: an integer, or the bytes of a sized field.

    Raises:
        FormatError: no sequence of fields.
    """
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= _FIELD_NUMBER_MAX:
            raise FormatError(f"expected a field number of 1 to 2^29 - 1, got {number}")
        if wire_type == VARINT:
            value, at = read_varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == SIZED:
            size, at = read_varint(data, at)
        elif wire_type in _FIXED_BYTES:
            size = _FIXED_BYTES[wire_type]
        else:
            raise FormatError(f"field {number}: expected wire type 0, 1, 2 or 5, got {wire_type}")
        if size > len(data) - at:
            raise FormatError(f"field {number}: expected {size} bytes, got {len(data) - at}")
        yield number, wire_type, data[at : at + size]
        at += size


# --- kinds of fields -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of one protobuf type are written: to and from the raw value of ``read_fields``."""

    name: str
    wire_type: int
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    merges: bool = False
    """Whether several occurrences are parts of one value, as of an embedded message."""


def _integer(name: str, bits: int, *, signed: bool) -> Kind:
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)

    def encode(value: int) -> int:
        if not low <= value < high:
            raise FormatError(f"expected {name}, got {value}")
        return value % (1 << 64)  # a negative number takes ten bytes, also of int32

    def decode(raw: int) -> int:
        value = raw % (1 << bits)  # proto3: as if cast
        return value - (1 << bits) if value >= high else value

    return Kind(name, VARINT, encode, decode)


def _decode_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("expected text in UTF-8") from error


def _encode_text(value: str) -> bytes:
    return value.encode("utf-8", "replace")  # a lone surrogate in a log line stops nobody


INT32, INT64 = _integer("int32", 32, signed=True), _integer("int64", 64, signed=True)
UINT32, UINT64 = _integer("uint32", 32, signed=False), _integer("uint64", 64, signed=False)
BOOL = Kind("bool", VARINT, int, bool)
BYTES = Kind("bytes", SIZED, bytes, bytes)
STRING = Kind("string", SIZED, _encode_text, _decode_text)


def enum_of(enum: type[IntEnum]) -> Kind:
    def decode(raw: int) -> IntEnum:
        try:
            return enum(INT32.decode(raw))
        except ValueError as error:
            raise FormatError(f"expected a {enum.__name__}, got {raw}") from error

    return Kind(enum.__name__, VARINT, INT32.encode, decode)


def message_of(cls: type) -> Kind:
    """An embedded message of one of our dataclasses."""
    return Kind(cls.__name__, SIZED, encode_message, lambda raw: decode_message(cls, raw), merges=True)


def inside(cls: type, name: str) -> Kind:
    """An embedded message of which we keep one value: its field ``name``."""
    empty = getattr(cls(), name)
    return Kind(
        cls.__name__,
        SIZED,
        lambda value: encode_message(cls(**{name: value})) if value != empty else b"",
        lambda raw: getattr(decode_message(cls, raw), name),
        merges=True,
    )


# --- dataclasses that say their field numbers ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    number: int
    kind: Kind
    default: Any
    is_repeated: bool
    is_always: bool
    """Written also when empty (gogoproto's ``nullable = false``)."""


def _field(
    number: int, kind: Kind, default: Any, *, is_repeated: bool = False, is_always: bool = False
) -> Any:
    wire = (number, kind, default, is_repeated, is_always)
    return dataclasses.field(default=default, metadata={"wire": wire})


def scalar(number: int, kind: Kind) -> Any:
    """A number, bytes or text: left out when it has the default of its type."""
    return _field(number, kind, b"" if kind is BYTES else "" if kind is STRING else kind.decode(0))


def optional(number: int, kind: Kind) -> Any:
    """An embedded message, or None."""
    return _field(number, kind, None)


def always(number: int, kind: Kind) -> Any:
    """An embedded message that is written also when empty."""
    return _field(number, kind, kind.decode(b""), is_always=True)


def repeated(number: int, kind: Kind) -> Any:
    """A tuple. Numbers are written packed."""
    return _field(number, kind, (), is_repeated=True)


@cache
def _fields(cls: type) -> tuple[_Field, ...]:
    found = (_Field(each.name, *each.metadata["wire"]) for each in dataclasses.fields(cls))
    return tuple(sorted(found, key=lambda each: each.number))


@cache
def _by_number(cls: type) -> dict[int, _Field]:
    return {each.number: each for each in _fields(cls)}


def _write(out: bytearray, number: int, wire_type: int, raw: Any) -> None:
    out += encode_varint(number << 3 | wire_type)
    if wire_type == VARINT:
        out += encode_varint(raw)
    else:
        out += encode_varint(len(raw))
        out += raw


def encode_message(message: Any) -> bytes:
    """The bytes of one of our dataclasses. Raises FormatError for a number out of its type's range."""
    out = bytearray()
    cls: Any = type(message)
    for field in _fields(cls):
        value, kind = getattr(message, field.name), field.kind
        if not field.is_repeated:
            if field.is_always or value != field.default:
                _write(out, field.number, kind.wire_type, kind.encode(value))
        elif kind.wire_type == VARINT:
            if value:
                _write(out, field.number, SIZED, b"".join(encode_varint(kind.encode(each)) for each in value))
        else:
            for each in value:
                _write(out, field.number, SIZED, kind.encode(each))
    return bytes(out)


def decode_message(cls: type, data: bytes) -> Any:
    """The message of type ``cls`` in ``data``. Raises FormatError."""
    known = _by_number(cls)
    found: dict[str, Any] = {}
    for number, wire_type, raw in read_fields(data):
        field = known.get(number)
        if field is None:
            continue
        kind = field.kind
        if field.is_repeated and kind.wire_type == VARINT and wire_type == SIZED:
            found.setdefault(field.name, []).extend(_unpack(kind, raw))
        elif wire_type != kind.wire_type:
            what = f"{cls.__name__}.{field.name}"
            raise FormatError(f"{what}: expected wire type {kind.wire_type} ({kind.name}), got {wire_type}")
        elif field.is_repeated:
            found.setdefault(field.name, []).append(kind.decode(raw))
        elif kind.merges:
            found.setdefault(field.name, []).append(raw)
        else:
            found[field.name] = kind.decode(raw)
    for field in known.values():
        if field.name in found and field.is_repeated:
            found[field.name] = tuple(found[field.name])
        elif field.name in found and field.kind.merges:  # what follows in one message is what is merged
            found[field.name] = field.kind.decode(b"".join(found[field.name]))
    return cls(**found)


def _unpack(kind: Kind, raw: bytes) -> Iterator[Any]:
    at = 0
    while at < len(raw):
        value, at = read_varint(raw, at)
        yield kind.decode(value)


# --- times -----------------------------------------------------------------------------------------

_SECOND_NS = 1_000_000_000
# google.protobuf.Timestamp: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z
_TIMESTAMP_S_MIN, _TIMESTAMP_S_MAX = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True, slots=True, kw_only=True)
class _SecondsAndNanos:
    seconds: int = scalar(1, INT64)
    nanos: int = scalar(2, INT32)


def _encode_timestamp(time_ns: int) -> bytes:
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    if not _TIMESTAMP_S_MIN <= seconds <= _TIMESTAMP_S_MAX:
        raise FormatError(f"expected a time of the years 1 to 9999, got {time_ns} ns")
    return encode_message(_SecondsAndNanos(seconds=seconds, nanos=nanos))


def _decode_timestamp(raw: bytes) -> int:
    value = decode_message(_SecondsAndNanos, raw)
    if not (_TIMESTAMP_S_MIN <= value.seconds <= _TIMESTAMP_S_MAX and 0 <= value.nanos < _SECOND_NS):
        raise FormatError(f"expected a timestamp, got {value.seconds} s and {value.nanos} ns")
    return int(value.seconds * _SECOND_NS + value.nanos)


def _encode_duration(duration_ns: int) -> bytes:
    sign = -1 if duration_ns < 0 else 1
    seconds, nanos = divmod(abs(duration_ns), _SECOND_NS)
    return encode_message(_SecondsAndNanos(seconds=sign * seconds, nanos=sign * nanos))


def _decode_duration(raw: bytes) -> int:
    value = decode_message(_SecondsAndNanos, raw)
    if abs(value.nanos) >= _SECOND_NS or value.seconds * value.nanos < 0:
        raise FormatError(f"expected a duration, got {value.seconds} s and {value.nanos} ns")
    return int(value.seconds * _SECOND_NS + value.nanos)


TIMESTAMP = Kind("Timestamp", SIZED, _encode_timestamp, _decode_timestamp, merges=True)
"""Nanoseconds since 1970, UTC."""
DURATION = Kind("Duration", SIZED, _encode_duration, _decode_duration, merges=True)
"""Nanoseconds."""
