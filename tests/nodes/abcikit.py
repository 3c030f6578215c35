"""ABCI messages for tests: from the vectors' JSON, and at random."""

from __future__ import annotations

import dataclasses
import random
import types
from enum import IntEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from taxledger.nodes.ordering.cometbft import requests, responses, values, wire


@cache
def hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, {**vars(values), **vars(requests), **vars(responses)})


def wire_of(cls: type) -> dict[str, tuple[int, wire.Kind]]:
    """Number and kind of each field."""
    return {each.name: each.metadata["wire"][:2] for each in dataclasses.fields(cls)}


def from_json(hint: Any, value: Any) -> Any:
    """What ``value`` (of the vectors) is as a field of type ``hint``, or as a message of that class."""
    if get_origin(hint) is tuple:
        return tuple(from_json(get_args(hint)[0], each) for each in value)
    if get_origin(hint) in (Union, types.UnionType):
        return None if value is None else from_json(get_args(hint)[0], value)
    if dataclasses.is_dataclass(hint):
        found = {}
        for name, of in hints(hint).items():  # type: ignore[arg-type]
            if name in value or name.removesuffix("_ns") in value:
                found[name] = from_json(of, value[name if name in value else name.removesuffix("_ns")])
        assert len(found) == len(value), f"{hint}: {set(value) - set(found)}"
        return hint(**found)  # type: ignore[operator]
    if hint is bytes:
        return bytes.fromhex(value)
    assert type(value) in (int, str, bool)
    return hint(value)


_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "Timestamp": (-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1),
    "Duration": (-(2**63), 2**63 - 1),
}


def random_message(chance: random.Random, cls: type) -> Any:
    """A message of ``cls`` with each field its default, at an edge, or anything."""
    return cls(
        **{name: _random_value(chance, hints(cls)[name], kind) for name, (_, kind) in wire_of(cls).items()}
    )


def _random_value(chance: random.Random, hint: Any, kind: wire.Kind) -> Any:
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return tuple(_random_value(chance, inner, kind) for _ in range(chance.choice([0, 0, 1, 3])))
    if get_origin(hint) in (Union, types.UnionType):
        return None if chance.random() < 0.4 else _random_value(chance, get_args(hint)[0], kind)
    if dataclasses.is_dataclass(hint):
        return random_message(chance, hint)  # type: ignore[arg-type]
    if issubclass(hint, IntEnum):
        return chance.choice(list(hint))
    if hint is bytes:
        return chance.randbytes(chance.choice([0, 1, 32, 200]))
    if hint is str:
        return "".join(chance.choices("a\x00é税😀", k=chance.choice([0, 1, 40])))
    if hint is bool:
        return chance.random() < 0.5
    low, high = _RANGES[kind.name]
    return chance.choice(
        [0, low, high, min(max(chance.choice([1, 127, 128, -1]), low), high), chance.randint(low, high)]
    )
