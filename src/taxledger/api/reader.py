"""What the API asks of a node: one Protocol, and the values that cross it.

Invariants every implementation keeps:

- **Certified only.** Nothing that is not under q co-signatures is visible through any method, but for
  ``NodeStatus.uncertified_blocks`` (a number) and a ``Receipt`` whose state says ``pending``.
- **One snapshot a call.** All parts of one answer (header, proof, entries, checkpoint) are of one checkpoint.
- **Errors.** ``RefusedError`` with a code of the table in ``problems.py``, ``InputError`` for bad bytes,
  ``UnavailableError`` when it would work later. None or an empty answer means "not there", and that is
  certain.
- Methods may be called concurrently from one event loop; none blocks it for longer than a few milliseconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from taxledger.ledger.query import Query

__all__ = [
    "CertifiedBlock",
    "NodeReader",
    "NodeStatus",
    "Receipt",
    "RecordChange",
    "StateAnswer",
    "TransactionAnswer",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """Where a node stands.

    Attributes:
        member: the member's name; ``number`` its number on the ledger.
        role: ``sequencer``, ``validator`` or ``observer``.
        network: the network's name; ``chain_id`` as 32 hex digits; ``engine`` of the genesis.
        height: newest certified height; 0 is the genesis.
        size: leaves of the log at that height.
        log_root: root of the log at that size, 32 bytes; ``state_root`` of the map after that block.
        certified_time_ms: block time of the newest certified block.
        cosigned_time_ms: time of the q-th newest co-signature under the checkpoint served, or None.
        writes: ``ok``, or ``waiting`` with the reason in ``reason``; with ``ok``, what keeps this node from signing.
        uncertified_blocks: decided, not yet certified.
        ready: it has caught up as far as it can and serves answers.
    """

    member: str
    number: int
    role: str
    network: str
    chain_id: str
    engine: str
    height: int
    size: int
    log_root: bytes
    state_root: bytes
    certified_time_ms: int
    cosigned_time_ms: int | None
    writes: Literal["ok", "waiting"]
    reason: str | None
    uncertified_blocks: int
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a transaction.

    Attributes:
        id: leaf hash of the transaction, 32 bytes.
        state: ``pending`` (accepted, in no certified block yet; the fields below are None) or ``certified``.
        code: result code of docs/protocol.md §8, 0 is success; ``name`` its name (``ok`` for 0).
        first_refused: number of the first refused entry, or None where the rule is not about one.
        height: the block; ``index`` of the leaf in the log.
        certified_time_ms: block time of that block.
        checkpoint: a certified note whose tree holds the leaf.
    """

    id: bytes
    state: Literal["pending", "certified"]
    code: int | None = None
    name: str | None = None
    first_refused: int | None = None
    height: int | None = None
    index: int | None = None
    certified_time_ms: int | None = None
    checkpoint: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionAnswer:
    """A certified transaction: its receipt, its bytes, and the audit path to the receipt's checkpoint.

    Attributes:
        receipt: state ``certified``; its checkpoint is the one ``inclusion`` leads to.
        raw: the leaf bytes.
        inclusion: RFC 6962 audit path of leaf ``receipt.index``, from the leaf upwards.
    """

    receipt: Receipt
    raw: bytes
    inclusion: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAnswer:
    """All keys of the state map under some prefixes, proved.

    Attributes:
        checkpoint: the certified note.
        header: the header leaf at index size - 1.
        inclusion: its audit path under the checkpoint.
        proof: docs/protocol.md §6.
        entries: every prefix asked, with its pairs ascending (none: proved to be absent).
    """

    checkpoint: bytes
    header: bytes
    inclusion: Sequence[bytes]
    proof: bytes
    entries: Mapping[bytes, Sequence[tuple[bytes, bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedBlock:
    """A certified block: its transaction leaves and, as many, its result bytes (docs/protocol.md §2)."""

    height: int
    time_ms: int
    leaves: Sequence[bytes]
    results: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChange:
    """One step in a record's history.

    Attributes:
        operation: ``attest``, ``amend``, ``revoke`` or ``erase``.
        version: the version this step made, from 1; ``status`` its status (docs/protocol.md §5).
        member: who signed it; ``transaction`` the id, ``height`` and ``time_ms`` of its block.
        reason: 1–5 (docs/protocol.md §3), None for attest; ``reason_digest`` 32 bytes or None.
    """

    operation: str
    version: int
    status: int
    member: int
    transaction: bytes
    height: int
    time_ms: int
    reason: int | None = None
    reason_digest: bytes | None = None


class NodeReader(Protocol):
    """A node as its API sees it. See the module's invariants."""

    async def status(self) -> NodeStatus:
        """Never waits for the network; also answers while writes wait or the node catches up."""

    async def checkpoint(self) -> bytes:
        """The newest certified note: one log line, exactly the q freshest co-signatures (as in all notes
        here).

        Raises:
            UnavailableError: there is none yet.
        """

    async def policy(self) -> bytes:
        """The policy file of the member's home. A convenience: a verifier never takes it from here."""

    async def policy_links(self, trusted: bytes, engine: str | None = None) -> bytes:
        """The file that leads from a set of validators (its hash, 32 bytes) under an ordering engine (None: the
        present one) to the present one.

        Raises:
            RefusedError: ``policy_unknown``.
            UnavailableError: there is no certified block yet, or the validators are just changing.
        """

    async def transaction(self, id: bytes) -> TransactionAnswer | None:
        """A certified transaction by its id (32 bytes)."""

    async def state(self, prefixes: Sequence[bytes], *, entries_max: int) -> StateAnswer:
        """The pairs under each prefix (none a prefix of another), with one proof.

        Raises:
            RefusedError: ``answer_too_large`` when there are more than ``entries_max`` pairs.
        """

    async def submit(self, raw: bytes, *, wait: Literal["certified", "none"], timeout_s: float) -> Receipt:
        """Queue a transaction once, and with ``certified`` wait until its block is certified.

        The same bytes again are harmless: they join the first submission, or find the certified result.

        Raises:
            InputError: the bytes are not a transaction.
            RefusedError: it can't count: ``transaction_expired``, ``transaction_early``,
                ``transaction_foreign`` (other chain), ``signature_invalid``, ``member_inactive``.
            UnavailableError: not certified within ``timeout_s``, writes wait, or the queue is full. It may
                still be certified until it expires: ask again with the same bytes.
        """

    async def dossier(self, query: Query) -> bytes:
        """Evidence for a query, assembled by the issuer's custodian; not verified here.

        Raises:
            RefusedError: ``issuer_unknown``, ``custodian_refused``, ``answer_too_large``.
            UnavailableError: the custodian can't be reached.
        """

    async def history(self, key: bytes) -> Sequence[RecordChange]:
        """The certified changes of a record (37-byte key), oldest first; empty when it is unknown."""

    async def tile(self, level: int, index: int, width: int) -> bytes | None:
        """``width`` (1–256) hashes of tile ``(level, index)`` of C2SP ``tlog-tiles``, joined; None when the
        certified log does not have as many."""

    async def block(self, height: int) -> CertifiedBlock | None:
        """A certified block, height ≥ 1; None when that height is not certified."""

    async def wait_certified(self, height: int, timeout_s: float) -> int:
        """The newest certified height, as soon as it is ≥ ``height``, at the latest after ``timeout_s``.

        Raises:
            UnavailableError: the node is stopping.
        """

    def export(self) -> AsyncIterator[bytes]:
        """The archive of the certified ledger (docs/protocol.md §11), in pieces of at most 1 MiB."""
