"""``network.json``: what makes a network of members' public files, and all that a member takes in. It holds no secret.

``assemble`` is a function of the files alone: whoever has the same files gets the same genesis, byte for byte, and so
the same chain id. Every member does it for itself and compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.genesis import Genesis, chain_id, decode_genesis, encode_genesis, origin_of
from taxledger.ledger.policy import decode_policy, encode_policy
from taxledger.ledger.policydate import Verified
from taxledger.ledger.schemas import encode_schema
from taxledger.nodes.ceremony.memberfile import MemberFile, entry_of
from taxledger.nodes.homeconfig import MEMBER_NAME, ROLES, Peer, check_engine_peer, host_port
from taxledger.nodes.identity.pki import authority_hash, split_certificates
from taxledger.nodes.ordering.cometbft.files import decode_engine_begin

__all__ = [
    "NETWORK_FILE_BYTES_MAX",
    "NetworkFile",
    "NetworkMember",
    "assemble",
    "decode_network_file",
    "encode_network_file",
    "first_policy",
]

NETWORK_FILE_BYTES_MAX = 4 * 1024 * 1024
_FORMAT = "taxledger network 1"
_FIELDS = (
    "format",
    "network",
    "engine",
    "chain_id",
    "sequencer",
    "next_number",
    "members",
    "policy",
    "genesis",
)
_MEMBER_FIELDS = ("number", "name", "role", "peer_url", "engine", "tls_authority")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMember:
    """How a member is reached and known by its peers.

    Attributes:
        peer: number, name, role and addresses.
        tls_authority: PEM; it counts only where its hash stands in the member's entry on the ledger.
    """

    peer: Peer
    tls_authority: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A decoded file.

    Attributes:
        network: its name; ``engine`` the ordering engine; ``chain_id`` 16 bytes.
        sequencer: member number, 0 where the engine has none.
        next_number: the smallest number above all members: for who joins next.
        members: those with a node, ascending by number.
        genesis: leaf 0.
        policy: bytes of a policy file, the trust root.
        handover: what the engine began with (``decode_engine_begin``), where it is another than the genesis names;
            else empty, and not in the file.
    """

    network: str
    engine: str
    chain_id: bytes
    sequencer: int
    next_number: int
    members: tuple[NetworkMember, ...]
    genesis: bytes
    policy: bytes
    handover: bytes = b""


def first_policy(genesis: Genesis, leaf: bytes) -> bytes:
    """The policy file that names the validators of the genesis."""
    log_keys = [each.log_key for each in genesis.validators if each.log_key]
    witnesses = {each.name: each.cosign_key for each in genesis.validators if each.cosign_key}
    return encode_policy(
        origin=origin_of(genesis, leaf),
        log_keys=log_keys,
        witnesses=witnesses,
        verified=Verified(time_s=genesis.time_ms // 1_000, size=1),
    )


def _check_together(files: Sequence[MemberFile], network: str, engine: str) -> None:
    for file in files:
        for what, expected, got in (("network", network, file.network), ("engine", engine, file.engine)):
            if got != expected:
                raise InputError(
                    f"expected member files for the {what} {expected}, got one of {file.name} for {got}"
                )
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"expected every member once, got two files of {name}")
    validators = sum(file.is_validator for file in files)
    if not 1 <= validators <= limits.validators_max or len(files) > limits.members_max:
        raise InputError(
            f"expected 1 to {limits.validators_max} validators among at most {limits.members_max} members, "
            f"got {validators} among {len(files)}"
        )


def assemble(
    files: Sequence[MemberFile],
    *,
    network: str,
    engine: str,
    time_ms: int | None = None,
    sequencer: str | None = None,
) -> NetworkFile:
    """Genesis, policy and addresses of a network; the same arguments give the same bytes.

    Args:
        files: one of each member, whose numbers from 1 are in this order.
        network, engine: what all files must name.
        time_ms: the genesis time; the latest ``made_ms`` of the files where it is None.
        sequencer: name of the validator that orders under the embedded engine; None for the first of the files.

    Raises:
        InputError, FormatError, LimitError: files that make no network; the message says why.
    """
    _check_together(files, network, engine)
    numbers = {file.name: number for number, file in enumerate(files, start=1)}
    genesis = Genesis(
        network=network,
        engine=engine,
        time_ms=max(file.made_ms for file in files) if time_ms is None else time_ms,
        members=tuple(entry_of(file, numbers[file.name]) for file in files),
        schemas=tuple(encode_schema(schema) for schema in BUILTIN),
    )
    leaf = encode_genesis(genesis)
    return NetworkFile(
        network=network,
        engine=engine,
        chain_id=chain_id(leaf),
        sequencer=_sequencer(files, numbers, engine, sequencer),
        next_number=len(files) + 1,
        members=tuple(_network_member(file, numbers[file.name]) for file in files),
        genesis=leaf,
        policy=first_policy(genesis, leaf),
    )


def _sequencer(
    files: Sequence[MemberFile], numbers: Mapping[str, int], engine: str, wanted: str | None
) -> int:
    if engine != "embedded":
        if wanted is not None:
            raise InputError(f"expected no sequencer with the engine {engine}: its validators take turns")
        return 0
    validators = [file.name for file in files if file.is_validator]
    if (wanted or validators[0]) not in validators:
        raise InputError(f"expected a sequencer out of {', '.join(validators)}, got {wanted!r:.60}")
    return numbers[wanted or validators[0]]


def _network_member(file: MemberFile, number: int) -> NetworkMember:
    peer = Peer(
        number=number, name=file.name, role=file.role, peer_url=file.peer_url, engine=file.engine_peer
    )
    return NetworkMember(peer=peer, tls_authority=file.tls_authority)


