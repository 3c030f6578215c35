"""From the engine's blocks to the ledger's: what is proposed, accepted, executed, committed. On the ledger thread.

The engine counts blocks of its own. One that holds a transaction that counts becomes one block of the ledger;
one with co-signatures only, or with nothing, becomes none and leaves the log root, which is the engine's app hash,
as it is: else the engine, which makes another block whenever that hash changed, would never rest.

Block time. The engine's is the median of the votes for the block *before*: after an idle hour it is an hour old, and
no transaction would count. So a proposer says the time in a message that stands first, ``[1, "time", chain_id,
time_ms]``; no honest validator accepts one more than 10 s ahead of its own clock.

What is executed depends on the engine's block alone, never on what this node happens to know: co-signatures are
counted afterwards, and no result tells of them.

``finalize`` may be asked again, after a crash or for another round's block, as long as nothing was committed; all it
leaves behind is in memory. ``commit`` is the one write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from taxledger.ledger import canonical, limits
from taxledger.ledger.errors import FormatError, InputError, check
from taxledger.ledger.execute import Executed
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.members import Member
from taxledger.ledger.policy import quorum
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.application import decode_cosign
from taxledger.nodes.ordering.cometbft.settings import (
    BLOCK_BYTES_MAX,
    COSIGNS_MAX,
    chain_name,
)
from taxledger.nodes.replica import Replica

__all__ = ["BLOCK_BYTES_MAX", "Blocks", "Finalized", "chain_name", "validator_changes"]

TRANSACTION_FIRST_BYTE = b"\xd2"
_FRAME_BYTES = 8
"""Of a transaction's place in the engine's message, at most."""
REFUSE_AT_UNCERTIFIED = limits.uncertified_blocks_max + 8
"""An honest proposer stops at the limit by its own count; who counts otherwise is not far off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalized:
    """What an engine block does, in memory.

    Attributes:
        engine_height: of the engine's block.
        executed: the ledger's block, None where it makes none.
        counted: for each transaction of the engine's block, whether it has a leaf (or is no transaction of ours).
        cosigns: co-signature messages in it.
        own: our co-signature of the tip before, if we sign one.
        app_hash: log root afterwards.
        changes: vote key → whether it belongs to a validator afterwards, only of those that changed.
    """

    engine_height: int
    executed: Executed | None
    counted: tuple[bool, ...]
    cosigns: tuple[bytes, ...]
    own: bytes | None
    app_hash: bytes
    changes: tuple[tuple[bytes, bool], ...]


def validator_changes(before: Sequence[Member], after: Sequence[Member]) -> tuple[tuple[bytes, bool], ...]:
    """(vote key, whether it votes afterwards) of every key that comes or goes, ascending.

    A malformed update would halt every engine at once. These can't be: the keys were admitted with their own
    signatures, no key is another member's, and a change keeps at least one validator.
    """
    old = {each.vote_key for each in before if each.vote_key is not None}
    new = {each.vote_key for each in after if each.vote_key is not None}
    check(bool(new), "a change keeps at least one validator")
    return tuple((key, key in new) for key in sorted(old ^ new))


def is_cosign(raw: bytes) -> bool:
    """A co-signature message is a msgpack array of eight; a transaction begins with 0xd2."""
    return raw[:1] == b"\x98"


def is_time(raw: bytes) -> bool:
    """A proposer's time is a msgpack array of four."""
    return raw[:1] == b"\x94"


def encode_time(chain_id: bytes, time_ms: int) -> bytes:
    """``[1, "time", chain_id, time_ms]``."""
    return canonical.encode([1, "time", chain_id, time_ms])


def decode_time(raw: bytes, chain_id: bytes) -> int:
    """The milliseconds of a time message. Raises InputError: none of this chain."""
    value = canonical.decode(raw, bytes_max=64)
    if type(value) is not list or [type(each) for each in value] != [int, str, bytes, int]:
        raise FormatError("expected a time message of 4 elements")
    if value[:3] != [1, "time", chain_id] or not 0 <= value[3] <= limits.integer_max:
        raise FormatError(f"expected a time message of chain {chain_id.hex()}")
    return int(value[3])


