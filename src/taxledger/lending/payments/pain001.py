"""A payment as an ISO 20022 customer credit transfer initiation, ``pain.001.001.09``: one transaction a file.

Invariant: the bytes follow from the instruction and the payer alone, so a retry writes the same file.

    MsgId = PmtInfId = InstrId   id of the instruction, 32 hex characters
    EndToEndId                   <loan>/<number of the draw>
    CreDtTm                      when the order was recorded, UTC
    ReqdExctnDt                  the value date
    CtrlSum = InstdAmt           exact, with the currency's decimal places
    Othr/Id, BBAN                account numbers that are no IBAN, as in China
    ClrSysMmbId, CNAPS           banks by their 12-digit CNAPS number

Source: ISO 20022 message definition report, Payments Initiation, 2019. Texts are UTF-8 of any script: narrower
character sets (SEPA's) are rules of other schemes, and Chinese names would not fit them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from taxledger.ledger.currencies import MINOR_DIGITS
from taxledger.ledger.errors import FormatError
from taxledger.lending.payments.port import Account, PaymentInstruction, check_account

__all__ = ["NAMESPACE", "encode_payment"]

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"

_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{10,30}")


def encode_payment(instruction: PaymentInstruction, payer: Account) -> bytes:
    """The file of one payment.

    Args:
        instruction: what is paid.
        payer: the lender's account that pays, its bank named.

    Raises:
        FormatError: a currency without known decimal places, or a payer without a bank.
    """
    check_account(payer)
    if not payer.bank:
        raise FormatError("expected the payer's bank by BIC or CNAPS number")
    amount = _decimal(instruction.amount, instruction.currency)
    root = ET.Element("Document", {"xmlns": NAMESPACE})
    whole = _add(root, "CstmrCdtTrfInitn")
    header = _add(whole, "GrpHdr")
    _add(header, "MsgId", instruction.id)
    _add(header, "CreDtTm", _instant(instruction.ordered_ms))
    _add(header, "NbOfTxs", "1")
    _add(header, "CtrlSum", amount)
    _add(_add(header, "InitgPty"), "Nm", payer.name)
    payment = _add(whole, "PmtInf")
    _add(payment, "PmtInfId", instruction.id)
    _add(payment, "PmtMtd", "TRF")
    _add(payment, "NbOfTxs", "1")
    _add(payment, "CtrlSum", amount)
    _add(_add(payment, "ReqdExctnDt"), "Dt", instruction.value_date.isoformat())
    _add(_add(payment, "Dbtr"), "Nm", payer.name)
    _account(_add(payment, "DbtrAcct"), payer, instruction.currency)
    _bank(_add(payment, "DbtrAgt"), payer)
    _add(payment, "ChrgBr", "DEBT")
    _transaction(_add(payment, "CdtTrfTxInf"), instruction, amount)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _transaction(parent: ET.Element, instruction: PaymentInstruction, amount: str) -> None:
    named = _add(parent, "PmtId")
    _add(named, "InstrId", instruction.id)
    _add(named, "EndToEndId", instruction.end_to_end)
    instructed = _add(_add(parent, "Amt"), "InstdAmt", amount)
    instructed.set("Ccy", instruction.currency)
    if instruction.payee.bank:
        _bank(_add(parent, "CdtrAgt"), instruction.payee)
    _add(_add(parent, "Cdtr"), "Nm", instruction.payee.name)
    _account(_add(parent, "CdtrAcct"), instruction.payee, None)
    _add(_add(parent, "RmtInf"), "Ustrd", instruction.remittance)


def _account(parent: ET.Element, account: Account, currency: str | None) -> None:
    named = _add(parent, "Id")
    if _is_iban(account.number):
        _add(named, "IBAN", account.number)
    else:
        other = _add(named, "Othr")
        _add(other, "Id", account.number)
        _add(_add(other, "SchmeNm"), "Cd", "BBAN")
    if currency is not None:
        _add(parent, "Ccy", currency)


def _bank(parent: ET.Element, account: Account) -> None:
    institution = _add(parent, "FinInstnId")
    if account.bank.isdecimal():
        member = _add(institution, "ClrSysMmbId")
        _add(_add(member, "ClrSysId"), "Cd", "CNAPS")
        _add(member, "MmbId", account.bank)
    else:
        _add(institution, "BICFI", account.bank)


def _is_iban(number: str) -> bool:
    """By form and check digits (ISO 13616: the rearranged number, letters as 10–35, leaves 1 modulo 97)."""
    if not _IBAN.fullmatch(number):
        return False
    return int("".join(str(int(each, 36)) for each in number[4:] + number[:4])) % 97 == 1


def _decimal(amount: int, currency: str) -> str:
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise FormatError(f"expected a currency of ISO 4217, got {currency!r}")
    if digits == 0:
        return str(amount)
    whole, part = divmod(amount, 10**digits)
    return f"{whole}.{part:0{digits}}"


def _instant(ms: int) -> str:
    whole = datetime.fromtimestamp(ms // 1_000, tz=UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{ms % 1_000:03}Z"


def _add(parent: ET.Element, name: str, text: str | None = None) -> ET.Element:
    child = ET.SubElement(parent, name)
    child.text = text
    return child
