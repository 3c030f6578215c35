"""A home in one file and back: what is in it, what never is, and what is refused."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import random
import sqlite3
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from taxledger.ledger.chain import Chain
from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.ledger.store import MemoryStore
from taxledger.nodes.application import Application
from taxledger.nodes.backup import backup_home, check_not_moved, restore_home
from taxledger.nodes.cli.network import grant_all_scopes
from taxledger.nodes.home import Home
from taxledger.nodes.identity.birthtokens import fresh_uses, spend_token
from taxledger.nodes.identity.signingkeys import load_keys
from taxledger.nodes.local.network import create_network

HEAD = len(b"taxledger backup 1\n") + 65


@pytest.fixture
def home(tmp_path: Path) -> Home:
    now = datetime.datetime.now(datetime.UTC)
    create_network(tmp_path / "net", members=["tax", "bank1"], now=now, grant=grant_all_scopes)
    made = Home(tmp_path / "net" / "tax")
    (made.path / "log" / "node.log").write_text("a line")
    return made


def names_in(path: Path) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes()[HEAD:])) as tar:
        return tar.getnames()


def wrapped(tar: bytes) -> bytes:
    return b"taxledger backup 1\n" + hashlib.sha256(tar).hexdigest().encode() + b"\n" + tar


def test_without_keys_it_holds_no_secret(home: Home, tmp_path: Path) -> None:
    facts = backup_home(home, tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    assert facts.digest == hashlib.sha256(data[HEAD:]).hexdigest()
    assert names_in(tmp_path / "b") == [
        "backup.json", "api_keys.json", "genesis.bin", "member.json", "node.toml", "policy.txt",
        "tls/ca.pem", "tls/peers.pem",
    ]  # fmt: skip
    for key in home.keys_folder.glob("*.key"):
        assert key.read_bytes().strip() not in data
    assert home.client().key.encode() not in data
    restore_home(tmp_path / "b", tmp_path / "again", digest=facts.digest)
    again = Home(tmp_path / "again")
    assert again.config == home.config
    assert again.genesis() == home.genesis()
    assert not again.has_key("cosign")


def test_former_policies_come_back(home: Home, tmp_path: Path) -> None:
    kept = ["policy-embedded.txt", "policy.0a1b2c3d.txt", "policy.0a1b2c3d0a1b2c3d.txt"]
    for name in (*kept, "policy.draft.txt"):
        (home.path / name).write_bytes(home.policy())
    backup_home(home, tmp_path / "b")
    restore_home(tmp_path / "b", tmp_path / "again")
    assert sorted(each.name for each in (tmp_path / "again").glob("policy*")) == [*kept, "policy.txt"]


def test_no_birth_token_and_no_journal_ever_come_back(home: Home, tmp_path: Path) -> None:
    (home.store_path / "000005.ldb").write_bytes(b"a journal")
    assert fresh_uses(home) == {"vote", "cosign"}
    backup_home(home, tmp_path / "b", with_keys=True)
    assert not [name for name in names_in(tmp_path / "b") if name.endswith(".fresh") or "store" in name]
    restore_home(tmp_path / "b", tmp_path / "again")
    again = Home(tmp_path / "again")
    assert again.key("cosign") == home.key("cosign")
    assert again.client() == home.client()
    assert not fresh_uses(again)
    assert not list(again.store_path.iterdir())
    for path in again.path.rglob("*"):
        assert not path.stat().st_mode & 0o077, path
    # What a node of that home may sign with: nothing.
    application = Application(Chain(MemoryStore(), again.genesis()), load_keys(again), lambda: 1)
    assert application.may_sign == frozenset()
    application = Application(Chain(MemoryStore(), home.genesis()), load_keys(home), lambda: 1)
    assert application.may_sign == {"vote", "cosign"}, "the test would notice"


def test_stores_are_copied_while_they_are_written(home: Home, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(home.path / "vault.sqlite")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE rows (n INTEGER)")
        writer.executemany("INSERT INTO rows VALUES (?)", [(n,) for n in range(1_000)])
        writer.commit()
        writer.execute("INSERT INTO rows VALUES (-1)")  # not committed
        assert (home.path / "vault.sqlite-wal").stat().st_size
        backup_home(home, tmp_path / "b")
    restore_home(tmp_path / "b", tmp_path / "again")
    assert not (tmp_path / "again" / "vault.sqlite-wal").exists()
    with contextlib.closing(sqlite3.connect(tmp_path / "again" / "vault.sqlite")) as copy:
        assert copy.execute("SELECT count(*), min(n) FROM rows").fetchone() == (1_000, 0)


def test_damage_is_found_before_anything_is_written(home: Home, tmp_path: Path) -> None:
    backup_home(home, tmp_path / "b", with_keys=True)
    data = (tmp_path / "b").read_bytes()
    chosen = random.Random(3)
    bad = [data[:n] for n in (0, 5, HEAD - 1, HEAD, HEAD + 700, len(data) - 1)]
    for at in [*range(0, HEAD, 9), *(chosen.randrange(HEAD, len(data)) for _ in range(60))]:
        bad.append(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for each in (*bad, data + b"\0"):
        (tmp_path / "bad").write_bytes(each)
        with pytest.raises(FormatError):
            restore_home(tmp_path / "bad", tmp_path / "again")
        assert not (tmp_path / "again").exists()
    with pytest.raises(FormatError, match="expected digest"):
        restore_home(tmp_path / "b", tmp_path / "again", digest="00" * 32)


def forged(files: list[str], *, entries: list[str] | None = None, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A backup whose digest is right and whose content is not ours."""
    manifest: dict[str, Any] = {
        "member": "tax", "network": "demo", "chain_id": "00" * 16,
        "with_keys": True, "with_journal": True, "files": files,
    }  # fmt: skip
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        data = json.dumps(manifest).encode()
        for name, content, type_ in [
            ("backup.json", data, tarfile.REGTYPE),
            *((name, b"x", kind) for name in (files if entries is None else entries)),
        ]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = type_, "/etc/passwd"
            entry.size = len(content) if type_ == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(content))
    return wrapped(target.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        forged(["../evil"]),
        forged(["/etc/evil"]),
        forged(["keys/../../evil.key"]),
        forged(["keys/cosign.fresh"]),
        forged(["moved.json"]),
        forged(["engine/data/../../../evil"]),
        forged(["store/x", "store/x"]),
        forged(["policy.txt"], entries=["node.toml"]),
        forged(["policy.txt"], entries=[]),
        forged([], entries=["policy.txt"]),
        forged(["policy.txt"], kind=tarfile.SYMTYPE),
        forged(["policy.txt"], kind=tarfile.LNKTYPE),
        wrapped(b""),
        wrapped(b"x" * 2_000),
    ],
)
def test_a_forged_file_writes_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(FormatError):
        restore_home(tmp_path / "b", tmp_path / "again", with_journal=True)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_is_there_is_kept(home: Home, tmp_path: Path) -> None:
    backup_home(home, tmp_path / "b")
    with pytest.raises(InputError, match="exists"):
        backup_home(home, tmp_path / "b")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(InputError, match="not an empty folder"):
        restore_home(tmp_path / "b", tmp_path / "full")
    with pytest.raises(InputError, match="with the signing journal"):
        restore_home(tmp_path / "b", tmp_path / "again", with_journal=True)
    with pytest.raises(InputError, match="expected keys with the journal"):
        backup_home(home, tmp_path / "c", with_journal=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "full", "net"]


