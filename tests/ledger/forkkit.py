"""Two histories of one chain, and a member that signs both: for tests of fork evidence."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import chainkit

from taxledger.ledger.checkpoint import Checkpoint, cosign, cosigner_name, parse_vkey, vkey
from taxledger.ledger.fork import prove_other_beginning
from taxledger.ledger.forkformat import (
    CosignedTwice,
    CosignFork,
    KeyBinding,
    OtherBeginning,
    TwoLeaves,
    VoteFork,
)
from taxledger.ledger.header import vote_message
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.statekeys import member_key

NETWORK = "test.net"
TIME_S = chainkit.TIME_MS // 1_000


@cache
def history(which: int, blocks: int = 5) -> chainkit.TestChain:
    """One of several histories; they agree in their first block."""
    chain = chainkit.TestChain()
    chain.add(chain.sign(chainkit.attest(through="2026-01-01")))
    for day in range(2, blocks + 1):
        payload = chainkit.attest(through=f"2026-{which + 1:02d}-{day:02d}")
        chain.add(chain.sign(payload))
    return chain


def tree(chain: chainkit.TestChain, height: int) -> Checkpoint:
    return chain.checkpoint(chain.blocks[height - 1].executed)


def node_of(chain: chainkit.TestChain):  # type: ignore[no-untyped-def]
    return lambda level, index: chain.log_nodes[level, index]


def signed(number: int, first: Checkpoint, second: Checkpoint, generation: int = 0) -> CosignedTwice:
    signer = chainkit.signer(number, "cosign", generation)
    key = parse_vkey(vkey(cosigner_name(NETWORK, f"v{number}"), 4, signer.public_key))
    return CosignedTwice(
        key=key,
        time_s=TIME_S + 1,
        signature=cosign(signer, first, TIME_S + 1),
        other_time_s=TIME_S + 2,
        other_signature=cosign(signer, second, TIME_S + 2),
    )


def cosign_fork(
    first: Checkpoint,
    second: Checkpoint,
    contradiction: OtherBeginning | TwoLeaves | None,
    *numbers: int,
) -> CosignFork:
    first, second = sorted((first, second), key=lambda each: (each.size, each.root))
    signers = sorted((signed(number, first, second) for number in numbers), key=lambda each: each.key.text)
    return CosignFork(first=first, second=second, contradiction=contradiction, signers=tuple(signers))


def same_size(*numbers: int) -> CosignFork:
    return cosign_fork(tree(history(1), 3), tree(history(2), 3), None, *numbers or (3,))


def other_beginning(*numbers: int) -> CosignFork:
    """A smaller tree of one history, a larger one of the other."""
    first, second = tree(history(1), 3), tree(history(2), 5)
    shown = prove_other_beginning(node_of(history(2)), first.size, second.size)
    return cosign_fork(first, second, shown, *numbers or (3,))


def two_leaves(*numbers: int) -> CosignFork:
    """As ``other_beginning``; shown by the two header leaves of block 3."""
    first, second = tree(history(1), 3), tree(history(2), 5)
    index = first.size - 1
    one, two = node_of(history(1)), node_of(history(2))
    shown = TwoLeaves(
        index=index,
        leaf=one(0, index),
        path=tuple(prove_inclusion(one, index, first.size)),
        other_leaf=two(0, index),
        other_path=tuple(prove_inclusion(two, index, second.size)),
    )
    return cosign_fork(first, second, shown, *numbers or (3,))


def votes(number: int = 3, *, bound: bool = True) -> VoteFork:
    chain = history(1)
    signer = chainkit.signer(number, "vote")
    headers = sorted(history(which).blocks[2].executed.tip.header_hash for which in (1, 2))
    one, two = ((header, signer.sign(vote_message(chain.chain_id, 3, header))) for header in headers)
    return VoteFork(
        chain_id=chain.chain_id,
        height=3,
        member=number,
        vote_key=signer.public_key,
        votes=(one, two),
        binding=binding(chain, number) if bound else None,
    )


def binding(chain: chainkit.TestChain, number: int) -> KeyBinding:
    block = chain.blocks[-1]
    size = block.executed.tip.frontier.size
    key = member_key(number)
    proved = chain.view.prove([key])
    return KeyBinding(
        checkpoint=chain.note(block, 3),
        header=block.executed.header_leaf,
        inclusion=tuple(prove_inclusion(node_of(chain), size - 1, size)),
        entry=proved.entries[key][0][1],
        proof=proved.proof,
    )


def moved(fork: CosignFork, engine: str) -> CosignFork:
    """The larger tree under another engine's name, signed so."""
    origin = f"{fork.second.origin.rpartition('/')[0]}/{engine}"
    second = replace(fork.second, origin=origin)
    numbers = [int(each.key.name[-1]) for each in fork.signers]
    return cosign_fork(fork.first, second, fork.contradiction, *numbers)
