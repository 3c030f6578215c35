"""Policy: whose signatures make a checkpoint count. C2SP ``tlog-policy``, narrowed by docs/protocol.md §4.

It is configuration, handed to a verifier from outside, and the only source of trust. One ``log`` line per
validator's log key, one ``witness`` line per validator's co-signing key, ``group validators <q> …`` over all
of them with q = ⌊2N/3⌋ + 1, ``quorum validators``. Comments, blank lines, URLs and any order that C2SP allows
are read.

Invariants of a ``Policy``: one origin; no name, key or (name, key id) twice; the threshold is the quorum of
its witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from taxledger.ledger import limits
from taxledger.ledger.checkpoint import (
    COSIGNATURE_TYPE,
    LOG_TYPE,
    SignedCheckpoint,
    VerifierKey,
    cosigner_name,
    parse_origin,
    parse_vkey,
    validators_hash,
    verify_cosignature,
    verify_log_signature,
    vkey,
)
from taxledger.ledger.errors import FormatError, LimitError, VerificationError, check
from taxledger.ledger.policydate import Verified, with_verified

__all__ = [
    "Policy",
    "check_origin",
    "decode_policy",
    "encode_policy",
    "quorum",
    "verify_checkpoint",
    "verify_signatures",
]

_GROUP = "validators"


def quorum(n: int) -> int:
    """How many of ``n`` validators decide and certify: ⌊2n/3⌋ + 1."""
    return 2 * n // 3 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whom a verifier trusts.

    Attributes:
        origin: the one origin of all log keys.
        log_keys: the keys that may sign as the log.
        witnesses: member name -> co-signing key.
        threshold: how many of them must have co-signed.
    """

    origin: str
    log_keys: tuple[VerifierKey, ...]
    witnesses: Mapping[str, VerifierKey]
    threshold: int

    def __post_init__(self) -> None:
        check(bool(self.witnesses), "a policy has witnesses")
        check(self.threshold == quorum(len(self.witnesses)), "a policy's threshold is the quorum")

    @property
    def validators_hash(self) -> bytes:
        """What a header co-signed by exactly these witnesses names as its validators."""
        return validators_hash(key.text for key in self.witnesses.values())


# --- writing and reading --------------------------------------------------------------------


def encode_policy(
    *,
    origin: str,
    log_keys: Sequence[bytes],
    witnesses: Mapping[str, bytes],
    verified: Verified | None = None,
) -> bytes:
    """A policy file, its lines in the order given.

    Args:
        origin: the chain's origin.
        log_keys: 32-byte log keys of the validators.
        witnesses: member name -> 32-byte co-signing key.
        verified: when it was verified, for the comment line that says so.

    Raises:
        FormatError, LimitError: no verifier would accept such a policy.
    """
    network = parse_origin(origin).network
    lines = [f"log {vkey(origin, LOG_TYPE, key)}" for key in log_keys]
    for name, key in witnesses.items():
        lines.append(f"witness {name} {vkey(cosigner_name(network, name), COSIGNATURE_TYPE, key)}")
    lines.append(f"group {_GROUP} {quorum(len(witnesses))} {' '.join(witnesses)}")
    lines.append(f"quorum {_GROUP}")
    data = "".join(f"{line}\n" for line in lines).encode()
    decode_policy(data)
    return data if verified is None else with_verified(data, verified)


def decode_policy(data: bytes) -> Policy:
    """The policy of a file.

    Raises:
        LimitError: larger than a policy may be.
        FormatError: not a policy this verifier may use; the message has the line number, expected and got.
    """
    if len(data) > limits.policy_bytes_max:
        raise LimitError(f"expected a policy of at most {limits.policy_bytes_max} bytes, got {len(data)}")
    lines = data.split(b"\n")
    reader = _Reader()
    for number, line in enumerate(lines, start=1):
        reader.number = number
        for octet in line:
            if (octet < 0x20 and octet != 0x09) or octet == 0x7F:
                raise reader.error("text without control characters", f"byte {octet:#04x}")
        items = [item for item in line.replace(b"\t", b" ").split(b" ") if item]
        if number == len(lines):
            if line:
                raise reader.error("a line feed at the end of the last line", "none")
        elif items and not items[0].startswith(b"#"):
            reader.line(items)
    return reader.policy()


