"""Executing a block: from the tip, the state map and a batch of bytes to leaves, results, header and writes.

The same function runs at every validator, in recovery and in an audit. It reads only its arguments:

    1. a change whose turn it is takes effect (docs/protocol.md §8), so the block's validators are known;
    2. each transaction is skipped (no leaf), or has a leaf and a result, and sees what those before it wrote;
    3. the map's new root is computed once, and the header closes the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from taxledger.ledger import genesis, hashing, limits
from taxledger.ledger.calls import RuleState
from taxledger.ledger.errors import FormatError, InputError, RefusedError, VerificationError
from taxledger.ledger.governance import (
    Proposal,
    change_writes,
    changes_members,
    pending_proposal,
    turn_writes,
)
from taxledger.ledger.header import Header, encode_header
from taxledger.ledger.members import (
    Member,
    StateReader,
    member_of,
    validators_hash_of,
    validators_of,
)
from taxledger.ledger.merkle import EMPTY, Frontier, root_of
from taxledger.ledger.rules import Result, encode_result, execute_payload
from taxledger.ledger.statemap import MapLayer, MapView
from taxledger.ledger.store import MemoryStore
from taxledger.ledger.transaction import Transaction, decode_transaction, verify_transaction

__all__ = [
    "Executed",
    "Governance",
    "Overlay",
    "Tip",
    "check_transaction",
    "execute_block",
    "genesis_tip",
    "next_validators",
]

IsLogged = Callable[[bytes], bool]
"""Whether a leaf hash stands in the log already (one of the last 61 minutes is enough)."""

Verify = Callable[[Transaction, bytes], None]
"""``verify_transaction``, or what gives the same answers faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """Facts of a state that rarely change, carried along so that no block has to look for them.

    Attributes:
        validators: active validators in the map, ascending by number.
        pending: the one proposal that is open, or accepted and not yet in force.
    """

    validators: tuple[Member, ...]
    pending: Proposal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The end of the chain: all that the next block continues, but for the state map.

    Attributes:
        chain_id: 16 bytes.
        network: its name, part of the co-signing keys' names.
        height: 0 after the genesis.
        time_ms: time of the block, or of the genesis.
        header_hash: leaf hash of its header, or of the genesis leaf.
        frontier: the log right after it.
        governance: of the state map after it, or None (after a restart): then it is looked up.
    """

    chain_id: bytes
    network: str
    height: int
    time_ms: int
    header_hash: bytes
    frontier: Frontier
    governance: Governance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A block in memory; nothing of it is stored yet.

    Attributes:
        header: what closes it; ``header_leaf`` its bytes.
        leaves: the transactions that count, in log order, without the header.
        leaf_hashes: their ids.
        results: one for each, bytes.
        skipped: (leaf hash, reason) of what has no leaf, in the order of the batch.
        layer: the state map's changes.
        tip: after the block.
        nodes: log nodes that became complete, ``(level, index)`` → hash.
        validators: those that vote on and co-sign this block, ascending by number.
    """

    header: Header
    header_leaf: bytes
    leaves: list[bytes]
    leaf_hashes: list[bytes]
    results: list[bytes]
    skipped: list[tuple[bytes, str]]
    layer: MapLayer
    tip: Tip
    nodes: dict[tuple[int, int], bytes]
    validators: tuple[Member, ...]


