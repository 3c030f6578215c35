"""What CometBFT reads of a home: the right keys, the same genesis, and no second life for a vote key."""

from __future__ import annotations

import datetime
import json
import stat
import subprocess
import tomllib
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError
from taxledger.nodes.application import Application
from taxledger.nodes.cli.network import grant_all_scopes
from taxledger.nodes.home import Home
from taxledger.nodes.homeconfig import decode_config
from taxledger.nodes.identity.signingkeys import spend_tokens
from taxledger.nodes.local.network import create_network
from taxledger.nodes.ordering.cometbft import binary
from taxledger.nodes.ordering.cometbft.admission import answer_query
from taxledger.nodes.ordering.cometbft.files import (
    prepare_engine,
    read_state_sync,
    state_path,
    write_state_sync,
)
from taxledger.nodes.ordering.cometbft.run import run_engine
from taxledger.nodes.ordering.cometbft.settings import StateSync, encode_settings, node_id


@pytest.fixture
def net(tmp_path: Path) -> Path:
    create_network(
        tmp_path / "net",
        members=["tax", "bank1", "bank2", "bank3"],
        observers=["auditor", "press"],
        engine="cometbft",
        now=datetime.datetime.now(datetime.UTC),
        grant=grant_all_scopes,
    )
    return tmp_path / "net"


def read(home: Home, name: str) -> dict[str, object]:
    value: dict[str, object] = json.loads((home.engine_folder / "config" / name).read_bytes())
    return value


def signs_with(home: Home) -> bytes:
    """The private half of the key that the engine would sign with."""
    key = read(home, "priv_validator_key.json")["priv_key"]
    assert isinstance(key, dict)
    return b64decode(key["value"])[:32]


def settings(home: Home) -> dict[str, dict[str, object]]:
    return tomllib.loads((home.engine_folder / "config" / "config.toml").read_text())


def test_no_sequencer_and_an_engine_each(net: Path) -> None:
    home = Home(net / "bank1")
    assert home.config.engine == "cometbft"
    assert not home.config.is_sequencer
    assert (
        home.config.peers[1].engine
        == f"{node_id(Signer(home.key('engine')).public_key)}@{home.config.engine_address}"
    )
    with pytest.raises(FormatError, match="sequencer"):
        decode_config(
            tomllib.loads((net / "bank1" / "node.toml").read_text().replace('"cometbft"', '"embedded"'))
        )


def test_one_genesis_for_all(net: Path) -> None:
    homes = [Home(net / name) for name in ("tax", "bank1", "auditor")]
    for home in homes:
        prepare_engine(home)
    documents = [(home.engine_folder / "config" / "genesis.json").read_bytes() for home in homes]
    assert len(set(documents)) == 1
    genesis = json.loads(documents[0])
    assert [b64decode(each["pub_key"]["value"]) for each in genesis["validators"]] == [
        Signer(Home(net / name).key("vote")).public_key for name in ("tax", "bank1", "bank2", "bank3")
    ]
    assert {each["power"] for each in genesis["validators"]} == {"1"}
    assert len(genesis["chain_id"]) <= 50


def test_files_are_their_owners_and_stay(net: Path) -> None:
    home = Home(net / "tax")
    assert prepare_engine(home).votes
    (home.engine_folder / "rpc.sock").write_text("of an engine that was killed")
    before = {path: path.stat().st_mtime_ns for path in home.engine_folder.rglob("*.*") if path.is_file()}
    assert prepare_engine(home).votes
    after = {path: path.stat().st_mtime_ns for path in home.engine_folder.rglob("*.*")}
    assert before.keys() - after.keys() == {home.engine_folder / "rpc.sock"}
    assert all(before[path] == after[path] for path in after)
    for path in home.engine_folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert signs_with(home) == home.key("vote")


class Nothing:
    """An application whose own journals are all here."""

    may_sign: frozenset[str] = frozenset()
    journal_lost = None
    keys = SimpleNamespace(fresh=frozenset())