# --- JSON ----------------------------------------------------------------------------------------


def encode_network_file(file: NetworkFile) -> bytes:
    """JSON; the same file gives the same bytes."""
    document: dict[str, Any] = {
        "format": _FORMAT,
        "network": file.network,
        "engine": file.engine,
        "chain_id": file.chain_id.hex(),
        "sequencer": file.sequencer,
        "next_number": file.next_number,
        "members": [
            {
                "number": each.peer.number,
                "name": each.peer.name,
                "role": each.peer.role,
                "peer_url": each.peer.peer_url,
                "engine": each.peer.engine,
                "tls_authority": each.tls_authority,
            }
            for each in file.members
        ],
        "policy": file.policy.decode("utf-8"),
        "genesis": file.genesis.hex(),
    }
    if file.handover:
        document["handover"] = file.handover.hex()
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def _fail(expected: str, got: Any) -> FormatError:
    return FormatError(f"network file: expected {expected}, got {got!r:.100}")


def _entry(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document[name]
    if type(value) is not kind:
        raise _fail(f"{name} to be {kind.__name__}", value)
    return value


def _number(document: Mapping[str, Any], name: str, *, least: int) -> int:
    value: int = _entry(document, name, int)
    if not least <= value <= 65_535:
        raise _fail(f"{name} {least} to 65535", value)
    return value


def _member(value: Any) -> NetworkMember:
    if type(value) is not dict or set(value) != set(_MEMBER_FIELDS):
        raise _fail(f"members with {', '.join(_MEMBER_FIELDS)}", value)
    name, role, url = (_entry(value, each, str) for each in ("name", "role", "peer_url"))
    if not MEMBER_NAME.match(name) or role not in ROLES:
        raise _fail("a member's name and role", [name, role])
    host_port(url)
    if not url.startswith("https://"):
        raise _fail("peer_url https://host:port", url)
    engine = value["engine"]
    if engine is not None:
        check_engine_peer(_entry(value, "engine", str))
    peer = Peer(number=_number(value, "number", least=1), name=name, role=role, peer_url=url, engine=engine)
    authority = _entry(value, "tls_authority", str)
    if len(split_certificates(authority.encode("utf-8"))) != 1:
        raise _fail(f"one certificate as the TLS authority of {name}", authority)
    return NetworkMember(peer=peer, tls_authority=authority)


def decode_network_file(data: bytes) -> NetworkFile:
    """A network file whose parts fit one another: chain id, policy and members are those of its genesis.

    Raises:
        InputError: they don't, or it is none; the message names the entry.
    """
    if len(data) > NETWORK_FILE_BYTES_MAX:
        raise FormatError(f"network file: expected at most {NETWORK_FILE_BYTES_MAX} bytes, got {len(data)}")
    try:
        document = json.loads(data.decode("utf-8"))
        given = set(document) - {"handover"} if type(document) is dict else None
        if given != set(_FIELDS) or document["format"] != _FORMAT:
            raise _fail(f'an object {{"format": "{_FORMAT}", …}} of {len(_FIELDS)} entries', document)
        leaf = bytes.fromhex(_entry(document, "genesis", str))
        handover = bytes.fromhex(_entry({"handover": "", **document}, "handover", str))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise FormatError("network file: expected JSON, see taxledger network assemble") from error
    file = NetworkFile(
        network=_entry(document, "network", str),
        engine=_entry(document, "engine", str),
        chain_id=chain_id(leaf),
        sequencer=_number(document, "sequencer", least=0),
        next_number=_number(document, "next_number", least=2),
        members=tuple(_member(each) for each in _entry(document, "members", list)),
        genesis=leaf,
        policy=_entry(document, "policy", str).encode("utf-8"),
        handover=handover,
    )
    if _entry(document, "chain_id", str) != file.chain_id.hex():
        raise _fail(f"chain_id {file.chain_id.hex()}, that of its genesis", document["chain_id"])
    _check_whole(file)
    return file


def _check_whole(file: NetworkFile) -> None:
    genesis = decode_genesis(file.genesis)
    policy = decode_policy(file.policy)
    # The last part of the origin is the present engine, which is another than the genesis names after a migration.
    origin = f"{genesis.network}/{file.chain_id.hex()}/{file.engine}"
    if genesis.network != file.network or policy.origin != origin:
        raise _fail(f"a policy for {origin}", policy.origin)
    if bool(file.handover) != (file.engine != genesis.engine):
        raise _fail(f"a handover where the genesis names another engine than {file.engine}", genesis.engine)
    if file.handover:
        decode_engine_begin(file.handover)
    numbers = [each.peer.number for each in file.members]
    if numbers != sorted(set(numbers)) or not numbers or numbers[-1] >= file.next_number:
        raise _fail(f"members ascending by number, each once, below {file.next_number}", numbers)
    if file.sequencer not in (numbers if file.engine == "embedded" else [0]):
        raise _fail("a sequencer among the members, 0 without the embedded engine", file.sequencer)
    for each in file.members:
        first = next((member for member in genesis.members if member.number == each.peer.number), None)
        if first is not None and first.name != each.peer.name:
            raise _fail(f"member {first.number} to be {first.name}, as in the genesis", each.peer.name)


def check_first_members(file: NetworkFile) -> None:
    """Raises FormatError unless every authority is that of the genesis: true of a file just assembled."""
    entries = {member.number: member for member in decode_genesis(file.genesis).members}
    for each in file.members:
        entry = entries.get(each.peer.number)
        if entry is None or entry.tls_ca_hash != authority_hash(each.tls_authority.encode("utf-8")):
            raise _fail(f"the TLS authority of {each.peer.name} that the genesis names", each.peer.name)
