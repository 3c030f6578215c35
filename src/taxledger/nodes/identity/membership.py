"""Changes of members as their operators make them: the next key is made, then the change that names it.

Nothing here is sent: a change goes to the ledger in a transaction of a validator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.governance import (
    Proposal,
    ProposalState,
    decode_proposal,
    member_set,
)
from taxledger.ledger.members import Member, MemberRole, MemberStatus, decode_member, parse_entry
from taxledger.nodes.home import Home
from taxledger.nodes.identity.certificates import TlsIdentity
from taxledger.nodes.identity.memberkeys import next_key, public_half

__all__ = [
    "PROPOSAL_STATE_NAMES",
    "ROLE_NAMES",
    "ROTATABLE",
    "STATUS_NAMES",
    "Membership",
    "decode_proposal_file",
    "encode_proposal_file",
    "member_named",
    "membership_of",
    "proposal_text",
    "rotate",
    "set_status",
    "what_changes",
]

VALIDATOR_KEYS = ("vote", "log", "cosign")
ROTATABLE = ("transaction", "hpke", "tls", *VALIDATOR_KEYS)
STATUS_NAMES = {
    MemberStatus.ACTIVE: "active",
    MemberStatus.SUSPENDED: "suspended",
    MemberStatus.REMOVED: "removed",
}
ROLE_NAMES = {MemberRole.VALIDATOR: "validator", MemberRole.OBSERVER: "observer", MemberRole.CLIENT: "client"}
PROPOSAL_STATE_NAMES = {
    ProposalState.OPEN: "open",
    ProposalState.ACCEPTED: "accepted",
    ProposalState.IN_FORCE: "in force",
    ProposalState.LAPSED: "lapsed",
}
_FILE_BYTES_MAX = 4 * limits.leaf_bytes_max


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The members and their proposals in one verified state, ascending by number and by height."""

    members: tuple[Member, ...]
    proposals: tuple[Proposal, ...]

    @property
    def pending(self) -> Proposal | None:
        """The one that is open, or accepted and not yet in force."""
        return next((each for each in self.proposals if each.is_pending), None)


def membership_of(
    members: Iterable[tuple[bytes, bytes]], proposals: Iterable[tuple[bytes, bytes]]
) -> Membership:
    """From the pairs of the state map below ``06`` and ``0b``. Raises FormatError, EncodingError."""
    found = [decode_proposal(key[1:], value) for key, value in proposals]
    return Membership(
        members=tuple(decode_member(int.from_bytes(key[1:], "big"), value) for key, value in members),
        proposals=tuple(sorted(found, key=lambda each: (each.height, each.id))),
    )


def member_named(members: Sequence[Member], name: str) -> Member:
    """Raises InputError when there is none of that name."""
    for member in members:
        if member.name == name:
            return member
    raise InputError(f"expected a member of {', '.join(each.name for each in members)}, got {name!r}")


# --- changes ------------------------------------------------------------------------------------


def rotate(home: Home, member: Member, key: str, *, chain_id: bytes, identity: TlsIdentity) -> list[Any]:
    """The change that gives this home's member another key. The new private key is durable before.

    Asked again before the change is in force, it names the same new key.

    Args:
        home: of the member.
        member: its present entry.
        key: ``transaction``, ``hpke`` or ``tls``; of a validator also ``vote``, ``log`` or ``cosign``.
        chain_id: 16 bytes.
        identity: the home's TLS authorities.

    Raises:
        InputError: another key, or the member can't have it rotated.
        UnavailableError: the home can't be written.
    """
    if key not in ROTATABLE:
        raise InputError(f"expected --key {'|'.join(ROTATABLE)}, got {key!r}")
    if key in VALIDATOR_KEYS and member.role != MemberRole.VALIDATOR:
        raise InputError(f"expected a validator's home for --key {key}: {member.name} is none")
    if key == "tls":
        return member_set(replace(member, tls_ca_hash=_next_authority(identity, member)), chain_id, [])
    private = next_key(home, key)
    if key == "hpke":
        return member_set(replace(member, hpke_key=public_half(key, private)), chain_id, [])
    signer = Signer(private)
    entry = replace(member, **{f"{key}_key": signer.public_key})  # type: ignore[arg-type]
    return member_set(entry, chain_id, [signer])


