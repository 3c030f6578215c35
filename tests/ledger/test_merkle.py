"""The Merkle tree against the RFC's own recursive definition: all small sizes, corruption, large sizes."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger import merkle
from taxledger.ledger.errors import FormatError, InvariantError, VerificationError
from taxledger.ledger.hashing import EMPTY_ROOT, log_leaf

SIZE_MAX = 64
LEAVES = [log_leaf(index.to_bytes(2, "big")) for index in range(SIZE_MAX)]


def rfc_root(leaf_hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, as written there."""
    if not leaf_hashes:
        return hashlib.sha256(b"").digest()
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    split = 1
    while split * 2 < len(leaf_hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + rfc_root(leaf_hashes[:split]) + rfc_root(leaf_hashes[split:])).digest()


def rfc_path(index: int, leaf_hashes: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1."""
    if len(leaf_hashes) == 1:
        return []
    split = 1
    while split * 2 < len(leaf_hashes):
        split *= 2
    left, right = leaf_hashes[:split], leaf_hashes[split:]
    if index < split:
        return [*rfc_path(index, left), rfc_root(right)]
    return [*rfc_path(index - split, right), rfc_root(left)]


def rfc_subproof(old: int, leaf_hashes: list[bytes], complete: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 §2.1.2."""
    if old == len(leaf_hashes):
        return [] if complete else [rfc_root(leaf_hashes)]
    split = 1
    while split * 2 < len(leaf_hashes):
        split *= 2
    left, right = leaf_hashes[:split], leaf_hashes[split:]
    if old <= split:
        return [*rfc_subproof(old, left, complete), rfc_root(right)]
    return [*rfc_subproof(old - split, right, False), rfc_root(left)]


ROOTS = [rfc_root(LEAVES[:size]) for size in range(SIZE_MAX + 1)]
FRONTIER, NODES = merkle.EMPTY.extended(LEAVES)


def get_node(level: int, index: int) -> bytes:
    return NODES[level, index]


def refused(code: str, call, *arguments) -> None:
    with pytest.raises(VerificationError) as caught:
        call(*arguments)
    assert caught.value.code == code


def test_known_roots_of_certificate_transparency() -> None:
    """The roots that other implementations of RFC 6962 publish for these eight leaves."""
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    leaves = [log_leaf(bytes.fromhex(each)) for each in inputs]
    assert [merkle.root_of(leaves[:size]).hex() for size in range(1, 9)] == roots


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_frontier_in_any_steps(step: int) -> None:
    frontier, nodes = merkle.EMPTY, {}
    assert frontier.root == EMPTY_ROOT
    for begin in range(0, SIZE_MAX, step):
        before = frontier
        frontier, added = frontier.extended(LEAVES[begin : begin + step])
        assert not nodes.keys() & added.keys()
        nodes |= added
        assert before.size == begin
        assert frontier.root == ROOTS[frontier.size] == merkle.root_of(LEAVES[: frontier.size])
    assert frontier == FRONTIER
    assert nodes == NODES
    assert len(nodes) == 2 * SIZE_MAX - 1
    for (level, index), node in nodes.items():
        assert node == rfc_root(LEAVES[index << level : (index + 1) << level])


def test_frontier_at_every_size() -> None:
    for size in range(SIZE_MAX + 1):
        frontier = merkle.frontier_at(get_node, size)
        assert (frontier.size, frontier.root) == (size, ROOTS[size])
        assert frontier.extended(LEAVES[size:])[0] == FRONTIER


def test_frontier_that_contradicts_itself() -> None:
    with pytest.raises(InvariantError):
        merkle.Frontier(size=3, edge=(bytes(32),))


def test_inclusion_all_sizes_all_indexes() -> None:
    for size in range(1, SIZE_MAX + 1):
        for index in range(size):
            proof = merkle.prove_inclusion(get_node, index, size)
            assert proof == rfc_path(index, LEAVES[:size])
            merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


def test_inclusion_of_another_leaf_index_size_or_root_refused() -> None:
    for size in range(1, 18):
        for index in range(size):
            proof = merkle.prove_inclusion(get_node, index, size)
            for other in range(18):
                if other != index:
                    args = (LEAVES[index], other, size, proof, ROOTS[size])
                    refused("inclusion_invalid", merkle.verify_inclusion, *args)
                    args = (LEAVES[other], index, size, proof, ROOTS[size])
                    refused("inclusion_invalid", merkle.verify_inclusion, *args)
                if other != size:
                    args = (LEAVES[index], index, size, proof, ROOTS[other])
                    refused("inclusion_invalid", merkle.verify_inclusion, *args)


def test_inclusion_cut_extended_or_reordered_refused() -> None:
    for size in range(1, SIZE_MAX + 1):
        for index in range(size):
            proof = merkle.prove_inclusion(get_node, index, size)
            wrong = [proof[:cut] for cut in range(len(proof))] + [proof[1:]] * bool(proof)
            wrong += [[*proof, bytes(32)], [bytes(32), *proof], [*proof, ROOTS[size]]]
            wrong += [proof[::-1]] * (len(proof) > 1)
            for each in wrong:
                args = (LEAVES[index], index, size, each, ROOTS[size])
                refused("inclusion_invalid", merkle.verify_inclusion, *args)


@pytest.mark.parametrize(("index", "size"), [(0, 2), (4, 5), (5, 7), (6, 7), (3, 11), (63, 64)])
def test_inclusion_every_bit_flipped_refused(index: int, size: int) -> None:
    proof = merkle.prove_inclusion(get_node, index, size)
    for flipped in flips(proof):
        args = (LEAVES[index], index, size, flipped, ROOTS[size])
        refused("inclusion_invalid", merkle.verify_inclusion, *args)


def test_bytes_moved_from_one_hash_into_its_neighbour_refused() -> None:
    """What is hashed stays the same, so only the lengths give it away."""
    (sibling,) = merkle.prove_inclusion(get_node, 0, 2)
    both = LEAVES[0] + sibling
    for cut in (0, 31, 33, 64):
        refused("inclusion_invalid", merkle.verify_inclusion, both[:cut], 0, 2, [both[cut:]], ROOTS[2])


def test_consistency_all_pairs() -> None:
    for new in range(SIZE_MAX + 1):
        for old in range(new + 1):
            proof = merkle.prove_consistency(get_node, old, new)
            if old:
                assert proof == rfc_subproof(old, LEAVES[:new], True)
            merkle.verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)


