"""Erasure at the custodian: what is destroyed, what the ledger and recipients are told, in which order."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import chainkit
import pytest
from custodykit import Custody, codes, counts, named_values, row, state, tags_of, use_stored_keys, write_cumcm
from erasekit import (
    BANK,
    CONSENT,
    FileLedger,
    Recipients,
    erase_transactions,
    evidence,
    make_eraser,
    query_of,
    sealed_cells,
    vault_bytes,
)

from taxledger.api.custody import ErasureReceipt
from taxledger.ledger.answer import Answer
from taxledger.ledger.consentstate import data_erased_digest
from taxledger.ledger.errors import FormatError, RefusedError, UnavailableError
from taxledger.ledger.operations import encode_data_erased
from taxledger.ledger.records import Status
from taxledger.ledger.statekeys import tag_prefix
from taxledger.ledger.verify import verify_evidence
from taxledger.nodes.custodian import erasing
from taxledger.nodes.custodian.amend import Amender, record_history
from taxledger.nodes.custodian.erasures import Erasures

ERASED = int(Status.ERASED)
REASON = "asked by the enterprise"
ROWS = [
    row(1),
    row(2, date="2019/3/9"),
    row(3, date="2019/4/1", status="作废发票"),
    row(4, date="2020/1/2"),
    row(5, date="2019/3/7", enterprise="E2"),
]


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custody:
    use_stored_keys(monkeypatch)
    return Custody(tmp_path)


@pytest.fixture
def sales(custody: Custody, tmp_path: Path) -> Path:
    """Five invoices, one of them amended by hand, one voided by a later file."""
    path = write_cumcm(tmp_path / "a.csv", ROWS)
    custody.upload(path)
    key = next(key for key in custody.ledger.records() if _number(custody, key) == "1")
    amender = Amender(
        custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, clock=custody.ledger.clock
    )
    amender.amend(key, reason="the name was misspelt", fields={"counterparty": "cumcm:B7"})
    custody.upload(write_cumcm(tmp_path / "b.csv", [row(2, date="2019/3/9", status="作废发票")]))
    return path


def _number(custody: Custody, key: bytes) -> object:
    opened = custody.vault.record(key, 1)
    assert opened is not None
    return named_values(opened.values)["number"]


def erase(custody: Custody, node: Recipients | None = None, **query: str) -> ErasureReceipt:
    eraser = make_eraser(custody.vault, custody.ledger, node or Recipients())
    return asyncio.run(eraser.erase(query_of(**query), reason=REASON))


def prefix_of(custody: Custody, subject: str = "cumcm:E1", year: int = 2019) -> bytes:
    return tag_prefix(chainkit.ISSUER, 5, tags_of(custody.vault, subject)[year])


def statuses(custody: Custody, prefix: bytes) -> set[int]:
    return {int(value.status) for key, value in custody.ledger.records().items() if key.startswith(prefix)}


def test_nothing_is_left(custody: Custody, sales: Path, tmp_path: Path) -> None:
    prefix = prefix_of(custody)
    others = {key: value for key, value in custody.ledger.records().items() if not key.startswith(prefix)}
    cells = sealed_cells(custody.vault, prefix)
    assert len(cells) > 15
    assert all(each in vault_bytes(tmp_path) for each in cells), "the search works"
    receipt = erase(custody)
    assert receipt.records == 3
    ((operation, code),) = erase_transactions(custody.ledger)
    assert (len(operation.changes), code, len(receipt.transactions)) == (3, 0, 1)
    assert statuses(custody, prefix) == {ERASED}
    assert not [each for each in cells if each in vault_bytes(tmp_path)]
    assert sealed_cells(custody.vault, prefix) == []
    left = {key: value for key, value in custody.ledger.records().items() if not key.startswith(prefix)}
    assert left == others
    for key, value in left.items():
        assert custody.vault.record(key, value.version) is not None
    again = erase(custody)
    assert again == receipt
    assert len(erase_transactions(custody.ledger)) == 1


def test_months_of_a_year(custody: Custody, sales: Path) -> None:
    prefix = prefix_of(custody)
    assert erase(custody, begin="2019-04", end="2019-06").records == 1
    assert statuses(custody, prefix + b"\x04") == {ERASED}
    assert ERASED not in statuses(custody, prefix + b"\x03")
    assert custody.vault.tag_owner(prefix[4:]) is not None, "other months need it"
    assert erase(custody).records == 3
    assert custody.vault.tag_owner(prefix[4:]) is None


def test_what_was_erased_is_not_attested_again(custody: Custody, sales: Path, tmp_path: Path) -> None:
    erase(custody, begin="2019-03", end="2019-03")
    before = custody.ledger.records()
    again = custody.upload(sales, through="2020-12-31")
    assert codes(again) == [(2, "erased"), (3, "erased")]
    assert counts(again) == (5, 0, 0, 3, 2)
    assert custody.ledger.records() == before
    assert again.through == "2020-12-31", "erased rows are no omission"
    # The seed is gone: a new row of that month could be one of the erased, so it is not taken either.
    fresh = custody.upload(write_cumcm(tmp_path / "c.csv", [row(8), row(9, date="2019/5/1")]))
    assert codes(fresh) == [(2, "erased")]
    assert fresh.sum("accepted") == 1


def test_a_dry_run_says_the_same(custody: Custody, sales: Path) -> None:
    erase(custody)
    assert [code for _line, code in codes(custody.upload(sales, dry_run=True))] == ["erased"] * 3


def test_by_hand_it_is_erased_too(custody: Custody, sales: Path) -> None:
    key = next(key for key in custody.ledger.records() if _number(custody, key) == "1")
    erase(custody)
    amender = Amender(
        custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, clock=custody.ledger.clock
    )
    with pytest.raises(RefusedError) as caught:
        amender.revoke(key, reason="in error")
    assert caught.value.code == "record_erased"
    assert record_history(custody.vault, key) is None


def test_a_record_of_any_status(custody: Custody, sales: Path) -> None:
    amender = Amender(
        custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, clock=custody.ledger.clock
    )
    key = next(key for key in custody.ledger.records() if _number(custody, key) == "1")
    amender.revoke(key, reason="in error")
    assert {status for status, _version in state(custody)} == {1, 2, 4}
    assert erase(custody).records == 3
    assert {code for _operation, code in erase_transactions(custody.ledger)} == {0}


def test_what_was_staged_never_reaches_the_ledger(custody: Custody, tmp_path: Path) -> None:
    path = write_cumcm(tmp_path / "a.csv", ROWS)
    custody.ledger.fail_before = set(range(2, 9))  # after the two years' keys
    with pytest.raises(UnavailableError):
        custody.upload(path)
    custody.ledger.fail_before = set()
    assert custody.ledger.records() == {}
    receipt = erase(custody)
    assert receipt.records == 3
    again = custody.upload(path)
    assert [code for _line, code in codes(again)] == ["erased"] * 3
    # Those that were in the outbox had to become attested before they could be erased.
    values = [each.status for each in custody.ledger.records().values()]
    assert values.count(Status.VALID) == 2
    assert receipt.notices == () or values.count(Status.ERASED) == 3


def test_nothing_to_erase(custody: Custody, sales: Path) -> None:
    receipt = erase(custody, subject="cumcm:E9")
    assert (receipt.records, receipt.transactions, receipt.notices) == (0, (), ())
    with pytest.raises(FormatError):
        asyncio.run(make_eraser(custody.vault, custody.ledger, Recipients()).erase(query_of(), reason=""))


# --- a ledger that is down, a dossier in between, evidence from before ----------------------


def test_the_data_goes_though_the_ledger_is_down(custody: Custody, sales: Path, tmp_path: Path) -> None:
    query = query_of()
    old = evidence(custody, query)
    prefix = prefix_of(custody)
    cells = sealed_cells(custody.vault, prefix)
    number = len(custody.ledger.submitted)
    custody.ledger.fail_before = set(range(number, number + 9))
    node = Recipients()
    with pytest.raises(UnavailableError, match="the data is destroyed"):
        erase(custody, node)
    assert not [each for each in cells if each in vault_bytes(tmp_path)]
    assert node.messages == [], "recipients are told when the ledger knows"
    assert len(node.forgotten) == 1
    with pytest.raises(UnavailableError, match="being erased"):
        evidence(custody, query)
    custody.ledger.fail_before = set()
    receipt = erase(custody, node)
    assert receipt.records == 3
    assert statuses(custody, prefix) == {ERASED}
    answer = _verified(custody, evidence(custody, query))
    assert [(each.status, each.values) for each in answer.records] == [(Status.ERASED, None)] * 3
    assert len(_verified(custody, old).records) == 3
    assert all(each.values for each in _verified(custody, old).records), "old evidence, as of its time"
    assert len(node.messages) == 1


def _verified(custody: Custody, data: bytes) -> Answer:
    return verify_evidence(
        data,
        custody.ledger.chain.policy(),
        query_of(),
        now_ms=custody.ledger.chain.time_ms,
        age_ms_max=3_600_000,
    )


def test_an_erasure_that_the_ledger_refuses_is_said_again(custody: Custody, sales: Path) -> None:
    custody.ledger.refuse = {"erase": 10}
    with pytest.raises(UnavailableError, match="code 10"):
        erase(custody)
    custody.ledger.refuse = {}
    custody.ledger.chain.time_ms += 1_000  # the same bytes would be refused again
    assert erase(custody).records == 3
    assert [code for _operation, code in erase_transactions(custody.ledger)] == [0]


def test_an_upload_that_runs_keeps_its_right(
    custody: Custody, sales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "_EXCLUSIVE_S", 0.0)
    with custody.vault.exclusive(), pytest.raises(UnavailableError, match="another upload"):
        erase(custody)
    assert ERASED not in statuses(custody, prefix_of(custody))


def test_one_tag_in_a_transaction(custody: Custody, sales: Path) -> None:
    erase(custody, end="2020-12")
    tags = [
        {each.key[4:20] for each in operation.changes}
        for operation, _code in erase_transactions(custody.ledger)
    ]
    assert [len(each) for each in tags] == [1, 1]
    changes = [each for operation, _code in erase_transactions(custody.ledger) for each in operation.changes]
    assert {(each.reason, each.reason_digest) for each in changes} == {(5, None)}


# --- notices --------------------------------------------------------------------------------


def test_a_recipient_is_told_until_it_has_shown_it(custody: Custody, sales: Path) -> None:
    node = Recipients([(BANK, CONSENT), (BANK, bytes(16)), (9, bytes(range(16)))])
    node.answer = UnavailableError("the bank is down")
    receipt = erase(custody, node)
    assert [(each.member, each.confirmed) for each in receipt.notices] == [(BANK, False), (9, False)]
    (member, message), _other = sorted(node.messages)
    assert (member, message[:2]) == (BANK, [1, "erase_notice"])
    erased = sorted(key for key, value in custody.ledger.records().items() if value.status == Status.ERASED)
    assert message[3] == erased
    # It says that it destroyed something which is not on the ledger, then something of others.
    salt = bytes(range(32))
    node.answer = [[CONSENT, 1, "notice", salt]]
    assert not any(each.confirmed for each in erase(custody, node).notices)
    node.answer = [[b"foreign 16 bytes", 1, "notice", salt]]
    assert not any(each.confirmed for each in erase(custody, node).notices)
    node.answer = "no list"
    assert not any(each.confirmed for each in erase(custody, node).notices)
    digest = data_erased_digest(salt, CONSENT, 1, "notice")
    chain = custody.ledger.chain
    assert chain.result(encode_data_erased(digest, 3), BANK) == (0, None)
    node.answer = [[CONSENT, 1, "notice", salt]]
    assert [(each.member, each.confirmed) for each in erase(custody, node).notices] == [
        (BANK, True),
        (9, False),
    ]
    node.answer = []
    assert all(each.confirmed for each in erase(custody, node).notices)
    told = len(node.messages)
    erase(custody, node)
    assert len(node.messages) == told
    confirmed = [
        each.answers
        for each in Erasures(custody.vault)._notices("SELECT notice, confirmed, sealed FROM notices", ())
    ]
    assert sorted(confirmed) == [(), ((CONSENT, 1, "notice", salt),)]


def test_answers_to_predicates_are_those_under_the_consents(custody: Custody, sales: Path) -> None:
    receipt = asyncio.run(
        make_eraser(custody.vault, custody.ledger, Recipients()).erase(query_of(kinds=(12,)), reason=REASON)
    )
    assert receipt.records == 0
    assert ERASED not in statuses(custody, prefix_of(custody))


# --- kill -9 --------------------------------------------------------------------------------


def test_kill_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stored_keys(monkeypatch)
    base = tmp_path / "base"
    base.mkdir()
    custody = Custody(base, FileLedger(base / "ledger.txt"))
    custody.upload(write_cumcm(base / "a.csv", ROWS))
    prefix = prefix_of(custody)
    cells = sealed_cells(custody.vault, prefix)
    custody.vault.close()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    step, killed = 0, True
    while killed:
        folder = tmp_path / str(step)
        shutil.copytree(base, folder)
        command = [sys.executable, str(Path(__file__).with_name("erasekit.py")), str(folder), str(step)]
        process = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
        killed = process.returncode == -signal.SIGKILL
        assert killed or process.returncode == 0, process.stderr
        _recover(folder, prefix, cells, step)
        step += 1
    assert step > 12


def _recover(folder: Path, prefix: bytes, cells: list[bytes], step: int) -> None:
    custody = Custody(folder, FileLedger(folder / "ledger.txt"))
    node = Recipients()
    begun = custody.vault.database.one("SELECT 1 FROM erased") is not None
    asyncio.run(make_eraser(custody.vault, custody.ledger, node)._go_on())
    if begun:
        assert statuses(custody, prefix) == {ERASED}, f"killed at step {step}"
        assert not [each for each in cells if each in vault_bytes(folder)], f"killed at step {step}"
        assert [code for _operation, code in erase_transactions(custody.ledger)] == [0]
        assert not Erasures(custody.vault).waiting_notices()
    else:
        custody.verify()
        assert erase_transactions(custody.ledger) == []
        assert all(each in vault_bytes(folder) for each in cells), f"killed at step {step}"
    custody.vault.close()
