"""What is offered as security: which records, whether they are free, and the features of invoices offered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import PPM, Basis, Compute, Feature, Unit, all_of, define, total
from taxledger.lending.features.records import integer, is_read, records_of, span_of, text

__all__ = [
    "SECURITY",
    "account_is_fixed",
    "at_most",
    "flag_of_offered",
    "free_ppm",
    "is_in_currency",
    "is_of",
    "sum_of_offered",
]

INVOICE = KINDS["vat_invoice"]

Judge = Callable[[Fact, Basis], bool | None]
Value = Callable[[Fact, Basis], int | None]


def offered(facts: Facts, basis: Basis, kind: int) -> tuple[Fact | None, ...] | None:
    """The records of a kind that are offered as security, each once, ascending by key.

    None for a key of no record; None as a whole where none of the kind is offered.
    """
    keys = sorted({key for key in basis.security if len(key) > 3 and key[3] == kind})
    if not keys:
        return None
    records = records_of(facts, kind)
    if records is None:
        return (None,) * len(keys)
    found: dict[bytes, Fact | None] = {}
    for key in keys:
        fact = records.by_key.get(key)
        found[key if fact is None else fact.key] = fact
    return tuple(found.values())


def free_ppm(kind: int) -> Compute:
    """The least share that is in no pledge, over all records offered of a kind."""

    def compute(facts: Facts, basis: Basis) -> int | None:
        found = offered(facts, basis, kind)
        if found is None or None in found:
            return None
        keys = {each.key for each in found if each is not None}
        records = records_of(facts, kind)
        free = PPM
        for each in facts.of(kind):
            joined = records.by_key.get(each.key) if records else None
            if joined is None or joined.key not in keys:
                continue
            # The same fact may be pledged under another issuer's fingerprint.
            if each.fingerprint is None:
                return None
            free = min(free, PPM - basis.pledged_ppm.get(each.fingerprint, 0))
        return max(free, 0)

    return compute


def flag_of_offered(kind: int, judge: Judge) -> Compute:
    """1 where every record offered of a kind is there and not voided, and ``judge`` holds of it."""

    def one(fact: Fact | None, basis: Basis) -> bool | None:
        if fact is None or fact.status is Status.VOIDED:
            return False
        return None if fact.status is Status.ERASED else judge(fact, basis)

    def compute(facts: Facts, basis: Basis) -> int | None:
        found = offered(facts, basis, kind)
        return None if found is None else all_of(one(each, basis) for each in found)

    return compute


def sum_of_offered(kind: int, value: Value) -> Compute:
    """The sum over the records offered of a kind, each once; voided ones are worth nothing."""

    def one(fact: Fact | None, basis: Basis) -> int | None:
        if fact is None or fact.status is Status.ERASED:
            return None
        return 0 if fact.status is Status.VOIDED else value(fact, basis)

    def compute(facts: Facts, basis: Basis) -> int | None:
        found = offered(facts, basis, kind)
        return None if found is None else total(one(each, basis) for each in found)

    return compute


# --- judging a field ------------------------------------------------------------------------


def at_most(fact: Fact, name: str, day: str) -> bool | None:
    """Whether a date is there and not after ``day``."""
    value = text(fact, name)
    return None if value is None else value <= day


def is_of(fact: Fact, name: str, *values: str) -> bool | None:
    """Whether a choice is one of these."""
    value = text(fact, name)
    return None if value is None else value in values


def is_in_currency(fact: Fact, basis: Basis) -> bool | None:
    return is_of(fact, "currency", basis.currency)


def account_is_fixed(fact: Fact, _basis: Basis) -> bool | None:
    """Whether the record names the account that is paid to."""
    return bool((text(fact, "account") or "").strip()) if is_read(fact, "account") else None


# --- invoices offered -----------------------------------------------------------------------


def _invoice_is_valid(fact: Fact, basis: Basis) -> bool | None:
    gross = integer(fact, "gross")
    flags = (
        fact.status is Status.VALID,
        is_of(fact, "direction", "sale"),
        at_most(fact, "date", basis.as_of.isoformat()),
        is_in_currency(fact, basis),
        None if gross is None else gross > 0,
    )
    flag = all_of(flags)
    return None if flag is None else bool(flag)


def _reversals(facts: Facts, basis: Basis) -> dict[str, int | None] | None:
    """Σ gross of the red letters that name an invoice, by its number; None where one that may name any can't be read.

    A number without its code may be that of several invoices: a red letter lowers all of them.
    """
    found: dict[str, int | None] = {}
    records, as_of = records_of(facts, INVOICE), basis.as_of
    for each in records.facts if records else ():
        if each.status is Status.VOIDED or span_of(each).after >= as_of.toordinal():
            continue
        if not is_read(each, "original", "direction"):
            return None
        number, gross = text(each, "original"), integer(each, "gross")
        if number is None or text(each, "direction") == "purchase":
            continue
        found[number] = total((found.get(number, 0), None if gross is None else min(gross, 0)))
    return found


def _is_sound(facts: Facts, basis: Basis) -> int | None:
    valid = flag_of_offered(INVOICE, _invoice_is_valid)(facts, basis)
    if not valid:
        return valid
    reversals = _reversals(facts, basis)
    if reversals is None:
        return None
    numbers = [text(each, "number") for each in offered(facts, basis, INVOICE) or () if each is not None]
    return all_of(None if number is None else number not in reversals for number in numbers)


def _gross(facts: Facts, basis: Basis) -> int | None:
    reversals = _reversals(facts, basis)

    def value(fact: Fact, basis: Basis) -> int | None:
        valid = _invoice_is_valid(fact, basis)
        if not valid:
            return None if valid is None else 0
        number = text(fact, "number")
        if reversals is None or number is None:
            return None
        left = total((integer(fact, "gross"), reversals.get(number, 0)))
        return None if left is None else max(left, 0)

    return sum_of_offered(INVOICE, value)(facts, basis)


_feature = partial(define, (INVOICE,))

SECURITY: tuple[Feature, ...] = (
    _feature(
        "security_invoices_gross",
        Unit.MONEY,
        12,
        ("Gross of the invoices offered", "质押发票价税合计"),
        "Σ gross of valid sales invoices offered, less red letters that name them; none offered: undefined",
        _gross,
    ),
    _feature(
        "security_invoices_free_ppm",
        Unit.PPM,
        12,
        ("Free share of the invoices offered", "质押发票未质押比例"),
        "least of 1,000,000 − pledged over the invoices offered",
        free_ppm(INVOICE),
    ),
    _feature(
        "security_invoices_valid",
        Unit.FLAG,
        12,
        ("The invoices offered are valid", "质押发票均有效"),
        "every one is a sales invoice of the currency, valid, positive, not after as-of, and no red letter names it",
        _is_sound,
    ),
)
