"""The stores of a stopped network against each other: blocks, votes, co-signatures, and what was acknowledged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from faulty_node import SIGNED_NAME

from network import RealNetwork
from taxledger.api.reader import Receipt
from taxledger.ledger.chain import Chain
from taxledger.ledger.checkpoint import Checkpoint, cosignature_message
from taxledger.ledger.crypto import verify_signature
from taxledger.ledger.genesis import origin_of
from taxledger.ledger.header import vote_message
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.merkle import frontier_at
from taxledger.ledger.rules import decode_result

VOTE = b"taxledger/vote/1"
COSIGN = b"cosignature/v1\n"


def signed_messages(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(public key, message) of all that a node ever signed (a record cut off by the kill is the last)."""
    data, at = path.read_bytes(), 0
    while at + 36 <= len(data):
        size = int.from_bytes(data[at + 32 : at + 36], "big")
        yield data[at : at + 32], data[at + 36 : at + 36 + size]
        at += 36 + size


def check_ledgers(network: RealNetwork, acknowledged: Mapping[bytes, Receipt]) -> dict[str, int]:
    """Everything that has to hold after any accident; returns figures for the report.

    * all nodes have the same blocks, certified up to one height, and open without an error;
    * every stored vote and co-signature verifies, and is for that one block;
    * nobody ever signed two votes for one height, or a tree that is not a beginning of the final log;
    * each acknowledged transaction stands where its receipt says, at every node.
    """
    with ExitStack() as held:
        chains: dict[str, Chain] = {}
        for name, home in network.homes.items():
            store = LevelStore(home.store_path)
            held.callback(store.close)
            chains[name] = Chain(store, home.genesis())
        heights = {(chain.tip.height, chain.certified) for chain in chains.values()}
        assert len(heights) == 1, heights
        ((height, certified),) = heights
        assert certified == height
        first = next(iter(chains.values()))
        votes = cosigns = 0
        members = {member.number: member for member in first.genesis.members}
        embedded = first.genesis.engine == "embedded"  # another engine keeps its votes itself
        origin = origin_of(first.genesis, first.genesis_leaf)
        roots = {}
        for at in range(1, height + 1):
            leaves = {chain.header_leaf(at) for chain in chains.values()}
            assert len(leaves) == 1, f"two blocks at height {at}"
            size = first.size(at)
            checkpoint = Checkpoint(origin=origin, size=size, root=frontier_at(first.node, size).root)
            roots[size] = checkpoint.root
            message = vote_message(first.chain_id, at, first.header_hash(at))
            for chain in chains.values():
                assert frontier_at(chain.node, size).root == checkpoint.root
                block = chain.block(at)
                assert len(block.votes) >= (3 if embedded else 0)
                assert len(block.cosigns) >= 3
                for member, signature in block.votes:
                    verify_signature(members[member].vote_key, signature, message)
                for member, time_s, signature in block.cosigns:
                    verify_signature(
                        members[member].cosign_key, signature, cosignature_message(checkpoint, time_s)
                    )
                votes += len(block.votes)
                cosigns += len(block.cosigns)
        assert len({chain.view.root for chain in chains.values()}) == 1
        ever = sum(_check_signed(network, name, first, roots) for name in chains)
        for name, chain in chains.items():
            for transaction_id, receipt in acknowledged.items():
                index = chain.transaction_index(transaction_id)
                assert index is not None, f"{transaction_id.hex()} was acknowledged, {name} has lost it"
                assert (index, chain.height_of_index(index)) == (receipt.index, receipt.height)
                assert decode_result(chain.result(index)).code == receipt.code
    return {
        "height": height,
        "acknowledged": len(acknowledged),
        "votes": votes,
        "cosigns": cosigns,
        "signed": ever,
    }


def _check_signed(network: RealNetwork, name: str, chain: Chain, roots: Mapping[int, bytes]) -> int:
    """No two signatures of one node contradict each other, or the final log."""
    votes: dict[tuple[bytes, int], set[bytes]] = defaultdict(set)
    count = 0
    for key, message in signed_messages(network.homes[name].path / SIGNED_NAME):
        if message.startswith(VOTE):
            height = int.from_bytes(message[len(VOTE) + 16 :][:8], "big")
            votes[key, height].add(message[-32:])
        elif message.startswith((COSIGN, b"e2e")):
            size, root = message.removesuffix(b"\n").split(b"\n")[-2:]
            expected = Checkpoint(origin="", size=0, root=roots[int(size)]).text.split(b"\n")[2]
            assert root == expected, f"{name} signed a tree of {size!r} leaves that is not ours"
        else:
            continue
        count += 1
    for (_, height), hashes in votes.items():
        assert hashes == {chain.header_hash(height)}, f"{name} voted otherwise at height {height}"
    assert votes or chain.genesis.engine != "embedded"
    return count
