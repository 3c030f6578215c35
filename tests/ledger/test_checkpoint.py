"""Signed notes: the one byte form, other implementations' examples, and refusal of every other form."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger import checkpoint as notes
from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, VerificationError

CHAIN_ID = bytes(range(16))
ORIGIN = "demo/000102030405060708090a0b0c0d0e0f/embedded"
CHECKPOINT = notes.Checkpoint(origin=ORIGIN, size=70_000, root=bytes(range(32)))
LOG = Signer(bytes([1]) * 32)
WITNESSES = {f"demo/bank{number}": Signer(bytes([1 + number]) * 32) for number in (1, 2, 3)}
TIME_S = 1_750_000_000


def make_note(checkpoint: notes.Checkpoint = CHECKPOINT) -> bytes:
    return notes.encode_note(
        checkpoint,
        LOG.public_key,
        notes.sign_checkpoint(LOG, checkpoint),
        [
            notes.CoSignature(name, signer.public_key, TIME_S, notes.cosign(signer, checkpoint, TIME_S))
            for name, signer in WITNESSES.items()
        ],
    )


NOTE = make_note()


def refused(data: bytes, *codes: str) -> None:
    with pytest.raises(VerificationError) as caught:
        notes.decode_note(data)
    assert caught.value.code in codes


def test_the_bytes_are_those_of_the_specifications() -> None:
    text, _, signatures = NOTE.partition(b"\n\n")
    root = b64encode(bytes(range(32)))
    assert text + b"\n" == CHECKPOINT.text == ORIGIN.encode() + b"\n70000\n" + root + b"\n"
    lines = signatures.decode().split("\n")
    assert len(lines) == 5
    assert lines[-1] == ""
    name, signed = lines[0].removeprefix("\u2014 ").split(" ")
    signed = b64decode(signed)
    assert name == ORIGIN
    assert signed[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + LOG.public_key).digest()[:4]
    Ed25519PublicKey.from_public_bytes(LOG.public_key).verify(signed[4:], CHECKPOINT.text)
    for line, (expected, signer) in zip(lines[1:4], WITNESSES.items(), strict=True):
        name, signed = line.removeprefix("\u2014 ").split(" ")
        signed = b64decode(signed)
        assert name == expected
        assert signed[:4] == hashlib.sha256(name.encode() + b"\n\x04" + signer.public_key).digest()[:4]
        assert signed[4:12] == TIME_S.to_bytes(8, "big")
        message = b"cosignature/v1\ntime 1750000000\n" + CHECKPOINT.text
        Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signed[12:], message)


def test_a_note_reads_back() -> None:
    note = notes.decode_note(NOTE)
    assert note.checkpoint == CHECKPOINT
    assert [line.name for line in note.log_lines] == [ORIGIN]
    assert note.log_lines[0].key_id == notes.note_key_id(ORIGIN, notes.LOG_TYPE, LOG.public_key)
    notes.verify_log_signature(LOG.public_key, note.checkpoint, note.log_lines[0].signature)
    assert [line.name for line in note.cosign_lines] == list(WITNESSES)
    for line in note.cosign_lines:
        key = WITNESSES[line.name].public_key
        assert line.key_id == notes.note_key_id(line.name, notes.COSIGNATURE_TYPE, key)
        notes.verify_cosignature(key, note.checkpoint, line.time_s, line.signature)
        with pytest.raises(VerificationError, match="signature_invalid"):
            notes.verify_cosignature(key, note.checkpoint, line.time_s + 1, line.signature)


def test_the_specifications_example_note() -> None:
    """From C2SP tlog-cosignature; its keys are not published, so only the form can be checked."""
    data = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzG"
        "ku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyi"
        "n1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    note = notes.decode_note(data.encode())
    assert note.checkpoint.size == 20_852_163
    assert note.cosign_lines[0].time_s == 1_679_315_147


def test_another_implementations_key_and_signature() -> None:
    """The example of Go's golang.org/x/mod/sumdb/note: its key reads, and its signature verifies."""
    key = notes.parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        b"If you think cryptography is the answer to your problem,\n"
        b"then you don't know what your problem is.\n"
    )
    signed = b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert signed[:4] == key.key_id
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signed[4:], text)