class Blocks:
    """See the module text."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._application = replica.application
        self._executed: tuple[tuple[int, tuple[bytes, ...], bytes], Executed] | None = None
        self._finalized: Finalized | None = None
        self._carried: dict[
            int, set[int]
        ] = {}  # height → members whose co-signature stood in an engine block
        self._carried_from = max(1, self._application.chain.certified)

    # --- proposing ------------------------------------------------------------------------------

    def prepare(self, time_ns: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]:
        """What this node proposes: co-signatures that no engine block has carried, then what counts of the
        candidates, one of each member in turn, so that none can crowd out the others.
        """
        chosen: list[bytes] = []
        left = min(bytes_max, BLOCK_BYTES_MAX) - 64
        for raw in self._to_carry():
            left -= len(raw) + _FRAME_BYTES
            if left < 0:
                return chosen
            chosen.append(raw)
        if self.is_full:
            return chosen
        batch: list[bytes] = []
        left = min(left, limits.block_bytes_max)
        for raw in _in_turn(raw for raw in candidates if raw[:1] == TRANSACTION_FIRST_BYTE):
            if len(batch) == limits.block_transactions_max:
                break
            if len(raw) + _FRAME_BYTES <= left:
                batch.append(raw)
                left -= len(raw) + _FRAME_BYTES
        time_ms = max(self._application.now_ms(), self._least_ms(time_ns))
        leaves = self._execute(time_ms, batch).leaves if batch else []
        if not leaves:
            return chosen
        return [encode_time(self._application.chain.chain_id, time_ms), *chosen, *leaves]

    @property
    def is_full(self) -> bool:
        """So many blocks wait for their co-signatures that nothing new is proposed."""
        chain = self._application.chain
        return chain.tip.height - chain.certified >= limits.uncertified_blocks_max

    def _to_carry(self) -> Iterator[bytes]:
        """So that who replays the engine's blocks alone can certify, the blocks bring a quorum for each."""
        chain = self._application.chain
        sent = 0
        for height in range(self._carried_from, chain.tip.height + 1):
            carried = self._carried.get(height, set())
            missing = self._to_be_carried(height) - len(carried)
            for raw in self._replica.certification.messages(height):
                if missing <= 0 or sent == COSIGNS_MAX:
                    break
                if decode_cosign(raw, chain.chain_id).member not in carried:
                    yield raw
                    missing -= 1
                    sent += 1

    def _to_be_carried(self, height: int) -> int:
        """How many co-signatures of a block the engine's blocks bring. One below the newest certified has its
        certificate: whoever validates now may be more than those that it needed, and it gets no more.
        """
        certification = self._replica.certification
        if height < self._application.chain.certified:
            return len(certification.messages(height))
        return quorum(len(certification.validators_at(height)))

    def refusal(self, time_ns: int, transactions: Sequence[bytes]) -> str | None:
        """Why a proposal is no honest one, or None.

        Everything but the clock and the number of uncertified blocks is the same at every honest node, and an
        honest proposer stays within both.
        """
        application = self._application
        cosigns = [raw for raw in transactions if is_cosign(raw)]
        try:
            time_ms, batch = self._read(time_ns, transactions)
        except InputError as error:
            return str(error)
        if time_ms > application.now_ms() + limits.proposal_ahead_ms_max:
            return "its time is more than 10 s ahead of this node's clock"
        if len(cosigns) > COSIGNS_MAX:
            return f"expected at most {COSIGNS_MAX} co-signatures, got {len(cosigns)}"
        for raw in cosigns:
            try:
                decode_cosign(raw, application.chain.chain_id)
            except InputError as error:
                return str(error)
        if not batch:
            return None
        if application.chain.tip.height - application.chain.certified >= REFUSE_AT_UNCERTIFIED:
            return "too many blocks wait for their co-signatures"
        try:
            skipped = self._execute(time_ms, batch).skipped
        except FormatError as error:
            return str(error)
        if skipped:
            return f"transaction {skipped[0][0].hex()} can't count: {skipped[0][1]}"
        return None

    # --- deciding -------------------------------------------------------------------------------

    def finalize(self, engine_height: int, time_ns: int, transactions: Sequence[bytes]) -> Finalized:
        """Execute what the engine decided. Nothing is stored.

        Raises:
            InvariantError: not the engine's next block, or one that no quorum of honest validators let pass.
        """
        application, chain = self._application, self._application.chain
        check(engine_height == chain.engine_height() + 1, f"the engine skips to block {engine_height}")
        # More than two thirds precommitted a block whose header has the app hash after the one before: our tip's
        # root, or the engine would have stopped. So the tip may be co-signed, once that is durable.
        own = application.cosign_tip(self._replica.certification.validators_at(chain.tip.height))
        try:
            time_ms, batch = self._read(time_ns, transactions)
        except InputError:  # refused by every honest validator; yet if it came, it comes alike everywhere
            time_ms, batch = self._least_ms(time_ns), [raw for raw in transactions if not is_cosign(raw)]
        executed: Executed | None = None
        if batch or chain.tip.height == 0 or chain.change_pending():
            try:
                executed = self._execute(time_ms, batch)
            except FormatError as error:
                check(False, f"the engine decided a block outside the limits: {error}")
        if executed is not None and not executed.leaves and chain.tip.height and not chain.change_pending():
            executed = None
        leaves = set() if executed is None else set(executed.leaf_hashes)
        before = () if chain.tip.governance is None else chain.tip.governance.validators
        self._finalized = Finalized(
            engine_height=engine_height,
            executed=executed,
            counted=tuple(_counted(transactions, leaves)),
            cosigns=tuple(raw for raw in transactions if is_cosign(raw)),
            own=own,
            app_hash=(chain.tip if executed is None else executed.tip).frontier.root,
            changes=() if executed is None else validator_changes(before, executed.validators),
        )
        return self._finalized

    def commit(self) -> Finalized:
        """The one write. When it returns, ``own`` may leave."""
        done = self._finalized
        if done is None:
            raise FormatError("expected FinalizeBlock before Commit")
        self._replica.commit_ordered(done.engine_height, done.executed, done.own, done.cosigns)
        self._finalized = self._executed = None
        self._note_carried(done.cosigns)
        return done

    def forget(self) -> None:
        """The engine went away: what it had not committed, it decides again."""
        self._finalized = None

    def _note_carried(self, cosigns: Sequence[bytes]) -> None:
        application = self._application
        chain = application.chain
        heights = {
            application.checkpoint(height).size: height
            for height in range(self._carried_from, chain.tip.height + 1)
        }
        for raw in cosigns:
            try:
                message = decode_cosign(raw, chain.chain_id)
            except InputError:
                continue
            height = heights.get(message.size)
            # Only what was counted helps whoever replays.
            if height is not None and raw in self._replica.certification.messages(height):
                self._carried.setdefault(height, set()).add(message.member)
        while self._carried_from < chain.tip.height:
            if len(self._carried.get(self._carried_from, ())) < self._to_be_carried(self._carried_from):
                break
            self._carried.pop(self._carried_from, None)
            self._carried_from += 1

    # --- executing ------------------------------------------------------------------------------

    def _least_ms(self, time_ns: int) -> int:
        """The engine's time, which may repeat a millisecond; ours rises strictly."""
        return max(time_ns // 1_000_000, self._application.chain.tip.time_ms + 1)

    def _read(self, time_ns: int, transactions: Sequence[bytes]) -> tuple[int, list[bytes]]:
        """(block time, batch) of an engine block. Raises InputError where its time message is none."""
        least_ms = self._least_ms(time_ns)
        if transactions and is_time(transactions[0]):
            said_ms = decode_time(transactions[0], self._application.chain.chain_id)
            least_ms, transactions = max(least_ms, said_ms), transactions[1:]
        return least_ms, [raw for raw in transactions if not is_cosign(raw)]

    def _execute(self, time_ms: int, batch: Sequence[bytes]) -> Executed:
        """``deliver``, once for the same batch: a proposal is prepared, processed and finalized. Pure, so that it
        does not matter which of them asks first.
        """
        key = (time_ms, tuple(batch), self._application.chain.tip.header_hash)
        if self._executed is not None and self._executed[0] == key:
            return self._executed[1]
        executed = self._application.deliver(time_ms, batch)
        self._executed = (key, executed)
        if (
            executed.skipped
        ):  # it changed nothing: the leaves alone, which may be proposed, give the same block
            self._executed = ((time_ms, tuple(executed.leaves), key[2]), replace(executed, skipped=[]))
        return executed


def _counted(transactions: Sequence[bytes], leaves: set[bytes]) -> Iterator[bool]:
    """One for each: the first of equal ones counts."""
    for raw in transactions:
        if is_cosign(raw) or is_time(raw):
            yield True
            continue
        leaf = log_leaf(raw)
        yield leaf in leaves
        leaves.discard(leaf)


def _in_turn(transactions: Iterator[bytes]) -> Iterator[bytes]:
    """In order of arrival, but one of each member in turn."""
    queues: dict[int, list[bytes]] = {}
    for raw in transactions:
        try:
            queues.setdefault(decode_transaction(raw).member, []).append(raw)
        except InputError:
            continue
    for queue in queues.values():
        queue.reverse()
    while queues:
        for member in list(queues):
            yield queues[member].pop()
            if not queues[member]:
                del queues[member]
