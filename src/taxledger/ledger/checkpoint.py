"""Checkpoints as signed notes: C2SP ``signed-note``, ``tlog-checkpoint`` and ``tlog-cosignature`` v1.

A note is ``origin LF size LF base64(root) LF``, an empty line, one log signature line, then co-signature
lines. There is exactly one byte form of each; the reader refuses everything else, before any signature is
looked at: ``malformed`` for a wrong shape or range, ``not_canonical`` for a number or base64 that is not in
its one form.

What names and key ids in a note claim is a hint; ``policy.py`` decides whose keys count.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer, verify_signature
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.verifierkeys import (
    COSIGNATURE_TYPE,
    LOG_TYPE,
    Origin,
    VerifierKey,
    canonical_base64,
    cosigner_name,
    is_key_name,
    make_origin,
    note_key_id,
    parse_origin,
    parse_vkey,
    validators_hash,
    vkey,
)

__all__ = [
    "COSIGNATURE_TYPE",
    "LOG_TYPE",
    "Checkpoint",
    "CoSignature",
    "CoSignatureLine",
    "LogLine",
    "Origin",
    "SignedCheckpoint",
    "VerifierKey",
    "cosign",
    "cosignature_message",
    "cosigner_name",
    "decode_note",
    "encode_note",
    "make_origin",
    "note_key_id",
    "parse_origin",
    "parse_vkey",
    "sign_checkpoint",
    "validators_hash",
    "verify_cosignature",
    "verify_log_signature",
    "vkey",
]

_DECIMAL = re.compile(r"0|[1-9][0-9]*")
_SIGNATURE_PREFIX = "\u2014 "
_LOG_BYTES = 4 + 64
_COSIGNATURE_BYTES = 4 + 8 + 64


# --- signing ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log at one size.

    Attributes:
        origin: the log's name.
        size: number of leaves.
        root: 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> bytes:
        """The note text, the bytes a log signature covers."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n".encode()


class CoSignature(NamedTuple):
    """A validator's co-signature with the key that made it (name ``<network>/<member name>``)."""

    name: str
    public_key: bytes
    time_s: int
    signature: bytes


def sign_checkpoint(signer: Signer, checkpoint: Checkpoint) -> bytes:
    """The log's 64-byte signature over the note text."""
    return signer.sign(checkpoint.text)


def cosignature_message(checkpoint: Checkpoint, time_s: int) -> bytes:
    """``"cosignature/v1" LF "time " seconds LF`` + note text: what a co-signature covers."""
    return f"cosignature/v1\ntime {time_s}\n".encode() + checkpoint.text


def cosign(signer: Signer, checkpoint: Checkpoint, time_s: int) -> bytes:
    """A validator's 64-byte co-signature at ``time_s`` (seconds since 1970)."""
    return signer.sign(cosignature_message(checkpoint, time_s))


def verify_log_signature(public_key: bytes, checkpoint: Checkpoint, signature: bytes) -> None:
    """Returns when ``signature`` is the log's.

    Raises:
        VerificationError: ``signature_invalid``.
    """
    verify_signature(public_key, signature, checkpoint.text)


def verify_cosignature(public_key: bytes, checkpoint: Checkpoint, time_s: int, signature: bytes) -> None:
    """Returns when ``signature`` is the validator's at ``time_s``.

    Raises:
        VerificationError: ``signature_invalid``.
    """
    verify_signature(public_key, signature, cosignature_message(checkpoint, time_s))


