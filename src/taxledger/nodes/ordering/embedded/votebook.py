"""The votes one validator has seen for the next height: tells when no decision can come, and who voted
twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from taxledger.ledger.errors import VerificationError
from taxledger.ledger.forkformat import VoteFork, encode_fork
from taxledger.nodes.application import Application
from taxledger.nodes.forks.contradictions import Fork, suspicion
from taxledger.nodes.ordering.embedded.messages import SignedVote

__all__ = ["VoteBook"]


class VoteBook:
    """Verified votes of one height, by member and header. Lives on the ledger thread.

    Attributes:
        forks: evidence found so far, of all heights.
    """

    def __init__(self, application: Application) -> None:
        self.forks: list[Fork] = []
        self._application = application
        self._height = 0
        self._votes: dict[int, dict[bytes, bytes]] = {}

    def add(self, vote: SignedVote) -> None:
        """Note a vote for the height after the tip; others are of no interest.

        Raises:
            VerificationError: not signed by that validator.
        """
        height = self._application.chain.tip.height + 1
        if self._height != height:
            self._height, self._votes = height, {}
        if vote.height != height or vote.header_hash in self._votes.get(vote.member, {}):
            return
        if len(self._votes.get(vote.member, {})) >= 2:
            return  # two already convict; more would only fill memory
        self._application.verify_vote(vote.member, height, vote.header_hash, vote.signature)
        self._votes.setdefault(vote.member, {})[vote.header_hash] = vote.signature

    def offer(self, votes: Iterable[SignedVote]) -> None:
        """``add`` for votes of others, where a false one is ignored; then look for contradictions."""
        for vote in votes:
            with contextlib.suppress(VerificationError):
                self.add(vote)
        # Who votes twice at every height is convicted once; what stops all writes is always named.
        for fork in self._found():
            same = [
                each for each in self.forks if (each.members, each.convicts) == (fork.members, fork.convicts)
            ]
            if not same or (self.stuck() and all(each.text != fork.text for each in same)):
                self.forks.append(fork)

    def votes(self) -> list[SignedVote]:
        """All votes noted for the present height, by member and header."""
        if self._height != self._application.chain.tip.height + 1:
            return []
        return [
            SignedVote(member=member, height=self._height, header_hash=header_hash, signature=signature)
            for member, signed in sorted(self._votes.items())
            for header_hash, signature in sorted(signed.items())
        ]

    def decision(self, header_hash: bytes) -> list[tuple[int, bytes]] | None:
        """A quorum of votes for this header, ascending, or None."""
        found = [(vote.member, vote.signature) for vote in self.votes() if vote.header_hash == header_hash]
        return found if len(found) >= self._application.quorum else None

    def stuck(self) -> bool:
        """Whether no header can reach a quorum any more, even if everybody who is silent voted for one."""
        by_header: dict[bytes, int] = {}
        voters = set()
        for vote in self.votes():
            by_header[vote.header_hash] = by_header.get(vote.header_hash, 0) + 1
            voters.add(vote.member)
        silent = len(self._application.validators) - len(voters)
        return max(by_header.values(), default=0) + silent < self._application.quorum

    def _found(self) -> list[Fork]:
        """A suspicion where no header can reach a quorum any more, and evidence against each that voted for two."""
        votes = self.votes()
        by_header: dict[bytes, list[int]] = {}
        for vote in votes:
            by_header.setdefault(vote.header_hash, []).append(vote.member)
        if len(by_header) < 2:
            return []
        voters = {vote.member for vote in votes}
        twice = sorted(member for member in voters if len(self._votes[member]) > 1)
        names = {number: member.name for number, member in self._application.validators.items()}
        sides = " | ".join(_named(members, names) for _, members in sorted(by_header.items()))
        text = f"votes for height {self._height} are split: {sides}"
        if twice:
            text += f"; voted for two headers: {_named(twice, names)}"
        found = []
        if self.stuck():
            evidence = suspicion([self._statement(vote) for vote in votes])
            found.append(Fork(members=tuple(sorted(voters)), text=text, evidence=evidence, convicts=False))
        return [*found, *(self._twice(member, text) for member in twice)]

    def _statement(self, vote: SignedVote) -> list[object]:
        chain_id = self._application.chain.chain_id
        return [1, "vote", chain_id, vote.member, vote.height, vote.header_hash, vote.signature]

    def _twice(self, member: int, text: str) -> Fork:
        """Evidence as the ledger takes it; for others the node adds whose key it is."""
        one, two = sorted(self._votes[member].items())[:2]
        fork = VoteFork(
            chain_id=self._application.chain.chain_id,
            height=self._height,
            member=member,
            vote_key=self._application.validators[member].vote_key or b"",
            votes=(one, two),
        )
        return Fork(members=(member,), text=text, evidence=encode_fork(fork))


def _named(members: list[int], names: Mapping[int, str]) -> str:
    return ", ".join(names.get(member, str(member)) for member in members)
