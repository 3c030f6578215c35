"""A validator's vote, log and co-signing keys rotated: the node changes over by itself, each key has its journal."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import chainkit
import pytest
from cluster import Cluster, running
from policykit import policy_file, rotates

from taxledger.ledger.chain import Chain
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.governance import member_set
from taxledger.ledger.members import Member, member_of
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.policychain import follow_links
from taxledger.ledger.policydate import Verified
from taxledger.ledger.signingjournals import cosign_journal_key
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.verify import verify_header
from taxledger.nodes.application import Application, Keys, encode_cosign
from taxledger.nodes.home import Home
from taxledger.nodes.identity.birthtokens import fresh_uses, has_token
from taxledger.nodes.identity.memberkeys import promote_keys
from taxledger.nodes.identity.membership import rotate
from taxledger.nodes.identity.signingkeys import HomeKeyFinder, load_keys
from taxledger.nodes.local.network import create_network
from taxledger.nodes.notes import Notes
from taxledger.nodes.policies import links_file, policy_of
from taxledger.nodes.replica import Replica

USES = ("vote", "log", "cosign")
TRUST_MS = 90 * 86_400_000


class Pocket:
    """Keys of two generations; the second one's tokens are there once."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.fresh = {"vote", "cosign"}
        self.asked = 0

    def keys_for(self, entry: Member, present: Keys) -> Keys:
        self.asked += 1
        found = {}
        for use in USES:
            for generation in (0, 1):
                signer = chainkit.signer(self.number, use, generation)
                if signer.public_key == getattr(entry, f"{use}_key"):
                    found[use] = signer
        return replace(present, **found, fresh=frozenset(self.fresh))

    def begun(self, keys: Keys, uses: frozenset[str]) -> None:
        self.fresh -= uses


async def accept(cluster: Cluster, change: list, height: int) -> None:
    """Propose and approve it, and wait until a block under it is certified everywhere."""
    raw = cluster.transaction(encode_propose(change), 1)
    proposal = chainkit.hashing.log_leaf(raw)[:16]
    for each in (raw, *(cluster.transaction(encode_approve(proposal), n) for n in (2, 3))):
        await cluster.submit(each)
    await cluster.until(
        lambda: all(
            (pending := node.chain.tip.governance) is not None
            and pending.pending is None
            and node.chain.certified > height
            for node in cluster.nodes.values()
        )
    )


