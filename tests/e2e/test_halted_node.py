"""A node whose store was changed by hand stops, and comes back as docs/operating.md says: same roots, same keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import chainkit
import pytest

from network import Load, RealNetwork, real_network, until
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.statekeys import attested_through_key, member_key
from taxledger.nodes.forks.halting import HALTED_EXIT_STATUS, read_halt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def taxledger(*arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "taxledger.nodes.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def change_by_hand(net: RealNetwork, member: str, key: bytes, old: bytes, new: bytes) -> None:
    """Of a stopped node: a part of a value of the state map."""
    store = LevelStore(net.homes[member].store_path)
    try:
        value = store.get(b"m" + key)
        assert value is not None
        assert old in value
        store.write({b"m" + key: value.replace(old, new)})
    finally:
        store.close()


def exits(net: RealNetwork) -> int:
    """How often bank3 ended as a node that halted does."""
    log = (net.directory / "supervisor.log").read_text()
    return log.count(f"bank3 ended with status {HALTED_EXIT_STATUS}")


def signs_again(net: RealNetwork) -> None:
    """With another one away, nothing is decided or certified without bank3; and nobody holds anything against it."""
    net.stop("bank2")
    net.submit(net.sign(chainkit.attest(chainkit.group(*range(900_001, 900_004)))))
    net.agree("tax", "bank1", "bank3")
    net.start("bank2")
    net.agree()
    assert not [path for home in net.homes.values() for path in home.path.glob("forks/*")]


def test_a_damaged_store_is_replaced_though_the_others_have_nothing_newer(net: RealNetwork) -> None:
    net.agree()
    net.stop("bank3")
    home, directory = net.homes["bank3"].path, str(net.directory)
    change_by_hand(net, "bank3", member_key(1), b"tax", b"fax")
    # It stops while it starts: whoever waits for it hears why.
    said = taxledger("network", "start", directory, "--member", "bank3", status=1)
    assert "bank3 halted: the store is damaged" in said
    assert "halted: the store is damaged" in taxledger("network", "status", directory)
    assert "verified and placed: block" in taxledger("member", "sync", "--home", str(home))
    assert read_halt(home) is None
    taxledger("network", "start", directory, "--member", "bank3")
    signs_again(net)


@pytest.mark.usefixtures("cometbft")
def test_a_node_that_diverged_comes_back_under_the_engine(tmp_path: Path) -> None:
    """Twice: the second time the others' snapshot is older than what the node had."""
    with real_network(tmp_path / "net") as net:
        home, directory = net.homes["bank3"].path, str(net.directory)
        net.submit(net.sign(chainkit.attest(through="2025-01-01")))
        for month in (1, 2):
            net.agree()
            net.stop("bank3")
            key = attested_through_key(1, chainkit.INVOICE)
            change_by_hand(net, "bank3", key, f"2025-{month:02d}".encode(), b"2026-01")
            net.start("bank3")
            halts = exits(net)
            net.submit(net.sign(chainkit.attest(through=f"2025-{month + 1:02d}-01")))
            until(lambda before=halts: exits(net) > before, "bank3 stops itself")
            assert "halted: this node diverged" in taxledger("network", "status", directory)
            start = ("network", "start", directory, "--member", "bank3")
            assert "bank3 halted: this node diverged" in taxledger(*start, status=1)
            # Without a new state it does not get far.
            assert "bank3 halted: this node diverged" in taxledger(*start, "--clear", status=1)
            said = taxledger("ledger", "check", "--home", str(home), status=1)
            assert f"the value of key {key.hex()} of the map" in said
            with Load(net, "tax", "bank1", first=month * 100_000) as load:
                load.progress(3)
                said = taxledger("member", "sync", "--home", str(home), status=2)
                until_synced(said, home, load)
                load.progress(1)
                taxledger(*start)
                load.progress(2)
                load.finish()
            assert read_halt(home) is None
        net.agree()
        signs_again(net)


def until_synced(said: str, home: Path, load: Load) -> None:
    """Empty the engine's folder by the very command that the refusal names, then sync, as soon as that can be."""
    command = said.partition("try again: ")[2].replace("\n", " ")
    assert command.startswith("find ")
    subprocess.run(command.split(), check=True, timeout=30)
    assert [path.name for path in (home / "engine" / "data").iterdir()] == ["priv_validator_state.json"]

    def synced() -> bool:
        done = subprocess.run(
            [sys.executable, "-m", "taxledger.nodes.cli.main", "member", "sync", "--home", str(home)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or "try again" in done.stdout + done.stderr, done.stdout + done.stderr
        load.progress(1)
        return done.returncode == 0

    until(synced, "a snapshot that the engine has gone on from")
