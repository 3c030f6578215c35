"""The engine's messages: byte for byte those of its own types, and nothing but errors of ours for other bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from abcikit import from_json, random_message, wire_of

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, LimitError
from taxledger.nodes.ordering.cometbft import messages as abci
from taxledger.nodes.ordering.cometbft import values, wire

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "abci" / "vectors.json").read_text("utf-8")
)
MESSAGES = [*abci.REQUESTS.values(), *abci.RESPONSES.values()]


def class_of(name: str) -> type:
    for side in ("Request", "Response"):
        if name.startswith(side):
            cls: type = getattr(abci, name.removeprefix(side) + side)
            return cls
    raise AssertionError(name)


def codec(cls: type) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    if cls.__name__.endswith("Request"):
        return abci.encode_request, abci.decode_request
    return abci.encode_response, abci.decode_response


def body_of(framed: bytes) -> bytes:
    size, at = wire.read_varint(framed, 0)
    assert size == len(framed) - at
    return framed[at:]


# --- the engine's own bytes ------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: f"{each['message']}-{each['filled']}")
def test_vectors_both_ways(vector: dict[str, Any]) -> None:
    cls = class_of(vector["message"])
    encode, decode = codec(cls)
    message, framed = from_json(cls, vector["fields"]), bytes.fromhex(vector["hex"])
    assert abci.frame(encode(message)) == framed
    assert decode(body_of(framed)) == message


def test_every_message_has_vectors() -> None:
    assert {class_of(each["message"]) for each in VECTORS} == set(MESSAGES)
    assert len(VECTORS) == 5 * len(MESSAGES)


# --- identity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_decoding_gives_what_was_encoded(cls: type) -> None:
    encode, decode = codec(cls)
    for seed in range(60):
        message = random_message(random.Random(f"{cls.__name__} {seed}"), cls)
        assert decode(encode(message)) == message, f"seed {seed}"


# --- what proto3 allows ------------------------------------------------------------------------------


def field(number: int, wire_type: int, raw: bytes | int) -> bytes:
    body = wire.encode_varint(raw) if type(raw) is int else raw
    size = wire.encode_varint(len(body)) if wire_type == 2 else b""
    return wire.encode_varint(number << 3 | wire_type) + size + bytes(body)  # type: ignore[arg-type]


def decoded(cls: type, body: bytes) -> Any:
    return wire.decode_message(cls, body)


def test_unknown_fields_are_skipped_wherever_they_stand() -> None:
    junk = (
        field(100, 0, 2**64 - 1)
        + field(101, 1, bytes(8))
        + field(102, 2, b"\xff" * 9)
        + field(103, 5, bytes(4))
    )
    body = junk + field(1, 2, b"tx") + junk + field(2, 0, 1) + junk
    assert decoded(abci.CheckTxRequest, body) == abci.CheckTxRequest(tx=b"tx", type=abci.CheckTxType.RECHECK)
    nested = field(1, 2, junk + field(3, 0, 7) + junk)
    assert decoded(values.VoteInfo, nested) == values.VoteInfo(validator=values.Validator(power=7))


def test_numbers_come_packed_or_not() -> None:
    one_by_one = b"".join(field(2, 0, each) for each in (3, 300))
    packed = field(2, 2, b"\x05\xac\x02")
    assert decoded(abci.ApplySnapshotChunkResponse, one_by_one + packed).refetch_chunks == (3, 300, 5, 300)
    assert decoded(abci.ApplySnapshotChunkResponse, field(2, 2, b"")).refetch_chunks == ()


def test_the_last_number_wins_and_parts_of_a_message_are_merged() -> None:
    assert decoded(abci.CommitResponse, field(3, 0, 5) + field(3, 0, 6)).retain_height == 6
    parts = field(1, 2, field(1, 2, b"a") + field(3, 0, 1)) + field(1, 2, field(3, 0, 2))
    assert decoded(values.VoteInfo, parts).validator == values.Validator(address=b"a", power=2)
    time = field(1, 2, field(1, 0, 5)) + field(1, 2, field(2, 0, 6))
    assert decoded(abci.InitChainRequest, time).time_ns == 5_000_000_006


def test_numbers_are_cast_and_varints_may_be_long() -> None:
    assert decoded(
        abci.ExtendVoteRequest, field(5, 2, field(1, 0, 2**32 + 2**31))
    ).proposed_last_commit.round == -(2**31)
    assert decoded(abci.QueryResponse, field(1, 0, 2**32 + 4)).code == 4
    assert decoded(abci.QueryRequest, field(4, 0, 2)).prove is True
    assert decoded(abci.CommitResponse, b"\x18" + b"\x85" + b"\x80" * 8 + b"\x00").retain_height == 5


# --- what nobody writes ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[type, bytes]] = {
    "field number 0": (abci.CommitResponse, b"\x00\x01"),
    "field number 2^29": (abci.CommitResponse, wire.encode_varint(2**29 << 3) + b"\x01"),
    "start of a group": (abci.CommitResponse, b"\x0b"),
    "end of a group": (abci.CommitResponse, b"\x0c"),
    "wire type 6": (abci.CommitResponse, b"\x0e"),
    "a varint of 65 bits": (abci.CommitResponse, b"\x18" + b"\xff" * 9 + b"\x02"),
    "a varint of eleven bytes": (abci.CommitResponse, b"\x18" + b"\x80" * 10 + b"\x00"),
    "a varint cut off": (abci.CommitResponse, b"\x18\x80"),
    "a varint that is missing": (abci.CommitResponse, b"\x18"),
    "a length beyond the data": (abci.EchoRequest, b"\x0a\x02a"),
    "an enormous length": (abci.EchoRequest, b"\x0a" + b"\xff" * 9 + b"\x01a"),
    "eight bytes cut off": (abci.EchoRequest, b"\x09" + bytes(7)),
    "four bytes cut off": (abci.EchoRequest, b"\x0d" + bytes(3)),
    "no UTF-8": (abci.EchoRequest, b"\x0a\x02\xc3\x28"),
    "a surrogate": (abci.EchoRequest, b"\x0a\x03\xed\xa0\x80"),
    "an unknown enumerator": (abci.CheckTxRequest, b"\x10\x02"),
    "nanos of a second": (abci.InitChainRequest, field(1, 2, field(2, 0, 10**9))),
    "negative nanos": (abci.InitChainRequest, field(1, 2, field(2, 0, 2**64 - 1))),
    "the year 10000": (abci.InitChainRequest, field(1, 2, field(1, 0, 253_402_300_800))),
    "a duration of two signs": (values.EvidenceParams, field(2, 2, field(1, 0, 1) + field(2, 0, 2**64 - 1))),
    "a key of another type": (abci.ValidatorUpdate, field(1, 2, field(2, 2, bytes(33)))),
    "packed numbers cut off": (abci.ApplySnapshotChunkResponse, field(2, 2, b"\x80")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    cls, body = REFUSED[what]
    with pytest.raises(FormatError):
        decoded(cls, body)


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_every_field_of_another_wire_type_is_refused(cls: type) -> None:
    samples: dict[int, bytes | int] = {0: 1, 1: bytes(8), 2: b"", 5: bytes(4)}
    for name, (number, kind) in wire_of(cls).items():
        for wire_type, raw in samples.items():
            is_packed = name == "refetch_chunks" and wire_type == 2
            if wire_type != kind.wire_type and not is_packed:
                with pytest.raises(FormatError, match=rf"{cls.__name__}.{name}: expected wire type"):
                    decoded(cls, field(number, wire_type, raw))


@pytest.mark.parametrize("decode", [abci.decode_request, abci.decode_response])
def test_envelopes(decode: Callable[[bytes], Any]) -> None:
    echo = abci.encode_request(abci.EchoRequest()) if decode is abci.decode_request else b"\x12\x00"
    decode(echo)
    for wrong in (
        b"",
        echo + echo,
        field(10, 2, b""),
        field(21, 2, b"")[:1],
        field(100, 2, b""),
        field(1, 0, 0),
    ):
        with pytest.raises(FormatError):
            decode(wrong)
    with pytest.raises(LimitError):
        decode(bytes(limits.engine_message_bytes_max + 1))


def test_a_mempool_of_our_own_is_refused() -> None:
    for number in (21, 22):
        with pytest.raises(FormatError, match=f"field {number}"):
            abci.decode_request(field(number, 2, b""))


@pytest.mark.parametrize(
    "message",
    [
        abci.CommitResponse(retain_height=2**63),
        abci.QueryResponse(code=-1),
        abci.ExecTxResult(code=2**32),
        abci.InfoResponse(app_version=2**64),
        abci.InitChainRequest(time_ns=253_402_300_800 * 10**9),
        abci.CommitInfo(round=2**31),
    ],
)
def test_numbers_out_of_range_are_not_written(message: Any) -> None:
    with pytest.raises(FormatError):
        wire.encode_message(message)


# --- any bytes -----------------------------------------------------------------------------------------


def test_cut_at_each_length() -> None:
    for vector in VECTORS:
        _, decode = codec(class_of(vector["message"]))
        body = body_of(bytes.fromhex(vector["hex"]))
        for size in range(len(body)):
            with pytest.raises(FormatError):
                decode(body[:size])


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_give_a_message_or_an_error_of_ours(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    bodies = [(codec(class_of(each["message"])), body_of(bytes.fromhex(each["hex"]))) for each in VECTORS]
    taken = 0
    for _ in range(4_000):
        (encode, decode), body = chance.choice(bodies)
        changed = bytearray(body if chance.random() < 0.95 else chance.randbytes(chance.randrange(60)))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(changed) + 1)
            match chance.randrange(4):
                case 0 if at < len(changed):
                    changed[at] ^= 1 << chance.randrange(8)
                case 1:
                    del changed[at : at + chance.randint(1, 8)]
                case 2:
                    changed[at:at] = chance.randbytes(chance.randint(1, 8))
                case _:
                    _, other = chance.choice(bodies)
                    changed[at:at] = other[: chance.randrange(len(other) + 1)]
        try:
            message = decode(bytes(changed))
        except FormatError:
            continue
        taken += 1
        assert decode(encode(message)) == message
    assert taken > 50
