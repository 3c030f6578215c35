"""What the API asks of a lender's node about pledges: one Protocol, and the value that crosses it.

Invariants every implementation keeps:

- **Certified first.** A ``PledgeReceipt`` is of a certified block in which the operation was accepted.
- **Once.** The same place (permit, share, end and nonce), confirm, release or transfer again gets the first one's
  outcome, also after the node was started anew: signed bytes are durable before they are sent.
- **Errors.** ``RefusedError`` with the name of the ledger's rule or the custodian's code, ``InputError`` for bad
  bytes, ``UnavailableError`` when it would work later.
- Methods may be called concurrently from one event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["PledgeReceipt", "Pledging"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeReceipt:
    """What became of a place, confirm, release or transfer.

    Attributes:
        pledge: its id, 16 bytes.
        operation: ``place``, ``confirm``, ``release`` or ``transfer``.
        transaction: id of the transaction that did it, 32 bytes.
        height, index: its block, and its leaf in the log.
        time_ms: block time.
    """

    pledge: bytes
    operation: str
    transaction: bytes
    height: int
    index: int
    time_ms: int


class Pledging(Protocol):
    """A member's node as lender. See the module's invariants."""

    async def permits(
        self, consent: bytes, sequence: int, records: Sequence[bytes], not_after: int
    ) -> Sequence[bytes]:
        """Ask the records' custodian for permits; one for each record, in their order, verified.

        Args:
            consent: id of the consent (16 bytes) under which they were shown, ``sequence`` the number of the use.
            records: keys, 37 bytes each, all of one issuer.
            not_after: milliseconds since 1970; a permit may end earlier.

        Raises:
            RefusedError: ``pledge_not_consented``, ``record_not_disclosed``, ``record_not_valid``,
                ``record_not_pledgeable``, or why the consent is not in force; then for none of them.
        """

    async def place(self, permit: bytes, ppm: int, not_after: int | None, nonce: bytes) -> PledgeReceipt:
        """Pledge a share of the permit's record. ``nonce``: 16 bytes that name this pledge."""

    async def confirm(self, pledge: bytes) -> PledgeReceipt:
        """Make a reservation a pledge without end."""

    async def release(self, pledge: bytes) -> PledgeReceipt:
        """End a pledge of this member."""

    async def transfer(self, pledge: bytes, permit: bytes) -> PledgeReceipt:
        """Pass a pledge of this member to the lender that the permit names."""

    async def proof(self, keys: Sequence[tuple[int, bytes]]) -> bytes:
        """The file (docs/protocol.md §16) that proves what is pledged under (issuer, fingerprint of 16 bytes)."""
