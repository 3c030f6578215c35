"""Snapshots: what is installed behaves as what was replayed, and nothing that was changed on the way is installed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import chainkit
import policykit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxledger.ledger import canonical, limits
from taxledger.ledger.chain import Chain
from taxledger.ledger.chainreader import ChainReader
from taxledger.ledger.errors import InputError, RefusedError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.merkle import (
    frontier_at,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from taxledger.ledger.policy import Policy
from taxledger.ledger.setchanges import link_entries, links_from
from taxledger.ledger.snapshot import Manifest, decode_manifest, encode_manifest, make_snapshot
from taxledger.ledger.snapshotinstall import install_snapshot, verify_manifest
from taxledger.ledger.statemap import MapView
from taxledger.ledger.statemap.build import MapBuilder
from taxledger.ledger.store import MemoryStore

NOW_MS = chainkit.TIME_MS + 3 * 3_600_000


@dataclass
class Taken:
    net: chainkit.TestChain
    chain: Chain
    manifest: Manifest
    chunks: list[bytes]
    policy: Policy


def replayed(net: chainkit.TestChain) -> Chain:
    chain = Chain(MemoryStore(), net.genesis_leaf)
    for height, block in enumerate(net.blocks, 1):
        follow(chain, block)
        assert chain.certified == height
    return chain


def follow(chain: Chain, block: chainkit.Block) -> None:
    executed = chain.execute(block.executed.header.time_ms, block.executed.leaves)
    assert executed.header == block.executed.header
    chain.commit(executed, block.votes)
    chain.certify(executed.header.height, block.cosigns)


def take(net: chainkit.TestChain, chain: Chain) -> Taken:
    chunks: list[bytes] = []
    note = net.note(net.blocks[-1], 3)
    manifest = make_snapshot(
        chain,
        MapView.open(chain.store),
        height=chain.certified,
        note=note,
        engine_height=0,
        put=chunks.append,
    )
    return Taken(net, chain, decode_manifest(encode_manifest(manifest)), chunks, net.policy())


def install(taken: Taken, chunks: list[bytes] | None = None) -> MemoryStore:
    store = MemoryStore()
    verified = verify_manifest(taken.manifest, taken.policy, now_ms=NOW_MS)
    install_snapshot(store, verified, iter(taken.chunks if chunks is None else chunks))
    return store


@pytest.fixture(scope="module")
def taken() -> Taken:
    """Blocks over two and a half hours; the run begins in the middle of them."""
    net = chainkit.TestChain()
    net.add(net.sign(chainkit.tag_key(net.chain_id)))
    for number in range(1, 12):
        net.at(chainkit.TIME_MS + number * 13 * 60_000)
        rids = range(100 * number, 100 * number + 40)
        net.add(
            net.sign(chainkit.attest(chainkit.group(*rids, tag=number))),
            net.sign(chainkit.attest(through=f"2026-01-{number:02d}")),
        )
    return take(net, replayed(net))


def test_it_goes_on_as_if_replayed(taken: Taken) -> None:
    net, old = taken.net, Chain(MemoryStore(dict(taken.chain.store._content)), taken.net.genesis_leaf)  # type: ignore[attr-defined]
    new = Chain(install(taken), net.genesis_leaf)
    assert (new.tip, new.view.root, new.certified) == (old.tip, old.view.root, old.certified)
    assert new.cosigns(new.certified) == old.cosigns(old.certified)[:3]
    assert new.origin == old.origin
    copy = replace_blocks(net)
    for number in range(3):
        copy.add(copy.sign(chainkit.attest(chainkit.group(7_000 + number, tag=3))), copy.sign(b"\x01"))
        follow(new, copy.blocks[-1])
        follow(old, copy.blocks[-1])
        assert new.store.get(b"M")[:40] == old.store.get(b"M")[:40]  # the pages may be cut elsewhere
    prefix = b"\x01"
    assert list(new.view.scan(prefix)) == list(old.view.scan(prefix))
    proofs = [MapView.open(chain.store).prove([prefix]) for chain in (new, old)]
    assert proofs[0] == proofs[1]


def replace_blocks(net: chainkit.TestChain) -> chainkit.TestChain:
    """The same chain again, to be added to."""
    copy = chainkit.TestChain(net.genesis)
    for block in net.blocks:
        copy.at(block.executed.header.time_ms)
        copy.add(*block.executed.leaves)
    return copy


def test_no_transaction_of_the_last_hour_counts_twice(taken: Taken) -> None:
    new = Chain(install(taken), taken.net.genesis_leaf)
    end_ms = taken.net.blocks[-1].executed.header.time_ms
    recent = [each for each in taken.net.blocks if each.executed.header.time_ms > end_ms - 3_660_000]
    assert 2 < len(recent) < len(taken.net.blocks) - 2
    for block in recent:
        for leaf_hash in block.executed.leaf_hashes:
            assert new.transaction_index(leaf_hash) == taken.chain.transaction_index(leaf_hash)
            assert new.is_logged(leaf_hash)
    kept = new.kept()
    first = taken.chain.header(kept.log_height)
    assert first.time_ms <= end_ms - 3_660_000 < taken.chain.header(kept.log_height + 1).time_ms


def test_what_is_proved_of_the_log_is_the_same_and_the_rest_is_pruned(taken: Taken) -> None:
    old, new = taken.chain, Chain(install(taken), taken.net.genesis_leaf)
    size, kept = new.tip.frontier.size, new.kept()
    for index in range(kept.log_index, size):
        proof = prove_inclusion(new.node, index, size)
        verify_inclusion(old.node(0, index), index, size, proof, new.tip.frontier.root)
    for earlier in range(kept.log_index, size + 1):
        root = frontier_at(old.node, earlier).root
        proof = prove_consistency(new.node, earlier, size)
        verify_consistency(earlier, root, size, new.tip.frontier.root, proof)
    for height in range(kept.log_height, new.certified + 1):
        assert new.header_leaf(height) == old.header_leaf(height)
        assert new.height_of_index(new.header_index(height)) == height
    asked: list[Callable[[], object]] = [
        lambda: new.block(2),
        lambda: new.block(new.certified),
        lambda: new.header(2),
        lambda: new.leaf(2),
        lambda: new.leaf(kept.log_index),
        lambda: new.result(3),
        lambda: new.results(new.certified),
        lambda: new.votes(new.certified),
        lambda: new.height_of_index(2),
        lambda: prove_inclusion(new.node, 2, size),
        lambda: prove_consistency(new.node, 2, size),
    ]
    for ask in asked:
        with pytest.raises(RefusedError) as caught:
            ask()
        assert caught.value.code == "pruned"


def test_a_short_history_is_carried_whole() -> None:
    net = chainkit.TestChain()
    net.add(net.sign(chainkit.attest(through="2026-01-01")))
    short = take(net, replayed(net))
    assert short.manifest.first_index == 1
    assert Chain(install(short), net.genesis_leaf).tip == replayed(net).tip


# --- what is refused ----------------------------------------------------------------------------


def changed_chunk(taken: Taken, number: int, change: Callable[[list[bytes]], list[bytes]]) -> Taken:
    """With one chunk changed, and the manifest naming the changed one."""
    chunks = list(taken.chunks)
    chunks[number] = canonical.encode(change(canonical.decode(chunks[number], bytes_max=1 << 23)))
    name = replace(taken.manifest.chunks[number], size=len(chunks[number]), digest=sha256(chunks[number]))
    names = list(taken.manifest.chunks)
    names[number] = name
    return replace_taken(taken, replace(taken.manifest, chunks=tuple(names)), chunks)


def replace_taken(taken: Taken, manifest: Manifest, chunks: list[bytes] | None = None) -> Taken:
    return Taken(taken.net, taken.chain, manifest, chunks or taken.chunks, taken.policy)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


CHANGES: dict[str, tuple[int, Callable[[list[bytes]], list[bytes]]]] = {
    "a value": (-1, lambda flat: [flat[0], flipped(flat[1], 0), *flat[2:]]),
    "a pair missing": (-1, lambda flat: flat[2:]),
    "a pair twice": (-1, lambda flat: [*flat[:2], *flat]),
    "pairs out of order": (-1, lambda flat: [*flat[2:4], *flat[:2], *flat[4:]]),
    "a pair more": (-1, lambda flat: [*flat, b"\xff" * 4, b""]),
    "half a pair": (-1, lambda flat: flat[:-1]),
    "an id of the run": (0, lambda flat: [flat[0], flipped(flat[1], 5), *flat[2:]]),
    "an id missing": (0, lambda flat: [flat[0], flat[1][32:], *flat[2:]]),
    "a header of the run": (0, lambda flat: [flipped(flat[0], len(flat[0]) - 40), *flat[1:]]),
    "a block missing at the begin": (0, lambda flat: flat[2:]),
    "a block missing": (0, lambda flat: [*flat[:2], *flat[4:]]),
    "a block missing at the end": (0, lambda flat: flat[:-2]),
    "no header": (0, lambda flat: [b"\x90", *flat[1:]]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_chunk_is_refused_before_the_store_is_a_ledger(taken: Taken, what: str) -> None:
    bad = changed_chunk(taken, *CHANGES[what])
    store = MemoryStore()
    verified = verify_manifest(bad.manifest, bad.policy, now_ms=NOW_MS)
    with pytest.raises(VerificationError) as caught:
        install_snapshot(store, verified, bad.chunks)
    assert caught.value.code == "snapshot_invalid"
    assert store.get(b"L" + bytes(8)) is None


def test_no_more_is_read_than_the_header_counts(taken: Taken) -> None:
    """The root is known at the end only: a liar with disks full of pairs is refused with the first too many."""
    bad = changed_chunk(taken, *CHANGES["a pair more"])
    more = canonical.encode([b"\xff" * 5, b""])
    name = replace(bad.manifest.chunks[-1], size=len(more), digest=sha256(more))
    verified = verify_manifest(
        replace(bad.manifest, chunks=(*bad.manifest.chunks, name)), bad.policy, now_ms=NOW_MS
    )

    def offered() -> Iterator[bytes]:
        yield from bad.chunks
        pytest.fail("the chunk after the one with too many pairs was asked for")

    with pytest.raises(VerificationError, match="keys in the map"):
        install_snapshot(MemoryStore(), verified, offered())


def test_a_run_that_begins_too_late_is_refused(taken: Taken) -> None:
    """All of it genuine, but a block less: its transactions could count again."""
    kept = Chain(install(taken), taken.net.genesis_leaf).kept()
    late = taken.chain.header(kept.log_height + 1).first_index
    bad = changed_chunk(taken, 0, lambda flat: flat[2:])
    manifest = replace(bad.manifest, first_index=late, edge=frontier_at(taken.chain.node, late).edge)
    with pytest.raises(VerificationError, match="begins too late"):
        install(replace_taken(bad, manifest, bad.chunks))


def test_other_chunks_than_named_are_refused(taken: Taken) -> None:
    for chunks in (taken.chunks[:-1], [], taken.chunks[::-1], [*taken.chunks[:-1], b""]):
        with pytest.raises(VerificationError) as caught:
            install(taken, chunks)
        assert caught.value.code == "snapshot_invalid"


def test_each_part_of_the_manifest_is_checked(taken: Taken) -> None:
    manifest = taken.manifest
    other = chainkit.TestChain(chainkit.make_genesis(3))
    other.add()
    edge = (flipped(manifest.edge[0], 0), *manifest.edge[1:])
    cases = {
        "snapshot_invalid": [
            replace(manifest, height=manifest.height + 1),
            replace(manifest, genesis_leaf=other.genesis_leaf),
            replace(manifest, header_leaf=taken.chain.header_leaf(3)),
            replace(manifest, edge=edge),
        ],
        "quorum_missing": [replace(manifest, note=taken.net.note(taken.net.blocks[-1], 2))],
        "policy_mismatch": [replace(manifest, note=other.note(other.blocks[-1], 3))],
    }
    for code, bad in cases.items():
        for each in bad:
            with pytest.raises(VerificationError) as caught:
                install(replace_taken(taken, each))
            assert caught.value.code == code


def test_an_old_snapshot_is_refused(taken: Taken) -> None:
    with pytest.raises(VerificationError) as caught:
        verify_manifest(taken.manifest, taken.policy, now_ms=NOW_MS + 91 * 86_400_000)
    assert caught.value.code == "checkpoint_stale"


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=400), cut=st.integers(0, 300))
def test_no_bytes_are_read_as_a_manifest_but_one(taken: Taken, data: bytes, cut: int) -> None:
    good = encode_manifest(taken.manifest)
    for each in (data, good[:cut], good[:cut] + data):
        if each != good:
            with pytest.raises(InputError):
                decode_manifest(each)


# --- the map, built from its pairs ----------------------------------------------------------------


def test_a_map_built_from_its_pairs_is_the_one_that_was_applied() -> None:
    chance = random.Random(7)
    for count in [0, 1, 2, 3, 24, 25, 26, 60, 400, 3_000]:
        keys = {b"\x01" + chance.randbytes(2) + bytes(10) + chance.randbytes(4) for _ in range(count)}
        keys |= {b"\x02" + chance.randbytes(5) for _ in range(count // 3)}
        pairs = [(key, chance.randbytes(9)) for key in sorted(keys)]
        built, applied = MemoryStore(), MemoryStore()
        builder = MapBuilder()
        at = 0
        while at < len(pairs):
            built.write(builder.add(pairs[at : at + 17]))
            at += 17
        root, last = builder.finish()
        built.write(last)
        layer = MapView.open(applied).apply(dict(pairs))
        applied.write(layer.store_batch())
        assert root == layer.root
        assert built._content == applied._content


@pytest.mark.parametrize(
    "keys", [[b"b", b"a"], [b"a", b"a"], [b"a", b"a\0"], [b""], [bytes(limits.map_key_bytes_max + 1)]]
)
def test_keys_that_do_not_ascend_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(InputError):
        MapBuilder().add([(key, b"") for key in keys])


# --- the way from an old policy ---------------------------------------------------------------------


def test_links_between_sets_of_validators_come_with_it_once_they_are_verified() -> None:
    net = chainkit.TestChain()
    net.add()
    policykit.joins(net, 8)
    policykit.leaves(net, 2)
    net.add()
    old = policykit.stored(net)
    chunks: list[bytes] = []
    manifest = make_snapshot(
        old,
        MapView.open(old.store),
        height=old.certified,
        note=net.note(net.blocks[-1], 3),
        engine_height=0,
        put=chunks.append,
    )
    store = install(Taken(net, old, manifest, chunks, net.policy()))
    links = [value for _, value in old.store.scan(b"K" + bytes(8), b"L") if len(value) > 1]
    assert len(links) == 2
    for bad in (links[:1], links[1:], links[::-1], [links[0], flipped(links[1], len(links[1]) // 2)], []):
        with pytest.raises((VerificationError, InputError)):
            link_entries(ChainReader(store), net.genesis, bad, now_ms=NOW_MS)
    store.write(dict(link_entries(ChainReader(store), net.genesis, links, now_ms=NOW_MS)))
    new = Chain(store, net.genesis_leaf)
    first = chainkit.TestChain()
    first.add()
    trusted, present = first.policy().validators_hash, net.policy().validators_hash
    assert links_from(new, trusted, present) == links_from(old, trusted, present)
    assert len(links_from(new, trusted, present)) == 2
