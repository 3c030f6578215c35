"""Blocks: what is skipped, what has a leaf, the header over it all, changes of the network, determinism."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from chainkit import (
    INVOICE,
    ISSUER,
    PURPOSES,
    SUSPENDED,
    TestChain,
    attest,
    client,
    decoded,
    digest,
    entry,
    group,
    make_genesis,
    signer,
    tag_key,
    tag_key_der,
    validator,
    value,
)

from taxledger.ledger import canonical, hashing, limits, statekeys
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError, InputError, RefusedError
from taxledger.ledger.execute import check_transaction, genesis_tip, next_validators
from taxledger.ledger.governance import (
    LAPSE_AFTER_BLOCKS,
    member_replace,
    member_set,
    parameter_set,
    pending_proposal,
    schema_register,
)
from taxledger.ledger.header import decode_header
from taxledger.ledger.members import member_of, validators_hash_of, validators_of
from taxledger.ledger.merkle import frontier_at, prove_inclusion, root_of, verify_inclusion
from taxledger.ledger.operations import encode_approve, encode_attest, encode_propose
from taxledger.ledger.schemas import encode_schema
from taxledger.ledger.statemap import MapView
from taxledger.ledger.store import MemoryStore

FEE = parameter_set("fee", 7)


@pytest.fixture
def chain() -> TestChain:
    return TestChain()


# --- leaves, results, header --------------------------------------------------------------------


def test_the_genesis_begins_the_chain():
    genesis = make_genesis()
    chain = TestChain(genesis)
    tip, layer, nodes = genesis_tip(chain.genesis_leaf)
    assert (tip.height, tip.time_ms, tip.network) == (0, genesis.time_ms, "test.net")
    assert tip.header_hash == tip.frontier.root == hashing.log_leaf(chain.genesis_leaf) == nodes[0, 0]
    assert layer.count == len(genesis.members) + len(BUILTIN) + 1
    assert next_validators(tip, chain.view) == genesis.validators
    with pytest.raises(InputError):
        genesis_tip(chain.genesis_leaf + b"\x00")


def test_the_header_says_what_the_block_did(chain):
    before = chain.tip
    raws = [chain.sign(tag_key(chain.chain_id)), chain.sign(attest(group(1, 2))), chain.sign(b"\x90")]
    executed = chain.add(*raws)
    header = decode_header(executed.header_leaf)
    assert header == executed.header
    assert executed.leaves == raws
    assert [result.code for result in decoded(executed.results)] == [0, 0, 1]
    assert [result.leaf_hash for result in decoded(executed.results)] == executed.leaf_hashes
    assert executed.leaf_hashes == [hashing.log_leaf(raw) for raw in raws]
    assert (header.height, header.first_index, header.transactions, header.index) == (1, 1, 3, 4)
    assert header.previous_header_hash == before.header_hash
    assert header.chain_id == chain.chain_id
    assert header.results_root == root_of([hashing.log_leaf(result) for result in executed.results])
    assert (header.state_root, header.state_count) == (chain.view.root, chain.view.count)
    assert header.validators_hash == validators_hash_of("test.net", chain.genesis.validators)
    assert header.next_validators_hash == header.validators_hash
    leaves = [chain.genesis_leaf, *raws, executed.header_leaf]
    assert executed.tip.frontier.root == root_of([hashing.log_leaf(leaf) for leaf in leaves])
    assert executed.tip.header_hash == hashing.log_leaf(executed.header_leaf)


def test_leaves_are_provable_from_the_nodes(chain):
    chain.add(chain.sign(tag_key(chain.chain_id)))
    executed = chain.add(*[chain.sign(attest(group(rid))) for rid in range(5)])

    def node(level, index):
        return chain.log_nodes[level, index]

    frontier = executed.tip.frontier
    assert frontier_at(node, frontier.size) == frontier
    for offset, leaf_hash in enumerate(executed.leaf_hashes):
        index = executed.header.first_index + offset
        verify_inclusion(
            leaf_hash, index, frontier.size, prove_inclusion(node, index, frontier.size), frontier.root
        )


def test_an_empty_block_changes_the_log_only(chain):
    executed = chain.add()
    assert executed.header.results_root == hashing.EMPTY_ROOT
    assert executed.header.state_root == genesis_tip(chain.genesis_leaf)[1].root
    assert executed.tip.frontier.size == 2


def test_a_value_in_the_map(chain):
    chain.add(chain.sign(tag_key(chain.chain_id)), chain.sign(attest(group(1, 2, status=2))))
    key = statekeys.record_key(ISSUER, INVOICE, (1).to_bytes(16, "big"), 3, (2).to_bytes(16, "big"))
    expected = [2, 1, 1, digest("commitment", 2), digest("fingerprint", 2)[:16], 1]
    assert value(chain.view, key) == expected
    assert chain.view.get(key[:-1] + b"\x01") == canonical.encode([2, 1, 1, digest("commitment", 1), None, 1])


# --- what is skipped ---------------------------------------------------------------------------------


def reasons(executed) -> list[str]:
    return [reason for _, reason in executed.skipped]


def test_skipped_without_a_leaf(chain):
    payload = attest(group(1))
    good = chain.sign(payload)
    wrong = {
        "malformed": good[:-1],
        "wrong_chain": chain.sign(payload, chain_id=bytes(16)),
        "lifetime_too_long": chain.sign(payload, exp_s=chain.time_ms // 1_000 + 3_601),
        "expired": chain.sign(payload, iat_s=chain.time_ms // 1_000 - 9, exp_s=chain.time_ms // 1_000 + 1),
        "not_yet_valid": chain.sign(
            payload, iat_s=chain.time_ms // 1_000 + 62, exp_s=chain.time_ms // 1_000 + 99
        ),
        "member_inactive": chain.sign(payload, SUSPENDED),
        "signature_invalid": good[:-1] + bytes([good[-1] ^ 1]),
    }
    executed = chain.execute(*wrong.values())
    assert reasons(executed) == list(wrong)
    assert [leaf_hash for leaf_hash, _ in executed.skipped] == [hashing.log_leaf(r) for r in wrong.values()]
    assert executed.leaves == executed.results == []
    others = [
        chain.sign(payload, 4_000),
        chain.sign(payload, signer=signer(ISSUER, generation=1)),
        chain.sign(payload, 1, signer=signer(1, "vote")),
    ]
    assert reasons(chain.execute(*others)) == ["member_inactive"] * 3
    assert reasons(chain.execute(b"", b"\xd2", good + b"\x00")) == ["malformed"] * 3
    backwards = chain.sign(payload, exp_s=chain.time_ms // 1_000)
    assert reasons(chain.execute(backwards)) == ["lifetime_too_long"]


def test_the_window_is_exact(chain):
    raw = chain.sign(attest(group(1)), iat_s=chain.time_ms // 1_000 + 100, exp_s=chain.time_ms // 1_000 + 200)
    begin, end = chain.time_ms + 40_000, chain.time_ms + 200_000
    for time_ms, expected in (
        (begin - 1, ["not_yet_valid"]),
        (begin, []),
        (end - 1, []),
        (end, ["expired"]),
    ):
        assert reasons(chain.execute(raw, time_ms=time_ms)) == expected


def test_a_leaf_counts_once(chain):
    first, again = chain.sign(tag_key(chain.chain_id)), chain.sign(b"\x90")
    executed = chain.add(first, again, first, again)
    assert (executed.leaves, reasons(executed)) == ([first, again], ["already_logged"] * 2)
    executed = chain.add(first, again)
    assert (executed.leaves, reasons(executed)) == ([], ["already_logged"] * 2)


def test_check_transaction_says_what_deliver_would_skip(chain):
    raw = chain.sign(b"\x90")
    arguments = {"view": chain.view, "chain_id": chain.chain_id, "time_ms": chain.time_ms}
    found = check_transaction(raw, is_logged=lambda _: False, **arguments)
    assert (found.raw, found.member) == (raw, ISSUER)
    with pytest.raises(RefusedError) as refused:
        check_transaction(raw, is_logged=lambda _: True, **arguments)
    assert refused.value.code == "already_logged"
    with pytest.raises(FormatError):
        check_transaction(raw[:-1], is_logged=lambda _: False, **arguments)


def test_a_batch_over_the_limits_is_refused(chain):
    with pytest.raises(FormatError, match="at most 512 transactions"):
        chain.execute(*[b""] * (limits.block_transactions_max + 1))
    assert reasons(chain.execute(*[b""] * limits.block_transactions_max)) == ["malformed"] * 512
    large = [bytes(limits.leaf_bytes_max)] * 65
    with pytest.raises(FormatError, match="at most 4194304 bytes"):
        chain.execute(*large)
    assert len(chain.execute(*large[:64]).skipped) == 64


@pytest.mark.parametrize("ahead_ms", [0, -1])
def test_time_rises_strictly(chain, ahead_ms):
    with pytest.raises(FormatError, match="block time after"):
        chain.execute(time_ms=chain.tip.time_ms + ahead_ms)
    assert chain.execute(time_ms=chain.tip.time_ms + 1).header.time_ms == chain.tip.time_ms + 1
    for wrong in (True, 2**63, float(chain.tip.time_ms + 1)):
        with pytest.raises(FormatError):
            chain.execute(time_ms=wrong)


def test_executing_changes_nothing(chain):
    chain.add(chain.sign(tag_key(chain.chain_id)))
    root, raw = chain.view.root, chain.sign(attest(group(1)))
    first, second = chain.execute(raw), chain.execute(raw)
    assert first.header == second.header
    assert (chain.view.root, chain.tip.height) == (root, 1)


# --- changes of the network ----------------------------------------------------------------------------


def accept(chain: TestChain, change, approving: Sequence[int] = (2, 3)) -> bytes:
    """Propose and approve in one block; the proposal's key."""
    raw = chain.sign(encode_propose(change), 1)
    proposal = hashing.log_leaf(raw)[:16]
    approvals = [chain.sign(encode_approve(proposal), member) for member in approving]
    assert chain.results(raw, *approvals) == [(0, None)] * (1 + len(approving))
    return statekeys.proposal_key(proposal)


