"""Members' entries: one form, strictly checked; who validates follows from them alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chainkit import client, make_genesis, signer, validator

from taxledger.ledger import canonical, checkpoint, statekeys
from taxledger.ledger.errors import EncodingError, FormatError, InvariantError
from taxledger.ledger.genesis import genesis_writes
from taxledger.ledger.members import (
    cosign_vkey,
    decode_member,
    encode_member,
    member_entry,
    member_of,
    members_of,
    parse_entry,
    validators_hash_of,
    validators_of,
)


class State(dict):
    def scan(self, prefix):
        return iter(sorted((key, value) for key, value in self.items() if key.startswith(prefix)))


def test_what_is_encoded_decodes_to_the_same():
    for member in (validator(1, height=7, hpke_key=b"h" * 32), client(2, "a-1", kinds=(1, 255))):
        assert decode_member(member.number, encode_member(member)) == member


def entry_with(at: int, value: object) -> list[object]:
    entry = member_entry(validator(1))
    entry[at] = value
    return entry


WRONG = {
    "version": (0, 2),
    "version as bool": (0, True),
    "name empty": (1, ""),
    "name upper": (1, "Bank"),
    "name newline": (1, "bank\n"),
    "name not ASCII": (1, "bänk"),
    "name too long": (1, "a" * 33),
    "name of a policy word": (1, "validators"),
    "status 0": (2, 0),
    "status as bool": (2, True),
    "role 4": (3, 4),
    "role client with keys": (3, 3),
    "kinds unsorted": (4, [2, 1]),
    "kinds twice": (4, [2, 2]),
    "kind 0": (4, [0]),
    "kind as bool": (4, [True]),
    "transaction key nil": (5, None),
    "transaction key short": (5, bytes(31)),
    "vote key nil": (6, None),
    "log key is the vote key": (7, signer(1, "vote").public_key),
    "tls hash short": (9, bytes(31)),
    "hpke key as text": (10, "x" * 32),
    "height negative": (11, -1),
    "height as bool": (11, False),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_entries_are_refused(what):
    with pytest.raises(FormatError):
        parse_entry(1, entry_with(*WRONG[what]))


@pytest.mark.parametrize("number", [0, -1, 65_536, True, "1", None])
def test_other_numbers_are_refused(number):
    with pytest.raises(FormatError):
        parse_entry(number, member_entry(validator(1)))
    assert member_of(State(), number) is None


def test_other_bytes_are_refused():
    with pytest.raises(EncodingError):
        decode_member(1, encode_member(validator(1)) + b"\x00")
    with pytest.raises(FormatError):
        decode_member(1, canonical.encode(member_entry(validator(1))[:-1]))


def test_who_validates():
    state = State(genesis_writes(make_genesis()))
    assert [member.number for member in members_of(state)] == [1, 2, 3, 4, 5, 6, 7]
    assert [member.number for member in validators_of(state)] == [1, 2, 3, 4]
    for changes in ({"status": 2}, {"status": 3}):
        state[statekeys.member_key(2)] = encode_member(validator(2, **changes))
        assert [member.number for member in validators_of(state)] == [1, 3, 4]


def test_the_validators_hash_is_that_of_their_vkeys_in_any_order():
    members = [validator(number) for number in (1, 2, 3, 4)]
    vkeys = [checkpoint.vkey(f"n/{m.name}", 4, m.cosign_key) for m in members]
    assert validators_hash_of("n", members[::-1]) == checkpoint.validators_hash(vkeys)
    assert validators_hash_of("n", members) != validators_hash_of("m", members)
    renamed = [replace(members[0], name="other"), *members[1:]]
    assert validators_hash_of("n", renamed) != validators_hash_of("n", members)
    with pytest.raises(InvariantError):
        cosign_vkey("n", client(9, "bank"))