class Overlay:
    """A state map with the writes of the block so far on top."""

    __slots__ = ("_below", "writes")

    def __init__(self, below: RuleState, writes: dict[bytes, bytes] | None = None) -> None:
        self._below = below
        self.writes: dict[bytes, bytes] = {} if writes is None else writes

    def get(self, key: bytes) -> bytes | None:
        found = self.writes.get(key)
        return self._below.get(key) if found is None else found

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values = self._below.get_many(keys)
        if not self.writes:
            return values
        return [self.writes.get(key, value) for key, value in zip(keys, values, strict=True)]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Ascending; for the small namespaces only, it collects them."""
        merged = dict(self._below.scan(prefix))
        merged.update((key, value) for key, value in self.writes.items() if key.startswith(prefix))
        return iter(sorted(merged.items()))


def genesis_tip(genesis_leaf: bytes) -> tuple[Tip, MapLayer, dict[tuple[int, int], bytes]]:
    """Where a chain begins: its tip, the state map's content over an empty one, and the first log node.

    Raises:
        InputError: this is no genesis.
    """
    begin = genesis.decode_genesis(genesis_leaf)
    leaf_hash = hashing.log_leaf(genesis_leaf)
    frontier, nodes = EMPTY.extended([leaf_hash])
    layer = MapView.open(MemoryStore()).apply(genesis.genesis_writes(begin))
    tip = Tip(
        chain_id=genesis.chain_id(genesis_leaf),
        network=begin.network,
        height=0,
        time_ms=begin.time_ms,
        header_hash=leaf_hash,
        frontier=frontier,
        governance=Governance(validators=begin.validators, pending=None),
    )
    return tip, layer, nodes


def _governance(tip: Tip, state: StateReader) -> Governance:
    if tip.governance is not None:
        return tip.governance
    return Governance(validators=tuple(validators_of(state)), pending=pending_proposal(state))


def _validators_at(height: int, governance: Governance, state: RuleState) -> tuple[Member, ...]:
    """Who co-signs block ``height``, the next after ``state``."""
    pending = governance.pending
    if pending is None or not pending.is_due(height) or not changes_members(pending.change):
        return governance.validators
    return tuple(validators_of(Overlay(state, change_writes(pending.change, height, state))))


def next_validators(tip: Tip, view: RuleState) -> tuple[Member, ...]:
    """Who votes on and co-signs the block after ``tip``, ascending by number.

    Args:
        tip: end of the chain.
        view: state map after it.
    """
    return _validators_at(tip.height + 1, _governance(tip, view), view)


def check_transaction(
    raw: bytes,
    *,
    view: StateReader,
    chain_id: bytes,
    time_ms: int,
    is_logged: IsLogged,
    verify: Verify = verify_transaction,
) -> Transaction:
    """The transaction, if it would have a leaf in a block of this time; cheap questions first.

    Args:
        raw: the bytes that arrived.
        view: state map before the block (or within it).
        chain_id: 16 bytes.
        time_ms: block time.
        is_logged: see ``IsLogged``.
        verify: see ``Verify``.

    Raises:
        FormatError, LimitError: not the bytes of a transaction.
        RefusedError: ``wrong_chain``, ``not_yet_valid``, ``expired``, ``lifetime_too_long``,
            ``already_logged``, ``member_inactive`` or ``signature_invalid``.
    """
    transaction = decode_transaction(raw)
    if transaction.chain_id != chain_id:
        raise RefusedError("wrong_chain", f"expected {chain_id.hex()}, got {transaction.chain_id.hex()}")
    if is_logged(transaction.id):  # before its time is looked at: what has counted never expires
        raise RefusedError("already_logged", f"transaction {transaction.id.hex()} has its leaf already")
    _check_window(transaction, time_ms)
    member = member_of(view, transaction.member)
    if member is None or not member.is_active:
        raise RefusedError("member_inactive", f"member {transaction.member} is not an active member")
    if transaction.kid != hashing.key_id(member.transaction_key):
        raise RefusedError("member_inactive", f"not the present key of member {transaction.member}")
    try:
        verify(transaction, member.transaction_key)
    except VerificationError as error:
        raise RefusedError("signature_invalid", f"not signed by member {transaction.member}") from error
    return transaction


def _check_window(transaction: Transaction, time_ms: int) -> None:
    begin_s, end_s = transaction.iat_s, transaction.exp_s
    if not begin_s < end_s <= begin_s + limits.transaction_lifetime_s_max:
        raise RefusedError(
            "lifetime_too_long",
            f"expected exp 1 to {limits.transaction_lifetime_s_max} s after iat, got {end_s - begin_s}",
        )
    if time_ms < (begin_s - limits.clock_skew_early_s) * 1_000:
        raise RefusedError("not_yet_valid", f"issued at {begin_s} s, block time is {time_ms} ms")
    if time_ms >= end_s * 1_000:
        raise RefusedError("expired", f"expired at {end_s} s, block time is {time_ms} ms")


def _check_batch(tip: Tip, time_ms: int, transactions: Sequence[bytes]) -> None:
    if type(time_ms) is not int or not tip.time_ms < time_ms <= limits.integer_max:
        raise FormatError(f"expected a block time after {tip.time_ms}, got {time_ms!r:.40}")
    count, count_max = len(transactions), limits.block_transactions_max
    if count > count_max:
        raise FormatError(f"expected at most {count_max} transactions in a block, got {count}")
    size = sum(len(raw) for raw in transactions)
    if size > limits.block_bytes_max:
        raise FormatError(f"expected at most {limits.block_bytes_max} bytes in a block, got {size}")


def execute_block(
    tip: Tip,
    view: MapView,
    *,
    time_ms: int,
    transactions: Sequence[bytes],
    is_logged: IsLogged,
    verify: Verify = verify_transaction,
) -> Executed:
    """The block after ``tip``. Pure: nothing is stored, neither ``tip`` nor ``view`` changes.

    Args:
        tip: end of the chain.
        view: state map after it.
        time_ms: block time, later than the tip's.
        transactions: candidates in the engine's order, within ``block_transactions_max`` and
            ``block_bytes_max``.
        is_logged: see ``IsLogged``.
        verify: see ``Verify``.

    Raises:
        FormatError: block time or size outside the limits.
    """
    _check_batch(tip, time_ms, transactions)
    height = tip.height + 1
    before = _governance(tip, view)
    validators = _validators_at(height, before, view)
    state = Overlay(view, turn_writes(before.pending, height, view))
    block = _Block(tip=tip, height=height, validators=tuple(each.number for each in validators), state=state)
    for raw in transactions:
        block.deliver(raw, time_ms, is_logged, verify)
    governed = any(key[0] == 0x0B for key in state.writes)
    pending = pending_proposal(state) if governed else before.pending
    after = Governance(validators=validators, pending=pending)
    layer = view.apply(state.writes)
    header = Header(
        chain_id=tip.chain_id,
        height=height,
        time_ms=time_ms,
        previous_header_hash=tip.header_hash,
        first_index=tip.frontier.size,
        transactions=len(block.leaves),
        state_root=layer.root,
        state_count=layer.count,
        results_root=root_of([hashing.log_leaf(result) for result in block.results]),
        validators_hash=validators_hash_of(tip.network, validators),
        next_validators_hash=validators_hash_of(tip.network, _validators_at(height + 1, after, state)),
    )
    header_leaf = encode_header(header)
    header_hash = hashing.log_leaf(header_leaf)
    frontier, nodes = tip.frontier.extended([*block.leaf_hashes, header_hash])
    return Executed(
        header=header,
        header_leaf=header_leaf,
        leaves=block.leaves,
        leaf_hashes=block.leaf_hashes,
        results=block.results,
        skipped=block.skipped,
        layer=layer,
        tip=Tip(
            chain_id=tip.chain_id,
            network=tip.network,
            height=height,
            time_ms=time_ms,
            header_hash=header_hash,
            frontier=frontier,
            governance=after,
        ),
        nodes=nodes,
        validators=validators,
    )


class _Block:
    """What has been delivered of a block so far."""

    def __init__(self, *, tip: Tip, height: int, validators: tuple[int, ...], state: Overlay) -> None:
        self.tip, self.height, self.validators, self.state = tip, height, validators, state
        self.leaves: list[bytes] = []
        self.leaf_hashes: list[bytes] = []
        self.results: list[bytes] = []
        self.skipped: list[tuple[bytes, str]] = []
        self._delivered: set[bytes] = set()  # asked, never iterated

    def deliver(self, raw: bytes, time_ms: int, is_logged: IsLogged, verify: Verify) -> None:
        """Skip one candidate, or append its leaf and its result, and write what it writes."""
        try:
            transaction = check_transaction(
                raw,
                view=self.state,
                chain_id=self.tip.chain_id,
                time_ms=time_ms,
                is_logged=lambda leaf_hash: leaf_hash in self._delivered or is_logged(leaf_hash),
                verify=verify,
            )
        except InputError:
            self.skipped.append((hashing.log_leaf(raw), "malformed"))
            return
        except RefusedError as error:
            self.skipped.append((hashing.log_leaf(raw), error.code))
            return
        signer = member_of(self.state, transaction.member)
        if signer is None:  # check_transaction found it
            return
        outcome = execute_payload(
            transaction.payload,
            chain_id=self.tip.chain_id,
            height=self.height,
            time_ms=time_ms,
            transaction_id=transaction.id,
            signer=signer,
            validators=self.validators,
            state=self.state,
        )
        self.state.writes.update(outcome.writes)
        self._delivered.add(transaction.id)
        self.leaves.append(transaction.raw)
        self.leaf_hashes.append(transaction.id)
        result = Result(transaction.id, outcome.code, outcome.first_refused, outcome.impaired)
        self.results.append(encode_result(result))