def test_a_change_is_in_force_two_blocks_later(chain):
    key = accept(chain, FEE)
    assert value(chain.view, key) == [FEE, 1, [1, 2, 3], 2, 1]
    parameter = statekeys.parameter_key("fee")
    chain.add()
    assert value(chain.view, parameter) is None
    chain.add()
    assert value(chain.view, parameter) == [7, 3]
    assert value(chain.view, key) == [FEE, 1, [1, 2, 3], 3, 3]
    assert chain.tip.governance.pending is None
    accept(chain, parameter_set("fee", -8))
    chain.add()
    chain.add()
    assert value(chain.view, parameter) == [-8, 6]


def test_a_schema_is_usable_in_the_block_it_comes_into_force(chain):
    schema = replace(BUILTIN[2], number=2)
    chain.add(chain.sign(tag_key(chain.chain_id)))
    accept(chain, schema_register(encode_schema(schema)))
    payload = encode_attest(INVOICE, 2025, None, [group(1, schema=2)])
    assert chain.result(payload) == (4, 0)
    assert chain.results(chain.sign(payload)) == [(0, None)]
    expected = [hashing.sha256(encode_schema(schema)), chain.tip.height]
    assert value(chain.view, statekeys.schema_key(INVOICE, 2)) == expected


def test_the_header_names_the_next_validators_before_they_are_asked(chain):
    fifth = validator(8, name="v8")
    change = member_set(
        fifth, chain.chain_id, [signer(8, purpose) for purpose in ("transaction", "vote", "log", "cosign")]
    )
    four = validators_hash_of("test.net", chain.genesis.validators)
    five = validators_hash_of("test.net", [*chain.genesis.validators, fifth])
    accept(chain, change)
    chain.add()
    chain.add()
    chain.add()
    headers = [block.executed.header for block in chain.blocks]
    assert [header.validators_hash for header in headers] == [four, four, five, five]
    assert [header.next_validators_hash for header in headers] == [four, five, five, five]
    assert [len(block.executed.validators) for block in chain.blocks] == [4, 4, 5, 5]
    assert member_of(chain.view, 8).height == 3
    # With five validators the quorum is four.
    raw = chain.sign(encode_propose(FEE), 8)
    proposal = hashing.log_leaf(raw)[:16]
    chain.results(raw, *[chain.sign(encode_approve(proposal), member) for member in (1, 2)])
    assert pending_proposal(chain.view).state == 1
    assert chain.result(encode_approve(proposal), member=4) == (0, None)
    assert pending_proposal(chain.view).state == 2


