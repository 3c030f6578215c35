"""Fork evidence: two statements signed with one key that no honest validator signs both (docs/protocol.md §17).

Why no honest validator is ever convicted, whatever it is sent: all trees that it co-signs are states of its one
log, which is only ever appended to, so of one size it has one root, and the larger begin with the smaller. It
journals its vote for a height before it sends it, and repeats the journal. The engine in an origin plays no part:
a log keeps its chain id and goes on when its engine is replaced, so trees under both names are of the one log.

Both statements are of the *same* key. Who had to replace a key is not answerable for what a thief signs with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.checkpoint import cosigner_name, decode_note, parse_origin, verify_cosignature
from taxledger.ledger.crypto import verify_signature
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.forkformat import (
    CosignFork,
    ForkEvidence,
    OtherBeginning,
    TwoLeaves,
    VoteFork,
    decode_fork,
)
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.header import vote_message
from taxledger.ledger.members import Member, decode_member
from taxledger.ledger.merkle import (
    GetNode,
    frontier_at,
    prove_consistency,
    verify_consistency,
    verify_inclusion,
)
from taxledger.ledger.policy import Policy, verify_signatures
from taxledger.ledger.statekeys import member_key
from taxledger.ledger.statemap.proof import verify_prefixes
from taxledger.ledger.verify import verify_header

__all__ = ["narrow_fork", "prove_other_beginning", "verify_fork", "verify_fork_of"]


# --- making -----------------------------------------------------------------------------------


def prove_other_beginning(get_node: GetNode, size: int, larger: int) -> OtherBeginning:
    """What a log's first ``size`` leaves are under its tree of ``larger`` leaves: whoever co-signed that tree and
    another root of ``size`` leaves contradicts itself.

    Raises:
        FormatError: not ``0 < size < larger``.
    """
    path = prove_consistency(get_node, size, larger)
    return OtherBeginning(root=frontier_at(get_node, size).root, path=tuple(path))


def narrow_fork(fork: ForkEvidence, name: str) -> ForkEvidence:
    """The part of evidence that convicts one member, as the ledger takes it.

    Args:
        fork: any.
        name: the member's name, for co-signatures.

    Raises:
        FormatError: it convicts nobody of this name.
    """
    if isinstance(fork, VoteFork):
        return replace(fork, binding=None)
    chosen = tuple(each for each in fork.signers if each.key.name.rpartition("/")[2] == name)
    if not chosen:
        raise FormatError(f"this evidence does not name {name}")
    return replace(fork, signers=chosen)


# --- verifying --------------------------------------------------------------------------------


def verify_fork(data: bytes, policy: Policy) -> tuple[str, ...]:
    """Whom a file convicts, by the policy's keys; offline, and whenever it is asked: guilt does not become old.

    Args:
        data: the file.
        policy: whose keys they are; one of the time at which they were signed with.

    Returns:
        Names of members, ascending, at least one.

    Raises:
        VerificationError: ``malformed``, ``not_canonical``, ``policy_mismatch`` (another chain), ``signer_unknown``,
            ``binding_missing``, ``contradiction_invalid``, ``signature_invalid``, ``key_mismatch``; of a binding,
            §10's codes.
    """
    fork = decode_fork(data)
    chain = parse_origin(policy.origin)
    _check_chain(fork, chain.network, chain.chain_id)
    if isinstance(fork, VoteFork):
        name = _verify_binding(fork, policy)
        _verify_votes(fork)
        return (name,)
    known = {key.text: name for name, key in policy.witnesses.items()}
    for each in fork.signers:
        if each.key.text not in known:
            raise VerificationError("signer_unknown", "not a witness of the policy", got=each.key.text)
    _verify_cosignatures(fork)
    return tuple(sorted(known[each.key.text] for each in fork.signers))


def verify_fork_of(data: bytes, member: Member, chain_id: bytes) -> None:
    """Returns when evidence convicts exactly this member, by the keys of its entry (rule 17).

    Bounded, for every validator does it: one signer, two signatures, two paths, ``conviction_bytes_max``. The
    network's name is the evidence's own: a chain id, which the genesis gives, has one network.

    Raises:
        VerificationError: as ``verify_fork``; ``signer_unknown`` for another key than the member has.
    """
    fork = decode_fork(data, bytes_max=limits.conviction_bytes_max)
    network = "" if isinstance(fork, VoteFork) else parse_origin(fork.first.origin).network
    _check_chain(fork, network, chain_id)
    if isinstance(fork, VoteFork):
        if fork.binding is not None:
            raise VerificationError("malformed", "expected no binding: the ledger knows whose the key is")
        if (fork.member, fork.vote_key) != (member.number, member.vote_key):
            raise VerificationError("signer_unknown", f"not member {member.number} with its present vote key")
        _verify_votes(fork)
        return
    if len(fork.signers) != 1:
        raise VerificationError("malformed", "signers", expected=1, got=len(fork.signers))
    key = fork.signers[0].key
    if (key.name, key.public_key) != (cosigner_name(network, member.name), member.cosign_key):
        raise VerificationError(
            "signer_unknown", f"not the present co-signing key of {member.name}", got=key.text
        )
    _verify_cosignatures(fork)


def _check_chain(fork: ForkEvidence, network: str, chain_id: bytes) -> None:
    """One network and chain; the engine's name is left open (see the module text)."""
    got = [(network, fork.chain_id)] if isinstance(fork, VoteFork) else _chains(fork)
    for each in got:
        if each != (network, chain_id):
            raise VerificationError(
                "policy_mismatch",
                "the chain",
                expected=f"{network}/{chain_id.hex()}",
                got=f"{each[0]}/{each[1].hex()}",
            )


