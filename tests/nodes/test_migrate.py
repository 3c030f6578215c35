"""``network migrate`` on real homes: what is decided, or may be, is kept; killed at any write, it goes on."""

from __future__ import annotations

import datetime
import io
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from taxledger.ledger import canonical
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.auditreport import EngineSpan
from taxledger.ledger.chain import Chain
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, VerificationError
from taxledger.ledger.execute import Executed
from taxledger.ledger.genesis import chain_id, decode_genesis
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.policy import Policy, decode_policy
from taxledger.ledger.policychain import follow_links
from taxledger.ledger.policydate import Verified
from taxledger.ledger.policylinks import EngineLink, Link, PolicyLinks, encode_links, prove_head
from taxledger.ledger.setchanges import links_from
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.transaction import sign_transaction
from taxledger.nodes.application import Application, decode_cosign
from taxledger.nodes.backup import backup_home, check_not_moved, restore_home
from taxledger.nodes.ceremony.entering import enter_network
from taxledger.nodes.ceremony.memberfile import encode_member_file
from taxledger.nodes.ceremony.networkfile import (
    NetworkFile,
    NetworkMember,
    decode_network_file,
    encode_network_file,
)
from taxledger.nodes.ceremony.newhome import fresh_folder, prove_member, write_member_home
from taxledger.nodes.cli.network import grant_all_scopes
from taxledger.nodes.folder import FolderLedger
from taxledger.nodes.handover.migrating import migrate_network
from taxledger.nodes.handover.party import Party
from taxledger.nodes.home import Home, place_file
from taxledger.nodes.identity.birthtokens import has_token
from taxledger.nodes.identity.pki import authority_hash, split_certificates
from taxledger.nodes.identity.signingkeys import load_keys, spend_tokens
from taxledger.nodes.local.control import find_homes
from taxledger.nodes.local.enginecheck import check_engine
from taxledger.nodes.local.network import create_network
from taxledger.nodes.ordering.cometbft.files import prepare_engine
from taxledger.nodes.ordering.embedded.messages import DecidedBlock

MEMBERS = ["tax", "bank1", "bank2", "bank3"]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def opened(net: Path, names: Sequence[str] = MEMBERS) -> Iterator[list[Party]]:
    with ExitStack() as held:
        parties = []
        for name in names:
            home = Home(net / name)
            store = LevelStore(home.store_path)
            held.callback(store.close)
            application = Application(Chain(store, home.genesis()), load_keys(home), now_ms)
            spend_tokens(home, application)
            parties.append(Party(name, application))
        yield parties


def transaction(net: Path, party: Party, mark: int) -> bytes:
    """Signed, and refused by the rules: that leaves a leaf and a result as well."""
    signer = Signer(Home(net / "tax").key("transaction"))
    now_s = now_ms() // 1000
    return sign_transaction(
        signer,
        payload=bytes([0x91, mark]),
        chain_id=party.chain.chain_id,
        member=1,
        iat_s=now_s,
        exp_s=now_s + 600,
    )


def execute(net: Path, parties: Sequence[Party], mark: int, *, later_ms: int = 0) -> Executed:
    party = parties[0]
    time_ms = max(now_ms(), party.chain.tip.time_ms + 1) + later_ms
    return party.application.deliver(time_ms, [transaction(net, party, mark)])


def vote(parties: Sequence[Party], executed: Executed) -> list[tuple[int, bytes]]:
    return sorted((each.number, each.application.vote(executed, executed.leaves)) for each in parties)


def decided(executed: Executed, votes: list[tuple[int, bytes]]) -> DecidedBlock:
    return DecidedBlock(
        height=executed.header.height,
        time_ms=executed.header.time_ms,
        transactions=tuple(executed.leaves),
        header_hash=executed.tip.header_hash,
        votes=tuple(votes),
        cosigns=(),
    )


