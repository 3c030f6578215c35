"""Auditing an archive: everything it says is computed again from leaf 0, with nothing taken on trust.

Each invariant has a name and gets its own verdict. The audit follows the chain block by block, in memory that
does not grow with the archive (the state map lives in the store it is handed), and stops where the chain
cannot be followed any further: from there on nothing that is said could be checked.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from taxledger.ledger import canonical, hashing
from taxledger.ledger.archive import (
    ArchiveBlock,
    ArchiveEnd,
    ArchiveGenesis,
    ArchiveHandover,
    ByteStream,
    Frame,
    read_archive,
)
from taxledger.ledger.auditnotes import verify_note
from taxledger.ledger.auditpledges import check_pledges
from taxledger.ledger.auditreport import INVARIANTS, AuditReport, EngineSpan, Failure, Verdict
from taxledger.ledger.checkpoint import Checkpoint, cosignature_message, make_origin
from taxledger.ledger.crypto import verify_signature
from taxledger.ledger.errors import InputError, VerificationError, check
from taxledger.ledger.execute import Executed, Tip, execute_block, genesis_tip
from taxledger.ledger.genesis import decode_genesis
from taxledger.ledger.handover import decides_by_votes
from taxledger.ledger.header import Header, decode_header, vote_message
from taxledger.ledger.members import Member, validators_hash_of
from taxledger.ledger.policy import Policy, quorum
from taxledger.ledger.statemap import MapView, PageCache
from taxledger.ledger.store import Store

__all__ = ["INVARIANTS", "AuditReport", "Failure", "Verdict", "audit_archive"]

_LEAF = b"a"
"""Prefix in the audit's store of the leaf hashes seen; the state map's begin with m, p and M."""


def audit_archive(stream: ByteStream, store: Store, *, policy: Policy | None = None) -> AuditReport:
    """Replay an archive and check everything in it.

    Args:
        stream: the archive, read once from its beginning, a frame at a time.
        store: empty; holds the state map and the leaf hashes meanwhile, and is of no use afterwards.
        policy: whom the auditor trusts, from elsewhere than the archive; without it the verdicts say only
            that the archive agrees with its own genesis.

    Returns:
        The report; a bad archive is a failed verdict, never an exception.

    Raises:
        InvariantError: the store is not empty.
        UnavailableError, OSError: the store or the stream cannot be used.
    """
    check(next(store.scan(b"", b"\xff"), None) is None, "an audit begins with an empty store")
    return _Audit(store, policy).run(stream)


class _Stop(Exception):
    """The chain cannot be followed any further; the verdict that says why is recorded."""


@dataclass(slots=True)
class _Count:
    checked: int = 0
    failure: Failure | None = None


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


@dataclass(slots=True)
class _Audit:
    """An audit in progress."""

    store: Store
    policy: Policy | None
    counts: dict[str, _Count] = field(init=False)
    cache: PageCache = field(default_factory=PageCache)
    tip: Tip | None = None
    view: MapView | None = None
    validators: tuple[Member, ...] = ()
    header: Header | None = None
    engine: str = ""
    engine_from: int = 1
    engines: list[EngineSpan] = field(default_factory=list)
    origin: str = ""
    complete: bool = False
    transactions: int = 0
    signatures: int = 0

    def __post_init__(self) -> None:
        names = [name for name in INVARIANTS if name != "policy" or self.policy is not None]
        self.counts = {name: _Count() for name in names}

    def run(self, stream: ByteStream) -> AuditReport:
        with suppress(_Stop):
            self._follow(stream)
        tip = self.tip
        return AuditReport(
            verdicts=tuple(
                Verdict(name=name, checked=each.checked, failure=each.failure, reached=self.complete)
                for name, each in self.counts.items()
            ),
            complete=self.complete,
            origin=self.origin,
            height=tip.height if tip else 0,
            size=tip.frontier.size if tip else 0,
            log_root=tip.frontier.root if tip else hashing.EMPTY_ROOT,
            state_root=self.view.root if self.view else hashing.EMPTY_ROOT,
            transactions=self.transactions,
            signatures=self.signatures,
            engines=(*self.engines, self._span()) if self.engine else (),
        )

    def _span(self) -> EngineSpan:
        return EngineSpan(
            engine=self.engine, first=self.engine_from, last=self.tip.height if self.tip is not None else 0
        )

    # --- verdicts -------------------------------------------------------------------------------

    def _height(self) -> int:
        return self.tip.height + 1 if self.tip else 0

    def _fail(self, name: str, message: str, *, expected: Any = None, got: Any = None) -> None:
        """Record a fault, unless an earlier one of this invariant is recorded."""
        count = self.counts[name]
        if count.failure is None:
            count.failure = Failure(
                height=self._height(),
                message=message,
                expected=None if expected is None else _shown(expected),
                got=None if got is None else _shown(got),
            )

    def _expect(self, name: str, message: str, *, expected: Any, got: Any) -> bool:
        if type(expected) is type(got) and expected == got:
            self.counts[name].checked += 1
            return True
        self._fail(name, message, expected=expected, got=got)
        return False

    # --- following --------------------------------------------------------------------------------

    def _follow(self, stream: ByteStream) -> None:
        frames = read_archive(stream)
        while True:
            match self._next(frames):
                case ArchiveGenesis() as genesis:
                    self._begin(genesis)
                case ArchiveBlock() as block:
                    self._block(block)
                case ArchiveHandover() as handover:
                    self._handover(handover)
                case ArchiveEnd() as end:
                    self._end(end)
                    return

    def _next(self, frames: Any) -> Frame:
        try:
            frame: Frame = next(frames)
        except InputError as error:
            self._fail("archive", str(error))
            raise _Stop from error
        self.counts["archive"].checked += 1
        return frame

    def _begin(self, frame: ArchiveGenesis) -> None:
        try:
            genesis = decode_genesis(frame.leaf)
            self.tip, layer, _ = genesis_tip(frame.leaf)
        except InputError as error:
            self._fail("genesis", str(error))
            raise _Stop from error
        self.counts["genesis"].checked += 1
        self.engine = genesis.engine
        self.origin = make_origin(genesis.network, self.tip.chain_id, genesis.engine)
        self.validators = genesis.validators
        self.store.write(layer.store_batch(), sync=False)
        self.view = MapView.open(self.store, self.cache)

    def _handover(self, frame: ArchiveHandover) -> None:
        """From here on another engine decides.

        The frame is the archive's own word, and it makes votes unnecessary for what follows. It can't hide that they
        are missing: the present validators, a quorum, must have co-signed this very log under the new origin, and
        each block after it too. An honest one does so only after it has left the former engine for good, and
        co-signs under the new origin nothing but what the new engine decided. Of a quorum at most f lie; so more
        than f honest validators have left, and no block after this one was decided by votes at all.
        """
        tip, _ = self._present()
        followed = self._expect("handover", "height of the frame", expected=tip.height, got=frame.height)
        if frame.engine == self.engine:
            self._fail("handover", "the engine", expected="another than before", got=frame.engine)
            followed = False
        if not followed:
            raise _Stop
        try:
            origin = make_origin(tip.network, tip.chain_id, frame.engine)
            self._check_note("handover", frame.note, tip, origin)
        except (InputError, VerificationError) as error:
            self._fail("handover", str(error))
            raise _Stop from error
        self.engines.append(self._span())
        self.engine, self.engine_from, self.origin = frame.engine, tip.height + 1, origin

    def _block(self, block: ArchiveBlock) -> None:
        tip, view = self._present()
        try:
            header = decode_header(block.header_leaf)
        except InputError as error:
            self._fail("header", str(error))
            raise _Stop from error
        followed = self._expect("heights", "height of the frame", expected=tip.height + 1, got=block.height)
        followed &= self._expect("heights", "height in the header", expected=block.height, got=header.height)
        if header.time_ms > tip.time_ms:
            self.counts["time"].checked += 1
        else:
            self._fail("time", "block time", expected=f"after {tip.time_ms}", got=header.time_ms)
            followed = False
        previous = header.previous_header_hash
        followed &= self._expect("links", "the header before", expected=tip.header_hash, got=previous)
        if not followed:
            raise _Stop
        try:
            executed = execute_block(
                tip,
                view,
                time_ms=header.time_ms,
                transactions=block.transactions,
                is_logged=lambda leaf_hash: self.store.get(_LEAF + leaf_hash) is not None,
            )
        except InputError as error:
            self._fail("transactions", str(error))
            raise _Stop from error
        self._compare_leaves(executed)
        self._check_votes(block, executed)
        self._check_cosigns(block, executed)
        if executed.skipped:
            raise _Stop
        self._compare(block, header, executed)
        self._check_pledges(executed, view)
        if block.header_leaf != executed.header_leaf:
            raise _Stop
        self._step(header, executed)

    def _present(self) -> tuple[Tip, MapView]:
        tip, view = self.tip, self.view
        if tip is None or view is None:  # the reader yields the genesis first
            raise _Stop
        return tip, view

    def _step(self, header: Header, executed: Executed) -> None:
        """The block holds together: go on from it."""
        batch = executed.layer.store_batch()
        batch.update((_LEAF + leaf_hash, b"") for leaf_hash in executed.leaf_hashes)
        self.store.write(batch, sync=False)
        self.view = MapView.open(self.store, self.cache)
        self.tip, self.header, self.validators = executed.tip, header, executed.validators
        self.transactions += len(executed.leaves)
        self.signatures += len(executed.leaves)

    # --- what a block says ---------------------------------------------------------------------------

    def _compare(self, block: ArchiveBlock, header: Header, executed: Executed) -> None:
        mine = executed.header
        pairs = zip(executed.results, block.results, strict=False)
        for leaf_hash, (expected, got) in zip(executed.leaf_hashes, pairs, strict=False):
            what = f"result of transaction {leaf_hash.hex()}"
            self._expect("results", what, expected=expected, got=got)
        expected_count = len(block.transactions)
        self._expect("results", "number of results", expected=expected_count, got=len(block.results))
        for name, fields in (
            ("results", ("results_root",)),
            ("log", ("first_index", "transactions")),
            ("state", ("state_root", "state_count")),
            ("validators", ("validators_hash", "next_validators_hash")),
            ("header", ("chain_id", "app_version")),
        ):
            for each in fields:
                self._expect(name, each, expected=getattr(mine, each), got=getattr(header, each))
        self._expect("header", "the header leaf", expected=executed.header_leaf, got=block.header_leaf)

    def _compare_leaves(self, executed: Executed) -> None:
        for leaf_hash, reason in executed.skipped:
            name = "repeats" if reason == "already_logged" else "transactions"
            self._fail(name, f"leaf {leaf_hash.hex()}", expected="a transaction that counts", got=reason)
        self.counts["transactions"].checked += len(executed.leaves)
        self.counts["repeats"].checked += len(executed.leaves)

    def _check_pledges(self, executed: Executed, view: MapView) -> None:
        checked, faults = check_pledges(executed, view, view.over(executed.layer))
        self.counts["pledges"].checked += checked
        for fault in faults:
            self._fail("pledges", fault.message, expected=fault.expected, got=fault.got)

    def _check_votes(self, block: ArchiveBlock, executed: Executed) -> None:
        keys = {member.number: member.vote_key for member in executed.validators}
        header_hash = hashing.log_leaf(block.header_leaf)
        message = vote_message(executed.tip.chain_id, executed.header.height, header_hash)
        signed = [(member, message, signature) for member, signature in block.votes]
        if not decides_by_votes(self.engine):
            self._expect("votes", f"number of votes in a block of {self.engine}", expected=0, got=len(signed))
            return
        self._check_quorum("votes", "vote", keys, signed)

    def _check_cosigns(self, block: ArchiveBlock, executed: Executed) -> None:
        keys = {member.number: member.cosign_key for member in executed.validators}
        tip = self._present()[0]
        frontier, _ = tip.frontier.extended(
            [*map(hashing.log_leaf, block.transactions), hashing.log_leaf(block.header_leaf)]
        )
        checkpoint = Checkpoint(origin=self.origin, size=frontier.size, root=frontier.root)
        signed = [
            (member, cosignature_message(checkpoint, time_s), signature)
            for member, time_s, signature in block.cosigns
        ]
        self._check_quorum("cosignatures", "co-signature", keys, signed)

    def _check_quorum(
        self, name: str, what: str, keys: dict[int, bytes | None], signed: list[tuple[int, bytes, bytes]]
    ) -> None:
        """Each signature is a validator's and verifies, and they are enough (the reader lets none repeat)."""
        for member, message, signature in signed:
            key = keys.get(member)
            if key is None:
                self._fail(name, what, expected="of a validator of this height", got=f"of member {member}")
                return
            try:
                verify_signature(key, signature, message)
            except VerificationError:
                self._fail(name, what, expected=f"a signature of member {member}", got="another")
                return
            self.signatures += 1
            self.counts[name].checked += 1
        if len(signed) < quorum(len(keys)):
            self._fail(name, f"number of {what}s", expected=f"at least {quorum(len(keys))}", got=len(signed))

    # --- the end ------------------------------------------------------------------------------------

    def _end(self, end: ArchiveEnd) -> None:
        tip, _ = self._present()
        self._expect("checkpoint", "height of the last frame", expected=tip.height, got=end.height)
        if self.header is None:
            self._fail("checkpoint", "the last block", expected="at least one block", got="none")
            raise _Stop
        try:
            self._check_note("checkpoint", end.note, tip, self.origin)
        except VerificationError as error:
            self._fail("checkpoint", str(error), expected=error.expected, got=error.got)
        if self.policy is not None:
            self._check_policy(self.policy, tip, self.header)
        self.complete = True

    def _check_note(self, name: str, data: bytes, tip: Tip, origin: str) -> None:
        last = Checkpoint(origin=origin, size=tip.frontier.size, root=tip.frontier.root)
        verified = verify_note(data, last, tip.network, self.validators)
        self.signatures += verified
        self.counts[name].checked += 1 + verified

    def _check_policy(self, policy: Policy, tip: Tip, header: Header) -> None:
        self._expect("policy", "origin", expected=policy.origin, got=self.origin)
        theirs = sorted(key.public_key for key in policy.log_keys)
        ours = sorted(member.log_key or b"" for member in self.validators)
        self._expect("policy", "log keys", expected=canonical.encode(theirs), got=canonical.encode(ours))
        present = validators_hash_of(tip.network, self.validators)
        self._expect("policy", "witnesses", expected=policy.validators_hash, got=present)
        following = header.next_validators_hash
        self._expect("policy", "witnesses of the next block", expected=policy.validators_hash, got=following)
