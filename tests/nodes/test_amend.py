"""Changes by hand: what may change, reasons that can be checked later, histories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chainkit
import pytest
from custodykit import (
    INVOICE,
    Custody,
    codes,
    counts,
    decoded_transactions,
    row,
    state,
    use_stored_keys,
    write_cumcm,
)

from taxledger.ledger import limits
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError, InputError, RefusedError, UnavailableError
from taxledger.ledger.hashing import domain_hash
from taxledger.ledger.records import Status
from taxledger.ledger.schemas import KINDS
from taxledger.nodes.cli.change import parse_change
from taxledger.nodes.custodian.amend import Amender, record_history
from taxledger.nodes.sources.mapping import decode_mapping
from taxledger.nodes.sources.tabular import TableSource


@pytest.fixture
def custody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Custody:
    use_stored_keys(monkeypatch)
    custody = Custody(tmp_path)
    custody.upload(write_cumcm(tmp_path / "a.csv", [row(1), row(2)]))
    return custody


def amender(custody: Custody) -> Amender:
    return Amender(
        custody.vault, chainkit.signer(chainkit.ISSUER), custody.ledger, clock=custody.ledger.clock
    )


def key_of(custody: Custody, number: str) -> bytes:
    for key, value in custody.ledger.records().items():
        opened = custody.vault.record(key, value.version)
        if opened is not None and number in opened.values:
            return key
    raise AssertionError(number)


def test_void_and_revoke_with_reasons(custody: Custody, tmp_path: Path) -> None:
    key, other = key_of(custody, "1"), key_of(custody, "2")
    assert amender(custody).amend(key, status=Status.VOIDED, reason="双方作废").code == 0
    assert amender(custody).revoke(other, reason="wrong file").code == 0
    assert state(custody, number="1") == [(2, 2)]
    assert state(custody, number="2") == [(4, 1)]
    custody.verify()
    amended, revoked = decoded_transactions(custody)[-2:]
    history = record_history(custody.vault, key)
    assert history is not None
    assert history.subject == "cumcm:E1"
    assert [(each.operation, each.version, each.status) for each in history.steps] == [
        ("attest", 1, 1),
        ("amend", 2, 2),
    ]
    said = history.steps[1]
    assert said.reason == "双方作废"
    assert said.salt is not None
    assert amended[3][0][6:] == [2, domain_hash("reason", said.salt + "双方作废".encode())]
    assert (history.steps[0].line, history.steps[0].reason) == (2, None)
    back = record_history(custody.vault, other)
    assert back is not None
    assert [(each.operation, each.version, each.status, each.reason) for each in back.steps] == [
        ("attest", 1, 1, None),
        ("revoke", 1, 4, "wrong file"),
    ]
    assert revoked[3][0][:3] == [other, 1, 4]
    # The row of a revoked record comes again: it equals a version, so it is no new record.
    assert counts(custody.upload(tmp_path / "a.csv")) == (2, 0, 0, 2, 0)
    void = custody.upload(write_cumcm(tmp_path / "b.csv", [row(2, status="作废发票")]))
    assert codes(void) == [(2, "status_backwards")]
    assert record_history(custody.vault, bytes([1]) + bytes(36)) is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reason": " "}, "reason in words"),
        ({"reason": "x" * (limits.reason_text_bytes_max + 1)}, "reason in words"),
        ({"reason": "x"}, "nothing would change"),
        ({"reason": "x", "fields": {"colour": "red"}}, "expected fields of vat_invoice"),
        ({"reason": "x", "fields": {"net": "12"}}, "field net"),
        ({"reason": "x", "fields": {"date": "2019-04-05"}}, "period is part"),
        ({"reason": "x", "fields": {"code": "1"}}, "makes the record unique"),
        ({"reason": "x", "status": Status.VOIDED, "reason_number": 9}, "expected a reason 1–5"),
    ],
)
def test_what_can_not_be_amended(custody: Custody, arguments: dict[str, Any], error: str) -> None:
    submitted = len(custody.ledger.submitted)
    with pytest.raises(FormatError, match=error):
        amender(custody).amend(key_of(custody, "1"), **arguments)
    assert len(custody.ledger.submitted) == submitted
    custody.verify()


def test_no_way_back_and_no_unknown_record(custody: Custody) -> None:
    key = key_of(custody, "1")
    amender(custody).amend(key, status=Status.VOIDED, reason="x")
    with pytest.raises(RefusedError, match="voided record can't become valid"):
        amender(custody).amend(key, status=Status.VALID, reason="x")
    amender(custody).revoke(key, reason="x")
    with pytest.raises(RefusedError, match="revoked already"):
        amender(custody).revoke(key, reason="x")
    with pytest.raises(RefusedError, match="record_unknown"):
        amender(custody).revoke(key[:-1] + bytes([key[-1] ^ 1]), reason="x")
    with pytest.raises(FormatError, match="record key"):
        amender(custody).revoke(key[:-1], reason="x")


def test_a_correction_is_found_by_later_rows(custody: Custody, tmp_path: Path) -> None:
    key = key_of(custody, "1")
    amender(custody).amend(key, fields={"gross": 11_301}, reason="typing error")
    assert state(custody, number="1", gross=11_301) == [(1, 2)]
    corrected = row(1, gross="113.01")
    path = write_cumcm(tmp_path / "b.csv", [corrected, row(1), (*corrected[:-1], "作废发票")])
    assert counts(custody.upload(path)) == (3, 0, 1, 2, 0)
    assert state(custody, number="1") == [(2, 3)]
    custody.verify()


def test_a_voided_row_of_content_that_was_corrected_is_rejected(custody: Custody, tmp_path: Path) -> None:
    amender(custody).amend(key_of(custody, "1"), fields={"gross": 11_301}, reason="typing error")
    outcome = custody.upload(write_cumcm(tmp_path / "b.csv", [row(1, status="作废发票")]))
    assert codes(outcome) == [(2, "content_outdated")]
    assert state(custody, number="1") == [(1, 2)]


def test_a_lost_answer_is_made_good_by_the_next_run(custody: Custody, tmp_path: Path) -> None:
    key = key_of(custody, "1")
    custody.ledger.fail_before = {len(custody.ledger.submitted)}
    with pytest.raises(UnavailableError):
        amender(custody).revoke(key, reason="x")
    assert state(custody, number="1") == [(1, 1)]
    custody.reopen()
    assert custody.upload(tmp_path / "a.csv").resumed == 1
    assert state(custody, number="1") == [(4, 1)]
    custody.verify()


def test_a_refused_revocation_leaves_no_trace(custody: Custody, tmp_path: Path) -> None:
    key = key_of(custody, "1")
    custody.ledger.refuse = {"revoke": 10}
    with pytest.raises(RefusedError, match="nothing was changed"):
        amender(custody).revoke(key, reason="x")
    history = record_history(custody.vault, key)
    assert history is not None
    assert [each.operation for each in history.steps] == ["attest"]
    void = custody.upload(write_cumcm(tmp_path / "b.csv", [row(1, status="作废发票")]))
    assert counts(void) == (1, 0, 1, 0, 0)
    custody.verify()


def test_a_filing_under_a_number_of_its_own(custody: Custody, tmp_path: Path) -> None:
    mapping = decode_mapping(
        b'kind = "tax_filing"\n[columns]\ntax="tax"\nperiod="period"\npayable="payable"\nnumber="number"\n'
        b'[constants]\ncurrency="CNY"\n[subject]\ncolumn="who"\nscheme="cumcm"\n'
    )
    source = TableSource(mapping)
    path = tmp_path / "f.csv"
    path.write_text("who,tax,period,number,payable\nE1,vat,2019-03,N1,10\nE1,vat,2019-04,,20\n")
    assert counts(custody.upload(path, source=source)) == (2, 2, 0, 0, 0)
    path.write_text(
        "who,tax,period,number,payable\nE1,vat,2019-03,N1,11\nE1,vat,2019-04,,20\nE1,vat,2019-03,N1,10\n"
    )
    outcome = custody.upload(path, source=source)
    assert counts(outcome) == (3, 0, 0, 2, 1)
    conflict = outcome.files[0].rejections[0]
    assert conflict.code == "conflict"
    assert "line 2" in conflict.found
    assert "f.csv line 2" in conflict.expected
    filing = next(each for each in BUILTIN if each.kind == KINDS["tax_filing"])
    key = next(
        key
        for key in custody.ledger.records()
        if key[3] == filing.kind and "N1" in (custody.vault.open_many([(key, 1)])[0] or (b"", ()))[1]
    )
    amender(custody).amend(key, fields={"payable": 1_100}, reason="corrected filing")
    assert counts(custody.upload(path, source=source)) == (3, 0, 0, 3, 0)
    with pytest.raises(FormatError, match="tax, number is what makes"):
        amender(custody).amend(key, fields={"number": "N2"}, reason="x")
    custody.verify()


def test_amounts_have_the_places_of_the_records_currency(custody: Custody) -> None:
    assert amender(custody).value(key_of(custody, "1"), "currency") == "CNY"
    assert amender(custody).value(bytes([1]) + bytes(36), "currency") is None
    for currency, text, minor in (("CNY", "1.23", 123), ("JPY", "123", 123), ("KWD", "0.123", 123)):
        assert parse_change(INVOICE, f"gross={text}", currency) == ("gross", minor)
    with pytest.raises(InputError, match="0 decimal places"):
        parse_change(INVOICE, "gross=1.5", "JPY")
