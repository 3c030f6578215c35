"""Map proofs: everything proven verifies, nothing forged does."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.hashing import EMPTY_ROOT, map_inner, map_leaf, sha256
from taxledger.ledger.statemap import MapProof, MapView, subtree_root, verify_prefixes
from taxledger.ledger.store import MemoryStore

CODES = {"prefix_incomplete", "map_proof_invalid"}
KEYS = [bytes(key) for key in ([0, 0], [0, 1], [1, 0], [1, 128], [2, 0, 0], [2, 0, 1], [7, 3])]
PREFIXES = [
    b"",
    *(bytes([first]) for first in (0, 1, 2, 6, 7, 255)),
    *(bytes(pair) for pair in ([0, 0], [0, 1], [0, 2], [1, 0], [1, 128], [1, 129], [2, 0], [2, 1], [7, 3])),
    *(bytes(triple) for triple in ([2, 0, 0], [2, 0, 1], [2, 0, 2], [2, 1, 0], [6, 0, 0], [7, 0, 0])),
]


def view_of(content: Mapping[bytes, bytes], page_entries: int = 2) -> MapView:
    view = MapView.open(MemoryStore(), page_entries=page_entries)
    return view.over(view.apply(content))


def below(content: Mapping[bytes, bytes], prefix: bytes) -> list[tuple[bytes, bytes]]:
    return sorted(pair for pair in content.items() if pair[0].startswith(prefix))


def is_free(prefixes: Sequence[bytes]) -> bool:
    return not any(a.startswith(b) for a, b in itertools.permutations(prefixes, 2))


def proven(content: Mapping[bytes, bytes], prefixes: Sequence[bytes], page_entries: int = 2) -> MapProof:
    """A proof of an honest prover, checked against the content and by the verifier."""
    view = view_of(content, page_entries)
    made = view.prove(prefixes)
    assert made.entries == {prefix: below(content, prefix) for prefix in prefixes}
    verify_prefixes(view.root, made.entries, made.proof)
    return made


def refusal(root: bytes, entries: Mapping[bytes, Sequence[tuple[bytes, bytes]]], proof: bytes) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_prefixes(root, entries, proof)
    assert caught.value.code in CODES
    return caught.value.code


def outcome(root: bytes, entries: Mapping[bytes, Sequence[tuple[bytes, bytes]]], proof: bytes) -> str | None:
    try:
        verify_prefixes(root, entries, proof)
    except VerificationError as error:
        return error.code
    return None


def mutations(proof: bytes) -> Iterator[bytes]:
    for at, byte in enumerate(proof):
        for changed in {byte ^ 1, byte ^ 128, 0, 2, 5, (byte + 1) % 256} - {byte}:
            yield proof[:at] + bytes([changed]) + proof[at + 1 :]
        yield proof[:at]
        yield proof[:at] + proof[at + 1 :]
        for inserted in (0, 1, 4, 5, byte):
            yield proof[:at] + bytes([inserted]) + proof[at:]
    yield proof + b"\0"


def test_every_pair_of_prefixes_over_every_subset_of_few_keys() -> None:
    asked = [[], *([prefix] for prefix in PREFIXES)]
    asked += [list(pair) for pair in itertools.combinations(PREFIXES, 2) if is_free(pair)]
    for size in range(len(KEYS) + 1):
        for chosen in itertools.combinations(KEYS, size):
            content = {key: b"v" + key for key in chosen}
            view = view_of(content)
            for prefixes in asked:
                if any(_is_too_long(prefix, key) for prefix in prefixes for key in chosen):
                    continue
                made = view.prove(prefixes)
                assert made.entries == {prefix: below(content, prefix) for prefix in prefixes}
                verify_prefixes(view.root, made.entries, made.proof)


def _is_too_long(prefix: bytes, key: bytes) -> bool:
    return len(prefix) > len(key) and prefix.rstrip(b"\0") == key.rstrip(b"\0")


def test_many_prefixes_at_once() -> None:
    for size in range(len(KEYS) + 1):
        for chosen in itertools.combinations(KEYS, size):
            content = {key: b"v" + key for key in chosen}
            proven(
                content, [b"\0", b"\1\0", b"\1\x80", b"\1\x90", b"\2\0\0", b"\2\0\2", b"\2\1", b"\6", b"\7\3"]
            )
            proven(content, [b"\2\0", b"\3", b"\6\0", b"\7\3"])


FORGED = [
    [b"\0"],
    [b"\2\0\0"],
    [b"\1\x81", b"\2"],
    [b"\2\0\2"],
    [b"\6"],
    [b"\0\0", b"\1", b"\2\0", b"\6", b"\7\3"],
    [b"\0\0", b"\0\1", b"\1\0", b"\1\x80", b"\2\0\0", b"\2\0\1", b"\2\1", b"\7\3"],
    [],
]


@pytest.mark.parametrize(
    "prefixes", FORGED, ids=lambda prefixes: "+".join(p.hex() for p in prefixes) or "none"
)
def test_every_changed_cut_or_added_byte_is_refused(prefixes: list[bytes]) -> None:
    content = {key: b"v" + key for key in KEYS}
    view, made = view_of(content), proven(content, prefixes)
    for forged in mutations(made.proof):
        refusal(view.root, made.entries, forged)


def test_a_changed_proof_can_not_prove_anything_false_about_small_maps() -> None:
    """For every wrong set of entries: the right proof, and each with a changed byte, is refused."""
    content = dict.fromkeys(KEYS[1:6], b"v")
    view = view_of(content)
    prefixes = [b"\0", b"\1", b"\2\0", b"\7\3"]
    made = view.prove(prefixes)
    wrong: list[dict[bytes, list[tuple[bytes, bytes]]]] = []
    for prefix in prefixes:
        pairs = made.entries[prefix]
        for at in range(len(pairs)):
            key, _ = pairs[at]
            wrong += (
                made.entries | {prefix: pairs[:at] + pairs[at + 1 :]},
                made.entries | {prefix: [*pairs[:at], (key, b"w"), *pairs[at + 1 :]]},
                made.entries | {prefix: [*pairs[: at + 1], *pairs[at:]]},
                made.entries | {prefix: [*pairs[:at], (key + b"\0", b"v"), *pairs[at + 1 :]]},
                made.entries | {prefix: [*pairs[:at], (b"\3" + key, b"v"), *pairs[at + 1 :]]},
            )
        if len(pairs) > 1:
            wrong.append(made.entries | {prefix: pairs[::-1]})
        wrong.append(made.entries | {prefix: [*pairs, (prefix + b"\xff\xff", b"v")]})
    for entries in wrong:
        assert refusal(view.root, entries, made.proof) == "prefix_incomplete"
        for forged in mutations(made.proof):
            refusal(view.root, entries, forged)


def parts_at(proof: bytes, operation: int) -> list[int]:
    """Where parts of an operation begin, in a proof in which every prefix is present."""
    found, at = [], 0
    while at < len(proof):
        if proof[at] == operation:
            found.append(at)
        at += {0: 33, 1: 3, 2: 33, 5: 1}[proof[at]]
    return found


def forms_changed(proof: bytes, hashes: Sequence[bytes]) -> Iterator[bytes]:
    """Each part that is a prefix's keys in the other form: 02 as 05, 05 as 02 with every hash."""
    for at in parts_at(proof, 2):
        yield proof[:at] + b"\5" + proof[at + 33 :]
        yield proof[:at] + b"\5" + proof[at + 1 :]
    for at in parts_at(proof, 5):
        yield from (proof[:at] + b"\2" + each + proof[at + 1 :] for each in hashes)


