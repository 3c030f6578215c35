"""``taxledger lend key``: made, listed without its secret, taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from taxledger.api.auth import load_keys
from taxledger.nodes.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lender's folder in a member's home; no node runs."""
    net = tmp_path_factory.mktemp("keys") / "net"
    assert main(["network", "create", str(net), "--members", "tax,bank1,bank2"]) == 0
    folder = net / "bank1" / "lending"
    folder.mkdir(mode=0o700)
    (folder / "lending.toml").write_text(
        '[issuers]\nvat_invoice = 1\n[bank]\nname = "示例银行"\nbic = "DEMOCNBJXXX"\naccount = "1000000000000001"\n',
        "utf-8",
    )
    return folder


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    yield folder.parent
    (folder / "api_keys.json").unlink(missing_ok=True)


def test_keys_are_made_listed_and_revoked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for name, scope in (("shopcloud", "lend_apply"), ("shopcloud", "lend_apply"), ("core", "lend_core")):
        assert main(["lend", "key", "create", name, "--scope", scope, "--home", str(home), "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["key"].startswith(f"tl_{made['id']}_")
    file = home / "lending" / "api_keys.json"
    assert file.stat().st_mode & 0o077 == 0
    assert made["key"] not in file.read_text()
    assert [each.note for each in load_keys(file)] == ["shopcloud", "shopcloud", "core"]
    assert main(["lend", "key", "revoke", made["id"], "--home", str(home)]) == 0
    capsys.readouterr()
    assert main(["lend", "key", "list", "--home", str(home), "--json"]) == 0
    listed = capsys.readouterr().out
    assert [each["name"] for each in json.loads(listed)] == ["shopcloud", "shopcloud"]
    assert made["key"] not in listed
    assert main(["lend", "key", "revoke", made["id"], "--home", str(home)]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Shop Cloud", "--scope", "lend_apply"], "expected a name"),
        (["shop", "--scope", "read"], "expected --scope out of lend_apply"),
        (["direct", "--scope", "lend_apply"], "the lender's own"),
    ],
)
def test_a_wrong_key_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["lend", "key", "create", *arguments, "--home", str(home)]) == 2
    assert said in capsys.readouterr().err
    assert not (home / "lending" / "api_keys.json").exists()


def test_a_service_listens_where_it_may(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve = ["lend", "serve", "--home", str(home)]
    for listen, said in (
        ("127.0.0.1", "expected --listen HOST:PORT"),
        ("127.0.0.1:70000", "expected --listen HOST:PORT"),
        ("0.0.0.0:8500", "unless given a certificate"),
        ("bank.example:8500", "unless given a certificate"),
        ("127.0.0.1:0", "lend key create"),
    ):
        assert main([*serve, "--listen", listen]) == 2
        assert said in capsys.readouterr().err
    assert main(["lend", "key", "create", "counter", "--scope", "lend_officer", "--home", str(home)]) == 0
    capsys.readouterr()
    assert main([*serve, "--listen", "[::1]:0"]) == 1
    assert "does the network run?" in capsys.readouterr().err
