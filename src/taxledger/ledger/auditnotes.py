"""A checkpoint note against validators that an audit knows from the replay, with no policy file at hand."""

from __future__ import annotations

from collections.abc import Sequence

from taxledger.ledger.checkpoint import (
    COSIGNATURE_TYPE,
    LOG_TYPE,
    Checkpoint,
    cosigner_name,
    decode_note,
    note_key_id,
    verify_cosignature,
    verify_log_signature,
)
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.members import Member
from taxledger.ledger.policy import quorum

__all__ = ["verify_note"]


def verify_note(data: bytes, expected: Checkpoint, network: str, validators: Sequence[Member]) -> int:
    """As docs/protocol.md §10 checks a checkpoint, with these validators for a policy.

    Returns:
        The number of signatures, all of which verify: one of the log, a quorum of co-signatures.

    Raises:
        VerificationError: of another tree, or not signed as it must be.
    """
    note = decode_note(data)
    if note.checkpoint != expected:
        raise VerificationError(
            "header_mismatch",
            "what is signed",
            expected=expected.text.decode(),
            got=note.checkpoint.text.decode(),
        )
    log_keys = {
        (expected.origin, note_key_id(expected.origin, LOG_TYPE, key)): key
        for key in (member.log_key for member in validators)
        if key is not None
    }
    for line in note.log_lines:
        key = _known(log_keys, line.name, line.key_id)
        verify_log_signature(key, note.checkpoint, line.signature)
    cosign_keys = {}
    for member in validators:
        name, public_key = cosigner_name(network, member.name), member.cosign_key or b""
        cosign_keys[name, note_key_id(name, COSIGNATURE_TYPE, public_key)] = public_key
    seen = set()
    for signed in note.cosign_lines:
        key = _known(cosign_keys, signed.name, signed.key_id)
        if key in seen:
            raise VerificationError("signer_repeated", "one co-signer twice", got=signed.name)
        seen.add(key)
        verify_cosignature(key, note.checkpoint, signed.time_s, signed.signature)
    least = quorum(len(validators))
    if len(seen) < least:
        raise VerificationError("quorum_missing", "co-signatures", expected=least, got=len(seen))
    return len(note.log_lines) + len(seen)


def _known(keys: dict[tuple[str, bytes], bytes], name: str, key_id: bytes) -> bytes:
    found = keys.get((name, key_id))
    if found is None:
        raise VerificationError("signer_unknown", "no validator's key", got=f"{name}+{key_id.hex()}")
    return found