# --- notes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A log signature as it stands in a note: key name, 4-byte key id, 64-byte signature."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CoSignatureLine:
    """A co-signature as it stands in a note: key name, 4-byte key id, seconds, 64-byte signature."""

    name: str
    key_id: bytes
    time_s: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A decoded note; nothing in it is verified.

    Attributes:
        checkpoint: what is signed.
        log_lines: the log signature, always exactly one.
        cosign_lines: the co-signatures, in their order.
    """

    checkpoint: Checkpoint
    log_lines: tuple[LogLine, ...]
    cosign_lines: tuple[CoSignatureLine, ...]


def encode_note(
    checkpoint: Checkpoint,
    log_public_key: bytes,
    log_signature: bytes,
    cosignatures: Sequence[tuple[str, bytes, int, bytes]],
) -> bytes:
    """The note of a checkpoint.

    Args:
        checkpoint: what was signed.
        log_public_key: 32 bytes, the key that signed as the log.
        log_signature: 64 bytes.
        cosignatures: (name, public key, seconds, 64-byte signature) each, written in this order.

    Raises:
        FormatError: a part is out of range or not in its form.
    """
    lines = [_line(checkpoint.origin, LOG_TYPE, log_public_key, log_signature)]
    for name, public_key, time_s, signature in cosignatures:
        if not 0 <= time_s <= limits.integer_max:
            raise FormatError(f"expected co-signature seconds of at most 63 bits, got {time_s}")
        lines.append(_line(name, COSIGNATURE_TYPE, public_key, time_s.to_bytes(8, "big") + signature))
    data = checkpoint.text + b"\n" + "".join(lines).encode()
    try:
        decode_note(data)
    except VerificationError as error:
        raise FormatError(f"not encodable as a note: {error}") from error
    return data


def decode_note(data: bytes) -> SignedCheckpoint:
    """The content of a note that is in its one form.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``.
    """
    if type(data) is not bytes or len(data) > limits.checkpoint_bytes_max:
        raise VerificationError(
            "malformed", f"expected a note of at most {limits.checkpoint_bytes_max} bytes"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise VerificationError("malformed", f"the note is not UTF-8 at byte {error.start}") from error
    if any(char < " " and char != "\n" for char in text):
        raise VerificationError("malformed", "a control character in the note")
    lines = text.split("\n")  # not splitlines: that also splits at U+2028 and others
    if len(lines) < 6 or not lines[0] or lines[3] or lines[-1]:
        raise VerificationError(
            "malformed",
            "expected origin, size, root, an empty line and signature lines, each with a line feed",
        )
    checkpoint = Checkpoint(origin=lines[0], size=_decode_size(lines[1]), root=_decode_root(lines[2]))
    log_name, log_key_id, log_signature = _decode_line(lines[4], _LOG_BYTES)
    return SignedCheckpoint(
        checkpoint=checkpoint,
        log_lines=(LogLine(name=log_name, key_id=log_key_id, signature=log_signature),),
        cosign_lines=tuple(_decode_cosign_line(line) for line in lines[5:-1]),
    )


def _line(name: str, type_: int, public_key: bytes, signature: bytes) -> str:
    signed = b64encode(note_key_id(name, type_, public_key) + signature).decode()
    return f"{_SIGNATURE_PREFIX}{name} {signed}\n"


def _decode_size(text: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise VerificationError(
            "not_canonical", "the log size", expected="decimal without leading zeros", got=text[:40]
        )
    if len(text) > 19 or int(text) > limits.integer_max:
        raise VerificationError("malformed", "the log size", expected="at most 63 bits", got=text[:40])
    return int(text)


def _decode_root(text: str) -> bytes:
    root = canonical_base64(text)
    if root is None:
        raise VerificationError("not_canonical", "the root", expected="canonical base64", got=text[:80])
    if len(root) != 32:
        raise VerificationError("malformed", "bytes of the root", expected=32, got=len(root))
    return root


def _decode_line(line: str, length: int) -> tuple[str, bytes, bytes]:
    parts = line.removeprefix(_SIGNATURE_PREFIX).split(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or len(parts) != 2 or not is_key_name(parts[0]):
        raise VerificationError("malformed", "a signature line", expected="— <name> <base64>", got=line[:160])
    signed = canonical_base64(parts[1])
    if signed is None:
        raise VerificationError(
            "not_canonical", "a signature", expected="canonical base64", got=parts[1][:160]
        )
    if len(signed) != length:
        raise VerificationError("malformed", "bytes in a signature line", expected=length, got=len(signed))
    return parts[0], signed[:4], signed[4:]


def _decode_cosign_line(line: str) -> CoSignatureLine:
    name, key_id, signed = _decode_line(line, _COSIGNATURE_BYTES)
    time_s = int.from_bytes(signed[:8], "big")
    if time_s > limits.integer_max:
        raise VerificationError("malformed", "co-signature time", expected="at most 63 bits", got=time_s)
    return CoSignatureLine(name=name, key_id=key_id, time_s=time_s, signature=signed[8:])
