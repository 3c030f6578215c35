"""``taxledger member``: who is on the ledger, and how its members change that.

What is shown comes from the verified state of the home's own node. A change is a proposal that a quorum of validators
approves; it is in force two blocks later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError, RefusedError, UnavailableError
from taxledger.nodes.cli.ceremony import enter, init, prove
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    connect,
    note,
    open_home,
    print_json,
    print_table,
    read_file,
    say,
    write_file,
)

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.api.reader import Receipt
    from taxledger.ledger.governance import Proposal
    from taxledger.ledger.members import Member
    from taxledger.nodes.home import Home
    from taxledger.nodes.membership import Membership

__all__ = ["register"]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The member's name.")]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to write the proposal.", show_default=False),
]
_FILE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Office:
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
        from taxledger.nodes.memberkeys import KeyInForce

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
def _office(path: Path) -> Iterator[_Office]:
    from taxledger.ledger.genesis import chain_id

    home = open_home(path)
    with connect(home) as client:
        yield _Office(home=home, client=client, chain_id=chain_id(home.genesis()), now=_membership(client))


def _membership(client: Client) -> Membership:
    from taxledger.nodes.membership import membership_of

    entries = client.state(b"\x06", b"\x0b").entries
    return membership_of(entries[b"\x06"], entries[b"\x0b"])


# --- show ----------------------------------------------------------------------------------------


def _as_json(member: Member) -> dict[str, Any]:
    from taxledger.nodes.membership import ROLE_NAMES, STATUS_NAMES

    return {
        "number": member.number,
        "name": member.name,
        "status": STATUS_NAMES[member.status],
        "role": ROLE_NAMES[member.role],
        "kinds": member.kinds,
        "transaction_key": member.transaction_key,
        "vote_key": member.vote_key,
        "log_key": member.log_key,
        "cosign_key": member.cosign_key,
        "tls_ca_hash": member.tls_ca_hash,
        "hpke_key": member.hpke_key,
        "height": member.height,
    }


def list_members(home: HomeOption, as_json: JsonOption = False) -> None:
    """All members, whatever their status.

    Example: taxledger member list --home net/bank1
    """
    with _office(home) as office:
        facts = [_as_json(each) for each in office.now.members]
    if as_json:
        print_json(facts)
        return
    columns = ("number", "name", "role", "status", "height")
    print_table(columns, [[each[column] for column in columns] for each in facts], right=(0, 4))


def show(home: HomeOption, name: NameArgument, as_json: JsonOption = False) -> None:
    """One member's entry: its status and public keys.

    Example: taxledger member show --home net/bank1 tax
    """
    from taxledger.nodes.membership import member_named

    with _office(home) as office:
        facts = _as_json(member_named(office.now.members, name))
    if as_json:
        print_json(facts)
        return
    for what, value in facts.items():
        shown = value.hex() if isinstance(value, bytes) else "-" if value is None else value
        say(f"{what:<16} {', '.join(map(str, shown)) if isinstance(shown, tuple) else shown}")


def proposals(home: HomeOption, as_json: JsonOption = False) -> None:
    """All proposals, the pending one last.

    Example: taxledger member proposals --home net/bank1
    """
    with _office(home) as office:
        facts = [_proposal_facts(each, office.now) for each in office.now.proposals]
    if as_json:
        print_json(facts)
        return
    if not facts:
        note("no proposals yet")
    for each in facts:
        say(f"{each['id']}  {each['state']} since block {each['height']}  {each['change']}")
        say(f"{'':34}proposed by {each['proposer']}, approved by {', '.join(each['approvals'])}")


def _proposal_facts(proposal: Proposal, now: Membership) -> dict[str, Any]:
    from taxledger.nodes.membership import PROPOSAL_STATE_NAMES, proposal_text

    names = {each.number: each.name for each in now.members}
    return {
        "id": proposal.id.hex(),
        "state": PROPOSAL_STATE_NAMES[proposal.state],
        "height": proposal.height,
        "proposer": names.get(proposal.proposer, str(proposal.proposer)),
        "approvals": [names.get(each, str(each)) for each in proposal.approvals],
        "change": proposal_text(proposal, now.members),
    }


# --- change --------------------------------------------------------------------------------------


def _check_none_pending(office: _Office, change: Sequence[Any]) -> Proposal | None:
    """The pending proposal where it is this very change; raises RefusedError where it is another."""
    pending = office.now.pending
    if pending is None:
        return None
    if pending.change == list(change):
        return pending
    raise RefusedError("change_pending", f"proposal {pending.id.hex()} is pending: one change at a time")


def _propose(office: _Office, change: Sequence[Any]) -> None:
    from taxledger.ledger.operations import encode_propose
    from taxledger.nodes.membership import what_changes

    say(what_changes(change, office.now.members))
    known = _check_none_pending(office, change)
    proposal_id = known.id if known is not None else office.submit(encode_propose(change)).id[:16]
    say(f"proposal {proposal_id.hex()}")
    _say_state(office, proposal_id)


def _say_state(office: _Office, proposal_id: bytes) -> None:
    from taxledger.ledger.governance import IN_FORCE_AFTER_BLOCKS, ProposalState
    from taxledger.ledger.policy import quorum

    now = _membership(office.client)
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


def _propose_or_write(office: _Office, change: Sequence[Any], output: Path | None, reason: str) -> None:
    """A validator proposes; for anyone else the proposal becomes a file that a validator proposes."""
    from taxledger.nodes.membership import encode_proposal_file, what_changes

    if office.own.is_validator and output is None:
        _propose(office, change)
        return
    text = what_changes(change, office.now.members)
    path = output or office.home.path / "proposal.json"
    write_file(path, encode_proposal_file(change, chain_id=office.chain_id, text=text, reason=reason))
    say(text)
    say(f"written to {path}")
    note(f"a validator proposes it: taxledger member propose --home DIR {path}")


def rotate(
    home: HomeOption,
    key: Annotated[str, typer.Option("--key", metavar="transaction|hpke|tls", show_default=False)],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="For the validators; not on the ledger.")
    ] = "",
    output: OutputOption = None,
) -> None:
    """Make this member another key and propose it. The node changes over by itself when it is in force.

    Example: taxledger member rotate --home net/bank1 --key transaction
    """
    from taxledger.nodes.identity import TlsIdentity
    from taxledger.nodes.membership import rotate as change_of
    from taxledger.nodes.settings import NodeSettings

    with _office(home) as office:
        identity = TlsIdentity(office.home, hours=NodeSettings().tls_certificate_hours, now=time.time)
        change = change_of(office.home, office.own, key, chain_id=office.chain_id, identity=identity)
        _propose_or_write(office, change, output, reason)


def propose(
    home: HomeOption, file: Annotated[Path, typer.Argument(metavar="FILE", help="A proposal file.")]
) -> None:
    """Propose what another member wrote into a file; a validator's command.

    Example: taxledger member propose --home net/tax net/auditor/proposal.json
    """
    from taxledger.nodes.membership import decode_proposal_file

    data = read_file(file, bytes_max=_FILE_BYTES_MAX)
    with _office(home) as office:
        _propose(office, decode_proposal_file(data, chain_id=office.chain_id))


def approve(
    home: HomeOption, proposal: Annotated[str, typer.Argument(metavar="PROPOSAL", help="Its 32 hex digits.")]
) -> None:
    """Approve a proposal; a validator's command. See `member proposals` for what it changes.

    Example: taxledger member approve --home net/bank1 5d41402abc4b2a76b9719d911017c592
    """
    from taxledger.ledger.operations import encode_approve
    from taxledger.nodes.membership import proposal_text

    with _office(home) as office:
        found = [each for each in office.now.proposals if each.id.hex() == proposal.lower()]
        if not found:
            raise InputError(f"no proposal {proposal!r}: see taxledger member proposals")
        say(proposal_text(found[0], office.now.members))
        office.submit(encode_approve(found[0].id))
        _say_state(office, found[0].id)


def _status_command(status: int, verb: str, text: str) -> Any:
    def command(home: HomeOption, name: NameArgument, output: OutputOption = None) -> None:
        from taxledger.nodes.membership import member_named, set_status

        with _office(home) as office:
            member = member_named(office.now.members, name)
            if member.role == 1:
                note("the set of validators changes: verifiers will need a new policy file")
            _propose_or_write(office, set_status(member, status, chain_id=office.chain_id), output, "")

    command.__doc__ = f"{text}\n\n    Example: taxledger member {verb} --home net/tax bank3\n    "
    command.__name__ = verb
    return command


# --- certificate ---------------------------------------------------------------------------------


def certificate(
    home: HomeOption,
    authority_key: Annotated[
        Path | None,
        typer.Option(
            "--authority-key", metavar="FILE", help="The authority's key, kept elsewhere.", show_default=False
        ),
    ] = None,
) -> None:
    """Renew the certificate that this home's node shows to its peers; a running node takes it into use by itself.

    Example: taxledger member certificate --home net/bank1 --authority-key /media/safe/bank1-ca.key
    """
    import datetime

    from taxledger.ledger.errors import FormatError
    from taxledger.nodes.home import read_secret
    from taxledger.nodes.identity import TlsIdentity
    from taxledger.nodes.settings import NodeSettings

    opened = open_home(home)
    identity = TlsIdentity(opened, hours=NodeSettings().tls_certificate_hours, now=time.time)
    key_pem = read_secret(authority_key) if authority_key is not None else None
    done = 0
    for folder in identity.folders():
        if key_pem is None and not folder.can_renew:
            continue
        try:
            validity = identity.renew(folder, key_pem=key_pem)
        except FormatError as error:  # of several authorities, the key is one's
            note(f"{folder.ca_path}: {error}")
            continue
        until = datetime.datetime.fromtimestamp(validity.end_s, datetime.UTC)
        say(f"{folder.node_path}: valid until {until:%Y-%m-%d %H:%M:%SZ}")
        done += 1
    if not done:
        where = authority_key or f"{opened.tls_folder} (ca.key); give it with --authority-key"
        raise InputError(f"expected the private key of one of this member's authorities in {where}")


def register(app: typer.Typer) -> None:
    """Add the commands ``member …``."""
    group = typer.Typer(no_args_is_help=True, help="Who is on the ledger, and how its members change that.")
    group.command("list")(list_members)
    for command in (init, prove, enter, show, proposals, rotate, propose, approve, certificate):
        group.command()(command)
    for status, verb, text in (
        (2, "suspend", "Propose that a member is suspended: its signature and its node count for nothing."),
        (3, "remove", "Propose that a member is removed."),
        (1, "activate", "Propose that a suspended member counts again."),
    ):
        group.command(verb)(_status_command(status, verb, text))
    app.add_typer(group, name="member")