def test_consistency_of_other_roots_and_sizes_refused() -> None:
    for new in range(1, SIZE_MAX + 1):
        for old in range(new + 1):
            proof = merkle.prove_consistency(get_node, old, new)
            args = (old, EMPTY_ROOT if old else ROOTS[1], new, ROOTS[new], proof)
            refused("consistency_invalid", merkle.verify_consistency, *args)
            if old:
                args = (old, ROOTS[old], new, ROOTS[new - 1], proof)
                refused("consistency_invalid", merkle.verify_consistency, *args)
                args = (old - 1, ROOTS[old], new, ROOTS[new], proof)
                refused("consistency_invalid", merkle.verify_consistency, *args)
            if old < new:
                args = (new, ROOTS[new], old, ROOTS[old], proof)
                refused("consistency_invalid", merkle.verify_consistency, *args)


def test_consistency_cut_extended_or_reordered_refused() -> None:
    for new in range(SIZE_MAX + 1):
        for old in range(new + 1):
            proof = merkle.prove_consistency(get_node, old, new)
            wrong = [proof[:cut] for cut in range(len(proof))] + [proof[1:]] * bool(proof)
            wrong += [[*proof, bytes(32)], [bytes(32), *proof], [*proof, ROOTS[new]]]
            wrong += [proof[::-1]] * (len(proof) > 1)
            for each in wrong:
                args = (old, ROOTS[old], new, ROOTS[new], each)
                refused("consistency_invalid", merkle.verify_consistency, *args)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (3, 7), (4, 7), (6, 8), (7, 64)])
def test_consistency_every_bit_flipped_refused(old: int, new: int) -> None:
    proof = merkle.prove_consistency(get_node, old, new)
    assert proof
    for flipped in flips(proof):
        refused("consistency_invalid", merkle.verify_consistency, old, ROOTS[old], new, ROOTS[new], flipped)


