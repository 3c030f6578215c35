"""What pruning removes, and that nothing a proof needs goes with it."""

from __future__ import annotations

import chainkit
import pytest
from test_snapshot import follow, install, replace_blocks, replayed, take

from taxledger.ledger import pruning
from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.merkle import prove_consistency, prove_inclusion
from taxledger.ledger.pruning import engine_retain_height, prune_blocks
from taxledger.ledger.statemap import MapView, verify_prefixes
from taxledger.ledger.store import MemoryStore

HOUR_MS = 3_600_000
CONTENT = (b"L", b"R", b"D", b"Q", b"P")


@pytest.fixture(scope="module")
def net() -> chainkit.TestChain:
    """A block every 13 minutes."""
    net = chainkit.TestChain()
    net.add(net.sign(chainkit.tag_key(net.chain_id)))
    for number in range(1, 12):
        net.at(chainkit.TIME_MS + number * 13 * 60_000)
        rids = range(100 * number, 100 * number + 10)
        net.add(net.sign(chainkit.attest(chainkit.group(*rids, tag=number))), net.sign(b"\x01"))
    return net


def content(chain: Chain) -> dict[bytes, bytes]:
    store = chain.store
    assert isinstance(store, MemoryStore)
    return dict(store._content)


def test_it_removes_content_of_old_blocks_and_nothing_else(
    net: chainkit.TestChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_LEAVES_MAX", 4)
    whole, chain = replayed(net), replayed(net)
    steps = 1
    while prune_blocks(chain, HOUR_MS):
        steps += 1
    assert steps > 2
    kept = chain.kept()
    newest = chain.header(chain.certified).time_ms
    assert chain.header(kept.height - 1).time_ms < newest - HOUR_MS <= chain.header(kept.height).time_ms
    before, after = content(whole), content(chain)
    assert {key: after[key] for key in after if key != b"P"}.items() <= before.items()
    lost = before.keys() - after.keys()
    headers = [whole.header(height) for height in range(1, kept.height)]
    expected = {
        letter + place.to_bytes(8, "big")
        for letter in (b"L", b"R")
        for header in headers
        for place in range(header.first_index, header.index)
    }
    assert lost == expected | {b"D" + header.height.to_bytes(8, "big") for header in headers}
    assert not prune_blocks(chain, HOUR_MS)


def test_every_proof_is_made_and_verifies_as_before(net: chainkit.TestChain) -> None:
    whole, chain = replayed(net), replayed(net)
    prune_blocks(chain, HOUR_MS)
    assert chain.kept().height > 5
    size = chain.tip.frontier.size
    for index in range(size):
        assert prove_inclusion(chain.node, index, size) == prove_inclusion(whole.node, index, size)
        assert prove_consistency(chain.node, index, size) == prove_consistency(whole.node, index, size)
    for height in range(1, chain.certified + 1):
        assert chain.header_leaf(height) == whole.header_leaf(height)
        assert chain.cosigns(height) == whole.cosigns(height)
    prefixes = [b"\x01", b"\x0a"]
    proof = MapView.open(chain.store).prove(prefixes)
    verify_prefixes(chain.header(chain.certified).state_root, proof.entries, proof.proof)
    assert len(proof.entries[b"\x01"]) == 110


def test_what_is_gone_is_said_and_counts_for_nothing_again(net: chainkit.TestChain) -> None:
    chain = replayed(net)
    old = [block.executed.leaf_hashes[0] for block in net.blocks]
    prune_blocks(chain, HOUR_MS)
    index = chain.transaction_index(old[0])
    assert index is not None
    for ask in (
        lambda: chain.block(2),
        lambda: chain.result(index),
        lambda: chain.leaf(index),
        lambda: chain.votes(2),
    ):
        with pytest.raises(RefusedError) as caught:
            ask()
        assert caught.value.code == "pruned"
    assert all(chain.is_logged(each) for each in old)
    assert chain.block(chain.certified).transactions == tuple(net.blocks[-1].executed.leaves)


def test_it_goes_on_and_gives_snapshots(net: chainkit.TestChain) -> None:
    chain = replayed(net)
    prune_blocks(chain, HOUR_MS)
    again = Chain(MemoryStore(content(chain)), net.genesis_leaf)
    assert again.tip == chain.tip
    taken = take(net, again)
    fresh = Chain(install(taken), net.genesis_leaf)
    copy = replace_blocks(net)
    copy.add(copy.sign(chainkit.attest(chainkit.group(9_999, tag=3))))
    for each in (again, fresh):
        follow(each, copy.blocks[-1])
        assert each.tip.frontier == copy.tip.frontier
    assert not prune_blocks(fresh, HOUR_MS)  # its content begins after the snapshot


def test_nothing_is_removed_before_it_is_old(net: chainkit.TestChain) -> None:
    chain = replayed(net)
    before = content(chain)
    assert not prune_blocks(chain, 100 * HOUR_MS)
    assert content(chain) == before
    assert not prune_blocks(Chain(MemoryStore(), net.genesis_leaf), 0)
    assert not prune_blocks(chain, 0)  # all but the newest certified block
    assert chain.block(chain.certified).transactions


def test_the_engine_keeps_what_begins_where_we_do(net: chainkit.TestChain) -> None:
    chain = replayed(net)
    assert engine_retain_height(chain) == 0
    made_at = {b"Q" + height.to_bytes(8, "big"): (3 * height).to_bytes(8, "big") for height in range(1, 13)}
    chain.store.write(made_at)
    assert engine_retain_height(chain) == 0  # nothing is pruned here: nothing there
    prune_blocks(chain, HOUR_MS)
    height = chain.kept().height
    assert engine_retain_height(chain) == 3 * height
    assert chain.made_at(height - 1) == 0
