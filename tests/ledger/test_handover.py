"""A ledger that goes over to another engine: its store, its archive, what no auditor must be made to believe."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import chainkit
import pytest
from chainkit import TestChain, attest, group, make_genesis, tag_key

from taxledger.ledger.archive import ArchiveBlock, read_archive, write_archive
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.auditreport import AuditReport, EngineSpan
from taxledger.ledger.chain import Chain
from taxledger.ledger.checkpoint import Checkpoint, decode_note, encode_note, make_origin, sign_checkpoint
from taxledger.ledger.errors import InvariantError
from taxledger.ledger.handingover import begin_handover, hand_over
from taxledger.ledger.handover import Handover
from taxledger.ledger.store import MemoryStore


class Moved(TestChain):
    """Two blocks decided by votes, a handover, two blocks of CometBFT."""

    def __init__(self, *, before: int = 2, behind: int = 2) -> None:
        super().__init__()
        self.former = self.origin
        for number in range(before):
            self._block(number)
        self.height = before
        self.origin = make_origin(self.genesis.network, self.chain_id, "cometbft")
        self.handover_note = self.note_of_tip()
        self.engine_blocks_from = len(self.blocks)
        for number in range(before, before + behind):
            self._block(number)

    def _block(self, number: int) -> None:
        first = [self.sign(tag_key(self.chain_id))] if number == 0 else []
        self.add(*first, self.sign(attest(group(10 * number + 1, 10 * number + 2))))

    def note_of_tip(self, origin: str | None = None, count: int = 4) -> bytes:
        frontier = self.tip.frontier
        checkpoint = Checkpoint(origin=origin or self.origin, size=frontier.size, root=frontier.root)
        log = chainkit.signer(1, "log")
        lines = []
        for number in range(1, count + 1):
            signer = chainkit.signer(number, "cosign")
            signature = chainkit.cosign(signer, checkpoint, 1_767_300_000)
            lines.append((f"{self.genesis.network}/v{number}", signer.public_key, 1_767_300_000, signature))
        return encode_note(checkpoint, log.public_key, sign_checkpoint(log, checkpoint), lines)

    def archive_blocks(self) -> list[ArchiveBlock]:
        blocks = super().archive_blocks()
        at = self.engine_blocks_from
        return [*blocks[:at], *(replace(block, votes=()) for block in blocks[at:])]


@dataclass(frozen=True)
class Frame:
    height: int
    engine: str
    note: bytes


def archived(
    chain: Moved, *, blocks: list[ArchiveBlock] | None = None, handovers: list[Frame] | None = None
) -> bytes:
    blocks = chain.archive_blocks() if blocks is None else blocks
    if handovers is None:
        handovers = [Frame(chain.height, "cometbft", chain.handover_note)]
    note = chain.note(chain.blocks[-1])
    frames = write_archive(chain.genesis_leaf, blocks, height=len(blocks), note=note, handovers=handovers)
    return b"".join(frames)


def audit(data: bytes, policy=None) -> AuditReport:
    return audit_archive(io.BytesIO(data), MemoryStore(), policy=policy)


def failures(data: bytes) -> dict[str, int]:
    report = audit(data)
    assert not report.ok
    return {each.name: each.failure.height for each in report.verdicts if each.failure is not None}


@pytest.fixture(scope="module")
def moved() -> Moved:
    return Moved()


def test_an_archive_of_both_engines_passes(moved: Moved) -> None:
    report = audit(archived(moved), moved.policy())
    assert report.ok, [each for each in report.verdicts if each.failure]
    assert report.engines == (
        EngineSpan(engine="embedded", first=1, last=2),
        EngineSpan(engine="cometbft", first=3, last=4),
    )
    assert report.origin.endswith("/cometbft")
    assert report.verdict("votes").checked == 2 * 4 + 2
    assert report.verdict("handover").checked == 1 + 1 + 5


def test_a_handover_may_follow_the_genesis() -> None:
    moved = Moved(before=0, behind=1)
    report = audit(archived(moved))
    assert report.ok, [each for each in report.verdicts if each.failure]
    assert report.engines[1:] == (EngineSpan(engine="cometbft", first=1, last=1),)


def test_votes_are_missed_without_a_handover(moved: Moved) -> None:
    """Nobody can leave votes away and say that another engine decided."""
    assert failures(archived(moved, handovers=[]))["votes"] == 3
    # The blocks' co-signatures are under the new origin, which without a handover is not the ledger's.
    assert failures(archived(moved, handovers=[]))["cosignatures"] == 3


def test_a_handover_needs_a_quorum_under_the_new_origin(moved: Moved) -> None:
    blocks = moved.archive_blocks()
    at_three = Moved(before=2, behind=0)
    for note in (
        at_three.note_of_tip(count=2),
        at_three.note_of_tip(origin=moved.former),
        at_three.note_of_tip(origin=moved.origin.replace("cometbft", "other")),
        moved.note(moved.blocks[-1]),
        b"x",
    ):
        assert failures(archived(moved, blocks=blocks, handovers=[Frame(2, "cometbft", note)])) == {
            "handover": 3
        }


def test_the_frame_stands_where_it_was_signed(moved: Moved) -> None:
    frame = Frame(1, "cometbft", moved.handover_note)
    assert failures(archived(moved, handovers=[frame]))["handover"] == 2
    bare = Moved(before=2, behind=2)
    bare.engine_blocks_from = 0
    assert failures(archived(bare))["votes"] == 1


def test_blocks_of_cometbft_have_no_votes(moved: Moved) -> None:
    """Every byte of an archive is checked: votes that nobody reads would not be."""
    blocks = TestChain.archive_blocks(moved)
    assert failures(archived(moved, blocks=blocks)) == {"votes": 3}


def test_a_handover_to_the_same_engine_is_none(moved: Moved) -> None:
    again = Moved(before=1, behind=0)
    note = again.note_of_tip(origin=moved.former)
    assert failures(archived(moved, handovers=[Frame(1, "embedded", note)]))["handover"] == 2


def test_a_co_signature_under_the_former_origin_does_not_count_behind_it(moved: Moved) -> None:
    straight = TestChain()
    blocks = moved.archive_blocks()
    for number in range(3):
        Moved._block(straight, number)
    old = straight.archive_blocks()[2]
    blocks[2] = replace(blocks[2], cosigns=old.cosigns)
    assert failures(archived(moved, blocks=blocks)) == {"cosignatures": 3}


def test_no_flipped_byte_passes_around_a_handover(moved: Moved) -> None:
    data = archived(moved)
    begin = data.index(b"handover") - 20
    for at in range(begin, begin + 900, 7):
        flipped = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        assert not audit(flipped).ok, f"byte {at}"


# --- the store ----------------------------------------------------------------------------------------


def _handover(chain: Chain, note: bytes) -> Handover:
    return Handover(
        height=chain.tip.height,
        former="embedded",
        engine="cometbft",
        former_cosigns=chain.cosigns(chain.tip.height),
        former_note=b"former",
        note=note,
    )


def _certified_chain() -> tuple[Chain, TestChain]:
    made = TestChain()
    chain = Chain(MemoryStore(), made.genesis_leaf)
    Moved._block(made, 0)
    block = made.blocks[0]
    chain.commit(chain.execute(block.executed.header.time_ms, block.executed.leaves), block.votes)
    chain.certify(1, block.cosigns)
    return chain, made


def test_the_store_goes_over_in_one_write() -> None:
    chain, made = _certified_chain()
    assert (chain.engine, chain.engine_from, chain.origin) == ("embedded", 1, made.origin)
    begin_handover(chain, "cometbft")
    reopened = Chain(chain.store, made.genesis_leaf)
    assert (reopened.engine, reopened.handing_over(), reopened.origin) == (
        "embedded",
        "cometbft",
        made.origin,
    )

    writes: list[int] = []
    write = chain.store.write
    chain.store.write = lambda batch, **_: (writes.append(len(batch)), write(batch))[1]  # type: ignore[method-assign]
    former = chain.cosigns(1)
    cosigns = [(1, 7, bytes(64)), (2, 7, bytes(64)), (3, 7, bytes(64))]
    hand_over(chain, _handover(chain, b"note"), cosigns)
    assert len(writes) == 1

    for each in (chain, Chain(chain.store, made.genesis_leaf)):
        assert (each.engine, each.engine_from, each.handing_over()) == ("cometbft", 2, None)
        assert each.origin == made.origin.replace("embedded", "cometbft")
        assert each.chain_id == made.chain_id
        assert each.cosigns(1) == tuple(cosigns)
        assert (
            each.block(1).cosigns == former
        )  # what an archive has of a block is what its own engine's time gave
        assert [(one.height, one.note) for one in each.handovers(1)] == [(1, b"note")]
        assert each.handovers(0) == []


def test_a_handover_is_as_it_was_begun() -> None:
    chain, _ = _certified_chain()
    with pytest.raises(InvariantError, match="ordered by embedded already"):
        begin_handover(chain, "embedded")
    with pytest.raises(InvariantError, match="with which it was begun"):
        hand_over(chain, _handover(chain, b""), [])
    begin_handover(chain, "cometbft")
    with pytest.raises(InvariantError, match="newest block"):
        hand_over(chain, replace(_handover(chain, b""), height=0), [])


def test_an_uncertified_block_is_certified_first() -> None:
    made = TestChain(make_genesis())
    chain = Chain(MemoryStore(), made.genesis_leaf)
    Moved._block(made, 0)
    block = made.blocks[0]
    chain.commit(chain.execute(block.executed.header.time_ms, block.executed.leaves), block.votes)
    begin_handover(chain, "cometbft")
    with pytest.raises(InvariantError, match="certified"):
        hand_over(chain, _handover(chain, b""), [])


def test_old_archives_are_read_as_before() -> None:
    made = TestChain()
    Moved._block(made, 0)
    report = audit(made.archive(), made.policy())
    assert report.ok
    assert report.engines == (EngineSpan(engine="embedded", first=1, last=1),)
    assert [type(frame).__name__ for frame in read_archive(io.BytesIO(made.archive()))] == [
        "ArchiveGenesis",
        "ArchiveBlock",
        "ArchiveEnd",
    ]


def test_a_note_of_the_handover_is_of_the_same_tree(moved: Moved) -> None:
    note = decode_note(moved.handover_note).checkpoint
    assert note.size == moved.blocks[1].executed.header.size
