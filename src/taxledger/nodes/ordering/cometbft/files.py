"""What CometBFT reads of a member's home: settings, genesis, keys. Written anew before each start of the engine.

    engine/config/config.toml               settings (docs/decisions/0035-settings-of-the-engine.md says why these)
    engine/config/genesis.json              from genesis.bin: the same at every member
    engine/config/node_key.json             from keys/engine.key: who its peers know it as
    engine/config/priv_validator_key.json   from keys/vote.key, or a throw-away key
    engine/data/                            the engine's own: nothing here is written twice

Invariants:

- The engine signs with the member's vote key only where its state file says what was signed before, or where the
  key's birth token says that nothing was. Without either it follows with a throw-away key and a state of its own, so
  that a lost state never comes back as an empty one.
- The state file is durable before the token is spent, and the token is spent before the key is written for the engine.
- Sockets stand in the engine's folder, which only its owner enters. Nothing but the peers' port listens on TCP.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
from base64 import b64encode
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.ledger.genesis import chain_id, decode_genesis
from taxledger.nodes.home import Home, place_file
from taxledger.nodes.homeconfig import HomeConfig
from taxledger.nodes.identity.birthtokens import may_sign, spend_token
from taxledger.nodes.ordering.cometbft.settings import (
    BLOCK_BYTES_MAX,
    StateSync,
    chain_name,
    encode_settings,
    node_id,
)
from taxledger.nodes.peering.addresses import known_peers

__all__ = [
    "ENGINE_NAME",
    "EngineBegin",
    "begin_voting",
    "check_config",
    "decode_engine_begin",
    "encode_engine_begin",
    "encode_engine_genesis",
    "has_engine_begin",
    "prepare_engine",
    "read_engine_begin",
    "read_state_sync",
    "state_path",
    "write_engine_begin",
    "write_state_sync",
]

ENGINE_NAME = "cometbft"
_STATE_NAME, _THROWAWAY_STATE_NAME = "priv_validator_state.json", "throwaway_state.json"
_STATE_SYNC_NAME = "statesync.json"
_EVIDENCE_AGE_BLOCKS = 100_000
_EVIDENCE_AGE_NS = 90 * 86_400 * 1_000_000_000
"""The trust period: a vote against another is evidence for as long as somebody may still trust that set of
validators. Evidence is too old when both have passed; blocks pass much faster."""
_EVIDENCE_BYTES_MAX = 128 * 1024


def state_path(home: Home) -> Path:
    """What the engine signed last with the member's vote key: its signing journal."""
    return home.engine_folder / "data" / _STATE_NAME


# --- the parts --------------------------------------------------------------------------------------------


def _key_value(key: Signer, private: bytes) -> dict[str, Any]:
    """The engine's form of an Ed25519 private key: seed, then public half."""
    return {"type": "tendermint/PrivKeyEd25519", "value": b64encode(private + key.public_key).decode()}


def _public_value(public_key: bytes) -> dict[str, Any]:
    return {"type": "tendermint/PubKeyEd25519", "value": b64encode(public_key).decode()}