@dataclass(slots=True)
class _Reader:
    """What the lines read so far define; ``number`` is the present line, for messages."""

    number: int = 0
    origin: str = ""
    log_keys: list[VerifierKey] = field(default_factory=list)
    witnesses: dict[str, VerifierKey] = field(default_factory=dict)
    witness_lines: dict[str, int] = field(default_factory=dict)
    members: list[str] | None = None
    threshold: int = 0
    quorum_read: bool = False

    def error(self, expected: str, got: str) -> FormatError:
        return FormatError(f"policy line {self.number}: expected {expected}, got {got}")

    def line(self, items: list[bytes]) -> None:
        readers = {
            b"log": self._log,
            b"witness": self._witness,
            b"group": self._group,
            b"quorum": self._quorum,
        }
        read = readers.get(items[0])
        if read is None:
            raise self.error("log, witness, group or quorum", _shown(items[0]))
        read(items[1:])

    def policy(self) -> Policy:
        if not self.log_keys:
            raise self.error("a log line", "none in the file")
        if self.members is None:
            raise self.error(f"a line 'group {_GROUP} …'", "none in the file")
        if not self.quorum_read:
            raise self.error(f"a line 'quorum {_GROUP}'", "none in the file")
        network = parse_origin(self.origin).network
        for name, key in self.witnesses.items():
            self.number = self.witness_lines[name]
            if name not in self.members:
                raise self.error(f"every witness in the group {_GROUP}", f"{name} outside it")
            if key.name != f"{network}/{name}":
                raise self.error(f"the key name {network}/{name}", key.name[:160])
        return Policy(
            origin=self.origin,
            log_keys=tuple(self.log_keys),
            witnesses=self.witnesses,
            threshold=self.threshold,
        )

    def _log(self, items: list[bytes]) -> None:
        if len(items) not in (1, 2):
            raise self.error("log <vkey> [<url>]", f"{len(items)} items after log")
        key = self._key(items[0], LOG_TYPE)
        try:
            parse_origin(key.name)
        except FormatError as error:
            raise FormatError(f"policy line {self.number}: {error}") from error
        if self.origin not in ("", key.name):
            raise self.error(f"the one origin {self.origin}", key.name)
        if len(self.log_keys) >= limits.validators_max:
            raise self.error(f"at most {limits.validators_max} log lines", "one more")
        self.origin = key.name
        self.log_keys.append(key)

    def _witness(self, items: list[bytes]) -> None:
        if len(items) not in (2, 3):
            raise self.error("witness <name> <vkey> [<url>]", f"{len(items)} items after witness")
        name = _text(items[0])
        try:
            cosigner_name("network", name)
        except FormatError:
            raise self.error("a member name [a-z][a-z0-9-]{0,31}", _shown(items[0])) from None
        if name in self.witnesses or name in ("none", _GROUP):
            raise self.error("a name that is not taken", name)
        if self.members is not None:
            raise self.error(f"every witness before the group {_GROUP}", name)
        if len(self.witnesses) >= limits.validators_max:
            raise self.error(f"at most {limits.validators_max} witnesses", "one more")
        self.witnesses[name] = self._key(items[1], COSIGNATURE_TYPE)
        self.witness_lines[name] = self.number

    def _group(self, items: list[bytes]) -> None:
        if len(items) < 3:
            raise self.error("group <name> <k> <names…>", f"{len(items)} items after group")
        if items[0] != _GROUP.encode():
            raise self.error(f"the one group {_GROUP}", _shown(items[0]))
        if self.members is not None:
            raise self.error(f"one group {_GROUP}", "a second")
        members = [_text(item) for item in items[2:]]
        for name in members:
            if name not in self.witnesses:
                raise self.error("names of witnesses on lines before", name[:80])
        if len(set(members)) != len(members):
            raise self.error("each member of a group once", "one twice")
        expected = quorum(len(members))
        written = {b"any": 1, b"all": len(members), str(expected).encode(): expected}.get(items[1])
        if written != expected:
            raise self.error(f"a threshold of {expected} for {len(members)} witnesses", _shown(items[1]))
        self.members, self.threshold = members, expected

    def _quorum(self, items: list[bytes]) -> None:
        if self.quorum_read:
            raise self.error("one quorum line", "a second")
        if self.members is None or items != [_GROUP.encode()]:
            raise self.error(f"quorum {_GROUP}, after that group", _shown(b" ".join(items)))
        self.quorum_read = True

    def _key(self, item: bytes, type_: int) -> VerifierKey:
        try:
            key = parse_vkey(_text(item))
        except FormatError as error:
            raise FormatError(f"policy line {self.number}: {error}") from error
        if key.type != type_:
            raise self.error(f"a key of type {type_}", f"type {key.type}")
        for other in (*self.log_keys, *self.witnesses.values()):
            if other.public_key == key.public_key:
                raise self.error("each key once", f"the key of {other.name} again")
            if (other.name, other.key_id) == (key.name, key.key_id):
                raise self.error("distinct key ids under a name", key.key_id.hex())
        return key


