"""A network on one machine: a folder with a home for every member, and the policy file a bank starts from.

``create_network`` builds everything beside the target and renames it into place: a folder is a whole network
or not there. Ports are free ones of this machine, tried by binding, and stored in every home.
"""

from __future__ import annotations

import datetime
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError
from taxledger.ledger.schemas import KINDS
from taxledger.nodes.ceremony.entering import enter_network
from taxledger.nodes.ceremony.memberfile import check_names
from taxledger.nodes.ceremony.networkfile import assemble, encode_network_file
from taxledger.nodes.ceremony.newhome import GrantAccess, fresh_folder, write_member_home

__all__ = ["GrantAccess", "create_network", "free_ports"]

_PORTS = range(20_000, 32_000)
"""Below the ephemeral ports of every common system, so that no outgoing connection takes one."""


def free_ports(count: int) -> list[int]:
    """``count`` different TCP ports of the loopback interface that nobody listens on now."""
    chosen: list[int] = []
    with ExitStack() as held:
        for _ in range(200 * count):
            if len(chosen) == count:
                break
            port = secrets.choice(_PORTS)
            candidate = held.enter_context(socket.socket())
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen.append(port)
    if len(chosen) < count:
        raise InputError(
            f"found only {len(chosen)} of {count} free ports in {_PORTS.start}–{_PORTS.stop - 1}"
        )
    return chosen


def _check_names(network: str, members: Sequence[str], observers: Sequence[str], engine: str) -> None:
    if not 1 <= len(members) <= limits.validators_max:
        raise InputError(f"expected 1 to {limits.validators_max} members, got {len(members)}")
    names = [*members, *observers]
    if len(names) > limits.members_max:
        raise InputError(f"expected at most {limits.members_max} members and observers, got {len(names)}")
    for name in names:
        check_names(network=network, engine=engine, name=name)
        if names.count(name) > 1:
            raise InputError(f"member name {name!r} is given twice")


def _kinds_of(issues: Mapping[str, Sequence[int]] | None, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The kinds that each issuing member issues, ascending; checked."""
    if issues is None:
        return {names[0]: tuple(sorted(KINDS.values()))}
    for name, kinds in issues.items():
        if name not in names:
            raise InputError(f"expected an issuer out of {', '.join(names)}, got {name!r}")
        if not kinds or len(set(kinds)) < len(kinds):
            raise InputError(f"expected kinds for {name} to issue, each once, got {list(kinds)}")
        for kind in kinds:
            if kind not in KINDS.values():
                raise InputError(
                    f"expected kinds that have a schema, {min(KINDS.values())} to "
                    f"{max(KINDS.values())}, for {name} to issue, got {kind!r}"
                )
    return {name: tuple(sorted(kinds)) for name, kinds in issues.items()}


def _write_homes(
    folder: Path,
    *,
    members: Sequence[str],
    observers: Sequence[str],
    kinds: Mapping[str, tuple[int, ...]],
    network: str,
    engine: str,
    now: datetime.datetime,
    grant: GrantAccess,
) -> None:
    """The ceremony of members that run their own machines, played in one folder."""
    names = [*members, *observers]
    separate = engine != "embedded"  # it listens itself
    ports = iter(free_ports((3 if separate else 2) * len(names)))
    files = []
    for number, name in enumerate(names, start=1):
        (folder / name).mkdir(mode=0o700)
        api, peer = next(ports), next(ports)
        file = write_member_home(
            folder / name,
            network=network,
            engine=engine,
            name=name,
            role="validator" if number <= len(members) else "observer",
            kinds=kinds.get(name, ()),
            api_url=f"http://127.0.0.1:{api}",
            peer_url=f"https://127.0.0.1:{peer}",
            engine_address=f"127.0.0.1:{next(ports)}" if separate else None,
            now=now,
            grant=grant,
        )
        files.append(file)
    made = assemble(files, network=network, engine=engine, time_ms=int(now.timestamp() * 1_000))
    (folder / "policy.txt").write_bytes(made.policy)
    (folder / "network.json").write_bytes(encode_network_file(made))
    for name in names:
        enter_network(folder / name, made)


def create_network(
    directory: Path,
    *,
    members: Sequence[str],
    observers: Sequence[str] = (),
    issues: Mapping[str, Sequence[int]] | None = None,
    network: str = "demo",
    engine: str = "embedded",
    now: datetime.datetime,
    grant: GrantAccess,
) -> None:
    """Make a network folder: a home for every member, one genesis, one policy file.

    All members validate, observers only follow; where the engine has a sequencer, the first member is it. Every home
    has keys of its own for a vault: whoever issues keeps its own records.

    Args:
        directory: must not exist, or be empty.
        members: names of the validators, in the order of their numbers from 1.
        observers: names of the members that only follow.
        issues: numbers of the kinds that a member, or an observer, issues, by its name; None where the first
            member issues every kind.
        network: the network's name, part of the checkpoint origin.
        engine: the ordering engine.
        now: present instant with a time zone: the genesis time and the begin of the certificates.
        grant: makes the API key of a home.

    Raises:
        InputError: a bad name, or the folder holds something already. Nothing was written.
        UnavailableError: the folder can't be written.
    """
    _check_names(network, members, observers, engine)
    kinds = _kinds_of(issues, [*members, *observers])
    with fresh_folder(directory) as fresh:
        _write_homes(
            fresh,
            members=members,
            observers=observers,
            kinds=kinds,
            network=network,
            engine=engine,
            now=now,
            grant=grant,
        )
