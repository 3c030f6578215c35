"""``taxledger network migrate``: a stopped network of one folder goes over to another engine.

First the ledgers (``agreeing.py``), then the files of each home, each placed whole:

    keys/engine.key         who its ordering engine is to those of others
    engine/handover.bin     what the engine begins with (``cometbft/files.py``)
    policy.txt              under the new origin; what was there before stays as policy-<former engine>.txt
    keys/vote.fresh         the vote key has signed nothing under the new engine
    node.toml               last: only now anything of it starts

Killed anywhere and run again, it goes on from what is durable: every step looks at what is there. The vote key's
token is made only where ``node.toml`` still names the former engine, so the new one can't have run yet in this home,
and where the store holds the journal of the key's votes under the former one. A home that was restored from a backup
of before has no journal: its key may have signed under the new engine since, and stays silent.
"""

from __future__ import annotations

import fcntl
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from taxledger.ledger.chain import Chain
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import InputError, UnavailableError
from taxledger.ledger.handover import Handover
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.members import Member, validators_of
from taxledger.ledger.policy import encode_policy
from taxledger.ledger.policydate import Verified
from taxledger.ledger.signingjournals import has_vote_journal
from taxledger.nodes.application import Application
from taxledger.nodes.backup import check_not_moved
from taxledger.nodes.handover.agreeing import hand_over_all
from taxledger.nodes.handover.party import Party
from taxledger.nodes.home import Home, place_file
from taxledger.nodes.homeconfig import encode_config
from taxledger.nodes.identity.birthtokens import make_token
from taxledger.nodes.identity.signingkeys import load_keys, spend_tokens
from taxledger.nodes.local.control import LOCK_NAME, find_homes
from taxledger.nodes.local.network import free_ports
from taxledger.nodes.ordering.cometbft.files import (
    EngineBegin,
    has_engine_begin,
    read_engine_begin,
    state_path,
    write_engine_begin,
)
from taxledger.nodes.ordering.cometbft.settings import node_id

