"""A network on one machine: a folder with a home for every member, and the policy file a bank starts from.

``create_network`` builds everything beside the target and renames it into place: a folder is a whole network
or not there. Ports are free ones of this machine, tried by binding, and stored in every home.
"""

from __future__ import annotations

import datetime
import json
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from taxledger.ledger import limits
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import InputError, UnavailableError
from taxledger.ledger.genesis import Genesis, encode_genesis, origin_of
from taxledger.ledger.members import Member, MemberRole, MemberStatus
from taxledger.ledger.policy import encode_policy
from taxledger.ledger.schemas import KINDS, encode_schema
from taxledger.nodes.birthtokens import make_token
from taxledger.nodes.home import write_secret
from taxledger.nodes.homeconfig import (
    ENGINES,
    MEMBER_NAME,
    NETWORK_NAME,
    HomeConfig,
    Peer,
    encode_config,
)
from taxledger.nodes.hpke import public_key_of
from taxledger.nodes.ordering.cometbft.settings import node_id
from taxledger.nodes.pki import Credentials, make_credentials

__all__ = ["GrantAccess", "create_network", "free_ports"]

_PORTS = range(20_000, 32_000)
"""Below the ephemeral ports of every common system, so that no outgoing connection takes one."""

_KEY_USES = ("transaction", "vote", "log", "cosign")

GrantAccess = Callable[[Path], str]
"""Makes an API key with every scope, writes the node's file of admitted keys, and returns the plain key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """One member before its files are written."""

    number: int
    name: str
    role: str
    kinds: tuple[int, ...]
    keys: dict[str, bytes]
    hpke: bytes
    credentials: Credentials
    api_url: str
    peer_url: str
    engine_key: bytes | None
    """Who its ordering engine is to those of others; None without such an engine."""
    engine_address: str | None

    def peer(self) -> Peer:
        """As all members' homes name it."""
        engine = None
        if self.engine_key is not None:
            engine = f"{node_id(Signer(self.engine_key).public_key)}@{self.engine_address}"
        return Peer(number=self.number, name=self.name, role=self.role, peer_url=self.peer_url, engine=engine)


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
    if not NETWORK_NAME.match(network):
        raise InputError(f"expected a network name like {NETWORK_NAME.pattern[:-2]}, got {network!r}")
    if engine not in ENGINES:
        raise InputError(f"expected an engine out of {', '.join(ENGINES)}, got {engine!r}")
    if not 1 <= len(members) <= limits.validators_max:
        raise InputError(f"expected 1 to {limits.validators_max} members, got {len(members)}")
    names = [*members, *observers]
    if len(names) > limits.members_max:
        raise InputError(f"expected at most {limits.members_max} members and observers, got {len(names)}")
    for name in names:
        if not MEMBER_NAME.match(name):
            raise InputError(
                f"expected a member name of a–z, 0–9 and -, beginning with a letter, "
                f"at most {limits.name_bytes_max} characters, got {name!r}"
            )
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


def _plan(
    network: str,
    members: Sequence[str],
    observers: Sequence[str],
    kinds: Mapping[str, tuple[int, ...]],
    engine: str,
    now: datetime.datetime,
) -> list[_Plan]:
    names = [*members, *observers]
    separate = engine != "embedded"
    ports = iter(free_ports((3 if separate else 2) * len(names)))
    plans = []
    for number, name in enumerate(names, start=1):
        validates = number <= len(members)
        uses = _KEY_USES if validates else _KEY_USES[:1]
        plans.append(
            _Plan(
                number=number,
                name=name,
                role="validator" if validates else "observer",
                kinds=kinds.get(name, ()),
                keys={use: secrets.token_bytes(32) for use in uses},
                hpke=secrets.token_bytes(32),
                credentials=make_credentials(network, name, now=now),
                api_url=f"http://127.0.0.1:{next(ports)}",
                peer_url=f"https://127.0.0.1:{next(ports)}",
                engine_key=secrets.token_bytes(32) if separate else None,
                engine_address=f"127.0.0.1:{next(ports)}" if separate else None,
            )
        )
    return plans