def add(net: Path, parties: Sequence[Party], mark: int, *, at: Sequence[Party] | None = None) -> Executed:
    """A block that all of them vote for, known to ``at``, and certified there where these are enough."""
    executed = execute(net, parties, mark)
    block = decided(executed, vote(parties, executed))
    known = parties if at is None else at
    for party in known:
        party.take(block)
    for party in known:
        for other in known:
            party.receive(other.certification.messages(executed.header.height))
    return executed


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Two certified blocks."""
    folder = tmp_path / "net"
    create_network(
        folder,
        members=MEMBERS,
        observers=["auditor"],
        now=datetime.datetime.now(datetime.UTC),
        grant=grant_all_scopes,
    )
    with opened(folder) as parties:
        add(folder, parties, 1)
        add(folder, parties, 2)
    return folder


def migrated(net: Path) -> int:
    return migrate_network(net, "cometbft").height


def check_moved(net: Path, height: int, *, names: Sequence[str] = (*MEMBERS, "auditor")) -> set[bytes]:
    """Every home goes on from the same tree under the new origin; returns the leaves of all blocks."""
    roots, leaves, genesis_files = set(), set(), set()
    policy = decode_policy((net / "policy.txt").read_bytes())
    with opened(net, names) as parties:
        for party in parties:
            chain = party.chain
            assert (chain.engine, chain.engine_from, chain.handing_over()) == ("cometbft", height + 1, None)
            assert chain.tip.height == chain.certified == height
            check_engine(Home(net / party.name), chain)
            assert policy.origin == chain.origin
            record = chain.handover(height)
            assert record is not None
            assert chain.cosigns(height)
            roots.add((chain.tip.frontier.root, record.note))
            leaves |= {leaf for each in range(1, height + 1) for leaf in chain.block(each).transactions}
            assert party.application.journal_lost is None
    assert len(roots) == 1
    for name in names:
        home = Home(net / name)
        assert home.config.engine == "cometbft"
        assert decode_policy(home.policy()).origin == policy.origin
        assert prepare_engine(home).votes == (name != "auditor")
        genesis_files.add((home.engine_folder / "config" / "genesis.json").read_bytes())
    assert len(genesis_files) == 1
    made = json.loads(genesis_files.pop())
    assert made["app_hash"] == roots.pop()[0].hex().upper()
    assert len(made["validators"]) == 4
    ledger = FolderLedger(Home(net / "tax"))
    try:
        data = b"".join(ledger.archive())
    finally:
        ledger.close()
    report = audit_archive(io.BytesIO(data), MemoryStore(), policy=policy)
    assert report.ok, [each for each in report.verdicts if each.failure]
    assert report.engines[0] == EngineSpan(engine="embedded", first=1, last=height)
    return leaves


def test_a_network_goes_over_with_its_history(net: Path) -> None:
    former = (net / "policy.txt").read_bytes()
    assert migrated(net) == 2
    assert len(check_moved(net, 2)) == 2
    assert (net / "policy-embedded.txt").read_bytes() == former
    assert Home(net / "tax").config.others[0].engine is not None
    before = {path: path.read_bytes() for path in net.glob("*/node.toml")}
    assert migrated(net) == 2  # again: nothing changes
    assert {path: path.read_bytes() for path in net.glob("*/node.toml")} == before


def test_nothing_goes_back_or_elsewhere(net: Path) -> None:
    for engine in ("embedded", "raft"):
        with pytest.raises(InputError, match="expected to go to cometbft"):
            migrate_network(net, engine)
    migrated(net)
    (net / "tax" / "node.toml").write_text(
        (net / "tax" / "node.toml").read_text().replace('"cometbft"\n', '"embedded"\nsequencer = 1\n', 1)
    )
    store = LevelStore(net / "tax" / "store")
    with pytest.raises(InputError, match="names the engine embedded"):
        check_engine(Home(net / "tax"), Chain(store, Home(net / "tax").genesis()))


def test_a_block_decided_at_one_home_only_is_kept(net: Path) -> None:
    with opened(net) as parties:
        executed = add(net, parties, 3, at=parties[3:])
    assert migrated(net) == 3
    assert set(executed.leaves) <= check_moved(net, 3)


def test_a_block_that_all_voted_for_is_decided_first(net: Path) -> None:
    with opened(net) as parties:
        executed = execute(net, parties, 3)
        vote(parties, executed)
    assert migrated(net) == 3
    assert set(executed.leaves) <= check_moved(net, 3)


def test_one_that_an_absent_home_may_have_decided_is_completed(net: Path) -> None:
    """Two votes lie here, the third may be the absent one's; the one who has not voted makes it three."""
    with opened(net) as parties:
        executed = execute(net, parties, 3)
        votes = vote(parties[1:], executed)
        parties[3].take(decided(executed, votes))  # it alone knows the decision, and goes away with it
        absent = net.parent / "absent"
    (net / "bank3").rename(absent)
    assert migrated(net) == 3
    assert set(executed.leaves) <= check_moved(net, 3, names=("tax", "bank1", "bank2", "auditor"))
    absent.rename(net / "bank3")  # it comes back, and goes over behind the same block
    assert migrated(net) == 3
    check_moved(net, 3)


