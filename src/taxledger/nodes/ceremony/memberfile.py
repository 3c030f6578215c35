"""``member.json``: the public part of a home, all that a member hands to the others (docs/protocol.md §8).

Every key in it that can sign has signed the whole of it: nobody can offer another's key as its own, and no address or
kind can be changed on the way. The HPKE key is X25519 and can't sign; it is covered by the others' signatures, and one
that its member does not hold harms that member alone, who can't open what is sealed to it.

Who brought the file is not proved by it: compare its digest (``digest_of``) over a second way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.crypto import Signer, check_public_key, verify_signature
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.governance import key_proof_message
from taxledger.ledger.hashing import domain_hash
from taxledger.ledger.members import Member, MemberRole, MemberStatus
from taxledger.ledger.schemas import KINDS
from taxledger.nodes.homeconfig import (
    ENGINES,
    MEMBER_NAME,
    NETWORK_NAME,
    ROLES,
    check_address,
    host_port,
)
from taxledger.nodes.identity.pki import authority_hash, verify_authority_signature
from taxledger.nodes.ordering.cometbft.settings import node_id

__all__ = [
    "LEDGER_KEYS",
    "MEMBER_FILE_BYTES_MAX",
    "Joining",
    "MemberFile",
    "check_names",
    "decode_member_file",
    "digest_of",
    "encode_member_file",
    "entry_of",
    "member_file_message",
    "sign_joining",
    "uses_of",
]

MEMBER_FILE_BYTES_MAX = 64 * 1024
LEDGER_KEYS = ("transaction", "vote", "log", "cosign")
"""Uses whose public keys stand in the member's entry and sign: the last three a validator's alone."""
_FORMAT = "taxledger member 1"
_FIELDS = (
    "format",
    "network",
    "engine",
    "name",
    "role",
    "kinds",
    "made_ms",
    "keys",
    "tls_authority",
    "peer_url",
    "engine_address",
    "proofs",
    "joining",
)
_AUTHORITY_PROOF = "tls_authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """What a member that joins a running ledger adds: the number it is to have, and the proofs of its keys that the
    ledger itself asks for.

    Attributes:
        chain_id: 16 bytes.
        number: the member number for which the keys have signed.
        proofs: public key → its signature over ``key_proof_message(chain_id, number)``.
    """

    chain_id: bytes
    number: int
    proofs: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFile:
    """A decoded file: whatever exists was checked, proofs too.

    Attributes:
        network, engine: what the member means to be part of.
        name, role, kinds: as they are to stand in its entry; ``role`` is ``validator`` or ``observer``.
        made_ms: when its keys were made.
        keys: use → public key, 32 bytes: transaction, hpke, engine; of a validator vote, log, cosign too.
        tls_authority: certificate of its TLS authority, PEM.
        peer_url: ``https://host:port``.
        engine_address: ``host:port`` of its ordering engine; None without one.
        proofs: use, or ``tls_authority`` → signature over ``member_file_message``.
        joining: None for a member of the genesis.
    """

    network: str
    engine: str
    name: str
    role: str
    kinds: tuple[int, ...]
    made_ms: int
    keys: Mapping[str, bytes]
    tls_authority: str
    peer_url: str
    engine_address: str | None = None
    proofs: Mapping[str, bytes] = field(default_factory=dict)
    joining: Joining | None = None

    @property
    def is_validator(self) -> bool:
        return self.role == "validator"

    @property
    def engine_peer(self) -> str | None:
        """``nodeid@host:port``."""
        if self.engine_address is None:
            return None
        return f"{node_id(self.keys['engine'])}@{self.engine_address}"


def uses_of(role: str) -> tuple[str, ...]:
    """The uses for which a member of this role has a key, those that sign first."""
    return (*LEDGER_KEYS, "engine", "hpke") if role == "validator" else ("transaction", "engine", "hpke")


def check_names(*, network: str, engine: str, name: str) -> None:
    """Raises FormatError, saying what was expected."""
    if not NETWORK_NAME.match(network):
        raise FormatError(f"expected a network name like {NETWORK_NAME.pattern[:-2]}, got {network!r:.100}")
    if engine not in ENGINES:
        raise FormatError(f"expected an engine out of {', '.join(ENGINES)}, got {engine!r:.100}")
    if not MEMBER_NAME.match(name):
        raise FormatError(
            f"expected a member name of a–z, 0–9 and -, beginning with a letter, "
            f"at most {limits.name_bytes_max} characters, got {name!r:.100}"
        )


def member_file_message(file: MemberFile) -> bytes:
    """What every key of the file signs: ``H("member_file", msgpack of its content)``, 32 bytes."""
    return domain_hash(
        "member_file",
        canonical.encode(
            [
                1,
                file.network,
                file.engine,
                file.name,
                file.role,
                list(file.kinds),
                file.made_ms,
                dict(file.keys),
                file.tls_authority,
                file.peer_url,
                file.engine_address,
            ]
        ),
    )


def digest_of(file: MemberFile) -> str:
    """16 hex digits to read out over the telephone."""
    return member_file_message(file).hex()[:16]


def entry_of(file: MemberFile, number: int) -> Member:
    """The member's entry as it is to stand on the ledger, active."""
    return Member(
        number=number,
        name=file.name,
        status=MemberStatus.ACTIVE,
        role=MemberRole.VALIDATOR if file.is_validator else MemberRole.OBSERVER,
        kinds=file.kinds,
        transaction_key=file.keys["transaction"],
        vote_key=file.keys.get("vote"),
        log_key=file.keys.get("log"),
        cosign_key=file.keys.get("cosign"),
        tls_ca_hash=authority_hash(file.tls_authority.encode("ascii")),
        hpke_key=file.keys["hpke"],
    )


