"""How the members change their own network: proposals, approvals, effect (docs/protocol.md §8).

Invariants:

* At most one proposal is *pending* (open, or accepted and not yet in force), so a change that could be
  carried out when it was proposed still can be when its turn comes.
* A change takes effect before the first transaction of the second block after the one that accepted it, and
  the header before that block already names the validators it will have.
* A conviction is accepted by its evidence, and no open proposal can stand in its way.
* A signing key comes on the ledger only with its own signature, and never twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from taxledger.ledger import canonical, crypto, limits, statekeys
from taxledger.ledger.conviction import (
    CONVICT,
    check_conviction,
    check_not_convicted,
    conviction_writes,
    is_conviction,
)
from taxledger.ledger.errors import FormatError, InputError, VerificationError
from taxledger.ledger.genesis import check_parameter
from taxledger.ledger.hashing import domain_hash, sha256
from taxledger.ledger.members import (
    Member,
    MemberStatus,
    StateReader,
    encode_member,
    member_entry,
    member_of,
    members_of,
    parse_entry,
)
from taxledger.ledger.schemas import decode_schema

__all__ = [
    "IN_FORCE_AFTER_BLOCKS",
    "LAPSE_AFTER_BLOCKS",
    "Proposal",
    "ProposalState",
    "change_writes",
    "changes_members",
    "check_change",
    "decode_proposal",
    "encode_proposal",
    "key_proof_message",
    "may_follow",
    "member_replace",
    "member_set",
    "parameter_set",
    "pending_proposal",
    "proposal_of",
    "schema_register",
    "superseded_writes",
    "turn_writes",
]

IN_FORCE_AFTER_BLOCKS = 2
LAPSE_AFTER_BLOCKS = 10_000
_VALIDATORS_MIN = 4
"""With fewer no liar is tolerated: no change may lead below it, but a smaller network may stay small."""

Change = Sequence[Any]


class ProposalState:
    """What ``Proposal.state`` may be."""

    OPEN = 1
    ACCEPTED = 2
    IN_FORCE = 3
    LAPSED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposed change as it stands in the state map.

    Attributes:
        id: first 16 bytes of the proposing transaction's id.
        change: the decoded array.
        proposer: member number.
        approvals: member numbers ascending, the proposer's among them.
        state: 1 open, 2 accepted, 3 in force, 4 lapsed.
        height: of the block in which it came into this state.
    """

    id: bytes
    change: list[Any]
    proposer: int
    approvals: tuple[int, ...]
    state: int
    height: int

    @property
    def is_pending(self) -> bool:
        return self.state in (ProposalState.OPEN, ProposalState.ACCEPTED)

    def is_due(self, height: int) -> bool:
        """It takes effect before the first transaction of block ``height``."""
        return self.state == ProposalState.ACCEPTED and height >= self.height + IN_FORCE_AFTER_BLOCKS


def encode_proposal(proposal: Proposal) -> bytes:
    """``[change, proposer, [approving members …], state, height]``."""
    approvals = list(proposal.approvals)
    return canonical.encode([proposal.change, proposal.proposer, approvals, proposal.state, proposal.height])


def decode_proposal(proposal_id: bytes, value: bytes) -> Proposal:
    """A proposal from its value in the state map.

    Raises:
        LimitError, EncodingError, FormatError: not the value of a proposal.
    """
    decoded = canonical.decode(value, bytes_max=2 * limits.leaf_bytes_max)
    if type(decoded) is not list or len(decoded) != 5 or type(decoded[0]) is not list:
        raise FormatError("expected a proposal [change, proposer, approvals, state, height]")
    change, proposer, approvals, state, height = decoded
    return Proposal(
        id=proposal_id,
        change=change,
        proposer=proposer,
        approvals=tuple(approvals),
        state=state,
        height=height,
    )


def proposal_of(state: StateReader, proposal_id: bytes) -> Proposal | None:
    """A proposal by its id, or None."""
    found = state.get(statekeys.proposal_key(proposal_id))
    return None if found is None else decode_proposal(proposal_id, found)


def pending_proposal(state: StateReader) -> Proposal | None:
    """The one that is open, or accepted and not yet in force."""
    for key, value in state.scan(b"\x0b"):
        proposal = decode_proposal(key[1:], value)
        if proposal.is_pending:
            return proposal
    return None


