"""``taxledger member init | prove | enter`` and ``taxledger network assemble | bundle``: how members that run their own
machines make a network together, and how another one joins it (docs/operating.md).

No private key leaves a home: what goes from one member to another is ``member.json`` and ``network.json``.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxledger.ledger.errors import InputError
from taxledger.nodes.cli.output import HomeOption, note, parse_instant, read_file, say, write_file

if TYPE_CHECKING:
    from taxledger.nodes.ceremony.memberfile import MemberFile
    from taxledger.nodes.ceremony.networkfile import NetworkFile

__all__ = ["assemble", "enter", "init", "prove", "read_member_file"]

EngineOption = Annotated[str, typer.Option("--engine", metavar="cometbft|embedded")]
BundleOption = Annotated[
    Path,
    typer.Option("--bundle", metavar="FILE", help="The network file, network.json.", show_default=False),
]
ListenOption = typer.Option(
    metavar="HOST:PORT", help="Where to listen, if not at the address the others call.", show_default=False
)


def read_member_file(path: Path) -> MemberFile:
    """A member's public file, verified. Raises InputError, VerificationError that name the path."""
    from taxledger.nodes.ceremony.memberfile import MEMBER_FILE_BYTES_MAX, decode_member_file

    try:
        return decode_member_file(read_file(path, bytes_max=MEMBER_FILE_BYTES_MAX))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _read_network_file(path: Path) -> NetworkFile:
    from taxledger.nodes.ceremony.networkfile import NETWORK_FILE_BYTES_MAX, decode_network_file

    try:
        return decode_network_file(read_file(path, bytes_max=NETWORK_FILE_BYTES_MAX))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The new home.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", show_default=False)],
    peer_url: Annotated[
        str,
        typer.Option(
            "--peer-url",
            metavar="https://HOST:PORT",
            help="Where the others reach its node.",
            show_default=False,
        ),
    ],
    network: Annotated[str, typer.Option("--network", metavar="NAME")] = "demo",
    role: Annotated[str, typer.Option("--role", metavar="validator|observer")] = "validator",
    issues: Annotated[
        str,
        typer.Option(
            "--issues", metavar="KINDS", help="Kinds of record that it is to issue.", show_default=False
        ),
    ] = "",
    api_url: Annotated[
        str, typer.Option("--api-url", metavar="URL", help="Where its own API listens.")
    ] = "http://127.0.0.1:8700",
    engine_address: Annotated[
        str | None,
        typer.Option(
            "--engine-address",
            metavar="HOST:PORT",
            help="Where the engines of others reach its engine.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = "cometbft",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="A copy of member.json.", show_default=False),
    ] = None,
) -> None:
    """Make a member's home with all its keys, on the machine where its node will run.

    Only DIR/member.json goes to the others; it holds no secret.

    Example: taxledger member init tax --name tax --network demo --issues vat_invoice,tax_filing
    --peer-url https://tax.example:8701 --engine-address tax.example:8702
    """
    from taxledger.ledger.kinds import parse_kind
    from taxledger.nodes.ceremony.memberfile import digest_of, encode_member_file
    from taxledger.nodes.ceremony.newhome import fresh_folder, write_member_home
    from taxledger.nodes.cli.network import grant_all_scopes, split_names

    kinds = [parse_kind(each) for each in split_names(issues, "--issues")]
    with fresh_folder(directory) as fresh:
        file = write_member_home(
            fresh,
            network=network,
            engine=engine,
            name=name,
            role=role,
            kinds=kinds,
            api_url=api_url,
            peer_url=peer_url,
            engine_address=engine_address,
            now=datetime.datetime.now(datetime.UTC),
            grant=grant_all_scopes,
        )
    if output is not None:
        write_file(output, encode_member_file(file))
    say(f"home    {directory}")
    say(f"public  {output or directory / 'member.json'}")
    say(f"digest  {digest_of(file)}")
    note(
        "give the public file to the others, and tell them its digest over a second way; nothing else leaves the home"
    )