@pytest.mark.parametrize("number", [1, 2])
async def test_all_signing_keys_of_a_node_are_rotated_while_it_runs(number: int) -> None:
    async with running() as cluster:
        node = cluster.nodes[number]
        for each in cluster.nodes.values():
            await each.stop()
        node.finder = Pocket(number)
        for each in cluster.nodes.values():
            await each.start()
        await cluster.submit(cluster.through(1))
        await cluster.until(cluster.certified(1))
        first = policy_of(cluster.nodes[3].replica.certified)
        size = cluster.nodes[3].replica.certified.checkpoint.size
        present = member_of(node.chain.view, number)
        keys = {f"{use}_key": chainkit.signer(number, use, 1).public_key for use in USES}
        new = [chainkit.signer(number, use, 1) for use in USES]
        await accept(cluster, member_set(replace(present, **keys, height=0), cluster.chain_id, new), 1)

        # One more node away: of four validators the rotated one is needed for every quorum.
        away = 4
        await cluster.nodes[away].stop()
        height = node.chain.tip.height
        await cluster.submit(cluster.through(2))
        await cluster.until(cluster.certified(height + 1, 1, 2, 3))
        assert node.replica.application.can_vote
        assert node.finder.asked <= 2
        old, fresh = (cosign_journal_key(chainkit.signer(number, "cosign", g).public_key) for g in (0, 1))
        journals = [chainkit.canonical.decode(node.store.get(each))[0] for each in (old, fresh)]
        assert journals[0] < journals[1] == node.chain.tip.frontier.size

        # A crash later, with the former key still in the first place: the same keys again, no new journal.
        await node.stop()
        await node.start()
        await cluster.nodes[away].start()
        await cluster.submit(cluster.through(3))
        await cluster.until(cluster.certified(height + 2))
        cluster.check_agreement()

        state = cluster.nodes[3].replica.certified
        keys = Keys(member=3, log=chainkit.signer(3, "log"))
        note = await Notes("test.net", cluster.nodes[3].replica, lambda: keys, {}).note(state)
        with pytest.raises(VerificationError, match="policy_outdated"):
            verify_header(state.header_leaf, first, decode_note(note))
        followed = follow_links(
            first,
            Verified(time_s=cluster.time_ms // 1_000, size=size),
            links_file(state, note, first.validators_hash),
            now_ms=cluster.time_ms,
            trust_ms=TRUST_MS,
            age_ms_max=TRUST_MS,
        )
        assert followed.policy == policy_of(state)
        verify_header(state.header_leaf, followed.policy, decode_note(note))


async def test_uncertified_blocks_on_both_sides_of_a_rotation_are_certified_after_a_restart() -> None:
    """Blocks before the change are co-signed by the old key, those after it by the new one, whatever was known."""
    network = chainkit.TestChain()
    network.add()
    rotates(network, 2, "cosign")
    network.add()
    store = MemoryStore()

    def open_node() -> Replica:
        application = Application(
            Chain(store, network.genesis_leaf), Keys(member=6), lambda: chainkit.TIME_MS + 60_000
        )
        return Replica(application)

    replica = open_node()
    for block in network.blocks:
        executed = replica.application.deliver(block.executed.header.time_ms, block.executed.leaves)
        await replica.run(replica.commit, executed, block.votes, [])
    assert replica.certified.height == 0
    replica.close()
    replica = open_node()
    for block in reversed(network.blocks):
        # Without members 3 or 4: the rotated member's is one of the quorum.
        messages = [
            encode_cosign(network.chain_id, member, network.checkpoint(block.executed), time_s, signature)
            for member, time_s, signature in block.cosigns[:3]
        ]
        assert await replica.run(replica.receive, messages) == []
    assert replica.certified.height == len(network.blocks)
    assert policy_file(network)  # the newest set is a policy
    replica.close()


def test_a_rotated_key_of_a_home_begins_its_own_journal(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    now = datetime.datetime.now(datetime.UTC)
    create_network(folder, members=["tax", "bank"], now=now, grant=lambda path: str(path.write_text("{}")))
    home = Home(folder / "bank")
    store = MemoryStore()
    finder = HomeKeyFinder(home)
    application = Application(Chain(store, home.genesis()), load_keys(home), lambda: 0, finder)
    finder.begun(application.keys, application.may_sign)
    assert fresh_uses(home) == frozenset()
    entry = application.validators[2]
    change = rotate(home, entry, "cosign", chain_id=application.chain.chain_id, identity=None)
    assert rotate(home, entry, "cosign", chain_id=application.chain.chain_id, identity=None) == change
    assert has_token(home, "cosign.next")
    assert fresh_uses(home) == frozenset(), "the token is not the present key's"
    then = replace(entry, cosign_key=change[3][0][0])

    former = application.keys.cosign
    application._follow_keys({2: then})
    assert application.keys.cosign.public_key == then.cosign_key
    assert application.may_sign == {"vote", "cosign"}
    assert application.chain.signed()[0] == 1
    assert not has_token(home, "cosign.next")
    application._follow_keys(
        {2: entry}
    )  # a block from before the change may still be signed with the former key
    assert application.keys.cosign.public_key == former.public_key
    assert "cosign" in application.may_sign
    assert promote_keys(home, then) == ["cosign"]
    application._follow_keys({2: then})
    again = Application(Chain(store, home.genesis()), load_keys(home), lambda: 0, finder)
    assert again.keys.cosign.public_key == then.cosign_key
    assert again.may_sign == {"vote", "cosign"}
    # Another store does not have the journal, and there is no token any more: the key never signs there.
    other = Application(Chain(MemoryStore(), home.genesis()), load_keys(home), lambda: 0)
    assert "cosign" not in other.may_sign
