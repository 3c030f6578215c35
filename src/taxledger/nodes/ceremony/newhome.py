"""A new member's home: every key is made here, where it will be used, and only ``member.json`` is to leave it.

    keys/<use>.key    transaction, hpke, engine, vault; of a validator vote, log, cosign too
    keys/cosign.fresh, keys/vote.fresh    birth tokens (birthtokens.py)
    tls/  api_keys.json  client.json  member.json

It becomes a home, with a ``node.toml``, when it enters a network (``entering.py``).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.nodes.ceremony.memberfile import (
    MEMBER_FILE_BYTES_MAX,
    MemberFile,
    check_names,
    decode_member_file,
    encode_member_file,
    member_file_message,
    sign_joining,
    uses_of,
)
from taxledger.nodes.home import read_secret, sync_folder, write_secret
from taxledger.nodes.homeconfig import host_port
from taxledger.nodes.identity.birthtokens import make_token
from taxledger.nodes.identity.hpke import public_key_of
from taxledger.nodes.identity.pki import make_credentials, sign_as_authority

__all__ = [
    "GrantAccess",
    "fresh_folder",
    "own_member_file",
    "prove_member",
    "write_member_home",
]

GrantAccess = Callable[[Path], str]
"""Makes an API key with every scope, writes the node's file of admitted keys, and returns the plain key."""


@contextlib.contextmanager
def fresh_folder(directory: Path) -> Iterator[Path]:
    """A folder beside ``directory`` that takes its place as a whole at the end, or leaves nothing.

    Raises:
        InputError: something is there already.
        UnavailableError: it can't be written.
    """
    directory = directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(
            f"{directory} exists and is not an empty folder: choose another, nothing was changed"
        )
    fresh = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    try:
        fresh.mkdir(mode=0o700, parents=True)
        yield fresh
        fresh.rename(directory)
        sync_folder(directory.parent)
    except OSError as error:
        raise UnavailableError(f"cannot make the folder {directory}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_member_home(
    folder: Path,
    *,
    network: str,
    engine: str,
    name: str,
    role: str,
    kinds: Sequence[int] = (),
    api_url: str,
    peer_url: str,
    engine_address: str | None = None,
    now: datetime.datetime,
    grant: GrantAccess,
) -> MemberFile:
    """Write keys, certificates and ``member.json`` into an empty folder.

    Args:
        folder: exists, mode 0700.
        network, engine: what it means to be part of.
        name, role, kinds: for its entry on the ledger; ``role`` is ``validator`` or ``observer``.
        api_url: where its own API listens; stays at home.
        peer_url, engine_address: where the others reach node and engine.
        now: present instant with a time zone.
        grant: makes the API key.

    Raises:
        InputError: what would be no valid member file.
    """
    check_names(network=network, engine=engine, name=name)
    host_port(api_url)
    peer_host, _port = host_port(peer_url)
    private = {use: secrets.token_bytes(32) for use in uses_of(role)}
    credentials = make_credentials(network, name, now=now, addresses=(peer_host,))
    file = MemberFile(
        network=network,
        engine=engine,
        name=name,
        role=role,
        kinds=tuple(sorted(kinds)),
        made_ms=int(now.timestamp() * 1_000),
        keys={
            use: public_key_of(key) if use == "hpke" else Signer(key).public_key
            for use, key in private.items()
        },
        tls_authority=credentials.ca_pem.decode("ascii"),
        peer_url=peer_url,
        engine_address=engine_address,
    )
    message = member_file_message(file)
    proofs = {use: Signer(key).sign(message) for use, key in private.items() if use != "hpke"}
    authority = credentials.authority
    proofs["tls_authority"] = sign_as_authority(authority.pem, authority.key_pem, message)
    # Whatever was given is checked by the one who will read it.
    file = decode_member_file(encode_member_file(replace(file, proofs=proofs)))
    for use in sorted({"vote", "cosign"} & private.keys()):
        make_token(folder / "keys", use, file.keys[use])
    for use, key in (*private.items(), ("vault", secrets.token_bytes(32))):
        write_secret(folder / "keys" / f"{use}.key", key.hex().encode() + b"\n")
    write_secret(folder / "tls" / "ca.key", authority.key_pem)
    (folder / "tls" / "ca.pem").write_bytes(authority.pem)
    write_secret(folder / "tls" / "node.pem", credentials.node_pem)
    client = {"url": api_url, "key": grant(folder / "api_keys.json")}
    write_secret(folder / "client.json", json.dumps(client, indent=2).encode() + b"\n")
    (folder / "member.json").write_bytes(encode_member_file(file))
    return file


def _signers(folder: Path, file: MemberFile) -> dict[str, Signer]:
    """The signers of the file's keys, as they lie in the home. Raises FormatError where one is another's."""
    found: dict[str, Signer] = {}
    for use, public in file.keys.items():
        path = folder / "keys" / f"{use}.key"
        try:
            private = bytes.fromhex(read_secret(path).decode("ascii").strip())
            here = public_key_of(private) if use == "hpke" else Signer(private).public_key
        except ValueError as error:
            raise FormatError(f"{path}: expected 64 hex digits") from error
        if here != public:
            raise FormatError(
                f"{path}: expected the private half of {public.hex()[:16]}…, the {use} key of member.json, "
                f"got that of {here.hex()[:16]}…"
            )
        if use != "hpke":
            found[use] = Signer(private)
    return found


def own_member_file(folder: Path) -> MemberFile:
    """``member.json`` of a home, after every private key was found to be the one that it names.

    Raises:
        InputError: no such file, or a key is absent or another.
        VerificationError: the file was changed.
    """
    path = folder / "member.json"
    try:
        data = path.read_bytes()[: MEMBER_FILE_BYTES_MAX + 1]
    except OSError as error:
        raise InputError(
            f"{folder} has no member.json: expected a home made by taxledger member init"
        ) from error
    file = decode_member_file(data)
    _signers(folder, file)
    return file


def prove_member(folder: Path, *, chain_id: bytes, number: int) -> MemberFile:
    """The home's member file with the proofs under which the ledger admits its keys as those of ``number``.

    Raises:
        InputError, VerificationError: as ``own_member_file``.
    """
    file = own_member_file(folder)
    return sign_joining(file, _signers(folder, file), chain_id=chain_id, number=number)
