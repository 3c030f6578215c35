"""Audits: a good archive passes; each invariant fails for its own fault; no flipped byte goes unnoticed."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest
from chainkit import (
    INVOICE,
    ISSUER,
    TIME_MS,
    TestChain,
    attest,
    client,
    group,
    make_genesis,
    signer,
    tag_key,
    validator,
)

from taxledger.ledger import canonical, hashing
from taxledger.ledger.archive import ArchiveBlock, write_archive
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.auditreport import INVARIANTS, AuditReport
from taxledger.ledger.checkpoint import Checkpoint, cosign
from taxledger.ledger.errors import InvariantError
from taxledger.ledger.genesis import encode_genesis
from taxledger.ledger.governance import member_set
from taxledger.ledger.header import decode_header, encode_header, vote_message
from taxledger.ledger.operations import RevokeChange, encode_approve, encode_propose, encode_revoke
from taxledger.ledger.policy import decode_policy, encode_policy
from taxledger.ledger.rules import Result, encode_result
from taxledger.ledger.statekeys import record_key
from taxledger.ledger.store import MemoryStore

PURPOSES = ("transaction", "vote", "log", "cosign")


@pytest.fixture(scope="module")
def chain() -> TestChain:
    """Six blocks: records, a refusal, a revocation, an empty block, and a fifth validator from block 4 on."""
    made = TestChain()
    made.add(made.sign(tag_key(made.chain_id)), made.sign(attest(group(1, 2), through="2025-03-31")))
    change = member_set(validator(8, name="v8"), made.chain_id, [signer(8, each) for each in PURPOSES])
    proposal = made.sign(encode_propose(change), 1)
    approvals = [made.sign(encode_approve(hashing.log_leaf(proposal)[:16]), member) for member in (2, 3)]
    made.add(proposal, *approvals)
    made.add(made.sign(attest(group(1))), made.sign(attest(group(3), kind=9)))
    made.add()
    key = record_key(ISSUER, INVOICE, (1).to_bytes(16, "big"), 3, (1).to_bytes(16, "big"))
    made.add(
        made.sign(encode_revoke(INVOICE, [RevokeChange(key=key, version=1, reason=4, reason_digest=None)]))
    )
    made.add(made.sign(attest(group(5), through="2025-04-30")))
    return made


def audit(data: bytes, policy=None) -> AuditReport:
    return audit_archive(io.BytesIO(data), MemoryStore(), policy=policy)


def failed(report: AuditReport) -> list[str]:
    return [verdict.name for verdict in report.verdicts if verdict.status == "failed"]


def test_a_good_archive_passes(chain):
    report = audit(chain.archive(), chain.policy())
    assert report.ok, [verdict for verdict in report.verdicts if verdict.failure]
    assert [verdict.name for verdict in report.verdicts] == list(INVARIANTS)
    assert (report.height, report.size, report.transactions) == (6, chain.tip.frontier.size, 9)
    assert (report.log_root, report.state_root) == (chain.tip.frontier.root, chain.view.root)
    assert report.origin == chain.origin
    votes = sum(len(block.votes) for block in chain.blocks)
    assert votes == 4 + 4 + 4 + 5 + 5 + 5
    assert report.verdict("votes").checked == report.verdict("cosignatures").checked == votes
    assert report.signatures == 9 + 2 * votes + 1 + 5
    assert report.verdict("results").checked == 9 + 2 * 6
    without = audit(chain.archive())
    assert without.ok
    assert [verdict.name for verdict in without.verdicts] == list(INVARIANTS)[:-1]


def test_a_quorum_is_enough(chain):
    blocks = [
        replace(block, votes=block.votes[:-1], cosigns=block.cosigns[1:]) for block in chain.archive_blocks()
    ]
    note = chain.note(chain.blocks[-1], 4)
    assert audit(rewritten(chain, blocks, note=note)).ok


def test_no_cut_archive_passes(chain):
    data = chain.archive()
    for end in range(0, len(data), 97):
        report = audit(data[:end])
        assert not report.ok
        assert failed(report) == ["archive"]
        assert not report.complete
    assert not audit(data + b"\x00").ok


def test_no_flipped_byte_passes(chain):
    """Every byte of a one-block archive, and every 61st of the long one."""
    small = TestChain(make_genesis(1, schemas=()))
    small.add(small.sign(b"\x90"))
    for data, step in ((small.archive(), 1), (chain.archive(), 61)):
        assert audit(data).ok
        for at in range(0, len(data), step):
            flipped = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
            report = audit(flipped)
            assert not report.ok, f"byte {at} of {len(data)}"
            assert failed(report)


# --- one fault for every invariant ----------------------------------------------------------------------


def rewritten(chain: TestChain, blocks: list[ArchiveBlock], *, genesis=None, note=None) -> bytes:
    return b"".join(
        write_archive(
            genesis or chain.genesis_leaf,
            blocks,
            height=len(blocks),
            note=note or chain.note(chain.blocks[len(blocks) - 1]),
        )
    )


def resigned(chain: TestChain, block: ArchiveBlock, **changes: object) -> ArchiveBlock:
    """The block with another header or leaves that its validators nevertheless signed."""
    at = block.height - 1
    header = replace(decode_header(block.header_leaf), **changes.pop("header", {}))
    changed = replace(block, header_leaf=encode_header(header), **changes)
    leaves = [chain.genesis_leaf]
    for each in [*chain.archive_blocks()[:at], changed]:
        leaves += [*each.transactions, each.header_leaf]
    frontier = chain.tip.frontier.__class__(size=0, edge=()).extended([hashing.log_leaf(x) for x in leaves])[
        0
    ]
    checkpoint = Checkpoint(origin=chain.origin, size=frontier.size, root=frontier.root)
    message = vote_message(chain.chain_id, header.height, hashing.log_leaf(changed.header_leaf))
    members = [member for member, _ in block.votes]
    return replace(
        changed,
        votes=tuple((n, signer(n, "vote").sign(message)) for n in members),
        cosigns=tuple((n, 9, cosign(signer(n, "cosign"), checkpoint, 9)) for n in members),
    )


def changed_block(at: int, change: Callable[[TestChain, ArchiveBlock], ArchiveBlock]):
    def make(chain: TestChain) -> bytes:
        blocks = chain.archive_blocks()
        blocks[at - 1] = change(chain, blocks[at - 1])
        return rewritten(chain, blocks)

    return make


def header_change(at: int, **changes: object):
    return changed_block(at, lambda chain, block: resigned(chain, block, header=changes))


def transaction_of_the_client(chain: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    """A leaf that was never validly signed, in a block that all validators signed."""
    forged = chain.sign(b"\x90", signer=signer(99), iat_s=chain.genesis.time_ms // 1_000)
    results = (*block.results, encode_result(Result(hashing.log_leaf(forged), 1, None)))
    transactions = (*block.transactions, forged)
    return resigned(
        chain, block, transactions=transactions, results=results, header={"transactions": len(transactions)}
    )


def repeated(chain: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    again = chain.blocks[0].executed.leaves[0]
    return resigned(chain, block, transactions=(*block.transactions, again), header={"transactions": 3})


def keep(**counts: int):
    """The block with only so many of its results, votes or co-signatures."""
    return lambda _, block: replace(block, **{name: getattr(block, name)[:n] for name, n in counts.items()})


def result_too_many(_: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    return replace(block, results=(*block.results, b"r"))


def leaf_left_out(chain: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    return resigned(chain, block, transactions=block.transactions[:1], results=block.results[:1])


def swap_votes(chain: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    (first, one), (second, two), *rest = block.votes
    return replace(block, votes=((first, two), (second, one), *rest))


def stranger_votes(chain: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    message = vote_message(chain.chain_id, block.height, hashing.log_leaf(block.header_leaf))
    return replace(block, votes=(*block.votes, (8, signer(8, "vote").sign(message))))


def old_time(chain: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    cosigns = [(member, time_s + (member == 3), signature) for member, time_s, signature in block.cosigns]
    return replace(block, cosigns=tuple(cosigns))


def refused_as_success(chain: TestChain, block: ArchiveBlock) -> ArchiveBlock:
    first = hashing.log_leaf(block.transactions[0])
    return replace(block, results=(encode_result(Result(first, 0, None)), *block.results[1:]))


def without(at: int):
    def make(chain: TestChain) -> bytes:
        blocks = chain.archive_blocks()
        frames = list(write_archive(chain.genesis_leaf, blocks, height=6, note=chain.note(chain.blocks[-1])))
        return b"".join(frames[: at + 1] + frames[at + 2 :])

    return make


def other_genesis(chain: TestChain) -> bytes:
    leaf = encode_genesis(replace(chain.genesis, members=(*chain.genesis.members, client(9, "new"))))
    return rewritten(chain, chain.archive_blocks(), genesis=leaf)


def earlier_note(chain: TestChain) -> bytes:
    return rewritten(chain, chain.archive_blocks(), note=chain.note(chain.blocks[-2]))


def note_without_quorum(chain: TestChain) -> bytes:
    return rewritten(chain, chain.archive_blocks(), note=chain.note(chain.blocks[-1], 3))


def note_repeating_a_signer(chain: TestChain) -> bytes:
    note = chain.note(chain.blocks[-1])
    last = note.splitlines(keepends=True)[-1]
    return rewritten(chain, chain.archive_blocks(), note=note + last)


def only_genesis(chain: TestChain) -> bytes:
    note = chain.note(chain.blocks[0])
    return b"".join(write_archive(chain.genesis_leaf, [], height=0, note=note))


ROOT = b"x" * 32
FAULTS: dict[str, tuple[str, int, Callable[[TestChain], bytes]]] = {
    "genesis that is none": ("genesis", 0, lambda c: rewritten(c, c.archive_blocks(), genesis=b"\x90")),
    "another genesis": ("links", 1, other_genesis),
    "a block left out": ("heights links", 3, without(3)),
    "height in the header": ("heights", 3, header_change(3, height=4)),
    "time stands still": ("time", 3, header_change(3, time_ms=TIME_MS + 2_000)),
    "another header before": ("links", 3, header_change(3, previous_header_hash=ROOT)),
    "an unsigned transaction": ("transactions", 3, changed_block(3, transaction_of_the_client)),
    "a transaction outside its time": ("transactions", 6, header_change(6, time_ms=2**50)),
    "a leaf again": ("repeats", 3, changed_block(3, repeated)),
    "a refusal as a success": ("results", 3, changed_block(3, refused_as_success)),
    "a result left out": ("results", 3, changed_block(3, keep(results=1))),
    "a result too many": ("results", 3, changed_block(3, result_too_many)),
    "results root": ("results", 3, header_change(3, results_root=ROOT)),
    "first index": ("log", 3, header_change(3, first_index=1)),
    "transactions counted": ("log", 3, header_change(3, transactions=1)),
    "a leaf left out": ("results log", 3, changed_block(3, leaf_left_out)),
    "state root": ("state", 3, header_change(3, state_root=ROOT)),
    "state count": ("state", 3, header_change(3, state_count=1)),
    "validators": ("validators", 3, header_change(3, validators_hash=ROOT)),
    "next validators": ("validators", 3, header_change(3, next_validators_hash=ROOT)),
    "another chain": ("header", 3, header_change(3, chain_id=bytes(16))),
    "no header": ("header", 3, changed_block(3, lambda c, b: replace(b, header_leaf=b"\x90"))),
    "two votes of three": ("votes", 2, changed_block(2, keep(votes=2))),
    "three votes of five": ("votes", 4, changed_block(4, keep(votes=3))),
    "votes of each other": ("votes", 2, changed_block(2, swap_votes)),
    "a vote of one who is no validator yet": ("votes", 3, changed_block(3, stranger_votes)),
    "two co-signatures of three": ("cosignatures", 2, changed_block(2, keep(cosigns=2))),
    "co-signature at another time": ("cosignatures", 5, changed_block(5, old_time)),
    "the checkpoint before": ("checkpoint", 7, earlier_note),
    "too few on the checkpoint": ("checkpoint", 7, note_without_quorum),
    "one signer twice on the checkpoint": ("checkpoint", 7, note_repeating_a_signer),
    "no checkpoint": ("checkpoint", 7, lambda c: rewritten(c, c.archive_blocks(), note=b"x")),
    "no block at all": ("checkpoint", 1, only_genesis),
    "no archive": ("archive", 0, lambda c: b"taxledger/2/arc\n" + c.archive()[16:]),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_each_invariant_fails_for_its_own_fault(chain, what):
    names, height, make = FAULTS[what]
    report = audit(make(chain))
    assert not report.ok
    # A wrong field makes a wrong header leaf too.
    assert [name for name in failed(report) if name != "header" or names == "header"] == names.split()
    for name in names.split():
        assert report.verdict(name).failure.height == height
        assert report.verdict(name).failure.message


def test_signed_lies_are_told_apart_from_unsigned_ones(chain):
    """A state root that all validators signed is a fault of the state; the signatures hold."""
    report = audit(header_change(3, state_root=ROOT)(chain))
    assert failed(report) == ["state", "header"]
    failure = report.verdict("state").failure
    assert (failure.expected, failure.got) == (chain.blocks[2].executed.header.state_root.hex(), ROOT.hex())
    blocks = chain.archive_blocks()
    unsigned = encode_header(replace(decode_header(blocks[2].header_leaf), state_root=ROOT))
    blocks[2] = replace(blocks[2], header_leaf=unsigned)
    report = audit(rewritten(chain, blocks))
    assert failed(report) == ["state", "header", "votes", "cosignatures"]
    assert report.height == 2, "the chain is followed up to the block before"
    assert report.verdict("time").status == "not_reached"


def test_a_missing_vote_does_not_end_the_audit(chain):
    blocks = chain.archive_blocks()
    blocks[1] = replace(blocks[1], votes=())
    report = audit(rewritten(chain, blocks), chain.policy())
    assert report.complete
    assert report.height == 6
    assert failed(report) == ["votes"]
    assert report.verdict("state").status == "ok"


def test_the_policy_must_be_that_of_the_last_block(chain):
    old = TestChain()
    old.add()
    assert failed(audit(chain.archive(), old.policy())) == ["policy"]
    last = chain.blocks[-1].executed.validators
    parts = {
        "origin": chain.origin,
        "log_keys": [member.log_key for member in last],
        "witnesses": {member.name: member.cosign_key for member in last},
    }
    assert audit(chain.archive(), decode_policy(encode_policy(**parts))).ok
    other = signer(99, "log").public_key
    for wrong in (
        {"origin": chain.origin.replace("embedded", "other")},
        {"log_keys": [*parts["log_keys"][:-1], other]},
        {"log_keys": parts["log_keys"][:-1]},
        {"witnesses": {**parts["witnesses"], "v1": other}},
    ):
        policy = decode_policy(encode_policy(**(parts | wrong)))
        assert failed(audit(chain.archive(), policy)) == ["policy"], wrong


def test_an_audit_begins_with_an_empty_store(chain):
    with pytest.raises(InvariantError):
        audit_archive(io.BytesIO(chain.archive()), MemoryStore({b"x": b"y"}))


def test_memory_does_not_grow_with_the_archive(tmp_path):
    """Frames are read one at a time and the state lives in the store; only the bounded page cache fills."""
    leveldb = pytest.importorskip("taxledger.ledger.leveldb", reason="needs plyvel")
    chain = TestChain(make_genesis(1))
    chain.add(chain.sign(tag_key(chain.chain_id)))
    peaks, sizes = [], []
    for length in (15, 45):
        while len(chain.blocks) < length:
            chain.add(chain.sign(attest(group(*range(300), tag=len(chain.blocks)))))
        stream = io.BytesIO(chain.archive())
        store = leveldb.LevelStore(tmp_path / str(length), cache_bytes=1 << 20)
        tracemalloc.start()
        report = audit_archive(stream, store)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        store.close()
        sizes.append(stream.tell())
        assert report.ok
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 3, f"peaks {peaks} for archives of {sizes} bytes"


def test_results_are_compared_as_bytes(chain):
    blocks = chain.archive_blocks()
    long_form = canonical.encode([hashing.log_leaf(blocks[0].transactions[0]), 0, None]) + b"\x00"
    blocks[0] = replace(blocks[0], results=(long_form, *blocks[0].results[1:]))
    assert failed(audit(rewritten(chain, blocks))) == ["results"]
