"""Uploads cut off anywhere: nothing is lost, attested without its secret, or claimed twice."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import chainkit
import pytest
from custodykit import KEY, NOW_S, Custody, counts, row, state, use_stored_keys, write_cumcm

from taxledger.ledger import limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.governance import member_set
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.members import member_of
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.records import Status
from taxledger.nodes.custodian.amend import Amender
from taxledger.nodes.custodian.database import Database
from taxledger.nodes.custodian.outbox import Outbox, Receipt
from taxledger.nodes.custodian.upload import Uploader
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.home import write_secret
from taxledger.nodes.sealed.providers import FileKeyProvider
from taxledger.nodes.sources.cumcm import CumcmSource

ROWS = [row(k, date=f"{2018 + k % 2}/3/{1 + k % 28}") for k in range(60)]
ROWS += [row(k, date=f"{2018 + k % 2}/3/{1 + k % 28}", status="作废发票") for k in range(8)]
ROWS += [row(99, date="2019/4/1", net="-100.0", tax="-13.0")]
EXPECTED = (69, 61, 8, 0, 0)


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custody:
    use_stored_keys(monkeypatch)
    return Custody(tmp_path)


def submissions(tmp_path: Path) -> int:
    """How many an undisturbed upload of ROWS makes."""
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    custody = Custody(folder)
    assert counts(custody.upload(write_cumcm(folder / "a.csv", ROWS))) == EXPECTED
    return len(custody.ledger.submitted)


@pytest.mark.parametrize("how", ["fail_before", "fail_after"])
def test_a_lost_submission_or_answer_at_any_step(custody: Custody, tmp_path: Path, how: str) -> None:
    total = submissions(tmp_path)
    assert total == 6, "two tag keys, two years, an amendment for each"
    for step in range(total):
        folder = tmp_path / f"step{step}"
        folder.mkdir()
        cut = Custody(folder)
        path = write_cumcm(folder / "a.csv", ROWS)
        setattr(cut.ledger, how, {step})
        with pytest.raises(UnavailableError):
            cut.upload(path)
        cut.reopen()
        outcome = cut.upload(path)
        rows, accepted, amended, duplicates, rejected = counts(outcome)
        assert rows == EXPECTED[0]
        assert rejected == 0
        # What the first run made durable is brought to its end first, and then counts as a duplicate.
        assert accepted in (0, EXPECTED[1])
        assert (accepted + amended + duplicates) == rows
        cut.verify()
        assert len(state(cut)) == EXPECTED[1]
        assert sorted(status for status, _version in state(cut)).count(2) == 8
        assert counts(cut.upload(path)) == (69, 0, 0, 69, 0)


def test_the_same_bytes_are_submitted_again(custody: Custody, tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row(1)])
    custody.ledger.fail_before = {1}
    with pytest.raises(UnavailableError):
        custody.upload(path)
    lost = custody.ledger.submitted[1]
    custody.reopen()
    outcome = custody.upload(path)
    assert outcome.resumed == 1
    assert custody.ledger.submitted[2] == lost
    assert counts(outcome) == (1, 0, 0, 1, 0)
    custody.verify()


def test_an_expired_transaction_is_signed_anew_and_its_rows_are_the_same(
    custody: Custody, tmp_path: Path
) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row(1), row(2)])
    custody.ledger.fail_before = {1}
    with pytest.raises(UnavailableError):
        custody.upload(path)
    before = custody.vault.database.all("SELECT key, sealed FROM records")
    custody.ledger.chain.time_ms += (limits.transaction_lifetime_s_max + 1) * 1_000
    custody.reopen()
    outcome = custody.upload(path)
    assert outcome.resumed == 1
    assert custody.ledger.submitted[2] != custody.ledger.submitted[1]
    assert custody.vault.database.all("SELECT key, sealed FROM records") == before
    assert counts(outcome) == (2, 0, 0, 2, 0)
    custody.verify()


def test_what_a_former_key_signed_and_never_counted_is_signed_anew(custody: Custody, tmp_path: Path) -> None:
    """The member rotated its transaction key while a run was interrupted: its rows stay the same."""
    path = write_cumcm(tmp_path / "a.csv", [row(1), row(2)])
    custody.ledger.fail_before = {1}
    with pytest.raises(UnavailableError):
        custody.upload(path)
    before = custody.vault.database.all("SELECT key, sealed FROM records")
    fresh = chainkit.signer(chainkit.ISSUER, "vote")
    chain = custody.ledger.chain
    member = member_of(chain.view, chainkit.ISSUER)
    assert member is not None
    change = member_set(replace(member, transaction_key=fresh.public_key), chain.chain_id, [fresh])
    propose = chain.sign(encode_propose(change), 1)
    chain.add(propose, *(chain.sign(encode_approve(log_leaf(propose)[:16]), number) for number in (2, 3)))
    chain.add()
    custody.reopen()
    with pytest.raises(RefusedError, match="member_inactive"):
        custody.upload(path)  # with the former key nothing counts any more
    outcome = custody.upload(path, signer=fresh)
    assert outcome.resumed == 1
    assert custody.vault.database.all("SELECT key, sealed FROM records") == before
    assert counts(outcome) == (2, 0, 0, 2, 0)
    custody.verify()


@pytest.mark.parametrize("found", [True, False])
def test_an_expired_one_that_had_counted_is_no_refusal(custody: Custody, tmp_path: Path, found: bool) -> None:
    """Its answer was lost. Signed anew it would be refused as existing: but its records are attested."""
    path = write_cumcm(tmp_path / "a.csv", [row(1)])
    custody.ledger.fail_after = {1}
    with pytest.raises(UnavailableError):
        custody.upload(path)
    custody.ledger.chain.time_ms += (limits.transaction_lifetime_s_max + 1) * 1_000
    custody.reopen()
    if not found:
        # The node that is asked has not caught up yet: it finds the first one only later.
        real, calls = custody.ledger.find, []

        def late(id: bytes) -> Receipt | None:
            calls.append(id)
            return None if len(calls) == 1 else real(id)

        custody.ledger.find = late  # type: ignore[method-assign]
    outcome = custody.upload(path)
    assert counts(outcome) == (1, 0, 0, 1, 0)
    assert outcome.resumed_refused == 0
    assert len(custody.ledger.submitted) == (2 if found else 3)
    custody.verify()


def test_two_uploads_at_once(custody: Custody, tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row(1)])
    with custody.vault.exclusive(), pytest.raises(UnavailableError, match="another upload"):
        custody.upload(path)
    assert counts(custody.upload(path)) == (1, 1, 0, 0, 0)


def test_a_refusal_to_take_anything_leaves_all_pending(custody: Custody, tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row(1)])

    def inactive(raw: bytes) -> Receipt:
        raise RefusedError("member_inactive", "suspended")

    real, custody.ledger.submit = custody.ledger.submit, inactive  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="member_inactive"):
        custody.upload(path)
    custody.ledger.submit = real  # type: ignore[method-assign]
    assert counts(custody.upload(path)) == (1, 1, 0, 0, 0)
    custody.verify()


class _Stop(BaseException):
    """As if the process ended there."""


def stopping_write(at: int, *, after: bool) -> Any:
    """``Database.write`` that stops at the commit of that number, before it or right after it."""
    real, done = Database.write, itertools.count(1)

    @contextmanager
    def write(self: Database) -> Iterator[sqlite3.Connection]:
        number = next(done)
        if number == at and not after:
            raise _Stop
        with real(self) as connection:
            yield connection
        if number == at and after:
            raise _Stop

    return write


@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("batch_records", [1_000, pytest.param(10, marks=pytest.mark.slow)])
def test_a_stop_at_every_commit(
    custody: Custody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, batch_records: int
) -> None:
    for at in range(1, 40):
        folder = tmp_path / str(at)
        folder.mkdir()
        cut = Custody(folder)
        paths = [write_cumcm(folder / f"{n}.csv", ROWS[n : n + 12]) for n in range(0, len(ROWS), 12)]
        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", stopping_write(at, after=after))
            try:
                cut.upload(*paths, batch_records=batch_records)
                break
            except _Stop:
                pass
        cut.reopen()
        assert counts(cut.upload(*paths, batch_records=batch_records))[4] == 0
        cut.verify()
        assert counts(cut.upload(*paths)) == (69, 0, 0, 69, 0)
        assert len(state(cut)) == EXPECTED[1]
        assert sum(status == 2 for status, _version in state(cut)) == 8
    assert 6 < at < 39, "tag keys, their results, batches, steps, their results"


def test_what_an_interrupted_upload_had_staged_goes_with_the_next(custody: Custody, tmp_path: Path) -> None:
    first = write_cumcm(tmp_path / "a.csv", [row(1), row(2)])
    second = write_cumcm(tmp_path / "b.csv", [row(1, status="作废发票"), row(3)])
    custody.upload(write_cumcm(tmp_path / "c.csv", [row(9)]))
    sent = len(custody.ledger.submitted)
    with pytest.MonkeyPatch.context() as patch:
        # The batch itself, then the records of each file and its counts: the second file's records are durable.
        patch.setattr(Database, "write", stopping_write(4, after=True))
        with pytest.raises(_Stop):
            custody.upload(first, second, write_cumcm(tmp_path / "d.csv", [row(4)]), batch_records=1)
    custody.reopen()
    assert len(custody.ledger.submitted) == sent, "nothing goes before the last file is read"
    # By hand nothing can overtake it.
    amender = Amender(custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, clock=lambda: NOW_S)
    staged = custody.vault.database.all(
        "SELECT key FROM records WHERE key NOT IN (?)", list(custody.ledger.records())
    )
    assert len({key for (key,) in staged}) == 3
    for (key,) in staged:
        with pytest.raises(RefusedError, match="record_staged"):
            amender.amend(key, status=Status.VOIDED, reason="too early")
    # The rows come again as what they are, others go along: one transaction, and the change after it.
    outcome = custody.upload(first, write_cumcm(tmp_path / "e.csv", [row(5), row(2)]))
    assert counts(outcome) == (4, 1, 0, 3, 0)
    assert outcome.transactions == len(custody.ledger.submitted) - sent == 2
    assert outcome.notes == [
        "4 records and changes that an interrupted upload had prepared went with this one"
    ]
    custody.verify()
    assert state(custody, number="1") == [(2, 2)]
    assert counts(custody.upload(second)) == (2, 0, 0, 2, 0)


def test_attested_through_waits_for_what_was_staged_before(custody: Custody, tmp_path: Path) -> None:
    """A record of other files, staged by an upload that was interrupted, is refused: it is not true then."""
    first, second = write_cumcm(tmp_path / "a.csv", [row(1)]), write_cumcm(tmp_path / "b.csv", [row(2)])
    custody.upload(second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "write", stopping_write(1, after=True))
        with pytest.raises(_Stop):
            custody.upload(first)
    custody.ledger.refuse = {"attest": 3}
    outcome = custody.upload(second, through="2019-12-31")
    assert (counts(outcome), outcome.refused, outcome.through) == ((1, 0, 0, 1, 0), [("attest", 3)], None)
    custody.ledger.refuse = {}
    assert custody.upload(first, through="2019-12-31").through == "2019-12-31"
    custody.verify()


def test_a_refusal_takes_back_all_that_was_staged_upon_it(custody: Custody, tmp_path: Path) -> None:
    """Rows of every batch, duplicates and changes among them, and in the vault each version."""
    paths = [
        write_cumcm(tmp_path / "a.csv", [row(1), row(2, date="2018/1/1")]),
        write_cumcm(tmp_path / "b.csv", [row(1, status="作废发票"), row(1), row(2, date="2018/1/1")]),
    ]
    custody.ledger.refuse = {"attest": 3}
    outcome = custody.upload(*paths, batch_records=1, through="2019-12-31")
    assert counts(outcome) == (5, 0, 0, 0, 5)
    assert outcome.refused == [("attest", 3)] * 2
    assert outcome.through is None
    assert custody.vault.database.all("SELECT count(*) FROM staged") == [(0,)]
    custody.verify()
    custody.ledger.refuse = {}
    assert counts(custody.upload(*paths, batch_records=1)) == (5, 2, 1, 2, 0)
    custody.verify()


CHILD = """
import os, signal, sys
from pathlib import Path
from taxledger.ledger.crypto import Signer
from taxledger.nodes.custodian.upload import Uploader
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.sealed.providers import FileKeyProvider
from taxledger.nodes.sources.cumcm import CumcmSource

