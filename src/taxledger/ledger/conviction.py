"""Conviction: fork evidence on the ledger suspends the member it names (docs/protocol.md §8, docs/decisions).

The change ``["member.convict", number, evidence]`` needs no approvals: every validator verifies the evidence
itself, and what is proved is not voted on. Convicted keys are remembered for good, so that the member can only
come back with new ones, by an ordinary proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.errors import FormatError
from taxledger.ledger.fork import verify_fork_of
from taxledger.ledger.hashing import sha256
from taxledger.ledger.members import (
    Member,
    MemberStatus,
    StateReader,
    encode_member,
    member_of,
    validators_of,
)

__all__ = [
    "CONVICT",
    "check_conviction",
    "check_not_convicted",
    "conviction_writes",
    "is_conviction",
    "member_convict",
]

CONVICT = "member.convict"


def member_convict(number: int, evidence: bytes) -> list[Any]:
    """The change that suspends a member for what evidence shows; see ``fork.narrow_fork``."""
    return [CONVICT, number, evidence]


def is_conviction(change: Sequence[Any]) -> bool:
    """Whether a decoded change is one by evidence."""
    return bool(change) and change[0] == CONVICT


def _keys(member: Member) -> list[bytes]:
    """What a convicted member may not use again: both keys lay in one place, and one of them was misused."""
    return [key for key in (member.vote_key, member.cosign_key) if key is not None]


def check_conviction(number: Any, evidence: Any, state: StateReader, chain_id: bytes) -> None:
    """Returns when a validator of now is convicted by the keys that it has now.

    There is no least number of validators but one: a liar that stays counts for no more than a seat that is
    empty, and taking it out never makes a quorum easier for those that lie (docs/decisions/0034).

    Raises:
        FormatError: no validator, or the only one.
        VerificationError: the evidence does not convict it.
    """
    if type(evidence) is not bytes:
        raise FormatError("expected evidence as bytes")
    member = member_of(state, number)
    if member is None or not member.is_validator:
        raise FormatError("expected the number of an active validator")
    if len(validators_of(state)) == 1:
        raise FormatError("expected at least one validator after the change")
    verify_fork_of(evidence, member, chain_id)


def conviction_writes(number: int, evidence: bytes, height: int, state: StateReader) -> dict[bytes, bytes]:
    """What a checked conviction writes when it takes effect: the member suspended, its keys marked."""
    member = member_of(state, number)
    if member is None:  # checked when it was proposed, and one change at a time
        return {}
    suspended = replace(member, status=MemberStatus.SUSPENDED, height=height)
    mark = canonical.encode([number, sha256(evidence), height])
    return {
        statekeys.member_key(number): encode_member(suspended),
        **{statekeys.conviction_key(key): mark for key in _keys(member)},
    }


def check_not_convicted(member: Member, state: StateReader) -> None:
    """An active entry has no key that was convicted, whoever's it was.

    Raises:
        FormatError: it has one.
    """
    if not member.is_active:
        return
    for purpose, key in member.signing_keys():
        if state.get(statekeys.conviction_key(key)) is not None:
            raise FormatError(f"the {purpose} was convicted by fork evidence: expected a new one")
