"""The ceremony: four members, each in a folder of its own; nothing private leaves, everyone makes the same genesis."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError, VerificationError
from taxledger.ledger.genesis import decode_genesis
from taxledger.nodes.ceremony.memberfile import (
    MemberFile,
    decode_member_file,
    encode_member_file,
    entry_of,
)
from taxledger.nodes.ceremony.networkfile import decode_network_file
from taxledger.nodes.ceremony.newhome import own_member_file
from taxledger.nodes.cli.main import main
from taxledger.nodes.home import Home, read_client
from taxledger.nodes.ordering.cometbft.settings import node_id

NAMES = ("tax", "bank1", "bank2", "bank3")


class Shell:
    """Runs a command line in this process; ``error`` is what it said beside its answer."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.error = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        status = main(list(arguments))
        said = self._capsys.readouterr()
        self.error = said.err
        assert status == code, said
        return said.out


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def arguments(machine: Path, name: str) -> list[str]:
    at = ["--peer-url", f"https://{name}.example:8701", "--engine-address", f"{name}.example:8702"]
    return ["member", "init", str(machine / "home"), "--name", name, *at]


def init(shell: Shell, machine: Path, name: str, *more: str, code: int = 0) -> str:
    machine.mkdir(exist_ok=True)
    return shell(*arguments(machine, name), *more, code=code)


