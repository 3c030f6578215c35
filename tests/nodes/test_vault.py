"""The vault: what is sealed, wrong keys, damaged and moved rows, other owners."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from custodykit import INVOICE, KEY, Custody, key_file, row, tags_of, use_stored_keys, write_cumcm

from taxledger.ledger.crypto import verify_tag_signature
from taxledger.ledger.errors import FormatError, TaxledgerError
from taxledger.ledger.records import tag_message, tag_of
from taxledger.nodes.custodian.database import Database
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.sealed import sealing
from taxledger.nodes.sealed.sealing import Sealer


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custody:
    use_stored_keys(monkeypatch)
    custody = Custody(tmp_path)
    rows = [row(k, party="B4711", enterprise="E77") for k in range(5)]
    custody.upload(write_cumcm(tmp_path / "upload-name.csv", rows))
    return custody


def opened(custody: Custody, key: bytes = KEY, **changes: object) -> Vault:
    options: dict[str, object] = {
        "chain_id": custody.vault.chain_id,
        "member": custody.vault.member,
        **changes,
    }
    return Vault.open(custody.folder / "vault.sqlite", key_file(custody.folder, key), **options)  # type: ignore[arg-type]


def test_nothing_that_names_anyone_stands_in_the_file(custody: Custody) -> None:
    custody.vault.close()
    content = b"".join(path.read_bytes() for path in custody.folder.glob("vault.sqlite*"))
    assert len(content) > 10_000
    for secret in (b"E77", b"cumcm", b"B4711", b"upload-name", b"2019-03", b"CNY", KEY):
        assert secret not in content
    assert (custody.folder / "vault.sqlite").stat().st_mode & 0o077 == 0


def test_a_wrong_key_or_owner_is_said_clearly(custody: Custody) -> None:
    with pytest.raises(FormatError, match="is not the one it was made with"):
        opened(custody, bytes(32))
    with pytest.raises(FormatError, match="64 hex digits"):
        opened(custody, bytes(31))
    with pytest.raises(FormatError, match="expected the vault of member 6"):
        opened(custody, member=6)
    with pytest.raises(FormatError, match="expected the vault of member 5 on chain 0000"):
        opened(custody, chain_id=bytes(16))


def test_a_file_that_is_no_vault(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_bytes(b"not a database at all, but long enough to be taken for one" * 20)
    with pytest.raises(FormatError, match="not a vault"):
        Vault.open(path, key_file(tmp_path), chain_id=bytes(16), member=1)
    with pytest.raises(TaxledgerError):
        Vault.open(tmp_path / "no" / "folder", key_file(tmp_path), chain_id=bytes(16), member=1)


def test_rows_that_were_changed_moved_or_put_back_do_not_open(custody: Custody) -> None:
    key = sorted(custody.ledger.records())[0]
    other = sorted(custody.ledger.records())[1]
    custody.vault.close()
    path = custody.folder / "vault.sqlite"
    plain = sqlite3.connect(path)
    sealed = dict(plain.execute("SELECT key, sealed FROM records"))
    flipped = sealed[key][:20] + bytes([sealed[key][20] ^ 1]) + sealed[key][21:]
    for wrong in (flipped, sealed[key][:-1], b"", sealed[other]):
        with plain:
            plain.execute("UPDATE records SET sealed = ? WHERE key = ?", (wrong, key))
        vault = opened(custody)
        with pytest.raises(FormatError, match="damaged"):
            vault.open_many([(other, 1), (key, 1)])
        assert vault.open_many([(other, 1)])[0] is not None
        vault.close()
    with plain:
        plain.execute("UPDATE records SET sealed = ?, version = 2 WHERE key = ?", (sealed[key], key))
    plain.close()
    with pytest.raises(FormatError, match="damaged"):
        opened(custody).open_many([(key, 2)])


def test_open_many_keeps_order_and_says_what_it_lacks(custody: Custody) -> None:
    keys = sorted(custody.ledger.records(), reverse=True)
    answers = custody.vault.open_many(
        [(keys[0], 1), (bytes(37), 1), (keys[1], 1), (keys[0], 2), *[(keys[2], 1)] * 900]
    )
    assert [each is None for each in answers[:4]] == [False, True, False, True]
    assert answers[4] == answers[-1] == custody.vault.open_many([(keys[2], 1)])[0]
    assert custody.vault.open_many([]) == []


def test_sigma_is_the_same_stored_or_made(custody: Custody) -> None:
    stored = custody.vault.sigma("cumcm:E77", INVOICE.kind, 2019)
    assert stored is not None
    keys = custody.vault.year(2019)
    assert keys is not None
    message = tag_message(custody.vault.chain_id, "cumcm:E77", INVOICE.kind, 2019)
    verify_tag_signature(keys.signer.modulus, stored, message)
    assert {tag_of(stored)} == {key[4:20] for key in custody.ledger.records()}
    assert tags_of(custody.vault, "cumcm:E77") == {2019: tag_of(stored)}
    before = custody.vault.database.all("SELECT * FROM tags")
    custody.reopen()
    assert custody.vault.sigma("cumcm:E77", INVOICE.kind, 2019) == stored
    unknown = custody.vault.sigma("cumcm:E78", INVOICE.kind, 2019)
    assert unknown not in (None, stored)
    assert custody.vault.database.all("SELECT * FROM tags") == before, "asking does not write"
    assert custody.vault.sigma("cumcm:E77", INVOICE.kind, 2018) is None
    owner = custody.vault.tag_owner(tag_of(stored))
    assert owner is not None
    assert (owner.subject, owner.kind, owner.year) == ("cumcm:E77", INVOICE.kind, 2019)
    assert custody.vault.tag_owner(bytes(16)) is None


def test_another_process_reads_while_one_writes(custody: Custody, tmp_path: Path) -> None:
    reader = opened(custody)
    keys = [(key, 1) for key in custody.ledger.records()]
    with custody.vault.database.write() as connection:
        connection.execute("DELETE FROM records")
        assert all(reader.open_many(keys))
    assert reader.open_many(keys) == [None] * 5
    reader.close()


def test_a_sealed_row_opens_at_its_place_alone() -> None:
    sealer = Sealer(sealing.new_key())
    sealed = sealer.seal(b"t", b"k", 1, b"content")
    assert sealed != sealer.seal(b"t", b"k", 1, b"content"), "a fresh nonce each time"
    assert sealer.open(b"t", b"k", 1, sealed) == b"content"
    for table, key, version in ((b"u", b"k", 1), (b"t", b"l", 1), (b"t", b"k", 2)):
        with pytest.raises(FormatError, match="damaged"):
            sealer.open(table, key, version, sealed)
    with pytest.raises(FormatError, match="damaged"):
        Sealer(sealing.new_key()).open(b"t", b"k", 1, sealed)
    assert sealing.lookup(bytes(32), b"a") != sealing.lookup(bytes([1] * 32), b"a")


def test_no_lookup_reads_the_whole_table(custody: Custody, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers and uploads stay as fast as they are with a few records when there are millions."""
    plans: list[str] = []

    def explained(self: Database, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        plan = asked(self, f"EXPLAIN QUERY PLAN {statement}", values)
        plans.extend(str(step[-1]) for step in plan)
        return asked(self, statement, values)

    asked = Database.all
    keys = [key for (key,) in custody.vault.database.all("SELECT key FROM records")]
    monkeypatch.setattr(Database, "all", explained)
    assert all(custody.vault.open_many([(key, 1) for key in keys]))
    marks = [mark for key in keys if (mark := custody.vault.mark(key)) is not None]
    assert len(custody.vault.marked(marks)) == len(keys) == 5
    assert len(plans) >= 2
    assert [plan for plan in plans if plan.startswith("SCAN")] == []
