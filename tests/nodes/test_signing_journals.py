"""A signing key without its journal never signs: on a wiped disk, with another's store, after a crash."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import chainkit
import pytest
from cluster import Cluster, LocalNode, running

from taxledger.ledger.chain import Chain
from taxledger.ledger.governance import member_set
from taxledger.ledger.members import member_of
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.store import MemoryStore
from taxledger.nodes.application import Application, Keys
from taxledger.nodes.home import Home
from taxledger.nodes.identity.birthtokens import fresh_uses, make_token, may_sign, spend_token, token_path
from taxledger.nodes.local.network import create_network

BOTH = frozenset({"vote", "cosign"})


def signed_nothing(node: LocalNode) -> bool:
    chain = node.chain
    heights = range(1, chain.tip.height + 1)
    voted = any(chain.voted(height) is not None for height in range(1, chain.tip.height + 2))
    by_us = any(node.number in dict(chain.votes(height)) for height in heights if height > 2)
    cosigned = any(chain.own_cosign(height) is not None for height in heights)
    return not voted and not by_us and not cosigned and chain.signed() is None


async def wiped(cluster: Cluster) -> LocalNode:
    """Node 3 after two blocks, started again on an empty disk, and caught up."""
    await cluster.until(cluster.certified(1))
    await cluster.submit(cluster.through(1))
    await cluster.until(cluster.certified(2))
    node = cluster.nodes[3]
    await node.stop()
    node.store = MemoryStore()
    await node.start()
    return node


async def test_the_old_key_on_a_wiped_disk_never_signs() -> None:
    async with running() as cluster:
        node = await wiped(cluster)
        for day in range(2, 6):
            await cluster.submit(cluster.through(day))
            await cluster.until(cluster.certified(day + 1))
        application = node.replica.application
        assert application.is_validator
        assert not application.can_vote
        assert await node.replica.run(application.renew_cosign) is None
        assert signed_nothing(node)
        assert "taxledger member rotate --key cosign" in application.journal_lost
        assert 3 not in node.replica.certification._collected[6].by_member
        await node.stop()
        await node.start()  # nothing changes by starting again
        await cluster.submit(cluster.through(6))
        await cluster.until(cluster.certified(7))
        assert signed_nothing(node)


async def test_with_its_journal_restored_it_signs_on() -> None:
    async with running() as cluster:
        old = cluster.nodes[3].store
        node = await wiped(cluster)
        await cluster.submit(cluster.through(2))
        await cluster.until(cluster.certified(3))
        await node.stop()
        node.store = old
        await node.start()
        await cluster.submit(cluster.through(3))
        await cluster.until(cluster.certified(4))
        await cluster.until(lambda: node.chain.own_cosign(4) is not None)
        assert node.replica.application.journal_lost is None


async def test_with_new_keys_through_governance_it_signs_again() -> None:
    async with running() as cluster:
        node = await wiped(cluster)
        fresh = {use: chainkit.signer(3, use, 1) for use in ("vote", "cosign")}
        entry = member_of(node.chain.view, 3)
        keys = {f"{use}_key": signer.public_key for use, signer in fresh.items()}
        change = member_set(replace(entry, **keys), cluster.chain_id, list(fresh.values()))
        propose = cluster.transaction(encode_propose(change), 1)
        await cluster.submit(propose)
        for member in (2, 4):
            proposal = chainkit.hashing.log_leaf(propose)[:16]
            await cluster.submit(cluster.transaction(encode_approve(proposal), member))
        await node.stop()
        node.signers |= fresh
        node.fresh = BOTH
        await node.start()
        in_force = lambda: cluster.nodes[1].replica.application.validators[3].vote_key == keys["vote_key"]  # noqa: E731
        await cluster.until(in_force)
        await cluster.submit(cluster.transaction(encode_approve(proposal), 3))  # some block
        height = cluster.nodes[1].chain.tip.height + 1
        await cluster.submit(cluster.through(40))
        await cluster.until(cluster.certified(height))
        await cluster.until(lambda: node.chain.own_cosign(node.chain.tip.height) is not None)
        assert node.replica.application.can_vote


def open_application(
    store: MemoryStore, number: int, fresh: frozenset[str], generation: int = 0
) -> Application:
    signers = {use: chainkit.signer(number, use, generation) for use in ("vote", "log", "cosign")}
    chain = Chain(store, chainkit.encode_genesis(chainkit.make_genesis()))
    return Application(chain, Keys(member=number, **signers, fresh=fresh), lambda: chainkit.TIME_MS)


def test_a_journal_serves_one_key_only() -> None:
    store = MemoryStore()
    assert open_application(store, 2, BOTH).may_sign == BOTH
    assert open_application(store, 2, frozenset()).may_sign == BOTH
    assert open_application(store, 3, frozenset()).may_sign == frozenset()  # another member's store, copied
    assert (
        open_application(store, 2, frozenset(), 1).may_sign == frozenset()
    )  # a later key, an earlier journal
    assert open_application(store, 2, frozenset({"vote"}), 1).may_sign == {"vote"}
    assert open_application(MemoryStore(), 2, frozenset()).may_sign == frozenset()


def test_the_journal_of_an_earlier_version_goes_on_once() -> None:
    store = MemoryStore()
    root = bytes(range(32))
    Chain(store, chainkit.encode_genesis(chainkit.make_genesis()))
    store.write({b"S": chainkit.canonical.encode([7, root])})
    application = open_application(store, 2, frozenset())
    assert application.may_sign == BOTH
    assert application.chain.signed() == (7, root)
    assert store.get(b"S") is None
    assert open_application(store, 3, frozenset()).may_sign == frozenset()


def test_tokens_are_made_with_a_home_and_spent_once(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    create_network(tmp_path / "net", members=["a", "b"], observers=["o"], now=now, grant=lambda _path: "key")
    home = Home(tmp_path / "net" / "a")
    assert fresh_uses(home) == BOTH
    assert fresh_uses(Home(tmp_path / "net" / "o")) == frozenset()
    spend_token(home, "cosign")
    assert fresh_uses(home) == {"vote"}
    make_token(home.keys_folder, "cosign", bytes(32))  # of a key that is not this one
    assert fresh_uses(home) == {"vote"}
    spend_token(home, "cosign")
    assert token_path(home.keys_folder, "cosign").exists()
    journal = tmp_path / "priv_validator_state.json"
    assert may_sign(home, "vote", journal)
    spend_token(home, "vote")
    assert not may_sign(home, "vote", journal)
    journal.write_text("{}")
    assert may_sign(home, "vote", journal)


@pytest.mark.parametrize("at", ["written", "unlinked"])
def test_a_crash_between_journal_and_token_leaves_a_key_that_may_sign_once(tmp_path: Path, at: str) -> None:
    """The journal is durable before the token goes: whichever of the two steps was the last, the next start knows."""
    now = datetime.datetime.now(datetime.UTC)
    create_network(tmp_path / "net", members=["a"], now=now, grant=lambda _path: "key")
    home = Home(tmp_path / "net" / "a")
    store = MemoryStore()
    assert open_application(store, 1, fresh_uses(home)).may_sign == BOTH
    if at == "unlinked":
        spend_token(home, "cosign")
    assert open_application(store, 1, fresh_uses(home)).may_sign == BOTH