def privates(home: Path) -> list[bytes]:
    """Every private byte string of a home: keys raw and in hex, lines of PEM, API key."""
    found = []
    for path in (home / "keys").glob("*.key"):
        text = path.read_text().strip()
        found += [text.encode(), bytes.fromhex(text)]
    for path in (home / "tls" / "ca.key", home / "tls" / "node.pem"):
        begin, _, _ = path.read_text().partition("-----END PRIVATE KEY-----")
        found += [line.encode() for line in begin.splitlines()[1:] if len(line) > 20]
    return [*found, read_client(home).key.encode()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four machines, each with a home, and beside them what their members hand out."""
    folder = tmp_path_factory.mktemp("machines")
    for name in NAMES:
        issues = ["--issues", "vat_invoice,tax_filing"] if name == "tax" else []
        (folder / name).mkdir()
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            assert main([*arguments(folder / name, name), *issues, "-o", str(folder / f"{name}.json")]) == 0
        (folder / f"{name}.said").write_text(said.getvalue())
    return folder


@pytest.fixture
def machines(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "machines"))


def assembled(
    shell: Shell, folder: Path, names: tuple[str, ...] = NAMES, output: str = "network.json"
) -> str:
    files = [str(folder / f"{name}.json") for name in names]
    return shell("network", "assemble", *files, "-o", str(folder / output))


def test_no_private_byte_leaves_a_home(machines: Path, shell: Shell) -> None:
    said = assembled(shell, machines)
    for name in NAMES:
        said += shell(
            "member",
            "enter",
            "--home",
            str(machines / name / "home"),
            "--bundle",
            str(machines / "network.json"),
        )
    outputs = [path.read_bytes() for path in machines.iterdir() if path.is_file()] + [said.encode()]
    entered = [
        path.read_bytes()
        for name in NAMES
        for path in (machines / name / "home").rglob("*")
        if path.name in ("genesis.bin", "policy.txt", "peers.pem", "node.toml", "member.json")
    ]
    assert len(outputs) == 10
    assert len(entered) == 5 * 4
    for name in NAMES:
        secrets = privates(machines / name / "home")
        assert len(secrets) > 18
        for secret in secrets:
            assert not [each for each in (*outputs, *entered) if secret in each], name


def test_everyone_makes_the_same_genesis(machines: Path, shell: Shell) -> None:
    said = assembled(shell, machines)
    rest = list(NAMES)
    random.Random(5).shuffle(rest)
    assert assembled(shell, machines, tuple(rest), "other.json").replace("other.json", "network.json") == said
    assert (machines / "other.json").read_bytes() == (machines / "network.json").read_bytes()
    file = decode_network_file((machines / "network.json").read_bytes())
    genesis = decode_genesis(file.genesis)
    assert [member.name for member in genesis.members] == sorted(NAMES)
    assert genesis.time_ms == max(
        decode_member_file((machines / f"{name}.json").read_bytes()).made_ms for name in NAMES
    )
    assert [member.kinds for member in genesis.members] == [(), (), (), (2, 5)]
    assert file.sequencer == 0
    assert file.next_number == 5
    other = shell("network", "assemble", *(str(machines / f"{each}.json") for each in NAMES),
                  "--genesis-time", "2026-03-01T09:00:00Z", "-o", str(machines / "third.json"))  # fmt: skip
    assert file.chain_id.hex() in said
    assert file.chain_id.hex() not in other


def test_a_home_that_has_entered_is_whole(machines: Path, shell: Shell) -> None:
    assembled(shell, machines)
    home = machines / "bank2" / "home"
    bundle = ("--bundle", str(machines / "network.json"))
    with pytest.raises(InputError, match=r"no node\.toml"):
        Home(home)
    shell("member", "enter", "--home", str(home), *bundle, "--peer-listen", "0.0.0.0:8701")
    entered = Home(home)
    config = entered.config
    assert (config.number, config.name, config.role) == (2, "bank2", "validator")
    assert config.peer_address == ("0.0.0.0", 8701)
    assert config.engine_address == "bank2.example:8702"
    assert [peer.name for peer in config.others] == ["bank1", "bank3", "tax"]
    own_id = node_id(Signer(entered.key("engine")).public_key)
    assert config.peers[1].engine == f"{own_id}@bank2.example:8702"
    assert (home / "keys" / "cosign.fresh").exists()
    assert (home / "keys" / "vote.fresh").exists()
    shell("member", "enter", "--home", str(home), *bundle, code=2)
    assert "has entered a network already" in shell.error


def test_a_home_enters_only_its_own_network(machines: Path, shell: Shell) -> None:
    init(shell, machines / "again", "bank2", "-o", str(machines / "again.json"))
    assembled(shell, machines)
    files = [str(machines / f"{name}.json") for name in ("tax", "bank1", "again", "bank3")]
    shell("network", "assemble", *files, "-o", str(machines / "other.json"))
    home = str(machines / "bank2" / "home")
    shell("member", "enter", "--home", home, "--bundle", str(machines / "other.json"), code=2)
    assert "has other keys or kinds for bank2 than this home" in shell.error
    document = json.loads((machines / "network.json").read_text())
    document["members"][1]["peer_url"] = "https://thief.example:8701"
    (machines / "network.json").write_text(json.dumps(document))
    shell("member", "enter", "--home", home, "--bundle", str(machines / "network.json"), code=2)
    assert "other addresses of bank2" in shell.error
    key = Path(home) / "keys" / "log.key"
    key.write_text("ab" * 32 + "\n")
    with pytest.raises(FormatError, match="expected the private half"):
        own_member_file(Path(home))
    assert not (Path(home) / "node.toml").exists()


def changed(machines: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads((machines / "tax.json").read_text())
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize("use", ["transaction", "vote", "log", "cosign", "engine"])
def test_another_key_is_not_its_own(machines: Path, use: str) -> None:
    stranger = Signer(bytes(range(32))).public_key.hex()
    for change in (
        lambda document: document["keys"].update({use: stranger}),
        lambda document: document["proofs"].update({use: "00" * 64}),
    ):
        with pytest.raises(VerificationError, match="did not sign this content"):
            decode_member_file(changed(machines, change))


@pytest.mark.parametrize(
    "change",
    [
        {"network": "demo2"},
        {"engine": "embedded"},
        {"role": "validator", "name": "tax2"},
        {"kinds": [2]},
        {"made_ms": 5},
        {"peer_url": "https://thief.example:1"},
        {"engine_address": "thief.example:1"},
    ],
)
def test_nothing_can_be_changed_on_the_way(machines: Path, change: dict[str, Any]) -> None:
    with pytest.raises((VerificationError, FormatError), match=r"did not sign|TLS authority"):
        decode_member_file(changed(machines, lambda document: document.update(change)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "taxledger member 2"}, "an object"),
        ({"role": "king"}, "role out of validator, observer"),
        ({"keys": {}}, "keys for transaction, vote, log, cosign, engine, hpke"),
        ({"kinds": [5, 2]}, "strictly ascending"),
        ({"kinds": [True]}, "kinds"),
        ({"made_ms": -1}, "made_ms"),
        ({"peer_url": "http://tax.example:8701"}, "peer_url https"),
        ({"engine_address": "tax.example"}, "host:port"),
        ({"engine_address": None}, "engine_address"),
        ({"engine": "raft"}, "engine out of"),
        ({"proofs": {}}, "proofs of"),
        ({"joining": {}}, "joining"),
        ({"more": 1}, "an object"),
    ],
)
def test_what_is_no_member_file(machines: Path, change: dict[str, Any], expected: str) -> None:
    with pytest.raises(FormatError, match=expected):
        decode_member_file(changed(machines, lambda document: document.update(change)))
    for junk in (b"", b"[" * 5_000, b"\xff", b"{}", b"[]", b"x" * 70_000):
        with pytest.raises(FormatError):
            decode_member_file(junk)


def test_a_file_is_the_same_when_read_again(machines: Path) -> None:
    for name in NAMES:
        data = (machines / f"{name}.json").read_bytes()
        file: MemberFile = decode_member_file(data)
        assert encode_member_file(file) == data
        assert entry_of(file, 7).is_validator


def test_files_that_make_no_network(machines: Path, shell: Shell) -> None:
    init(shell, machines / "odd", "odd", "--network", "other", "-o", str(machines / "odd.json"))
    init(shell, machines / "watch", "watch", "--role", "observer", "-o", str(machines / "watch.json"))
    for names, expected in (
        (("tax", "odd"), "for the network demo, got one of odd for other"),
        (("tax", "tax"), "two files of tax"),
        (("watch",), "1 to 32 validators"),
    ):
        files = [str(machines / f"{name}.json") for name in names]
        shell("network", "assemble", *files, "-o", str(machines / "none.json"), code=2)
        assert expected in shell.error
    shell("network", "assemble", str(machines / "tax.json"), "--sequencer", "tax", "-o", "x", code=2)
    assert "expected no sequencer with the engine cometbft" in shell.error
    assert not (machines / "none.json").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--name", "Tax"), "member name"),
        (("--role", "king"), "role out of"),
        (("--engine", "raft"), "an engine out of"),
        (("--issues", "moon"), "kind"),
        (("--peer-url", "http://x.example:1"), "peer_url https"),
        (("--engine-address", "x"), "host:port"),
    ],
)
def test_what_makes_no_home(tmp_path: Path, shell: Shell, more: tuple[str, ...], expected: str) -> None:
    init(shell, tmp_path / "m", "tax", *more, code=2)
    assert expected in shell.error
    assert not list((tmp_path / "m").iterdir())