def test_a_lost_state_ends_the_key(net: Path) -> None:
    """The state file may only ever begin together with its key."""
    home = Home(net / "bank2")
    prepare_engine(home)
    assert not (net / "bank2" / "keys" / "vote.fresh").exists()
    state = state_path(home)
    state.write_text('{"height": "7", "round": 0, "step": 3}')
    assert prepare_engine(home).votes
    assert json.loads(state.read_text())["height"] == "7"
    assert spend_tokens(home, cast(Application, Nothing())) is None
    state.unlink()
    for _ in range(2):
        assert "--key vote" in str(spend_tokens(home, cast(Application, Nothing())))
        assert not prepare_engine(home).votes
        assert signs_with(home) != home.key("vote")
        assert settings(home)["priv_validator_state_file"] == "data/throwaway_state.json"
        assert not state.exists()
    state.write_text('{"height": "7", "round": 0, "step": 3}')  # its backup comes back
    assert prepare_engine(home).votes
    assert signs_with(home) == home.key("vote")


def test_a_token_of_another_key_is_none(net: Path) -> None:
    home = Home(net / "bank2")
    (net / "bank2" / "keys" / "vote.fresh").write_bytes(Signer(bytes(32)).public_key.hex().encode())
    assert not prepare_engine(home).votes


def test_observers_follow(net: Path) -> None:
    home = Home(net / "auditor")
    assert not prepare_engine(home).votes
    peers = str(settings(home)["p2p"]["persistent_peers"]).split(",")
    assert peers == [each.engine for each in home.config.peers if each.role == "validator"]
    prepare_engine(Home(net / "tax"))
    assert len(str(settings(Home(net / "tax"))["p2p"]["persistent_peers"]).split(",")) == 5


def test_state_sync_is_asked_for_once(net: Path) -> None:
    home = Home(net / "tax")
    wanted = StateSync(servers=("unix://a.sock", "unix://b.sock"), height=9, block_hash="ab" * 32)
    prepare_engine(home)
    write_state_sync(home, wanted)
    assert read_state_sync(home) == wanted
    prepare_engine(home)
    assert settings(home)["statesync"]["trust_height"] == 9
    write_state_sync(home, None)
    prepare_engine(home)
    assert settings(home)["statesync"] == {"enable": False}
    (home.engine_folder / "statesync.json").write_text('{"servers": []}')
    with pytest.raises(FormatError, match="state sync"):
        prepare_engine(home)


def test_not_for_other_engines(tmp_path: Path) -> None:
    create_network(
        tmp_path / "net", members=["tax"], now=datetime.datetime.now(datetime.UTC), grant=grant_all_scopes
    )
    with pytest.raises(InputError, match="ordered by embedded"):
        prepare_engine(Home(tmp_path / "net" / "tax"))
    with pytest.raises(
        InputError, match="ordered by embedded"
    ):  # at once, not after a node that never listens
        run_engine(Home(tmp_path / "net" / "tax"))
    assert not (tmp_path / "net" / "tax" / "engine").exists()


def test_only_members_engines_are_admitted() -> None:
    known = "ab" * 20
    assert answer_query(f"/p2p/filter/id/{known}", known.__eq__).code == 0
    assert answer_query(f"/p2p/filter/id/{'cd' * 20}", known.__eq__).code == 1
    assert answer_query("/p2p/filter/addr/192.0.2.1:26656", known.__eq__).code == 0
    assert answer_query("/store", known.__eq__).code == 1


def test_texts_that_would_need_escapes(net: Path) -> None:
    with pytest.raises(FormatError, match="without quotes"):
        encode_settings(Home(net / "tax").config, state_name='a"b')


def test_the_engine_reads_them(net: Path) -> None:
    try:
        program = binary.check_engine()
    except InputError:
        pytest.skip("needs CometBFT")
    home = Home(net / "bank1")
    prepare_engine(home)

    def ask(*words: str) -> str:
        done = subprocess.run(
            [program, *words, "--home", home.engine_folder],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip()

    assert ask("show-node-id") == node_id(Signer(home.key("engine")).public_key)
    assert b64decode(json.loads(ask("show-validator"))["value"]) == Signer(home.key("vote")).public_key


def program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cometbft"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


def test_only_one_version_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binary.ENGINE_VARIABLE, str(program(tmp_path, "echo 0.38.17")))
    with pytest.raises(InputError, match=r"expected CometBFT 0\.39\.4, got '0\.38\.17'"):
        binary.check_engine()
    program(tmp_path, f"echo {binary.VERSION}+abcdef")
    assert binary.check_engine() == tmp_path / "cometbft"
    monkeypatch.setenv(binary.ENGINE_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="found none at"):
        binary.check_engine()


def test_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(binary.ENGINE_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binary, "_beside", lambda: tmp_path)
    with pytest.raises(InputError, match="taxledger engine install"):
        binary.find_engine()
    with pytest.raises(InputError, match=r"go\.dev"):
        binary.install_engine()