def test_a_journal_is_taken_once_and_of_a_stopped_node(home: Home, tmp_path: Path) -> None:
    lock = home.store_path / "LOCK"
    lock.touch()
    (home.store_path / "000005.ldb").write_bytes(b"a journal")
    with pytest.raises(InputError, match="tax has never run: its cosign and vote keys have no journal"):
        backup_home(home, tmp_path / "b", with_keys=True, with_journal=True)
    for use in ("cosign", "vote"):
        spend_token(home, use)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UnavailableError, match="tax runs"):
            backup_home(home, tmp_path / "b", with_keys=True, with_journal=True)
        assert not (tmp_path / "b").exists()
        check_not_moved(home)
        holder.communicate(b"")
    backup_home(home, tmp_path / "b", with_keys=True, with_journal=True)
    with pytest.raises(InputError, match="was moved"):
        check_not_moved(home)
    with pytest.raises(InputError, match="was moved"):
        backup_home(home, tmp_path / "c", with_keys=True)
    restore_home(tmp_path / "b", tmp_path / "left-out")
    assert not list((tmp_path / "left-out" / "store").iterdir())
    restore_home(tmp_path / "b", tmp_path / "again", with_journal=True)
    assert (tmp_path / "again" / "store" / "000005.ldb").read_bytes() == b"a journal"
    assert not (tmp_path / "again" / "keys" / "cosign.fresh").exists()
    check_not_moved(Home(tmp_path / "again"))


def test_a_journal_that_can_not_be_written_leaves_the_home_alone(home: Home, tmp_path: Path) -> None:
    for use in ("cosign", "vote"):
        spend_token(home, use)
    with pytest.raises(UnavailableError):
        backup_home(home, tmp_path / "absent" / "b", with_keys=True, with_journal=True)
    check_not_moved(home)
