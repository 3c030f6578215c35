"""Counts co-signatures until blocks are certified, and keeps the newest ones for answers.

A co-signature is counted only when its signature verifies under the member's key in our own state and its
size and root are those of our own block. Blocks are certified strictly in order, so ``certified`` says that
everything below is.

A co-signature of another tree than ours can only mean that its signer lies, or that it is we who went astray:
``contradictions.py`` is told of all that verify, and finds out which.

One whose time is ahead of our clock is not counted until the clock has come as far: a verifier refuses a note
that holds one, so a single liar could make every answer of an honest node worthless. Below a block that has its
quorum without such it does count: no note is made there any more. Else blocks that were co-signed while some clocks
were wrong would hold up all later ones until the time that those clocks showed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from taxledger.ledger import limits
from taxledger.ledger.checkpoint import Checkpoint, cosignature_message
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.execute import Executed
from taxledger.ledger.members import Member, validators_of
from taxledger.ledger.policy import quorum
from taxledger.nodes.application import Application, CosignMessage, decode_cosign, encode_cosign
from taxledger.nodes.forks.contradictions import Contradictions, Fork

__all__ = ["Certification", "Fork"]

_AHEAD_MS_MAX = limits.cosignature_ahead_ms_max // 2
"""Half of what a verifier accepts: its clock may be behind ours by the other half."""


@dataclass(slots=True)
class _Collected:
    checkpoint: Checkpoint
    validators: dict[int, Member]
    by_member: dict[int, CosignMessage] = field(default_factory=dict)
    ahead: dict[int, CosignMessage] = field(default_factory=dict)
    """Newest per member, not counted yet: nobody may send them again."""


class Certification:
    """Co-signatures of the decided, uncertified blocks and of the newest certified one (by height)."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.contradictions = Contradictions(application)
        self._collected: dict[int, _Collected] = {}
        self._early: dict[int, CosignMessage] = {}  # newest per member, of trees larger than ours
        self._recover()

    @property
    def forks(self) -> list[Fork]:
        """Contradictions among co-signatures: evidence, and what is only suspected."""
        return self.contradictions.forks

    def _recover(self) -> None:
        chain = self.application.chain
        for height in range(max(1, chain.certified), chain.tip.height + 1):
            # Members change before a block's first transaction only: the state after it names who signs it.
            validators = {each.number: each for each in validators_of(chain.view_after(height))}
            self._open(height, validators)
            for member, time_s, signature in chain.cosigns(height):
                self._keep(height, member, time_s, signature)
            own = chain.own_cosign(height)
            if own is not None:
                message = decode_cosign(own, chain.chain_id)
                self._collected[height].by_member.setdefault(message.member, message)
            for number, message in sorted(self._collected[height].by_member.items()):
                if number in validators:
                    self.contradictions.agreed(message, validators[number])

    def _open(self, height: int, validators: dict[int, Member]) -> None:
        self._collected[height] = _Collected(self.application.checkpoint(height), validators)

    def _keep(self, height: int, member: int, time_s: int, signature: bytes) -> None:
        collected = self._collected[height]
        chain_id = self.application.chain.chain_id
        raw = encode_cosign(chain_id, member, collected.checkpoint, time_s, signature)
        collected.by_member[member] = decode_cosign(raw, chain_id)

    def committed(self, executed: Executed, own: bytes | None) -> None:
        """Take note of a block that has just been committed, then of what arrived early for it."""
        height = executed.header.height
        self._open(height, {each.number: each for each in executed.validators})
        self.contradictions.grown()
        if own is not None:
            self.receive(own)
        for member, message in sorted(self._early.items()):
            if message.size <= self._collected[height].checkpoint.size:
                del self._early[member]
                # Its signature is right, but it may be of another tree: that is no reason to stop here.
                with contextlib.suppress(VerificationError):
                    self.receive(message.raw)

    def receive(self, raw: bytes) -> bool:
        """Count one co-signature message.

        Returns:
            True when readers should see it: it is new, and of the newest certified block.

        Raises:
            InputError: not a co-signature message of this chain.
            VerificationError: not signed by a validator, for a tree that is not ours, or ahead of its time.
        """
        application = self.application
        message = decode_cosign(raw, application.chain.chain_id)
        if message.size <= application.chain.kept().log_index:
            return False  # of before what is kept here: certified long ago, and nothing to compare it with
        height = self._height_of(message.size)
        is_old = height is not None and height not in self._collected
        is_ours = height is not None and is_old and application.checkpoint(height).root == message.root
        if is_ours and not self.contradictions.suspects(message.member):
            return False  # certified long ago, a newer block is
        if height is not None and not is_old:
            known = self._collected[height].by_member.get(message.member)
            if (
                known is not None
                and known.root == message.root
                and known.time_s >= message.time_s
                and not self._is_ahead(known)
            ):
                return False
        signers = self.validators_at(0 if height is None else height)
        validator = signers.get(message.member)
        if validator is None or validator.cosign_key is None:
            raise VerificationError(
                "signer_unknown", f"co-signature of member {message.member}, who is no validator"
            )
        theirs = Checkpoint(origin=application.origin, size=message.size, root=message.root)
        application.signatures.verify(
            validator.cosign_key, message.signature, cosignature_message(theirs, message.time_s)
        )
        if is_ours:
            self.contradictions.agreed(message, validator)
            return False
        if height is None or is_old:
            if message.size > application.chain.tip.frontier.size:
                self.contradictions.claimed(message, validator)
                self._check_time(message)
                newest = self._early.get(message.member)
                if newest is None or newest.size <= message.size:
                    self._early[message.member] = message
                return False
            if message.root == self.contradictions.root_at(message.size):
                raise VerificationError(
                    "header_mismatch", f"{validator.name} co-signed a tree that ends within a block"
                )
            raise self._disagreement(message, validator)
        collected = self._collected[height]
        if message.root != collected.checkpoint.root:
            raise self._disagreement(message, validator)
        self.contradictions.agreed(message, validator)
        if self._is_ahead(message):
            collected.ahead[message.member] = message
        self._check_time(message)
        collected.by_member[message.member] = message
        return height == application.chain.certified

    def _is_ahead(self, message: CosignMessage) -> bool:
        """Whether no verifier may believe it yet. One that is stored is so only after our clock was set back."""
        return message.time_s * 1_000 > self.application.now_ms() + _AHEAD_MS_MAX

    def _check_time(self, message: CosignMessage) -> None:
        if self._is_ahead(message):
            raise VerificationError(
                "checkpoint_stale", f"co-signature of member {message.member}, ahead of this node's clock"
            )

    def _disagreement(self, message: CosignMessage, validator: Member) -> VerificationError:
        """Note who contradicts us, and say what is wrong."""
        self.contradictions.claimed(message, validator)
        return VerificationError(
            "header_mismatch",
            f"{validator.name} co-signed a tree of {message.size} leaves that is not ours",
        )

    def _height_of(self, size: int) -> int | None:
        for height in sorted(self._collected, reverse=True):
            if self._collected[height].checkpoint.size == size:
                return height
        chain = self.application.chain
        if 1 < size <= chain.tip.frontier.size:
            height = chain.height_of_index(size - 1)
            if chain.size(height) == size:
                return height
        return None

    def advance(self) -> list[int]:
        """Certify every block that has its quorum, in order; returns the heights."""
        application = self.application
        done: list[int] = []
        while application.chain.certified < application.chain.tip.height:
            height = application.chain.certified + 1
            if not self._has_quorum(height):
                break
            application.chain.certify(height, self._tuples(height))
            self._collected.pop(height - 1, None)
            done.append(height)
        return done

    def _has_quorum(self, height: int) -> bool:
        """For the next block to be certified. See the module text for those that are ahead of our clock."""
        collected = self._collected[height]
        count = quorum(len(collected.validators))
        if len(collected.by_member) < count and collected.ahead:
            covered = self._is_covered(height)
            for member, message in sorted(collected.ahead.items()):
                if covered or not self._is_ahead(message):
                    collected.by_member[member] = message
                    del collected.ahead[member]
        return len(collected.by_member) >= count

    def _is_covered(self, height: int) -> bool:
        """Whether the same validators' quorum stands under a later block, all of times that have come.

        Others' would not do: the last block of a set leads verifiers to the next, by its own co-signatures.
        """
        chain = self.application.chain
        signers = chain.header(height).validators_hash
        for later in range(height + 1, chain.tip.height + 1):
            if chain.header(later).validators_hash != signers:
                return False
            collected = self._collected[later]
            timely = [each for each in collected.by_member.values() if not self._is_ahead(each)]
            if len(timely) >= quorum(len(collected.validators)):
                return True
        return False

    def renewed(self) -> None:
        """Store the newest co-signatures of the newest certified block (after heartbeats)."""
        certified = self.application.chain.certified
        if certified:
            self.application.chain.refresh_cosigns(self._tuples(certified))

    def _tuples(self, height: int) -> tuple[tuple[int, int, bytes], ...]:
        counted = self._collected[height].by_member
        return tuple((each.member, each.time_s, each.signature) for _, each in sorted(counted.items()))

    def newest(self, height: int) -> list[CosignMessage]:
        """The q newest co-signatures of a certified block, newest first: the age of an answer is the last
        one's. Those that are ahead of our clock come after all others.
        """
        collected = self._collected[height]
        ordered = sorted(
            collected.by_member.values(),
            key=lambda each: (self._is_ahead(each), -each.time_s, each.member),
        )
        return ordered[: quorum(len(collected.validators))]

    def known(self, above: int) -> list[bytes]:
        """Every message counted for blocks above a height, ascending: what a peer that is there may lack."""
        tip = self.application.chain.tip.height
        last = min(tip, above + limits.uncertified_blocks_max)
        first = max(above + 1, self.application.chain.kept().log_height)
        return [raw for height in range(first, last + 1) for raw in self.messages(height)]

    def counts(self, raw: bytes) -> bool:
        """Whether a message, byte for byte, is counted for a block that is uncertified or the newest certified one:
        then its signature was verified, and each member has one of them a block.
        """
        member = decode_cosign(raw, self.application.chain.chain_id).member
        known = (collected.by_member.get(member) for collected in self._collected.values())
        return any(each is not None and each.raw == raw for each in known)

    def validators_at(self, height: int) -> dict[int, Member]:
        """Who co-signs a block that is uncertified or the newest certified one."""
        collected = self._collected.get(height)
        return self.application.validators if collected is None else collected.validators

    def messages(self, height: int) -> list[bytes]:
        """Every message counted for one decided block, ascending by member, also for one certified long
        ago.
        """
        if height in self._collected:
            return [message.raw for _, message in sorted(self._collected[height].by_member.items())]
        chain = self.application.chain
        checkpoint = self.application.checkpoint(height)
        return [
            encode_cosign(chain.chain_id, member, checkpoint, time_s, signature)
            for member, time_s, signature in chain.cosigns(height)
        ]

    def own(self) -> list[bytes]:
        """Our own messages for blocks that are not certified yet, and the newest one."""
        member = self.application.keys.member
        return [
            collected.by_member[member].raw
            for _, collected in sorted(self._collected.items())
            if member in collected.by_member
        ]
