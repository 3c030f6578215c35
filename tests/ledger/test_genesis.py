"""Leaf 0: one form; a network that could not start is refused with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chainkit import client, make_genesis, validator

from taxledger.ledger import canonical, hashing, statekeys
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.genesis import (
    chain_id,
    decode_genesis,
    encode_genesis,
    genesis_writes,
    origin_of,
)
from taxledger.ledger.schemas import encode_schema

GENESIS = make_genesis()
MEMBERS = GENESIS.members


def test_what_is_encoded_decodes_to_the_same():
    leaf = encode_genesis(GENESIS)
    assert leaf[0] == 0x97
    assert decode_genesis(leaf) == GENESIS
    assert chain_id(leaf) == hashing.sha256(leaf)[:16]
    assert origin_of(GENESIS, leaf) == f"test.net/{chain_id(leaf).hex()}/embedded"
    assert [member.number for member in GENESIS.validators] == [1, 2, 3, 4]


REFUSED = {
    "network": {"network": "Test"},
    "network with a slash": {"network": "a/b"},
    "engine": {"engine": ""},
    "time": {"time_ms": -1},
    "time as bool": {"time_ms": True},
    "suite": {"suite": 2},
    "nobody": {"members": ()},
    "no validator": {"members": MEMBERS[4:]},
    "only a suspended validator": {"members": (validator(1, status=2),)},
    "unsorted": {"members": MEMBERS[::-1]},
    "a number twice": {"members": (*MEMBERS, MEMBERS[-1])},
    "a name twice": {"members": (*MEMBERS, client(9, "tax"))},
    "a key twice": {"members": (*MEMBERS, client(9, "new", transaction_key=MEMBERS[0].vote_key))},
    "a height": {"members": (replace(MEMBERS[0], height=1), *MEMBERS[1:])},
    "no schema": {"schemas": (b"\x90",)},
    "a schema twice": {"schemas": (encode_schema(BUILTIN[0]),) * 2},
    "schemas as text": {"schemas": ("x",)},
    "parameter unsorted": {"parameters": (("b", 1), ("a", 1))},
    "parameter twice": {"parameters": (("a", 1), ("a", 2))},
    "parameter name": {"parameters": (("A", 1),)},
    "parameter as bool": {"parameters": (("a", True),)},
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_network_that_could_not_start_is_refused(what):
    with pytest.raises(InputError):
        encode_genesis(replace(GENESIS, **REFUSED[what]))


def test_other_shapes_are_refused():
    value = canonical.decode(encode_genesis(GENESIS))
    for wrong in (value[:-1], [True, *value[1:]], [1, "block", *value[2:]], [*value[:5], [[1]], value[6]], 1):
        with pytest.raises(FormatError):
            decode_genesis(canonical.encode(wrong))


def test_any_cut_or_changed_byte_is_refused_or_another_network():
    leaf = encode_genesis(make_genesis(1))
    for at in range(len(leaf)):
        with pytest.raises(InputError):
            decode_genesis(leaf[:at])
        changed = leaf[:at] + bytes([leaf[at] ^ 1]) + leaf[at + 1 :]
        try:
            other = decode_genesis(changed)
        except InputError:
            continue
        assert encode_genesis(other) == changed
        assert chain_id(changed) != chain_id(leaf)


def test_what_the_map_holds_before_the_first_block():
    writes = genesis_writes(GENESIS)
    assert len(writes) == len(MEMBERS) + len(BUILTIN) + 1
    document = encode_schema(BUILTIN[2])
    assert writes[statekeys.schema_key(5, 1)] == canonical.encode([hashing.sha256(document), 0])
    assert writes[statekeys.parameter_key("answer.age_s")] == canonical.encode([600, 0])