@pytest.mark.parametrize("size", range(1, 4))
def test_of_two_forms_of_a_part_only_one_is_taken(size: int) -> None:
    """Every few prefixes over all keys, and over keys of which some begin with another."""
    for keys in (KEYS, [b"\0", b"\0\1", b"\0\1\1", b"\1\x80", b"\2\0", b"\2\0\1"]):
        content = {key: b"v" + key for key in keys}
        view = view_of(content)
        hashes = [map_leaf(key, value) for key, value in content.items()]
        prefixes = sorted({key[:length] for key in keys for length in range(len(key) + 1)})
        for asked in itertools.combinations(prefixes, size):
            if not is_free(asked) or any(_is_too_long(p, key) for p in asked for key in keys):
                continue
            made = proven(content, asked)
            whole = [p for p in asked if [key for key, _ in made.entries[p]] == [p]]
            assert len(parts_at(made.proof, 5)) == len(whole)
            assert len(parts_at(made.proof, 2)) == len(asked) - len(whole)
            for forged in forms_changed(made.proof, hashes):
                assert refusal(view.root, made.entries, forged) == "map_proof_invalid"


def test_a_whole_key_takes_no_hash() -> None:
    content = {key: b"v" + key for key in KEYS}
    made = proven(content, [b"\0\1"])
    assert map_leaf(b"\0\1", b"v\0\1") not in made.proof
    assert proven({b"\0\1": b"v"}, [b"\0\1"]).proof == b"\5"
    assert proven({b"\0\1": b"v"}, [b"\0"]).proof == b"\2" + map_leaf(b"\0\1", b"v")