def prove(
    home: HomeOption,
    bundle: BundleOption,
    number: Annotated[
        int | None,
        typer.Option(
            "--number", metavar="N", help="Another member number than the file's next.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="A copy of member.json.", show_default=False),
    ] = None,
) -> None:
    """Prove this home's keys for a running ledger, in its member.json: a validator then adds the member.

    Example: taxledger member prove --home bank4 --bundle network.json
    """
    from taxledger.nodes.ceremony.memberfile import digest_of, encode_member_file
    from taxledger.nodes.ceremony.newhome import prove_member
    from taxledger.nodes.home import place_file

    file = _read_network_file(bundle)
    proved = prove_member(home, chain_id=file.chain_id, number=number or file.next_number)
    if (proved.network, proved.engine) != (file.network, file.engine):
        raise InputError(
            f"expected a home for the network {file.network} with the engine {file.engine}, "
            f"got one for {proved.network} with {proved.engine}"
        )
    place_file(home / "member.json", encode_member_file(proved), mode=0o644)
    if output is not None:
        write_file(output, encode_member_file(proved))
    say(f"public  {output or home / 'member.json'}")
    say(f"number  {number or file.next_number}")
    say(f"digest  {digest_of(proved)}")
    note("give the public file to a validator: taxledger member add --home DIR FILE")


def enter(
    home: HomeOption,
    bundle: BundleOption,
    peer_listen: Annotated[str | None, ListenOption] = None,
    engine_listen: Annotated[str | None, ListenOption] = None,
) -> None:
    """Take a network into a home: genesis, policy, peers. Compare the chain id with the others before.

    Example: taxledger member enter --home tax --bundle network.json --peer-listen 0.0.0.0:8701
    """
    from taxledger.nodes.ceremony.entering import enter_network

    file = _read_network_file(bundle)
    config = enter_network(home, file, peer_listen=peer_listen, engine_listen=engine_listen)
    say(f"member    {config.number} {config.name}, {config.role}")
    say(f"chain id  {file.chain_id.hex()}")
    note(f"start it with: taxledger network start {home.parent} --member {config.name}, or as a service")


def assemble(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="member.json of every member.")],
    network: Annotated[str, typer.Option("--network", metavar="NAME")] = "demo",
    engine: EngineOption = "cometbft",
    genesis_time: Annotated[
        str | None,
        typer.Option(
            "--genesis-time",
            metavar="INSTANT",
            help="Instead of when the youngest file was made.",
            show_default=False,
        ),
    ] = None,
    sequencer: Annotated[
        str | None,
        typer.Option(
            "--sequencer",
            metavar="NAME",
            help="Embedded engine: who orders. Without it the first by name.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE")] = Path("network.json"),
) -> None:
    """Make genesis, policy and addresses of a network from its members' public files.

    The same files give the same chain id, in whatever order they are named: members are numbered by name. Everyone
    can do it for himself and compare.

    Example: taxledger network assemble tax.json bank1.json bank2.json bank3.json --network demo -o network.json
    """
    from taxledger.nodes.ceremony.memberfile import digest_of
    from taxledger.nodes.ceremony.networkfile import assemble as assemble_files
    from taxledger.nodes.ceremony.networkfile import encode_network_file

    read = sorted((read_member_file(path) for path in files), key=lambda file: file.name)
    made = assemble_files(
        read,
        network=network,
        engine=engine,
        time_ms=None if genesis_time is None else parse_instant(genesis_time),
        sequencer=sequencer,
    )
    write_file(output, encode_network_file(made))
    for number, file in enumerate(read, start=1):
        kinds = f", issues {', '.join(map(str, file.kinds))}" if file.kinds else ""
        say(f"member    {number} {file.name}, {file.role}{kinds}  digest {digest_of(file)}")
    say(f"chain id  {made.chain_id.hex()}")
    say(f"bundle    {output}")
    note(
        "compare the chain id with every other member before: taxledger member enter --home DIR --bundle FILE"
    )


def bundle(
    home: HomeOption,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE")] = Path("network.json"),
) -> None:
    """Write the network file of a running network, for a member that is to join it.

    Its policy is this home's: the new member trusts whom its file names. Compare policies with a second member.

    Example: taxledger network bundle --home net/tax -o network.json
    """
    from taxledger.nodes.ceremony.networkfile import NetworkFile, NetworkMember, encode_network_file
    from taxledger.nodes.cli.office import open_office
    from taxledger.nodes.identity.membership import ROLE_NAMES
    from taxledger.nodes.identity.pki import authority_hash, split_certificates
    from taxledger.nodes.ordering.cometbft.files import (
        encode_engine_begin,
        has_engine_begin,
        read_engine_begin,
    )
    from taxledger.nodes.peering.addresses import known_peers

    with open_office(home) as office:
        opened, members = office.home, {each.number: each for each in office.now.members}
        chain_id = office.chain_id
    names = {each.number: (each.name, ROLE_NAMES[each.role]) for each in members.values()}
    config = opened.config
    own = [each for each in config.peers if each.number == config.number]
    pems = {authority_hash(pem): pem for pem in split_certificates(opened.tls_peers_path.read_bytes())}
    listed = []
    for peer in sorted((*known_peers(opened, names), *own), key=lambda each: each.number):
        member = members.get(peer.number)
        pem = pems.get(member.tls_ca_hash or b"") if member is not None and member.is_active else None
        if pem is not None:
            listed.append(NetworkMember(peer=peer, tls_authority=pem.decode("ascii")))
    made = NetworkFile(
        network=config.network,
        engine=config.engine,
        chain_id=chain_id,
        sequencer=config.sequencer,
        next_number=max(members) + 1,
        members=tuple(listed),
        genesis=opened.genesis(),
        policy=opened.policy(),
        handover=encode_engine_begin(read_engine_begin(opened)) if has_engine_begin(opened) else b"",
    )
    write_file(output, encode_network_file(made))
    say(f"chain id  {chain_id.hex()}")
    say(f"members   {', '.join(each.peer.name for each in listed)}; the next is number {made.next_number}")
    say(f"bundle    {output}")
