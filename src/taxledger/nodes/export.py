"""The certified ledger as an archive (docs/protocol.md §11), piece by piece."""

from __future__ import annotations

from collections.abc import Iterator

from taxledger.ledger.archive import write_archive
from taxledger.ledger.chain import StoredBlock
from taxledger.nodes.replica import CertifiedState

__all__ = ["archive_pieces"]

_PIECE_BYTES = 256 * 1024


def archive_pieces(state: CertifiedState, note: bytes) -> Iterator[bytes]:
    """Pieces of about 256 KiB, ending with the frame that holds the checkpoint."""

    def blocks() -> Iterator[StoredBlock]:
        for height in range(1, state.height + 1):
            yield state.chain.block(height)

    buffer = bytearray()
    frames = write_archive(
        state.chain.leaf(0),
        blocks(),
        height=state.height,
        note=note,
        handovers=state.chain.handovers(state.height),
    )
    for frame in frames:
        buffer += frame
        if len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