def _next_authority(identity: TlsIdentity, member: Member) -> bytes:
    """The newest authority that never was on the ledger, else a new one."""
    folders = identity.folders()
    newest = max(folders, key=lambda each: each.validity.begin_s, default=None)
    present = next((each for each in folders if each.hash == member.tls_ca_hash), None)
    if newest is not None and present is not None and newest.validity.begin_s > present.validity.begin_s:
        return newest.hash
    return identity.create().hash


def set_status(member: Member, status: int, *, chain_id: bytes) -> list[Any]:
    """The change that suspends, removes or activates a member. Raises InputError when it is so already."""
    if member.status == status:
        raise InputError(f"{member.name} is {STATUS_NAMES[status]} already")
    return member_set(replace(member, status=status), chain_id, [])


def what_changes(change: Sequence[Any], members: Sequence[Member]) -> str:
    """One line for those who are asked to approve: computed from the change itself."""
    match list(change):
        case ["member.set", number, entry, _]:
            member = parse_entry(number, entry)
            before = next((each for each in members if each.number == number), None)
            if before is None:
                return f"add {member.name} as member {number}, {ROLE_NAMES[member.role]}"
            parts = [
                f"{name} {_shown(name, getattr(before, name))} → {_shown(name, getattr(member, name))}"
                for name in Member.__slots__
                if name not in ("number", "height") and getattr(before, name) != getattr(member, name)
            ]
            return f"{before.name}: {'; '.join(parts) or 'nothing changes'}"
        case ["member.replace", former, number, entry, _]:
            leaving = next((each.name for each in members if each.number == former), f"member {former}")
            member = parse_entry(number, entry)
            return f"remove {leaving}, and add {member.name} as member {number}, {ROLE_NAMES[member.role]}"
        case ["member.convict", number, _]:
            before = next((each for each in members if each.number == number), None)
            return f"suspend {before.name if before else f'member {number}'}: convicted by fork evidence"
        case ["parameter.set", name, value]:
            return f"parameter {name} = {value}"
        case ["schema.register", _]:
            return "register a schema"
        case _:
            return "unknown change"


def proposal_text(proposal: Proposal, members: Sequence[Member]) -> str:
    """``what_changes``, also for one that is in force: then there is nothing to compare it with any more."""
    change = proposal.change
    if proposal.is_pending or change[0] not in ("member.set", "member.replace"):
        return what_changes(change, members)
    if change[0] == "member.replace":
        leaving = next((each.name for each in members if each.number == change[1]), f"member {change[1]}")
        return f"{change[3][1]} in the place of {leaving}"
    return f"the entry of {change[2][1]}"


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        return f"{value.hex()[:16]}…"
    if name == "status":
        return STATUS_NAMES[value]
    return ROLE_NAMES[value] if name == "role" else str(value)


# --- proposal files -----------------------------------------------------------------------------


def encode_proposal_file(change: Sequence[Any], *, chain_id: bytes, text: str, reason: str) -> bytes:
    """A change for a validator to propose: JSON; ``what`` and ``reason`` are for people."""
    document = {
        "what": text,
        "reason": reason,
        "chain_id": chain_id.hex(),
        "change": canonical.encode(list(change)).hex(),
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def decode_proposal_file(data: bytes, *, chain_id: bytes) -> list[Any]:
    """The change of a proposal file.

    Raises:
        FormatError: no proposal file, or one of another ledger.
    """
    try:
        document = json.loads(data)
        change = canonical.decode(bytes.fromhex(document["change"]), bytes_max=_FILE_BYTES_MAX)
        other = bytes.fromhex(document["chain_id"])
    except (ValueError, KeyError, TypeError, InputError) as error:
        raise FormatError('expected a proposal file: JSON with "chain_id" and "change"') from error
    if other != chain_id:
        raise FormatError(f"expected a proposal of ledger {chain_id.hex()}, got one of {other.hex()}")
    if type(change) is not list:
        raise FormatError("expected the change as an array")
    return change