def test_every_byte_changed_in_every_bit_refused_or_read_as_something_else() -> None:
    original = notes.decode_note(NOTE)
    for bit in range(8 * len(NOTE)):
        flipped = bytearray(NOTE)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            note = notes.decode_note(bytes(flipped))
        except VerificationError as error:
            if error.code not in ("malformed", "not_canonical"):
                raise
        else:
            assert note != original  # one form only: no two notes say the same


def test_every_cut_and_every_byte_left_out_or_repeated() -> None:
    original = notes.decode_note(NOTE)
    for at in range(len(NOTE)):
        for changed in (NOTE[:at], NOTE[:at] + NOTE[at + 1 :], NOTE[: at + 1] + NOTE[at:]):
            try:
                note = notes.decode_note(changed)
            except VerificationError:
                continue
            assert note != original
        if NOTE[at - 1 : at] != b"\n":
            refused(NOTE[:at], "malformed", "not_canonical")


LINES = NOTE.decode().split("\n")


def with_line(at: int, line: str) -> bytes:
    return "\n".join([*LINES[:at], line, *LINES[at + 1 :]]).encode()


def with_signed(at: int, change) -> bytes:
    prefix, signed = LINES[at].rsplit(" ", 1)
    return with_line(at, f"{prefix} {b64encode(change(b64decode(signed))).decode()}")


@pytest.mark.parametrize(
    "size", ["", "070000", "+70000", "-1", "70_000", " 70000", "70000 ", "7e4", "７0", "0x1"]
)
def test_sizes_not_in_their_one_form(size: str) -> None:
    refused(with_line(1, size), "not_canonical")


@pytest.mark.parametrize("size", [str(2**63), "9" * 19, "9" * 5_000])
def test_sizes_out_of_range(size: str) -> None:
    refused(with_line(1, size), "malformed")


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_sizes_at_the_edges(size: int) -> None:
    checkpoint = notes.Checkpoint(origin=ORIGIN, size=size, root=bytes(32))
    assert notes.decode_note(make_note(checkpoint)).checkpoint == checkpoint


@pytest.mark.parametrize("at", [2, 4, 5])
def test_base64_not_in_its_one_form(at: int) -> None:
    line = LINES[at]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stripped = line.rstrip("=")
    padding = len(line) - len(stripped)
    changes = [stripped, line + "=", line + "====", line[:-9] + "-" + line[-8:], line[:-9] + "!" + line[-8:]]
    if padding:
        last = alphabet.index(stripped[-1])
        changes.append(stripped[:-1] + alphabet[last + 1] + "=" * padding)  # a bit nobody reads is set
    for change in changes:
        if change != line:
            refused(with_line(at, change), "not_canonical")


