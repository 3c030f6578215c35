"""Fork evidence on the ledger: the member it names is suspended, without approvals and for no other reason."""

from __future__ import annotations

import io
from dataclasses import replace

import chainkit
import forkkit
import pytest
from chainkit import TestChain, make_genesis, signer, validator, value

from taxledger.ledger import hashing, limits, statekeys
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.checkpoint import Checkpoint
from taxledger.ledger.conviction import member_convict
from taxledger.ledger.fork import narrow_fork
from taxledger.ledger.forkformat import ForkEvidence, OtherBeginning, TwoLeaves, encode_fork
from taxledger.ledger.governance import member_set, parameter_set, pending_proposal
from taxledger.ledger.members import member_of, validators_hash_of, validators_of
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.statemap import MapView
from taxledger.ledger.store import MemoryStore

FEE = parameter_set("fee", 7)
CHANGE_INVALID, CHANGE_PENDING, NOT_VALIDATOR = 17, 18, 16


@pytest.fixture
def chain() -> TestChain:
    return TestChain()


def evidence(fork: ForkEvidence, number: int = 3) -> bytes:
    return encode_fork(narrow_fork(fork, f"v{number}"))


def convict(number: int = 3, fork: ForkEvidence | None = None) -> bytes:
    return encode_propose(member_convict(number, evidence(fork or forkkit.same_size(number), number)))


@pytest.mark.parametrize(
    "fork", [forkkit.same_size, forkkit.other_beginning, forkkit.two_leaves, forkkit.votes]
)
def test_evidence_suspends_without_approvals_two_blocks_later(chain: TestChain, fork) -> None:
    raw = chain.sign(convict(fork=fork(3)), 1)
    assert chain.results(raw) == [(0, None)]
    assert pending_proposal(chain.view).state == 2
    chain.add()
    assert member_of(chain.view, 3).is_validator
    chain.add()
    member = member_of(chain.view, 3)
    assert (member.status, member.height) == (2, 3)
    assert [each.number for each in validators_of(chain.view)] == [1, 2, 4], "three may remain of four"
    headers = [block.executed.header for block in chain.blocks]
    three = validators_hash_of("test.net", validators_of(chain.view))
    assert [header.next_validators_hash == three for header in headers] == [False, True, True]
    assert value(chain.view, statekeys.proposal_key(hashing.log_leaf(raw)[:16]))[2:] == [[1], 3, 3]
    # Its signatures count no more, and the same evidence does nothing again.
    assert (
        chain.execute(chain.sign(chainkit.attest(through="2026-01-01"), 3)).skipped[0][1] == "member_inactive"
    )
    assert chain.result(convict(), 1) == (CHANGE_INVALID, None)


def test_each_byte_of_the_evidence_counts(chain: TestChain) -> None:
    good = evidence(forkkit.other_beginning(3))
    for at in range(0, len(good), 7):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        payload = encode_propose(member_convict(3, bad))
        assert chain_result(chain, payload) == CHANGE_INVALID, f"byte {at}"
    assert chain_result(chain, encode_propose(member_convict(3, good))) == 0


def chain_result(chain: TestChain, payload: bytes, member: int = 1) -> int:
    executed = chain.execute(chain.sign(payload, member))
    return chainkit.decoded(executed.results)[0].code


def test_nobody_is_suspended_for_what_does_not_convict(chain: TestChain) -> None:
    fork = forkkit.same_size(3)
    good = evidence(fork)
    swapped = replace(
        fork.signers[0],
        signature=fork.signers[0].other_signature,
        other_signature=fork.signers[0].signature,
    )
    for number, data in (
        (4, good),  # another member's misdeed
        (chainkit.ISSUER, good),  # no validator
        (chainkit.SUSPENDED, good),
        (99, good),
        (0, good),
        ("3", good),
        (3, b""),
        (3, None),
        (3, "text"),
        (3, encode_fork(replace(fork, signers=(swapped,)))),
        (3, encode_fork(forkkit.same_size(3, 4))),
        (3, encode_fork(forkkit.votes(3))),
        (3, good + bytes(limits.conviction_bytes_max)),
    ):
        assert chain_result(chain, encode_propose(member_convict(number, data))) == CHANGE_INVALID
    assert chain_result(chain, encode_propose(["member.convict", 3, good, None])) == CHANGE_INVALID
    assert chain_result(chain, convict(), chainkit.ISSUER) == NOT_VALIDATOR
    other = TestChain(make_genesis(parameters=(("answer.age_s", 1),)))
    assert chain_result(other, convict()) == CHANGE_INVALID, "signed on another chain"


