"""The port to the core banking system: what the lender orders to be paid, and what is promised about it.

Invariants:

* An instruction is a pure value, fixed before the port is called for the first time: its id, its date and everything
  else are the same at every retry.
* Whoever implements ``PaymentPort`` pays one id once, however often and from however many workers it is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from taxledger.ledger.errors import FormatError
from taxledger.ledger.shapes import integer, items, text

__all__ = [
    "Account",
    "Payment",
    "PaymentInstruction",
    "PaymentPort",
    "account_as_list",
    "check_account",
    "decode_account",
]

NAME_CHARACTERS_MAX = 140
REMITTANCE_CHARACTERS_MAX = 140
AMOUNT_MINOR_MAX = 10**15 - 1
"""So that an amount has at most 18 digits, whatever the decimal places of its currency."""

_NUMBER = re.compile(r"[0-9A-Za-z-]{1,34}")
_BANK = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?|[0-9]{12}|")
_ID = re.compile(r"[0-9a-f]{32}")
_END_TO_END = re.compile(r"[0-9A-Za-z-]{1,28}/[0-9]{1,6}")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account with a bank.

    Attributes:
        name: of the holder, at most 140 characters, of any script.
        number: as the bank writes it, without blanks, at most 34 characters; an IBAN is told by its check digits.
        bank: BIC of 8 or 11 characters, or the 12-digit CNAPS number, or empty where the number says it.
    """

    name: str
    number: str
    bank: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentInstruction:
    """An order to pay.

    Attributes:
        id: 32 lower-case hex characters, another for each payment: the idempotency key.
        end_to_end: what the payee and the payer's books see, ``<loan>/<number of the draw>``.
        ordered_ms: when the order was recorded, milliseconds since 1970.
        value_date: day on which it is to be paid, and from which interest counts.
        currency: ISO 4217; ``amount`` in its minor units, at least 1.
        payee: the account that receives it.
        remittance: text for the payee, at most 140 characters.
    """

    id: str
    end_to_end: str
    ordered_ms: int
    value_date: date
    currency: str
    amount: int
    payee: Account
    remittance: str

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise FormatError(f"expected a payment id of 32 hex characters, got {self.id!r:.50}")
        if not _END_TO_END.fullmatch(self.end_to_end):
            raise FormatError(f"expected an end-to-end id <loan>/<number>, got {self.end_to_end!r:.50}")
        if not _CURRENCY.fullmatch(self.currency):
            raise FormatError(f"expected a currency of three letters, got {self.currency!r:.20}")
        integer(self.amount, 1, AMOUNT_MINOR_MAX, "an amount in minor units")
        check_account(self.payee)
        _printable(self.remittance, REMITTANCE_CHARACTERS_MAX, "a text for the payee")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment that is on its way for certain.

    Attributes:
        reference: what the core banking system, or whoever stands before it, calls it.
        value_date: day from which interest counts.
    """

    reference: str
    value_date: date


class PaymentPort(Protocol):
    """Pays out. Trusted with money: it is the lender's own system.

    Durable: when ``pay`` returns, the payment survives a crash of everything.
    Idempotent: the same instruction again, at any time, pays nothing more and returns the same ``Payment``.
    """

    def pay(self, instruction: PaymentInstruction) -> Payment:
        """Pay, once.

        Raises:
            RefusedError, InputError: it will never be paid (say, the account does not exist), and was not.
            VerificationError: something else is there under this id; nothing goes on until a person has looked.
            UnavailableError: not known whether it was paid; ask again with the same instruction.
        """
        ...


def check_account(account: Account) -> None:
    """Raises FormatError unless every part of the account has its form."""
    _printable(account.name, NAME_CHARACTERS_MAX, "an account holder's name")
    if not _NUMBER.fullmatch(account.number):
        raise FormatError("expected an account number of 1 to 34 letters, digits and hyphens")
    if not _BANK.fullmatch(account.bank):
        raise FormatError(f"expected a BIC or a CNAPS number of 12 digits, got {account.bank!r:.20}")


def account_as_list(account: Account) -> list[str]:
    """As it stands in signed bytes."""
    return [account.name, account.number, account.bank]


def decode_account(value: Any) -> Account:
    """An account of decoded msgpack. Raises FormatError."""
    name, number, bank = items(value, 3, "an account")
    if type(number) is not str or type(bank) is not str:
        raise FormatError("expected an account's number and bank as texts")
    account = Account(name=text(name, 4 * NAME_CHARACTERS_MAX, "a name"), number=number, bank=bank)
    check_account(account)
    return account


def _printable(value: str, characters_max: int, what: str) -> None:
    """What XML 1.0 can carry, and no line break: control characters and U+FFFE, U+FFFF are out."""
    text(value, 4 * characters_max, what)
    if len(value) > characters_max or "\ufffe" in value or "\uffff" in value or value != value.strip():
        raise FormatError(f"expected {what} of at most {characters_max} characters, without blanks around it")
