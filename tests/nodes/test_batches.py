"""Uploads by their number: what each attested, and taking a wrong one back without touching what is somebody else's."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import chainkit
import pytest
from custodykit import Custody, codes, counts, row, state, use_stored_keys, write_cumcm

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError
from taxledger.ledger.records import Status
from taxledger.nodes.custodian import batchrevoke
from taxledger.nodes.custodian.amend import Amender, record_history
from taxledger.nodes.custodian.batches import ATTESTED, INTERRUPTED, REVOKED, REVOKING, Batches
from taxledger.nodes.custodian.batchmembers import members_of_batch
from taxledger.nodes.custodian.batchrevoke import BatchRevocation, revoke_batch
from taxledger.nodes.custodian.erasures import Erasures

VALID, REVERSED, GONE = int(Status.VALID), int(Status.REVERSED), int(Status.REVOKED)


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custody:
    use_stored_keys(monkeypatch)
    return Custody(tmp_path)


def upload(custody: Custody, name: str, *rows: Any) -> int:
    outcome = custody.upload(write_cumcm(custody.folder / name, rows))
    (number,) = outcome.batches
    return number


def revoke(custody: Custody, number: int, reason: str = "wrong file") -> BatchRevocation:
    signer = chainkit.signer(chainkit.ISSUER)
    return revoke_batch(
        custody.vault, signer, custody.ledger, number, reason=reason, clock=custody.ledger.clock
    )


def members(custody: Custody, number: int) -> list[tuple[int, str]]:
    found = members_of_batch(custody.vault, Batches(custody.vault), number)
    return sorted((each.line, each.state) for each in found)


def amender(custody: Custody) -> Amender:
    return Amender(
        custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, clock=custody.ledger.clock
    )


def key_of(custody: Custody, number: str) -> bytes:
    """The newest one, where the number was attested again."""
    return max(
        (value.height, key)
        for key, value in custody.ledger.records().items()
        if (opened := custody.vault.record(key, value.version)) is not None and number in opened.values
    )[1]


def test_every_upload_has_its_number(custody: Custody) -> None:
    assert upload(custody, "a.csv", row(1), row(2), row(2)) == 1
    assert upload(custody, "b.csv", row(2), row(3), row(4, enterprise="E2")) == 2
    first, second = Batches(custody.vault).all()
    assert (first.state, first.kind, first.begun_ms) == (ATTESTED, 5, first.begun_ms)
    (file,) = first.files
    assert (Path(file.name).name, file.rows, file.accepted, file.duplicates) == ("a.csv", 3, 2, 1)
    assert [each.accepted for each in second.files] == [2]
    assert members(custody, 1) == [(2, "attested"), (3, "attested")]
    assert members(custody, 2) == [(3, "attested"), (4, "attested")]
    assert custody.upload(custody.folder / "a.csv", dry_run=True).batches == ()
    assert len(Batches(custody.vault).all()) == 2
    with pytest.raises(RefusedError, match="batch_unknown"):
        Batches(custody.vault).get(3)


def test_what_it_attested_is_revoked_and_the_right_file_is_attested(custody: Custody) -> None:
    upload(custody, "a.csv", row(1))
    wrong = upload(custody, "b.csv", row(2, net="10.00"), row(3), row(1))
    made = revoke(custody, wrong)
    assert (made.revoked, made.transactions, dict(made.left), made.batch.state) == (2, 1, {}, REVOKED)
    assert state(custody, number="1") == [(VALID, 1)]
    assert state(custody, number="2") == state(custody, number="3") == [(GONE, 1)]
    history = record_history(custody.vault, key_of(custody, "3"))
    assert history is not None
    assert [(each.operation, each.reason) for each in history.steps] == [
        ("attest", None), ("revoke", "wrong file"),
    ]  # fmt: skip
    with pytest.raises(RefusedError, match="batch_revoked"):
        revoke(custody, wrong)
    # The right content under the same numbers, and what was right already: both are attested.
    right = custody.upload(write_cumcm(custody.folder / "c.csv", [row(2), row(3)]))
    assert counts(right) == (2, 2, 0, 0, 0)
    assert codes(right, "warnings") == []
    assert sorted(state(custody, number="2")) == sorted(state(custody, number="3")) == [(VALID, 1), (GONE, 1)]
    assert counts(custody.upload(custody.folder / "c.csv")) == (2, 0, 0, 2, 0)
    custody.reopen()
    assert counts(custody.upload(custody.folder / "c.csv")) == (2, 0, 0, 2, 0)
    custody.verify()
    # And wrong once more, for other reasons: there is a next id again.
    assert revoke(custody, right.batches[0]).revoked == 2
    assert counts(custody.upload(write_cumcm(custody.folder / "d.csv", [row(2), row(3)]))) == (2, 2, 0, 0, 0)
    assert len(state(custody, number="2")) == 3
    custody.verify()


def test_what_was_changed_since_is_left_alone(custody: Custody) -> None:
    upload(custody, "a.csv", row(1, net="77.00", tax="7.00"))
    # A red letter reverses the record of the batch before; one of its own is voided within the batch.
    red = row(2, net="-77.00", tax="-7.00", date="2019/7/1")
    wrong = upload(custody, "b.csv", red, row(3), row(4), row(4, status="作废发票"), row(5), row(6))
    assert state(custody, number="1") == [(REVERSED, 2)]
    amender(custody).amend(key_of(custody, "5"), status=Status.VOIDED, reason="by hand")
    amender(custody).revoke(key_of(custody, "6"), reason="by hand")
    made = revoke(custody, wrong)
    assert (made.revoked, dict(made.left)) == (4, {"amended": 1, "changed": 1})
    assert made.amended == (key_of(custody, "1"),)
    assert made.changed == (key_of(custody, "5"),)
    assert state(custody, number="4") == [(GONE, custody.ledger.records()[key_of(custody, "4")].version)]
    assert state(custody, number="1") == [(REVERSED, 2)]
    assert state(custody, number="5") == [(int(Status.VOIDED), 2)]
    custody.verify()


def test_a_revoked_red_letter_reverses_nothing_any_more(custody: Custody) -> None:
    wrong = upload(custody, "a.csv", row(2, net="-77.00", tax="-7.00", date="2019/7/1"))
    revoke(custody, wrong)
    upload(custody, "b.csv", row(1, net="77.00", tax="7.00"))
    assert state(custody, number="1") == [(VALID, 1)]


@pytest.mark.parametrize("where", ["fail_before", "fail_after"])
def test_a_revocation_goes_on_where_it_was_cut_off(
    custody: Custody, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(limits, "amend_changes_max", 4)
    monkeypatch.setattr(batchrevoke, "_STEP_TRANSACTIONS", 2)
    number = upload(custody, "a.csv", *(row(n) for n in range(1, 21)))
    sent = len(custody.ledger.submitted)
    getattr(custody.ledger, where).update({sent + 1, sent + 3})
    for _ in range(2):
        with pytest.raises(UnavailableError):
            revoke(custody, number, "first reason")
        custody.reopen()
        assert Batches(custody.vault).get(number).state == REVOKING
        with pytest.raises(RefusedError, match="batch_revoking"):
            upload(custody, "b.csv", row(99))
    made = revoke(custody, number, "second reason")
    assert (made.revoked, made.batch.reason) == (20, "first reason")
    assert {value.status for value in custody.ledger.records().values()} == {GONE}
    assert not custody.vault.database.all("SELECT 1 FROM outbox WHERE state = 2")
    custody.verify()


def test_an_interrupted_upload_keeps_its_own_records(custody: Custody) -> None:
    upload(custody, "a.csv", row(1))
    custody.ledger.fail_before.add(len(custody.ledger.submitted))
    with pytest.raises(UnavailableError):
        upload(custody, "b.csv", row(2), row(3))
    batches = Batches(custody.vault)
    assert [each.state for each in batches.all()] == [ATTESTED, INTERRUPTED]
    assert batches.get(2).files[0].accepted == 2
    with pytest.raises(RefusedError, match="batch_interrupted"):
        revoke(custody, 2)
    assert upload(custody, "b.csv", row(2), row(3), row(4)) == 3
    assert [each.state for each in batches.all()] == [ATTESTED] * 3
    assert members(custody, 3) == [(4, "attested")]
    assert revoke(custody, 2).revoked == 2
    assert state(custody, number="4") == [(VALID, 1)]


def test_what_the_ledger_refused_and_another_batch_attested_is_that_ones(custody: Custody) -> None:
    custody.ledger.refuse = {"attest": 5}
    refused = custody.upload(write_cumcm(custody.folder / "a.csv", [row(1)]))
    assert refused.refused
    custody.ledger.refuse = {}
    assert members(custody, refused.batches[0]) == [(0, "not_attested")]
    later = upload(custody, "b.csv", row(1))
    assert members(custody, refused.batches[0]) == [(0, "not_attested")]
    assert dict(revoke(custody, refused.batches[0]).left) == {"not_attested": 1}
    assert state(custody, number="1") == [(VALID, 1)]
    assert members(custody, later) == [(2, "attested")]


def test_what_was_revoked_by_hand_stays_revoked_but_makes_way(custody: Custody) -> None:
    upload(custody, "a.csv", row(1), row(2))
    amender(custody).revoke(key_of(custody, "1"), reason="another company's")
    again = custody.upload(custody.folder / "a.csv")
    assert counts(again) == (2, 0, 0, 2, 0)
    assert codes(again, "warnings") == [(2, "revoked")]
    assert state(custody, number="1") == [(GONE, 1)]
    right = custody.upload(write_cumcm(custody.folder / "b.csv", [row(1, net="7.00")]))
    assert counts(right)[1] == 1
    assert sorted(state(custody, number="1")) == [(VALID, 1), (GONE, 1)]
    custody.verify()


def test_an_erasure_takes_its_records_out_of_their_batches(custody: Custody) -> None:
    one = write_cumcm(custody.folder / "e1.csv", [row(1), row(2)])
    other = write_cumcm(custody.folder / "e2.csv", [row(3, enterprise="E2")])
    custody.upload(one, other)
    key = key_of(custody, "1")
    vault = custody.vault
    with vault.exclusive():
        assert Erasures(vault).destroy({key[:20]: (5, 2019)}, [], "asked", 1) == 2
    batches = Batches(vault)
    assert [Path(each.name).name for each in batches.get(1).files] == ["", "e2.csv"]
    assert len(batches.written(1)) == 1
    assert b"e1.csv" not in (custody.folder / "vault.sqlite").read_bytes()
    assert members(custody, 1) == [(2, "attested")]


def test_names_and_what_belongs_together_are_sealed(custody: Custody) -> None:
    upload(custody, "enterprise.csv", row(1))
    stored = b"".join(path.read_bytes() for path in custody.folder.glob("vault.sqlite*"))
    assert b"enterprise" not in stored
    clear = custody.vault.database.all("SELECT batch, kind, state FROM batches")
    assert clear == [(1, 5, ATTESTED)]


def test_a_vault_from_before_there_were_batches(custody: Custody) -> None:
    """As a version without batches left it: no tables, and no number in its rows."""
    upload(custody, "a.csv", row(1), row(2))
    vault = custody.vault
    with vault.store.write() as connection:
        for key, version in connection.execute("SELECT key, version FROM records").fetchall():
            opened = vault.record(key, version)
            assert opened is not None
            sealed = vault.seal_record(
                key, version, opened.secret, opened.schema, opened.values, opened.file, opened.line, bytes(12)
            )
            connection.execute("UPDATE records SET sealed = ? WHERE key = ?", (sealed, key))
    vault.close()
    with sqlite3.connect(custody.folder / "vault.sqlite") as old:
        old.execute("DROP TABLE batches")
        old.execute("DROP TABLE batch_parts")
    custody.vault = custody.open()
    assert Batches(custody.vault).all() == []
    assert upload(custody, "b.csv", row(1), row(3)) == 1
    assert members(custody, 1) == [(3, "attested")]
    assert revoke(custody, 1).revoked == 1
    assert state(custody, number="1") == state(custody, number="2") == [(VALID, 1)]
    custody.verify()


def test_a_reason_in_words(custody: Custody) -> None:
    upload(custody, "a.csv", row(1))
    with pytest.raises(FormatError, match="a reason in words"):
        revoke(custody, 1, " ")
    assert Batches(custody.vault).get(1).state == ATTESTED