def changes_members(change: Change) -> bool:
    """Whether a change, once in force, may change who validates."""
    return change[0] in ("member.set", "member.replace", CONVICT)


# --- changes --------------------------------------------------------------------------------


def key_proof_message(chain_id: bytes, number: int) -> bytes:
    """What a new key signs: ``H("key_proof", chain_id ‖ u16be(number))``, 32 bytes."""
    return domain_hash("key_proof", chain_id + number.to_bytes(2, "big"))


def member_set(member: Member, chain_id: bytes, signers: Sequence[crypto.Signer]) -> list[Any]:
    """The change that adds a member or replaces its entry.

    Args:
        member: the new entry; its height is written as 0.
        chain_id: 16 bytes.
        signers: those of all keys that the present entry does not have in the same place.
    """
    message = key_proof_message(chain_id, member.number)
    proofs = sorted([signer.public_key, signer.sign(message)] for signer in signers)
    return ["member.set", member.number, member_entry(replace(member, height=0)), proofs]


def member_replace(
    former: int, member: Member, chain_id: bytes, signers: Sequence[crypto.Signer]
) -> list[Any]:
    """The change that removes a member and adds a new one at once, so that there are never too few in between.

    Args:
        former: number of the member that leaves.
        member, chain_id, signers: as of ``member_set``; the number is that of nobody yet.
    """
    return ["member.replace", former, *member_set(member, chain_id, signers)[1:]]


def parameter_set(name: str, value: int) -> list[Any]:
    """The change that sets a parameter of the network."""
    return ["parameter.set", name, value]


def schema_register(document: bytes) -> list[Any]:
    """The change that registers a schema document; a registered schema never changes."""
    return ["schema.register", document]


def check_change(change: Change, *, state: StateReader, chain_id: bytes) -> None:
    """Rule 17: returns when the change is well formed and could be carried out now.

    Raises:
        InputError, VerificationError: it is not, or could not.
    """
    match list(change):
        case ["member.set", number, entry, list(proofs)]:
            _check_member_set(parse_entry(number, entry), proofs, state, chain_id)
        case ["member.replace", former, number, entry, list(proofs)]:
            _check_member_replace(former, parse_entry(number, entry), proofs, state, chain_id)
        case ["parameter.set", name, value]:
            check_parameter(name, value)
        case [str(what), number, evidence] if what == CONVICT:
            check_conviction(number, evidence, state, chain_id)
        case ["schema.register", bytes(document)]:
            schema = decode_schema(document)
            if state.get(statekeys.schema_key(schema.kind, schema.number)) is not None:
                raise FormatError(f"schema {schema.number} of kind {schema.kind} is registered already")
        case _:
            raise FormatError(
                "expected a change member.set, member.replace, member.convict, parameter.set or "
                "schema.register"
            )


def _check_member_set(
    member: Member, proofs: list[Any], state: StateReader, chain_id: bytes, leaving: Member | None = None
) -> None:
    """``leaving`` is the member that goes with this change: its name and keys stay taken."""
    if member.height:
        raise FormatError("expected height 0 in a proposed entry")
    members = members_of(state)
    others = [each for each in members if each.number != member.number]
    _check_unlike_others(member, others)
    check_not_convicted(member, state)
    _check_key_proofs(member, proofs, member_of(state, member.number), chain_id)
    if len(others) + 1 > limits.members_max:
        raise FormatError(f"expected at most {limits.members_max} members")
    now = sum(each.is_validator for each in members)
    then = sum(each.is_validator for each in others if each != leaving) + member.is_validator
    least = max(1, min(now, _VALIDATORS_MIN))
    if not least <= then <= limits.validators_max:
        raise FormatError(
            f"expected {least} to {limits.validators_max} validators after the change, got {then}"
        )


def _check_member_replace(
    former: Any, member: Member, proofs: list[Any], state: StateReader, chain_id: bytes
) -> None:
    leaving = member_of(state, former)
    if leaving is None or leaving.status == MemberStatus.REMOVED:
        raise FormatError("expected the number of a member that is not removed, to be replaced")
    if member_of(state, member.number) is not None:
        raise FormatError(f"expected a number that no member has or had, got {member.number}")
    if not member.is_active:
        raise FormatError("expected an active member in the place of the one that leaves")
    _check_member_set(member, proofs, state, chain_id, leaving)