def test_a_member_is_replaced_in_one_block(chain):
    """Four validators before, four after, and never three."""
    keys = [signer(8, purpose) for purpose in ("transaction", "vote", "log", "cosign")]
    change = member_replace(4, validator(8, name="v8"), chain.chain_id, keys)
    accept(chain, change)
    for _ in range(2):
        assert [each.number for each in validators_of(chain.view)] == [1, 2, 3, 4]
        chain.add()
    assert [each.number for each in validators_of(chain.view)] == [1, 2, 3, 8]
    headers = [block.executed.header for block in chain.blocks]
    assert headers[1].next_validators_hash == headers[2].validators_hash
    assert headers[1].validators_hash != headers[2].validators_hash
    former = member_of(chain.view, 4)
    assert (former.status, former.height, former.name) == (3, 3, "v4")
    assert (member_of(chain.view, 8).status, member_of(chain.view, 8).height) == (1, 3)
    assert chain.execute(chain.sign(encode_propose(FEE), 4)).skipped[0][1] == "member_inactive"
    again = member_replace(4, validator(9, name="v9"), chain.chain_id, [signer(9, each) for each in PURPOSES])
    assert chain.result(encode_propose(again), member=1) == (17, None), "removed already"


def test_five_validators_may_become_four_and_not_three(chain):
    network = TestChain(make_genesis(4, members=tuple(validator(number) for number in range(1, 6))))
    accept(network, member_set(validator(5, status=2), network.chain_id, []), (2, 3, 4))
    network.add()
    network.add()
    assert [member.number for member in validators_of(network.view)] == [1, 2, 3, 4]
    refused = encode_propose(member_set(validator(4, status=2), network.chain_id, []))
    assert network.result(refused, member=1) == (17, None)
    assert network.execute(network.sign(refused, 5)).skipped[0][1] == "member_inactive"


