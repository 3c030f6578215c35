"""The replicated application of one node, in the shape of ABCI 2.0: an ordering engine drives it, it orders
nothing.

    info()          after a restart: what is durable here                     Info
    check(raw)      may this transaction be proposed?                         CheckTx
    deliver(…)      execute a batch in memory, get the log root               FinalizeBlock
    vote(executed)  journal, then sign                                        (embedded engine only)
    commit(…)       the block is decided: make it durable, release what was signed   (embedded engine only)
    cosign_tip(…)   sign the block before, which the others have arrived at too      FinalizeBlock
    commit_ordered(…)  make durable what the engine decided, release what was signed Commit

Every method runs on the node's one ledger thread. ``deliver`` may be called again for the same height with
the same or another batch, as long as nothing was committed; only ``commit`` persists a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from taxledger.ledger import canonical
from taxledger.ledger.chain import Chain, Vote
from taxledger.ledger.checkpoint import Checkpoint, cosignature_message
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InvariantError, VerificationError, check
from taxledger.ledger.execute import Executed, check_transaction, next_validators
from taxledger.ledger.header import vote_message
from taxledger.ledger.members import Member
from taxledger.ledger.merkle import frontier_at
from taxledger.ledger.policy import quorum
from taxledger.ledger.transaction import Transaction
from taxledger.nodes.identity.birthtokens import JOURNAL_LOST
from taxledger.nodes.signatures import SignatureMemory

__all__ = ["Application", "CosignMessage", "Info", "KeyFinder", "Keys", "decode_cosign", "encode_cosign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A validator's signing keys; an observer has none. The transaction key is not among them: it may change
    while the node runs (``memberkeys.KeyInForce``).

    ``fresh`` names the uses, ``vote`` and ``cosign``, whose key has its birth token (``birthtokens.py``).
    """

    member: int
    vote: Signer | None = None
    log: Signer | None = None
    cosign: Signer | None = None
    fresh: frozenset[str] = frozenset()


class KeyFinder(Protocol):
    """Where a member's keys lie: asked when its entry names others than those in use."""

    def keys_for(self, entry: Member, present: Keys) -> Keys:
        """The keys that the entry names, as far as they are here; the present ones in the place of the rest."""
        ...

    def begun(self, keys: Keys, uses: frozenset[str]) -> None:
        """The journals of these uses have been begun for these keys, durably, and nothing was signed yet: their
        birth tokens are removed when this returns.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What is durable: the newest decided block's height, the log's size and its root after it."""

    height: int
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignMessage:
    """One co-signature under way between nodes (docs/protocol.md §9)."""

    member: int
    size: int
    root: bytes
    time_s: int
    signature: bytes
    raw: bytes


def encode_cosign(
    chain_id: bytes, member: int, checkpoint: Checkpoint, time_s: int, signature: bytes
) -> bytes:
    return canonical.encode(
        [1, "cosign", chain_id, member, checkpoint.size, checkpoint.root, time_s, signature]
    )


def decode_cosign(raw: bytes, chain_id: bytes) -> CosignMessage:
    """Raises FormatError (or EncodingError) unless ``raw`` is a co-signature message of this chain."""
    value = canonical.decode(raw, bytes_max=512)
    types = [int, str, bytes, int, int, bytes, int, bytes]
    if type(value) is not list or [type(each) for each in value] != types:
        raise FormatError("expected a cosign message of 8 elements")
    version, what, chain, member, size, root, time_s, signature = value
    if version != 1 or what != "cosign" or chain != chain_id:
        raise FormatError(f"expected a cosign message of chain {chain_id.hex()}, got {what!r}")
    if len(root) != 32 or len(signature) != 64 or size < 1 or not 0 <= time_s < 2**63 or member < 1:
        raise FormatError("a cosign message with values out of range")
    return CosignMessage(member=member, size=size, root=root, time_s=time_s, signature=signature, raw=raw)


def _public(keys: Keys) -> tuple[bytes | None, ...]:
    return tuple(None if each is None else each.public_key for each in (keys.vote, keys.log, keys.cosign))


def _present(signer: Signer | None) -> Signer:
    if signer is None:
        raise InvariantError("asked for a validator's signature from a node that has no such key")
    return signer