def _genesis(network: str, engine: str, plans: Sequence[_Plan], now: datetime.datetime) -> Genesis:
    members = []
    for plan in plans:
        public = {use: Signer(key).public_key for use, key in plan.keys.items()}
        members.append(
            Member(
                number=plan.number,
                name=plan.name,
                status=MemberStatus.ACTIVE,
                role=MemberRole.VALIDATOR if plan.role == "validator" else MemberRole.OBSERVER,
                kinds=plan.kinds,
                transaction_key=public["transaction"],
                vote_key=public.get("vote"),
                log_key=public.get("log"),
                cosign_key=public.get("cosign"),
                tls_ca_hash=plan.credentials.ca_hash,
                hpke_key=public_key_of(plan.hpke),
            )
        )
    return Genesis(
        network=network,
        engine=engine,
        time_ms=int(now.timestamp() * 1_000),
        members=tuple(members),
        schemas=tuple(encode_schema(schema) for schema in BUILTIN),
    )


def _policy(genesis: Genesis, leaf: bytes) -> bytes:
    log_keys = [each.log_key for each in genesis.validators if each.log_key]
    witnesses = {each.name: each.cosign_key for each in genesis.validators if each.cosign_key}
    return encode_policy(origin=origin_of(genesis, leaf), log_keys=log_keys, witnesses=witnesses)


def _write_home(
    folder: Path,
    plan: _Plan,
    plans: Sequence[_Plan],
    genesis: Genesis,
    shared: dict[str, bytes],
    grant: GrantAccess,
) -> None:
    folder.mkdir(mode=0o700)
    for name, content in shared.items():
        (folder / name).write_bytes(content)
    config = HomeConfig(
        number=plan.number,
        name=plan.name,
        role=plan.role,
        network=genesis.network,
        engine=genesis.engine,
        sequencer=plans[0].number if plan.engine_key is None else 0,
        api_url=plan.api_url,
        peer_url=plan.peer_url,
        peers=tuple(each.peer() for each in plans),
        engine_address=plan.engine_address,
    )
    (folder / "node.toml").write_text(encode_config(config), "utf-8")
    for use in sorted({"vote", "cosign"} & plan.keys.keys()):
        make_token(folder / "keys", use, Signer(plan.keys[use]).public_key)
    secret_keys = {**plan.keys, "hpke": plan.hpke, "vault": secrets.token_bytes(32)}
    if plan.engine_key is not None:
        secret_keys["engine"] = plan.engine_key
    for use, key in secret_keys.items():
        write_secret(folder / "keys" / f"{use}.key", key.hex().encode() + b"\n")
    write_secret(folder / "tls" / "ca.key", plan.credentials.authority.key_pem)
    (folder / "tls" / "ca.pem").write_bytes(plan.credentials.ca_pem)
    write_secret(folder / "tls" / "node.pem", plan.credentials.node_pem)
    (folder / "tls" / "peers.pem").write_bytes(b"".join(each.credentials.ca_pem for each in plans))
    client = {"url": plan.api_url, "key": grant(folder / "api_keys.json")}
    write_secret(folder / "client.json", json.dumps(client, indent=2).encode() + b"\n")
    for name in ("store", "log"):
        (folder / name).mkdir(mode=0o700)


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
    directory = directory.absolute()
    _check_names(network, members, observers, engine)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(
            f"{directory} exists and is not an empty folder: choose another, nothing was changed"
        )
    kinds = _kinds_of(issues, [*members, *observers])
    plans = _plan(network, members, observers, kinds, engine, now)
    genesis = _genesis(network, engine, plans, now)
    leaf = encode_genesis(genesis)
    shared = {"genesis.bin": leaf, "policy.txt": _policy(genesis, leaf)}
    fresh = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    try:
        fresh.mkdir(mode=0o700, parents=True)
        (fresh / "policy.txt").write_bytes(shared["policy.txt"])
        for plan in plans:
            _write_home(fresh / plan.name, plan, plans, genesis, shared, grant)
        fresh.rename(directory)
    except OSError as error:
        raise UnavailableError(f"cannot make the network folder {directory}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