def test_a_small_network_may_stay_small_but_not_shrink():
    network = TestChain(make_genesis(members=(validator(1), client(2, "bank"))))
    shrink = encode_propose(member_set(validator(1, status=2), network.chain_id, []))
    assert network.result(shrink, member=1) == (17, None)
    assert network.result(encode_propose(FEE), member=1) == (0, None)
    assert pending_proposal(network.view).state == 2, "one validator is a quorum of one"


def test_an_open_proposal_lapses(chain):
    raw = chain.sign(encode_propose(FEE), 1)
    chain.add(raw)
    key = statekeys.proposal_key(hashing.log_leaf(raw)[:16])
    # Skipping blocks: the rule counts heights only.
    chain.tip = replace(chain.tip, height=LAPSE_AFTER_BLOCKS - 1)
    chain.add()
    assert value(chain.view, key) == [FEE, 1, [1], 1, 1]
    chain.add()
    assert value(chain.view, key) == [FEE, 1, [1], 4, 1 + LAPSE_AFTER_BLOCKS]
    assert chain.result(encode_approve(key[1:]), member=2) == (14, None)
    assert chain.result(encode_propose(FEE), member=2) == (0, None)


def test_a_tip_without_carried_facts_gives_the_same_blocks(chain):
    fifth = validator(8, name="v8")
    keys = [signer(8, purpose) for purpose in ("transaction", "vote", "log", "cosign")]
    accept(chain, member_set(fifth, chain.chain_id, keys))
    for _ in range(4):
        expected = chain.execute()
        bare = replace(chain.tip, governance=None)
        assert next_validators(bare, chain.view) == next_validators(chain.tip, chain.view)
        chain.tip = bare
        found = chain.add()
        assert (found.header, found.tip) == (expected.header, expected.tip)


