"""A stopped member's ledger, opened to be handed over: blocks and co-signatures go from one to another, verified as
a running node verifies them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import InputError, VerificationError
from taxledger.nodes.application import Application, encode_cosign
from taxledger.nodes.certification import Certification
from taxledger.nodes.ordering.embedded.messages import DecidedBlock
from taxledger.nodes.ordering.embedded.taking import execute_decided

__all__ = ["Party"]


class Party:
    """One member with its ledger and keys; nothing else writes its store meanwhile."""

    def __init__(self, name: str, application: Application) -> None:
        self.name = name
        self.application = application
        self.certification = Certification(application)

    @property
    def chain(self) -> Chain:
        return self.application.chain

    @property
    def number(self) -> int:
        return self.application.keys.member

    def block(self, height: int) -> DecidedBlock:
        """A decided block with its votes, and what co-signatures of it lie here, under the origin of its engine."""
        stored = self.chain.block(height)
        checkpoint = self.application.checkpoint(height)
        cosigns = tuple(
            encode_cosign(self.chain.chain_id, member, checkpoint, time_s, signature)
            for member, time_s, signature in stored.cosigns
        )
        if not cosigns:
            cosigns = tuple(self.certification.messages(height))
        return DecidedBlock(
            height=height,
            time_ms=self.chain.header(height).time_ms,
            transactions=stored.transactions,
            header_hash=self.chain.header_hash(height),
            votes=stored.votes,
            cosigns=cosigns,
        )

    def take(self, block: DecidedBlock) -> None:
        """Commit the next block, as a follower does.

        Raises:
            RefusedError, VerificationError: a quorum did not decide it, or it gives another header here.
        """
        executed = execute_decided(self.application, block)
        own = self.application.commit(executed, block.votes)
        self.certification.committed(executed, own)
        self.receive(block.cosigns)

    def receive(self, cosigns: Iterable[bytes]) -> None:
        """Count what verifies; the rest is as good as not there."""
        for raw in cosigns:
            with contextlib.suppress(InputError, VerificationError):
                self.certification.receive(raw)
        self.certification.advance()
