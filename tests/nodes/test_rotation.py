"""Rotation: what was open goes on, what was sealed stays readable, and kill -9 anywhere loses nothing."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import chainkit
import pytest
from custodykit import INVOICE, KEY, Custody, row, use_stored_keys, write_cumcm
from hsmkit import TOKEN, write_pin
from rotationkit import make_home
from test_sealed_store import NOTES, first_form, get, put

from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.nodes.cli.main import main
from taxledger.nodes.custodian.database import VAULT
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.home import Home
from taxledger.nodes.sealed.homekeys import open_key_provider
from taxledger.nodes.sealed.rotation import rotate_data_key, rotate_key, store_facts
from taxledger.nodes.sealed.store import sealed_store
from taxledger.nodes.vaultconfig import KeySource

LAYOUTS = (VAULT, NOTES)
FILE = KeySource()


class HomeCustody(Custody):
    """A custody whose vault lies in a home."""

    def open(self) -> Vault:
        home = Home(self.folder)
        return Vault.open(
            home.vault_path,
            open_key_provider(home),
            chain_id=self.ledger.chain.chain_id,
            member=chainkit.ISSUER,
        )


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custody:
    use_stored_keys(monkeypatch)
    custody = HomeCustody(make_home(tmp_path).path)
    custody.upload(
        write_cumcm(tmp_path / "a.csv", [row(k, party="B4711", enterprise="E77") for k in range(5)])
    )
    return custody


def sealed_cells(path: Path) -> set[bytes]:
    """Every sealed cell, read as another program would."""
    plain = sqlite3.connect(path)
    try:
        return {
            cell
            for column in VAULT.columns
            for (cell,) in plain.execute(f"SELECT {column.column} FROM {column.table}")
        }
    finally:
        plain.close()


def test_open_vaults_go_on_through_every_rotation(custody: Custody, hsm: str, tmp_path: Path) -> None:
    home = Home(custody.folder)
    pin = str(write_pin(tmp_path / "pin"))
    token = KeySource(provider="pkcs11", module=hsm, token=TOKEN, label=secrets.token_hex(4), pin_file=pin)
    reader = HomeCustody.open(custody)  # type: ignore[arg-type]
    sigma = reader.sigma("cumcm:E77", INVOICE.kind, 2019)
    keys = [(key, 1) for key in sorted(custody.ledger.records())]
    before = sealed_cells(home.vault_path)
    steps = (
        lambda: rotate_key(home, LAYOUTS, FILE, years=False, now_ms=1, destroy=True),
        lambda: rotate_data_key(home, LAYOUTS, now_ms=2),
        lambda: rotate_key(home, LAYOUTS, token, years=False, now_ms=3, destroy=True),
        lambda: rotate_data_key(home, LAYOUTS, now_ms=4),
        lambda: rotate_key(home, LAYOUTS, FILE, years=True, now_ms=5),
        lambda: rotate_data_key(home, LAYOUTS, now_ms=6),
        lambda: rotate_key(home, LAYOUTS, FILE, years=False, now_ms=7, destroy=True),
        lambda: rotate_key(home, LAYOUTS, FILE, years=True, now_ms=8, destroy=True),
    )
    for number, step in enumerate(steps):
        step()
        assert all(reader.open_many(keys)), f"step {number}: the node that had it open"
        assert reader.sigma("cumcm:E77", INVOICE.kind, 2019) == sigma
        outcome = custody.upload(
            write_cumcm(
                tmp_path / "b.csv",
                [row(100 + number, enterprise="E77"), row(1, party="B4711", enterprise="E77")],
            )
        )
        assert outcome.sum("accepted") == 1, "the custodian that had it open, in a year it knew before"
        custody.verify()
        keys = [(key, value.version) for key, value in custody.ledger.records().items()]
    assert not before & sealed_cells(home.vault_path)
    (facts,) = store_facts(home, LAYOUTS)
    assert facts.generation == 3
    assert facts.key_rotated_ms == 8
    assert facts.data_key_rotated_ms == 6
    assert facts.keys["rows"] == facts.keys["lookup"] != facts.keys["years"]
    assert {name.partition(":")[0] for name in facts.keys.values()} == {"file"}
    reader.close()
    custody.reopen()
    custody.verify()
    assert len(list((home.path / "keys").iterdir())) == 2, "the destroyed ones are gone"


def test_old_cells_and_an_old_key_are_gone(custody: Custody) -> None:
    home = Home(custody.folder)
    before = sealed_cells(home.vault_path)
    old_file = custody.folder / "old.sqlite.backup"
    custody.vault.database.copy_to(old_file)
    (done,) = rotate_data_key(home, LAYOUTS, now_ms=1)
    assert done.scrubbed
    assert done.cells == len(before)
    content = b"".join(path.read_bytes() for path in home.path.glob("vault.sqlite*"))
    assert not [cell for cell in before if cell[-40:] in content]
    rotated = rotate_key(home, LAYOUTS, FILE, years=False, now_ms=1, destroy=True)
    assert rotated.destroyed
    custody.vault.close()
    home.vault_path.unlink()
    old_file.rename(home.vault_path)
    with pytest.raises(FormatError, match=f"wrapped by {rotated.former}, node.toml names {rotated.name}"):
        custody.open()


def test_a_row_read_before_and_opened_after(tmp_path: Path) -> None:
    """And one more rotation, missed altogether, is found as well."""
    home = make_home(tmp_path)
    store = sealed_store(home.path / "notes.sqlite", NOTES, open_key_provider(home))
    sealed = put(store, b"a", b"first")
    rotate_data_key(home, LAYOUTS, now_ms=1)
    assert get(store, b"a") == b"first"
    assert store.open(b"notes", b"a", 1, sealed) == b"first", "read before, under the former key"
    put(store, b"b", b"second")
    fresh = sealed_store(home.path / "notes.sqlite", NOTES, open_key_provider(home))
    with pytest.raises(FormatError, match="damaged"):
        fresh.open(b"notes", b"a", 1, sealed)
    rotate_data_key(home, LAYOUTS, now_ms=2)
    rotate_data_key(home, LAYOUTS, now_ms=3)
    assert [get(fresh, key) for key in (b"a", b"b")] == [b"first", b"second"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_what_is_written_after_a_rotation_is_sealed_with_the_new_key(tmp_path: Path, exclusive: bool) -> None:
    """Also where the writer has read nothing since, and so could not have noticed."""
    home = make_home(tmp_path)
    path = home.path / "notes.sqlite"
    store = sealed_store(path, NOTES, open_key_provider(home))
    put(store, b"a", b"first")
    rotate_data_key(home, LAYOUTS, now_ms=1)
    if exclusive:
        with store.exclusive():
            sealed = store.seal(b"notes", b"b", 1, b"second")
            with store.database.write() as connection:
                connection.execute("INSERT INTO notes VALUES (?, 1, ?)", (b"b", sealed))
    else:
        put(store, b"b", b"second")
    later = sealed_store(path, NOTES, open_key_provider(home))
    assert [get(later, key) for key in (b"a", b"b")] == [b"first", b"second"]
    rotate_data_key(home, LAYOUTS, now_ms=2)
    assert [get(later, key) for key in (b"a", b"b")] == [b"first", b"second"]


def test_rotation_and_uploads_exclude_each_other(custody: Custody) -> None:
    home = Home(custody.folder)
    with custody.vault.exclusive():
        with pytest.raises(UnavailableError, match="another upload"):
            rotate_data_key(home, LAYOUTS, now_ms=1)
        rotate_key(home, LAYOUTS, FILE, years=False, now_ms=1)
    rotate_data_key(home, LAYOUTS, now_ms=1)
    custody.verify()


def test_a_damaged_cell_stops_the_rotation_and_costs_nothing(custody: Custody) -> None:
    home = Home(custody.folder)
    key = sorted(custody.ledger.records())[2]
    with custody.vault.database.write() as connection:
        connection.execute("UPDATE records SET sealed = zeroblob(80) WHERE key = ?", (key,))
    before = sealed_cells(home.vault_path)
    with pytest.raises(FormatError, match="damaged"):
        rotate_data_key(home, LAYOUTS, now_ms=1)
    assert sealed_cells(home.vault_path) == before
    others = [(each, 1) for each in custody.ledger.records() if each != key]
    assert all(custody.vault.open_many(others))


def test_what_is_not_known_is_not_rotated(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    store = sealed_store(home.path / "notes.sqlite", NOTES, open_key_provider(home))
    put(store, b"a", b"content")
    with pytest.raises(FormatError, match="a kind this version does not know"):
        rotate_data_key(home, (VAULT,), now_ms=1)
    assert rotate_key(home, (VAULT,), FILE, years=False, now_ms=1).stores == 1, "wrapping needs no layout"
    assert get(store, b"a") == b"content"


CHILD = """
import os, signal, sys
from pathlib import Path
from taxledger.nodes.custodian.database import VAULT
from taxledger.nodes.home import Home
from taxledger.nodes.sealed import keyring, rotation
from taxledger.nodes.vaultconfig import KeySource
from test_sealed_store import NOTES