class Deadly:
    left = int(sys.argv[6])
    def submit(self, raw):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)  # between the vault's commit and the ledger
        self.left -= 1
        Path(sys.argv[5]).open("ab").write(len(raw).to_bytes(4, "big") + raw)
        from taxledger.nodes.custodian.outbox import Receipt
        return Receipt(code=0)
    def find(self, id):
        return None

chain_id = bytes.fromhex(sys.argv[3])
vault = Vault.open(Path(sys.argv[1]), FileKeyProvider(Path(sys.argv[2])), chain_id=chain_id, member=5)
Uploader(vault, Signer(bytes(32)), Deadly()).upload([Path(sys.argv[4])], CumcmSource())
"""


@pytest.mark.parametrize("survived", [2, 4])
def test_kill_9_between_the_vault_and_the_ledger(tmp_path: Path, survived: int) -> None:
    """A real process, killed while it submits: every transaction it made is in the vault, with its rows."""
    path = write_cumcm(tmp_path / "a.csv", [row(1), row(2, date="2018/1/1"), row(1, status="作废发票")])
    chain_id, wire = bytes(16), tmp_path / "wire"
    wire.touch()
    write_secret(tmp_path / "vault.key", KEY.hex().encode())
    arguments = [
        str(tmp_path / "v"),
        str(tmp_path / "vault.key"),
        chain_id.hex(),
        str(path),
        str(wire),
        str(survived),
    ]
    process = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, timeout=60)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    vault = Vault.open(tmp_path / "v", FileKeyProvider(tmp_path / "vault.key"), chain_id=chain_id, member=5)
    sent = wire.read_bytes()
    raws = []
    while sent:
        size = int.from_bytes(sent[:4], "big")
        raws.append(sent[4 : 4 + size])
        sent = sent[4 + size :]
    known = {raw for (raw,) in vault.database.all("SELECT raw FROM outbox WHERE raw IS NOT NULL")}
    settled = vault.database.one("SELECT count(*) FROM outbox WHERE state = 1")
    assert settled is not None
    assert len(set(raws) - known) <= settled[0], "nothing was sent that the vault does not hold"

    class Takes:
        seen: list[bytes] = []  # noqa: RUF012

        def submit(self, raw: bytes) -> Receipt:
            self.seen.append(raw)
            return Receipt(code=0)

        def find(self, id: bytes) -> Receipt | None:
            return None

    outcome = Uploader(vault, Signer(bytes(32)), Takes()).upload([path], CumcmSource())
    assert known <= set(Takes.seen), "the same bytes go again"
    rows, accepted, amended, duplicates, rejected = counts(outcome)
    assert rows == 3 == accepted + amended + duplicates
    assert rejected == 0
    assert not vault.database.all("SELECT 1 FROM outbox WHERE state = 0")
    assert not vault.database.all("SELECT 1 FROM staged")
    assert vault.database.all("SELECT status, version FROM records ORDER BY version, status") == [
        (1, 1),
        (1, 1),
        (2, 2),
    ]
    vault.close()
    Takes.seen.clear()


def test_a_disk_that_is_full_is_an_error_of_ours(custody: Custody, tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", [row(k) for k in range(500)])
    custody.vault.database._connection.execute("PRAGMA max_page_count = 40")
    with pytest.raises(UnavailableError, match="full"):
        custody.upload(path)
    custody.vault.database._connection.execute("PRAGMA max_page_count = 100000")
    assert counts(custody.upload(path)) == (500, 500, 0, 0, 0)
    custody.verify()


def test_an_outbox_counts_on_after_a_restart(custody: Custody, tmp_path: Path) -> None:
    custody.upload(write_cumcm(tmp_path / "a.csv", [row(1)]))
    outbox = Outbox(custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, custody.ledger.clock)
    assert outbox.prepare(1, "attest", b"\x93").sequence == 3
    outbox.close()
