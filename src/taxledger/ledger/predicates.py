"""Predicates: questions about an enterprise that are answered by yes or no (docs/predicates.md defines each).

A formula sees records as a verified answer or the custodian's vault gives them, an as-of date, and how far the
issuer has attested. Same inputs, same result, on every machine: integers, no clock.

Invariant: a formula answers yes or no only about inputs that are complete. Where the issuer has not attested
through the as-of date, has no tag key of a year that matters, has erased a record of the range, or a record lacks or
does not show a field that is needed, there is no result (``inputs_incomplete``): never "no".
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from taxledger.ledger import limits
from taxledger.ledger.consent import ConsentTerms
from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.query import YEAR_MAX, YEAR_MIN, Query
from taxledger.ledger.records import Status
from taxledger.ledger.schemas import Value, is_date

__all__ = [
    "CURRENCY",
    "FORMULAS",
    "Argument",
    "Formula",
    "InputRecord",
    "Inputs",
    "check_predicates",
    "evaluate",
    "evaluate_again",
    "find_formula",
    "input_query",
    "months_before",
]

Argument = int | str | None
Fields = Mapping[str, Value]
"""The fields of a record that are present, by name."""

CURRENCY = "CNY"
"""Of the amounts that predicates compare, in minor units (fen)."""

GRADES = ("D", "C", "M", "B", "A")
"""Tax credit grades, ascending. M is a taxpayer that is new, or had no income, and scored 70 or more of 100 (a C
scores 40 to 70): above C, not at least B."""

RATING_YEARS = 3
ARREARS_MONTHS = 36
SALES_MONTHS = 12

_COUNTING = (Status.VALID, Status.REVERSED)
"""A reversed invoice counts: its red letter is a negative record of its own."""
_PASSED_OVER = (Status.VOIDED, Status.REVOKED)


class InputRecord(Protocol):
    """What a formula needs of a record; ``answer.AnsweredRecord`` is one."""

    @property
    def kind(self) -> int: ...
    @property
    def year(self) -> int: ...
    @property
    def month(self) -> int:
        """1–12, 13–16 for a quarter, 0 for the whole year."""

    @property
    def status(self) -> Status: ...
    @property
    def fields(self) -> Mapping[str, Value] | None:
        """The fields that are present, by name; None for an erased record."""

    @property
    def closed(self) -> Sequence[str]:
        """Names of the fields that are not shown: they are not among ``fields``, and need not be absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is known about one kind of record of one subject.

    Attributes:
        records: all records of the kind in the formula's range, of every status; others are passed over.
        through: date up to which the issuer says that it attested everything of the kind, or None.
        keyed_years: years of the range in which the issuer has a tag key.
    """

    records: Sequence[InputRecord]
    through: str | None
    keyed_years: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """How one predicate is answered.

    Attributes:
        predicate: its name in a consent.
        id, version: of the formula; another way to answer is another version.
        kind: of the records that it reads.
        takes: whether an argument fits.
        range: as-of date -> first and last month (``YYYY-MM``) of the records it reads.
        reads: names of the fields it looks at.
        holds: (argument, as-of date, fields of the records that count, keyed years) -> the answer.
    """

    predicate: str
    id: str
    version: int
    kind: int
    takes: Callable[[Argument], bool]
    range: Callable[[str], tuple[str, str]]
    reads: frozenset[str]
    holds: Callable[[Argument, str, Sequence[Fields], frozenset[int]], bool]


# --- dates ----------------------------------------------------------------------------------


def months_before(date: str, months: int) -> str:
    """The same day so many calendar months earlier; the month's last day where it is shorter.

    ``2020-02-29`` less 12 months is ``2019-02-28``.
    """
    at = int(date[:4]) * 12 + int(date[5:7]) - 1 - months
    year, month = at // 12, at % 12 + 1
    day = min(int(date[8:]), monthrange(year, month)[1])
    return f"{year:04}-{month:02}-{day:02}"


def _day_after(date: str) -> str:
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    if day < monthrange(year, month)[1]:
        return f"{date[:8]}{day + 1:02}"
    return f"{year + month // 12:04}-{month % 12 + 1:02}-01"


def _last_months(months: int) -> Callable[[str], tuple[str, str]]:
    """The months of the window (as-of less so many months, as-of]."""

    def range_of(as_of: str) -> tuple[str, str]:
        return max(_day_after(months_before(as_of, months))[:7], f"{YEAR_MIN}-01"), as_of[:7]

    return range_of


def _rating_years(as_of: str) -> tuple[str, str]:
    year = int(as_of[:4])
    return f"{max(year - RATING_YEARS + 1, YEAR_MIN):04}-01", f"{year:04}-12"


# --- formulas -------------------------------------------------------------------------------


def _incomplete(why: str) -> NoReturn:
    raise RefusedError("inputs_incomplete", f"there is no result: {why}")


def _need_keys(first: int, last: int, keyed_years: frozenset[int]) -> None:
    for year in range(first, last + 1):
        if year not in keyed_years:
            _incomplete(f"the issuer has attested nothing of {year}, of anybody")


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if type(value) is not str:
        _incomplete(f"a record has no {name}")
    return value


def _grade_holds(
    argument: Argument, as_of: str, records: Sequence[Fields], keyed_years: frozenset[int]
) -> bool:
    first, last = _rating_years(as_of)
    for year in range(int(last[:4]), int(first[:4]) - 1, -1):
        # Years before the newest rating can't change the answer: they need no key.
        _need_keys(year, year, keyed_years)
        ranks = [GRADES.index(_text(each, "grade")) for each in records if each.get("year") == year]
        if ranks:
            return min(ranks) >= GRADES.index(str(argument))
    return False


def _arrears_hold(
    _argument: Argument, as_of: str, records: Sequence[Fields], keyed_years: frozenset[int]
) -> bool:
    first, last = _last_months(ARREARS_MONTHS)(as_of)
    _need_keys(int(first[:4]), int(last[:4]), keyed_years)
    after = months_before(as_of, ARREARS_MONTHS)
    for each in records:
        if _text(each, "category") != "arrears" or not after < _text(each, "opened") <= as_of:
            continue
        closed = each.get("closed")
        if closed is None or str(closed) > as_of:
            return False
    return True


def _sales_hold(
    argument: Argument, as_of: str, records: Sequence[Fields], keyed_years: frozenset[int]
) -> bool:
    first, last = _last_months(SALES_MONTHS)(as_of)
    _need_keys(int(first[:4]), int(last[:4]), keyed_years)
    after, total = months_before(as_of, SALES_MONTHS), 0
    for each in records:
        if _text(each, "direction") != "sale" or not after < _text(each, "date") <= as_of:
            continue
        if _text(each, "currency") != CURRENCY:
            continue
        net = each.get("net")
        if type(net) is not int:
            _incomplete("a sales invoice has no net amount")
        total += net
    return type(argument) is int and total >= argument


FORMULAS: tuple[Formula, ...] = (
    Formula(
        predicate="grade_at_least",
        id="tax_credit.newest_grade",
        version=1,
        kind=KINDS["tax_credit_rating"],
        takes=lambda argument: argument in GRADES,
        range=_rating_years,
        reads=frozenset(("year", "grade")),
        holds=_grade_holds,
    ),
    Formula(
        predicate="net_sales_at_least",
        id="vat_invoice.net_sales_12m",
        version=1,
        kind=KINDS["vat_invoice"],
        takes=lambda argument: type(argument) is int and abs(argument) <= limits.integer_max,
        range=_last_months(SALES_MONTHS),
        reads=frozenset(("direction", "date", "currency", "net")),
        holds=_sales_hold,
    ),
    Formula(
        predicate="no_open_arrears",
        id="tax_arrears.open_36m",
        version=1,
        kind=KINDS["tax_arrears"],
        takes=lambda argument: argument is None,
        range=_last_months(ARREARS_MONTHS),
        reads=frozenset(("category", "opened", "closed")),
        holds=_arrears_hold,
    ),
)
"""All formulas, by predicate; of several versions of one the last is the present one."""


# --- answering ------------------------------------------------------------------------------


def find_formula(predicate: str, argument: Argument) -> Formula:
    """The present formula of a predicate that takes this argument.

    Raises:
        RefusedError: ``predicate_unknown``, ``predicate_argument_invalid``.
    """
    known = [each for each in FORMULAS if each.predicate == predicate]
    if not known:
        names = ", ".join(dict.fromkeys(each.predicate for each in FORMULAS))
        raise RefusedError("predicate_unknown", f"expected a predicate of {names}")
    if not known[-1].takes(argument):
        raise RefusedError("predicate_argument_invalid", f"{predicate} does not take this argument")
    return known[-1]


def check_predicates(terms: ConsentTerms) -> None:
    """Returns when every predicate of a consent can be answered. Raises RefusedError as ``find_formula``."""
    for each in terms.predicates:
        find_formula(each.name, each.argument)


def input_query(formula: Formula, subject: str, issuer: int, as_of: str) -> Query:
    """The question whose answer are the formula's inputs.

    Raises:
        FormatError: no date of a year that can have records.
    """
    if not is_date(as_of) or not YEAR_MIN <= int(as_of[:4]) <= YEAR_MAX:
        raise FormatError(
            f"expected an as-of date YYYY-MM-DD from {YEAR_MIN} to {YEAR_MAX}, got {as_of!r:.40}"
        )
    first, last = formula.range(as_of)
    return Query(subject=subject, issuer=issuer, kinds=(formula.kind,), from_period=first, to_period=last)


def _in_range(record: InputRecord, query: Query) -> bool:
    if record.kind not in query.kinds or record.year not in query.years:
        return False
    months = query.month_bytes(record.year)
    return months is None or record.month in months


def evaluate(formula: Formula, argument: Argument, as_of: str, inputs: Inputs) -> bool:
    """The answer as of a date.

    Raises:
        RefusedError: ``inputs_incomplete``: there is no answer; ``predicate_argument_invalid``.
        FormatError: no as-of date.
    """
    query = input_query(formula, "any:one", 1, as_of)
    if not formula.takes(argument):
        raise RefusedError("predicate_argument_invalid", f"{formula.predicate} does not take this argument")
    if inputs.through is None or inputs.through < as_of:
        _incomplete(f"attested through {inputs.through or 'no date'}, asked as of {as_of}")
    counting = []
    for each in inputs.records:
        if not _in_range(each, query) or each.status in _PASSED_OVER:
            continue
        fields = each.fields
        if each.status not in _COUNTING or fields is None:
            _incomplete(f"a record of the range is {each.status.name.lower()}")
        if not formula.reads.isdisjoint(each.closed):
            _incomplete("a record of the range does not show a field that is needed")
        counting.append(fields)
    return formula.holds(argument, as_of, counting, inputs.keyed_years)


def evaluate_again(fields: Mapping[str, Value], inputs: Inputs) -> bool:
    """What a predicate record (its fields by name) should say, from the records it was computed from.

    Raises:
        FormatError: not a predicate record, of a formula that is not known here, or it says another currency or
            other inputs than the formula has.
        RefusedError: as ``evaluate``.
    """
    named = (fields.get("name"), fields.get("formula"), fields.get("formula_version"))
    for each in FORMULAS:
        if named == (each.predicate, each.id, each.version):
            argument, as_of = fields.get("amount", fields.get("argument")), str(fields.get("as_of"))
            query = input_query(each, "any:one", 1, as_of)
            # Who reads "1,000,000 USD" has learned nothing from a formula that compares CNY.
            expected = {
                "currency": CURRENCY if "amount" in fields else None,
                "input_kind": each.kind,
                "input_from": query.from_period,
                "input_to": query.to_period,
            }
            for name, value in expected.items():
                if fields.get(name) != value:
                    raise FormatError(f"expected {name} of a predicate record as its formula has it")
            return evaluate(each, argument, as_of, inputs)
    raise FormatError("expected a predicate record of a formula that is known here")
