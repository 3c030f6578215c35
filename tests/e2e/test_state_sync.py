"""A node whose disk is gone begins from another member's snapshot, follows, and signs nothing with its old key."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from network import Load, RealNetwork, real_network, until
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.store import MemoryStore


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "taxledger.nodes.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def taxledger(*arguments: str, status: int = 0) -> str:
    returned, said = run(*arguments)
    assert returned == status, said
    return said


def test_a_wiped_disk_begins_from_a_snapshot(net: RealNetwork) -> None:
    with Load(net, "tax", "bank1") as load:
        load.progress(5)
        acknowledged = load.finish()
    net.agree()
    home = net.homes["bank2"].path
    assert "another process" in taxledger("member", "sync", "--home", str(home), status=1)
    net.stop("bank2")
    shutil.rmtree(home / "store")
    said = taxledger("member", "sync", "--home", str(home))
    assert "verified and placed: block" in said
    kept = [path for name in net.names for path in (net.homes[name].path / "snapshots").glob("[0-9]*")]
    assert kept
    said = taxledger("snapshot", "verify", str(kept[0]), "--policy", str(net.directory / "policy.txt"))
    assert "verified: block" in said
    with Load(net, "tax", "bank1", first=500_000) as load:
        load.progress(3)
        net.start("bank2")
        load.progress(3)
        acknowledged |= load.finish()
    agreed = net.agree()
    assert "signing journal" in net.status("bank2")["reason"]
    old = net.get("bank2", "/v1/export")
    assert old.status_code == 404
    assert old.json()["code"] == "pruned"
    first = min(acknowledged, key=lambda each: acknowledged[each].index)
    assert net.get("bank2", f"/v1/transactions/{first.hex()}").json()["code"] == "pruned"
    assert net.get("bank2", "/v1/events?after=1").json()["code"] == "pruned"
    report = audit_archive(
        io.BytesIO(net.get("bank1", "/v1/export").content), MemoryStore(), policy=net.policy
    )
    assert (report.log_root.hex(), report.state_root.hex()) == (agreed["log_root"], agreed["state_root"])
    with net.client("bank2") as client:
        assert client.state(b"\x06").header.height == agreed["height"]


@pytest.mark.slow
@pytest.mark.usefixtures("cometbft")
@pytest.mark.timeout(600)
def test_a_wiped_disk_begins_from_a_snapshot_under_the_engine(tmp_path: Path) -> None:
    """Ledger and engine are both gone; the old keys stay silent in both."""
    with real_network(tmp_path / "net") as net:
        with Load(net, "tax", "bank1") as load:
            load.progress(5)
            acknowledged = load.finish()
        net.agree()
        home = net.homes["bank2"].path
        net.stop("bank2")
        shutil.rmtree(home / "store")
        shutil.rmtree(home / "engine" / "data")
        with Load(net, "tax", "bank1", first=300_000) as load:
            load.progress(2)

            def synced() -> bool:
                status, said = run("member", "sync", "--home", str(home))
                assert status == 0 or "try again" in said, said
                load.progress(1)
                return status == 0

            until(synced, "a snapshot that the engine has gone on from")
            load.progress(1)
            net.start("bank2")
            load.progress(2)
            acknowledged |= load.finish()
        agreed = net.agree()
        assert "signing journal" in net.status("bank2")["reason"]
        until(lambda: not (home / "engine" / "statesync.json").exists(), "the engine has begun")
        first = min(acknowledged, key=lambda each: acknowledged[each].index)
        assert net.get("bank2", f"/v1/transactions/{first.hex()}").json()["code"] == "pruned"
        with net.client("bank2") as client:
            assert client.state(b"\x06").header.height >= agreed["height"]
        # A new co-signing key through governance: from then on its co-signatures count again.
        taxledger("member", "rotate", "--home", str(home), "--key", "cosign")
        said = taxledger("member", "proposals", "--home", str(net.homes["tax"].path))
        proposal = said.split()[0]
        for name in ("tax", "bank1"):
            taxledger("member", "approve", "--home", str(net.homes[name].path), proposal)
        until(
            lambda: "--key cosign" not in (net.status("bank2").get("reason") or ""), "its new key is in force"
        )
        until(lambda: cosigns_of(net, "bank1", member=3), "its co-signatures count")


def cosigns_of(net: RealNetwork, name: str, *, member: int) -> bool:
    """Whether a member's co-signature is under the checkpoint that a node shows, once that is as new as can be."""
    note = net.get(name, "/v1/checkpoint").text
    return f"/{net.names[member - 1]} " in note
