"""An exported ledger as one file: a strict reader and its writer (docs/protocol.md §11).

Invariants:

* The reader holds one frame in memory. It yields a frame only when it is whole, canonical and of its shape,
  in the order genesis, blocks and handovers, end; after the end nothing may follow. What frames say is for
  ``audit.py``.
* What the writer writes, the reader reads, and no other bytes for the same frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError, LimitError, check

__all__ = [
    "MAGIC",
    "ArchiveBlock",
    "ArchiveEnd",
    "ArchiveGenesis",
    "ArchiveHandover",
    "BlockSource",
    "ByteStream",
    "Frame",
    "HandoverSource",
    "read_archive",
    "write_archive",
]

MAGIC = b"taxledger/1/arc\n"


class ByteStream(Protocol):
    """A binary file open for reading."""

    def read(self, size: int, /) -> bytes: ...


class BlockSource(Protocol):
    """A certified block as its owner has it; see ``ArchiveBlock`` for the fields."""

    @property
    def height(self) -> int: ...

    @property
    def transactions(self) -> Sequence[bytes]: ...

    @property
    def header_leaf(self) -> bytes: ...

    @property
    def results(self) -> Sequence[bytes]: ...

    @property
    def votes(self) -> Sequence[tuple[int, bytes]]: ...

    @property
    def cosigns(self) -> Sequence[tuple[int, int, bytes]]: ...


class HandoverSource(Protocol):
    """A handover as its owner has it; see ``ArchiveHandover`` for the fields."""

    @property
    def height(self) -> int: ...

    @property
    def engine(self) -> str: ...

    @property
    def note(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveGenesis:
    """The first frame: leaf 0."""

    leaf: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveBlock:
    """The frame of one certified block.

    Attributes:
        height: from 1.
        transactions: leaves in log order, without the header.
        header_leaf: the header's bytes.
        results: bytes, one for each transaction.
        votes: (member, 64-byte signature), ascending by member; none of an engine that decides by itself.
        cosigns: (member, seconds, 64-byte signature), ascending by member.
    """

    height: int
    transactions: tuple[bytes, ...]
    header_leaf: bytes
    results: tuple[bytes, ...]
    votes: tuple[tuple[int, bytes], ...]
    cosigns: tuple[tuple[int, int, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveHandover:
    """The frame between two blocks of different engines.

    Attributes:
        height: of the block before, 0 the genesis.
        engine: the one that decided what follows.
        note: the checkpoint after the block before, under the origin of this engine.
    """

    height: int
    engine: str
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveEnd:
    """The last frame: the newest height and its certified checkpoint note."""

    height: int
    note: bytes


Frame = ArchiveGenesis | ArchiveBlock | ArchiveHandover | ArchiveEnd


# --- writing --------------------------------------------------------------------------------


def _frame(value: list[Any]) -> bytes:
    data = canonical.encode(value)
    check(len(data) <= limits.archive_frame_bytes_max, "a frame is larger than a reader would take")
    return len(data).to_bytes(4, "big") + data


def write_archive(
    genesis_leaf: bytes,
    blocks: Iterable[BlockSource],
    *,
    height: int,
    note: bytes,
    handovers: Iterable[HandoverSource] = (),
) -> Iterator[bytes]:
    """The bytes of an archive, one frame after the other.

    Args:
        genesis_leaf: leaf 0.
        blocks: every certified block, from height 1 to ``height``.
        height: of the last block.
        note: its certified checkpoint.
        handovers: those after blocks up to ``height``, ascending.
    """
    following = {each.height: each for each in handovers}
    yield MAGIC
    yield _frame([1, "genesis", genesis_leaf])
    yield from _handover_after(0, following)
    written = 0
    for block in blocks:
        check(block.height == written + 1, f"expected block {written + 1}, got {block.height}")
        yield _frame(
            [
                1,
                "block",
                block.height,
                list(block.transactions),
                block.header_leaf,
                list(block.results),
                [list(vote) for vote in block.votes],
                [list(cosign) for cosign in block.cosigns],
            ]
        )
        written = block.height
        yield from _handover_after(written, following)
    check(written == height, f"expected blocks up to {height}, got {written}")
    yield _frame([1, "end", height, note])


def _handover_after(height: int, following: Mapping[int, HandoverSource]) -> Iterator[bytes]:
    handover = following.get(height)
    if handover is not None:
        yield _frame([1, "handover", height, handover.engine, handover.note])


# --- reading --------------------------------------------------------------------------------


def read_archive(stream: ByteStream) -> Iterator[Frame]:
    """The frames of an archive, read as they are asked for.

    Raises:
        FormatError, EncodingError, LimitError: at the first thing that is not of this format, or when the
            stream ends too early or goes on after the end; the message says at which frame.
    """
    if _read(stream, len(MAGIC)) != MAGIC:
        raise FormatError(f"expected an archive that begins with {MAGIC!r}")
    frame = _read_frame(stream, 0)
    if not isinstance(frame, ArchiveGenesis):
        raise FormatError("archive frame 0: expected the genesis")
    yield frame
    number = 0
    while not isinstance(frame, ArchiveEnd):
        number += 1
        frame = _read_frame(stream, number)
        if isinstance(frame, ArchiveGenesis):
            raise FormatError(f"archive frame {number}: expected a block or the end, got a genesis")
        if isinstance(frame, ArchiveEnd) and stream.read(1):
            raise FormatError("expected nothing after the archive's last frame")
        yield frame


def _read(stream: ByteStream, size: int) -> bytes:
    """Up to ``size`` bytes, fewer only where the stream ends."""
    parts = []
    while size > 0:
        part = stream.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _read_frame(stream: ByteStream, number: int) -> Frame:
    head = _read(stream, 4)
    length = int.from_bytes(head, "big")
    if len(head) < 4:
        raise FormatError(f"archive frame {number}: the archive is cut")
    if length > limits.archive_frame_bytes_max:
        raise LimitError(
            f"archive frame {number}: expected at most {limits.archive_frame_bytes_max} bytes, got {length}"
        )
    data = _read(stream, length)
    if len(data) < length:
        raise FormatError(f"archive frame {number}: the archive is cut")
    value = canonical.decode(data, bytes_max=limits.archive_frame_bytes_max)
    if type(value) is not list or len(value) < 2 or type(value[0]) is not int or value[0] != 1:
        raise FormatError(f"archive frame {number}: expected an array [1, …]")
    match value[1:]:
        case ["genesis", bytes(leaf)]:
            return ArchiveGenesis(leaf=leaf)
        case ["block", height, transactions, bytes(header_leaf), results, votes, cosigns]:
            return ArchiveBlock(
                height=_integer(height, number),
                transactions=tuple(_each_bytes(transactions, number)),
                header_leaf=header_leaf,
                results=tuple(_each_bytes(results, number)),
                votes=tuple((m, s) for m, s in _signatures(votes, 2, number)),
                cosigns=tuple((m, _integer(t, number), s) for m, t, s in _signatures(cosigns, 3, number)),
            )
        case ["handover", height, str(engine), bytes(note)]:
            return ArchiveHandover(height=_integer(height, number), engine=engine, note=note)
        case ["end", height, bytes(note)]:
            return ArchiveEnd(height=_integer(height, number), note=note)
        case _:
            raise FormatError(f"archive frame {number}: expected a genesis, a block, a handover or an end")


def _integer(value: Any, number: int) -> int:
    if type(value) is not int or not 0 <= value <= limits.integer_max:
        raise FormatError(f"archive frame {number}: expected an integer of 63 bits, got {value!r:.40}")
    return value


def _each_bytes(value: Any, number: int) -> list[bytes]:
    if type(value) is not list or any(type(each) is not bytes for each in value):
        raise FormatError(f"archive frame {number}: expected an array of bin")
    return value


def _signatures(value: Any, length: int, number: int) -> list[list[Any]]:
    """Arrays ``[member, …, signature]`` of this length, ascending by member."""
    if type(value) is not list or any(type(each) is not list or len(each) != length for each in value):
        raise FormatError(f"archive frame {number}: expected signatures as arrays of {length}")
    for each in value:
        _integer(each[0], number)
        if type(each[-1]) is not bytes or len(each[-1]) != 64:
            raise FormatError(f"archive frame {number}: expected a signature of 64 bytes")
    if any(left[0] >= right[0] for left, right in pairwise(value)):
        raise FormatError(f"archive frame {number}: expected signatures strictly ascending by member")
    return value