# --- everywhere and always the same ---------------------------------------------------------------------


def story() -> tuple[bytes, bytes]:
    """(log root, state root) after a few blocks in which everything happens."""
    chain = TestChain()
    chain.add(chain.sign(tag_key(chain.chain_id)), chain.sign(tag_key(chain.chain_id, 2024)))
    for at in range(4):
        groups = [group(*range(at, at + 9), tag=at), group(*range(90), tag=50 + at, month=14, status=2)]
        chain.add(
            chain.sign(attest(*groups, through=f"2025-0{at + 1}-28")),
            chain.sign(attest(group(1, tag=at))),
            chain.sign(attest(group(3, tag=99), year=2024)),
        )
    accept(chain, member_set(client(9, "new"), chain.chain_id, [signer(9)]))
    chain.add()
    chain.add()
    return chain.tip.frontier.root, chain.view.root


def interpreters() -> list[str]:
    """This one, and any other CPython on the path that has the two libraries."""
    found = [sys.executable]
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for minor in (11, 12, 13, 14):
            path = Path(folder) / f"python3.{minor}"
            if path.exists() and minor != sys.version_info.minor and str(path) not in found:
                probe = subprocess.run(
                    [path, "-c", "import msgpack, cryptography"], capture_output=True, check=False
                )
                if probe.returncode == 0:
                    found.append(str(path))
    return found


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_the_same_roots_in_every_process(hash_seed, monkeypatch):
    monkeypatch.setenv("TAXLEDGER_TEST_TAG_KEY", tag_key_der().hex())
    here = Path(__file__).parent
    source = here.parent.parent / "src"
    script = "import test_execute\nprint(*[root.hex() for root in test_execute.story()])"
    expected = " ".join(root.hex() for root in story())
    for interpreter in interpreters() if hash_seed == "0" else [sys.executable]:
        environment = {
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join([str(here), str(source)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TAXLEDGER_TEST_TAG_KEY": tag_key_der().hex(),
        }
        made = subprocess.run(
            [interpreter, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert made.stdout.strip() == expected, made.stderr


class TimedView:
    """A view that keeps account of the time its ``apply`` takes."""

    def __init__(self, view: MapView) -> None:
        self.view, self.spent = view, 0.0

    def __getattr__(self, name: str):
        return getattr(self.view, name)

    def apply(self, writes):
        begin = time.perf_counter()
        layer = self.view.apply(writes)
        self.spent += time.perf_counter() - begin
        return layer


def test_a_thousand_entries_execute_within_their_time(chain):
    chain.add(chain.sign(tag_key(chain.chain_id)))
    entries = [entry(rid, fingerprint=True) for rid in range(1_000)]
    groups = [
        replace(group(1, tag=tag), entries=b"".join(entries[tag * 100 : tag * 100 + 100]))
        for tag in range(10)
    ]
    raw = chain.sign(attest(*groups))
    chain.execute(raw)
    chain.view = timed = TimedView(chain.view)
    best, writes = float("inf"), {}
    for _ in range(5):
        timed.spent = 0.0
        begin = time.perf_counter()
        writes = chain.execute(raw).layer.writes
        best = min(best, time.perf_counter() - begin - timed.spent)
    assert len(writes) == 1_000
    print(f"1,000 entries: {best * 1_000:.2f} ms on top of the map update")
    assert best < 0.05, "a bound that holds on a busy machine; 10 ms is what is aimed at"


def test_the_empty_map_is_where_a_genesis_starts():
    assert MapView.open(MemoryStore()).root == hashing.EMPTY_ROOT
