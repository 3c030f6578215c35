"""What validators signed that our own log contradicts: who is convicted by it, and when it is we who diverged.

Told of every co-signature whose signature verifies. One for another tree than ours is a *claim against us*:

* Its signer is convicted as soon as it has also signed a tree of ours that is no smaller, or another tree of the
  same size: then the two make fork evidence. Until then it is a *suspicion*, a file that convicts nobody.
* Claims of more than f validators that count now can't all be lies: at least one is honest, and has another log
  than we. Then it is this node that diverged, and it signs nothing more.

A bounded number is kept of each member: a liar can sign any number of trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from taxledger.ledger import canonical
from taxledger.ledger.checkpoint import (
    COSIGNATURE_TYPE,
    Checkpoint,
    cosignature_message,
    cosigner_name,
    parse_vkey,
    vkey,
)
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.fork import prove_other_beginning
from taxledger.ledger.forkformat import CosignedTwice, CosignFork, encode_fork
from taxledger.ledger.members import Member
from taxledger.ledger.merkle import frontier_at
from taxledger.nodes.application import Application, CosignMessage, decode_cosign, encode_cosign

__all__ = ["Contradictions", "Divergence", "Fork", "suspicion"]

_CLAIMS_MAX = 4
_LOOK_BACK_BLOCKS = 64
"""So far a member's own co-signature of our log is looked for, when it contradicts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A contradiction seen by this node.

    Attributes:
        members: who signed what cannot both be true; of a suspicion, whom it is about.
        text: one sentence for the operator.
        evidence: bytes of docs/protocol.md §17, or of a suspicion (``suspicion``).
        convicts: whether they convict the members.
    """

    members: tuple[int, ...]
    text: str
    evidence: bytes
    convicts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """This node's log is not that of the others.

    Attributes:
        size: of the tree at which they contradict us; ``height`` the block it ends, or falls in.
        root: ours at that size.
        theirs: root by name of a member: what it co-signed, maybe at another size.
    """

    height: int
    size: int
    root: bytes
    theirs: Mapping[str, bytes]

    @property
    def text(self) -> str:
        """For the operator: what is wrong, and what to do."""
        said = ", ".join(f"{name} {root.hex()[:16]}…" for name, root in self.theirs.items())
        return (
            f"this node diverged from the others at height {self.height} (log size {self.size}): its root is "
            f"{self.root.hex()[:16]}…, co-signed were {said}; more than its liars can be contradict it, so it "
            "stopped before it signed anything more"
        )


def suspicion(statements: list[object]) -> bytes:
    """``[1, "fork_suspicion", [signed messages …]]``: of use to whoever looks for more, and proof of nothing."""
    return canonical.encode([1, "fork_suspicion", statements])


@dataclass(slots=True)
class _Signer:
    """What one member has signed, under one key."""

    key: bytes
    claims: list[CosignMessage] = field(default_factory=list)  # of trees that are not ours
    ours: CosignMessage | None = None  # of the largest tree of ours
    is_convicted: bool = False
    is_suspected: bool = False


class Contradictions:
    """See the module text. Lives on the ledger thread.

    Attributes:
        forks: evidence and suspicions found so far.
    """

    def __init__(self, application: Application) -> None:
        self.forks: list[Fork] = []
        self._application = application
        self._signers: dict[int, _Signer] = {}

    def _signer(self, validator: Member) -> _Signer:
        key = validator.cosign_key or b""
        found = self._signers.get(validator.number)
        if found is None or found.key != key:
            found = self._signers[validator.number] = _Signer(key=key)
        return found

    def root_at(self, size: int) -> bytes:
        """Our log's root at any size up to its own."""
        return frontier_at(self._application.chain.node, size).root

    def agreed(self, message: CosignMessage, validator: Member) -> None:
        """A co-signature of a tree of ours."""
        signer = self._signer(validator)
        if signer.ours is None or signer.ours.size < message.size:
            signer.ours = message
            self._try(signer, validator)

    def suspects(self, member: int) -> bool:
        """Whether one more co-signature of this member's, of our own log, could convict it."""
        signer = self._signers.get(member)
        return signer is not None and bool(signer.claims) and not signer.is_convicted

    def claimed(self, message: CosignMessage, validator: Member) -> None:
        """A co-signature of a tree that is not ours, or of one that is larger than our log."""
        signer = self._signer(validator)
        if any(each.size == message.size and each.root == message.root for each in signer.claims):
            return
        if len(signer.claims) < _CLAIMS_MAX:
            signer.claims.append(message)
        else:  # the first stay: the newest takes the place of the newest
            signer.claims[-1] = message
        self._try(signer, validator)

    def grown(self) -> None:
        """Our log is longer: what was ahead of it may be in it now, or contradict it."""
        tip = self._application.chain.tip.frontier.size
        for number, signer in list(self._signers.items()):
            validator = self._application.validators.get(number)
            if validator is None or validator.cosign_key != signer.key:
                continue
            for each in [claim for claim in signer.claims if claim.size <= tip]:
                if each.root == self.root_at(each.size):
                    signer.claims.remove(each)
                    self.agreed(each, validator)
            self._try(signer, validator)

    def _contrary(self, signer: _Signer) -> list[CosignMessage]:
        """Claims that our log, as it is now, contradicts; of what is ahead of it nothing is known."""
        tip = self._application.chain.tip.frontier.size
        return [each for each in signer.claims if each.size <= tip and each.root != self.root_at(each.size)]

    # --- conviction ---------------------------------------------------------------------------

    def _try(self, signer: _Signer, validator: Member) -> None:
        """Convict, where two statements suffice; else say once what is suspected."""
        if signer.is_convicted:
            return
        fork = next(self._convicting(signer, validator), None)
        if fork is not None:
            signer.is_convicted = True
            self.forks.append(fork)
            return
        contrary = self._contrary(signer)
        if contrary and not signer.is_suspected:
            signer.is_suspected = True
            text = f"{validator.name} co-signed a tree of {contrary[0].size} leaves that is not ours"
            evidence = suspicion([contrary[0].raw])
            self.forks.append(Fork(members=(validator.number,), text=text, evidence=evidence, convicts=False))

    def _convicting(self, signer: _Signer, validator: Member) -> Iterator[Fork]:
        for at, claim in enumerate(signer.claims):
            for other in signer.claims[:at]:
                if other.size == claim.size:
                    yield self._evidence(validator, claim, other)
        for claim in self._contrary(signer):
            true = signer.ours
            if true is None or true.size < claim.size:
                true = self._look_back(validator, claim.size)
            if true is not None and true.size >= claim.size:
                yield self._evidence(validator, claim, true)

    def _look_back(self, validator: Member, size: int) -> CosignMessage | None:
        """The member's own co-signature of our log at this size or a larger one, from the store."""
        application = self._application
        chain = application.chain
        first = chain.height_of_index(size - 1)
        for height in range(first, min(first + _LOOK_BACK_BLOCKS, chain.certified) + 1):
            for member, time_s, signature in chain.cosigns(height):
                if member != validator.number:
                    continue
                checkpoint = application.checkpoint(height)
                raw = encode_cosign(chain.chain_id, member, checkpoint, time_s, signature)
                try:  # it may be of a former key, or of the engine before this one
                    application.signatures.verify(
                        validator.cosign_key or b"", signature, cosignature_message(checkpoint, time_s)
                    )
                except VerificationError:
                    continue
                return decode_cosign(raw, chain.chain_id)
        return None

    def _evidence(self, validator: Member, one: CosignMessage, two: CosignMessage) -> Fork:
        application = self._application
        first, second = sorted((one, two), key=lambda each: (each.size, each.root))
        shown = None
        text = f"{validator.name} co-signed two different trees of {first.size} leaves"
        if first.size != second.size:
            shown = prove_other_beginning(application.chain.node, first.size, second.size)
            text = (
                f"{validator.name} co-signed a tree of {first.size} leaves, and one of {second.size} that does "
                "not begin with it"
            )
        name = cosigner_name(application.chain.genesis.network, validator.name)
        row = CosignedTwice(
            key=parse_vkey(vkey(name, COSIGNATURE_TYPE, validator.cosign_key or b"")),
            time_s=first.time_s,
            signature=first.signature,
            other_time_s=second.time_s,
            other_signature=second.signature,
        )
        trees = [
            Checkpoint(origin=application.origin, size=each.size, root=each.root) for each in (first, second)
        ]
        fork = CosignFork(first=trees[0], second=trees[1], contradiction=shown, signers=(row,))
        return Fork(members=(validator.number,), text=text, evidence=encode_fork(fork))

    # --- divergence ---------------------------------------------------------------------------

    def divergence(self) -> Divergence | None:
        """Set when more validators than can lie contradict our log; a validator counts once, for its smallest
        claim.
        """
        application = self._application
        against: dict[str, CosignMessage] = {}
        for number, validator in application.validators.items():
            signer = self._signers.get(number)
            if number == application.keys.member or signer is None or signer.key != validator.cosign_key:
                continue
            contrary = sorted(self._contrary(signer), key=lambda each: each.size)
            if contrary:
                against[validator.name] = contrary[0]
        if len(against) <= (len(application.validators) - 1) // 3:
            return None
        size = min(each.size for each in against.values())
        return Divergence(
            height=application.chain.height_of_index(size - 1),
            size=size,
            root=self.root_at(size),
            theirs={name: each.root for name, each in against.items()},
        )
