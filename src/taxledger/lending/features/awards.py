"""Features of procurement awards: those offered as security, and all that are known."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features.feature import Basis, Feature, Unit, all_of, define, ratio_ppm, total
from taxledger.lending.features.records import integer, is_read, records_of, span_of, text
from taxledger.lending.features.security import (
    account_is_fixed,
    at_most,
    flag_of_offered,
    free_ppm,
    is_in_currency,
    is_of,
    sum_of_offered,
)

__all__ = ["AWARDS"]

KIND = KINDS["procurement_award"]
MONTHS = 36
"""Of evidence: what was awarded earlier is seldom open."""


def _is_incomplete(fact: Fact, basis: Basis) -> bool | None:
    """Whether the work is not done at the as-of date; without a day of completion the state alone says it."""
    if not is_read(fact, "completes"):
        return None
    completes = text(fact, "completes")
    return completes is None or completes >= basis.as_of.isoformat()


def _is_open(fact: Fact, basis: Basis) -> bool | None:
    flag = all_of(
        (
            at_most(fact, "awarded", basis.as_of.isoformat()),
            is_of(fact, "state", "active"),
            _is_incomplete(fact, basis),
            is_in_currency(fact, basis),
        )
    )
    return None if flag is None else bool(flag)


def _amount(fact: Fact) -> int | None:
    """The amount, where it is this winner's alone."""
    if not is_read(fact, "winners") or (integer(fact, "winners") or 1) > 1:
        return None
    return integer(fact, "amount")


def _open_amount(fact: Fact, basis: Basis) -> int | None:
    flag = _is_open(fact, basis)
    if not flag:
        return None if flag is None else 0
    amount = _amount(fact)
    if amount is None or not is_read(fact, "paid"):
        return None
    # Few registers publish payments: where none is stated, none is known to have been made.
    return max(amount - (integer(fact, "paid") or 0), 0)


def _buyer_is_public(fact: Fact, _basis: Basis) -> bool | None:
    value = fact.fields.get("buyer_public")
    return value if type(value) is bool else None


# --- all awards -----------------------------------------------------------------------------


def _known(facts: Facts, basis: Basis) -> list[Fact] | None:
    """Every counted award of the basis' currency up to the as-of date; None where one can't be read."""
    records, as_of = records_of(facts, KIND), basis.as_of.isoformat()
    if records is None:
        return None
    found = []
    for each in records.facts:
        if each.status is Status.VOIDED or text(each, "currency") not in (None, basis.currency):
            continue
        awarded = text(each, "awarded")
        if awarded is None or text(each, "currency") is None:
            if span_of(each).after < basis.as_of.toordinal():
                return None
        elif awarded <= as_of:
            found.append(each)
    return found


def _open_total(facts: Facts, basis: Basis) -> int | None:
    found = _known(facts, basis)
    return None if found is None else total(_open_amount(each, basis) for each in found)


def _completed_amount(fact: Fact, basis: Basis) -> int | None:
    state, incomplete = text(fact, "state"), _is_incomplete(fact, basis)
    if state is None or (state == "active" and incomplete is None):
        return None
    done = state == "completed" or (state == "active" and not incomplete)
    return _amount(fact) if done else 0


def _completed_total(facts: Facts, basis: Basis) -> int | None:
    found = _known(facts, basis)
    return None if found is None else total(_completed_amount(each, basis) for each in found)


def _top_buyer_share(facts: Facts, basis: Basis) -> int | None:
    found = _known(facts, basis)
    if found is None or any(text(each, "state") is None for each in found):
        return None
    awards = [each for each in found if text(each, "state") != "cancelled"]
    # One naming for all: a buyer that has an id in some notices only would be two.
    name = "buyer_id" if all(text(each, "buyer_id") is not None for each in awards) else "buyer"
    by_buyer: dict[str, int] = {}
    for each in awards:
        buyer, amount = text(each, name), _amount(each)
        if buyer is None or amount is None:
            return None
        by_buyer[buyer] = by_buyer.get(buyer, 0) + amount
    return ratio_ppm(_greatest(by_buyer.values()), sum(by_buyer.values()))


def _greatest(values: Iterable[int]) -> int:
    return max(values, default=0)


# --- the list -------------------------------------------------------------------------------

_feature = partial(define, (KIND,))

AWARDS: tuple[Feature, ...] = (
    _feature(
        "award_open_amount",
        Unit.MONEY,
        MONTHS,
        ("Open amount of the awards offered", "质押中标项目未收金额"),
        "Σ (amount − paid, at least 0) of awards offered that are open; shared by several winners: undefined",
        sum_of_offered(KIND, _open_amount),
    ),
    _feature(
        "award_public_buyer",
        Unit.FLAG,
        MONTHS,
        ("The buyers are public bodies", "采购人均为公共机构"),
        "buyer_public of every award offered; not stated: undefined",
        flag_of_offered(KIND, _buyer_is_public),
    ),
    _feature(
        "award_account_fixed",
        Unit.FLAG,
        MONTHS,
        ("The receiving accounts are fixed", "收款账户已锁定"),
        "every award offered names an account",
        flag_of_offered(KIND, account_is_fixed),
    ),
    _feature(
        "award_free_ppm",
        Unit.PPM,
        MONTHS,
        ("Free share of the awards offered", "质押中标项目未质押比例"),
        "least of 1,000,000 − pledged over the awards offered",
        free_ppm(KIND),
    ),
    _feature(
        "awards_valid",
        Unit.FLAG,
        MONTHS,
        ("The awards offered are valid and open", "质押中标项目均有效且未完成"),
        "every one is open: counted, of the currency, awarded by as-of, active, completion absent or not before as-of",
        flag_of_offered(KIND, _is_open),
    ),
    _feature(
        "awarded_open_total",
        Unit.MONEY,
        MONTHS,
        ("Open amount of all awards", "全部在履行中标项目未收金额"),
        "Σ (amount − paid, at least 0) of all open awards known",
        _open_total,
    ),
    _feature(
        "awarded_completed_total",
        Unit.MONEY,
        MONTHS,
        ("Amount of completed awards", "已完成中标项目金额"),
        "Σ amount of all awards known that are completed, or active with completion before as-of",
        _completed_total,
    ),
    _feature(
        "top_buyer_share",
        Unit.PPM,
        MONTHS,
        ("Share of the largest buyer in awards", "最大采购人金额占比"),
        "greatest Σ amount of one buyer ÷ Σ amount, awards not cancelled; that not positive: undefined",
        _top_buyer_share,
    ),
)
