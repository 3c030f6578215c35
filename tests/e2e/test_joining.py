"""From four folders that share nothing to a network; a fifth member joins, the fourth is replaced."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machines, machines

from network import until
from taxledger.ledger.errors import InputError
from taxledger.nodes.ordering.cometbft.binary import check_engine

NAMES = ("tax", "bank1", "bank2", "bank3")


@pytest.fixture(params=["embedded", pytest.param("cometbft", marks=pytest.mark.slow)])
def four(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Machines]:
    """Four members after the ceremony, running."""
    if request.param == "cometbft":
        try:
            check_engine()
        except InputError:
            pytest.skip("needs CometBFT")
    with machines(tmp_path, capsys, engine=request.param) as made:
        for name in NAMES:
            made.init(name, *(("--issues", "vat_invoice") if name == "tax" else ()))
        sequencer = ("--sequencer", "tax") if made.engine == "embedded" else ()
        bundle = made.post / "network.json"
        files = [made.post / f"{name}.json" for name in NAMES]
        made.run("network", "assemble", *files, "--engine", made.engine, *sequencer, "-o", bundle)
        for name in NAMES:
            made.enter(name, bundle)
        made.start(*NAMES)
        made.agree(*NAMES)
        yield made


def join(net: Machines, name: str, command: tuple[str, ...], approving: str) -> None:
    """A new member, from its first key to its running node."""
    public = net.init(name)
    bundle = net.post / f"for-{name}.json"
    net.run("network", "bundle", "--home", net.home("tax"), "-o", bundle)
    net.run("member", "prove", "--home", net.home(name), "--bundle", bundle, "-o", public)
    said = net.run("member", *command[:1], "--home", net.home("tax"), *command[1:], public)
    net.approve(said, *approving.split())
    net.enter(name, bundle)
    net.start(name)
    net.follow(name)


@pytest.mark.slow
def test_a_fifth_joins_and_the_fourth_is_replaced(four: Machines) -> None:
    net = four
    join(net, "bank4", ("add",), "bank1 bank2")
    assert "number           5\n" in net.run("member", "show", "--home", net.home("bank4"), "bank4")
    net.agree(*NAMES, "bank4")
    # Everyone has learned where it is, although no node.toml names it.
    for name in NAMES:
        path = net.home(name) / "peers.json"
        until(path.exists, f"{name} has learned an address")
        (said,) = json.loads(path.read_text())["peers"]
        assert said["number"] == 5
        assert "bank4" not in (net.home(name) / "node.toml").read_text()
    # Its co-signature counts: with two of five away, three are too few; with one away, four are enough.
    net.stop("bank2")
    said = net.run("parameter", "set", "--home", net.home("tax"), "answer.age_s", "700")
    net.approve(said, "bank1", "bank3", "bank4")
    net.agree("tax", "bank1", "bank3", "bank4")
    assert "answer.age_s    700" in net.run("parameter", "list", "--home", net.home("bank4"))
    net.start("bank2")
    net.agree(*NAMES, "bank4")
    # The fourth is gone, another takes its place, in one step.
    net.stop("bank3")
    join(net, "bank5", ("replace", "bank3"), "bank1 bank2 bank4")
    net.agree("tax", "bank1", "bank2", "bank4", "bank5")
    shown = net.run("member", "list", "--home", net.home("bank1"))
    assert [line.split()[3] for line in shown.splitlines()[1:7]].count("removed") == 1
    # What was learned is known again after a restart, and one that moved is found.
    net.stop("tax", "bank4")
    net.start("tax", "bank4")
    net.agree("tax", "bank1", "bank2", "bank4", "bank5")


def test_who_can_not_join(four: Machines, tmp_path: Path) -> None:
    net = four
    public = net.init("bank4")
    bundle = net.post / "now.json"
    net.run("network", "bundle", "--home", net.home("tax"), "-o", bundle)
    assert "proofs of bank4's keys" in net.run("member", "add", "--home", net.home("tax"), public, code=2)
    prove = ("member", "prove", "--home", net.home("bank4"), "--bundle", bundle, "-o", public)
    net.run(*prove, "--number", "2")
    said = net.run("member", "add", "--home", net.home("tax"), public, code=2)
    assert "expected a number that no member has, like 5, got 2" in said
    document = json.loads(bundle.read_text())
    document["chain_id"] = "00" * 16
    (tmp_path / "other.json").write_text(json.dumps(document))
    assert "chain_id" in net.run("member", "enter", "--home", net.home("bank4"), "--bundle",
                                 tmp_path / "other.json", code=2)  # fmt: skip
    net.run(*prove)
    # A thief of the public file alone can't be the member.
    shutil.copytree(net.home("bank4"), tmp_path / "thief" / "home")
    for key in (tmp_path / "thief" / "home" / "keys").glob("*.key"):
        key.write_text("11" * 32 + "\n")
    said = net.run("member", "enter", "--home", tmp_path / "thief" / "home", "--bundle", bundle, code=2)
    assert "expected the private half" in said
    assert "no proposals" in net.proposals("tax")


@pytest.mark.slow
def test_a_node_moves_with_its_journal_and_the_old_one_never_starts(four: Machines) -> None:
    net, file = four, four.folder / "bank3.backup"
    said = net.run("backup", net.home("bank3"), "-o", file, "--with-keys", "--with-journal", code=1)
    assert "bank3 runs: a journal is taken of a stopped node only" in said
    net.stop("bank3")
    net.run("backup", net.home("bank3"), "-o", file, "--with-keys", "--with-journal")
    (net.folder / "bank3").rename(net.folder / "old")
    said = net.run("restore", file, "-o", net.folder / "bank3" / "home", "--with-journal")
    assert "WARNING" in said
    net.start("bank3")
    net.agree(*NAMES)
    # It signs: with another one away it is needed.
    net.stop("bank2")
    said = net.run("parameter", "set", "--home", net.home("tax"), "answer.age_s", "800")
    net.approve(said, "bank1", "bank3")
    command = [sys.executable, "-m", "taxledger.nodes.node", "--home", str(net.home("old"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert "was moved" in ended.stderr
    # Without the journal it follows, and says that it does not sign.
    net.stop("bank3")
    (net.folder / "bank3").rename(net.folder / "moved")
    net.run("restore", file, "-o", net.folder / "bank3" / "home")
    net.start("bank2", "bank3")
    net.agree(*NAMES)
    assert "signing journal" in net.log("bank3")