def sign_joining(
    file: MemberFile, signers: Mapping[str, Signer], *, chain_id: bytes, number: int
) -> MemberFile:
    """The file with the proofs that the ledger asks for; ``signers`` by use, of all ledger keys of the file."""
    message = key_proof_message(chain_id, number)
    uses = [use for use in LEDGER_KEYS if use in file.keys]
    proofs = {signers[use].public_key: signers[use].sign(message) for use in uses}
    return replace(file, joining=Joining(chain_id=chain_id, number=number, proofs=proofs))


# --- JSON ----------------------------------------------------------------------------------------


def encode_member_file(file: MemberFile) -> bytes:
    """JSON, keys and signatures in hex; the same file gives the same bytes."""
    document: dict[str, Any] = {
        "format": _FORMAT,
        "network": file.network,
        "engine": file.engine,
        "name": file.name,
        "role": file.role,
        "kinds": list(file.kinds),
        "made_ms": file.made_ms,
        "keys": {use: file.keys[use].hex() for use in uses_of(file.role)},
        "tls_authority": file.tls_authority,
        "peer_url": file.peer_url,
        "engine_address": file.engine_address,
        "proofs": {use: signature.hex() for use, signature in sorted(file.proofs.items())},
        "joining": None
        if file.joining is None
        else {
            "chain_id": file.joining.chain_id.hex(),
            "number": file.joining.number,
            "proofs": {key.hex(): proof.hex() for key, proof in sorted(file.joining.proofs.items())},
        },
    }
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def _fail(expected: str, got: Any) -> FormatError:
    return FormatError(f"member file: expected {expected}, got {got!r:.100}")


def _hex(value: Any, length: int, what: str) -> bytes:
    if type(value) is not str or len(value) != 2 * length or not set(value) <= set("0123456789abcdef"):
        raise _fail(f"{what} as {2 * length} hex digits", value)
    return bytes.fromhex(value)


