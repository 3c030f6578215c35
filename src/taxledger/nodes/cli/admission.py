"""``taxledger member add | replace``, ``parameter …`` and ``schema …``: what a running network takes in, proposed by a
validator and approved by a quorum of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxledger.ledger.errors import InputError, VerificationError
from taxledger.nodes.cli.office import open_office, propose_or_write
from taxledger.nodes.cli.output import (
    HomeOption,
    JsonOption,
    note,
    print_json,
    print_table,
    read_file,
    say,
)

if TYPE_CHECKING:
    from taxledger.ledger.members import Member
    from taxledger.nodes.ceremony.memberfile import MemberFile
    from taxledger.nodes.cli.office import Office

__all__ = ["OutputOption", "add", "checked", "register", "replace"]

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The new member's member.json.")]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to write the proposal.", show_default=False),
]


class _Known:
    """The members and proposals as the rules of a change read them."""

    def __init__(self, members: Sequence[Member]) -> None:
        from taxledger.ledger.members import encode_member
        from taxledger.ledger.statekeys import member_key

        self._entries = {member_key(each.number): encode_member(each) for each in members}

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(pair for pair in self._entries.items() if pair[0].startswith(prefix)))


def checked(office: Office, change: Sequence[Any]) -> Sequence[Any]:
    """The change, once the ledger's own rule has found it possible now: the ledger itself would only say a code.

    Raises:
        InputError: what was expected and what it is.
    """
    from taxledger.ledger.governance import check_change

    try:
        check_change(change, state=_Known(office.now.members), chain_id=office.chain_id)
    except VerificationError as error:
        raise InputError(f"this change can't be proposed: {error}") from error
    return change


def _joining_parts(office: Office, file: MemberFile) -> list[Any]:
    """``[number, entry, proofs]`` of a member that has proved its keys for this ledger."""
    from taxledger.ledger.members import member_entry
    from taxledger.nodes.ceremony.memberfile import entry_of

    joining, chain_id = file.joining, office.chain_id
    following = max(each.number for each in office.now.members) + 1
    if joining is None or joining.chain_id != chain_id:
        got = "none" if joining is None else f"one for ledger {joining.chain_id.hex()}"
        raise InputError(
            f"expected proofs of {file.name}'s keys for ledger {chain_id.hex()}, got {got}: "
            f"its operator runs taxledger member prove --number {following}"
        )
    taken = next((each.name for each in office.now.members if each.number == joining.number), None)
    if taken is not None:
        raise InputError(
            f"expected a number that no member has, like {following}, got {joining.number}, which is {taken}'s: "
            f"the operator of {file.name} runs taxledger member prove --number {following}"
        )
    proofs = [[key, proof] for key, proof in sorted(joining.proofs.items())]
    return [joining.number, member_entry(entry_of(file, joining.number)), proofs]


def _keep_authority(office: Office, file: MemberFile) -> None:
    """Where this home's node finds the certificate when the ledger names its hash; the others ask that node."""
    from taxledger.nodes.home import place_file
    from taxledger.nodes.identity.pki import authority_hash
    from taxledger.nodes.identity.trust import KNOWN_FOLDER

    pem = file.tls_authority.encode("ascii")
    path = office.home.tls_folder / KNOWN_FOLDER / f"{authority_hash(pem).hex()[:16]}.pem"
    place_file(path, pem, mode=0o644)


def _say_digest(file: MemberFile) -> None:
    from taxledger.nodes.ceremony.memberfile import digest_of

    say(f"digest {digest_of(file)} of {file.name}'s public file")
    if file.is_validator:
        note("the set of validators changes: verifiers follow it with taxledger policy update")


def add(home: HomeOption, file: FileArgument, output: OutputOption = None) -> None:
    """Propose that a new member joins; a validator's command. Its keys must be proved for this ledger.

    Example: taxledger member add --home net/tax bank4.json
    """
    from taxledger.nodes.cli.ceremony import read_member_file

    read = read_member_file(file)
    with open_office(home) as office:
        change = checked(office, ["member.set", *_joining_parts(office, read)])
        _say_digest(read)
        _keep_authority(office, read)
        propose_or_write(office, change, output, "")


def replace(
    home: HomeOption,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The member that leaves.")],
    file: FileArgument,
    output: OutputOption = None,
) -> None:
    """Propose that a new member takes the place of another in one step: so that four stay four.

    Example: taxledger member replace --home net/tax bank3 bank4.json
    """
    from taxledger.nodes.cli.ceremony import read_member_file
    from taxledger.nodes.identity.membership import member_named

    read = read_member_file(file)
    with open_office(home) as office:
        former = member_named(office.now.members, name)
        change = checked(office, ["member.replace", former.number, *_joining_parts(office, read)])
        _say_digest(read)
        _keep_authority(office, read)
        propose_or_write(office, change, output, "")


# --- parameters and schemas -----------------------------------------------------------------------


def set_parameter(
    home: HomeOption,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    value: Annotated[int, typer.Argument(metavar="VALUE", help="An integer.")],
    output: OutputOption = None,
) -> None:
    """Propose another value of a parameter of the network.

    Example: taxledger parameter set --home net/tax answer.age_s 700
    """
    from taxledger.ledger.governance import parameter_set

    with open_office(home) as office:
        propose_or_write(office, checked(office, parameter_set(name, value)), output, "")


def list_parameters(home: HomeOption, as_json: JsonOption = False) -> None:
    """The parameters of the network: of the genesis, and set since.

    Example: taxledger parameter list --home net/bank1
    """
    from taxledger.ledger import canonical
    from taxledger.ledger.genesis import decode_genesis
    from taxledger.ledger.statekeys import parameter_key

    with open_office(home) as office:
        # The map knows hashes of names: the names come from the genesis and from proposals, the values from the map.
        names = {name for name, _ in decode_genesis(office.home.genesis()).parameters}
        names |= {str(each.change[1]) for each in office.now.proposals if each.change[0] == "parameter.set"}
        pairs = dict(office.client.state(b"\x07").entries[b"\x07"])
    found = [
        (name, *canonical.decode(pairs[parameter_key(name)]))
        for name in sorted(names)
        if parameter_key(name) in pairs
    ]
    if as_json:
        print_json([{"name": name, "value": value, "height": height} for name, value, height in found])
    elif found:
        print_table(("name", "value", "height"), found, right=(1, 2))
    else:
        note("no parameters yet")


def register_schema(
    home: HomeOption,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The schema document (msgpack).")],
    output: OutputOption = None,
) -> None:
    """Propose that a schema document is registered; one that is registered never changes.

    Example: taxledger schema register --home net/tax vat_invoice.2.bin
    """
    from taxledger.ledger.governance import schema_register
    from taxledger.ledger.limits import leaf_bytes_max

    document = read_file(file, bytes_max=leaf_bytes_max)
    with open_office(home) as office:
        propose_or_write(office, checked(office, schema_register(document)), output, "")


def register(app: typer.Typer) -> None:
    """Add the commands ``parameter …`` and ``schema …``."""
    group = typer.Typer(no_args_is_help=True, help="Parameters of the network, changed by its validators.")
    group.command("set")(set_parameter)
    group.command("list")(list_parameters)
    app.add_typer(group, name="parameter")
    group = typer.Typer(no_args_is_help=True, help="Schemas of records, registered by the validators.")
    group.command("register")(register_schema)
    app.add_typer(group, name="schema")
