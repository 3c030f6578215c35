"""Strict canonical msgpack: one value, one byte string. The only file that imports ``msgpack``.

Profile (docs/protocol.md §1): nil, bool, integers of 64 bits, ``str`` (UTF-8), ``bin``, arrays and maps whose
keys are ``str`` ascending by their bytes; shortest headers; no floats, no ext types; depth at most 16.

Invariant: ``decode(b)`` returns ``v`` only if ``encode(v) == b``. The msgpack library is lenient on its
own, so decoding means: size limit, strict decode, walk, encode again, compare.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from taxledger.ledger import limits
from taxledger.ledger.errors import EncodingError, LimitError

__all__ = ["decode", "decode_stream", "encode"]

_PACKER_BYTES_MAX = 256 * 1024
_SCALARS = frozenset((int, str, bytes, bool, type(None)))


class _Packers(threading.local):
    """One packer a thread: to make one costs several times what it takes to pack a scalar."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True).pack


_packers = _Packers()


def encode(value: Any) -> bytes:
    """The canonical bytes of a value.

    Args:
        value: None, bool, int, str, bytes, list or tuple, or dict with str keys (any order).

    Raises:
        EncodingError: for floats, other types, integers beyond 64 bits, or more than 16 levels.
    """
    try:
        if type(value) not in _SCALARS and _has_maps(value, 0):
            value = _ordered(value)
        packed = _packers.pack(value)
    except (OverflowError, ValueError, UnicodeEncodeError) as error:
        raise EncodingError(f"not encodable as canonical msgpack: {error}") from error
    if len(packed) > _PACKER_BYTES_MAX:
        _packers.renew()  # a packer keeps the largest buffer it ever needed
    return packed


def _has_maps(value: Any, depth: int) -> bool:
    """Whether there are maps in a container, whose keys must be put in order; raises for what the profile
    excludes. Builds nothing: most values have no maps and are packed as they are.
    """
    kind = type(value)
    if depth >= limits.nesting_depth_max:
        raise EncodingError(f"expected at most {limits.nesting_depth_max} levels of nesting")
    found = False
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise EncodingError(f"expected str map keys, got {type(key).__name__}")
        value, found = value.values(), True
    elif kind is not list and kind is not tuple:
        raise EncodingError(f"expected nil, bool, int, str, bin, array or map, got {kind.__name__}")
    for item in value:
        if type(item) not in _SCALARS and _has_maps(item, depth + 1):
            found = True
    return found


def _ordered(value: Any) -> Any:
    """The value with the keys of its maps ascending by their bytes."""
    kind = type(value)
    if kind is dict:
        return {key: _ordered(value[key]) for key in sorted(value, key=lambda key: key.encode())}
    return [_ordered(each) for each in value] if kind is list or kind is tuple else value


def _no_ext(code: int, _data: bytes) -> Any:
    raise EncodingError(f"expected no ext types, got ext {code}")


def _counting(containers_max: int) -> dict[str, Callable[[Any], Any]]:
    """Hooks that let so many arrays and maps pass: an empty one is one byte of data and 64 of memory."""
    left = containers_max

    def count(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise LimitError(f"expected at most {containers_max} arrays and maps, got more")
        return value

    return {"list_hook": count, "object_hook": count}


def decode(
    data: bytes, *, bytes_max: int = limits.canonical_bytes_max, containers_max: int | None = None
) -> Any:
    """The value of canonical bytes (arrays as list).

    Args:
        data: what came.
        bytes_max: its longest.
        containers_max: how many arrays and maps may be in it, None for any number.

    Raises:
        LimitError: more than ``bytes_max`` bytes or ``containers_max`` arrays and maps.
        EncodingError: not msgpack, or msgpack that is not in its one canonical form.
    """
    if type(data) is not bytes:
        raise EncodingError(f"expected bytes, got {type(data).__name__}")
    if len(data) > bytes_max:
        raise LimitError(f"expected at most {bytes_max} bytes, got {len(data)}")
    hooks = {} if containers_max is None else _counting(containers_max)
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_ext, timestamp=0, **hooks)
    except (EncodingError, LimitError):
        raise
    except Exception as error:  # msgpack raises ValueError, its own tree and UnicodeDecodeError
        raise EncodingError("not msgpack, or cut short") from error
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
            raise EncodingError(f"not msgpack, or cut short, at byte {begin}") from error
        end = unpacker.tell()
        if encode(value) != data[begin:end]:
            raise EncodingError(f"not canonical at byte {begin}")
        yield value
        begin = end