class Application:
    """The application object. See the module text.

    Attributes:
        validators: the members that vote on and co-sign the block after the tip, by number, ascending. Replaced
            as a whole with each block, so that other threads may look at it.
        may_sign: the uses, ``vote`` and ``cosign``, whose key has its signing journal here: no other key signs.
        cosigned_s: time of our own newest co-signature since the start, 0 before the first.
    """

    def __init__(
        self, chain: Chain, keys: Keys, now_ms: Callable[[], int], finder: KeyFinder | None = None
    ) -> None:
        self.chain = chain
        self.keys = keys
        self._finder = finder
        self._missed: tuple[bytes | None, ...] | None = None
        self.now_ms = now_ms
        self.cosigned_s = 0
        self.halted: str | None = None
        self.may_sign = chain.begin_journals(self._journalled(), keys.fresh)
        self.signatures = SignatureMemory()
        self.validators = self._next_validators()
        self._follow_keys(self.validators)

    def _follow_keys(self, signers: Mapping[int, Member]) -> None:
        """Change over to the keys that our entry among the signers of a block names, where they lie here.

        Called for each block before it is signed, so a key signs for the blocks it is in force for, and for no other.
        Its journal is durable, and its birth token gone, before it signs.
        """
        entry = signers.get(self.keys.member)
        if self._finder is None or entry is None:
            return
        named = (entry.vote_key, entry.log_key, entry.cosign_key)
        if named in (_public(self.keys), self._missed):
            return
        found = self._finder.keys_for(entry, self.keys)
        self._missed = None if _public(found) == named else named  # not looked for at every block
        if _public(found) == _public(self.keys):
            return
        self.keys = found
        self.may_sign = self.chain.begin_journals(self._journalled(), found.fresh)
        self._finder.begun(found, self.may_sign & found.fresh)

    def _next_validators(self) -> dict[int, Member]:
        return {each.number: each for each in next_validators(self.chain.tip, self.chain.view)}

    def _journalled(self) -> dict[str, bytes]:
        """Our public keys whose signing journals lie in this store, by use: another engine keeps that of the votes
        itself.
        """
        keys = {"cosign": self.keys.cosign}
        if self.chain.engine == "embedded":
            keys["vote"] = self.keys.vote
        return {use: key.public_key for use, key in keys.items() if key is not None}

    @property
    def can_vote(self) -> bool:
        """A validator of the next block whose vote key has its journal here."""
        return self.is_validator and "vote" in self.may_sign

    @property
    def journal_lost(self) -> str | None:
        """What to tell the operator of a validator that must not sign, or None."""
        lost = [use for use in self._journalled() if use not in self.may_sign]
        return JOURNAL_LOST.format(use=lost[0]) if lost and self.is_validator else None

    @property
    def origin(self) -> str:
        """Of every checkpoint that is signed or shown now."""
        return self.chain.origin

    @property
    def quorum(self) -> int:
        return quorum(len(self.validators))

    @property
    def is_validator(self) -> bool:
        own = self.validators.get(self.keys.member)
        return (
            own is not None
            and self.halted is None
            and self.keys.vote is not None
            and self.keys.cosign is not None
            and own.vote_key == self.keys.vote.public_key
            and own.cosign_key == self.keys.cosign.public_key
        )

    def halt(self, reason: str) -> None:
        """Sign nothing any more, whatever is asked: this node's state is not that of the others."""
        self.halted = self.halted or reason

    def info(self) -> Info:
        """Height, log size and log root after the newest decided block: where an engine goes on."""
        tip = self.chain.tip
        return Info(height=tip.height, size=tip.frontier.size, root=tip.frontier.root)

    def check(self, raw: bytes) -> Transaction:
        """Whether the transaction could stand in the next block.

        Raises:
            RefusedError, InputError: with the reason ``deliver`` would skip it for.
        """
        return check_transaction(
            raw,
            view=self.chain.view,
            chain_id=self.chain.chain_id,
            time_ms=max(self.now_ms(), self.chain.tip.time_ms + 1),
            is_logged=self.chain.is_logged,
            verify=self.chain.verified,
        )

    def deliver(self, time_ms: int, transactions: Sequence[bytes]) -> Executed:
        """Execute a batch on the tip, in memory."""
        return self.chain.execute(time_ms, transactions)

    def vote(self, executed: Executed, transactions: Sequence[bytes]) -> bytes:
        """Journal and sign a vote for an executed block.

        Returns:
            The 64-byte signature; the journal entry is durable when this returns.

        Raises:
            InvariantError: this node has voted for another header at this height, or has no vote journal.
        """
        check("vote" in self.may_sign, "a vote without a journal")
        check(self.halted is None, "a vote of a node that halted")
        header_hash = executed.tip.header_hash
        self.chain.journal_vote(
            Vote(
                height=executed.header.height,
                header_hash=header_hash,
                time_ms=executed.header.time_ms,
                transactions=tuple(transactions),
            )
        )
        return self.sign_vote(executed.header.height, header_hash)

    def sign_vote(self, height: int, header_hash: bytes) -> bytes:
        """Sign for what the journal holds already: the same bytes as the first time (RFC 8032 is
        deterministic).
        """
        message = vote_message(self.chain.chain_id, height, header_hash)
        return self.signatures.sign(_present(self.keys.vote), message)

    def verify_vote(self, member: int, height: int, header_hash: bytes, signature: bytes) -> None:
        """Raises VerificationError unless a present validator signed this vote."""
        validator = self.validators.get(member)
        if validator is None or validator.vote_key is None:
            raise VerificationError("signer_unknown", f"a vote of member {member}, who is no validator")
        message = vote_message(self.chain.chain_id, height, header_hash)
        self.signatures.verify(validator.vote_key, signature, message)

    def verify_decision(self, height: int, header_hash: bytes, votes: Sequence[tuple[int, bytes]]) -> None:
        """Raises VerificationError unless a quorum of distinct validators voted for the header."""
        members = [member for member, _ in votes]
        if members != sorted(set(members)):
            raise VerificationError("signer_repeated", "votes must ascend by member, one each")
        if len(votes) < self.quorum:
            raise VerificationError(
                "quorum_missing", f"votes for block {height}", expected=self.quorum, got=len(votes)
            )
        for member, signature in votes:
            self.verify_vote(member, height, header_hash, signature)

    def commit(self, executed: Executed, votes: Sequence[tuple[int, bytes]]) -> bytes | None:
        """Make a decided block durable.

        Args:
            executed: from ``deliver`` on the present tip.
            votes: the quorum that decided it, verified.

        Returns:
            Our co-signature message for it, which may be released now, if we are a validator of it. Also in a
            catch-up, where others have certified the block: heartbeats renew the newest tree that we signed.
        """
        message = None
        frontier = executed.tip.frontier
        if self.is_validator and self._may_sign(frontier.size):
            message = self.make_cosign(Checkpoint(origin=self.origin, size=frontier.size, root=frontier.root))
        self.chain.commit(executed, votes, cosign=message)
        self.validators = self._next_validators()
        self._follow_keys(self.validators)
        return message

    def cosign_tip(self, signers: Mapping[int, Member]) -> bytes | None:
        """Our co-signature of the present tip, for an engine that has shown that the others arrived at it too.

        It is not released before ``commit_ordered`` has made it durable.

        Args:
            signers: those that co-sign the tip, by number.
        """
        self._follow_keys(signers)  # the next block may be signed with another key than the tip
        frontier, entry, key = self.chain.tip.frontier, signers.get(self.keys.member), self.keys.cosign
        if self.chain.tip.height == 0 or not self._may_sign(frontier.size):
            return None
        if entry is None or key is None or entry.cosign_key != key.public_key:
            return None
        return self.make_cosign(Checkpoint(origin=self.origin, size=frontier.size, root=frontier.root))

    def commit_ordered(self, engine_height: int, executed: Executed | None, cosign: bytes | None) -> None:
        """``Chain.commit_ordered``: what the engine decided is durable, and ``cosign`` may leave."""
        self.chain.commit_ordered(engine_height, executed, cosign=cosign)
        self.validators = self._next_validators()
        self._follow_keys(self.validators)

    def _may_sign(self, size: int) -> bool:
        signed = self.chain.signed()
        return self.halted is None and signed is not None and signed[0] < size

    def make_cosign(self, checkpoint: Checkpoint) -> bytes:
        """Sign a checkpoint at the present time. The caller has made sure that the journal allows it."""
        check(self.halted is None, "a co-signature of a node that halted")
        time_s = self.cosigned_s = self.now_ms() // 1000
        message = cosignature_message(checkpoint, time_s)
        signature = self.signatures.sign(_present(self.keys.cosign), message)
        return encode_cosign(self.chain.chain_id, self.keys.member, checkpoint, time_s, signature)

    def may_cosign(self, member: Member, checkpoint: Checkpoint) -> bool:
        """Whether this member, as the ledger names it, may sign a tree that its journal holds already: the same size
        and root, under whatever origin.
        """
        key = self.keys.cosign
        return (
            key is not None
            and member.cosign_key == key.public_key
            and self.chain.signed() == (checkpoint.size, checkpoint.root)
        )

    def renew_cosign(self) -> bytes | None:
        """Co-sign again, now, the largest tree this validator has co-signed (heartbeat).

        The signing journal already holds this size and root, so nothing has to be made durable first.
        """
        signed = self.chain.signed()
        if signed is None or signed[0] == 1 or not self.is_validator:  # nobody co-signs the genesis alone
            return None
        return self.make_cosign(Checkpoint(origin=self.origin, size=signed[0], root=signed[1]))

    def checkpoint(self, height: int) -> Checkpoint:
        """The checkpoint right after a decided block."""
        if height == self.chain.tip.height:
            frontier = self.chain.tip.frontier
            return Checkpoint(origin=self.origin, size=frontier.size, root=frontier.root)
        frontier = frontier_at(self.chain.node, self.chain.size(height))
        return Checkpoint(origin=self.origin, size=frontier.size, root=frontier.root)