def _text(item: bytes) -> str:
    return item.decode("utf-8", "replace")  # a replaced octet fits no name and no vkey that follow


def _shown(item: bytes) -> str:
    return repr(_text(item)[:80])


# --- verifying ------------------------------------------------------------------------------


def check_origin(policy: Policy, note: SignedCheckpoint) -> None:
    """Returns when the checkpoint is of the policy's chain; nothing is verified by that.

    Raises:
        VerificationError: ``policy_mismatch``.
    """
    if note.checkpoint.origin != policy.origin:
        raise VerificationError(
            "policy_mismatch",
            "the checkpoint's origin (another engine's is followed by taxledger policy update)",
            expected=policy.origin,
            got=note.checkpoint.origin,
        )


def verify_signatures(policy: Policy, note: SignedCheckpoint, *, now_ms: int, age_ms_max: int) -> int:
    """Returns when the log and exactly a quorum of the policy's witnesses signed the checkpoint recently.

    Checked in the order of docs/protocol.md §10, each over all lines before the next.

    Args:
        policy: whom to trust.
        note: a note whose origin was checked.
        now_ms: the present instant.
        age_ms_max: how old the oldest co-signature may be.

    Returns:
        The age in milliseconds: now less the oldest co-signature (0 if that is ahead of now).

    Raises:
        VerificationError: ``policy_mismatch``, ``signer_unknown``, ``signer_repeated``, ``quorum_missing``,
            ``malformed`` (more than a quorum), ``signature_invalid``, ``checkpoint_stale``.
    """
    log_key = _log_key(policy, note)
    keys = _cosigners(policy, note)
    verify_log_signature(log_key.public_key, note.checkpoint, note.log_lines[0].signature)
    for key, line in zip(keys, note.cosign_lines, strict=True):
        verify_cosignature(key.public_key, note.checkpoint, line.time_s, line.signature)
    times_ms = [line.time_s * 1_000 for line in note.cosign_lines]
    ahead_ms = max(times_ms) - now_ms
    if ahead_ms > limits.cosignature_ahead_ms_max:
        raise VerificationError(
            "checkpoint_stale",
            "a co-signature is in the future",
            expected=f"at most {limits.cosignature_ahead_ms_max} ms",
            got=ahead_ms,
        )
    age_ms = max(0, now_ms - min(times_ms))
    if age_ms > age_ms_max:
        raise VerificationError(
            "checkpoint_stale",
            "age of the oldest co-signature",
            expected=f"at most {age_ms_max} ms",
            got=age_ms,
        )
    return age_ms


def verify_checkpoint(policy: Policy, note: SignedCheckpoint, *, now_ms: int, age_ms_max: int) -> int:
    """``check_origin``, then ``verify_signatures``: arguments, result and errors are theirs."""
    check_origin(policy, note)
    return verify_signatures(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)


def _log_key(policy: Policy, note: SignedCheckpoint) -> VerifierKey:
    if len(note.log_lines) != 1:
        raise VerificationError("malformed", "log signatures", expected=1, got=len(note.log_lines))
    line = note.log_lines[0]
    for key in policy.log_keys:
        if (key.name, key.key_id) == (line.name, line.key_id):
            return key
    raise VerificationError(
        "policy_mismatch",
        "the log signature is of no key of the policy (taxledger policy update gets new ones)",
        got=f"{line.name}+{line.key_id.hex()}",
    )


def _cosigners(policy: Policy, note: SignedCheckpoint) -> list[VerifierKey]:
    """The key of each co-signature line: all known, no two the same, exactly a quorum."""
    known = {(key.name, key.key_id): key for key in policy.witnesses.values()}
    claimed = [(line.name, line.key_id) for line in note.cosign_lines]
    for name, key_id in claimed:
        if (name, key_id) not in known:
            raise VerificationError(
                "signer_unknown",
                "not a witness of the policy (did the validators change? taxledger policy update)",
                got=f"{name}+{key_id.hex()}",
            )
    if len(set(claimed)) != len(claimed):
        raise VerificationError("signer_repeated", "one co-signer twice")
    if len(claimed) != policy.threshold:
        code = "quorum_missing" if len(claimed) < policy.threshold else "malformed"
        raise VerificationError(code, "co-signatures", expected=policy.threshold, got=len(claimed))
    return [known[each] for each in claimed]