__all__ = ["Migrated", "migrate_network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What was done: the last block of the former engine, and who went over."""

    height: int
    size: int
    root: bytes
    engine: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the files are made from, the same at every home."""

    record: Handover
    network: str
    origin: str
    time_ms: int
    size: int
    root: bytes
    validators: tuple[Member, ...]


def migrate_network(directory: Path, engine: str) -> Migrated:
    """Hand the network of a folder over. See the module text.

    Raises:
        InputError: it runs, too few homes are here, or what is here does not allow it; says why.
        UnavailableError: a store or file can't be used.
        RefusedError, VerificationError: a home's ledger contradicts the others.
    """
    with _stopped(directory):
        homes = find_homes(directory)
        with ExitStack() as held:
            parties = [_open(home, held) for home in homes]
            record = hand_over_all(parties, engine)
            facts = _facts(parties[0], record)
            journalled = {party.number for party in parties if _has_vote_journal(party)}
        addresses = _addresses(homes)
        for home in homes:
            if not home.has_key("engine"):
                place_file(home.keys_folder / "engine.key", secrets.token_bytes(32).hex().encode() + b"\n")
        for home in homes:
            _write(home, homes, addresses, facts, journalled)
        _place_policy(directory, facts)
    return Migrated(
        height=record.height,
        size=facts.size,
        root=facts.root,
        engine=engine,
        members=tuple(home.config.name for home in homes),
    )


@contextmanager
def _stopped(directory: Path) -> Iterator[None]:
    """Nothing of the folder starts meanwhile."""
    try:
        lock = (directory / LOCK_NAME).open("ab")
    except OSError as error:
        raise InputError(f"{directory} is not a network folder: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"the network runs: taxledger network stop {directory}") from error
        yield


def _open(home: Home, held: ExitStack) -> Party:
    home.store_path.mkdir(mode=0o700, exist_ok=True)
    store = LevelStore(home.store_path)
    held.callback(store.close)
    check_not_moved(home)  # while we hold the store's lock, as the one who moves it did
    application = Application(
        Chain(store, home.genesis()), load_keys(home), lambda: time.time_ns() // 1_000_000
    )
    spend_tokens(home, application)
    return Party(home.config.name, application)


def _facts(party: Party, record: Handover) -> _Facts:
    chain = party.chain
    height, note = record.height, decode_note(record.note).checkpoint
    time_ms = chain.header(height).time_ms if height else chain.genesis.time_ms
    validators = tuple(validators_of(chain.view))
    return _Facts(
        record=record,
        network=chain.genesis.network,
        origin=note.origin,
        time_ms=time_ms + 1,
        size=note.size,
        root=note.root,
        validators=validators,
    )


# --- files ----------------------------------------------------------------------------------------


def _addresses(homes: Sequence[Home]) -> dict[int, str]:
    """Member → ``host:port`` of its ordering engine: as any home names it already, else a free port here."""
    known: dict[int, str] = {}
    for home in homes:
        for peer in home.config.peers:
            if peer.engine is not None:
                known.setdefault(peer.number, peer.engine.partition("@")[2])
        if home.config.engine_address is not None:
            known[home.config.number] = home.config.engine_address
    missing = [home.config.number for home in homes if home.config.number not in known]
    ports = free_ports(len(missing)) if missing else []
    return known | {number: f"127.0.0.1:{port}" for number, port in zip(missing, ports, strict=True)}


def _has_vote_journal(party: Party) -> bool:
    key = party.application.keys.vote
    return key is not None and has_vote_journal(party.chain.store, key.public_key)


def _write(
    home: Home, homes: Sequence[Home], addresses: dict[int, str], facts: _Facts, journalled: set[int]
) -> None:
    config, engine = home.config, facts.record.engine
    if config.engine != engine:
        write_engine_begin(home, _begin(homes, facts))
        _place_policy(home.path, facts)
        if config.number in journalled and not state_path(home).exists():
            make_token(home.keys_folder, "vote", Signer(home.key("vote")).public_key)
    ids = {each.config.number: node_id(Signer(each.key("engine")).public_key) for each in homes}
    peers = tuple(
        replace(peer, engine=f"{ids[peer.number]}@{addresses[peer.number]}") if peer.number in ids else peer
        for peer in config.peers
    )
    wanted = replace(config, engine=engine, sequencer=0, engine_address=addresses[config.number], peers=peers)
    if wanted != config:
        place_file(home.path / "node.toml", encode_config(wanted).encode("utf-8"), mode=0o644)


def _begin(homes: Sequence[Home], facts: _Facts) -> EngineBegin:
    """As another home has it, for one that was away: the validators may have changed since."""
    for home in homes:
        if has_engine_begin(home):
            return read_engine_begin(home)
    voting = [(each.name, each.vote_key) for each in facts.validators if each.vote_key is not None]
    return EngineBegin(time_ms=facts.time_ms, root=facts.root, validators=tuple(voting))


def _place_policy(folder: Path, facts: _Facts) -> None:
    """The policy under the new origin; the former one stays beside it, for evidence of its time."""
    path, former = folder / "policy.txt", folder / f"policy-{facts.record.former}.txt"
    times = [line.time_s for line in decode_note(facts.record.note).cosign_lines]
    content = encode_policy(
        origin=facts.origin,
        log_keys=[each.log_key for each in facts.validators if each.log_key is not None],
        witnesses={each.name: each.cosign_key for each in facts.validators if each.cosign_key is not None},
        verified=Verified(time_s=min(times), size=facts.size),
    )
    try:
        present = path.read_bytes()
    except FileNotFoundError:
        present = b""
    except OSError as error:
        raise UnavailableError(f"{path}: cannot read it: {error.strerror}") from error
    if f"/{facts.record.engine}+".encode() in present:
        return  # under the new origin already, and perhaps followed further since
    if present:
        place_file(former, present, mode=0o644)
    place_file(path, content, mode=0o644)