def test_lengths_that_do_not_fit() -> None:
    refused(with_line(2, b64encode(bytes(31)).decode()), "malformed")
    refused(with_line(2, b64encode(bytes(33)).decode()), "malformed")
    for at in (4, 5):
        refused(with_signed(at, lambda signed: signed[:-1]), "malformed")
        refused(with_signed(at, lambda signed: signed + b"\x00"), "malformed")
    refused(with_signed(5, lambda signed: signed[:4] + b"\x80" + signed[5:]), "malformed")  # 2^63 seconds


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n" * 6,
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.replace(b"\n\n", b"\r\n\r\n"),
        NOTE + b"\n",
        NOTE[:-1],
        b"\n" + NOTE,
        NOTE.replace(b"\n\n", b"\n\n\n"),
        NOTE.replace(b"\n\n", b"\nextension\n\n"),
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace(b"\n\n", b"\nextension\n"),
        NOTE.replace("\u2014".encode(), b"-"),
        NOTE.replace("\u2014".encode(), "\u2013".encode()),
        NOTE.replace("\u2014 ".encode(), "\u2014".encode()),
        NOTE.replace("\u2014 ".encode(), "\u2014  ".encode()),
        NOTE.replace("\u2014 ".encode(), "\u2014\u00a0".encode()),
        NOTE.replace(b"demo/bank1 ", b"demo/bank1  "),
        NOTE.replace(b"demo/bank1 ", "demo/\u2003bank1 ".encode()),
        NOTE.replace(b"demo/bank1 ", b"demo/bank1\t"),
        NOTE.replace(b"demo/bank1 ", b"demo+bank1 "),
        NOTE.replace(b"demo/bank1 ", b" "),
        NOTE.replace(b"demo/bank1 ", "demo/bank1\u2028 ".encode()),
        NOTE.replace(b"demo/bank1", b"demo/\x00bank1"),
        NOTE.replace(b"demo/bank1", b"demo/\xff\xfe"),
        CHECKPOINT.text,
        CHECKPOINT.text + b"\n",
        "\n".join([*LINES[:4], *LINES[5:]]).encode(),  # no log line
        "\n".join([*LINES[:5], LINES[4], *LINES[5:]]).encode(),  # two
        "\n".join([*LINES[:4], LINES[5], LINES[4], *LINES[6:]]).encode(),  # not first
        b"\xef\xbb\xbf" + NOTE[:40],
        bytes(limits.checkpoint_bytes_max + 1),
    ],
)
def test_other_shapes_refused(data: bytes) -> None:
    assert data != NOTE
    refused(data, "malformed")


def test_larger_than_the_limit_refused() -> None:
    line = NOTE.split(b"\n")[5] + b"\n"
    count = (limits.checkpoint_bytes_max - len(NOTE)) // len(line)
    assert len(notes.decode_note(NOTE + line * count).cosign_lines) == 3 + count
    refused(NOTE + line * (count + 1), "malformed")


def encoded_again(note: notes.SignedCheckpoint) -> bytes:
    """The bytes of a decoded note, written independently."""
    signed = [(each.name, each.key_id + each.signature) for each in note.log_lines]
    signed += [
        (each.name, each.key_id + each.time_s.to_bytes(8, "big") + each.signature)
        for each in note.cosign_lines
    ]
    lines = [f"\u2014 {name} {b64encode(data).decode()}\n" for name, data in signed]
    return note.checkpoint.text + b"\n" + "".join(lines).encode()


@given(st.integers(0, len(NOTE)), st.binary(max_size=8), st.integers(0, 8))
@settings(max_examples=300, deadline=None)
def test_any_damage_is_refused_or_encodes_as_it_came(at: int, inserted: bytes, dropped: int) -> None:
    damaged = NOTE[:at] + inserted + NOTE[at + dropped :]
    try:
        note = notes.decode_note(damaged)
    except VerificationError:
        return
    assert encoded_again(note) == damaged


@given(st.binary(max_size=200))
def test_any_bytes_refused_cleanly(data: bytes) -> None:
    refused(data, "malformed", "not_canonical")


def test_encoding_refuses_what_would_not_decode() -> None:
    signature = notes.sign_checkpoint(LOG, CHECKPOINT)
    for name, time_s, length in [
        ("demo/a b", 1, 64),
        ("demo/a+b", 1, 64),
        ("demo/a", -1, 64),
        ("demo/a", 1, 63),
    ]:
        with pytest.raises(FormatError):
            notes.encode_note(
                CHECKPOINT, LOG.public_key, signature, [(name, LOG.public_key, time_s, bytes(length))]
            )
    with pytest.raises(FormatError):
        notes.encode_note(
            notes.Checkpoint(origin="a\nb", size=1, root=bytes(32)), LOG.public_key, signature, []
        )


