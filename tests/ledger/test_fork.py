"""Fork evidence: what convicts whom, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product

import chainkit
import forkkit
import pytest

from taxledger.ledger import canonical, limits
from taxledger.ledger.checkpoint import Checkpoint
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.fork import narrow_fork, prove_other_beginning, verify_fork, verify_fork_of
from taxledger.ledger.forkformat import (
    CosignFork,
    ForkEvidence,
    OtherBeginning,
    TwoLeaves,
    VoteFork,
    decode_fork,
    encode_fork,
)
from taxledger.ledger.merkle import prove_inclusion

KINDS: dict[str, Callable[[], ForkEvidence]] = {
    "one size": forkkit.same_size,
    "other beginning": forkkit.other_beginning,
    "two leaves": forkkit.two_leaves,
    "votes": forkkit.votes,
}
CODES = {
    "malformed",
    "not_canonical",
    "policy_mismatch",
    "signer_unknown",
    "contradiction_invalid",
    "signature_invalid",
    "key_mismatch",
    "binding_missing",
}
BINDING_CODES = {
    "header_mismatch",
    "policy_outdated",
    "inclusion_invalid",
    "prefix_incomplete",
    "map_proof_invalid",
    "signer_repeated",
    "quorum_missing",
}


def refused(data: bytes) -> str:
    with pytest.raises(VerificationError) as error:
        verify_fork(data, forkkit.history(1).policy())
    return error.value.code


def code(fork: ForkEvidence) -> str:
    return refused(encode_fork(fork))


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_contradicts_itself_is_convicted(kind: str) -> None:
    fork = KINDS[kind]()
    data = encode_fork(fork)
    assert decode_fork(data) == fork
    assert verify_fork(data, forkkit.history(1).policy()) == ("v3",)
    narrowed = encode_fork(narrow_fork(fork, "v3"))
    chain = forkkit.history(1)
    verify_fork_of(narrowed, chainkit.validator(3), chain.chain_id)


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_counts(kind: str) -> None:
    data = encode_fork(KINDS[kind]())
    for at, value in product(range(len(data)), (0x01, 0x80, 0xFF)):
        corrupt = data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]
        allowed = CODES | BINDING_CODES if kind == "votes" else CODES - {"key_mismatch", "binding_missing"}
        assert refused(corrupt) in allowed, f"byte {at}"
    for end in range(len(data)):
        assert refused(data[:end]) in ("malformed", "not_canonical")
    assert refused(data + b"\0") == "not_canonical"


def test_contradicting_certificates_convict_all_that_signed_both() -> None:
    policy = forkkit.history(1).policy()
    for fork in (forkkit.same_size(1, 3, 4), forkkit.other_beginning(4, 2), forkkit.two_leaves(2, 1, 3, 4)):
        names = [each.key.name.split("/")[1] for each in fork.signers]
        assert verify_fork(encode_fork(fork), policy) == tuple(sorted(names))
        for name in names:
            assert verify_fork(encode_fork(narrow_fork(fork, name)), policy) == (name,)
    with pytest.raises(FormatError):
        narrow_fork(forkkit.same_size(1), "v2")


def test_the_engine_in_an_origin_plays_no_part() -> None:
    fork = forkkit.moved(forkkit.other_beginning(), "cometbft")
    assert verify_fork(encode_fork(fork), forkkit.history(1).policy()) == ("v3",)
    # A handover: the same tree under both names is no contradiction, and has no form of evidence.
    same = forkkit.tree(forkkit.history(1), 3)
    with pytest.raises(FormatError):
        encode_fork(forkkit.cosign_fork(same, replace(same, origin=f"{same.origin[:-8]}cometbft"), None, 3))


@pytest.mark.parametrize("change", ["network", "chain"])
def test_another_chain_convicts_nobody(change: str) -> None:
    fork = forkkit.same_size()
    network, chain_id, engine = fork.first.origin.split("/")
    origin = f"other/{chain_id}/{engine}" if change == "network" else f"{network}/{'0' * 32}/{engine}"
    for trees in ({"first"}, {"second"}, {"first", "second"}):
        changed = {name: replace(getattr(fork, name), origin=origin) for name in sorted(trees)}
        assert code(replace(fork, **changed)) == "policy_mismatch"
    assert code(replace(forkkit.votes(), chain_id=bytes(16))) == "policy_mismatch"


def test_no_two_trees_of_one_log_make_evidence() -> None:
    """Every pair of sizes of one log, with every proof that could be put beside it."""
    chain = forkkit.history(1)
    node, policy = forkkit.node_of(chain), chain.policy()
    last = forkkit.tree(chain, 5).size
    trees = []
    for size in range(1, last + 1):
        begun = prove_other_beginning(node, size, last)
        trees.append(Checkpoint(origin=chain.origin, size=size, root=begun.root))
    for first, second in combinations(trees, 2):
        shown: list[OtherBeginning | TwoLeaves | None] = [
            prove_other_beginning(node, first.size, second.size),
            *(
                TwoLeaves(
                    index=index,
                    leaf=node(0, index),
                    path=tuple(prove_inclusion(node, index, first.size)),
                    other_leaf=node(0, other),
                    other_path=tuple(prove_inclusion(node, other, second.size)),
                )
                for index in range(first.size)
                for other in range(second.size)
            ),
        ]
        for each in shown:
            data = encode_fork(forkkit.cosign_fork(first, second, each, 3))
            with pytest.raises(VerificationError) as error:
                verify_fork(data, policy)
            assert error.value.code == "contradiction_invalid"


def test_statements_of_two_keys_convict_nobody() -> None:
    fork = forkkit.same_size()
    old = forkkit.signed(3, fork.first, fork.second, generation=1)
    both = replace(old, key=fork.signers[0].key, signature=fork.signers[0].signature)
    assert code(replace(fork, signers=(both,))) == "signature_invalid"
    assert code(replace(fork, signers=(old,))) == "signer_unknown"


def test_a_stranger_beside_a_guilty_one_is_not_passed_over() -> None:
    fork = forkkit.same_size(3, 4)
    stranger = forkkit.signed(9, fork.first, fork.second)
    assert code(replace(fork, signers=(*fork.signers, stranger))) == "signer_unknown"
    innocent = replace(fork.signers[1], other_signature=fork.signers[1].signature)
    assert code(replace(fork, signers=(fork.signers[0], innocent))) == "signature_invalid"


def test_votes_need_to_be_bound_to_their_member() -> None:
    assert code(forkkit.votes(bound=False)) == "binding_missing"
    # The key of one member under the entry of another.
    fork = forkkit.votes(3)
    other = replace(fork, member=4, binding=forkkit.binding(forkkit.history(1), 4))
    assert code(other) == "key_mismatch"
    assert code(replace(fork, member=4)) == "map_proof_invalid"


def test_two_votes_for_one_header_or_of_two_heights_convict_nobody() -> None:
    fork = forkkit.votes()
    with pytest.raises(FormatError):
        encode_fork(replace(fork, votes=(fork.votes[0], fork.votes[0])))
    assert code(replace(fork, height=4)) == "signature_invalid"


def test_an_honest_key_is_not_convicted_by_another_members_misdeed() -> None:
    chain = forkkit.history(1)
    for fork in (forkkit.same_size(3), forkkit.votes(3, bound=False)):
        data = encode_fork(fork)
        for member in (
            chainkit.validator(4),
            chainkit.validator(3, **rotated(3)),
            chainkit.validator(3, name="x"),
        ):
            if member.name == "x" and isinstance(fork, VoteFork):
                continue  # a vote names its member by number
            with pytest.raises(VerificationError) as error:
                verify_fork_of(data, member, chain.chain_id)
            assert error.value.code == "signer_unknown"


def rotated(number: int) -> dict[str, bytes]:
    return {f"{use}_key": chainkit.signer(number, use, 1).public_key for use in ("vote", "cosign")}


def test_the_ledger_takes_one_member_at_a_time_and_no_more_than_it_needs() -> None:
    chain = forkkit.history(1)
    for fork in (forkkit.same_size(3, 4), forkkit.votes()):
        with pytest.raises(VerificationError) as error:
            verify_fork_of(encode_fork(fork), chainkit.validator(3), chain.chain_id)
        assert error.value.code == "malformed"
    with pytest.raises(VerificationError):
        verify_fork_of(bytes(limits.conviction_bytes_max + 1), chainkit.validator(3), chain.chain_id)


def test_the_longest_evidence_of_one_member_fits_a_change() -> None:
    path = (bytes(32),) * 64
    largest = limits.integer_max
    fork = forkkit.same_size(3)
    shown = TwoLeaves(index=largest, leaf=bytes(32), path=path, other_leaf=bytes(32), other_path=path)
    big = CosignFork(
        first=replace(fork.first, size=largest - 1, origin=f"{'n' * 63}/{'0' * 32}/{'e' * 32}"),
        second=replace(fork.second, size=largest, origin=f"{'n' * 63}/{'0' * 32}/{'e' * 32}"),
        contradiction=shown,
        signers=(replace(fork.signers[0], time_s=largest, other_time_s=largest),),
    )
    assert len(encode_fork(big)) <= limits.conviction_bytes_max


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 2),
        (0, True),
        (1, "fork"),
        (2, "other"),
        (3, ["test.net", 1, bytes(32)]),
        (3, None),
        (4, []),
        (5, ["consistency", bytes(31), []]),
        (5, ["consistency", bytes(32), [bytes(32)] * 65]),
        (5, ["inclusion", -1, bytes(32), [], bytes(32), []]),
        (5, ["other", 0, bytes(32), [], bytes(32), []]),
        (5, None),
        (6, []),
        (6, [[1, 2, 3, 4, 5]]),
    ],
)
def test_other_shapes_are_malformed(at: int, value: object) -> None:
    items = canonical.decode(encode_fork(forkkit.other_beginning()))
    assert refused(canonical.encode([*items[:at], value, *items[at + 1 :]])) == "malformed"