left = int(sys.argv[2])

def step():
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

def deadly(owner, name):
    real = getattr(owner, name)
    def run(*arguments, **options):
        step()
        answer = real(*arguments, **options)
        step()
        return answer
    setattr(owner, name, run)

for owner, name in (
    (rotation, "write_vault"), (rotation, "_sync"), (rotation, "write_secret"), (rotation, "_make_key"),
    (rotation, "_rewrap"), (rotation, "_mark"), (rotation, "_destroy"), (rotation, "reseal"),
    (rotation, "reseal_meta"), (rotation, "_scrubbed"), (Path, "rename"), (Path, "replace"), (Path, "unlink"),
):
    deadly(owner, name)
home = Home(Path(sys.argv[1]))
if sys.argv[3] == "data":
    rotation.rotate_data_key(home, (VAULT, NOTES), now_ms=1)
else:
    rotation.rotate_key(
        home, (VAULT, NOTES), KeySource(), years=sys.argv[3] == "years", now_ms=1, destroy=True
    )
"""


@pytest.mark.parametrize(
    "what", [*(pytest.param(each, marks=pytest.mark.slow) for each in ("rows", "years")), "data"]
)
def test_kill_9_at_each_step(custody: Custody, what: str) -> None:
    """Real processes. After each death everything opens, without any repair; the next call finishes."""
    home = Home(custody.folder)
    notes = sealed_store(home.path / "notes.sqlite", NOTES, open_key_provider(home))
    put(notes, b"a", b"content")
    custody.vault.close()
    notes.close()
    at = 0
    while True:
        arguments = [sys.executable, "-c", CHILD, str(home.path), str(at), what]
        process = subprocess.run(
            arguments, capture_output=True, timeout=60, env=child_environment(), check=False
        )
        custody.reopen()
        custody.verify()
        assert custody.vault.year(2019) is not None
        notes = sealed_store(home.path / "notes.sqlite", NOTES, open_key_provider(home))
        assert get(notes, b"a") == b"content"
        notes.close()
        custody.vault.close()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
        at += 1
    assert at >= 10, "steps were watched"
    vault = Home(home.path).config.vault
    assert vault.rows_next is None
    assert vault.years_next is None
    for facts in store_facts(home, LAYOUTS):
        wrapping = {facts.keys[each] for each in facts.keys if each != "years"}
        assert wrapping == {open_key_provider(Home(home.path)).name}


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}


def test_a_token_rotation_that_was_cut_off(
    custody: Custody, hsm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the key was made in the token, before any store was wrapped by it: the same key goes on."""
    home = Home(custody.folder)
    pin = str(write_pin(tmp_path / "pin"))
    token = KeySource(provider="pkcs11", module=hsm, token=TOKEN, label=secrets.token_hex(4), pin_file=pin)
    with monkeypatch.context() as patch:
        patch.setattr("taxledger.nodes.sealed.rotation._rewrap", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rotate_key(home, LAYOUTS, token, years=False, now_ms=1)
    custody.verify()
    done = rotate_key(home, LAYOUTS, FILE, years=False, now_ms=1)
    assert done.resumed
    assert done.name == f"pkcs11:{TOKEN}/{token.label}"
    with pytest.raises(InputError, match="new label"):
        rotate_key(home, LAYOUTS, token, years=False, now_ms=1)
    custody.reopen()
    custody.verify()


def test_a_vault_of_the_first_form_is_rotated_too(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    first_form(home.vault_path)
    rotate_key(home, LAYOUTS, FILE, years=False, now_ms=1, destroy=True)
    rotate_data_key(home, LAYOUTS, now_ms=1)
    store = sealed_store(home.vault_path, VAULT, open_key_provider(home))
    (sealed,) = store.database.one("SELECT sealed FROM years") or (b"",)
    assert store.open(b"years", (2025).to_bytes(2, "big"), 1, sealed) == b"year keys"


def test_without_the_key_of_year_keys_records_still_open(
    custody: Custody, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(custody.folder)
    name = rotate_key(home, LAYOUTS, FILE, years=True, now_ms=1).name
    years = Home(home.path).config.vault.years
    assert years is not None
    before = custody.vault.database.all("SELECT value FROM meta ORDER BY name")
    (home.path / years.file).unlink()
    custody.reopen()
    assert all(custody.vault.open_many([(key, 1) for key in custody.ledger.records()]))
    assert custody.vault.sigma("cumcm:E77", INVOICE.kind, 2019) is not None, "stored pseudonyms too"
    with pytest.raises(InputError, match="cannot read"):
        custody.vault.year(2019)
    with pytest.raises(InputError, match="cannot read"):
        rotate_data_key(home, LAYOUTS, now_ms=2)
    assert custody.vault.database.all("SELECT value FROM meta ORDER BY name") == before
    assert main(["vault", "status", "--home", str(home.path)]) == 0
    said = capsys.readouterr().out
    assert name not in said
    assert "cannot read" in said


def test_the_commands(custody: Custody, hsm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(custody.folder)]

    def run(*arguments: str, status: int = 0) -> str:
        assert main(["vault", *arguments, *home]) == status
        said = capsys.readouterr()
        return said.out if status == 0 else said.err

    assert "records" in run("status")
    facts = json.loads(run("status", "--json"))
    assert facts["stores"][0]["rows"]["records"] == 5
    assert facts["stores"][0]["key_rotated_ms"] is None
    assert "needs --module" in run("rotate-key", "--to", "pkcs11", status=2)
    assert "file or pkcs11" in run("rotate-key", "--to", "cloud", status=2)
    assert "are for --to pkcs11" in run("rotate-key", "--token", "x", status=2)
    pin = str(write_pin(tmp_path / "pin"))
    to_token = ["--to", "pkcs11", "--module", hsm, "--token", TOKEN, "--pin-file", pin]
    assert "is in force" in run("rotate-key", *to_token)
    first = json.loads(run("status", "--json"))["keys"]["rows"]
    assert first["provider"] == "pkcs11"
    second = json.loads(run("rotate-key", "--json"))
    assert second["former"] == first["key"] != second["key"]
    assert second["key"].startswith("pkcs11:")
    assert "rows sealed with new data keys" in run("rotate-data-key")
    run("rotate-key", "--years", "--to", "file")
    facts = json.loads(run("status", "--json"))
    assert facts["keys"]["years"]["key"] == facts["stores"][0]["wrapped_by"]["years"]
    assert facts["stores"][0]["data_key_generation"] == 1
    assert "is destroyed" in run("rotate-key", "--to", "file", "--destroy-old")
    custody.verify()
    for text in (Path(pin).read_text().strip(), KEY.hex()):
        assert text not in (custody.folder / "node.toml").read_text()


def test_a_reader_does_not_stop_a_rotation(custody: Custody, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxledger.nodes.sealed.database._BUSY_TIMEOUT_S", 0.05)
    home = Home(custody.folder)
    reader = sqlite3.connect(home.vault_path, isolation_level=None)
    reader.execute("BEGIN")
    cells = reader.execute("SELECT sealed FROM records ORDER BY key").fetchall()
    (done,) = rotate_data_key(home, LAYOUTS, now_ms=1)
    assert not done.scrubbed
    assert reader.execute("SELECT sealed FROM records ORDER BY key").fetchall() == cells
    reader.close()
    custody.verify()