def test_it_takes_the_place_of_an_open_proposal_and_waits_for_an_accepted_one(chain: TestChain) -> None:
    open_one = chain.sign(encode_propose(FEE), 3)
    proposal = hashing.log_leaf(open_one)[:16]
    assert chain.results(open_one, chain.sign(convict(), 1)) == [(0, None), (0, None)]
    assert value(chain.view, statekeys.proposal_key(proposal))[3] == 4
    # Two that are guilty: one after the other.
    late = chain.sign(encode_approve(proposal), 2), chain.sign(convict(4), 2)
    assert chain.results(*late) == [(14, None), (CHANGE_PENDING, None)]
    assert [each.number for each in validators_of(chain.view)] == [1, 2, 3, 4]
    assert chain.result(convict(4), 2) == (0, None), "the first is in force before this block"
    chain.add()
    chain.add()
    assert [each.number for each in validators_of(chain.view)] == [1, 2]


def test_one_validator_remains(chain: TestChain) -> None:
    network = TestChain(make_genesis(members=(validator(1), validator(2))))
    for number, code in ((2, 0), (1, CHANGE_INVALID)):
        fork = on_chain(network, number)
        assert network.result(encode_propose(member_convict(number, evidence(fork, number))), 1) == (
            code,
            None,
        )
        network.add()
        network.add()
    assert [each.number for each in validators_of(network.view)] == [1]


def on_chain(network: TestChain, number: int) -> ForkEvidence:
    trees = [Checkpoint(origin=network.origin, size=9, root=bytes([each]) * 32) for each in (1, 2)]
    return forkkit.cosign_fork(*trees, None, number)


def test_a_convicted_member_comes_back_with_new_keys_only(chain: TestChain) -> None:
    assert chain.result(convict(), 1) == (0, None)
    chain.add()
    chain.add()
    present = member_of(chain.view, 3)
    fresh = {f"{use}_key": signer(3, use, 1).public_key for use in ("vote", "cosign")}

    def back(**changes: object) -> int:
        entry = replace(present, status=1, **changes)
        keys = [signer(3, use, 1) for use in ("vote", "cosign") if f"{use}_key" in changes]
        return chain_result(chain, encode_propose(member_set(entry, chain.chain_id, keys)))

    assert back() == CHANGE_INVALID
    assert back(cosign_key=fresh["cosign_key"]) == CHANGE_INVALID
    assert back(vote_key=fresh["vote_key"]) == CHANGE_INVALID
    # Not under another purpose, and not as another member's.
    old = present.cosign_key
    assert back(vote_key=fresh["vote_key"], cosign_key=fresh["cosign_key"], log_key=old) == CHANGE_INVALID
    assert back(**fresh) == 0
    gone = replace(present, status=3)
    assert chain_result(chain, encode_propose(member_set(gone, chain.chain_id, []))) == 0


def test_a_rotated_key_convicts_no_more(chain: TestChain) -> None:
    """Who replaces a key that may be stolen must not be answerable for what a thief signs with it."""
    keys = {f"{use}_key": signer(3, use, 1).public_key for use in ("vote", "cosign")}
    change = member_set(
        validator(3, **keys), chain.chain_id, [signer(3, use, 1) for use in ("vote", "cosign")]
    )
    raw = chain.sign(encode_propose(change), 1)
    approvals = [chain.sign(encode_approve(hashing.log_leaf(raw)[:16]), each) for each in (2, 4)]
    assert chain.results(raw, *approvals) == [(0, None)] * 3
    chain.signers[3, "vote"], chain.signers[3, "cosign"] = signer(3, "vote", 1), signer(3, "cosign", 1)
    assert chain_result(chain, convict()) == CHANGE_PENDING
    chain.add()
    assert chain_result(chain, convict()) == CHANGE_INVALID


def test_a_restart_between_acceptance_and_effect_changes_nothing(chain: TestChain) -> None:
    chain.add(chain.sign(convict(), 1))
    for _ in range(3):
        bare = replace(chain.tip, governance=None)
        expected = chain.execute()
        chain.tip = bare
        assert chain.execute().header_leaf == expected.header_leaf
        chain.view = MapView.open(chain.store)
        chain.add()


def test_the_worst_evidence_costs_little(chain: TestChain) -> None:
    """Two signatures, and two paths that are as long as can be: bounded, whatever a liar submits."""
    path = (bytes(32),) * 64
    first, second = forkkit.same_size(3).first, forkkit.same_size(3).second
    for shown in (
        OtherBeginning(root=bytes(32), path=path),
        TwoLeaves(index=0, leaf=bytes(32), path=path, other_leaf=bytes([1]) * 32, other_path=path),
    ):
        fork = forkkit.cosign_fork(first, replace(second, size=2**62), shown, 3)
        assert chain_result(chain, convict(fork=fork)) == CHANGE_INVALID


def test_an_audit_follows_a_conviction(chain: TestChain) -> None:
    chain.add(chain.sign(convict(), 1))
    for _ in range(3):
        chain.add()
    report = audit_archive(io.BytesIO(chain.archive()), MemoryStore(), policy=chain.policy())
    assert report.complete
    assert all(verdict.failure is None for verdict in report.verdicts)
