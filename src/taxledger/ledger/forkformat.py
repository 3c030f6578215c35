"""The one byte form of fork evidence (docs/protocol.md §17); what it proves is in ``fork.py``.

[1, "fork_evidence", "cosignatures", tree, tree, contradiction, [[vkey, time_s, signature, time_s, signature] …]]
  tree                            [origin, size, root]
  contradiction                   nil                                            one size, two roots
                                  ["consistency", root, [hash …]]                the larger tree began otherwise
                                  ["inclusion", index, leaf, [hash …], leaf, [hash …]]   two leaves at one place
[1, "fork_evidence", "votes", chain_id, height, member, vote key, [[header hash, signature] × 2], binding | nil]
  binding                         [checkpoint, header, inclusion, member's entry, proof]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.checkpoint import (
    COSIGNATURE_TYPE,
    Checkpoint,
    VerifierKey,
    decode_note,
    parse_origin,
    parse_vkey,
)
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.evidence import decoding
from taxledger.ledger.members import decode_member, is_member_number
from taxledger.ledger.shapes import array, ascending, fixed_bytes, integer, items, text

__all__ = [
    "CosignFork",
    "CosignedTwice",
    "ForkEvidence",
    "KeyBinding",
    "OtherBeginning",
    "TwoLeaves",
    "VoteFork",
    "decode_fork",
    "encode_fork",
]

_WHAT = "fork_evidence"
_PATH_MAX = 64
_ORIGIN_BYTES_MAX = 160
_VKEY_BYTES_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBeginning:
    """The first leaves of the larger tree, as many as the smaller one has, have another root than the smaller tree.

    Attributes:
        root: what those leaves have, 32 bytes; ``path`` the consistency proof from it to the larger tree.
    """

    root: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoLeaves:
    """At one place of both trees stand two leaves: their hashes, each with its audit path."""

    index: int
    leaf: bytes
    path: tuple[bytes, ...]
    other_leaf: bytes
    other_path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignedTwice:
    """One key under both trees: seconds and 64-byte signature for the first, then for the second."""

    key: VerifierKey
    time_s: int
    signature: bytes
    other_time_s: int
    other_signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignFork:
    """Trees that cannot be of one log, co-signed by the same.

    Attributes:
        first, second: ascending by (size, root).
        contradiction: None exactly where both have one size.
        signers: ascending by vkey; each is convicted.
    """

    first: Checkpoint
    second: Checkpoint
    contradiction: OtherBeginning | TwoLeaves | None
    signers: tuple[CosignedTwice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBinding:
    """A member's entry in a certified state: shows whose a vote key is. ``checkpoint``, ``header`` and
    ``inclusion`` are as in evidence.
    """

    checkpoint: bytes
    header: bytes
    inclusion: tuple[bytes, ...]
    entry: bytes
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteFork:
    """Two votes of one key for different headers at one height.

    Attributes:
        chain_id: 16 bytes.
        member: whose key it is said to be.
        vote_key: 32 bytes.
        votes: (header hash, signature) twice, ascending.
        binding: shows that the key is the member's; None where that is known otherwise (on the ledger).
    """

    chain_id: bytes
    height: int
    member: int
    vote_key: bytes
    votes: tuple[tuple[bytes, bytes], tuple[bytes, bytes]]
    binding: KeyBinding | None = None


ForkEvidence = CosignFork | VoteFork


# --- writing ----------------------------------------------------------------------------------


def encode_fork(fork: ForkEvidence) -> bytes:
    """The file.

    Raises:
        FormatError: no verifier would read it.
    """
    data = canonical.encode(
        [1, _WHAT, *(_cosign_items(fork) if isinstance(fork, CosignFork) else _votes(fork))]
    )
    try:
        decode_fork(data)
    except VerificationError as error:
        raise FormatError(f"not encodable as fork evidence: {error}") from error
    return data


def _cosign_items(fork: CosignFork) -> list[Any]:
    shown: list[Any] | None = None
    match fork.contradiction:
        case OtherBeginning(root=root, path=path):
            shown = ["consistency", root, path]
        case TwoLeaves() as two:
            shown = ["inclusion", two.index, two.leaf, two.path, two.other_leaf, two.other_path]
    trees = [[tree.origin, tree.size, tree.root] for tree in (fork.first, fork.second)]
    signers = [
        [each.key.text, each.time_s, each.signature, each.other_time_s, each.other_signature]
        for each in fork.signers
    ]
    return ["cosignatures", *trees, shown, signers]


def _votes(fork: VoteFork) -> list[Any]:
    binding, shown = fork.binding, None
    if binding is not None:
        shown = [binding.checkpoint, binding.header, binding.inclusion, binding.entry, binding.proof]
    votes = [list(vote) for vote in fork.votes]
    return ["votes", fork.chain_id, fork.height, fork.member, fork.vote_key, votes, shown]


# --- reading ----------------------------------------------------------------------------------


def decode_fork(data: bytes, *, bytes_max: int = limits.fork_bytes_max) -> ForkEvidence:
    """The content of a file; only its shape is checked.

    Raises:
        VerificationError: ``malformed`` or ``not_canonical``.
    """
    with decoding():
        value = canonical.decode(data, bytes_max=bytes_max, containers_max=limits.fork_containers_max)
        if type(value) is list and len(value) > 2 and type(value[0]) is int and value[:2] == [1, _WHAT]:
            if value[2] == "cosignatures":
                return _read_cosign_fork(*items(value, 7, "evidence of co-signatures")[3:])
            if value[2] == "votes":
                return _read_vote_fork(*items(value, 9, "evidence of votes")[3:])
        raise FormatError("expected fork evidence of version 1, of co-signatures or votes")


def _read_cosign_fork(first: Any, second: Any, contradiction: Any, signers: Any) -> CosignFork:
    trees = _read_tree(first), _read_tree(second)
    ascending([(tree.size, tree.root) for tree in trees], "the two trees")
    if (contradiction is None) != (trees[0].size == trees[1].size):
        raise FormatError("expected a contradiction exactly where the trees have two sizes")
    read = tuple(_read_signer(each) for each in array(signers, 1, limits.validators_max, "signers"))
    ascending([each.key.text for each in read], "signers")
    return CosignFork(
        first=trees[0],
        second=trees[1],
        contradiction=None if contradiction is None else _read_contradiction(contradiction),
        signers=read,
    )


def _read_tree(value: Any) -> Checkpoint:
    origin, size, root = items(value, 3, "a tree")
    parse_origin(text(origin, _ORIGIN_BYTES_MAX, "an origin"))
    return Checkpoint(
        origin=origin,
        size=integer(size, 1, limits.integer_max, "a size"),
        root=fixed_bytes(root, 32, "a root"),
    )


def _path(value: Any) -> tuple[bytes, ...]:
    return tuple(fixed_bytes(each, 32, "a hash") for each in array(value, 0, _PATH_MAX, "hashes"))


def _read_contradiction(value: Any) -> OtherBeginning | TwoLeaves:
    if type(value) is list and value[:1] == ["consistency"]:
        _, root, path = items(value, 3, "a proof of consistency")
        return OtherBeginning(root=fixed_bytes(root, 32, "a root"), path=_path(path))
    what, index, leaf, path, other_leaf, other_path = items(value, 6, "a contradiction")
    if what != "inclusion":
        raise FormatError("expected a contradiction by consistency or inclusion")
    return TwoLeaves(
        index=integer(index, 0, limits.integer_max, "an index"),
        leaf=fixed_bytes(leaf, 32, "a leaf hash"),
        path=_path(path),
        other_leaf=fixed_bytes(other_leaf, 32, "a leaf hash"),
        other_path=_path(other_path),
    )


def _read_signer(value: Any) -> CosignedTwice:
    key, time_s, signature, other_time_s, other_signature = items(value, 5, "a signer")
    read = parse_vkey(text(key, _VKEY_BYTES_MAX, "a vkey"))
    if read.type != COSIGNATURE_TYPE:
        raise FormatError(f"expected a vkey of type {COSIGNATURE_TYPE}, got type {read.type}")
    return CosignedTwice(
        key=read,
        time_s=integer(time_s, 0, limits.integer_max, "seconds"),
        signature=fixed_bytes(signature, 64, "a co-signature"),
        other_time_s=integer(other_time_s, 0, limits.integer_max, "seconds"),
        other_signature=fixed_bytes(other_signature, 64, "a co-signature"),
    )


def _read_vote_fork(chain_id: Any, height: Any, member: Any, key: Any, votes: Any, binding: Any) -> VoteFork:
    if not is_member_number(member):
        raise FormatError("expected a member 1 to 65535")
    pairs = [items(each, 2, "a vote") for each in items(votes, 2, "votes")]
    (one, by_one), (two, by_two) = [
        (fixed_bytes(header, 32, "a header hash"), fixed_bytes(signature, 64, "a vote"))
        for header, signature in pairs
    ]
    ascending([one, two], "header hashes")
    return VoteFork(
        chain_id=fixed_bytes(chain_id, 16, "a chain id"),
        height=integer(height, 1, limits.integer_max, "a height"),
        member=member,
        vote_key=fixed_bytes(key, 32, "a vote key"),
        votes=((one, by_one), (two, by_two)),
        binding=None if binding is None else _read_binding(binding, member),
    )


def _read_binding(value: Any, member: int) -> KeyBinding:
    checkpoint, header, inclusion, entry, proof = items(value, 5, "a binding")
    if any(type(each) is not bytes for each in (checkpoint, header, entry, proof)):
        raise FormatError("expected checkpoint, header, entry and proof as bytes")
    decode_note(checkpoint)
    decode_member(member, entry)
    return KeyBinding(
        checkpoint=checkpoint, header=header, inclusion=_path(inclusion), entry=entry, proof=proof
    )
