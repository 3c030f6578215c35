"""Payment files: valid, exact, the same at every retry, and never over another one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from hypothesis import example, given, settings
from hypothesis import strategies as st
from loankit import PAYEE, PAYER

from taxledger.ledger.currencies import MINOR_DIGITS
from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.lending.payments.outbox import PaymentOutbox
from taxledger.lending.payments.pain001 import NAMESPACE, encode_payment
from taxledger.lending.payments.port import AMOUNT_MINOR_MAX, Account, Payment, PaymentInstruction

SCHEMA = xmlschema.XMLSchema(str(files("sepaxml") / "schemas" / "pain.001.001.09.xsd"))
INSTRUCTION = PaymentInstruction(
    id="0123456789abcdef" * 2,
    end_to_end="L1/1",
    ordered_ms=1_709_251_200_007,
    value_date=date(2024, 3, 1),
    currency="CNY",
    amount=6_000_001,
    payee=PAYEE,
    remittance="Loan L1 draw 1 贷款发放",
)
IBAN = Account(name="Müller & Söhne <GmbH>", number="DE89370400440532013000", bank="TESTDEFF500")


def texts(data: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in ET.fromstring(data).iter():
        if each.text and not len(each):
            found.setdefault(each.tag.removeprefix(f"{{{NAMESPACE}}}"), []).append(each.text)
    return found


def test_what_the_file_says() -> None:
    data = encode_payment(INSTRUCTION, PAYER)
    SCHEMA.validate(data.decode())
    said = texts(data)
    assert said["MsgId"] == said["PmtInfId"] == said["InstrId"] == [INSTRUCTION.id]
    assert said["EndToEndId"] == ["L1/1"]
    assert said["CtrlSum"] == ["60000.01"] * 2
    assert said["InstdAmt"] == ["60000.01"]
    assert said["CreDtTm"] == ["2024-03-01T00:00:00.007Z"]
    assert said["Dt"] == ["2024-03-01"]
    assert said["Nm"] == [PAYER.name, PAYER.name, PAYEE.name]
    assert said["Id"] == [PAYER.number, PAYEE.number]
    assert (said["BICFI"], said["MmbId"], said["Ustrd"]) == (
        ["TESTCNBJ"],
        ["102100099996"],
        ["Loan L1 draw 1 贷款发放"],
    )
    assert "IBAN" not in said


def test_an_iban_is_told_by_its_check_digits() -> None:
    assert texts(encode_payment(replace(INSTRUCTION, payee=IBAN), PAYER))["IBAN"] == [IBAN.number]
    wrong = replace(IBAN, number="DE88370400440532013000")
    data = encode_payment(replace(INSTRUCTION, payee=wrong), PAYER)
    SCHEMA.validate(data.decode())
    assert "IBAN" not in texts(data)


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=140,
).filter(lambda name: name == name.strip() and len(name.encode()) <= 560)


@settings(max_examples=60, deadline=None)
@example(name="中" * 140, amount=AMOUNT_MINOR_MAX, currency="CNY")
@example(name="𠮷" * 140, amount=1, currency="JPY")
@example(name="a", amount=1, currency="KWD")
@given(name=names, amount=st.integers(1, AMOUNT_MINOR_MAX), currency=st.sampled_from(sorted(MINOR_DIGITS)))
def test_whatever_is_allowed_is_valid(name: str, amount: int, currency: str) -> None:
    payee = replace(PAYEE, name=name, bank="")
    data = encode_payment(replace(INSTRUCTION, payee=payee, amount=amount, currency=currency), PAYER)
    SCHEMA.validate(data.decode())
    said = texts(data)
    assert said["Nm"][-1] == name
    exact = Decimal(amount).scaleb(-MINOR_DIGITS[currency])
    assert [Decimal(each) for each in (*said["CtrlSum"], *said["InstdAmt"])] == [exact] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"id": "0" * 33},
        {"end_to_end": "L1"},
        {"end_to_end": "L" * 29 + "/1"},
        {"currency": "cny"},
        {"amount": 0},
        {"amount": True},
        {"amount": AMOUNT_MINOR_MAX + 1},
        {"remittance": "x" * 141},
        {"remittance": ""},
        {"payee": Account(name="中" * 141, number="1")},
        {"payee": Account(name="a\x00b", number="1")},
        {"payee": Account(name="a\ufffeb", number="1")},
        {"payee": Account(name="a\nb", number="1")},
        {"payee": Account(name=" a", number="1")},
        {"payee": Account(name="a", number="1 2")},
        {"payee": Account(name="a", number="1" * 35)},
        {"payee": Account(name="a", number="1", bank="12345")},
        {"payee": Account(name="a", number="1", bank="testcnbj")},
    ],
)
def test_what_a_file_can_not_say_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        replace(INSTRUCTION, **changes)


def test_unknown_currency_and_a_payer_without_bank() -> None:
    with pytest.raises(FormatError, match="ISO 4217"):
        encode_payment(replace(INSTRUCTION, currency="XYZ"), PAYER)
    with pytest.raises(FormatError, match="payer's bank"):
        encode_payment(INSTRUCTION, replace(PAYER, bank=""))


# --- the outbox -------------------------------------------------------------------------------------


def test_a_retry_writes_nothing_more(tmp_path: Path) -> None:
    outbox = PaymentOutbox(tmp_path / "out", PAYER)
    paid = outbox.pay(INSTRUCTION)
    path = tmp_path / "out" / f"{INSTRUCTION.id}.xml"
    first = path.stat()
    assert paid == Payment(reference=INSTRUCTION.id, value_date=INSTRUCTION.value_date)
    assert PaymentOutbox(tmp_path / "out", PAYER).pay(INSTRUCTION) == paid
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (first.st_mtime_ns, first.st_ino)
    path.rename(tmp_path / "out" / "taken" / path.name)
    assert outbox.pay(INSTRUCTION) == paid
    assert not path.exists()


@pytest.mark.parametrize("folder", [".", "taken"])
def test_another_payment_under_the_id_stops(tmp_path: Path, folder: str) -> None:
    outbox = PaymentOutbox(tmp_path, PAYER)
    path = tmp_path / folder / f"{INSTRUCTION.id}.xml"
    path.write_bytes(b"<other/>")
    with pytest.raises(UnavailableError, match="payment_file_differs"):
        outbox.pay(INSTRUCTION)
    assert path.read_bytes() == b"<other/>"


@pytest.mark.parametrize("folder", [".", "taken"])
@pytest.mark.parametrize("bank", ["OTHRCNBJ", ""])
def test_a_payer_that_changed_after_the_file_was_written_refuses_nothing(
    tmp_path: Path, folder: str, bank: str
) -> None:
    # A refusal would end the loan as unpaid and release its pledge, while the first file is on its way.
    PaymentOutbox(tmp_path, PAYER).pay(INSTRUCTION)
    name = f"{INSTRUCTION.id}.xml"
    (tmp_path / name).rename(tmp_path / folder / name)
    with pytest.raises(UnavailableError, match="payment_file_differs"):
        PaymentOutbox(tmp_path, replace(PAYER, bank=bank)).pay(INSTRUCTION)


def test_others_on_the_machine_read_no_payment(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        PaymentOutbox(tmp_path / "out", PAYER).pay(INSTRUCTION)
    finally:
        os.umask(old)
    for each in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        assert each.stat().st_mode & 0o007 == 0, each


def test_a_folder_that_can_not_be_written_is_waited_for(tmp_path: Path) -> None:
    outbox = PaymentOutbox(tmp_path / "out", PAYER)
    (tmp_path / "out" / "taken").rmdir()
    (tmp_path / "out").rmdir()
    with pytest.raises(UnavailableError):
        outbox.pay(INSTRUCTION)


def _in_child(work: Callable[[], None]) -> int:
    """Runs it in a process of its own; how that ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: bool
) -> None:
    outbox = PaymentOutbox(tmp_path, PAYER)
    real = getattr(os, call)

    def killing(*arguments: Any) -> Any:
        if after:
            real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, killing)
        assert _in_child(lambda: outbox.pay(INSTRUCTION) and None) == -signal.SIGKILL
    outbox.pay(INSTRUCTION)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [f"{INSTRUCTION.id}.xml"]
    assert (tmp_path / f"{INSTRUCTION.id}.xml").read_bytes() == encode_payment(INSTRUCTION, PAYER)


def test_synced_before_it_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the module's comment: file, rename, folder; a retry syncs both again."""
    outbox = PaymentOutbox(tmp_path, PAYER)
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(handle: int) -> None:
        calls.append("sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file")
        real_fsync(handle)

    def rename(*arguments: Any) -> None:
        calls.append("rename")
        real_rename(*arguments)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    outbox.pay(INSTRUCTION)
    assert calls == ["sync file", "rename", "sync folder"]
    calls.clear()
    outbox.pay(INSTRUCTION)
    assert calls == ["sync file", "sync folder"]
