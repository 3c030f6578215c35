"""Features of engineering contracts offered as security: certified progress, and whether the owner pays on time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from taxledger.ledger.kinds import KINDS
from taxledger.lending.facts import Fact
from taxledger.lending.features.feature import Basis, Feature, Unit, all_of, define
from taxledger.lending.features.records import integer, is_read, text
from taxledger.lending.features.security import (
    account_is_fixed,
    at_most,
    flag_of_offered,
    free_ppm,
    is_in_currency,
    is_of,
    sum_of_offered,
)

__all__ = ["CONTRACTS"]

KIND = KINDS["engineering_contract"]
MONTHS = 60
"""Of evidence: works take years."""


def _is_valid(fact: Fact, basis: Basis) -> bool | None:
    flag = all_of(
        (
            at_most(fact, "signed", basis.as_of.isoformat()),
            is_of(fact, "state", "active", "completed"),
            is_in_currency(fact, basis),
            _is_of_the_day(fact, basis),
        )
    )
    return None if flag is None else bool(flag)


def _is_of_the_day(fact: Fact, basis: Basis) -> bool | None:
    """Whether what is certified was certified by the as-of date; without a day it counts as such."""
    if not is_read(fact, "certified_on"):
        return None
    day = text(fact, "certified_on")
    return day is None or day <= basis.as_of.isoformat()


def _of_valid(value: Callable[[Fact], int | None]) -> Callable[[Fact, Basis], int | None]:
    def compute(fact: Fact, basis: Basis) -> int | None:
        flag = _is_valid(fact, basis)
        if not flag:
            return None if flag is None else 0
        return value(fact)

    return compute


def _receivable(fact: Fact) -> int | None:
    certified, paid = integer(fact, "certified"), integer(fact, "paid")
    return None if certified is None or paid is None else max(certified - paid, 0)


def _owner_is_public(fact: Fact, _basis: Basis) -> bool | None:
    value = fact.fields.get("owner_public")
    return value if type(value) is bool else None


_feature = partial(define, (KIND,))

CONTRACTS: tuple[Feature, ...] = (
    _feature(
        "contract_receivable",
        Unit.MONEY,
        MONTHS,
        ("Certified and unpaid, contracts offered", "质押工程合同已确认未付金额"),
        "Σ (certified − paid, at least 0) of contracts offered that are valid",
        sum_of_offered(KIND, _of_valid(_receivable)),
    ),
    _feature(
        "contract_certified",
        Unit.MONEY,
        MONTHS,
        ("Certified progress, contracts offered", "质押工程合同已确认进度金额"),
        "Σ certified of contracts offered that are valid",
        sum_of_offered(KIND, _of_valid(lambda fact: integer(fact, "certified"))),
    ),
    _feature(
        "contract_overdue",
        Unit.MONEY,
        MONTHS,
        ("Overdue from owners, contracts offered", "业主逾期未付金额"),
        "Σ overdue of contracts offered that are valid",
        sum_of_offered(KIND, _of_valid(lambda fact: integer(fact, "overdue"))),
    ),
    _feature(
        "contract_free_ppm",
        Unit.PPM,
        MONTHS,
        ("Free share of the contracts offered", "质押工程合同未质押比例"),
        "least of 1,000,000 − pledged over the contracts offered",
        free_ppm(KIND),
    ),
    _feature(
        "contract_account_fixed",
        Unit.FLAG,
        MONTHS,
        ("The receiving accounts are fixed", "工程款收款账户已锁定"),
        "every contract offered names an account",
        flag_of_offered(KIND, account_is_fixed),
    ),
    _feature(
        "contract_public_owner",
        Unit.FLAG,
        MONTHS,
        ("The owners are public bodies", "业主均为公共机构"),
        "owner_public of every contract offered; not stated: undefined",
        flag_of_offered(KIND, _owner_is_public),
    ),
    _feature(
        "contracts_valid",
        Unit.FLAG,
        MONTHS,
        ("The contracts offered are valid", "质押工程合同均有效"),
        "every one is counted, of the currency, signed and certified by as-of, active or completed",
        flag_of_offered(KIND, _is_valid),
    ),
)