class TestWholeKeys:
    """Keys 0a and 0b alone, of which one is asked: ``bit 7, 05, aside``."""

    def setup_method(self) -> None:
        content = {b"\x0a": b"v", b"\x0b": b"w"}
        self.root = view_of(content).root
        self.aside = b"\0" + map_leaf(b"\x0b", b"w")
        self.proof = b"\1\0\7" + b"\5" + self.aside
        self.entries = {b"\x0a": [(b"\x0a", b"v")]}

    def test_the_honest_one(self) -> None:
        made = proven({b"\x0a": b"v", b"\x0b": b"w"}, [b"\x0a"])
        assert (made.proof, made.entries) == (self.proof, self.entries)

    def test_another_value(self) -> None:
        assert refusal(self.root, {b"\x0a": [(b"\x0a", b"w")]}, self.proof) == "map_proof_invalid"

    def test_another_key(self) -> None:
        for key in (b"\x0a\0", b"\x0aa", b"\x0b", b""):
            assert refusal(self.root, {b"\x0a": [(key, b"v")]}, self.proof) == "map_proof_invalid"

    def test_one_key_more_or_none(self) -> None:
        more = {b"\x0a": [(b"\x0a", b"v"), (b"\x0aa", b"v")]}
        assert refusal(self.root, more, self.proof) == "map_proof_invalid"
        assert refusal(self.root, {b"\x0a": []}, self.proof) == "prefix_incomplete"
        assert refusal(self.root, {b"\x0a": self.entries[b"\x0a"] * 2}, self.proof) == "map_proof_invalid"

    def test_no_bytes(self) -> None:
        for pair in ((bytearray(b"\x0a"), b"v"), (b"\x0a", "v")):
            assert refusal(self.root, {b"\x0a": [pair]}, self.proof) == "prefix_incomplete"  # type: ignore[list-item]

    def test_its_hash_given_all_the_same(self) -> None:
        proof = b"\1\0\7" + b"\2" + map_leaf(b"\x0a", b"v") + self.aside
        assert refusal(self.root, self.entries, proof) == "map_proof_invalid"

    def test_where_nothing_was_asked(self) -> None:
        assert refusal(self.root, self.entries, b"\1\0\7\5\5") == "map_proof_invalid"
        assert refusal(self.root, {}, b"\5") == "map_proof_invalid"

    def test_two_keys_in_one(self) -> None:
        both = {**self.entries, b"\x0b": [(b"\x0b", b"w")]}
        assert refusal(self.root, both, b"\5") == "prefix_incomplete"
        verify_prefixes(self.root, both, b"\1\0\7\5\5")

    def test_below_an_inner_node_within_the_key(self) -> None:
        """Keys 0a and 0a 80: of the prefix 0a there are two, whatever else is asked beside it."""
        root = subtree_root([(b"\x0a", b"v"), (b"\x0a\x80", b"w")])
        proof = b"\1\0\x08" + b"\5" + b"\0" + map_leaf(b"\x0a\x80", b"w")
        assert refusal(root, {**self.entries, b"\x0ba": []}, proof) == "map_proof_invalid"
        assert refusal(root, self.entries, proof) == "map_proof_invalid"


def test_a_record_moved_under_another_prefix() -> None:
    view = view_of(dict.fromkeys(KEYS, b"v"))
    made = view.prove([b"\0", b"\1"])
    [first, *rest] = made.entries[b"\0"]
    moved = {b"\0": rest, b"\1": [first, *made.entries[b"\1"]]}
    assert refusal(view.root, moved, made.proof) == "prefix_incomplete"