def _chains(fork: CosignFork) -> list[tuple[str, bytes]]:
    origins = [parse_origin(tree.origin) for tree in (fork.first, fork.second)]
    return [(origin.network, origin.chain_id) for origin in origins]


def _verify_cosignatures(fork: CosignFork) -> None:
    _verify_contradiction(fork)
    for each in fork.signers:
        verify_cosignature(each.key.public_key, fork.first, each.time_s, each.signature)
        verify_cosignature(each.key.public_key, fork.second, each.other_time_s, each.other_signature)


def _verify_contradiction(fork: CosignFork) -> None:
    """No log has both trees: under one root, place and path length there is one hash only."""
    first, second, shown = fork.first, fork.second, fork.contradiction
    try:
        if isinstance(shown, OtherBeginning):
            verify_consistency(first.size, shown.root, second.size, second.root, shown.path)
            differs = shown.root != first.root
        elif isinstance(shown, TwoLeaves):
            verify_inclusion(shown.leaf, shown.index, first.size, shown.path, first.root)
            verify_inclusion(shown.other_leaf, shown.index, second.size, shown.other_path, second.root)
            differs = shown.leaf != shown.other_leaf
        else:
            differs = first.root != second.root  # of one size; the reader saw to it
    except VerificationError as error:
        raise VerificationError("contradiction_invalid", str(error)) from error
    if not differs:
        raise VerificationError(
            "contradiction_invalid", "the larger tree may well begin with the smaller one"
        )


def _verify_votes(fork: VoteFork) -> None:
    for header_hash, signature in fork.votes:
        verify_signature(fork.vote_key, signature, vote_message(fork.chain_id, fork.height, header_hash))


def _verify_binding(fork: VoteFork, policy: Policy) -> str:
    """The member's name, when a certified state of the policy's validators has the key in its entry."""
    binding = fork.binding
    if binding is None:
        raise VerificationError("binding_missing", "nothing in the file shows whose the vote key is")
    note = decode_note(binding.checkpoint)
    header = verify_header(binding.header, policy, note)
    oldest, age_ms = _times(note.cosign_lines)
    verify_signatures(policy, note, now_ms=oldest + age_ms, age_ms_max=age_ms)
    point = note.checkpoint
    verify_inclusion(log_leaf(binding.header), point.size - 1, point.size, binding.inclusion, point.root)
    key = member_key(fork.member)
    verify_prefixes(header.state_root, {key: [(key, binding.entry)]}, binding.proof)
    member = decode_member(fork.member, binding.entry)
    if member.vote_key != fork.vote_key:
        raise VerificationError("key_mismatch", f"another vote key than that of {member.name}")
    return member.name


def _times(lines: Sequence[Any]) -> tuple[int, int]:
    """(the oldest co-signature's instant, from there to the newest one's), in ms: at that instant none is ahead."""
    times_ms = [line.time_s * 1_000 for line in lines] or [0]
    return min(times_ms), max(times_ms) - min(times_ms)
