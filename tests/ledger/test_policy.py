"""The policy file, and verification of a checkpoint in the order the protocol fixes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger import checkpoint as notes
from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InvariantError, LimitError, VerificationError
from taxledger.ledger.policy import (
    Policy,
    check_origin,
    decode_policy,
    encode_policy,
    quorum,
    verify_checkpoint,
    verify_signatures,
)

ORIGIN = notes.make_origin("demo", bytes(16), "embedded")
NAMES = ["tax", "bank1", "bank2", "bank3"]
LOG_KEYS = [Signer(bytes([10 + number]) * 32) for number in range(4)]
WITNESSES = {name: Signer(bytes([20 + number]) * 32) for number, name in enumerate(NAMES)}
STRANGER = Signer(bytes([99]) * 32)
DATA = encode_policy(
    origin=ORIGIN,
    log_keys=[signer.public_key for signer in LOG_KEYS],
    witnesses={name: signer.public_key for name, signer in WITNESSES.items()},
)
POLICY = decode_policy(DATA)
LINES = DATA.decode().split("\n")[:-1]
CHECKPOINT = notes.Checkpoint(origin=ORIGIN, size=12, root=bytes(32))
TIME_S = 1_750_000_000
NOW_MS = TIME_S * 1_000 + 5_000
AGE_MS_MAX = 600_000


def test_quorum() -> None:
    assert [quorum(n) for n in range(1, 11)] == [1, 2, 3, 3, 4, 5, 5, 6, 7, 7]
    for n in range(1, 100):
        assert quorum(n) <= n
        assert 3 * quorum(n) > 2 * n >= 3 * (quorum(n) - 1)


# --- the file -------------------------------------------------------------------------------


def test_a_policy_reads_back() -> None:
    assert POLICY.origin == ORIGIN
    assert [key.public_key for key in POLICY.log_keys] == [signer.public_key for signer in LOG_KEYS]
    assert {name: key.public_key for name, key in POLICY.witnesses.items()} == {
        name: signer.public_key for name, signer in WITNESSES.items()
    }
    assert POLICY.threshold == 3
    assert POLICY.validators_hash == notes.validators_hash(
        notes.vkey(f"demo/{name}", 4, signer.public_key) for name, signer in WITNESSES.items()
    )
    assert LINES[-2:] == ["group validators 3 tax bank1 bank2 bank3", "quorum validators"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 32])
def test_policies_of_any_number_of_validators(count: int) -> None:
    keys = [Signer(number.to_bytes(32, "big")).public_key for number in range(1, 2 * count + 1)]
    witnesses = {f"m{number}": key for number, key in enumerate(keys[count:])}
    policy = decode_policy(encode_policy(origin=ORIGIN, log_keys=keys[:count], witnesses=witnesses))
    assert policy.threshold == quorum(count)


def test_everything_c2sp_allows_is_read() -> None:
    text = "\n".join(
        [
            "# a comment with 中文 and a # in it",
            "",
            " \t ",
            "\t# another",
            *(f"  {line}\t https://example.com/{at} " for at, line in enumerate(LINES[4:8])),
            "group\tvalidators \t 3  " + "  ".join(reversed(NAMES)),
            "quorum  validators\t",
            *(f"\t{line} https://例.com/" for line in LINES[:4]),
            "# end",
            "",
        ]
    )
    policy = decode_policy(text.encode())
    assert policy == POLICY
    assert policy.validators_hash == POLICY.validators_hash


def test_any_and_all_where_they_mean_the_quorum() -> None:
    one = [LINES[0], LINES[4], "group validators any tax", "quorum validators", ""]
    assert decode_policy("\n".join(one).encode()).threshold == 1
    two = [LINES[0], *LINES[4:6], "group validators all tax bank1", "quorum validators", ""]
    assert decode_policy("\n".join(two).encode()).threshold == 2


def changed(at: int, *lines: str) -> bytes:
    return "".join(f"{line}\n" for line in [*LINES[:at], *lines, *LINES[at + 1 :]]).encode()


def own_vkey(name: str, type_: int = 4) -> str:
    return notes.vkey(name, type_, STRANGER.public_key)


OTHER_ORIGIN = notes.make_origin("demo", bytes(16), "cometbft")


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (DATA.replace(b"\n", b"\r\n"), 1, "0x0d"),
        (changed(3, LINES[3] + "\r"), 4, "0x0d"),
        (changed(3, LINES[3] + "\x0b"), 4, "0x0b"),
        (changed(3, LINES[3] + "\x7f"), 4, "0x7f"),
        (DATA + b"\x00\n", 11, "0x00"),
        (DATA[:-1], 10, "line feed"),
        (DATA + b"#", 11, "line feed"),
        (b"", 1, "a log line"),
        (b"\n", 2, "a log line"),
        (changed(2, "logs x"), 3, "log, witness, group or quorum"),
        (changed(2, "LOG x"), 3, "log, witness, group or quorum"),
        (changed(2, LINES[2].replace(" ", "\u00a0")), 3, "log, witness, group or quorum"),
        (changed(2, "log"), 3, "0 items"),
        (changed(2, LINES[2] + " url more"), 3, "3 items"),
        (changed(2, LINES[2] + "="), 3, "canonical base64"),
        (changed(2, LINES[2][:-4]), 3, "32 key bytes"),
        (changed(2, LINES[2].replace("demo", "dem0")), 3, "key id"),
        (changed(2, f"log {own_vkey(ORIGIN, 4)}"), 3, "type 1"),
        (changed(2, f"log {own_vkey(OTHER_ORIGIN, 1)}"), 3, "the one origin"),
        (changed(0, f"log {own_vkey('example.com/log', 1)}"), 1, "an origin"),
        (changed(2, LINES[1]), 3, "each key once"),
        (changed(2, f"log {notes.vkey(ORIGIN, 1, WITNESSES['tax'].public_key)}"), 5, "each key once"),
        (changed(5, LINES[5].replace("witness bank1 ", "witness tax ")), 6, "not taken"),
        (changed(5, LINES[5].replace("witness bank1 ", "witness none ")), 6, "not taken"),
        (changed(5, LINES[5].replace("witness bank1 ", "witness validators ")), 6, "not taken"),
        (changed(5, LINES[5].replace("witness bank1 ", "witness Bank1 ")), 6, "member name"),
        (changed(5, LINES[5].replace("witness bank1 ", "witness b\u00e4nk ")), 6, "member name"),
        (changed(5, "witness bank1"), 6, "1 items"),
        (changed(5, LINES[5] + " a b"), 6, "4 items"),
        (changed(5, f"witness bank1 {own_vkey('demo/bank1', 1)}"), 6, "type 4"),
        (changed(5, f"witness bank1 {own_vkey('demo/bank9')}"), 6, "demo/bank1"),
        (changed(5, f"witness bank1 {own_vkey('other/bank1')}"), 6, "demo/bank1"),
        (changed(5, f"witness bank1 {notes.vkey('demo/bank1', 4, WITNESSES['tax'].public_key)}"), 6, "once"),
        (changed(5, f"witness bank1 {notes.vkey('demo/bank1', 4, LOG_KEYS[0].public_key)}"), 6, "once"),
        (changed(8, "group validators 2 tax bank1 bank2 bank3"), 9, "a threshold of 3"),
        (changed(8, "group validators 4 tax bank1 bank2 bank3"), 9, "a threshold of 3"),
        (changed(8, "group validators 03 tax bank1 bank2 bank3"), 9, "a threshold of 3"),
        (changed(8, "group validators +3 tax bank1 bank2 bank3"), 9, "a threshold of 3"),
        (changed(8, "group validators all tax bank1 bank2 bank3"), 9, "a threshold of 3"),
        (changed(8, "group validators any tax bank1 bank2 bank3"), 9, "a threshold of 3"),
        (changed(8, "group validators 3 tax bank1 bank2"), 8, "every witness in the group"),
        (changed(8, "group validators 3 tax bank1 bank2 bank2"), 9, "once"),
        (changed(8, "group validators 3 tax bank1 bank2 bank4"), 9, "lines before"),
        (changed(8, "group validators 3 tax bank1 bank2 none"), 9, "lines before"),
        (changed(8, "group validators 3"), 9, "2 items"),
        (changed(8, "group others 3 tax bank1 bank2 bank3"), 9, "the one group"),
        (changed(8, LINES[8], LINES[8]), 10, "one group"),
        (changed(9, "quorum tax"), 10, "quorum validators"),
        (changed(9, "quorum none"), 10, "quorum validators"),
        (changed(9, "quorum"), 10, "quorum validators"),
        (changed(9, "quorum validators validators"), 10, "quorum validators"),
        (changed(9, LINES[9], LINES[9]), 11, "one quorum line"),
        (changed(9), 10, "'quorum validators'"),
        (changed(8), 9, "quorum validators"),
        (changed(7, LINES[8], LINES[7]), 8, "lines before"),
        (b"".join(f"{line}\n".encode() for line in LINES[4:]), 7, "a log line"),
        (b"".join(f"{line}\n".encode() for line in LINES[:8]), 9, "group validators"),
    ],
)
def test_other_policies_refused_with_line_expected_and_got(data: bytes, line: int, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode_policy(data)
    message = str(caught.value)
    assert message.startswith(f"policy line {line}: expected ")
    assert ", got " in message
    assert text in message


def test_limits() -> None:
    comment = b"#" + b"x" * (limits.policy_bytes_max - len(DATA) - 2) + b"\n"
    assert decode_policy(DATA + comment) == POLICY
    with pytest.raises(LimitError):
        decode_policy(DATA + b"x" + comment)
    keys = [Signer(number.to_bytes(32, "big")).public_key for number in range(1, 40)]
    with pytest.raises(FormatError, match="at most 32 log"):
        encode_policy(origin=ORIGIN, log_keys=keys[:33], witnesses={"a": keys[33]})
    with pytest.raises(FormatError, match="at most 32 witnesses"):
        encode_policy(
            origin=ORIGIN, log_keys=keys[:1], witnesses={f"a{at}": key for at, key in enumerate(keys[1:34])}
        )


def test_encoding_refuses_what_would_not_decode() -> None:
    key = STRANGER.public_key
    for origin, log_keys, witnesses in [
        ("demo", [key], {"a": LOG_KEYS[0].public_key}),
        (ORIGIN, [], {"a": key}),
        (ORIGIN, [key], {}),
        (ORIGIN, [key], {"a": key}),
        (ORIGIN, [key], {"A": LOG_KEYS[0].public_key}),
    ]:
        with pytest.raises(FormatError):
            encode_policy(origin=origin, log_keys=log_keys, witnesses=witnesses)


def test_every_bit_flipped_is_refused_or_changes_no_trust() -> None:
    """What survives is a flip within white space, or one in the spelling of nothing that counts."""
    for bit in range(8 * len(DATA)):
        flipped = bytearray(DATA)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            policy = decode_policy(bytes(flipped))
        except FormatError as error:
            assert str(error).startswith("policy line ")  # noqa: PT017
        else:
            assert policy == POLICY


@given(st.integers(0, len(DATA)), st.binary(max_size=8), st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_any_damage_is_refused_cleanly_or_changes_no_trust(at: int, inserted: bytes, dropped: int) -> None:
    try:
        policy = decode_policy(DATA[:at] + inserted + DATA[at + dropped :])
    except FormatError:
        return
    assert policy.origin == ORIGIN
    assert set(policy.log_keys) <= set(POLICY.log_keys)
    assert dict(policy.witnesses) == dict(POLICY.witnesses)


def test_a_policy_that_contradicts_itself() -> None:
    with pytest.raises(InvariantError):
        replace(POLICY, threshold=2)
    with pytest.raises(InvariantError):
        replace(POLICY, witnesses={}, threshold=1)


# --- verification -----------------------------------------------------------------------------


def make_note(
    *,
    checkpoint: notes.Checkpoint = CHECKPOINT,
    log: Signer = LOG_KEYS[0],
    signers: list[tuple[str, Signer, int]] | None = None,
) -> notes.SignedCheckpoint:
    if signers is None:
        signers = [(name, WITNESSES[name], TIME_S) for name in NAMES[:3]]
    cosignatures = [
        (f"demo/{name}", signer.public_key, time_s, notes.cosign(signer, checkpoint, time_s))
        for name, signer, time_s in signers
    ]
    signature = notes.sign_checkpoint(log, checkpoint)
    return notes.decode_note(notes.encode_note(checkpoint, log.public_key, signature, cosignatures))


def witness(name: str, time_s: int = TIME_S) -> tuple[str, Signer, int]:
    return name, WITNESSES[name], time_s


def refused(
    code: str, note: notes.SignedCheckpoint, *, policy: Policy = POLICY, now_ms: int = NOW_MS
) -> None:
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(policy, note, now_ms=now_ms, age_ms_max=AGE_MS_MAX)
    assert caught.value.code == code


def test_any_quorum_and_any_log_key_verify() -> None:
    for missing in NAMES:
        for log in LOG_KEYS:
            note = make_note(log=log, signers=[witness(name) for name in NAMES if name != missing])
            assert verify_checkpoint(POLICY, note, now_ms=NOW_MS, age_ms_max=AGE_MS_MAX) == 5_000


def verify_bytes(data: bytes) -> None:
    verify_checkpoint(POLICY, notes.decode_note(data), now_ms=NOW_MS, age_ms_max=AGE_MS_MAX)


def test_every_bit_of_a_note_flipped_refused() -> None:
    checkpoint = CHECKPOINT
    data = notes.encode_note(
        checkpoint,
        LOG_KEYS[0].public_key,
        notes.sign_checkpoint(LOG_KEYS[0], checkpoint),
        [
            (
                f"demo/{name}",
                WITNESSES[name].public_key,
                TIME_S,
                notes.cosign(WITNESSES[name], checkpoint, TIME_S),
            )
            for name in NAMES[:3]
        ],
    )
    verify_bytes(data)
    seen = set()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError) as caught:
            verify_bytes(bytes(flipped))
        seen.add(caught.value.code)
    assert seen == {"malformed", "not_canonical", "policy_mismatch", "signer_unknown", "signature_invalid"}


def test_another_origin() -> None:
    note = make_note(checkpoint=replace(CHECKPOINT, origin=OTHER_ORIGIN))
    refused("policy_mismatch", note)
    with pytest.raises(VerificationError, match="policy_mismatch"):
        check_origin(POLICY, note)
    check_origin(POLICY, make_note())


def test_a_log_key_that_is_not_the_policys() -> None:
    refused("policy_mismatch", make_note(log=STRANGER))
    refused("policy_mismatch", make_note(log=WITNESSES["tax"]))


def test_a_log_line_under_another_name() -> None:
    note = make_note()
    line = replace(note.log_lines[0], name=OTHER_ORIGIN)
    refused("policy_mismatch", replace(note, log_lines=(line,)))


def test_unknown_signers() -> None:
    two = [witness("tax"), witness("bank1")]
    refused("signer_unknown", make_note(signers=[*two, ("bank2", STRANGER, TIME_S)]))
    refused("signer_unknown", make_note(signers=[*two, ("bank9", STRANGER, TIME_S)]))
    refused("signer_unknown", make_note(signers=[*two, ("bank9", WITNESSES["bank2"], TIME_S)]))
    refused("signer_unknown", make_note(signers=[*two, ("bank2", LOG_KEYS[2], TIME_S)]))


def test_repeated_signers() -> None:
    refused("signer_repeated", make_note(signers=[witness("tax"), witness("bank1"), witness("tax")]))
    refused(
        "signer_repeated", make_note(signers=[witness("tax"), witness("bank1"), witness("tax", TIME_S + 1)])
    )
    refused("signer_repeated", make_note(signers=[witness("tax")] * 2))
    refused("signer_repeated", make_note(signers=[witness(name) for name in [*NAMES, "tax"]]))


def test_too_few_and_too_many() -> None:
    for count in range(3):
        refused("quorum_missing", make_note(signers=[witness(name) for name in NAMES[:count]]))
    refused("malformed", make_note(signers=[witness(name) for name in NAMES]))


def test_signatures_that_do_not_verify() -> None:
    note = make_note()
    other = make_note(checkpoint=replace(CHECKPOINT, size=13))
    refused("signature_invalid", replace(note, log_lines=other.log_lines))
    for at in range(3):
        lines = list(note.cosign_lines)
        lines[at] = other.cosign_lines[at]
        refused("signature_invalid", replace(note, cosign_lines=tuple(lines)))
        lines[at] = replace(note.cosign_lines[at], time_s=TIME_S + 1)
        refused("signature_invalid", replace(note, cosign_lines=tuple(lines)))
    refused("signature_invalid", replace(note, checkpoint=replace(CHECKPOINT, root=bytes([1]) * 32)))
    swapped = (note.cosign_lines[0], *reversed(note.cosign_lines[1:]))
    verify_checkpoint(POLICY, replace(note, cosign_lines=swapped), now_ms=NOW_MS, age_ms_max=AGE_MS_MAX)


def test_age_is_that_of_the_oldest() -> None:
    note = make_note(
        signers=[witness("tax", TIME_S), witness("bank1", TIME_S - 100), witness("bank2", TIME_S + 4)]
    )
    assert verify_signatures(POLICY, note, now_ms=NOW_MS, age_ms_max=AGE_MS_MAX) == 105_000
    oldest_ms = (TIME_S - 100) * 1_000
    assert verify_signatures(POLICY, note, now_ms=oldest_ms + AGE_MS_MAX, age_ms_max=AGE_MS_MAX) == AGE_MS_MAX
    refused("checkpoint_stale", note, now_ms=oldest_ms + AGE_MS_MAX + 1)


def test_a_cosignature_from_the_future() -> None:
    signers = [witness("tax", TIME_S - 30), witness("bank1", TIME_S), witness("bank2", TIME_S + 60)]
    note = make_note(signers=signers)
    verify_checkpoint(POLICY, note, now_ms=TIME_S * 1_000, age_ms_max=AGE_MS_MAX)
    refused("checkpoint_stale", note, now_ms=TIME_S * 1_000 - 1)
    ahead = make_note(signers=[witness(name, TIME_S + 10) for name in NAMES[:3]])
    assert verify_checkpoint(POLICY, ahead, now_ms=TIME_S * 1_000, age_ms_max=0) == 0


def test_the_order_of_the_checks() -> None:
    """Each note has every later fault too, and is refused for the first."""
    two, unknown = [witness("tax", 1), witness("bank1", 1)], ("bank9", STRANGER, 1)
    wrong = make_note(checkpoint=replace(CHECKPOINT, origin=OTHER_ORIGIN), log=STRANGER, signers=[unknown])
    refused("policy_mismatch", wrong)
    refused("policy_mismatch", make_note(log=STRANGER, signers=[unknown] * 2))
    refused("signer_unknown", make_note(signers=[*two, two[0], unknown]))
    refused("signer_repeated", make_note(signers=[two[0], two[0]]))

    def broken(note: notes.SignedCheckpoint) -> notes.SignedCheckpoint:
        return replace(note, checkpoint=replace(CHECKPOINT, size=99))

    refused("quorum_missing", broken(make_note(signers=two)))
    refused("signature_invalid", broken(make_note(signers=[*two, witness("bank2", 1)])))
    refused("checkpoint_stale", make_note(signers=[*two, witness("bank2", 1)]))