def leaf(key: bytes, value: bytes = b"v") -> bytes:
    return b"\3" + bytes([len(key)]) + key + sha256(value)


class TestForgedByHand:
    """Keys 00 and 80 …, so the root splits at bit 0, and ``40`` hides beside ``00`` at bit 1."""

    def setup_method(self) -> None:
        self.content = dict.fromkeys([b"\x00a", b"\x40a", b"\x80a"], b"v")
        self.root = view_of(self.content).root
        self.hashes = {key: map_leaf(key, b"v") for key in self.content}
        self.left = map_inner(1, self.hashes[b"\x00a"], self.hashes[b"\x40a"])

    def bit(self, number: int) -> bytes:
        return b"\1" + number.to_bytes(2, "big")

    def test_the_honest_one(self) -> None:
        proof = self.bit(0) + b"\2" + self.left + b"\0" + self.hashes[b"\x80a"]
        with pytest.raises(VerificationError):
            verify_prefixes(self.root, {b"\x00": [(b"\x00a", b"v")]}, proof)
        proof = self.bit(0) + self.bit(1) + b"\2" + self.hashes[b"\x00a"] + b"\0" + self.hashes[b"\x40a"]
        proof += b"\0" + self.hashes[b"\x80a"]
        verify_prefixes(self.root, {b"\x00": [(b"\x00a", b"v")]}, proof)

    def test_a_present_prefix_hidden_as_a_part_aside(self) -> None:
        proof = self.bit(0) + b"\0" + self.left + b"\0" + self.hashes[b"\x80a"]
        assert refusal(self.root, {b"\x40": []}, proof) == "map_proof_invalid"
        assert refusal(self.root, {b"\x40": []}, b"\0" + self.root) == "map_proof_invalid"

    def test_a_present_prefix_claimed_absent_by_its_neighbour(self) -> None:
        tail = bytes([1, 0, 1]) + self.hashes[b"\x40a"]
        proof = self.bit(0) + leaf(b"\x00a") + tail + b"\0" + self.hashes[b"\x80a"]
        assert refusal(self.root, {b"\x40": []}, proof) == "map_proof_invalid"
        verify_prefixes(self.root, {b"\x20": []}, proof)

    def test_by_a_leaf_of_the_other_side(self) -> None:
        proof = leaf(b"\x80a") + bytes([1, 0, 0]) + self.left
        assert refusal(self.root, {b"\x40": []}, proof) == "map_proof_invalid"
        verify_prefixes(self.root, {b"\xc0": []}, proof)

    def test_by_the_leaf_that_has_the_prefix(self) -> None:
        proof = self.bit(0) + b"\0" + self.left + leaf(b"\x80a") + b"\0"
        assert refusal(self.root, {b"\x80": []}, proof) == "map_proof_invalid"
        verify_prefixes(self.root, {b"\xc0": []}, proof)

    def test_by_the_empty_map(self) -> None:
        assert refusal(self.root, {b"\x40": []}, b"\4") == "map_proof_invalid"
        assert refusal(EMPTY_ROOT, {}, b"\4") == "map_proof_invalid"
        verify_prefixes(EMPTY_ROOT, {b"\x40": []}, b"\4")
        verify_prefixes(EMPTY_ROOT, {}, b"\0" + EMPTY_ROOT)

    def test_a_part_of_the_keys_shown_and_the_rest_aside(self) -> None:
        """An inner node within the prefix: S would go left with it, and the right side is "aside"."""
        content = {b"\x00a": b"v", b"\x00b": b"v"}
        bit = 14  # a = 61, b = 62
        root = map_inner(bit, map_leaf(b"\x00a", b"v"), map_leaf(b"\x00b", b"v"))
        assert root == subtree_root(sorted(content.items()))
        proof = self.bit(bit) + b"\2" + map_leaf(b"\x00a", b"v") + b"\0" + map_leaf(b"\x00b", b"v")
        listed = {b"\x00": [(b"\x00a", b"v")]}
        assert refusal(root, listed, proof) == "map_proof_invalid"
        # … nor when another, longer prefix allows the node
        assert refusal(root, {**listed, b"\x01aa": []}, proof) == "map_proof_invalid"

    def test_absent_in_the_root_by_a_leaf_below_a_node_within_another_prefix(self) -> None:
        root = subtree_root([(b"\x00a", b"v"), (b"\x00b", b"v")])
        proof = self.bit(14) + b"\2" + map_leaf(b"\x00a", b"v") + b"\0" + map_leaf(b"\x00b", b"v")
        listed = {b"\x00a": [(b"\x00a", b"v")], b"\x01": []}
        assert refusal(root, listed, proof) == "map_proof_invalid"  # a whole key, so:
        proof = self.bit(14) + b"\5" + b"\0" + map_leaf(b"\x00b", b"v")
        verify_prefixes(root, listed, proof)
        assert refusal(root, listed | {b"\x01": [(b"\x01a", b"v")]}, proof) == "prefix_incomplete"

    def test_keys_of_another_prefix_listed(self) -> None:
        proof = self.bit(0) + b"\2" + self.left + b"\0" + self.hashes[b"\x80a"]
        listed = {b"\x40": [(b"\x00a", b"v"), (b"\x40a", b"v")]}
        assert refusal(self.root, listed, proof) == "prefix_incomplete"

    def test_keys_listed_for_a_prefix_shown_absent(self) -> None:
        proof = self.bit(0) + b"\0" + self.left + leaf(b"\x80a") + b"\0"
        assert refusal(self.root, {b"\xc0": [(b"\xc0a", b"v")]}, proof) == "prefix_incomplete"
        assert refusal(EMPTY_ROOT, {b"\xc0": [(b"\xc0a", b"v")]}, b"\4") == "prefix_incomplete"

    def test_shapes_that_no_trie_has_even_under_their_own_root(self) -> None:
        aside, here = self.hashes[b"\x00a"], self.hashes[b"\x80a"]
        # a leaf on the side that its bit excludes
        proof = self.bit(0) + leaf(b"\x80a") + b"\0" + b"\0" + aside
        assert refusal(map_inner(0, here, aside), {b"\x40": []}, proof) == "map_proof_invalid"
        # bits that do not rise, as inner nodes and in the tail of a leaf
        proof = self.bit(2) + self.bit(2) + leaf(b"\x80a") + b"\0" + b"\0" + aside + b"\0" + aside
        root = map_inner(2, map_inner(2, here, aside), aside)
        assert refusal(root, {b"\xc0": []}, proof) == "map_proof_invalid"
        tail = b"\2" + 2 * (b"\0\2" + aside)
        assert refusal(root, {b"\xc0": []}, leaf(b"\x80a") + tail) == "map_proof_invalid"
        # an inner node below all that was asked
        proof = self.bit(9) + b"\0" + aside + leaf(b"\x80a") + b"\0"
        proof_left = self.bit(8) + leaf(b"\x80a") + b"\0" + b"\0" + aside
        assert refusal(map_inner(9, aside, here), {b"\xc0": []}, proof) == "map_proof_invalid"
        assert refusal(map_inner(8, here, aside), {b"\xc0": []}, proof_left) == "map_proof_invalid"

    def test_prefixes_within_each_other(self) -> None:
        assert refusal(self.root, {b"\x40": [], b"\x40a": []}, b"\0" + self.root) == "map_proof_invalid"
        with pytest.raises(FormatError, match="within another"):
            view_of(self.content).prove([b"\x40", b"\x40a"])

    def test_a_prefix_longer_than_the_keys_beside_it(self) -> None:
        with pytest.raises(FormatError, match="prefix of the keys"):
            view_of({b"a": b"v"}).prove([b"a\0"])
        with pytest.raises(FormatError, match="prefix of the keys"):
            view_of({b"a": b"v", b"bb": b"v"}, 24).prove([b"a\0"])
        assert refusal(map_leaf(b"a", b"v"), {b"a\0": []}, leaf(b"a") + b"\0") == "map_proof_invalid"