def flips(proof: list[bytes]):
    for at, each in enumerate(proof):
        for bit in range(256):
            changed = (int.from_bytes(each, "big") ^ 1 << bit).to_bytes(32, "big")
            yield [*proof[:at], changed, *proof[at + 1 :]]


def test_provers_refuse_positions_that_are_not_there() -> None:
    for index, size in [(0, 0), (5, 5), (-1, 5)]:
        with pytest.raises(FormatError, match=f"got {index}"):
            merkle.prove_inclusion(get_node, index, size)
    for old, new in [(6, 5), (-1, 5)]:
        with pytest.raises(FormatError, match=f"got {old}"):
            merkle.prove_consistency(get_node, old, new)


HOSTILE_NUMBERS = st.one_of(
    st.integers(), st.booleans(), st.none(), st.text(), st.floats(), st.sampled_from([2**63 - 1, 2**63])
)
HOSTILE_HASHES = st.one_of(
    st.binary(max_size=40), st.none(), st.text(max_size=3), st.binary(min_size=32, max_size=32)
)
HOSTILE_PROOFS = st.one_of(
    st.none(),
    st.binary(),
    st.integers(),
    st.lists(HOSTILE_HASHES, max_size=70),
    st.dictionaries(st.text(), st.text()),
)


@given(HOSTILE_HASHES, HOSTILE_NUMBERS, HOSTILE_NUMBERS, HOSTILE_PROOFS, HOSTILE_HASHES)
@settings(max_examples=300, deadline=None)
def test_hostile_input_is_refused_not_crashed_on(leaf_hash, lower, upper, proof, root) -> None:
    for call, args in [
        (merkle.verify_inclusion, (leaf_hash, lower, upper, proof, root)),
        (merkle.verify_consistency, (lower, leaf_hash, upper, root, proof)),
    ]:
        try:
            call(*args)
        except VerificationError:
            pass
        else:  # what may be accepted: a leaf that is the whole log, equal logs, and the empty log's extension
            assert leaf_hash == root or (lower == 0 and leaf_hash == EMPTY_ROOT)


@given(st.integers(0, 2**62), st.data())
@settings(max_examples=100, deadline=None)
def test_large_sizes(size: int, data: st.DataObject) -> None:
    """A log of equal leaves: every complete node of a level has one hash, so any size fits in memory."""
    levels = [log_leaf(b"")]
    for _ in range(63):
        levels.append(hashlib.sha256(b"\x01" + levels[-1] * 2).digest())

    def uniform(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size
        return levels[level]

    root = merkle.frontier_at(uniform, size).root
    old = data.draw(st.integers(0, size))
    old_root = merkle.frontier_at(uniform, old).root
    proof = merkle.prove_consistency(uniform, old, size)
    merkle.verify_consistency(old, old_root, size, root, proof)
    if proof:
        refused("consistency_invalid", merkle.verify_consistency, old, old_root, size, root, proof[:-1])
    if old < size:
        path = merkle.prove_inclusion(uniform, old, size)
        assert len(path) <= 63
        merkle.verify_inclusion(levels[0], old, size, path, root)
        refused("inclusion_invalid", merkle.verify_inclusion, log_leaf(b"x"), old, size, path, root)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_appends_and_proofs_in_a_log_of_thousands(seed: int) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    frontier, nodes, leaves, roots = merkle.EMPTY, {}, [], {0: EMPTY_ROOT}
    while len(leaves) < 3_000:
        batch = [source.randbytes(32) for _ in range(source.randint(0, 300))]
        frontier, added = frontier.extended(batch)
        nodes |= added
        leaves += batch
        roots[frontier.size] = frontier.root
    assert frontier.root == merkle.root_of(leaves)
    sizes = sorted(roots)

    def node(level: int, index: int) -> bytes:
        return nodes[level, index]

    for old in sizes:
        new = source.choice([size for size in sizes if size >= old])
        merkle.verify_consistency(old, roots[old], new, roots[new], merkle.prove_consistency(node, old, new))
        index = source.randrange(max(new, 1))
        if new:
            merkle.verify_inclusion(
                leaves[index], index, new, merkle.prove_inclusion(node, index, new), roots[new]
            )
