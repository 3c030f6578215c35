"""``taxledger member``: who is on the ledger, and how its members change that.

What is shown comes from the verified state of the home's own node. A change is a proposal that a quorum of validators
approves; it is in force two blocks later.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli import snapshot
from taxledger.nodes.cli.admission import OutputOption, add, replace
from taxledger.nodes.cli.ceremony import enter, init, prove
from taxledger.nodes.cli.office import open_office, propose_change, propose_or_write, say_state
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    note,
    open_home,
    print_json,
    print_table,
    read_file,
    say,
)

if TYPE_CHECKING:
    from taxledger.ledger.governance import Proposal
    from taxledger.ledger.members import Member
    from taxledger.nodes.identity.membership import Membership

__all__ = ["register"]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The member's name.")]
_FILE_BYTES_MAX = 1 << 20


# --- show ----------------------------------------------------------------------------------------


def _as_json(member: Member) -> dict[str, Any]:
    from taxledger.nodes.identity.membership import ROLE_NAMES, STATUS_NAMES

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
    with open_office(home) as office:
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
    from taxledger.nodes.identity.membership import member_named

    with open_office(home) as office:
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
    with open_office(home) as office:
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
    from taxledger.nodes.identity.membership import PROPOSAL_STATE_NAMES, proposal_text

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


def rotate(
    home: HomeOption,
    key: Annotated[
        str, typer.Option("--key", metavar="transaction|hpke|tls|cosign|log|vote", show_default=False)
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="For the validators; not on the ledger.")
    ] = "",
    output: OutputOption = None,
) -> None:
    """Make this member another key and propose it. The node changes over by itself when it is in force.

    Example: taxledger member rotate --home net/bank1 --key transaction
    """
    from taxledger.nodes.identity.certificates import TlsIdentity
    from taxledger.nodes.identity.membership import rotate as change_of
    from taxledger.nodes.settings import NodeSettings

    with open_office(home) as office:
        identity = TlsIdentity(office.home, hours=NodeSettings().tls_certificate_hours, now=time.time)
        change = change_of(office.home, office.own, key, chain_id=office.chain_id, identity=identity)
        if key in ("cosign", "log"):
            note(
                "this key stands in every verifier's policy file: they follow it with taxledger policy update"
            )
        propose_or_write(office, change, output, reason)


def propose(
    home: HomeOption, file: Annotated[Path, typer.Argument(metavar="FILE", help="A proposal file.")]
) -> None:
    """Propose what another member wrote into a file; a validator's command.

    Example: taxledger member propose --home net/tax net/auditor/proposal.json
    """
    from taxledger.nodes.identity.membership import decode_proposal_file

    data = read_file(file, bytes_max=_FILE_BYTES_MAX)
    with open_office(home) as office:
        propose_change(office, decode_proposal_file(data, chain_id=office.chain_id))


def approve(
    home: HomeOption, proposal: Annotated[str, typer.Argument(metavar="PROPOSAL", help="Its 32 hex digits.")]
) -> None:
    """Approve a proposal; a validator's command. See `member proposals` for what it changes.

    Example: taxledger member approve --home net/bank1 5d41402abc4b2a76b9719d911017c592
    """
    from taxledger.ledger.operations import encode_approve
    from taxledger.nodes.identity.membership import proposal_text

    with open_office(home) as office:
        found = [each for each in office.now.proposals if each.id.hex() == proposal.lower()]
        if not found:
            raise InputError(f"no proposal {proposal!r}: see taxledger member proposals")
        say(proposal_text(found[0], office.now.members))
        office.submit(encode_approve(found[0].id))
        say_state(office, found[0].id)


def _status_command(status: int, verb: str, text: str) -> Any:
    def command(home: HomeOption, name: NameArgument, output: OutputOption = None) -> None:
        from taxledger.nodes.identity.membership import member_named, set_status

        with open_office(home) as office:
            member = member_named(office.now.members, name)
            if member.role == 1:
                note("the set of validators changes: verifiers will need a new policy file")
            propose_or_write(office, set_status(member, status, chain_id=office.chain_id), output, "")

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
    from taxledger.nodes.identity.certificates import TlsIdentity
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
    for command in (init, prove, enter, add, replace, show, proposals, rotate, propose, approve, certificate):
        group.command()(command)
    group.command()(snapshot.sync)
    for status, verb, text in (
        (2, "suspend", "Propose that a member is suspended: its signature and its node count for nothing."),
        (3, "remove", "Propose that a member is removed."),
        (1, "activate", "Propose that a suspended member counts again."),
    ):
        group.command(verb)(_status_command(status, verb, text))
    app.add_typer(group, name="member")