def _table(value: Any, what: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise _fail(f"{what} as an object", value)
    return value


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if type(value) is not str or not value.isascii():
        raise _fail(f"{name} as ASCII text", value)
    return value


def decode_member_file(data: bytes) -> MemberFile:
    """A member's public file, with every proof verified.

    Raises:
        FormatError: not such a file; the message names the entry.
        VerificationError: a key did not sign this content.
    """
    if len(data) > MEMBER_FILE_BYTES_MAX:
        raise FormatError(f"member file: expected at most {MEMBER_FILE_BYTES_MAX} bytes, got {len(data)}")
    try:
        document = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise FormatError("member file: expected JSON, see taxledger member init") from error
    if type(document) is not dict or document.get("format") != _FORMAT or set(document) != set(_FIELDS):
        raise _fail(f'an object {{"format": "{_FORMAT}", …}} of {len(_FIELDS)} entries', document)
    file = _content(document)
    _check_proofs(file)
    return file


def _content(document: dict[str, Any]) -> MemberFile:
    role = _text(document, "role")
    if role not in ROLES:
        raise _fail(f"role out of {', '.join(ROLES)}", role)
    keys = {use: _hex(value, 32, f"the {use} key") for use, value in _table(document["keys"], "keys").items()}
    if set(keys) != set(uses_of(role)):
        raise _fail(f"keys for {', '.join(uses_of(role))}", sorted(keys))
    kinds, made_ms, address = document["kinds"], document["made_ms"], document["engine_address"]
    if type(kinds) is not list or any(type(kind) is not int for kind in kinds):
        raise _fail("kinds as an array of numbers", kinds)
    if kinds != sorted(set(kinds)) or not set(kinds) <= set(KINDS.values()):
        raise _fail(f"kinds {min(KINDS.values())} to {max(KINDS.values())}, strictly ascending", kinds)
    if type(made_ms) is not int or not 0 <= made_ms <= limits.integer_max:
        raise _fail("made_ms as milliseconds since 1970", made_ms)
    if address is not None:
        check_address(_text(document, "engine_address"))
    file = MemberFile(
        network=_text(document, "network"),
        engine=_text(document, "engine"),
        name=_text(document, "name"),
        role=role,
        kinds=tuple(kinds),
        made_ms=made_ms,
        keys=keys,
        tls_authority=_text(document, "tls_authority"),
        peer_url=_text(document, "peer_url"),
        engine_address=address,
        proofs={
            use: _hex_signature(value, use) for use, value in _table(document["proofs"], "proofs").items()
        },
        joining=_joining(document["joining"]),
    )
    check_names(network=file.network, engine=file.engine, name=file.name)
    host_port(file.peer_url)
    if not file.peer_url.startswith("https://"):
        raise _fail("peer_url https://host:port", file.peer_url)
    if file.engine != "embedded" and address is None:
        raise _fail(f"an engine_address host:port, for the engine {file.engine}", address)
    return file


def _hex_signature(value: Any, use: str) -> bytes:
    if use != _AUTHORITY_PROOF:
        return _hex(value, 64, f"the proof of the {use} key")
    length = len(value) // 2 if type(value) is str else 0
    if not 8 <= length <= 80:  # ECDSA P-256 as DER
        raise _fail(f"the proof of {use}", value)
    return _hex(value, length, f"the proof of {use}")


def _joining(value: Any) -> Joining | None:
    if value is None:
        return None
    if type(value) is not dict or set(value) != {"chain_id", "number", "proofs"}:
        raise _fail("joining with chain_id, number and proofs", value)
    number = value["number"]
    if type(number) is not int or not 1 <= number <= 65_535:
        raise _fail("joining.number 1 to 65535", number)
    proofs = _table(value["proofs"], "joining.proofs")
    return Joining(
        chain_id=_hex(value["chain_id"], 16, "joining.chain_id"),
        number=number,
        proofs={
            _hex(key, 32, "a key of joining.proofs"): _hex(proof, 64, "a proof")
            for key, proof in proofs.items()
        },
    )


def _check_proofs(file: MemberFile) -> None:
    signing = [use for use in uses_of(file.role) if use != "hpke"]
    if set(file.proofs) != {*signing, _AUTHORITY_PROOF}:
        raise _fail(f"proofs of {', '.join([*signing, _AUTHORITY_PROOF])}", sorted(file.proofs))
    if len(set(file.keys.values())) != len(file.keys):
        raise FormatError("member file: expected a different key for every use")
    message = member_file_message(file)
    for use in signing:
        check_public_key(file.keys[use])
        try:
            verify_signature(file.keys[use], file.proofs[use], message)
        except VerificationError as error:
            raise VerificationError(
                "signature_invalid",
                f"{file.name}: the {use} key did not sign this content of the member file",
            ) from error
    verify_authority_signature(
        file.tls_authority.encode("ascii"), file.proofs[_AUTHORITY_PROOF], message, name=file.name
    )
    if file.joining is not None:
        _check_joining(file, file.joining)


def _check_joining(file: MemberFile, joining: Joining) -> None:
    named = {file.keys[use] for use in LEDGER_KEYS if use in file.keys}
    if set(joining.proofs) != named:
        raise FormatError(f"member file: expected joining.proofs for exactly the {len(named)} ledger keys")
    for key, proof in joining.proofs.items():
        verify_signature(key, proof, key_proof_message(joining.chain_id, joining.number))