def test_hostile_sizes_and_depths() -> None:
    entries: dict[bytes, list[tuple[bytes, bytes]]] = {b"\0" * 37: []}
    deep = b"".join(b"\1" + bit.to_bytes(2, "big") for bit in range(65_536))
    for proof in (
        b"",
        b"\1",
        deep,
        deep[: 3 * 296],
        b"\3\xff",
        b"\3\0" + bytes(32) + b"\xff",
        b"\5",
        b"\5" * 10**6,
        b"\6",
        b"\2" * 10**6,
    ):
        assert refusal(bytes(32), entries, proof) in CODES
    tail = b"".join(bit.to_bytes(2, "big") + bytes(32) for bit in range(255))
    assert refusal(bytes(32), {b"\1": []}, b"\3\1\2" + bytes(32) + b"\xff" + tail) == "map_proof_invalid"
    assert refusal(bytes(32), {b"\0": [(bytes(300), b"")]}, b"\2" + bytes(32)) == "prefix_incomplete"
    assert refusal(bytes(32), {}, "proof") == "map_proof_invalid"  # type: ignore[arg-type]


@pytest.mark.parametrize("page_entries", [2, 24])
def test_absence_at_the_deepest_leaves(page_entries: int) -> None:
    """A comb: the longest leaf's path has more nodes than a proof of absence may carry in its tail."""
    keys = [(1 << bit).to_bytes(37, "big") for bit in range(296)]
    content = dict.fromkeys([*keys, bytes(37)], b"v")
    view = view_of(content, page_entries)
    for prefix in (bytes(36) + b"\3", b"\3", b"\xff" * 37, bytes(20) + b"\x21", *keys[::40]):
        made = view.prove([prefix])
        assert made.entries == {prefix: below(content, prefix)}
        verify_prefixes(view.root, made.entries, made.proof)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.lists(st.sampled_from([0, 1, 64, 129, 255]), min_size=4, max_size=4).map(bytes),
        st.binary(max_size=2),
    ),
    st.lists(st.lists(st.sampled_from([0, 1, 2, 64, 129, 255]), max_size=4).map(bytes), max_size=12),
    st.sampled_from([2, 5, 24]),
    st.data(),
)
def test_any_map_any_prefixes(
    content: dict[bytes, bytes], drawn: list[bytes], page_entries: int, data: st.DataObject
) -> None:
    prefixes = [
        prefix for prefix in set(drawn) if not any(prefix.startswith(o) for o in drawn if o != prefix)
    ]
    made = proven(content, prefixes, page_entries)
    root = view_of(content).root
    if made.proof:
        at = data.draw(st.integers(0, len(made.proof) - 1))
        forged = bytearray(made.proof)
        forged[at] ^= data.draw(st.integers(1, 255))
        refusal(root, made.entries, bytes(forged))
    present = [prefix for prefix in prefixes if made.entries[prefix]]
    if present:
        prefix = data.draw(st.sampled_from(present))
        pairs = list(made.entries[prefix])
        del pairs[data.draw(st.integers(0, len(pairs) - 1))]
        refusal(root, made.entries | {prefix: pairs}, made.proof)
        absent = view_of({k: v for k, v in content.items() if not k.startswith(prefix)}).prove(prefixes)
        refusal(root, absent.entries, absent.proof)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.binary(max_size=4), max_size=4))
