"""A chain whose validators change, as a node's store holds it, and the links that a node makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chainkit import PURPOSES, TestChain, signer, validator

from taxledger.ledger import hashing
from taxledger.ledger.chain import Chain
from taxledger.ledger.governance import member_set
from taxledger.ledger.members import Member, member_of
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.policy import Policy, decode_policy, encode_policy
from taxledger.ledger.policydate import Verified
from taxledger.ledger.policylinks import PolicyHead, PolicyLinks, prove_head
from taxledger.ledger.setchanges import links_from
from taxledger.ledger.store import MemoryStore


def change(chain: TestChain, member: Member, keys: Sequence[str] = (), generation: int = 0) -> None:
    """Propose an entry, approve it by all validators, and go on until a block of the new set is certified.

    Args:
        keys: the purposes of which the entry has a new key, of this generation.
    """
    signers = {each: signer(member.number, each, generation) for each in keys}
    proposed = member_set(member, chain.chain_id, list(signers.values()))
    numbers = [each.number for each in chain.tip.governance.validators]
    raw = chain.sign(encode_propose(proposed), numbers[0])
    approve = encode_approve(hashing.log_leaf(raw)[:16])
    chain.add(raw, *[chain.sign(approve, number) for number in numbers[1:]])
    chain.add()
    chain.signers.update({(member.number, each): key for each, key in signers.items()})
    chain.add()
    assert chain.tip.governance.pending is None


def joins(chain: TestChain, number: int) -> None:
    change(chain, validator(number), PURPOSES)


def leaves(chain: TestChain, number: int) -> None:
    present = member_of(chain.view, number)
    assert present is not None
    change(chain, replace(present, status=3, height=0))


def rotates(chain: TestChain, number: int, purpose: str, generation: int = 1) -> None:
    present = member_of(chain.view, number)
    assert present is not None
    key = signer(number, purpose, generation).public_key
    change(chain, replace(present, **{f"{purpose}_key": key, "height": 0}), (purpose,), generation)


def stored(chain: TestChain) -> Chain:
    """The ledger of a node that followed the chain."""
    ledger = Chain(MemoryStore(), chain.genesis_leaf)
    for block in chain.blocks:
        executed = ledger.execute(block.executed.header.time_ms, block.executed.leaves)
        assert executed.header_leaf == block.executed.header_leaf
        ledger.commit(executed, block.votes)
        ledger.certify(executed.header.height, block.cosigns)
    return ledger


def head_of(chain: TestChain, ledger: Chain) -> PolicyHead:
    block = chain.blocks[-1]
    size = block.executed.header.size
    return prove_head(
        ledger.view,
        checkpoint=chain.note(block, chain.policy().threshold),
        header=block.executed.header_leaf,
        inclusion=prove_inclusion(ledger.node, size - 1, size),
    )


def links_of(chain: TestChain, policy: Policy, ledger: Chain | None = None) -> PolicyLinks:
    """What a node answers to one that has ``policy``."""
    ledger = stored(chain) if ledger is None else ledger
    found = links_from(ledger, policy.validators_hash, chain.policy().validators_hash)
    return PolicyLinks(links=found, head=head_of(chain, ledger))


def policy_file(chain: TestChain) -> bytes:
    """The policy of the newest block's validators, verified there."""
    validators = chain.blocks[-1].executed.validators
    return encode_policy(
        origin=chain.origin,
        log_keys=[member.log_key for member in validators],
        witnesses={member.name: member.cosign_key for member in validators},
        verified=verified_now(chain),
    )


def verified_now(chain: TestChain) -> Verified:
    return Verified(time_s=chain.time_ms // 1_000 + 1, size=chain.tip.frontier.size)


def policy_now(chain: TestChain) -> tuple[Policy, Verified]:
    return decode_policy(policy_file(chain)), verified_now(chain)
