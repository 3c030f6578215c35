"""What is pledged, and what is not, as a file that verifies offline (docs/protocol.md §16).

    [1, "pledges", [[issuer, fingerprint16] …], checkpoint, header, inclusion, [value | nil …], proof]

For each fingerprint the file shows the entry of the state map, or proves that there is none. Nothing in it is
believed for itself: the fingerprints are the caller's, and values or absence are proved under a certified header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits, statekeys
from taxledger.ledger.assemble import ProvenEntries, ProvingMap
from taxledger.ledger.checkpoint import SignedCheckpoint, decode_note
from taxledger.ledger.errors import FormatError, LimitError, VerificationError
from taxledger.ledger.evidence import decoding
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.header import Header
from taxledger.ledger.merkle import verify_inclusion
from taxledger.ledger.pledgestate import (
    Pledge,
    PledgeMarks,
    decode_pledge_entry,
    open_pledges,
    pledged_ppm,
)
from taxledger.ledger.policy import Policy, verify_signatures
from taxledger.ledger.shapes import array, ascending, fixed_bytes, integer, items
from taxledger.ledger.statemap.proof import verify_prefixes
from taxledger.ledger.verify import verify_header

__all__ = [
    "PledgeKey",
    "PledgeProof",
    "PledgeState",
    "VerifiedPledges",
    "decode_pledge_proof",
    "encode_pledge_proof",
    "pledge_proof_of",
    "prove_pledges",
    "verify_pledges",
]

PledgeKey = tuple[int, bytes]
"""(issuer's number, fingerprint of 16 bytes)."""

_CONTAINERS_MAX = limits.pledge_proof_keys_max + 4
"""The file, its keys and each of them, its audit path and its values: no other array is in it."""
_AUDIT_PATH_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeProof:
    """A decoded file; only its shape is checked.

    Attributes:
        keys: strictly ascending.
        checkpoint, header, inclusion: as in evidence.
        values: of each key what the map holds, None where nothing.
        proof: of the state map, for exactly the keys' entries.
    """

    keys: tuple[PledgeKey, ...]
    checkpoint: bytes
    header: bytes
    inclusion: tuple[bytes, ...]
    values: tuple[bytes | None, ...]
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeState:
    """What is pledged under one fingerprint, as of the header's time.

    Attributes:
        record_key: of the record that is pledged (37 bytes); None where nothing is.
        marks: of the entry; clear where nothing is pledged.
        pledges: the open ones, in the order of placing.
        pledged_ppm: their shares together, in millionths.
    """

    record_key: bytes | None
    marks: PledgeMarks
    pledges: tuple[Pledge, ...]
    pledged_ppm: int

    @property
    def is_free(self) -> bool:
        """Nothing is pledged."""
        return not self.pledges

    @property
    def free_ppm(self) -> int:
        """What may still be pledged, in millionths."""
        return limits.pledged_ppm_max - self.pledged_ppm


FREE = PledgeState(record_key=None, marks=PledgeMarks.CLEAR, pledges=(), pledged_ppm=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPledges:
    """What a verified file says.

    Attributes:
        states: one for every key asked.
        header: of the block, with height and time.
        checkpoint: under which it was proved.
        age_ms: of the oldest co-signature that counts.
    """

    states: Mapping[PledgeKey, PledgeState]
    header: Header
    checkpoint: SignedCheckpoint
    age_ms: int


def _asked(keys: Iterable[PledgeKey]) -> dict[PledgeKey, bytes]:
    """Keys in their order, each once, with their places in the map.

    Raises:
        FormatError: none, too many, or what is no key.
    """
    found = {}
    for issuer, fingerprint in sorted(set(keys)):
        integer(issuer, 1, 65_535, "an issuer")
        fixed_bytes(fingerprint, 16, "a fingerprint")
        found[issuer, fingerprint] = statekeys.pledges_key(issuer, fingerprint)
    if not 1 <= len(found) <= limits.pledge_proof_keys_max:
        raise FormatError(f"expected 1 to {limits.pledge_proof_keys_max} fingerprints, got {len(found)}")
    return found


# --- making -------------------------------------------------------------------------------------


def prove_pledges(
    keys: Iterable[PledgeKey],
    *,
    view: ProvingMap,
    checkpoint: bytes,
    header: bytes,
    inclusion: Sequence[bytes],
) -> PledgeProof:
    """The proof for some fingerprints.

    Args:
        keys: in any order.
        view: the state map as the header's ``state_root`` has it.
        checkpoint: a note with one log line and exactly q co-signatures.
        header: the header leaf, the last of the checkpoint's log.
        inclusion: its audit path.

    Raises:
        FormatError: none, too many, or what is no key.
    """
    asked = _asked(keys)
    proven = view.prove(list(asked.values()))
    return pledge_proof_of(asked, proven, checkpoint=checkpoint, header=header, inclusion=inclusion)


def pledge_proof_of(
    keys: Iterable[PledgeKey],
    proven: ProvenEntries,
    *,
    checkpoint: bytes,
    header: bytes,
    inclusion: Sequence[bytes],
) -> PledgeProof:
    """As ``prove_pledges``, from a proof of exactly the keys' entries (``statekeys.pledges_key``) that somebody made
    already: a view, or a node that was asked for them as prefixes.
    """
    asked = _asked(keys)
    listed = [proven.entries[key] for key in asked.values()]
    return PledgeProof(
        keys=tuple(asked),
        checkpoint=checkpoint,
        header=header,
        inclusion=tuple(inclusion),
        values=tuple(pairs[0][1] if pairs else None for pairs in listed),
        proof=proven.proof,
    )


def encode_pledge_proof(proof: PledgeProof) -> bytes:
    """The file.

    Raises:
        LimitError: larger than a verifier would read.
    """
    data = canonical.encode(
        [
            1,
            "pledges",
            [list(key) for key in proof.keys],
            proof.checkpoint,
            proof.header,
            proof.inclusion,
            proof.values,
            proof.proof,
        ]
    )
    if len(data) > limits.pledge_proof_bytes_max:
        raise LimitError(f"expected at most {limits.pledge_proof_bytes_max} bytes, got {len(data)}")
    return data


# --- reading ------------------------------------------------------------------------------------


def decode_pledge_proof(data: bytes) -> PledgeProof:
    """The content of a file.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``.
    """
    with decoding():
        decoded = canonical.decode(
            data, bytes_max=limits.pledge_proof_bytes_max, containers_max=_CONTAINERS_MAX
        )
        version, what, keys, checkpoint, header, path, values, proof = items(decoded, 8, "a pledge proof")
        if type(version) is not int or [version, what] != [1, "pledges"]:
            raise FormatError("expected a pledge proof of version 1")
        read = [_key(key) for key in array(keys, 1, limits.pledge_proof_keys_max, "keys")]
        ascending(read, "keys")
        for value in items(values, len(read), "values"):
            if value is not None:
                decode_pledge_entry(_bytes(value, "a value"))
        found = PledgeProof(
            keys=tuple(read),
            checkpoint=_bytes(checkpoint, "a checkpoint"),
            header=_bytes(header, "a header"),
            inclusion=tuple(
                fixed_bytes(each, 32, "a hash") for each in array(path, 0, _AUDIT_PATH_MAX, "hashes")
            ),
            values=tuple(values),
            proof=_bytes(proof, "a proof"),
        )
        decode_note(found.checkpoint)
        return found


def _bytes(value: Any, what: str) -> bytes:
    if type(value) is not bytes:
        raise FormatError(f"expected {what} as bytes")
    return value


def _key(value: Any) -> PledgeKey:
    issuer, fingerprint = items(value, 2, "a key")
    return integer(issuer, 1, 65_535, "an issuer"), fixed_bytes(fingerprint, 16, "a fingerprint")


def verify_pledges(
    data: bytes,
    policy: Policy,
    keys: Iterable[PledgeKey],
    *,
    now_ms: int,
    age_ms_max: int,
    engine: str | None = None,
    height_min: int = 0,
) -> VerifiedPledges:
    """What is pledged under each of some fingerprints, once everything about it is verified.

    Args:
        data: the file.
        policy: whom to trust; never from the node that gave the file.
        keys: what was asked, in any order: exactly these must be in the file.
        now_ms, age_ms_max, engine, height_min: as of ``verify_evidence``.

    Raises:
        VerificationError: with the first code of §10's table that fits.
        FormatError: the caller's keys are none.
    """
    asked = _asked(keys)
    file = decode_pledge_proof(data)
    if file.keys != tuple(asked):
        raise VerificationError(
            "query_mismatch",
            "other fingerprints",
            expected=f"{len(asked)} keys",
            got=f"{len(file.keys)} keys",
        )
    note = decode_note(file.checkpoint)
    header = verify_header(file.header, policy, note, engine)
    age_ms = verify_signatures(policy, note, now_ms=now_ms, age_ms_max=age_ms_max)
    if header.height < height_min:
        raise VerificationError(
            "checkpoint_stale", "height of the answer", expected=f"{height_min} or more", got=header.height
        )
    point = note.checkpoint
    verify_inclusion(log_leaf(file.header), point.size - 1, point.size, file.inclusion, point.root)
    proved = {
        key: [] if value is None else [(key, value)]
        for key, value in zip(asked.values(), file.values, strict=True)
    }
    verify_prefixes(header.state_root, proved, file.proof)
    states = {key: _state(value, header.time_ms) for key, value in zip(file.keys, file.values, strict=True)}
    return VerifiedPledges(states=states, header=header, checkpoint=note, age_ms=age_ms)


def _state(value: bytes | None, time_ms: int) -> PledgeState:
    if value is None:
        return FREE
    entry = decode_pledge_entry(value)
    pledges = open_pledges(entry.pledges, time_ms)
    if not pledges:
        return FREE
    return PledgeState(
        record_key=entry.record_key,
        marks=entry.marks,
        pledges=pledges,
        pledged_ppm=pledged_ppm(pledges),
    )