def test_one_that_cannot_be_completed_stops_it(net: Path) -> None:
    with opened(net) as parties:
        first, second = execute(net, parties, 3), execute(net, parties, 4)
        vote(parties[:1], second)
        votes = vote(parties[1:], first)
        parties[3].take(decided(first, votes))
    absent = net.parent / "absent"
    (net / "bank3").rename(absent)
    with pytest.raises(InputError, match=r"block 3 may be decided .* it takes the home of bank3"):
        migrated(net)
    absent.rename(net / "bank3")
    assert migrated(net) == 3
    assert set(first.leaves) <= check_moved(net, 3)


def test_votes_split_for_good_are_left_behind(net: Path) -> None:
    """The way out of a halted network."""
    with opened(net) as parties:
        first, second = execute(net, parties, 3), execute(net, parties, 4)
        vote(parties[:2], first)
        vote(parties[2:], second)
    assert migrated(net) == 2
    assert not set(first.leaves) & check_moved(net, 2)


def test_a_network_that_decided_nothing_goes_over_too(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    create_network(folder, members=MEMBERS, now=datetime.datetime.now(datetime.UTC), grant=grant_all_scopes)
    with opened(folder) as parties:
        first, second = execute(folder, parties, 1), execute(folder, parties, 2)
        vote(parties[:2], first)
        vote(parties[2:], second)
    assert migrate_network(folder, "cometbft").size == 1
    with opened(folder) as parties:
        assert {each.chain.engine_from for each in parties} == {1}


def test_too_few_homes_can_do_nothing(net: Path) -> None:
    for name in ("bank2", "bank3"):
        (net / name).rename(net.parent / name)
    with pytest.raises(InputError, match="expected the homes of 3 validators at least"):
        migrated(net)
    with opened(net, ["tax", "bank1"]) as parties:
        assert all(each.chain.handing_over() is None for each in parties)


def test_a_home_without_its_journals_counts_as_absent(net: Path) -> None:
    """It may have voted for anything before its store was lost."""
    for name in ("bank2", "bank3"):
        for path in (net / name / "store").iterdir():
            path.unlink()
    with pytest.raises(InputError, match="with its signing journals"):
        migrated(net)


def test_a_home_from_a_backup_of_before_goes_over_and_does_not_vote(net: Path) -> None:
    """Its vote key may have signed under the new engine before the home was lost."""
    backup_home(Home(net / "bank3"), net.parent / "before", with_keys=True)
    migrated(net)
    assert prepare_engine(Home(net / "bank3")).votes
    shutil.rmtree(net / "bank3")
    restore_home(net.parent / "before", net / "bank3")
    migrated(net)
    home = Home(net / "bank3")
    assert home.config.engine == "cometbft"
    assert not prepare_engine(home).votes
    assert prepare_engine(Home(net / "bank2")).votes


def test_a_home_that_was_moved_signs_nothing_here(net: Path) -> None:
    """Its journal is in a backup, and may be in use elsewhere."""
    backup_home(Home(net / "bank3"), net.parent / "moved", with_keys=True, with_journal=True)
    with pytest.raises(InputError, match="was moved"):
        migrated(net)
    with opened(net, ["tax"]) as parties:
        assert parties[0].chain.handing_over() is None
    (net / "bank3").rename(net.parent / "bank3")
    migrated(net)


def test_a_running_network_is_not_touched(net: Path) -> None:
    import fcntl

    with (net / "supervisor.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="the network runs"):
            migrated(net)


def test_nobody_becomes_convictable(net: Path) -> None:
    """At one size one root, under both origins: what each co-signed before and after is consistent."""
    with opened(net) as parties:
        add(net, parties, 3, at=parties[3:])
        before = {
            each.number: [decode_cosign(raw, each.chain.chain_id) for raw in each.certification.own()]
            for each in parties
        }
    migrated(net)
    with opened(net) as parties:
        for party in parties:
            own = [decode_cosign(raw, party.chain.chain_id) for raw in party.certification.own()]
            assert own
            roots: dict[int, bytes] = {}
            for each in (*before[party.number], *own):
                assert roots.setdefault(each.size, each.root) == each.root
                height = party.chain.height_of_index(each.size - 1)
                assert party.application.checkpoint(height).root == each.root
            assert party.chain.signed() == (own[-1].size, own[-1].root)


def test_a_former_policy_follows_by_proof(net: Path) -> None:
    former = decode_policy((net / "policy.txt").read_bytes())
    migrated(net)
    with opened(net, ["tax"]) as (party,):
        chain, header = party.chain, party.chain.header(2)
        record = chain.handover(2)
        assert record is not None
        head = prove_head(
            chain.view,
            checkpoint=record.note,
            header=chain.header_leaf(2),
            inclusion=prove_inclusion(chain.node, header.index, header.size),
        )
        links = links_from(chain, former.validators_hash, header.validators_hash, "embedded")

    def follow(*links: Link, policy: Policy = former) -> Policy:
        data = encode_links(PolicyLinks(links=links, head=head))
        return follow_links(
            policy,
            Verified(time_s=now_ms() // 1_000, size=1),
            data,
            now_ms=now_ms(),
            trust_ms=10**9,
            age_ms_max=10**6,
        ).policy

    present = follow(*links)
    assert present == decode_policy((net / "policy.txt").read_bytes())
    assert follow(policy=present) == present
    (link,) = links
    assert isinstance(link, EngineLink)
    for wrong, code in (
        ((), "policy_mismatch"),
        ((replace(link, engine="other"),), "signature_invalid"),
        ((replace(link, cosigned=link.cosigned[:-1]),), "quorum_missing"),
        ((replace(link, engine="No/Engine"),), "links_broken"),
    ):
        with pytest.raises(VerificationError) as refused:
            follow(*wrong)
        assert refused.value.code == code


# --- killed ---------------------------------------------------------------------------------------------


def _migrate_until(net: Path, left: int) -> None:
    """Migrate, and die before the durable write that is one too many."""
    write, replace = LevelStore.write, Path.replace

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(9)

    def counted_write(self, batch, *, sync=True):  # type: ignore[no-untyped-def]
        count()
        write(self, batch, sync=sync)

    def counted_replace(self, target):  # type: ignore[no-untyped-def]
        count()
        return replace(self, target)

    LevelStore.write = counted_write  # type: ignore[method-assign]
    Path.replace = counted_replace  # type: ignore[method-assign]
    migrate_network(net, "cometbft")


def _killed_at(net: Path, number: int) -> bool:
    """Run the migration in a process of its own that ends at its n-th durable write; whether it came so far.

    A new process, no fork: LevelDB's own thread would be missing there, and closing a store waits for it.
    """
    child = multiprocessing.get_context("spawn").Process(target=_migrate_until, args=(net, number))
    child.start()
    child.join()
    assert child.exitcode in (0, 9)
    return child.exitcode == 9


def test_killed_at_every_write_it_goes_on(net: Path) -> None:
    """One block known to one home only, one undecided: each run dies one write later than the one before it began."""
    with opened(net) as parties:
        kept = add(net, parties, 3, at=parties[3:])
    for number in range(200):
        if not _killed_at(net, number):
            break
        _check_in_between(net)
    else:
        raise AssertionError("it never ended")
    assert number > 3
    assert set(kept.leaves) <= check_moved(net, 3)


def _check_in_between(net: Path) -> None:
    """No node starts under the wrong engine, and none of those that left starts under the former one."""
    for home in find_homes(net):
        store = LevelStore(home.store_path)
        chain = Chain(store, home.genesis())
        moving, engine = chain.handing_over(), chain.engine
        try:
            check_engine(home, chain)
        except InputError:
            assert moving is not None or engine != home.config.engine
        else:
            assert moving is None
            assert engine == home.config.engine
            store.close()


def network_file(net: Path, handover: bytes) -> NetworkFile:
    """What ``taxledger network bundle`` writes after the move (it asks a running node for the members)."""
    home = Home(net / "tax")
    pems = {authority_hash(pem): pem for pem in split_certificates(home.tls_peers_path.read_bytes())}
    members = decode_genesis(home.genesis()).members
    hashes = {each.number: each.tls_ca_hash or b"" for each in members}
    return NetworkFile(
        network=home.config.network,
        engine="cometbft",
        chain_id=chain_id(home.genesis()),
        sequencer=0,
        next_number=len(members) + 1,
        members=tuple(
            NetworkMember(peer=each, tls_authority=pems[hashes[each.number]].decode())
            for each in home.config.peers
        ),
        genesis=home.genesis(),
        policy=home.policy(),
        handover=handover,
    )


def test_a_member_that_joins_gets_what_the_engine_began_with(net: Path, tmp_path: Path) -> None:
    migrated(net)
    began = (net / "tax" / "engine" / "handover.bin").read_bytes()
    file = network_file(net, began)
    assert decode_network_file(encode_network_file(file)) == file
    for handover, expected in (
        (b"", "a handover where the genesis names another engine"),
        (canonical.encode([1, "engine_begin", 5, bytes(32), []]), "what an engine begins with"),
        (canonical.encode([1, "engine_begin", 5, bytes(31), [["tax", bytes(32)]]]), "what an engine begins"),
        (canonical.encode([1, "engine_begin", 5, bytes(32), [["tax", bytes(31)]]]), "what an engine begins"),
    ):
        with pytest.raises(FormatError, match=expected):
            decode_network_file(encode_network_file(replace(file, handover=handover)))
    now, joining = datetime.datetime.now(datetime.UTC), tmp_path / "bank4"
    with fresh_folder(joining) as fresh:
        write_member_home(
            fresh,
            network=file.network,
            engine="cometbft",
            name="bank4",
            role="validator",
            api_url="http://127.0.0.1:1",
            peer_url="https://bank4.example:1",
            engine_address="bank4.example:2",
            now=now,
            grant=grant_all_scopes,
        )
    proved = prove_member(joining, chain_id=file.chain_id, number=file.next_number)
    place_file(joining / "member.json", encode_member_file(proved))
    enter_network(joining, decode_network_file(encode_network_file(file)))
    for name in (net / "tax", joining):
        prepare_engine(Home(name))
    genesis = [(each / "engine" / "config" / "genesis.json").read_bytes() for each in (net / "tax", joining)]
    assert genesis[0] == genesis[1]
    store = LevelStore(joining / "store")
    with pytest.raises(InputError, match="begin from a snapshot with `taxledger member sync"):
        check_engine(Home(joining), Chain(store, file.genesis))


def test_a_home_taken_away_before_its_engine_ever_ran_goes_on_voting(net: Path, tmp_path: Path) -> None:
    """No birth token travels, so the backup begins the journal of the vote key; the old home never runs again."""
    migrated(net)
    home = Home(net / "bank1")
    assert has_token(home, "vote")
    backup_home(home, tmp_path / "b", with_keys=True, with_journal=True)
    assert not has_token(home, "vote")
    restore_home(tmp_path / "b", tmp_path / "away", with_journal=True)
    away = Home(tmp_path / "away")
    assert prepare_engine(away).votes
    with opened(tmp_path, ["away"]) as (party,):
        assert party.application.journal_lost is None
        assert party.application.may_sign == {"cosign"}
    with pytest.raises(InputError, match="was moved"):
        check_not_moved(home)
