"""Taking a network into a new home: the last step of the ceremony, and of joining a running ledger.

``node.toml`` is written last: a folder without it is no home yet, so what was cut off is done again as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taxledger.ledger.errors import InputError
from taxledger.ledger.genesis import decode_genesis
from taxledger.nodes.ceremony.memberfile import MemberFile, entry_of
from taxledger.nodes.ceremony.networkfile import NetworkFile
from taxledger.nodes.ceremony.newhome import own_member_file
from taxledger.nodes.home import Client, place_file, read_client
from taxledger.nodes.homeconfig import HomeConfig, Peer, encode_config

__all__ = ["enter_network"]


def enter_network(
    folder: Path,
    file: NetworkFile,
    *,
    peer_listen: str | None = None,
    engine_listen: str | None = None,
) -> HomeConfig:
    """Make a home of a folder of ``write_member_home``: genesis, policy, authorities, ``node.toml``.

    Args:
        folder: with the member's keys and ``member.json``.
        file: the network; a member of its genesis must stand there with exactly this home's keys, any other must have
            proved its keys for this chain (``Joining``).
        peer_listen, engine_listen: ``host:port`` to listen at, where it is not what the others call.

    Raises:
        InputError: it has entered already, or the network is not the one for which its keys were made.
        UnavailableError: the folder can't be written.
    """
    if (folder / "node.toml").exists():
        raise InputError(f"{folder} has entered a network already (it has a node.toml): nothing was changed")
    own = own_member_file(folder)
    number = _own_number(own, file)
    access: Client = read_client(folder)
    peer = Peer(number=number, name=own.name, role=own.role, peer_url=own.peer_url, engine=own.engine_peer)
    others = [each.peer for each in file.members if each.peer.number != number]
    config = HomeConfig(
        number=number,
        name=own.name,
        role=own.role,
        network=file.network,
        engine=file.engine,
        sequencer=file.sequencer,
        api_url=access.url,
        peer_url=own.peer_url,
        peers=tuple(sorted((*others, peer), key=lambda each: each.number)),
        peer_listen=peer_listen,
        engine_address=own.engine_address,
        engine_listen=engine_listen,
    )
    authorities = [each.tls_authority for each in file.members if each.peer.number != number]
    for name in ("store", "log"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    place_file(folder / "genesis.bin", file.genesis, mode=0o644)
    place_file(folder / "policy.txt", file.policy, mode=0o644)
    if file.handover:
        place_file(folder / "engine" / "handover.bin", file.handover)
    place_file(folder / "tls" / "peers.pem", _joined([own.tls_authority, *authorities]), mode=0o644)
    place_file(folder / "node.toml", encode_config(config).encode("utf-8"), mode=0o644)
    return config


def _joined(pems: Sequence[str]) -> bytes:
    return "".join(f"{pem.strip()}\n" for pem in pems).encode("ascii")


def _own_number(own: MemberFile, file: NetworkFile) -> int:
    for what, expected, got in (
        ("network", own.network, file.network),
        ("engine", own.engine, file.engine),
    ):
        if got != expected:
            raise InputError(f"expected a network file for the {what} {expected}, got one for {got}")
    for member in decode_genesis(file.genesis).members:
        if member == entry_of(own, member.number):
            _check_address(own, file, member.number)
            return member.number
        if member.name == own.name:
            raise InputError(
                f"the genesis has other keys or kinds for {own.name} than this home: "
                "expected a network assembled from the member.json that lies here"
            )
    joining = own.joining
    if joining is None or joining.chain_id != file.chain_id:
        raise InputError(
            f"{own.name} is not in the genesis of ledger {file.chain_id.hex()}: to join a running one, "
            "taxledger member prove comes first"
        )
    if any(each.peer.number == joining.number and each.peer.name != own.name for each in file.members):
        raise InputError(f"number {joining.number} is another member's: taxledger member prove again")
    return joining.number


def _check_address(own: MemberFile, file: NetworkFile, number: int) -> None:
    listed = next((each for each in file.members if each.peer.number == number), None)
    expected = (own.peer_url, own.engine_peer, own.tls_authority)
    if listed is None or (listed.peer.peer_url, listed.peer.engine, listed.tls_authority) != expected:
        raise InputError(f"the network file has other addresses of {own.name} than the member.json here")
