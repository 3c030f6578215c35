"""Bringing the present members to one tip: what may be decided is kept, and what is decided is certified.

The starting point of a new engine is the newest block that a quorum decided at *any* present home. For the height
after it, the journals say who voted for what:

* a header that a quorum can still be had for is decided now, with votes of those present that gave none;
* one that may have been decided with the absent (its votes and as many as are absent make a quorum), but can't be
  completed by those present, stops the handover: an absent home may hold the decision;
* anything else can't have been decided, and never will be: those present are a quorum, each of them leaves its engine
  for good. It is dropped; its transactions had no effect and may be submitted again.

At most one header is of the second kind: two of them would need twice q of N votes and the absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from taxledger.ledger import limits
from taxledger.ledger.chain import Vote
from taxledger.ledger.errors import FormatError, InputError, RefusedError, UnavailableError
from taxledger.nodes.handover.party import Party
from taxledger.nodes.ordering.embedded.messages import DecidedBlock

__all__ = ["level", "level_to"]


def level(parties: Sequence[Party]) -> None:
    """All parties at the newest block that is or may be decided, and all of it certified.

    Safe to repeat, and to stop anywhere: every step is one that a running node takes.

    Raises:
        InputError: too few validators are present, or an absent one may hold a decision.
        UnavailableError: a block is not certified by those present.
    """
    _check_present(parties)
    while True:
        _spread(parties)
        if not _complete(parties):
            break
    _check_certified(parties)


def level_to(party: Party, source: Party, height: int) -> None:
    """Bring one that was away to the block after which the others handed over.

    Raises:
        InputError: it has decided more than they knew.
        RefusedError, VerificationError, UnavailableError: its blocks are not those of the source, or not certified.
    """
    if party.chain.tip.height > height:
        raise InputError(
            f"{party.name} has block {party.chain.tip.height}, the others handed over after {height} without it: "
            "join anew (docs/operating.md)"
        )
    for each in range(max(1, party.chain.certified + 1), height + 1):
        block = source.block(each)
        if each > party.chain.tip.height:
            party.take(block)
        party.receive(block.cosigns)
    if height and party.chain.header_hash(height) != source.chain.header_hash(height):
        raise RefusedError("diverged", f"{party.name} has another block {height} than {source.name}")
    _check_certified([party])


def _check_present(parties: Sequence[Party]) -> None:
    newest = max(parties, key=lambda each: each.chain.tip.height).application
    present = [each.name for each in parties if each.application.can_vote]
    if len(present) < newest.quorum:
        raise InputError(
            f"expected the homes of {newest.quorum} validators at least, each with its signing journals, got "
            f"{len(present)} ({', '.join(present) or 'none'}): fewer can't know what was decided"
        )


def _spread(parties: Sequence[Party]) -> None:
    """Every block that one of them has, to all; then every co-signature."""
    newest = max(parties, key=lambda each: each.chain.tip.height)
    for party in parties:
        for height in range(party.chain.tip.height + 1, newest.chain.tip.height + 1):
            party.take(newest.block(height))
            _exchange(parties, party)
    tip = newest.chain.tip
    for party in parties:
        if party.chain.tip.header_hash != tip.header_hash:
            raise RefusedError(
                "diverged", f"{party.name} and {newest.name} decided different blocks {tip.height}: a fork"
            )
    for party in parties:
        _exchange(parties, party)


def _exchange(parties: Sequence[Party], party: Party) -> None:
    for other in parties:
        while True:
            before = party.chain.certified
            last = min(other.chain.tip.height, before + limits.uncertified_blocks_max)
            for height in range(before + 1, last + 1):
                party.receive(other.block(height).cosigns)
                party.receive(other.certification.messages(height))
            if party.chain.certified == before:
                break


def _complete(parties: Sequence[Party]) -> bool:
    """Decide what can be decided for the next height; whether there was such a block."""
    application = parties[0].application
    height, needed = application.chain.tip.height + 1, application.quorum
    voters = [each for each in parties if each.application.can_vote]
    # A home without its vote journal is as good as absent: nobody knows what it voted for.
    absent = len(application.validators) - len(voters)
    votes = {each.number: each.chain.voted(height) for each in voters}
    support = Counter(vote.header_hash for vote in votes.values() if vote is not None)
    free = sum(vote is None for vote in votes.values())
    for header_hash, count in support.most_common():
        vote = next(each for each in votes.values() if each is not None and each.header_hash == header_hash)
        reason = "its votes are split"
        if count + free >= needed:
            reason = _decide(parties, voters, vote, needed)
            if not reason:
                return True
        if count + absent >= needed:
            missing = sorted(
                each.name
                for number, each in application.validators.items()
                if number not in {voter.number for voter in voters}
            )
            raise InputError(
                f"block {height} may be decided ({count} of {needed} votes lie here), and can't be completed: "
                f"{reason}; it takes the home of {' or '.join(missing) or 'nobody else'}"
            )
    return False


def _decide(parties: Sequence[Party], voters: Sequence[Party], vote: Vote, needed: int) -> str:
    """Complete a block; why it can't be, or nothing."""
    signatures = []
    for party in voters:
        application = party.application
        voted = party.chain.voted(vote.height)
        if voted is not None and voted.header_hash != vote.header_hash:
            continue
        if voted is None and vote.time_ms > application.now_ms() + limits.proposal_ahead_ms_max:
            return "its time is more than 10 s ahead of this machine's clock"
        try:
            executed = application.deliver(vote.time_ms, vote.transactions)
        except FormatError as error:
            return f"its batch is none: {error}"
        if executed.tip.header_hash != vote.header_hash:
            return "its batch gives another header"  # a liar's journal: no honest vote is ever given for it
        signatures.append((party.number, application.vote(executed, vote.transactions)))
    if len(signatures) < needed:
        return f"{len(signatures)} votes"
    block = DecidedBlock(
        height=vote.height,
        time_ms=vote.time_ms,
        transactions=vote.transactions,
        header_hash=vote.header_hash,
        votes=tuple(sorted(signatures)),
        cosigns=(),
    )
    for party in parties:
        party.take(block)
    return ""


def _check_certified(parties: Sequence[Party]) -> None:
    for party in parties:
        chain = party.chain
        if chain.certified < chain.tip.height:
            raise UnavailableError(
                f"block {chain.certified + 1} lacks co-signatures at {party.name}: those present give too few"
            )