# --- names and keys -------------------------------------------------------------------------


def test_origins() -> None:
    assert notes.make_origin("demo", CHAIN_ID, "embedded") == ORIGIN
    assert notes.parse_origin(ORIGIN) == notes.Origin(network="demo", chain_id=CHAIN_ID, engine="embedded")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "demo",
        ORIGIN + "/",
        ORIGIN + "\n",
        ORIGIN.upper(),
        ORIGIN.replace("0e0f", "0E0F"),
        ORIGIN.replace("0e0f", "0e0"),
        ORIGIN.replace("0e0f", "0e0f0"),
        ORIGIN.replace("demo", ""),
        ORIGIN.replace("demo", "1demo"),
        ORIGIN.replace("demo", "d" * 64),
        ORIGIN.replace("demo", "démo"),
        ORIGIN.replace("embedded", ""),
        ORIGIN.replace("embedded", "a.b"),
        ORIGIN.replace("embedded", "e" * 33),
    ],
)
def test_other_origins_refused(origin: str) -> None:
    with pytest.raises(FormatError, match="got"):
        notes.parse_origin(origin)


def test_cosigner_names() -> None:
    assert notes.cosigner_name("demo.example", "bank-1") == "demo.example/bank-1"
    for network, name in [
        ("demo", "Bank"),
        ("demo", "a/b"),
        ("", "bank"),
        ("demo", "a.b"),
        ("demo", "b" * 33),
    ]:
        with pytest.raises(FormatError, match="got"):
            notes.cosigner_name(network, name)


def test_vkeys() -> None:
    text = notes.vkey(ORIGIN, notes.LOG_TYPE, LOG.public_key)
    assert re.fullmatch(re.escape(ORIGIN) + r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}", text)
    key = notes.parse_vkey(text)
    assert (key.name, key.type, key.public_key, key.text) == (ORIGIN, 1, LOG.public_key, text)


def test_other_vkeys_refused() -> None:
    text = notes.vkey("demo/bank1", notes.COSIGNATURE_TYPE, LOG.public_key)
    name, key_id, material = text.split("+", 2)
    wrong = [
        "",
        name,
        f"{name}+{key_id}",
        f"+{key_id}+{material}",
        f"{name} x+{key_id}+{material}",
        f"{name}x+{key_id}+{material}",
        f"{name}+{key_id.upper()}x+{material}",
        f"{name}+0{key_id}+{material}",
        f"{name}+00000000+{material}",
        f"{name}+{key_id}+{material}=",
        f"{name}+{key_id}+{material[:-1]}",
        f"{name}+{key_id}+{material[:-4]}",
        f"{name}+{key_id}+{material}\n",
        f"{name}+{key_id}+-{material[1:]}",
        notes.vkey(name, 2, LOG.public_key),
        notes.vkey(name, 4, LOG.public_key[:31]),
        notes.vkey(name, 4, LOG.public_key + b"\x00"),
        notes.vkey("a\u00a0b", 4, LOG.public_key),
    ]
    for each in wrong:
        with pytest.raises(FormatError):
            notes.parse_vkey(each)
    for at in range(len(text)):
        for bit in range(7):
            changed = text[:at] + chr(ord(text[at]) ^ 1 << bit) + text[at + 1 :]
            with pytest.raises(FormatError):
                notes.parse_vkey(changed)


def test_validators_hash() -> None:
    vkeys = [notes.vkey(name, 4, signer.public_key) for name, signer in WITNESSES.items()]
    packed = b"\x93" + b"".join(b"\xd9" + bytes([len(each)]) + each.encode() for each in sorted(vkeys))
    expected = hashlib.sha256(b"taxledger/validators/1" + packed).digest()
    assert notes.validators_hash(vkeys) == notes.validators_hash(reversed(vkeys)) == expected