def test_any_bytes_are_refused(proof: bytes, prefixes: list[bytes]) -> None:
    assert outcome(bytes(32), {prefix: [] for prefix in prefixes}, proof) in CODES


def test_records_of_a_subject_month_by_month() -> None:
    """The months of one subject, few with records: a month that is alone covers its neighbours' part."""
    randomness = random.Random(9)
    tags = [randomness.randbytes(16) for _ in range(40)]
    content = {
        b"\1\0\1\5" + tag + bytes([month]) + randomness.randbytes(16): b"v"
        for tag in tags
        for month in randomness.sample(range(17), randomness.choice([1, 1, 2, 5]))
        for _ in range(3)
    }
    content |= {b"\6\0\1": b"m", b"\x0a\0\1\7\xe9": b"t", b"\x09\0\1\5": b"a", b"\x08\5\1": b"s"}
    singles = [
        b"\6\0\1",
        b"\6\0\2",
        b"\x08\5\1",
        b"\x08\5\2",
        b"\x09\0\1\5",
        b"\x0a\0\1\7\xe8",
        b"\x0a\0\1\7\xe9",
    ]
    for tag in [*tags[:10], bytes(16)]:
        months = [b"\1\0\1\5" + tag + bytes([month]) for month in range(17)]
        proven(content, months + singles, 24)
        proven(content, [b"\1\0\1\5" + tag, *singles], 24)


def test_the_verifier_needs_no_storage_library() -> None:
    code = "import sys, taxledger.ledger.statemap; sys.exit('plyvel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