def _check_unlike_others(member: Member, others: Sequence[Member]) -> None:
    if member.name in [each.name for each in others]:
        raise FormatError(f"the name {member.name} is another member's")
    taken = {key for each in others for _purpose, key in each.signing_keys()}
    for purpose, key in member.signing_keys():
        if key in taken:
            raise FormatError(f"the {purpose} is another member's key")


def _check_key_proofs(member: Member, proofs: list[Any], present: Member | None, chain_id: bytes) -> None:
    """Exactly the keys that the present entry has not in the same place, ascending, each signed by itself."""
    known = present.signing_keys() if present else ()
    new = sorted(key for purpose, key in member.signing_keys() if (purpose, key) not in known)
    if any(type(pair) is not list or len(pair) != 2 for pair in proofs) or [p[0] for p in proofs] != new:
        raise FormatError("expected [key, signature] for exactly the new keys, ascending")
    message = key_proof_message(chain_id, member.number)
    for key, signature in proofs:
        if type(signature) is not bytes or len(signature) != 64:
            raise FormatError("expected a signature of 64 bytes in a key proof")
        crypto.verify_signature(key, signature, message)


def is_change_valid(change: Change, *, state: StateReader, chain_id: bytes) -> bool:
    """``check_change`` as a rule asks it."""
    try:
        check_change(change, state=state, chain_id=chain_id)
    except (InputError, VerificationError):
        return False
    return True


def change_writes(change: Change, height: int, state: StateReader) -> dict[bytes, bytes]:
    """What a checked change writes when it takes effect in block ``height``, the next after ``state``."""
    match list(change):
        case ["member.set", number, entry, _]:
            member = replace(parse_entry(number, entry), height=height)
            return {statekeys.member_key(number): encode_member(member)}
        case ["member.replace", former, number, entry, _]:
            member = replace(parse_entry(number, entry), height=height)
            leaving = member_of(state, former)
            writes = {statekeys.member_key(number): encode_member(member)}
            if leaving is not None:  # it was checked, and members never go
                removed = replace(leaving, status=MemberStatus.REMOVED, height=height)
                writes[statekeys.member_key(former)] = encode_member(removed)
            return writes
        case [str(what), number, evidence] if what == CONVICT:
            return conviction_writes(number, evidence, height, state)
        case ["parameter.set", name, value]:
            return {statekeys.parameter_key(name): canonical.encode([value, height])}
        case ["schema.register", document]:
            schema = decode_schema(document)
            key = statekeys.schema_key(schema.kind, schema.number)
            return {key: canonical.encode([sha256(document), height])}
        case _:
            raise FormatError("expected a change that was checked")


def may_follow(change: Change, pending: Proposal | None) -> bool:
    """Rule 18: nothing is pending; for a conviction, nothing that is accepted."""
    return pending is None or (is_conviction(change) and pending.state == ProposalState.OPEN)


def superseded_writes(pending: Proposal | None, height: int) -> dict[bytes, bytes]:
    """An open proposal lapses where a conviction comes: or the convicted could keep one open for ever."""
    if pending is None:
        return {}
    lapsed = replace(pending, state=ProposalState.LAPSED, height=height)
    return {statekeys.proposal_key(pending.id): encode_proposal(lapsed)}


def turn_writes(pending: Proposal | None, height: int, state: StateReader) -> dict[bytes, bytes]:
    """What happens first in block ``height``: a change takes effect, or a proposal lapses."""
    if pending is None:
        return {}
    key = statekeys.proposal_key(pending.id)
    if pending.is_due(height):
        in_force = replace(pending, state=ProposalState.IN_FORCE, height=height)
        return {key: encode_proposal(in_force), **change_writes(pending.change, height, state)}
    if pending.state == ProposalState.OPEN and height >= pending.height + LAPSE_AFTER_BLOCKS:
        return {key: encode_proposal(replace(pending, state=ProposalState.LAPSED, height=height))}
    return {}
