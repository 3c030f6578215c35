"""Strict canonical msgpack: one value, one byte string. The only file that imports ``msgpack``.

Profile (docs/protocol.md §1): nil, bool, integers of 64 bits, ``str`` (UTF-8), ``bin``, arrays and maps whose
keys are ``str`` ascending by their bytes; shortest headers; no floats, no ext types; depth at most 16.

Invariant: ``decode(b)`` returns ``v`` only if ``encode(v) == b``. The msgpack library is lenient on its
own, so decoding means: size limit, strict decode, walk, encode again, compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack

from taxledger.ledger import limits
from taxledger.ledger.errors import EncodingError, LimitError

__all__ = ["decode", "decode_stream", "encode"]

_SCALARS = (int, str, bytes, bool, type(None))


def encode(value: Any) -> bytes:
    """The canonical bytes of a value.

    Args:
        value: None, bool, int, str, bytes, list or tuple, or dict with str keys (any order).

    Raises:
        EncodingError: for floats, other types, integers beyond 64 bits, or more than 16 levels.
    """
    try:
        return msgpack.packb(_checked(value, 0), use_bin_type=True)  # type: ignore[no-any-return]
    except (OverflowError, ValueError, UnicodeEncodeError) as error:
        raise EncodingError(f"not encodable as canonical msgpack: {error}") from error


def _checked(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if depth >= limits.nesting_depth_max:
        raise EncodingError(f"expected at most {limits.nesting_depth_max} levels of nesting")
    if kind is list or kind is tuple:
        for item in value:
            if type(item) not in _SCALARS:
                return [_checked(each, depth + 1) for each in value]
        return value
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise EncodingError(f"expected str map keys, got {type(key).__name__}")
        ordered = sorted(value, key=lambda key: key.encode())
        return {key: _checked(value[key], depth + 1) for key in ordered}
    raise EncodingError(f"expected nil, bool, int, str, bin, array or map, got {kind.__name__}")


def _no_ext(code: int, _data: bytes) -> Any:
    raise EncodingError(f"expected no ext types, got ext {code}")


def decode(data: bytes, *, bytes_max: int = limits.canonical_bytes_max) -> Any:
    """The value of canonical bytes (arrays as list).

    Raises:
        LimitError: more than ``bytes_max`` bytes.
        EncodingError: not msgpack, or msgpack that is not in its one canonical form.
    """
    if type(data) is not bytes:
        raise EncodingError(f"expected bytes, got {type(data).__name__}")
    if len(data) > bytes_max:
        raise LimitError(f"expected at most {bytes_max} bytes, got {len(data)}")
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_ext, timestamp=0)
    except EncodingError:
        raise
    except Exception as error:  # msgpack raises ValueError, its own tree and UnicodeDecodeError
        raise EncodingError(f"not msgpack: {type(error).__name__}: {error}") from error
    if encode(value) != data:
        raise EncodingError("not canonical: encoding the decoded value gives other bytes")
    return value


def decode_stream(data: bytes) -> Iterator[Any]:
    """The values of canonical items that stand one behind the other without any framing.

    Raises:
        EncodingError: as ``decode``; also when the last item is cut.
    """
    unpacker = msgpack.Unpacker(
        raw=False, strict_map_key=True, ext_hook=_no_ext, timestamp=0, max_buffer_size=len(data) + 1
    )
    unpacker.feed(data)
    begin = 0
    while begin < len(data):
        try:
            value = unpacker.unpack()
        except EncodingError:
            raise
        except Exception as error:
            raise EncodingError(f"not msgpack at byte {begin}: {type(error).__name__}") from error
        end = unpacker.tell()
        if encode(value) != data[begin:end]:
            raise EncodingError(f"not canonical at byte {begin}")
        yield value
        begin = end
