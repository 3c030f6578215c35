"""Archives: what is written is read, and nothing else is."""

from __future__ import annotations

import io

import pytest
from chainkit import TestChain, attest, group, tag_key

from taxledger.ledger import canonical, limits
from taxledger.ledger.archive import (
    MAGIC,
    ArchiveBlock,
    ArchiveEnd,
    ArchiveGenesis,
    read_archive,
    write_archive,
)
from taxledger.ledger.errors import FormatError, InputError, InvariantError, LimitError

SIGNATURE = bytes(64)
BLOCK = ArchiveBlock(
    height=1,
    transactions=(b"a", b"b"),
    header_leaf=b"h",
    results=(b"r", b"s"),
    votes=((1, SIGNATURE), (2, SIGNATURE)),
    cosigns=((1, 17, SIGNATURE), (3, 18, SIGNATURE)),
)


class Dribble(io.BytesIO):
    """A stream that gives one byte at a time."""

    def read(self, size=-1, /):
        return super().read(min(size, 1))


def archive(*frames: object) -> bytes:
    data = [canonical.encode(frame) for frame in frames]
    return MAGIC + b"".join(len(each).to_bytes(4, "big") + each for each in data)


def test_what_is_written_is_read():
    data = b"".join(write_archive(b"g", [BLOCK], height=1, note=b"n"))
    expected = [ArchiveGenesis(leaf=b"g"), BLOCK, ArchiveEnd(height=1, note=b"n")]
    assert list(read_archive(io.BytesIO(data))) == expected
    assert list(read_archive(Dribble(data))) == expected
    assert data == archive(
        [1, "genesis", b"g"],
        [1, "block", 1, [b"a", b"b"], b"h", [b"r", b"s"],
         [[1, SIGNATURE], [2, SIGNATURE]], [[1, 17, SIGNATURE], [3, 18, SIGNATURE]]],
        [1, "end", 1, b"n"],
    )  # fmt: skip


def test_the_writer_leaves_no_block_out():
    for blocks, height in (([BLOCK], 2), ([], 1), ([BLOCK, BLOCK], 2)):
        with pytest.raises(InvariantError):
            list(write_archive(b"g", blocks, height=height, note=b"n"))


def test_cut_anywhere_or_longer_is_refused():
    data = b"".join(write_archive(b"g", [BLOCK], height=1, note=b"n"))
    for end in range(len(data)):
        with pytest.raises(FormatError):
            list(read_archive(io.BytesIO(data[:end])))
    with pytest.raises(FormatError, match="nothing after"):
        list(read_archive(io.BytesIO(data + b"\x00")))


GENESIS, END = [1, "genesis", b"g"], [1, "end", 0, b"n"]


def block(at: int, value: object) -> list[object]:
    made = [1, "block", 1, [b"a"], b"h", [b"r"], [[1, SIGNATURE]], [[1, 17, SIGNATURE]]]
    made[at] = value
    return made


WRONG = {
    "no genesis": [END],
    "genesis twice": [GENESIS, GENESIS, END],
    "no end": [GENESIS],
    "after the end": [GENESIS, END, END],
    "version": [[2, "genesis", b"g"], END],
    "version as bool": [[True, "genesis", b"g"], END],
    "no array": [GENESIS, 1],
    "unknown frame": [GENESIS, [1, "blob", 1], END],
    "leaf as text": [[1, "genesis", "g"], END],
    "height as bool": [GENESIS, block(2, True), END],
    "height negative": [GENESIS, block(2, -1), END],
    "transactions as bin": [GENESIS, block(3, b"a"), END],
    "transaction as text": [GENESIS, block(3, ["a"]), END],
    "header as text": [GENESIS, block(4, "h"), END],
    "results as map": [GENESIS, block(5, {}), END],
    "vote of one": [GENESIS, block(6, [[1]]), END],
    "vote twice": [GENESIS, block(6, [[1, SIGNATURE], [1, SIGNATURE]]), END],
    "votes descending": [GENESIS, block(6, [[2, SIGNATURE], [1, SIGNATURE]]), END],
    "vote signature short": [GENESIS, block(6, [[1, SIGNATURE[:-1]]]), END],
    "vote member as bool": [GENESIS, block(6, [[True, SIGNATURE]]), END],
    "cosign without time": [GENESIS, block(7, [[1, SIGNATURE]]), END],
    "cosign time as bool": [GENESIS, block(7, [[1, True, SIGNATURE]]), END],
    "end without note": [GENESIS, [1, "end", 1]],
    "end as text": [GENESIS, [1, "end", 1, "n"]],
}


@pytest.mark.parametrize("what", WRONG)
def test_other_shapes_are_refused(what):
    with pytest.raises(FormatError):
        list(read_archive(io.BytesIO(archive(*WRONG[what]))))


def test_a_frame_over_the_limit_is_not_even_read():
    head = MAGIC + (limits.archive_frame_bytes_max + 1).to_bytes(4, "big")
    with pytest.raises(LimitError):
        list(read_archive(io.BytesIO(head)))


def test_a_full_block_fits_a_frame():
    full = ArchiveBlock(
        height=1,
        transactions=(bytes(limits.block_bytes_max // limits.block_transactions_max),)
        * limits.block_transactions_max,
        header_leaf=bytes(400),
        results=(bytes(44),) * limits.block_transactions_max,
        votes=tuple((n, SIGNATURE) for n in range(limits.validators_max)),
        cosigns=tuple((n, 1, SIGNATURE) for n in range(limits.validators_max)),
    )
    assert len(list(write_archive(b"g", [full], height=1, note=b"n"))) == 4


def test_frames_are_read_one_at_a_time():
    chain = TestChain()
    chain.add(chain.sign(tag_key(chain.chain_id)))
    for tag in range(8):
        chain.add(chain.sign(attest(group(1, tag=tag))))
    data = chain.archive()
    stream = io.BytesIO(data)
    frames = read_archive(stream)
    next(frames)
    next(frames)
    assert stream.tell() < len(data) // 2
    assert len(list(frames)) == 9


def test_a_lying_length_is_refused():
    data = bytearray(b"".join(write_archive(b"g", [BLOCK], height=1, note=b"n")))
    for delta in (1, 255):
        data[19] = (data[19] + delta) % 256
        with pytest.raises(InputError):
            list(read_archive(io.BytesIO(bytes(data))))
        data[19] = (data[19] - delta) % 256