def _address(public_key: bytes) -> str:
    return node_id(public_key).upper()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _instant(time_ms: int) -> str:
    whole = datetime.datetime.fromtimestamp(time_ms // 1_000, datetime.UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{time_ms % 1_000:03}Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBegin:
    """What an engine begins with.

    Attributes:
        time_ms: milliseconds since 1970.
        validators: (name, vote key) of each, with power 1.
        root: of the log it goes on from; empty for a ledger's first engine (the node answers ``InitChain`` with it).
    """

    time_ms: int
    validators: tuple[tuple[str, bytes], ...]
    root: bytes = b""


def _begin_path(home: Home) -> Path:
    return home.engine_folder / "handover.bin"


def has_engine_begin(home: Home) -> bool:
    """Whether this home's ledger was handed over to its engine."""
    return _begin_path(home).exists()


def write_engine_begin(home: Home, begin: EngineBegin) -> None:
    """Say what the engine of a ledger begins with that was handed over to it: durable, before it is started.

    Raises:
        UnavailableError: it can't be written.
    """
    place_file(_begin_path(home), encode_engine_begin(begin))


def encode_engine_begin(begin: EngineBegin) -> bytes:
    """``engine/handover.bin``, which a network file carries too."""
    validators = [list(each) for each in begin.validators]
    return canonical.encode([1, "engine_begin", begin.time_ms, begin.root, validators])


def decode_engine_begin(data: bytes) -> EngineBegin:
    """What ``encode_engine_begin`` made.

    Raises:
        EncodingError, FormatError: it is none.
    """
    match canonical.decode(data):
        case [1, "engine_begin", int(time_ms), bytes(root), [_, *_] as validators]:
            if len(root) == 32 and time_ms >= 0 and all(_is_validator(each) for each in validators):
                return EngineBegin(
                    time_ms=time_ms, root=root, validators=tuple((name, key) for name, key in validators)
                )
    raise FormatError("expected what an engine begins with after a handover: time, root, validators")


def _is_validator(value: Any) -> bool:
    match value:
        case [str(), bytes(key)]:
            return len(key) == 32
    return False


def read_engine_begin(home: Home) -> EngineBegin:
    """From the handover, else from the genesis.

    Raises:
        InputError: no such file where the genesis is that of another engine, or a wrong one.
    """
    genesis = decode_genesis(home.genesis())
    try:
        data = _begin_path(home).read_bytes()
    except FileNotFoundError:
        if genesis.engine != ENGINE_NAME:
            raise InputError(
                f"expected a ledger ordered by {ENGINE_NAME}, got {genesis.engine} "
                "(taxledger network migrate moves one)"
            ) from None
        voting = [(each.name, each.vote_key) for each in genesis.validators if each.vote_key is not None]
        return EngineBegin(time_ms=genesis.time_ms, validators=tuple(voting))
    try:
        return decode_engine_begin(data)
    except InputError as error:
        raise FormatError(f"{_begin_path(home)}: {error}") from error


def encode_engine_genesis(begin: EngineBegin, name: str) -> bytes:
    """``genesis.json``; the same bytes at every member.

    Args:
        begin: what the engine begins with.
        name: the engine's chain id.
    """
    return _json(
        {
            "genesis_time": _instant(begin.time_ms),
            "chain_id": name,
            "initial_height": "1",
            "consensus_params": {
                "block": {"max_bytes": str(BLOCK_BYTES_MAX), "max_gas": "-1"},
                "evidence": {
                    "max_age_num_blocks": str(_EVIDENCE_AGE_BLOCKS),
                    "max_age_duration": str(_EVIDENCE_AGE_NS),
                    "max_bytes": str(_EVIDENCE_BYTES_MAX),
                },
                "validator": {"pub_key_types": ["ed25519"]},
                "version": {"app": "1"},
                "abci": {"vote_extensions_enable_height": "0"},
            },
            "validators": [
                {"address": _address(key), "pub_key": _public_value(key), "power": "1", "name": member}
                for member, key in begin.validators
            ],
            "app_hash": begin.root.hex().upper(),
        }
    )


def _validator_key(private: bytes) -> bytes:
    key = Signer(private)
    return _json(
        {
            "address": _address(key.public_key),
            "pub_key": _public_value(key.public_key),
            "priv_key": _key_value(key, private),
        }
    )


# --- state sync -------------------------------------------------------------------------------------------


def write_state_sync(home: Home, wanted: StateSync | None) -> None:
    """Have the engine's next start fetch a snapshot; None: it replays blocks, as ever.

    Raises:
        UnavailableError: it can't be written.
    """
    path = home.engine_folder / _STATE_SYNC_NAME
    if wanted is not None:
        place_file(path, _json(wanted.as_dict()))
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot remove it: {error.strerror}") from error


def read_state_sync(home: Home) -> StateSync | None:
    """What ``write_state_sync`` asked for.

    Raises:
        FormatError: not of that form.
        UnavailableError: the file can't be read.
    """
    path = home.engine_folder / _STATE_SYNC_NAME
    try:
        return StateSync.from_dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"{path}: cannot read it: {error.strerror}") from error
    except ValueError as error:
        raise FormatError(f"{path}: expected JSON: {error}") from error


# --- all of it --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the engine will do.

    Attributes:
        folder: the engine's home and its working directory.
        votes: it signs with the member's vote key.
    """

    folder: Path
    votes: bool


def prepare_engine(home: Home) -> Prepared:
    """Write everything the engine reads; safe to repeat, and a crash in between leaves whole files.

    Raises:
        InputError: the ledger has another engine, a key is missing, or ``node.toml`` lacks addresses.
        UnavailableError: a file can't be written.
    """
    own = [peer for peer in check_config(home.config).peers if peer.number == home.config.number]
    # Those that joined later too; encode_settings leaves out our own.
    config = replace(home.config, peers=(*known_peers(home), *own))
    folder, name = home.engine_folder, chain_name(chain_id(home.genesis()))
    _make_folders(folder)
    votes = begin_voting(home)
    _place(folder / "config" / "genesis.json", encode_engine_genesis(read_engine_begin(home), name))
    key = home.key("engine")
    _place(folder / "config" / "node_key.json", _json({"priv_key": _key_value(Signer(key), key)}))
    _place(
        folder / "config" / "priv_validator_key.json",
        _validator_key(home.key("vote") if votes else secrets.token_bytes(32)),
    )
    settings = encode_settings(
        config,
        state_name=_STATE_NAME if votes else _THROWAWAY_STATE_NAME,
        state_sync=read_state_sync(home),
    )
    _place(folder / "config" / "config.toml", settings.encode())
    with contextlib.suppress(FileNotFoundError):
        (folder / "rpc.sock").unlink()  # of an engine that was killed: the next one could not listen
    return Prepared(folder=folder, votes=votes)


def check_config(config: HomeConfig) -> HomeConfig:
    """The same. Raises InputError where this home has no such engine to run."""
    if config.engine != ENGINE_NAME:
        raise InputError(
            f"{config.name} is a member of a network ordered by {config.engine}: no engine to run"
        )
    if config.engine_address is None:
        raise InputError('node.toml: expected [engine] address = "host:port", got none')
    return config


def _make_folders(folder: Path) -> None:
    try:
        for each in (folder, folder / "config", folder / "data"):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(each, 0o700)
    except OSError as error:
        raise UnavailableError(f"{folder}: cannot write it: {error.strerror}") from error


def begin_voting(home: Home) -> bool:
    """Whether the engine may sign with the vote key; makes the state file that the other case must not have.

    Raises:
        UnavailableError: a file can't be written.
    """
    path = state_path(home)
    if not home.has_key("vote") or not may_sign(home, "vote", path):
        _begin_state(path.with_name(_THROWAWAY_STATE_NAME))
        return False
    _begin_state(path)
    spend_token(home, "vote")
    return True


def _begin_state(path: Path) -> None:
    if not path.exists():
        place_file(path, _json({"height": "0", "round": 0, "step": 0}))


def _place(path: Path, content: bytes) -> None:
    """Write a file whose content changed."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content and not path.stat().st_mode & 0o077:
            return
    place_file(path, content)
