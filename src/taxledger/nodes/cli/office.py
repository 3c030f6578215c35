"""A member's home with its node, as the commands that change the network use it: what is in force, how it is proposed.

What is shown comes from the verified state of the home's own node. A change is a proposal that a quorum of validators
approves; it is in force two blocks later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxledger.ledger.errors import InputError, RefusedError, UnavailableError, VerificationError
from taxledger.nodes.cli.output import connect, note, open_home, say, write_file

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.api.reader import Receipt
    from taxledger.ledger.governance import Proposal
    from taxledger.ledger.members import Member
    from taxledger.nodes.home import Home
    from taxledger.nodes.identity.membership import Membership

__all__ = ["Office", "open_office", "propose_change", "propose_or_write", "read_membership", "say_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """A home with its node, for one command."""

    home: Home
    client: Client
    chain_id: bytes
    now: Membership

    @property
    def own(self) -> Member:
        number = self.home.config.number
        for member in self.now.members:
            if member.number == number:
                return member
        raise InputError(f"{self.home.config.name} is not on this ledger")

    def submit(self, payload: bytes) -> Receipt:
        """Sign with the key that is in force, submit, wait until it is certified. Raises RefusedError by rule."""
        from taxledger.ledger.limits import transaction_lifetime_s_max
        from taxledger.ledger.rules import RESULT_NAMES
        from taxledger.ledger.transaction import sign_transaction
        from taxledger.nodes.identity.memberkeys import KeyInForce

        iat_s = int(time.time())
        raw = sign_transaction(
            KeyInForce(self.home, lambda: self.own.transaction_key).present(),
            member=self.own.number,
            chain_id=self.chain_id,
            iat_s=iat_s,
            exp_s=iat_s + transaction_lifetime_s_max,
            payload=payload,
        )
        receipt = self.client.submit(raw)
        if receipt.state != "certified":
            raise UnavailableError("the transaction is accepted, but not certified yet: see member proposals")
        if receipt.code:
            name = RESULT_NAMES.get(receipt.code, str(receipt.code))
            raise RefusedError(name, f"the ledger refused it: {name}")
        return receipt


@contextmanager
def open_office(path: Path) -> Iterator[Office]:
    from taxledger.ledger.genesis import chain_id

    home = open_home(path)
    with connect(home) as client:
        yield Office(home=home, client=client, chain_id=chain_id(home.genesis()), now=read_membership(client))


def read_membership(client: Client) -> Membership:
    from taxledger.nodes.identity.membership import membership_of

    entries = client.state(b"\x06", b"\x0b").entries
    return membership_of(entries[b"\x06"], entries[b"\x0b"])


def _check_none_pending(office: Office, change: Sequence[Any]) -> Proposal | None:
    """The pending proposal where it is this very change; raises RefusedError where it is another."""
    pending = office.now.pending
    if pending is None:
        return None
    if pending.change == list(change):
        return pending
    raise RefusedError("change_pending", f"proposal {pending.id.hex()} is pending: one change at a time")


def propose_change(office: Office, change: Sequence[Any]) -> None:
    from taxledger.ledger.operations import encode_propose
    from taxledger.nodes.identity.membership import what_changes

    say(what_changes(change, office.now.members))
    known = _check_none_pending(office, change)
    proposal_id = known.id if known is not None else office.submit(encode_propose(change)).id[:16]
    say(f"proposal {proposal_id.hex()}")
    say_state(office, proposal_id)


def say_state(office: Office, proposal_id: bytes) -> None:
    from taxledger.ledger.governance import IN_FORCE_AFTER_BLOCKS, ProposalState
    from taxledger.ledger.policy import quorum

    try:
        now = read_membership(office.client)
    except VerificationError as error:
        if error.code != "policy_outdated":
            raise
        say("accepted: the set of validators changes with it")
        note(f"follow it: taxledger policy update --home {office.home.path}")
        return
    proposal = next((each for each in now.proposals if each.id == proposal_id), None)
    if proposal is None:
        return
    if proposal.state == ProposalState.OPEN:
        needed = quorum(sum(each.is_validator for each in now.members))
        say(f"open: approved by {len(proposal.approvals)} of the {needed} validators it needs")
        note(f"each other validator: taxledger member approve --home DIR {proposal_id.hex()}")
    elif proposal.state == ProposalState.ACCEPTED:
        say(f"accepted, in force from block {proposal.height + IN_FORCE_AFTER_BLOCKS} on")
    elif proposal.state == ProposalState.IN_FORCE:
        say(f"in force since block {proposal.height}")


def propose_or_write(office: Office, change: Sequence[Any], output: Path | None, reason: str) -> None:
    """A validator proposes; for anyone else the proposal becomes a file that a validator proposes."""
    from taxledger.nodes.identity.membership import encode_proposal_file, what_changes

    if office.own.is_validator and output is None:
        propose_change(office, change)
        return
    text = what_changes(change, office.now.members)
    path = output or office.home.path / "proposal.json"
    write_file(path, encode_proposal_file(change, chain_id=office.chain_id, text=text, reason=reason))
    say(text)
    say(f"written to {path}")
    note(f"a validator proposes it: taxledger member propose --home DIR {path}")
